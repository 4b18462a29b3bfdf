//! The searchable form of records: what `jsonb` columns hold beside the exact text.
//!
//! `jsonb` cannot hold NUL, forgets the order of keys and the form of numbers, and its index
//! would keep every text of a conversation. So the exact JSON text of a record is one column, and
//! where containment is searched this form is another. A condition is brought into the same form
//! before it is compared. The form keeps apart what [`agentflow_storage::filter::equal`] keeps
//! apart and joins what it joins, so `@>` on it means what the other backends mean:
//!
//! - NUL and the escape character itself are escaped;
//! - a text above [`MAX_TEXT_BYTES`] is its hash, which bounds the index and the row;
//! - a float that is a whole number is written with all its digits, because `9.223372036854776e18`
//!   would not equal the integer that the float is.

use agentflow_storage::{filter, json};
use agentflow_types::{Map, Result, Str, Value};
use sha2::{Digest, Sha256};

/// Longest text that is kept as it is; an index entry is useful for words, not for documents.
const MAX_TEXT_BYTES: usize = 256;
/// Starts an escape; a private-use character that texts hardly ever hold.
const ESCAPE: char = '\u{e0af}';
/// Two to the power of 64 and minus two to the power of 63: whole floats between them equal some
/// integer of a value.
const INTEGERS: std::ops::Range<f64> = -9_223_372_036_854_775_808.0..18_446_744_073_709_551_616.0;

/// The form of a value as JSON text.
///
/// # Errors
/// `Invalid` if it is nested too deeply.
pub(crate) fn text(value: &Value) -> Result<String> {
    json::text(&form(&filter::normal(value)))
}

/// The form of a map as JSON text.
///
/// # Errors
/// `Invalid` if it is nested too deeply.
pub(crate) fn map_text(map: &Map) -> Result<String> {
    json::map_text(&map_form(&filter::normal_map(map)))
}

/// How many scalars and empty containers a value holds.
pub(crate) fn leaves(value: &Value) -> usize {
    let below: usize = match value {
        Value::List(items) => items.iter().map(leaves).sum(),
        Value::Map(map) => map.values().map(leaves).sum(),
        _ => 1,
    };
    below.max(1)
}

fn map_form(map: &Map) -> Map {
    map.iter()
        .map(|(key, value)| (text_form(key), form(value)))
        .collect()
}

fn form(value: &Value) -> Value {
    match value {
        Value::Str(text) => Value::Str(text_form(text)),
        Value::Float(float) => number_form(*float),
        Value::List(items) => Value::list(items.iter().map(form).collect()),
        Value::Map(map) => Value::map(map_form(map)),
        other => other.clone(),
    }
}

fn text_form(text: &Str) -> Str {
    if text.len() > MAX_TEXT_BYTES {
        return hash(text).into();
    }
    if !text.contains(['\0', ESCAPE]) {
        return text.clone();
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '\0' => escaped.extend([ESCAPE, '0']),
            ESCAPE => escaped.extend([ESCAPE, '1']),
            other => escaped.push(other),
        }
    }
    escaped.into()
}

fn hash(text: &str) -> String {
    use std::fmt::Write as _;

    let mut hashed = format!("{ESCAPE}h");
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a `String` cannot fail.
        let _ = write!(hashed, "{byte:02x}");
    }
    hashed
}

fn number_form(float: f64) -> Value {
    if float.fract() != 0.0 || !INTEGERS.contains(&float) {
        return Value::Float(float);
    }
    let whole = float as i128;
    match (i64::try_from(whole), u64::try_from(whole)) {
        (Ok(int), _) => Value::Int(int),
        (_, Ok(int)) => Value::UInt(int),
        _ => Value::Float(float),
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    #[test]
    fn equal_values_have_one_form_and_others_do_not() {
        let long = |last: &str| Value::str(format!("{}{last}", "x".repeat(MAX_TEXT_BYTES)));
        let hashed = text(&long("a")).unwrap();
        let twin: Value = serde_json::from_str(&hashed).unwrap();
        let values = [
            value!(1),
            value!(1.0),
            value!(-0.0),
            value!(0),
            value!(1.5),
            value!(9223372036854775808_u64),
            value!(9223372036854775808.0),
            value!(9007199254740993_i64),
            value!(9007199254740992.0),
            value!(1e300),
            value!("1"),
            value!("\u{0}"),
            value!("\u{e0af}0"),
            value!("\u{e0af}"),
            long("a"),
            long("b"),
            twin,
            value!(null),
            value!([1]),
            value!({"\u{0}": 1}),
            value!({"\u{e0af}0": 1}),
        ];
        for left in &values {
            for right in &values {
                let same = text(left).unwrap() == text(right).unwrap();
                assert_eq!(same, filter::equal(left, right), "{left} {right}");
            }
        }
    }

    #[test]
    fn no_form_holds_what_jsonb_refuses() {
        let form = map_text(value!({"a\u{0}": ["\u{0}"]}).as_map().unwrap()).unwrap();
        assert!(!form.contains("\\u0000"), "{form}");
    }
}
