//! The memories that somebody is limited to.

use std::{fmt, sync::Arc};

use crate::{Error, Map, Result, Value};

/// Fields that name an owner.
const OWNERS: [&str; 4] = ["user_id", "agent_id", "app_id", "run_id"];
/// Where entries of the metadata are.
const METADATA: &str = "metadata";
/// Most bytes of a name, a key or a text.
const MAX_BYTES: usize = 256;
/// Most entries of the metadata.
const MAX_ENTRIES: usize = 16;

/// A limit to some memories: those that have all of these owners, and all of these entries in
/// their metadata.
///
/// It is no filter of a client: it has no operators, so that what is added can be checked against
/// it as well as what is read.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryScope(Arc<Map>);

impl MemoryScope {
    /// Reads `{"user_id": "alice", "metadata": {"team": "red"}}`.
    ///
    /// # Errors
    /// `Unprocessable` if it names nothing, or something else than owners and simple metadata.
    pub fn new(given: &Map) -> Result<Self> {
        let wrong = |text: String| Err(Error::unprocessable(format!("memory_scope: {text}")));
        if given.is_empty() {
            return wrong(format!(
                "must name one of {}, {METADATA}",
                OWNERS.join(", ")
            ));
        }
        for (key, value) in given {
            let is_fine = match (OWNERS.contains(&&**key), value) {
                (true, Value::Str(name)) => is_short(name),
                (false, Value::Map(entries)) if **key == *METADATA => is_simple(entries),
                _ => false,
            };
            if !is_fine {
                return wrong(format!(
                    "{key:?} is none of {} with a text, or {METADATA} with up to {MAX_ENTRIES} \
                    texts, whole numbers or booleans, of up to {MAX_BYTES} bytes each",
                    OWNERS.join(", ")
                ));
            }
        }
        Ok(Self(Arc::new(given.clone())))
    }

    /// Reads [`Self::text`].
    ///
    /// # Errors
    /// As [`Self::new`]; `Unprocessable` too if it is no JSON object.
    pub fn parse(text: &str) -> Result<Self> {
        let json: Option<Value> = serde_json::from_str(text).ok();
        match json.as_ref().and_then(Value::as_map) {
            Some(map) => Self::new(map),
            None => Err(Error::unprocessable("memory_scope: must be a JSON object")),
        }
    }

    /// As JSON text.
    #[must_use]
    pub fn text(&self) -> String {
        Value::map((*self.0).clone()).json_text()
    }

    /// As it was given.
    #[must_use]
    pub fn as_map(&self) -> &Map {
        &self.0
    }

    /// The owner that a memory must have in this field.
    #[must_use]
    pub fn owner(&self, field: &str) -> Option<&str> {
        self.0.get(field).and_then(Value::as_str)
    }

    /// Entries that its metadata must have.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &Value)> {
        let entries = self.0.get(METADATA).and_then(Value::as_map);
        let entries = entries.into_iter().flatten();
        entries.map(|(key, value)| (&**key, value))
    }

    /// Whether everything of this user is within.
    #[must_use]
    pub fn has_user(&self, user: &str) -> bool {
        self.0.len() == 1 && self.owner("user_id") == Some(user)
    }
}

impl fmt::Display for MemoryScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

fn is_short(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= MAX_BYTES && !text.contains('\0')
}

fn is_simple(entries: &Map) -> bool {
    let mut all = entries.iter();
    (1..=MAX_ENTRIES).contains(&entries.len())
        && all.all(|(key, value)| {
            is_short(key)
                && match value {
                    Value::Str(text) => is_short(text),
                    Value::Int(_) | Value::Bool(_) => true,
                    _ => false,
                }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_names_owners_and_simple_metadata() {
        for good in [
            r#"{"user_id":"alice"}"#,
            r#"{"user_id":"*"}"#,
            r#"{"agent_id":"a","metadata":{"team":"red","n":3,"yes":true}}"#,
        ] {
            let scope = MemoryScope::parse(good).unwrap();
            assert_eq!(MemoryScope::parse(&scope.text()).unwrap(), scope);
        }
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"user_id":""}"#,
            r#"{"user_id":7}"#,
            r#"{"user_id":{"ne":"alice"}}"#,
            r#"{"userId":"alice"}"#,
            r#"{"OR":[{"user_id":"alice"}]}"#,
            r#"{"metadata":{}}"#,
            r#"{"metadata":{"x":1.5}}"#,
            r#"{"metadata":{"x":null}}"#,
            r#"{"metadata":"x"}"#,
        ] {
            assert!(MemoryScope::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_user_is_within_only_if_nothing_else_is_asked_of_a_memory() {
        let scope = |text: &str| MemoryScope::parse(text).unwrap();
        assert!(scope(r#"{"user_id":"a"}"#).has_user("a"));
        assert!(!scope(r#"{"user_id":"a"}"#).has_user("b"));
        assert!(!scope(r#"{"user_id":"a","run_id":"r"}"#).has_user("a"));
    }
}
