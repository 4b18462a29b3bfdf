//! What somebody may do, as it is kept with work that goes on after its request.

use crate::{Map, MemoryScope, Permission, Permissions, Scope, Value};

/// Where the permissions are.
const PERMISSIONS: &str = "permissions";
/// Where the limit is.
const MEMORIES: &str = "memories";

/// Permissions and the limit to some memories: what a [`Scope`] says beside whose it is.
///
/// Queued runs and crons keep those of whoever asked for them, so that what they do later is no
/// more than the asker could have done. Nothing of a request's body gets in here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rights {
    permissions: Permissions,
    memories: Option<MemoryScope>,
}

impl Rights {
    /// Those of a scope.
    #[must_use]
    pub fn of(scope: &Scope) -> Self {
        Self {
            permissions: scope.permissions(),
            memories: scope.memories().cloned(),
        }
    }

    /// What is permitted.
    #[must_use]
    pub fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// The memories that they are limited to; `None` for all.
    #[must_use]
    pub fn memories(&self) -> Option<&MemoryScope> {
        self.memories.as_ref()
    }

    /// What both allow. Under two limits that differ nothing of memories is left, because no limit
    /// says that both must hold.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let permissions = self.permissions.and(other.permissions);
        match (&self.memories, &other.memories) {
            (Some(one), Some(two)) if one != two => {
                let of_memories = [Permission::MemoriesRead, Permission::MemoriesWrite];
                let others = permissions.iter().filter(|one| !of_memories.contains(one));
                Self {
                    permissions: others.collect(),
                    memories: Some(one.clone()),
                }
            }
            (one, two) => Self {
                permissions,
                memories: one.clone().or_else(|| two.clone()),
            },
        }
    }

    /// As it is stored.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let words = self.permissions.words().into_iter().map(Value::str);
        let mut map = Map::new();
        map.insert(PERMISSIONS.into(), Value::list(words.collect()));
        if let Some(limit) = &self.memories {
            map.insert(MEMORIES.into(), Value::map(limit.as_map().clone()));
        }
        Value::map(map)
    }

    /// Reads [`Self::to_value`]. What cannot be read permits nothing; words that only a newer
    /// version knows are passed over.
    #[must_use]
    pub fn of_value(stored: &Value) -> Self {
        let words = stored.get(PERMISSIONS).and_then(Value::as_list);
        let words: Vec<&str> = words
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let all = Permission::ALL.iter().copied();
        let permissions = all.filter(|one| words.contains(&one.word())).collect();
        let memories = match stored.get(MEMORIES) {
            None => None,
            Some(limit) => match limit.as_map().map(MemoryScope::new) {
                Some(Ok(limit)) => Some(limit),
                _ => return Self::default(),
            },
        };
        Self {
            permissions,
            memories,
        }
    }

    /// As JSON text; empty if nothing is permitted.
    #[must_use]
    pub fn text(&self) -> String {
        match *self == Self::default() {
            true => String::new(),
            false => self.to_value().json_text(),
        }
    }

    /// Reads [`Self::text`], as [`Self::of_value`].
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let stored: Option<Value> = serde_json::from_str(text).ok();
        stored
            .map(|stored| Self::of_value(&stored))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value;

    fn rights(words: &[&str], limit: Option<&str>) -> Rights {
        let permissions = Permissions::parse(words.iter().copied()).unwrap();
        let scope = Scope::authenticated("t", "p", permissions, Map::new());
        Rights::of(&match limit {
            Some(limit) => scope.within(MemoryScope::parse(limit).unwrap()),
            None => scope,
        })
    }

    const ALICE: &str = r#"{"user_id":"alice"}"#;

    #[test]
    fn what_is_stored_is_read_back() {
        for rights in [
            rights(&[], None),
            rights(&["memories:read", "runs:*"], None),
            rights(&["*"], Some(ALICE)),
        ] {
            assert_eq!(Rights::parse(&rights.text()), rights);
            assert_eq!(Rights::of_value(&rights.to_value()), rights);
            let scope = Scope::new("t", "p").with_rights(&rights);
            assert_eq!(Rights::of(&scope), rights);
        }
    }

    #[test]
    fn what_cannot_be_read_permits_nothing() {
        for stored in [
            value!(null),
            value!("memories:read"),
            value!({"permissions": "memories:read"}),
            value!({"permissions": ["memories:*", "*", 7]}),
            value!({"permissions": ["memories:read"], "memories": {}}),
            value!({"permissions": ["memories:read"], "memories": null}),
        ] {
            assert_eq!(Rights::of_value(&stored), Rights::default(), "{stored}");
        }
        assert_eq!(Rights::parse("no JSON"), Rights::default());
        let newer = value!({"permissions": ["memories:read", "planets:move"]});
        assert_eq!(Rights::of_value(&newer), rights(&["memories:read"], None));
    }

    #[test]
    fn two_are_no_more_than_each() {
        let all = rights(&["*"], None);
        let reader = rights(&["memories:read"], None);
        assert_eq!(all.and(&reader), reader);
        let alice = rights(&["memories:*", "runs:read"], Some(ALICE));
        assert_eq!(all.and(&alice), alice);
        assert_eq!(alice.and(&alice), alice);
        let bob = rights(&["*"], Some(r#"{"user_id":"bob"}"#));
        assert_eq!(alice.and(&bob).permissions().words(), ["runs:read"]);
    }
}
