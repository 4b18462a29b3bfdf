//! Names of keys. Every key begins with the prefix, so that one ACL pattern covers all.
//!
//! What a script uses together shares a hash tag, so that a cluster keeps it in one slot. Text
//! of callers is hashed or comes last.

use agentflow_storage::cache;
use agentflow_types::{Error, Result, Scope, ThreadId};
use sha2::{Digest as _, Sha256};

/// Longest prefix.
const MAX_PREFIX: usize = 64;

/// Makes the names of keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    /// # Errors
    /// `Invalid` if the prefix is empty, too long or holds other characters than letters, digits,
    /// `-`, `_`, `.` and `:`; those of ACL patterns and hash tags are among them.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if prefix.is_empty() || prefix.len() > MAX_PREFIX || !prefix.chars().all(is_plain) {
            return Err(Error::invalid(
                "redis.prefix must be 1 to 64 letters, digits or characters of -_.:",
            )
            .with("prefix", prefix));
        }
        Ok(Self {
            prefix: prefix.to_owned(),
        })
    }

    fn name(&self, rest: &str) -> String {
        format!("{}:{rest}", self.prefix)
    }

    /// A hash.
    pub(crate) fn session(&self, key: &str) -> String {
        self.name(&format!("session:{key}"))
    }

    /// A sorted set: keys of a principal's sessions by when they end at the latest.
    pub(crate) fn sessions_of(&self, scope: &Scope) -> String {
        let mut hasher = Sha256::new();
        hasher.update((scope.tenant().len() as u64).to_be_bytes());
        hasher.update(scope.tenant());
        hasher.update(scope.principal());
        self.name(&format!("sessions:{}", hex(&hasher.finalize())))
    }

    /// Text: when a bucket is full.
    pub(crate) fn bucket(&self, key: &str) -> String {
        self.name(&format!("bucket:{key}"))
    }

    /// A hash: what was spent, until when it counts.
    pub(crate) fn quota(&self, key: &str) -> String {
        self.name(&format!("quota:{key}"))
    }

    /// A hash with an entry of the cache, then the marks of its namespaces, outermost first.
    pub(crate) fn cached(&self, key: &cache::CacheKey) -> Vec<String> {
        let labels = &key.namespace;
        let tag = tag(labels);
        let mut whole = cache::path(labels);
        whole.extend(b"=");
        whole.extend(key.key.as_bytes());
        let entry = self.name(&format!("cache:{{{tag}}}:entry:{}", hash(&whole)));
        let depths = if labels.is_empty() {
            0..=0
        } else {
            1..=labels.len()
        };
        let marks = depths.map(|depth| self.mark(&labels[..depth]));
        std::iter::once(entry).chain(marks).collect()
    }

    /// Text: the mark of a namespace.
    pub(crate) fn mark(&self, labels: &[String]) -> String {
        let (tag, whole) = (tag(labels), hash(&cache::path(labels)));
        self.name(&format!("cache:{{{tag}}}:mark:{whole}"))
    }

    /// A set: marks of all outermost namespaces.
    pub(crate) fn marks(&self) -> String {
        self.name("cache:marks")
    }

    /// The stream of wake-ups.
    pub(crate) fn signals(&self) -> String {
        self.name("signals")
    }

    /// The stream of a thread's newest events.
    pub(crate) fn events(&self, thread: ThreadId) -> String {
        self.name(&format!("events:{thread}"))
    }

    /// The checkpoints of a thread.
    pub(crate) fn thread(&self, thread_id: &str) -> ThreadKeys {
        let tag = hash(thread_id.as_bytes());
        let name = |kind: &str| self.name(&format!("checkpoints:{{{tag}}}:{kind}"));
        ThreadKeys(["about", "ids", "rows", "blobs", "writes", "tasks"].map(name))
    }

    /// A hash: the threads that have checkpoints, with their generations.
    pub(crate) fn threads(&self) -> String {
        self.name("checkpoints:threads")
    }

    /// Keys of one slot that are used and removed when a connection is tried.
    pub(crate) fn probe(&self) -> [String; 4] {
        ["text", "hash", "set", "stream"].map(|kind| self.name(&format!("{{probe}}:{kind}")))
    }
}

/// Keys of a thread's checkpoints, all in one slot.
pub(crate) struct ThreadKeys([String; 6]);

impl ThreadKeys {
    /// As scripts take them.
    pub(crate) fn all(&self) -> &[String] {
        &self.0
    }

    /// A hash: what is known of the thread.
    pub(crate) fn about(&self) -> &str {
        &self.0[0]
    }

    /// A sorted set by name: fields of checkpoints.
    pub(crate) fn ids(&self) -> &str {
        &self.0[1]
    }

    /// A hash: checkpoints without their large values.
    pub(crate) fn rows(&self) -> &str {
        &self.0[2]
    }

    /// A hash: the large values.
    pub(crate) fn blobs(&self) -> &str {
        &self.0[3]
    }

    /// A hash: writes of tasks.
    pub(crate) fn writes(&self) -> &str {
        &self.0[4]
    }

    /// A sorted set by name: fields of writes.
    pub(crate) fn tasks(&self) -> &str {
        &self.0[5]
    }
}

/// Outermost label: all namespaces below it are in one slot.
fn tag(labels: &[String]) -> String {
    hash(labels.first().map_or("", String::as_str).as_bytes())
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_together_has_one_tag() {
        let keys = Keys::new("af").unwrap();
        let key = cache::CacheKey {
            namespace: vec!["g}".into(), "n".into()],
            key: "k".into(),
        };
        let names = keys.cached(&key);
        assert_eq!(names.len(), 3);
        let tag = |name: &str| {
            let (_, rest) = name.split_once('{').unwrap();
            rest.split_once('}').unwrap().0.to_owned()
        };
        assert!(names.iter().all(|name| tag(name) == tag(&names[0])));
        assert_eq!(names[1], keys.mark(&key.namespace[..1]));
        let none = cache::CacheKey::default();
        assert_eq!(keys.cached(&none)[1..], [keys.mark(&[])]);
    }

    #[test]
    fn a_prefix_is_plain() {
        for prefix in ["", "a*", "{a}", "a b", "ü", &"a".repeat(65)] {
            assert!(Keys::new(prefix).is_err(), "{prefix}");
        }
        assert!(Keys::new("prod:agent-flow_1.x").is_ok());
    }
}
