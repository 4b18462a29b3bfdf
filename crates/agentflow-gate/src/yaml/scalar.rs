//! What a scalar means. Compose is read by a YAML 1.1 library, so `0777` is octal and `1_000` is
//! a number, while `yes` and `on` are text.

use crate::tree::Value;

/// The value of a scalar. `core`: its tag, if it is one of YAML's own.
///
/// # Errors
/// The tag says another type than the text has.
pub(super) fn resolve(text: &str, plain: bool, core: Option<&str>) -> Result<Value, String> {
    let value = match core {
        None if !plain => Value::Text(text.to_owned()),
        None => implicit(text),
        Some("str") => Value::Text(text.to_owned()),
        Some("binary") => match base64(text) {
            Some(text) => Value::Text(text),
            None => return Err("this is not base64".to_owned()),
        },
        Some("float") => match implicit(text) {
            Value::Int(number) => Value::Float(number as f64),
            other => other,
        },
        Some(_) => implicit(text),
    };
    let fits = match (core, &value) {
        (Some("int"), it) => matches!(it, Value::Int(_)),
        (Some("float"), it) => matches!(it, Value::Float(_)),
        (Some("bool"), it) => matches!(it, Value::Bool(_)),
        (Some("null"), it) => matches!(it, Value::Null),
        (Some("timestamp"), it) => matches!(it, Value::Time(_)),
        (Some("map" | "seq"), _) => false,
        _ => true,
    };
    match fits {
        true => Ok(value),
        false => Err(format!("`{text}` is not what its tag says")),
    }
}

fn implicit(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'+' | b'-' | b'0'..=b'9' => match time(text) {
            Some(time) => Some(Value::Time(time)),
            None => number(&text.replace('_', "")),
        },
        b'.' => float(text),
        _ => None,
    };
    number.unwrap_or_else(|| Value::Text(text.to_owned()))
}

fn number(text: &str) -> Option<Value> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits
        .bytes()
        .all(|digit| char::from(digit).is_digit(radix))
        && !digits.is_empty()
    {
        if let Ok(number) = i64::from_str_radix(&format!("{sign}{digits}"), radix) {
            return Some(Value::Int(number));
        }
        if let (Ok(number), "") = (u64::from_str_radix(digits, radix), sign) {
            return Some(Value::Float(number as f64));
        }
    }
    float(text)
}

/// A decimal number: digits, a point, an exponent.
fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let whole = match mantissa.split_once('.') {
        Some((before, after)) => {
            (digits(before) && (after.is_empty() || digits(after)))
                || (before.is_empty() && digits(after))
        }
        None => digits(mantissa),
    };
    let power = exponent.is_none_or(|it| digits(it.strip_prefix(['+', '-']).unwrap_or(it)));
    if !whole || !power {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    number.is_finite().then_some(Value::Float(number))
}

/// A date, or a date and a time, as Compose prints it.
fn time(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let dashed = bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-';
    if !dashed {
        return None;
    }
    let (date, clock) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let within = |text: &str, low: u32, high: u32| {
        let short = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|it| (low..=high).contains(it));
        number.filter(|_| short)
    };
    let (month, day) = (within(month, 1, 12)?, within(day, 1, 31)?);
    if parts.next().is_some() {
        return None;
    }
    let Some(clock) = clock else {
        return Some(format!("{year}-{month:02}-{day:02}T00:00:00Z"));
    };
    let local = clock.strip_suffix(['Z', 'z']).unwrap_or(clock);
    let (local, zone) = match local.find(['+', '-']) {
        Some(at) => (&local[..at], &local[at..]),
        None => (local, "Z"),
    };
    let mut parts = local.trim_end().split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let (whole, fraction) = second.split_once('.').unwrap_or((second, ""));
    let (hour, minute) = (within(hour, 0, 23)?, within(minute, 0, 59)?);
    let second = within(whole, 0, 59)?;
    let fraction = match fraction.trim_end_matches('0') {
        "" => String::new(),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => format!(".{digits}"),
        _ => return None,
    };
    parts.next().is_none().then(|| {
        format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}")
    })
}

/// Text in base64, line breaks allowed.
fn base64(text: &str) -> Option<String> {
    let mut bits: u32 = 0;
    let mut held = 0;
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => continue,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_compose_reads() {
        for (text, value) in [
            ("0777", Value::Int(511)),
            ("1_000", Value::Int(1000)),
            ("0x1F", Value::Int(31)),
            ("0o17", Value::Int(15)),
            ("0b11", Value::Int(3)),
            ("+5", Value::Int(5)),
            ("-0b11", Value::Int(-3)),
            ("09", Value::Float(9.0)),
            ("1e3", Value::Float(1000.0)),
            ("3.", Value::Float(3.0)),
            (".5", Value::Float(0.5)),
            ("1_0.5", Value::Float(10.5)),
            ("12:30", Value::Text("12:30".into())),
            ("yes", Value::Text("yes".into())),
            ("-", Value::Text("-".into())),
            ("2001-1-2", Value::Time("2001-01-02T00:00:00Z".into())),
            (
                "2001-01-02 10:00:00.50",
                Value::Time("2001-01-02T10:00:00.5Z".into()),
            ),
            ("2001-13-02", Value::Text("2001-13-02".into())),
            ("~", Value::Null),
            ("TRUE", Value::Bool(true)),
        ] {
            assert_eq!(resolve(text, true, None), Ok(value), "{text}");
        }
    }

    #[test]
    fn a_tag_decides_or_is_refused() {
        assert_eq!(resolve("5", true, Some("str")), Ok(Value::Text("5".into())));
        assert_eq!(resolve("5", true, Some("float")), Ok(Value::Float(5.0)));
        assert_eq!(resolve("5", false, Some("int")), Ok(Value::Int(5)));
        assert_eq!(
            resolve("aGk=", true, Some("binary")),
            Ok(Value::Text("hi".into()))
        );
        assert!(resolve("x", true, Some("int")).is_err());
    }
}
