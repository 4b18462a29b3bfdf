//! The bytes of LangGraph's serializer.
//!
//! LangGraph stores values as a pair of type word and bytes ([`typed`]). The usual word is
//! `msgpack`: MessagePack as `ormsgpack` writes it (smallest headers, 64-bit floats, tuples as
//! arrays), with Python objects in extensions 0 to 5 whose payload is again MessagePack,
//! `[module, name, content]` or `[module, name, content, method]`, and snapshots of delta channels
//! in extension 7, whose payload is the value. Such an extension becomes a
//! [`Value::Typed`]; every other one, and one whose payload would not be written back with the
//! same bytes, stays a [`Value::Ext`]. What `ormsgpack` wrote is therefore re-encoded byte for
//! byte.

pub mod checkpoint;
mod decode;
mod encode;
mod legacy;
pub mod typed;

use agentflow_types::{Result, Value};

/// Extension code of a delta channel's snapshot, whose payload is the value itself.
pub(crate) const DELTA_CODE: i8 = 7;
/// Most containers and extensions within each other, on reading and on writing; `ormsgpack`
/// itself stops at 1024.
pub const MAX_DEPTH: usize = 512;
/// Most bytes of one encoded value; SQLite's own limit for a row is a little below.
pub const MAX_BYTES: usize = 900 << 20;

/// Reads one value; nothing may follow it.
///
/// # Errors
/// `Corrupt` if the bytes are not MessagePack, text is not UTF-8, or a limit is exceeded.
/// Memory use is proportional to the bytes that are there, whatever lengths they announce.
pub fn decode(bytes: &[u8]) -> Result<Value> {
    decode::decode(bytes)
}

/// Writes one value. [`decode`] returns it, except that it refuses what is deeper than
/// [`MAX_DEPTH`]; [`try_encode`] tells.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut encoder = encode::Encoder::default();
    encoder.value(value);
    encoder.into_bytes()
}

/// Writes one value that can be read back.
///
/// # Errors
/// `Invalid` if it is deeper than [`MAX_DEPTH`] or larger than [`MAX_BYTES`].
pub fn try_encode(value: &Value) -> Result<Vec<u8>> {
    let mut encoder = encode::Encoder::default();
    encoder.value(value);
    encoder.finish()
}

/// Checks that a value can be read back once it is written.
///
/// # Errors
/// `Invalid` if it is deeper than [`MAX_DEPTH`].
pub fn check_depth(value: &Value) -> Result<()> {
    if is_deeper(value, MAX_DEPTH) {
        Err(encode::too_deep())
    } else {
        Ok(())
    }
}

fn is_deeper(value: &Value, left: usize) -> bool {
    let below = |value: &Value| is_deeper(value, left - 1);
    match value {
        Value::List(_) | Value::Map(_) | Value::Pairs(_) | Value::Typed(_) if left == 0 => true,
        Value::List(items) => items.iter().any(below),
        Value::Map(map) => map.values().any(below),
        Value::Pairs(pairs) => pairs.iter().any(|(key, value)| below(key) || below(value)),
        Value::Typed(typed) => below(&typed.value),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
