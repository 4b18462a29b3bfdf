//! Paths into payloads, as Qdrant writes them: `a.b."c.d"[]`.

use serde_json::{Map, Value};
use tonic::Status;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Key(String),
    Index(usize),
    Each,
}

/// A path that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<Item>);

impl Path {
    /// Reads a path.
    pub(super) fn read(text: &str) -> Result<Self, Status> {
        let wrong = || Status::invalid_argument(format!("Invalid json path: '{text}'"));
        let mut items = Vec::new();
        let mut rest = text;
        loop {
            let (key, after) = key(rest).ok_or_else(wrong)?;
            items.push(Item::Key(key.to_owned()));
            rest = after;
            while let Some(inner) = rest.strip_prefix('[') {
                let (number, after) = inner.split_once(']').ok_or_else(wrong)?;
                items.push(match number {
                    "" => Item::Each,
                    number => Item::Index(number.parse().map_err(|_| wrong())?),
                });
                rest = after;
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if rest.is_empty() => return Ok(Self(items)),
                None => return Err(wrong()),
            }
        }
    }

    /// The path as the server shows it: keys are quoted only where they must be.
    pub(super) fn shown(&self) -> String {
        let mut text = String::new();
        for item in &self.0 {
            match item {
                Item::Key(key) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    match key.is_empty() || !key.chars().all(is_plain) {
                        true => text.push_str(&format!("\"{key}\"")),
                        false => text.push_str(key),
                    }
                }
                Item::Index(index) => text.push_str(&format!("[{index}]")),
                Item::Each => text.push_str("[]"),
            }
        }
        text
    }

    /// The values there.
    pub(super) fn values<'a>(&self, payload: &'a Map<String, Value>) -> Vec<&'a Value> {
        let mut found = Vec::new();
        if let Some((Item::Key(first), rest)) = self.0.split_first()
            && let Some(value) = payload.get(first)
        {
            collect(rest, value, &mut found);
        }
        found
    }
}

fn collect<'a>(path: &[Item], value: &'a Value, found: &mut Vec<&'a Value>) {
    let Some((item, rest)) = path.split_first() else {
        found.push(value);
        return;
    };
    match (item, value) {
        (Item::Key(key), Value::Object(map)) => {
            if let Some(value) = map.get(key) {
                collect(rest, value, found);
            }
        }
        (Item::Index(index), Value::Array(items)) => {
            if let Some(value) = items.get(*index) {
                collect(rest, value, found);
            }
        }
        (Item::Each, Value::Array(items)) => {
            items.iter().for_each(|value| collect(rest, value, found));
        }
        _ => {}
    }
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// The key at the begin of a text, and what follows.
fn key(text: &str) -> Option<(&str, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (key, rest) = quoted.split_once('"')?;
        return (!key.contains('\\')).then_some((key, rest));
    }
    let end = text.find(|c| !is_plain(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_read_as_qdrant_reads_them() {
        let payload = json!({"a": {"b.c": [{"d": 1}, {"d": 2}]}, "ä-1": 3, "": {"": 4}});
        let payload = payload.as_object().unwrap();
        for (text, wanted) in [
            (r#"a."b.c"[].d"#, json!([1, 2])),
            (r#"a."b.c"[1].d"#, json!([2])),
            ("ä-1", json!([3])),
            (r#""".""#, json!(null)),
            (r#""".."""#, json!(null)),
            (r#"""."""#, json!([4])),
            ("a.b", json!([])),
            ("", json!(null)),
            ("a b", json!(null)),
            ("a[x]", json!(null)),
            ("a.", json!(null)),
            (r#""a\b""#, json!(null)),
        ] {
            let found = match Path::read(text) {
                Ok(path) => json!(path.values(payload)),
                Err(_) => Value::Null,
            };
            assert_eq!(found, wanted, "{text}");
        }
        let quoted = Path::read(r#""a"."b c"[]"#).unwrap();
        assert_eq!(quoted.shown(), r#"a."b c"[]"#);
    }
}
