//! What nodes wrote, remembered by the storage's cache: by Redis if there is one, else by the
//! database. Tenants do not see each other's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use agentflow_graph::{Cache, CacheKey, CachedWrites};
use agentflow_storage::{cache, msgpack::typed::Codec};
use agentflow_types::{Clock as _, Error, Result, Scope, SystemClock, Value};
use async_trait::async_trait;

/// Outermost label of all that is remembered.
const NODES: &str = "nodes";

/// The cache of all tenants.
pub(crate) struct Remembered {
    inner: Arc<Inner>,
}

struct Inner {
    cache: Arc<dyn cache::Cache>,
    /// Results may hold what checkpoints hold, so they are encrypted as those are.
    codec: Codec,
    /// Whether the cache was away when it was asked last; said once.
    is_away: AtomicBool,
}

/// The cache of one tenant.
struct OfTenant {
    inner: Arc<Inner>,
    tenant: String,
}

impl Remembered {
    pub(crate) fn new(cache: Arc<dyn cache::Cache>, codec: Codec) -> Self {
        Self {
            inner: Arc::new(Inner {
                cache,
                codec,
                is_away: AtomicBool::new(false),
            }),
        }
    }

    /// What runs of a tenant share.
    pub(crate) fn of(&self, scope: &Scope) -> Arc<dyn Cache> {
        Arc::new(OfTenant {
            inner: self.inner.clone(),
            tenant: scope.tenant().to_owned(),
        })
    }
}

impl OfTenant {
    fn namespace(&self, labels: &[String]) -> Vec<String> {
        let own = [NODES.to_owned(), self.tenant.clone()];
        own.into_iter().chain(labels.iter().cloned()).collect()
    }

    fn place(&self, key: &CacheKey) -> cache::CacheKey {
        cache::CacheKey {
            namespace: self.namespace(&key.namespace),
            key: key.key.clone(),
        }
    }

    fn read(&self, bytes: &[u8]) -> Result<CachedWrites> {
        let wrong = || Error::corrupt("what a node wrote is not remembered as it was");
        let at = bytes.iter().position(|byte| *byte == b'\n');
        let (word, rest) = bytes
            .split_at_checked(at.ok_or_else(wrong)?)
            .ok_or_else(wrong)?;
        let word = std::str::from_utf8(word).map_err(|_| wrong())?;
        let value = self.inner.codec.load(word, &rest[1..])?;
        let writes = value.as_list().ok_or_else(wrong)?.iter();
        let write = |write: &Value| match write.as_list() {
            Some([Value::Str(channel), value]) => Ok((channel.clone(), value.clone())),
            _ => Err(wrong()),
        };
        writes.map(write).collect()
    }
}

#[async_trait]
impl Cache for OfTenant {
    /// A cache that is away, or has what cannot be read, remembers nothing: the node runs.
    async fn get(&self, key: &CacheKey) -> Result<Option<CachedWrites>> {
        let inner = &self.inner;
        let found = inner.cache.get(&self.place(key), SystemClock.now()).await;
        let was_away = inner.is_away.swap(found.is_err(), Relaxed);
        let read = found.and_then(|found| found.map(|bytes| self.read(&bytes)).transpose());
        Ok(read.unwrap_or_else(|err| {
            if !was_away {
                tracing::warn!(error = %err, "nodes run although their results may be cached");
            }
            None
        }))
    }

    async fn set(&self, key: CacheKey, writes: CachedWrites, ttl: Option<Duration>) -> Result<()> {
        let inner = &self.inner;
        if inner.is_away.load(Relaxed) {
            return Ok(());
        }
        let pair = |(channel, value)| Value::list(vec![Value::Str(channel), value]);
        let value = Value::list(writes.into_iter().map(pair).collect());
        let (word, bytes) = inner.codec.dump(&value)?;
        let stored = [word.as_bytes(), b"\n", &bytes].concat();
        let (place, now) = (self.place(&key), SystemClock.now());
        inner.cache.put(&place, stored, ttl, now).await
    }

    async fn clear(&self, namespace: &[String]) -> Result<()> {
        self.inner.cache.clear(&self.namespace(namespace)).await
    }
}

#[cfg(test)]
mod tests {
    use agentflow_storage::{cipher::Cipher, memory::Memory};
    use agentflow_types::value;

    use super::*;

    fn key(name: &str) -> CacheKey {
        CacheKey {
            namespace: vec!["graph".into(), "node".into()],
            key: name.into(),
        }
    }

    #[tokio::test]
    async fn tenants_remember_apart() {
        let secret = Codec::encrypted(Cipher::new("0123456789abcdef").unwrap());
        for codec in [Codec::plain(), secret] {
            let all = Remembered::new(Memory::open().cache, codec);
            let tenant = |name| all.of(&Scope::new(name, "somebody"));
            let writes: CachedWrites = vec![("a".into(), value!({"b": [1, null]}))];
            let (one, two) = (tenant("one"), tenant("two"));
            one.set(key("k"), writes.clone(), None).await.unwrap();
            assert_eq!(one.get(&key("k")).await.unwrap(), Some(writes));
            assert_eq!(two.get(&key("k")).await.unwrap(), None);
            two.clear(&[]).await.unwrap();
            assert!(one.get(&key("k")).await.unwrap().is_some());
            one.clear(&["graph".into()]).await.unwrap();
            assert_eq!(one.get(&key("k")).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_computed_again() {
        let backend = Memory::open();
        let secret = Codec::encrypted(Cipher::new("0123456789abcdef").unwrap());
        let scope = Scope::local();
        let sealed = Remembered::new(backend.cache.clone(), secret).of(&scope);
        sealed.set(key("k"), vec![], None).await.unwrap();
        let plain = Remembered::new(backend.cache, Codec::plain()).of(&scope);
        assert_eq!(plain.get(&key("k")).await.unwrap(), None);
    }
}
