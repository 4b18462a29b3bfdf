//! Pairs of type word and bytes, as LangGraph's savers store values.

use std::borrow::Cow;

use agentflow_types::{Error, Result, Value};

use super::{checkpoint, legacy, try_encode};
use crate::{checkpoint::Checkpoint, cipher::Cipher};

/// Type word of `None`; the bytes are empty.
pub const NULL: &str = "null";
/// Type word of bytes, stored as they are.
pub const BYTES: &str = "bytes";
/// Type word of MessagePack.
pub const MSGPACK: &str = "msgpack";

/// What the type word of an encrypted value ends with.
const AES: &str = "+aes";

/// How a backend turns values into stored pairs: plain, or encrypted with a key.
///
/// Backends take one in their options and use it wherever they would call [`dump`] and [`load`].
/// Plain values stay readable when a key is given, so that encryption can be switched on for an
/// existing database.
#[derive(Clone, Debug, Default)]
pub struct Codec {
    cipher: Option<Cipher>,
}

impl Codec {
    /// Values are stored as they are.
    #[must_use]
    pub fn plain() -> Self {
        Self::default()
    }

    /// Values are encrypted.
    #[must_use]
    pub fn encrypted(cipher: Cipher) -> Self {
        Self {
            cipher: Some(cipher),
        }
    }

    /// The type word and the bytes of a value.
    ///
    /// # Errors
    /// As [`dump`].
    pub fn dump<'a>(&self, value: &'a Value) -> Result<(&'static str, Cow<'a, [u8]>)> {
        let (word, bytes) = dump(value)?;
        self.seal(word, bytes)
    }

    /// The value of a stored pair, encrypted or not.
    ///
    /// # Errors
    /// As [`load`]; `Corrupt` if the bytes were changed or the key is another one;
    /// `Unprocessable` if the value is encrypted and there is no key.
    pub fn load(&self, word: &str, bytes: &[u8]) -> Result<Value> {
        let (word, bytes) = self.open(word, bytes)?;
        load(word, &bytes)
    }

    /// The type word and the bytes of a whole checkpoint.
    ///
    /// # Errors
    /// As [`checkpoint::encode`].
    pub fn dump_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(&'static str, Vec<u8>)> {
        let bytes = checkpoint::encode(checkpoint)?;
        let (word, bytes) = self.seal(MSGPACK, Cow::Owned(bytes))?;
        Ok((word, bytes.into_owned()))
    }

    /// The checkpoint of a stored pair, encrypted or not.
    ///
    /// # Errors
    /// As [`checkpoint::decode`] and [`Codec::load`].
    pub fn load_checkpoint(&self, word: &str, bytes: &[u8]) -> Result<Checkpoint> {
        let (word, bytes) = self.open(word, bytes)?;
        checkpoint::decode(word, &bytes)
    }

    fn seal<'a>(
        &self,
        word: &'static str,
        bytes: Cow<'a, [u8]>,
    ) -> Result<(&'static str, Cow<'a, [u8]>)> {
        let Some(cipher) = &self.cipher else {
            return Ok((word, bytes));
        };
        let word = match word {
            NULL => "null+aes",
            BYTES => "bytes+aes",
            _ => "msgpack+aes",
        };
        Ok((word, Cow::Owned(cipher.encrypt(&bytes)?)))
    }

    fn open<'w, 'b>(&self, word: &'w str, bytes: &'b [u8]) -> Result<(&'w str, Cow<'b, [u8]>)> {
        match (word.strip_suffix(AES), &self.cipher) {
            (Some(plain), Some(cipher)) => Ok((plain, Cow::Owned(cipher.decrypt(bytes)?))),
            _ => Ok((word, Cow::Borrowed(bytes))),
        }
    }
}

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
        word if word.ends_with(AES) => Err(Error::unprocessable(
            "the value is encrypted and there is no key",
        )
        .with("type", word)),
        word => Err(Error::unprocessable("unknown type of stored value").with("type", word)),
    }
}
