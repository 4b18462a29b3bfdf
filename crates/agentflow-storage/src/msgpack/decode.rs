//! Reading MessagePack, with limits.

use std::sync::Arc;

use agentflow_types::{Error, Map, Result, Str, Typed, Value};

use super::{DELTA_CODE, MAX_BYTES, MAX_DEPTH};
use crate::checkpoint::delta;

/// Most entries for which room is made before they are seen.
const MAX_PREALLOCATED: usize = 1024;
/// Greatest extension code that holds a Python object.
const LAST_OBJECT_CODE: i8 = 5;

pub(super) fn decode(bytes: &[u8]) -> Result<Value> {
    if bytes.len() > MAX_BYTES {
        return Err(corrupt("value is too large").with("limit_bytes", MAX_BYTES));
    }
    let mut decoder = Decoder {
        rest: bytes,
        depth: 0,
        canonical: true,
    };
    let value = decoder.value()?;
    if decoder.rest.is_empty() {
        Ok(value)
    } else {
        Err(corrupt("bytes after the value"))
    }
}

fn corrupt(message: &'static str) -> Error {
    Error::corrupt(message).with("format", "msgpack")
}

struct Decoder<'a> {
    rest: &'a [u8],
    depth: usize,
    /// Whether writing what was read so far would give the same bytes.
    canonical: bool,
}

impl<'a> Decoder<'a> {
    fn value(&mut self) -> Result<Value> {
        let [head] = self.array()?;
        Ok(match head {
            0x00..=0x7f => Value::Int(head.into()),
            0x80..=0x8f => self.map((head & 0x0f).into())?,
            0x90..=0x9f => self.list((head & 0x0f).into())?,
            0xa0..=0xbf => Value::Str(self.str((head & 0x1f).into())?.into()),
            0xc0 => Value::Null,
            0xc1 => return Err(corrupt("reserved byte")),
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xc4..=0xc6 => {
                let len = self.length(head - 0xc4, [0, 1 << 8, 1 << 16])?;
                Value::Bytes(self.take(len)?.into())
            }
            0xc7..=0xc9 => {
                let len = self.length(head - 0xc7, [0, 1 << 8, 1 << 16])?;
                self.canonical &= !matches!(len, 1 | 2 | 4 | 8 | 16);
                self.ext(len)?
            }
            0xca => {
                // LangGraph never writes 32-bit floats; ours come out wider.
                self.canonical = false;
                Value::Float(f32::from_be_bytes(self.array()?).into())
            }
            0xcb => Value::Float(f64::from_be_bytes(self.array()?)),
            0xcc..=0xcf => self.uint(head)?,
            0xd0..=0xd3 => self.int(head)?,
            0xd4..=0xd8 => self.ext(1 << (head - 0xd4))?,
            0xd9..=0xdb => {
                let len = self.length(head - 0xd9, [32, 1 << 8, 1 << 16])?;
                Value::Str(self.str(len)?.into())
            }
            0xdc..=0xdd => {
                let len = self.length(head - 0xdc + 1, [0, 16, 1 << 16])?;
                self.list(len)?
            }
            0xde..=0xdf => {
                let len = self.length(head - 0xde + 1, [0, 16, 1 << 16])?;
                self.map(len)?
            }
            0xe0..=0xff => Value::Int((head as i8).into()),
        })
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(corrupt("value is cut off")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(corrupt("value is cut off")),
        }
    }

    /// A length of one, two or four bytes (`width` 0, 1, 2); `least` is the smallest length for
    /// which a writer picks each width.
    fn length(&mut self, width: u8, least: [usize; 3]) -> Result<usize> {
        let (len, least) = match width {
            0 => (u8::from_be_bytes(self.array()?).into(), least[0]),
            1 => (u16::from_be_bytes(self.array()?).into(), least[1]),
            _ => (u32::from_be_bytes(self.array()?) as usize, least[2]),
        };
        self.canonical &= len >= least;
        Ok(len)
    }

    fn uint(&mut self, head: u8) -> Result<Value> {
        let (n, least) = match head {
            0xcc => (u8::from_be_bytes(self.array()?).into(), 128),
            0xcd => (u16::from_be_bytes(self.array()?).into(), 1 << 8),
            0xce => (u32::from_be_bytes(self.array()?).into(), 1 << 16),
            _ => (u64::from_be_bytes(self.array()?), 1 << 32),
        };
        self.canonical &= n >= least;
        Ok(i64::try_from(n).map_or(Value::UInt(n), Value::Int))
    }

    fn int(&mut self, head: u8) -> Result<Value> {
        let (n, most) = match head {
            0xd0 => (i8::from_be_bytes(self.array()?).into(), -33),
            0xd1 => (
                i16::from_be_bytes(self.array()?).into(),
                i64::from(i8::MIN) - 1,
            ),
            0xd2 => (
                i32::from_be_bytes(self.array()?).into(),
                i64::from(i16::MIN) - 1,
            ),
            _ => (i64::from_be_bytes(self.array()?), i64::from(i32::MIN) - 1),
        };
        self.canonical &= n <= most;
        Ok(Value::Int(n))
    }

    fn str(&mut self, len: usize) -> Result<&'a str> {
        std::str::from_utf8(self.take(len)?)
            .map_err(|err| corrupt("text is not UTF-8").source_err(err))
    }

    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(corrupt("value is nested too deeply").with("limit", MAX_DEPTH));
        }
        Ok(())
    }

    fn list(&mut self, len: usize) -> Result<Value> {
        self.enter()?;
        let mut items = Vec::with_capacity(len.min(MAX_PREALLOCATED).min(self.rest.len()));
        for _ in 0..len {
            items.push(self.value()?);
        }
        self.depth -= 1;
        Ok(Value::list(items))
    }

    fn map(&mut self, len: usize) -> Result<Value> {
        self.enter()?;
        let mut map = Map::with_capacity(len.min(MAX_PREALLOCATED).min(self.rest.len()));
        for done in 0..len {
            match self.value()? {
                Value::Str(key) => {
                    let value = self.value()?;
                    if map.insert(key, value).is_some() {
                        self.canonical = false;
                    }
                }
                key => {
                    let entries = map.into_iter().map(|(k, v)| (Value::Str(k), v)).collect();
                    return self.pairs(entries, key, len - done - 1);
                }
            }
        }
        self.depth -= 1;
        Ok(Value::map(map))
    }

    /// The rest of a map after its first key that is not text: this key's value, then `left`
    /// entries.
    fn pairs(
        &mut self,
        mut entries: Vec<(Value, Value)>,
        key: Value,
        left: usize,
    ) -> Result<Value> {
        let value = self.value()?;
        entries.push((key, value));
        for _ in 0..left {
            let key = self.value()?;
            let value = self.value()?;
            entries.push((key, value));
        }
        self.depth -= 1;
        Ok(Value::Pairs(Arc::new(entries)))
    }

    fn ext(&mut self, len: usize) -> Result<Value> {
        let [code] = self.array()?;
        let (code, payload) = (code as i8, self.take(len)?);
        if (0..=LAST_OBJECT_CODE).contains(&code)
            && let Some(typed) = self.object(code, payload)
        {
            return Ok(Value::Typed(Arc::new(typed)));
        }
        if code == DELTA_CODE
            && let Some(snapshot) = self.snapshot(payload)
        {
            return Ok(snapshot);
        }
        Ok(Value::Ext(code, payload.into()))
    }

    /// The snapshot in an extension; `None` if the payload is not one value that would be written
    /// back with the same bytes.
    fn snapshot(&self, payload: &[u8]) -> Option<Value> {
        let mut inner = Decoder {
            rest: payload,
            depth: self.depth,
            canonical: true,
        };
        inner.enter().ok()?;
        let value = inner.value().ok()?;
        (inner.rest.is_empty() && inner.canonical).then(|| delta::snapshot(value))
    }

    /// The Python object in an extension; `None` if the payload has another shape or would not
    /// be written back with the same bytes.
    fn object(&self, code: i8, payload: &[u8]) -> Option<Typed> {
        let mut inner = Decoder {
            rest: payload,
            depth: self.depth,
            canonical: true,
        };
        inner.enter().ok()?;
        let [head] = inner.array().ok()?;
        if !matches!(head, 0x93 | 0x94) {
            return None;
        }
        let module = inner.text()?;
        let name = inner.text()?;
        let value = inner.value().ok()?;
        let method = if head == 0x94 {
            Some(inner.text()?)
        } else {
            None
        };
        let whole = inner.rest.is_empty() && inner.canonical;
        whole.then_some(Typed {
            code,
            module,
            name,
            value,
            method,
        })
    }

    fn text(&mut self) -> Option<Str> {
        match self.value() {
            Ok(Value::Str(text)) => Some(text),
            _ => None,
        }
    }
}
