//! Remembering what nodes wrote: a node whose input was seen before does not run again.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentflow_storage::msgpack;
use agentflow_types::{Clock, Result, Str, SystemClock, Timestamp, Value};
use async_trait::async_trait;
use indexmap::IndexMap;
use xxhash_rust::xxh3::xxh3_128;

/// Most entries that [`MemoryCache`] keeps unless it is told otherwise.
pub const DEFAULT_CACHE_ENTRIES: usize = 10_000;

/// What a cached task wrote: channel and value, in order.
pub type CachedWrites = Vec<(Str, Value)>;
/// Makes the key of a node's input.
pub type CacheKeyFn = Arc<dyn Fn(&Value) -> Vec<u8> + Send + Sync>;

/// Where an entry of a cache is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// Graph and node, or the name of a functional task.
    pub namespace: Vec<String>,
    /// Hash of the input's key.
    pub key: String,
}

/// Keeps what tasks wrote. A port: bring your own, or use [`MemoryCache`].
#[async_trait]
pub trait Cache: Send + Sync {
    /// The entry, unless it is too old.
    async fn get(&self, key: &CacheKey) -> Result<Option<CachedWrites>>;

    /// Keeps an entry, for ever or for a time.
    async fn set(&self, key: CacheKey, writes: CachedWrites, ttl: Option<Duration>) -> Result<()>;

    /// Forgets the entries of a namespace and of those that begin with it; all for an empty one.
    async fn clear(&self, namespace: &[String]) -> Result<()>;
}

/// How a node's results are cached. They are, when the [`Runtime`](crate::Runtime) has a cache.
///
/// ```
/// use std::{sync::{Arc, atomic::{AtomicU32, Ordering}}, time::Duration};
/// use agentflow_graph::{
///     CachePolicy, Channel, GraphBuilder, Invocation, MemoryCache, NodeOptions, Runtime, START,
/// };
/// use agentflow_types::{Value, value};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let asked = Arc::new(AtomicU32::new(0));
/// let count = asked.clone();
/// let mut builder = GraphBuilder::new("weather");
/// let options = NodeOptions {
///     cache: Some(CachePolicy::default().ttl(Duration::from_secs(60))),
///     ..NodeOptions::default()
/// };
/// builder
///     .channel("city", Channel::last_value())
///     .channel("sky", Channel::last_value())
///     .node_with("ask", options, move |_, _| {
///         count.fetch_add(1, Ordering::Relaxed);
///         async { Ok(value!({"sky": "blue"}).into()) }
///     })
///     .edge(START, "ask");
/// let graph = builder.compile()?;
/// let runtime = Runtime { cache: Some(Arc::new(MemoryCache::default())), ..Runtime::default() };
/// for _ in 0..3 {
///     let out = graph.run(&runtime, Invocation::new(value!({"city": "Oslo"})), None).await?;
///     assert_eq!(out.values.get("sky").and_then(Value::as_str), Some("blue"));
/// }
/// assert_eq!(asked.load(Ordering::Relaxed), 1);
/// # Ok::<(), agentflow_types::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct CachePolicy {
    /// Makes the key of an input; `None` for the whole input.
    pub key: Option<CacheKeyFn>,
    /// How long an entry lives; `None` for ever.
    pub ttl: Option<Duration>,
}

impl CachePolicy {
    /// The policy with a lifetime of entries.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The policy with a function that makes the key of an input.
    #[must_use]
    pub fn key(mut self, key: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.key = Some(Arc::new(key));
        self
    }

    /// Where the result for an input is.
    pub(crate) fn entry(&self, namespace: Vec<String>, input: &Value) -> CacheKey {
        let bytes = match &self.key {
            Some(key) => key(input),
            None => msgpack::encode(input),
        };
        CacheKey {
            namespace,
            key: format!("{:032x}", xxh3_128(&bytes)),
        }
    }
}

impl fmt::Debug for CachePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachePolicy")
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// A cache in this process. When it is full, the entry that was written longest ago goes.
pub struct MemoryCache {
    /// Guards all entries.
    entries: Mutex<IndexMap<CacheKey, Entry>>,
    limit: usize,
    clock: Arc<dyn Clock>,
}

struct Entry {
    writes: CachedWrites,
    until: Option<Timestamp>,
}

impl Default for MemoryCache {
    fn default() -> Self {
        Self::new(DEFAULT_CACHE_ENTRIES, Arc::new(SystemClock))
    }
}

impl MemoryCache {
    /// A cache with room for `limit` entries (at least one).
    pub fn new(limit: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            entries: Mutex::default(),
            limit: limit.max(1),
            clock,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, IndexMap<CacheKey, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &CacheKey) -> Result<Option<CachedWrites>> {
        let now = self.clock.now();
        let mut entries = self.lock();
        match entries.get(key) {
            Some(entry) if entry.until.is_none_or(|until| now < until) => {
                Ok(Some(entry.writes.clone()))
            }
            Some(_) => {
                entries.shift_remove(key);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    async fn set(&self, key: CacheKey, writes: CachedWrites, ttl: Option<Duration>) -> Result<()> {
        let micros = |ttl: Duration| i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
        let until = ttl.map(|ttl| Timestamp(self.clock.now().0.saturating_add(micros(ttl))));
        let mut entries = self.lock();
        // Entries are in the order in which they were written.
        entries.shift_remove(&key);
        if entries.len() >= self.limit {
            entries.shift_remove_index(0);
        }
        entries.insert(key, Entry { writes, until });
        Ok(())
    }

    async fn clear(&self, namespace: &[String]) -> Result<()> {
        self.lock()
            .retain(|key, _| !key.namespace.starts_with(namespace));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::{ManualClock, value};

    use super::*;

    fn key(n: i64) -> CacheKey {
        CachePolicy::default().entry(vec!["g".into(), "n".into()], &Value::Int(n))
    }

    #[tokio::test]
    async fn entries_end_with_their_time_and_with_the_room() {
        let clock = Arc::new(ManualClock::at(Timestamp(0)));
        let cache = MemoryCache::new(2, clock.clone());
        let writes: CachedWrites = vec![("a".into(), value!(1))];
        let ttl = Some(Duration::from_secs(1));
        cache.set(key(1), writes.clone(), ttl).await.unwrap();
        assert_eq!(cache.get(&key(1)).await.unwrap(), Some(writes.clone()));
        clock.advance(Duration::from_secs(1));
        assert_eq!(cache.get(&key(1)).await.unwrap(), None);
        for n in 1..=3 {
            cache.set(key(n), writes.clone(), None).await.unwrap();
        }
        assert_eq!(cache.get(&key(1)).await.unwrap(), None, "the oldest went");
        assert!(cache.get(&key(3)).await.unwrap().is_some());
        cache.clear(&["other".into()]).await.unwrap();
        assert!(cache.get(&key(3)).await.unwrap().is_some());
        cache.clear(&["g".into()]).await.unwrap();
        assert!(cache.get(&key(3)).await.unwrap().is_none());
    }

    #[test]
    fn the_key_function_decides_what_is_the_same() {
        let policy = CachePolicy::default().key(|input| {
            let id = input.get("id").and_then(Value::as_i64).unwrap_or(0);
            id.to_be_bytes().to_vec()
        });
        let entry = |input: Value| policy.entry(Vec::new(), &input);
        assert_eq!(
            entry(value!({"id": 1, "x": 1})),
            entry(value!({"id": 1, "x": 2}))
        );
        assert_ne!(entry(value!({"id": 1})), entry(value!({"id": 2})));
    }
}
