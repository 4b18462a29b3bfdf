//! Writing MessagePack with the headers that `ormsgpack` chooses.

use agentflow_types::{Error, Map, Result, Typed, Value};

use super::{DELTA_CODE, MAX_BYTES, MAX_DEPTH};

/// Bytes of the longest header of an extension.
const EXT_HEADER: usize = 6;

/// Collects bytes and remembers whether a limit was exceeded.
#[derive(Default)]
pub(super) struct Encoder {
    out: Vec<u8>,
    depth: usize,
    too_deep: bool,
}

impl Encoder {
    /// With room for `bytes`.
    pub(super) fn with_room(bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    pub(super) fn finish(self) -> Result<Vec<u8>> {
        if self.too_deep {
            return Err(too_deep());
        }
        if self.out.len() > MAX_BYTES {
            return Err(Error::invalid("value is too large")
                .with("size_bytes", self.out.len())
                .with("limit_bytes", MAX_BYTES));
        }
        Ok(self.out)
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.out.push(0xc0),
            Value::Bool(b) => self.out.push(if *b { 0xc3 } else { 0xc2 }),
            Value::Int(n) => self.int(*n),
            Value::UInt(n) => self.uint(*n),
            Value::Float(n) => self.float(*n),
            Value::Str(text) => self.str(text),
            Value::Bytes(bytes) => {
                self.length(bytes.len(), &BIN);
                self.out.extend_from_slice(bytes);
            }
            Value::List(items) => self.list(items),
            Value::Map(map) => self.map(map),
            Value::Pairs(pairs) => {
                self.map_len(pairs.len());
                self.nested(|this| {
                    for (key, value) in pairs.iter() {
                        this.value(key);
                        this.value(value);
                    }
                });
            }
            Value::Typed(typed) => self.typed(typed),
            Value::Ext(code, payload) => self.ext(*code, payload),
        }
    }

    pub(super) fn map(&mut self, map: &Map) {
        self.map_len(map.len());
        self.nested(|this| {
            for (key, value) in map {
                this.str(key);
                this.value(value);
            }
        });
    }

    pub(super) fn list(&mut self, items: &[Value]) {
        self.array_len(items.len());
        self.nested(|this| items.iter().for_each(|item| this.value(item)));
    }

    pub(super) fn float(&mut self, n: f64) {
        self.out.push(0xcb);
        self.out.extend_from_slice(&n.to_be_bytes());
    }

    pub(super) fn str(&mut self, text: &str) {
        self.length(text.len(), &STR);
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(super) fn nil(&mut self) {
        self.out.push(0xc0);
    }

    pub(super) fn map_len(&mut self, len: usize) {
        self.length(len, &MAP);
    }

    pub(super) fn array_len(&mut self, len: usize) {
        self.length(len, &ARRAY);
    }

    pub(super) fn int(&mut self, n: i64) {
        if let Ok(positive) = u64::try_from(n) {
            return self.uint(positive);
        }
        if n >= -32 {
            self.out.push(n as i8 as u8);
        } else if let Ok(n) = i8::try_from(n) {
            self.out.push(0xd0);
            self.out.push(n as u8);
        } else if let Ok(n) = i16::try_from(n) {
            self.out.push(0xd1);
            self.out.extend_from_slice(&n.to_be_bytes());
        } else if let Ok(n) = i32::try_from(n) {
            self.out.push(0xd2);
            self.out.extend_from_slice(&n.to_be_bytes());
        } else {
            self.out.push(0xd3);
            self.out.extend_from_slice(&n.to_be_bytes());
        }
    }

    fn uint(&mut self, n: u64) {
        if n < 128 {
            self.out.push(n as u8);
        } else if let Ok(n) = u8::try_from(n) {
            self.out.extend_from_slice(&[0xcc, n]);
        } else if let Ok(n) = u16::try_from(n) {
            self.out.push(0xcd);
            self.out.extend_from_slice(&n.to_be_bytes());
        } else if let Ok(n) = u32::try_from(n) {
            self.out.push(0xce);
            self.out.extend_from_slice(&n.to_be_bytes());
        } else {
            self.out.push(0xcf);
            self.out.extend_from_slice(&n.to_be_bytes());
        }
    }

    fn typed(&mut self, typed: &Typed) {
        // The header is written when the payload's length is known; before, the longest one's
        // place is kept, so that a large payload is never moved.
        let start = self.out.len();
        self.out.extend_from_slice(&[0; EXT_HEADER]);
        if typed.code == DELTA_CODE {
            self.nested(|this| this.value(&typed.value));
        } else {
            self.array_len(3 + usize::from(typed.method.is_some()));
            self.nested(|this| {
                this.str(&typed.module);
                this.str(&typed.name);
                this.value(&typed.value);
                if let Some(method) = &typed.method {
                    this.str(method);
                }
            });
        }
        let payload = self.out.len() - start - EXT_HEADER;
        // Written behind the payload and moved to its place.
        let end = self.out.len();
        self.ext_header(typed.code, payload);
        let header = self.out.len() - end;
        self.out.copy_within(end.., start);
        if header < EXT_HEADER {
            let from = start + EXT_HEADER;
            self.out.copy_within(from..end, start + header);
        }
        self.out.truncate(start + header + payload);
    }

    fn ext(&mut self, code: i8, payload: &[u8]) {
        self.ext_header(code, payload.len());
        self.out.extend_from_slice(payload);
    }

    fn ext_header(&mut self, code: i8, payload: usize) {
        match payload {
            1 => self.out.push(0xd4),
            2 => self.out.push(0xd5),
            4 => self.out.push(0xd6),
            8 => self.out.push(0xd7),
            16 => self.out.push(0xd8),
            len => self.length(len, &EXT),
        }
        self.out.push(code as u8);
    }

    /// Runs `inner` one level deeper, or not at all below the deepest level.
    fn nested(&mut self, inner: impl FnOnce(&mut Self)) {
        if self.depth >= MAX_DEPTH {
            self.too_deep = true;
            return;
        }
        self.depth += 1;
        inner(self);
        self.depth -= 1;
    }

    fn length(&mut self, len: usize, family: &Family) {
        if len < family.fix_below {
            self.out.push(family.fix | len as u8);
        } else if let (Some(word), Ok(len)) = (family.with_u8, u8::try_from(len)) {
            self.out.extend_from_slice(&[word, len]);
        } else if let Ok(len) = u16::try_from(len) {
            self.out.push(family.with_u16);
            self.out.extend_from_slice(&len.to_be_bytes());
        } else {
            // More than four gigabytes exceed MAX_BYTES anyway; the header is then irrelevant.
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            self.out.push(family.with_u32);
            self.out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

pub(super) fn too_deep() -> Error {
    Error::invalid("value is nested too deeply").with("limit", MAX_DEPTH)
}

/// Headers of one kind, by width of the length.
struct Family {
    fix: u8,
    fix_below: usize,
    with_u8: Option<u8>,
    with_u16: u8,
    with_u32: u8,
}

const STR: Family = Family {
    fix: 0xa0,
    fix_below: 32,
    with_u8: Some(0xd9),
    with_u16: 0xda,
    with_u32: 0xdb,
};
const BIN: Family = Family {
    fix: 0,
    fix_below: 0,
    with_u8: Some(0xc4),
    with_u16: 0xc5,
    with_u32: 0xc6,
};
const EXT: Family = Family {
    fix: 0,
    fix_below: 0,
    with_u8: Some(0xc7),
    with_u16: 0xc8,
    with_u32: 0xc9,
};
const ARRAY: Family = Family {
    fix: 0x90,
    fix_below: 16,
    with_u8: None,
    with_u16: 0xdc,
    with_u32: 0xdd,
};
const MAP: Family = Family {
    fix: 0x80,
    fix_below: 16,
    with_u8: None,
    with_u16: 0xde,
    with_u32: 0xdf,
};
