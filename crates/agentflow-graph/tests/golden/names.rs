//! Replaces ids and times in a document by names, in order of appearance.

use std::collections::HashMap;

use serde_json::Value as Json;

const NULL: &str = "00000000-0000-0000-0000-000000000000";

/// The names given so far.
#[derive(Default)]
pub struct Names(HashMap<String, String>);

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// Length of the UUID that the text starts with.
fn uuid(text: &[u8]) -> Option<usize> {
    let found = text.len() >= 36
        && text[..36].iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => is_hex(*b),
        });
    found.then_some(36)
}

/// Length of the 32 hexadecimal digits that the text starts with, if no more follow.
fn hex(text: &[u8]) -> Option<usize> {
    let digits = text.iter().take_while(|b| is_hex(**b)).count();
    (digits == 32).then_some(32)
}

/// Length of the ISO 8601 time that the text starts with.
fn time(text: &[u8]) -> Option<usize> {
    const FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let fits = text.len() >= FORM.len()
        && FORM.iter().zip(text).all(|(f, b)| {
            if *f == b'd' {
                b.is_ascii_digit()
            } else {
                f == b
            }
        });
    if !fits {
        return None;
    }
    let mut end = FORM.len();
    if text.get(end) == Some(&b'.') {
        end += 1 + text[end + 1..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
    }
    if text[end..].starts_with(b"+00:00") {
        end += 6;
    }
    Some(end)
}

impl Names {
    fn name(&mut self, kind: &str, text: &str) -> String {
        if text == NULL {
            return text.to_owned();
        }
        let next = format!("<{kind}{}>", self.0.len());
        self.0.entry(text.to_owned()).or_insert(next).clone()
    }

    fn text(&mut self, text: &str) -> String {
        let bytes = text.as_bytes();
        let mut out = String::new();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let after_hex = at > 0 && is_hex(bytes[at - 1]);
            if let Some(length) = time(rest) {
                out.push_str("<time>");
                at += length;
            } else if let Some(length) = uuid(rest) {
                out.push_str(&self.name("u", &text[at..at + length]));
                at += length;
            } else if let Some(length) = hex(rest).filter(|_| !after_hex) {
                out.push_str(&self.name("i", &text[at..at + length]));
                at += length;
            } else {
                let next = text[at..].chars().next().unwrap();
                out.push(next);
                at += next.len_utf8();
            }
        }
        out
    }

    /// The document with names, keys sorted.
    pub fn walk(&mut self, value: &Json) -> Json {
        match value {
            Json::String(text) => Json::String(self.text(text)),
            Json::Array(items) => items.iter().map(|item| self.walk(item)).collect(),
            Json::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                let entries = keys
                    .into_iter()
                    .map(|key| (self.text(key), self.walk(&map[key])));
                Json::Object(entries.collect())
            }
            other => other.clone(),
        }
    }
}
