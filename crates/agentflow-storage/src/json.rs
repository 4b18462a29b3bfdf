//! JSON columns: metadata of checkpoints, and records.

use std::{borrow::Cow, io, sync::Arc};

use agentflow_types::{Error, Map, Result, Value};

/// Most lists and maps within each other; JSON parsers commonly stop at 128.
pub const MAX_DEPTH: usize = 120;

/// The value of JSON text. `NaN` and infinities, which Python writes, become null.
///
/// # Errors
/// `Corrupt` if the bytes are not JSON.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        Err(err) => match without_nan(bytes) {
            Cow::Owned(cleaned) => serde_json::from_slice(&cleaned).map_err(|_| not_json(err)),
            Cow::Borrowed(_) => Err(not_json(err)),
        },
    }
}

/// [`parse`] for text that must be an object; empty bytes and `null` are the empty one.
///
/// # Errors
/// `Corrupt` if the bytes are not a JSON object.
pub fn parse_map(bytes: &[u8]) -> Result<Map> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    match parse(bytes)? {
        Value::Map(map) => Ok(Arc::unwrap_or_clone(map)),
        Value::Null => Ok(Map::new()),
        _ => Err(Error::corrupt("stored JSON is not an object")),
    }
}

/// Compact JSON text of a value, which [`parse`] reads back.
///
/// # Errors
/// `Invalid` if it is deeper than [`MAX_DEPTH`].
pub fn text(value: &Value) -> Result<String> {
    check_depth(value, 0)?;
    Ok(value.json_text())
}

/// [`text`] of a map.
///
/// # Errors
/// `Invalid` if it is deeper than [`MAX_DEPTH`].
pub fn map_text(map: &Map) -> Result<String> {
    map.values().try_for_each(|value| check_depth(value, 1))?;
    serde_json::to_string(map).map_err(|err| Error::bug("map is not JSON").source_err(err))
}

/// JSON text of a map as Python's `json.dumps(…, ensure_ascii=False)` writes it: with a space
/// after each comma and colon, and floats as Python prints them.
///
/// # Errors
/// `Invalid` if it is deeper than [`MAX_DEPTH`].
pub fn python_text(map: &Map) -> Result<String> {
    map.values().try_for_each(|value| check_depth(value, 1))?;
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Python);
    serde::Serialize::serialize(map, &mut serializer)
        .map_err(|err| Error::bug("map is not JSON").source_err(err))?;
    String::from_utf8(out).map_err(|err| Error::bug("JSON is not text").source_err(err))
}

/// Layout of Python's `json.dumps`.
struct Python;

impl serde_json::ser::Formatter for Python {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        let plain = value == 0.0 || (1e-4..1e16).contains(&value.abs());
        if plain {
            return write!(out, "{value:?}");
        }
        // Rust writes the exponent as it is, Python with its sign and at least two digits.
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        write!(out, "{digits}e{sign}{exponent:0>2}")
    }
}

fn not_json(err: serde_json::Error) -> Error {
    Error::corrupt("stored text is not JSON").source_err(err)
}

fn check_depth(value: &Value, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid("value is nested too deeply").with("limit", MAX_DEPTH));
    }
    let deeper = |value: &Value| check_depth(value, depth + 1);
    match value {
        Value::List(items) => items.iter().try_for_each(deeper),
        Value::Map(map) => map.values().try_for_each(deeper),
        Value::Pairs(pairs) => pairs.iter().try_for_each(|(_, value)| deeper(value)),
        Value::Typed(typed) => check_depth(&typed.value, depth),
        _ => Ok(()),
    }
}

/// The text with each bare `NaN`, `Infinity` and `-Infinity` replaced by `null`; borrowed if
/// there is none.
fn without_nan(bytes: &[u8]) -> Cow<'_, [u8]> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut out = Vec::new();
    let (mut copied, mut at, mut quoted) = (0, 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'-' | b'I' | b'N' if !quoted => {
                if let Some(word) = WORDS.iter().find(|word| bytes[at..].starts_with(word)) {
                    out.extend_from_slice(&bytes[copied..at]);
                    out.extend_from_slice(b"null");
                    at += word.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(bytes);
    }
    out.extend_from_slice(&bytes[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    #[test]
    fn python_words_for_numbers_become_null() {
        let text = br#"{"a": NaN, "b": [-Infinity, Infinity, 1], "c": "NaN \" NaN"}"#;
        let expected = value!({"a": null, "b": [null, null, 1], "c": "NaN \" NaN"});
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(
            parse(b"{NaN").unwrap_err().kind(),
            agentflow_types::ErrorKind::Corrupt
        );
    }

    #[test]
    fn metadata_looks_as_python_writes_it() {
        let map =
            value!({"a": [1, 1.0, {"b": "ä\n\u{7f}"}], "c": {}, "d": [1e16, 1.5e-7, 1e-4, -0.0]});
        let text = python_text(map.as_map().unwrap()).unwrap();
        let expected =
            r#"{"a": [1, 1.0, {"b": "ä\n~"}], "c": {}, "d": [1e+16, 1.5e-07, 0.0001, -0.0]}"#;
        assert_eq!(text, expected.replace('~', "\u{7f}"));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let deep = |depth| (0..depth).fold(Value::Null, |inner, _| Value::list(vec![inner]));
        assert_eq!(
            parse(text(&deep(MAX_DEPTH)).unwrap().as_bytes()).unwrap(),
            deep(MAX_DEPTH)
        );
        assert!(text(&deep(MAX_DEPTH + 1)).is_err());
    }
}
