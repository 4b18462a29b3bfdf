//! Long-term items: namespaces, keys, JSON values.

use agentflow_types::{Map, Result, Scope, Timestamp};
use async_trait::async_trait;

/// A stored item.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Labels, outermost first; none is empty or holds a dot.
    pub namespace: Vec<String>,
    /// Key within the namespace.
    pub key: String,
    /// The value.
    pub value: Map,
    /// Creation; kept by later puts.
    pub created_at: Timestamp,
    /// Last put.
    pub updated_at: Timestamp,
}

/// A put.
#[derive(Clone, Debug, PartialEq)]
pub struct PutItem {
    /// Labels.
    pub namespace: Vec<String>,
    /// Key.
    pub key: String,
    /// The value.
    pub value: Map,
    /// Minutes to live after the last put or refreshing read; `None` for ever.
    pub ttl_minutes: Option<f64>,
}

/// When something that lives for `ttl_minutes` from `now` ends; `None` if it lives for ever. Less
/// than nothing counts as nothing, and what is not a number as for ever.
#[must_use]
pub fn expiry(now: Timestamp, ttl_minutes: Option<f64>) -> Option<Timestamp> {
    let micros = ttl_minutes.filter(|minutes| !minutes.is_nan())?.max(0.0) * 60e6;
    // The cast saturates.
    Some(now.plus(std::time::Duration::from_micros(micros as u64)))
}

/// Whether a read renews the time to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refresh {
    /// It does.
    #[default]
    Yes,
    /// It does not.
    No,
}

/// Which items to search; all conditions must hold. Sorted by `updated_at`, newest
/// first, then by namespace and key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ItemQuery {
    /// Leading labels; `["a"]` matches `["a"]` and `["a","b"]`, never `["ab"]`.
    pub namespace_prefix: Vec<String>,
    /// Field to condition: a value to equal, or a map of `$eq`, `$ne`, `$gt`, `$gte`, `$lt`,
    /// `$lte` (other operators are `Invalid`). An absent field counts as null; the order
    /// operators hold only between two numbers or two texts.
    pub filter: Map,
    /// Most rows.
    pub limit: u32,
    /// Rows to skip.
    pub offset: u64,
    /// Whether hits renew their time to live.
    pub refresh: Refresh,
}

/// Which namespaces to list, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamespaceQuery {
    /// Leading labels; `*` matches any one label.
    pub prefix: Vec<String>,
    /// Trailing labels; `*` matches any one label.
    pub suffix: Vec<String>,
    /// Namespaces are cut to this many labels and then made distinct.
    pub max_depth: Option<u32>,
    /// Most rows.
    pub limit: u32,
    /// Rows to skip.
    pub offset: u64,
}

/// Stores items. Items whose time to live ended are never returned.
#[async_trait]
pub trait Store: Send + Sync {
    /// Stores items in one transaction; an existing one keeps its creation time.
    async fn put(&self, scope: &Scope, now: Timestamp, items: Vec<PutItem>) -> Result<()>;

    /// The item.
    async fn get(
        &self,
        scope: &Scope,
        now: Timestamp,
        namespace: &[String],
        key: &str,
        refresh: Refresh,
    ) -> Result<Option<Item>>;

    /// Removes the item; one that does not exist is fine.
    async fn delete(&self, scope: &Scope, namespace: &[String], key: &str) -> Result<()>;

    /// Items that match.
    async fn search(&self, scope: &Scope, now: Timestamp, query: &ItemQuery) -> Result<Vec<Item>>;

    /// Namespaces that hold at least one item.
    async fn namespaces(
        &self,
        scope: &Scope,
        now: Timestamp,
        query: &NamespaceQuery,
    ) -> Result<Vec<Vec<String>>>;

    /// Removes items whose time to live ended before `now`, at most `limit`; returns how many.
    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64>;
}
