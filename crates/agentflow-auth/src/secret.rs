//! API keys: random text that nobody can guess and everybody can recognise.

use agentflow_types::{Error, Result};

/// How every key begins.
pub const KEY_PREFIX: &str = "af_";
/// Random characters of a key: 62 to the 43rd is more than 2 to the 256th.
const RANDOM_CHARS: usize = 43;
/// Characters of a key that are stored so that its holder recognises it.
const SHOWN_CHARS: usize = 11;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random text of letters and digits.
///
/// # Errors
/// `Failed` if the system has no random numbers.
pub(crate) fn random_text(chars: usize) -> Result<String> {
    let mut text = String::with_capacity(chars);
    let mut bytes = [0; 64];
    while text.len() < chars {
        getrandom::fill(&mut bytes)
            .map_err(|err| Error::failed("no random numbers").with("reason", err))?;
        // Bytes beyond the last full round of the alphabet would make some characters likelier.
        let even = bytes.iter().filter(|byte| **byte < 248);
        let more = even.map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        text.extend(more.take(chars - text.len()));
    }
    Ok(text)
}

/// A new key.
///
/// # Errors
/// `Failed` if the system has no random numbers.
pub fn mint_key() -> Result<String> {
    Ok(format!("{KEY_PREFIX}{}", random_text(RANDOM_CHARS)?))
}

/// The part of a key that may be stored and shown.
pub(crate) fn shown(key: &str) -> String {
    key.chars().take(SHOWN_CHARS).collect()
}

/// Whether text has the form of a key.
pub(crate) fn is_key(text: &str) -> bool {
    text.strip_prefix(KEY_PREFIX).is_some_and(|random| {
        random.len() == RANDOM_CHARS && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_recognisable_and_different() {
        let (one, two) = (mint_key().unwrap(), mint_key().unwrap());
        assert_ne!(one, two);
        assert!(is_key(&one) && one.len() == 46, "{one}");
        assert_eq!(shown(&one), one[..11]);
        for wrong in [
            "",
            "af_",
            "af_short",
            "sk-1234",
            &one[1..],
            &format!("{one}x"),
        ] {
            assert!(!is_key(wrong), "{wrong}");
        }
    }

    #[test]
    fn every_character_comes_up() {
        let text = random_text(10_000).unwrap();
        for byte in ALPHABET {
            let many = text.bytes().filter(|found| found == byte).count();
            // 161 expected; 80 and 260 are more than six deviations away.
            assert!((80..260).contains(&many), "{} {many}", char::from(*byte));
        }
    }
}
