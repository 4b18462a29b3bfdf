//! The cache in memory.

use std::time::Duration;

use agentflow_types::{Result, Timestamp};
use async_trait::async_trait;

use super::Memory;
use crate::cache::{Cache, CacheKey, check_value};

#[derive(Clone)]
pub(super) struct Cached {
    value: Vec<u8>,
    until: Option<Timestamp>,
}

impl Cached {
    fn is_live(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

#[async_trait]
impl Cache for Memory {
    async fn get(&self, key: &CacheKey, now: Timestamp) -> Result<Option<Vec<u8>>> {
        key.check()?;
        let tables = self.lock();
        let found = tables.cached.get(key).filter(|entry| entry.is_live(now));
        Ok(found.map(|entry| entry.value.clone()))
    }

    async fn put(
        &self,
        key: &CacheKey,
        value: Vec<u8>,
        ttl: Option<Duration>,
        now: Timestamp,
    ) -> Result<()> {
        key.check()?;
        check_value(&value)?;
        let until = ttl.map(|ttl| now.plus(ttl));
        self.lock()
            .cached
            .insert(key.clone(), Cached { value, until });
        Ok(())
    }

    async fn delete(&self, key: &CacheKey) -> Result<()> {
        key.check()?;
        self.lock().cached.remove(key);
        Ok(())
    }

    async fn clear(&self, namespace: &[String]) -> Result<()> {
        self.lock()
            .cached
            .retain(|key, _| !key.namespace.starts_with(namespace));
        Ok(())
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        let mut tables = self.lock();
        let old = tables
            .cached
            .iter()
            .filter(|(_, entry)| !entry.is_live(now));
        let old: Vec<CacheKey> = old
            .map(|(key, _)| key.clone())
            .take(limit as usize)
            .collect();
        for key in &old {
            tables.cached.remove(key);
        }
        Ok(old.len() as u64)
    }
}
