//! Times, sizes and command lines, as Compose reads them from text.

/// Seconds that a duration lasts: numbers with units, weeks to nanoseconds.
pub(super) fn seconds(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "0" {
        return Some(0.0);
    }
    let mut rest = unsigned;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let letters = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        total += number
            * match unit {
                "w" => 604_800.0,
                "d" => 86_400.0,
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = tail;
    }
    (!unsigned.is_empty()).then_some(total)
}

/// Bytes of a size: a number and a unit, each step of units 1024 times the one before.
pub(super) fn bytes(text: &str) -> Option<f64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')? + 1;
    let (number, unit) = text.split_at(end);
    let number: f64 = number.strip_suffix(' ').unwrap_or(number).parse().ok()?;
    let unit = unit.to_lowercase();
    let power = match unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(&unit)
    {
        "" if unit == "ib" => return None,
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    (number >= 0.0).then_some(number * 1024_f64.powi(power))
}

/// A flag; the words of YAML 1.1 count.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "true" | "y" | "yes" | "on" => Some(true),
        "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Whether a command line can be split into words: quotes and brackets are closed.
pub(super) fn is_command_line(text: &str) -> bool {
    let mut escaped = false;
    let (mut single, mut double, mut back, mut dollar) = (false, false, false, false);
    let mut before = ' ';
    for c in text.chars() {
        if std::mem::take(&mut escaped) {
            before = ' ';
            continue;
        }
        match c {
            '\\' if !single => escaped = true,
            '`' if !single && !double && !dollar => back = !back,
            ')' if !single && !double && !back => dollar = !dollar,
            '(' if !single && !double && !back => {
                if dollar || before != '$' {
                    return false;
                }
                dollar = true;
            }
            '"' if !single && !dollar => double = !double,
            '\'' if !double && !dollar => single = !single,
            // What follows is left out, whatever it is.
            ';' | '&' | '|' | '<' | '>' if !single && !double && !back && !dollar => break,
            _ => {}
        }
        before = c;
    }
    !(escaped || single || double || back || dollar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        assert_eq!(seconds("1m30s"), Some(90.0));
        assert_eq!(seconds("1.5h"), Some(5400.0));
        assert_eq!(seconds("2d"), Some(172_800.0));
        assert_eq!(seconds("0"), Some(0.0));
        for wrong in ["", "30", "5 minutes", "s", "1x", "-"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_numbers_with_units() {
        assert_eq!(bytes("512m"), Some(512.0 * 1024.0 * 1024.0));
        assert_eq!(bytes("1.5 GiB"), Some(1.5 * 1024.0 * 1024.0 * 1024.0));
        assert_eq!(bytes("100"), Some(100.0));
        assert_eq!(bytes("1kb"), Some(1024.0));
        for wrong in ["", "m", "1x", "1kbb", "1mib2", "-1m", "1ib"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn command_lines_close_what_they_open() {
        for right in ["a 'b c' \"d\"", "a $(b)", "a | 'b", "a `b`", "a \\'b"] {
            assert!(is_command_line(right), "{right}");
        }
        for wrong in ["a 'b", "a \"b", "a (b)", "a \\", "a `b"] {
            assert!(!is_command_line(wrong), "{wrong}");
        }
    }
}
