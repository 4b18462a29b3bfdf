//! Pairs of type word and bytes, as LangGraph's savers store values.

use std::borrow::Cow;

use agentflow_types::{Error, Result, Value};

use super::{legacy, try_encode};

/// Type word of `None`; the bytes are empty.
pub const NULL: &str = "null";
/// Type word of bytes, stored as they are.
pub const BYTES: &str = "bytes";
/// Type word of MessagePack.
pub const MSGPACK: &str = "msgpack";

/// The type word and the bytes of a value.
///
/// # Errors
/// `Invalid` if the value is too deep or too large to be read back.
pub fn dump(value: &Value) -> Result<(&'static str, Cow<'_, [u8]>)> {
    Ok(match value {
        Value::Null => (NULL, Cow::Borrowed(&[])),
        Value::Bytes(bytes) => (BYTES, Cow::Borrowed(bytes)),
        other => (MSGPACK, Cow::Owned(try_encode(other)?)),
    })
}

/// The value of a stored pair.
///
/// Besides what [`dump`] writes: `bytearray`, and `json`, which Python wrote before 2024 and
/// JavaScript still writes; constructors in it become the typed values that Python would make.
///
/// # Errors
/// `Corrupt` if the bytes do not fit the word; `Unprocessable` for `pickle`, which could run
/// code, for encrypted values, and for unknown words.
pub fn load(word: &str, bytes: &[u8]) -> Result<Value> {
    match word {
        MSGPACK => super::decode(bytes),
        NULL => Ok(Value::Null),
        BYTES | "bytearray" => Ok(Value::Bytes(bytes.into())),
        "json" => legacy::decode(bytes),
        "pickle" => Err(Error::unprocessable(
            "refused to read a pickled value, because unpickling can run code; let LangGraph \
             rewrite the checkpoint without pickle_fallback",
        )),
        word if word.ends_with("+aes") => Err(Error::unprocessable(
            "the value is encrypted and there is no key",
        )
        .with("type", word)),
        word => Err(Error::unprocessable("unknown type of stored value").with("type", word)),
    }
}
