//! Faults of what may be lost: sessions, counters, the cache.

use std::time::Duration;

use agentflow_types::{Result, Scope, Timestamp};
use async_trait::async_trait;

use super::{Faulty, Write};
use crate::{
    cache::{Cache, CacheKey},
    counter::{Counters, Quota, Rate, Taken},
    session::{Session, SessionKey, Sessions},
};

#[async_trait]
impl Sessions for Faulty {
    async fn create(&self, key: SessionKey, session: Session) -> Result<()> {
        let call = self.inner.sessions.create(key, session);
        self.write(Write::CreateSession, call).await
    }
    async fn get(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>> {
        self.alive()?;
        self.inner.sessions.get(key, now).await
    }
    async fn touch(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>> {
        let call = self.inner.sessions.touch(key, now);
        self.write(Write::TouchSession, call).await
    }
    async fn delete(&self, key: SessionKey) -> Result<bool> {
        let call = self.inner.sessions.delete(key);
        self.write(Write::DeleteSession, call).await
    }
    async fn delete_all(&self, scope: &Scope) -> Result<u64> {
        let call = self.inner.sessions.delete_all(scope);
        self.write(Write::DeleteSessions, call).await
    }
    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        let call = self.inner.sessions.sweep(now, limit);
        self.write(Write::SweepSessions, call).await
    }
}

#[async_trait]
impl Counters for Faulty {
    async fn take(&self, key: &str, n: u64, rate: Rate, now: Timestamp) -> Result<Taken> {
        let call = self.inner.counters.take(key, n, rate, now);
        self.write(Write::Take, call).await
    }
    async fn spend(&self, key: &str, n: u64, quota: Quota, now: Timestamp) -> Result<Taken> {
        let call = self.inner.counters.spend(key, n, quota, now);
        self.write(Write::Spend, call).await
    }
    async fn refund(&self, key: &str, n: u64, now: Timestamp) -> Result<()> {
        let call = self.inner.counters.refund(key, n, now);
        self.write(Write::Refund, call).await
    }
    async fn spent(&self, key: &str, now: Timestamp) -> Result<u64> {
        self.alive()?;
        self.inner.counters.spent(key, now).await
    }
    async fn reset(&self, key: &str) -> Result<()> {
        let call = self.inner.counters.reset(key);
        self.write(Write::Reset, call).await
    }
    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        let call = self.inner.counters.sweep(now, limit);
        self.write(Write::SweepCounters, call).await
    }
}

#[async_trait]
impl Cache for Faulty {
    async fn get(&self, key: &CacheKey, now: Timestamp) -> Result<Option<Vec<u8>>> {
        self.alive()?;
        self.inner.cache.get(key, now).await
    }
    async fn put(
        &self,
        key: &CacheKey,
        value: Vec<u8>,
        ttl: Option<Duration>,
        now: Timestamp,
    ) -> Result<()> {
        let call = self.inner.cache.put(key, value, ttl, now);
        self.write(Write::PutCached, call).await
    }
    async fn delete(&self, key: &CacheKey) -> Result<()> {
        let call = self.inner.cache.delete(key);
        self.write(Write::DeleteCached, call).await
    }
    async fn clear(&self, namespace: &[String]) -> Result<()> {
        let call = self.inner.cache.clear(namespace);
        self.write(Write::ClearCache, call).await
    }
    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        let call = self.inner.cache.sweep(now, limit);
        self.write(Write::SweepCache, call).await
    }
}
