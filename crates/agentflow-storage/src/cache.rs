//! Results worth keeping for a while, shared by all servers.

use std::time::Duration;

use agentflow_types::{Error, Result, Timestamp};
use async_trait::async_trait;

/// Most bytes of a value.
pub const MAX_VALUE_BYTES: usize = 8 << 20;
/// Most bytes of a key with its labels.
pub const MAX_KEY_BYTES: usize = 4 << 10;
/// Most labels of a namespace.
pub const MAX_LABELS: usize = 32;

/// Where an entry is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey {
    /// Labels, outermost first, of any text; for a graph's node the graph and the node.
    pub namespace: Vec<String>,
    /// Key within the namespace.
    pub key: String,
}

impl CacheKey {
    /// # Errors
    /// `Invalid` if it is too long.
    pub fn check(&self) -> Result<()> {
        let bytes = self.key.len() + self.namespace.iter().map(String::len).sum::<usize>();
        if bytes > MAX_KEY_BYTES || self.namespace.len() > MAX_LABELS {
            return Err(Error::invalid("cache key is too long")
                .with("bytes", bytes)
                .with("labels", self.namespace.len()));
        }
        Ok(())
    }
}

/// Labels as bytes, such that what begins with the bytes of some labels begins with the labels.
#[must_use]
pub fn path(labels: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in labels {
        bytes.extend((label.len() as u32).to_be_bytes());
        bytes.extend(label.as_bytes());
    }
    bytes
}

/// # Errors
/// `Invalid` if a value is too large to be kept.
pub fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(Error::invalid("value is too large for the cache")
            .with("bytes", value.len())
            .with("limit", MAX_VALUE_BYTES));
    }
    Ok(())
}

/// Keeps values for a while. Any entry may be gone at any time; one that is found is the value
/// that was put last and not cleared since.
///
/// # Errors
/// `Invalid` from all methods for keys that are too long.
#[async_trait]
pub trait Cache: Send + Sync {
    /// The value, unless it is too old.
    async fn get(&self, key: &CacheKey, now: Timestamp) -> Result<Option<Vec<u8>>>;

    /// Keeps a value for a time, or for as long as there is room.
    ///
    /// # Errors
    /// `Invalid` if it is larger than [`MAX_VALUE_BYTES`]; what was there stays.
    async fn put(
        &self,
        key: &CacheKey,
        value: Vec<u8>,
        ttl: Option<Duration>,
        now: Timestamp,
    ) -> Result<()>;

    /// Forgets an entry; one that does not exist is fine.
    async fn delete(&self, key: &CacheKey) -> Result<()>;

    /// Forgets the entries of a namespace and of those that begin with its labels; all for an
    /// empty one.
    async fn clear(&self, namespace: &[String]) -> Result<()>;

    /// Removes at most `limit` entries that are too old; returns how many. A backend that removes
    /// them by itself returns 0.
    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64>;
}
