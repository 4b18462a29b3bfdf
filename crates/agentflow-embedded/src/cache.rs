//! The cache.

use std::time::Duration;

use agentflow_storage::cache::{Cache, CacheKey, check_value, path};
use agentflow_types::{Result, Timestamp};
use async_trait::async_trait;
use rusqlite::params;

use crate::{
    Embedded,
    column::{bytes, execute, first},
};

/// The columns `namespace` and `key`.
fn place(key: &CacheKey) -> Result<(Vec<u8>, Vec<u8>)> {
    key.check()?;
    Ok((path(&key.namespace), key.key.as_bytes().to_vec()))
}

#[async_trait]
impl Cache for Embedded {
    async fn get(&self, key: &CacheKey, now: Timestamp) -> Result<Option<Vec<u8>>> {
        const SQL: &str = "SELECT value FROM agentflow_cache WHERE namespace = ?1 AND key = ?2
            AND (expires_at IS NULL OR expires_at > ?3)";
        let (namespace, key) = place(key)?;
        self.read_short(move |db| {
            first(db, SQL, params![namespace, key, now.0], |row| {
                Ok(bytes(row, 0)?.to_vec())
            })
        })
        .await
    }

    async fn put(
        &self,
        key: &CacheKey,
        value: Vec<u8>,
        ttl: Option<Duration>,
        now: Timestamp,
    ) -> Result<()> {
        const SQL: &str = "INSERT OR REPLACE INTO agentflow_cache
            (namespace, key, value, expires_at) VALUES (?1, ?2, ?3, ?4)";
        check_value(&value)?;
        let (namespace, key) = place(key)?;
        let end = ttl.map(|ttl| now.plus(ttl).0);
        self.write(move |db| execute(db, SQL, params![namespace, key, value, end]).map(drop))
            .await
    }

    async fn delete(&self, key: &CacheKey) -> Result<()> {
        const SQL: &str = "DELETE FROM agentflow_cache WHERE namespace = ?1 AND key = ?2";
        let (namespace, key) = place(key)?;
        self.write(move |db| execute(db, SQL, params![namespace, key]).map(drop))
            .await
    }

    async fn clear(&self, namespace: &[String]) -> Result<()> {
        // A part of an empty blob is null.
        const SQL: &str = "DELETE FROM agentflow_cache
            WHERE length(?1) = 0 OR substr(namespace, 1, length(?1)) = ?1";
        let namespace = path(namespace);
        self.write(move |db| execute(db, SQL, [namespace]).map(drop))
            .await
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        const SQL: &str = "DELETE FROM agentflow_cache WHERE rowid IN (
            SELECT rowid FROM agentflow_cache WHERE expires_at <= ?1 LIMIT ?2)";
        self.write(move |db| Ok(execute(db, SQL, params![now.0, limit])? as u64))
            .await
    }
}
