//! Files of variables, in the grammar of Docker Compose.

use std::collections::BTreeMap;

use super::interpolate::{Failed, Filler};

/// Most bytes that the values of one file may have once filled in.
pub const MAX_BYTES: usize = 16 << 20;

/// Reads a file of variables.
///
/// `outer` gives what the file does not set and wins over what it does, in values that name
/// other variables.
///
/// # Errors
/// What is wrong, and in which line.
pub(super) fn parse(
    text: &str,
    outer: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut reader = Reader {
        line: 1,
        left: MAX_BYTES,
        known: BTreeMap::new(),
        outer,
    };
    let mut rest = text;
    loop {
        rest = reader.skip_space(rest);
        if let Some(comment) = rest.strip_prefix('#') {
            match comment.find('\n') {
                Some(end) => rest = &comment[end..],
                None => break,
            }
            continue;
        }
        if rest.is_empty() {
            break;
        }
        rest = reader.statement(rest)?;
    }
    Ok(reader.known)
}

struct Reader<'a> {
    line: usize,
    left: usize,
    known: BTreeMap<String, String>,
    outer: &'a dyn Fn(&str) -> Option<String>,
}

/// White space that ends no line.
fn is_blank(c: char) -> bool {
    matches!(
        c,
        '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}'
    )
}

impl Reader<'_> {
    fn skip_space<'t>(&mut self, text: &'t str) -> &'t str {
        let rest = text.trim_start();
        let skipped = &text[..text.len() - rest.len()];
        self.line += skipped.matches('\n').count();
        rest
    }

    fn wrong(&self, message: impl std::fmt::Display) -> String {
        format!("line {}: {message}", self.line)
    }

    /// One variable; gives what follows it.
    fn statement<'t>(&mut self, text: &'t str) -> Result<&'t str, String> {
        let text = match text.strip_prefix("export") {
            Some(rest) if rest.starts_with(char::is_whitespace) => {
                rest.trim_start_matches(is_blank)
            }
            _ => text,
        };
        let mut key = None;
        for (at, c) in text.char_indices() {
            match c {
                '=' | ':' | '\n' => {
                    key = Some((at, c));
                    break;
                }
                '_' | '.' | '-' | '[' | ']' => {}
                c if is_blank(c) || c.is_alphabetic() || c.is_numeric() => {}
                c => return Err(self.wrong(format!("`{c}` cannot be in the name of a variable"))),
            }
        }
        // A last line that is a bare name is no variable.
        let Some((at, sign)) = key else {
            return match text.trim_end().contains(' ') {
                true => Err(self.wrong("the name of a variable holds a space")),
                false => Ok(""),
            };
        };
        let name = text[..at].trim_end();
        let rest = text[at + 1..].trim_start_matches(is_blank);
        if name.contains(' ') {
            return Err(self.wrong("the name of a variable holds a space"));
        }
        if sign == '\n' {
            self.line += 1;
            if let Some(value) = (self.outer)(name) {
                self.known.insert(name.to_owned(), value);
            }
            return Ok(rest);
        }
        let (value, rest) = self.value(rest)?;
        self.known.insert(name.to_owned(), value);
        Ok(rest)
    }

    fn value<'t>(&mut self, text: &'t str) -> Result<(String, &'t str), String> {
        let quote = match text.as_bytes().first() {
            Some(quote @ (b'"' | b'\'')) => *quote,
            _ => {
                let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
                let value = line
                    .split_once(" #")
                    .map_or(line, |(value, _)| value)
                    .trim_end();
                let value = self.fill(value)?;
                self.line += 1;
                return Ok((value, rest));
            }
        };
        let mut value = Vec::new();
        let mut escaped = false;
        for (at, byte) in text.bytes().enumerate().skip(1) {
            self.line += usize::from(byte == b'\n');
            if byte == quote && !escaped {
                let inner = String::from_utf8_lossy(&value).into_owned();
                let inner = match quote {
                    b'"' => self.fill(&unescape(&inner))?,
                    _ => inner,
                };
                return Ok((inner, &text[at + 1..]));
            }
            if byte == b'\\' && !escaped {
                escaped = true;
                continue;
            }
            if escaped && byte != quote {
                value.push(b'\\');
            }
            escaped = false;
            value.push(byte);
        }
        Err(self.wrong("a quoted value does not end"))
    }

    fn fill(&mut self, text: &str) -> Result<String, String> {
        let known = &self.known;
        let outer = self.outer;
        let lookup = |name: &str| outer(name).or_else(|| known.get(name).cloned());
        let mut filler = Filler::new(&lookup, self.left);
        let filled = filler
            .fill(text)
            .map_err(|failed: Failed| failed.message(text));
        self.left = filler.left;
        filled.map_err(|message| self.wrong(message))
    }
}

/// The escapes of a value in double quotes; others stay as they are.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(c) = rest.chars().next() else {
            out.push('\\');
            break;
        };
        let plain = match c {
            'a' => "\u{7}",
            'b' => "\u{8}",
            'f' => "\u{c}",
            'n' => "\n",
            'r' => "\r",
            't' => "\t",
            'v' => "\u{b}",
            '"' => "\"",
            '\\' => "\\",
            // The sign itself, for the step that fills variables in.
            '$' => "$$",
            '0' => {
                let digits = rest[1..]
                    .bytes()
                    .take(3)
                    .take_while(u8::is_ascii_digit)
                    .count();
                let code = u32::from_str_radix(&rest[1..=digits], 8).ok();
                match code
                    .filter(|it| digits == 3 && *it < 256)
                    .and_then(char::from_u32)
                {
                    Some(c) => out.push(c),
                    None => out.push_str(&format!("\\{}", &rest[..=digits])),
                }
                rest = &rest[digits + 1..];
                continue;
            }
            _ => {
                out.push('\\');
                continue;
            }
        };
        out.push_str(plain);
        rest = &rest[c.len_utf8()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let outer = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let read = parse(text, &outer).expect(text);
        let read: Vec<_> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(read, expected, "{text:?}");
    }

    #[test]
    fn values_are_plain_quoted_or_inherited() {
        check(
            "A=1\nB = 2 # note\n# C=3\nexport D: 4",
            &[("A", "1"), ("B", "2"), ("D", "4")],
        );
        check(
            "A='a #$B\nc'\nB=\"x\\ny\\\"\"",
            &[("A", "a #$B\nc"), ("B", "x\ny\"")],
        );
        check(
            "A=1\nB=${A}2\nC=\"$A\\$A\"",
            &[("A", "1"), ("B", "12"), ("C", "1$A")],
        );
        check("HOME\nNONE\nZ=1#2", &[("HOME", "/root"), ("Z", "1#2")]);
        check("A=\n\nB=\"\\0101\"", &[("A", ""), ("B", "A")]);
        check("", &[]);
    }

    #[test]
    fn wrong_lines_are_named() {
        let none = |_: &str| None;
        assert!(parse("A=1\nB!=2", &none).is_err_and(|it| it.starts_with("line 2")));
        assert!(parse("A='x", &none).is_err());
        assert!(parse("A B=x", &none).is_err());
        assert!(parse("A=${", &none).is_err());
    }

    #[test]
    fn variables_of_variables_do_not_grow_without_end() {
        let mut text = "A0=xxxxxxxxxx\n".to_owned();
        for at in 1..40 {
            let before = at - 1;
            text.push_str(&format!("A{at}=$A{before}$A{before}\n"));
        }
        assert!(parse(&text, &|_| None).is_err());
    }
}
