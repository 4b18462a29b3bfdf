//! Bytes to characters: which encoding a text is in.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::blocks::Writer;

/// Where a text may name its own encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Markup {
    /// Nowhere.
    None,
    /// In a `meta` element.
    Html,
    /// In the XML declaration.
    Xml,
}

/// Bytes in which markup names its encoding.
const DECLARATION: usize = 1_024;
/// Bytes that are looked at to tell UTF-16 from binary data.
const SAMPLE: usize = 4_096;

/// A text, and what was done to read it.
pub(crate) struct Decoded {
    pub text: String,
    pub encoding: &'static str,
    /// Bytes that stand for nothing in the encoding were replaced.
    pub damaged: bool,
}

impl Decoded {
    pub fn warn(&self, out: &mut Writer<'_, '_>) {
        if self.damaged {
            let encoding = self.encoding;
            out.warn(format!("some bytes are not {encoding} and were replaced"));
        }
        if self.text.contains('\0') {
            out.warn("NUL characters were left out");
        }
    }
}

/// Reads a text: by its byte order mark, as UTF-8, as UTF-16 without a mark, as `declared`, as the
/// markup says, or by the frequency of its bytes.
pub(crate) fn decode(bytes: &[u8], declared: Option<&str>, markup: Markup) -> Decoded {
    if let Some(decoded) = utf32(bytes) {
        return decoded;
    }
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return as_encoding(&bytes[mark..], encoding);
    }
    if let Some(encoding) = utf16_without_mark(bytes) {
        return as_encoding(bytes, encoding);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Decoded {
            text: text.to_owned(),
            encoding: UTF_8.name(),
            damaged: false,
        };
    }
    let named = declared.and_then(|label| Encoding::for_label(label.as_bytes()));
    let named = named.or_else(|| in_markup(bytes, markup));
    if let Some(encoding) = named.filter(|it| *it != UTF_16LE && *it != UTF_16BE) {
        let decoded = as_encoding(bytes, encoding);
        // A label that fits is believed; one that does not is common, and guessed anew.
        if !decoded.damaged {
            return decoded;
        }
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    let guess = as_encoding(bytes, detector.guess(None, Utf8Detection::Allow));
    if !guess.damaged {
        return guess;
    }
    // A few bad bytes in a text of UTF-8 make the detector choose something else.
    let utf8 = as_encoding(bytes, UTF_8);
    let bad = utf8.text.chars().filter(|c| *c == '\u{fffd}').count();
    if bad * 100 < utf8.text.len() {
        utf8
    } else {
        guess
    }
}

fn as_encoding(bytes: &[u8], encoding: &'static Encoding) -> Decoded {
    let (text, damaged) = encoding.decode_without_bom_handling(bytes);
    Decoded {
        text: text.into_owned(),
        encoding: encoding.name(),
        damaged,
    }
}

fn utf32(bytes: &[u8]) -> Option<Decoded> {
    let (read, encoding): (fn([u8; 4]) -> u32, _) = match bytes.get(..4)? {
        [0xff, 0xfe, 0, 0] => (u32::from_le_bytes, "UTF-32LE"),
        [0, 0, 0xfe, 0xff] => (u32::from_be_bytes, "UTF-32BE"),
        _ => return None,
    };
    let (units, rest) = bytes[4..].as_chunks::<4>();
    let mut damaged = !rest.is_empty();
    let text = units
        .iter()
        .map(|unit| {
            char::from_u32(read(*unit)).unwrap_or_else(|| {
                damaged = true;
                char::REPLACEMENT_CHARACTER
            })
        })
        .collect();
    Some(Decoded {
        text,
        encoding,
        damaged,
    })
}

/// Latin text in UTF-16 has a zero in every other byte and hardly any in the others.
fn utf16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    let (pairs, _) = bytes[..bytes.len().min(SAMPLE)].as_chunks::<2>();
    if pairs.len() < 2 {
        return None;
    }
    let zeros = |at: usize| pairs.iter().filter(|pair| pair[at] == 0).count();
    let (first, second) = (zeros(0), zeros(1));
    let (most, few) = (pairs.len() * 2 / 3, pairs.len() / 20);
    if second >= most && first <= few {
        Some(UTF_16LE)
    } else if first >= most && second <= few {
        Some(UTF_16BE)
    } else {
        None
    }
}

fn in_markup(bytes: &[u8], markup: Markup) -> Option<&'static Encoding> {
    let key = match markup {
        Markup::None => return None,
        Markup::Html => "charset=",
        Markup::Xml => "encoding=",
    };
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(DECLARATION)]).to_lowercase();
    let value = &start[start.find(key)? + key.len()..];
    let value = value.trim_start_matches(['"', '\'', ' ']);
    let end = value.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.:".contains(c)))?;
    Encoding::for_label(&value.as_bytes()[..end])
}

/// Whether a text is none: too many of its characters are control characters or unknown. Noise that is
/// read as an encoding of single bytes has about a tenth of them.
pub(crate) fn is_binary(text: &str) -> bool {
    let (mut all, mut odd) = (0_usize, 0_usize);
    for c in text.chars() {
        all += 1;
        let kept = matches!(c, '\t' | '\n' | '\r' | '\u{c}' | '\u{1b}' | '\u{85}');
        if (c.is_control() && !kept) || c == char::REPLACEMENT_CHARACTER {
            odd += 1;
        }
    }
    // A few in a short text are an accident.
    odd > SHORT + all / 20
}

/// Odd characters that a text of any length may have.
const SHORT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], text: &str, encoding: &str) {
        let decoded = decode(bytes, None, Markup::None);
        assert_eq!((decoded.text.as_str(), decoded.encoding), (text, encoding));
    }

    #[test]
    fn encodings_are_found() {
        check("Grüße".as_bytes(), "Grüße", "UTF-8");
        check(b"\xef\xbb\xbfGr\xc3\xbc", "Grü", "UTF-8");
        let utf16: Vec<u8> = "Hello there"
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect();
        check(&utf16, "Hello there", "UTF-16BE");
        let mut utf32 = vec![0xff, 0xfe, 0, 0];
        utf32.extend("né".chars().flat_map(|c| (c as u32).to_le_bytes()));
        check(&utf32, "né", "UTF-32LE");
        let decoded = decode(b"<meta charset=koi8-r>\xf0", None, Markup::Html);
        assert_eq!(decoded.encoding, "KOI8-R");
    }

    #[test]
    fn binary_data_is_no_text() {
        assert!(is_binary("\u{1}\u{2}\u{3}ELF\u{0}\u{0}\u{7f}"));
        assert!(!is_binary("one NUL\0 in a longer line of text"));
    }
}
