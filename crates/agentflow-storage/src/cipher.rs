//! Encryption of stored values, as LangGraph does it with `LANGGRAPH_AES_KEY`.
//!
//! AES in EAX mode (Bellare, Rogaway and Wagner, FSE 2004) with nonces and tags of 16 bytes. Only
//! values are encrypted: ids, metadata and whatever a backend keeps in columns of its own stay
//! readable.

use std::{fmt, sync::Arc};

use aes::{Aes128, Aes192, Aes256};
use agentflow_types::{Error, Result};
use eax::{
    Eax,
    aead::{self, Aead, KeyInit},
};

/// Bytes of a nonce, and of a tag.
const BLOCK: usize = 16;

/// A cipher for stored values. Cheap to clone.
///
/// ```
/// use agentflow_storage::{cipher::Cipher, msgpack::typed::Codec};
/// use agentflow_types::value;
///
/// let codec = Codec::encrypted(Cipher::new("0123456789abcdef0123456789abcdef")?);
/// let plain = value!({"card": "4111"});
/// let (word, bytes) = codec.dump(&plain)?;
/// assert_eq!(word, "msgpack+aes");
/// assert_eq!(codec.load(word, &bytes)?, plain);
/// # Ok::<(), agentflow_types::Error>(())
/// ```
#[derive(Clone)]
pub struct Cipher(Arc<Key>);

/// Expanded keys, boxed because their sizes differ.
enum Key {
    Bits128(Box<Eax<Aes128>>),
    Bits192(Box<Eax<Aes192>>),
    Bits256(Box<Eax<Aes256>>),
}

impl Cipher {
    /// A cipher with this key: 16, 24 or 32 bytes of UTF-8, as in `LANGGRAPH_AES_KEY`.
    ///
    /// # Errors
    /// `Invalid` if the key has another length.
    pub fn new(key: &str) -> Result<Self> {
        let bytes = key.as_bytes();
        let wrong = |_| {
            Error::invalid("an encryption key must have 16, 24 or 32 bytes")
                .with("found", bytes.len())
        };
        Ok(Self(Arc::new(match bytes.len() {
            16 => Key::Bits128(Box::new(Eax::new_from_slice(bytes).map_err(wrong)?)),
            24 => Key::Bits192(Box::new(Eax::new_from_slice(bytes).map_err(wrong)?)),
            _ => Key::Bits256(Box::new(Eax::new_from_slice(bytes).map_err(wrong)?)),
        })))
    }

    /// Nonce, tag and ciphertext, one after the other. The nonce is random, from the operating
    /// system: two values under one nonce and key would betray each other.
    ///
    /// # Errors
    /// `Busy` if the operating system has no random bits; `Invalid` if the value is larger than
    /// the mode allows, which no limit of ours reaches.
    pub fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0; BLOCK];
        getrandom::fill(&mut nonce)
            .map_err(|err| Error::busy("no random bits for a nonce").source_err(err))?;
        self.sealed(&nonce, plain)
    }

    fn sealed(&self, nonce: &[u8; BLOCK], plain: &[u8]) -> Result<Vec<u8>> {
        let sealed = self
            .seal(nonce, plain)
            .map_err(|_| Error::invalid("value is too large to be encrypted"))?;
        // The mode's own order is ciphertext, tag.
        let (body, tag) = sealed.split_at(plain.len());
        Ok([nonce, tag, body].concat())
    }

    /// What [`encrypt`](Self::encrypt) was given.
    ///
    /// # Errors
    /// `Corrupt` if the bytes were changed, or encrypted with another key.
    pub fn decrypt(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let cut = || Error::corrupt("an encrypted value is cut off");
        let (nonce, rest) = bytes.split_first_chunk::<BLOCK>().ok_or_else(cut)?;
        let (tag, body) = rest.split_first_chunk::<BLOCK>().ok_or_else(cut)?;
        self.open(nonce, &[body, tag].concat()).map_err(|_| {
            Error::corrupt("an encrypted value was changed, or encrypted with another key")
        })
    }

    fn seal(&self, nonce: &[u8; BLOCK], plain: &[u8]) -> aead::Result<Vec<u8>> {
        match &*self.0 {
            Key::Bits128(key) => key.encrypt(nonce.into(), plain),
            Key::Bits192(key) => key.encrypt(nonce.into(), plain),
            Key::Bits256(key) => key.encrypt(nonce.into(), plain),
        }
    }

    fn open(&self, nonce: &[u8; BLOCK], sealed: &[u8]) -> aead::Result<Vec<u8>> {
        match &*self.0 {
            Key::Bits128(key) => key.decrypt(nonce.into(), sealed),
            Key::Bits192(key) => key.decrypt(nonce.into(), sealed),
            Key::Bits256(key) => key.decrypt(nonce.into(), sealed),
        }
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::msgpack::typed::Codec;

    const KEYS: [&str; 3] = [
        "0123456789abcdef",
        "0123456789abcdef01234567",
        "0123456789abcdef0123456789abcdef",
    ];

    #[test]
    fn values_come_back_under_every_key_length() {
        for key in KEYS {
            let cipher = Cipher::new(key).unwrap();
            for plain in [&b""[..], b"x", &[7; 1000]] {
                let secret = cipher.encrypt(plain).unwrap();
                assert_eq!(secret.len(), plain.len() + 32);
                assert_eq!(cipher.decrypt(&secret).unwrap(), plain);
            }
        }
        assert!(Cipher::new("short").is_err());
    }

    /// LangGraph's bytes are read, and, under the same nonce, written.
    #[test]
    fn the_bytes_are_langgraphs() {
        let vectors = include_str!("../tests/golden/aes.json");
        let vectors: Vec<serde_json::Value> = serde_json::from_str(vectors).unwrap();
        for vector in &vectors {
            let text = |key: &str| vector[key].as_str().unwrap();
            let bytes = |key: &str| -> Vec<u8> {
                let digits = text(key).as_bytes().chunks(2);
                let byte = |pair: &[u8]| std::str::from_utf8(pair).map(|p| p.to_owned());
                digits
                    .map(|pair| u8::from_str_radix(&byte(pair).unwrap(), 16).unwrap())
                    .collect()
            };
            let cipher = Cipher::new(text("key")).unwrap();
            let (secret, plain) = (bytes("hex"), bytes("plain"));
            assert_eq!(
                cipher.decrypt(&secret).unwrap(),
                plain,
                "{}",
                vector["name"]
            );
            let nonce: &[u8; BLOCK] = secret.first_chunk().unwrap();
            assert_eq!(cipher.sealed(nonce, &plain).unwrap(), secret);
            let codec = Codec::encrypted(cipher);
            let value = codec.load(text("word"), &secret).unwrap();
            assert_eq!(codec.dump(&value).unwrap().0, text("word"));
            let is_unprocessable = Codec::plain().load(text("word"), &secret).unwrap_err();
            assert_eq!(
                is_unprocessable.kind(),
                agentflow_types::ErrorKind::Unprocessable
            );
        }
        assert_eq!(vectors.len(), 15);
    }

    #[test]
    fn a_changed_bit_and_another_key_are_noticed() {
        let cipher = Cipher::new(KEYS[0]).unwrap();
        let secret = cipher.encrypt(b"hello").unwrap();
        for at in 0..secret.len() {
            let mut changed = secret.clone();
            changed[at] ^= 1;
            assert!(cipher.decrypt(&changed).is_err(), "byte {at}");
        }
        let other = Cipher::new("0123456789abcdeF").unwrap();
        assert!(other.decrypt(&secret).is_err());
        assert!(cipher.decrypt(&secret[..20]).is_err());
    }

    #[test]
    fn the_same_value_looks_different_each_time() {
        let cipher = Cipher::new(KEYS[2]).unwrap();
        let twice = [cipher.encrypt(b"x").unwrap(), cipher.encrypt(b"x").unwrap()];
        assert_ne!(twice[0], twice[1]);
        assert!(!format!("{cipher:?}").contains("0123"));
    }
}
