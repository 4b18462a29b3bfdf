//! The cache, in a table that is not logged: it is empty after a crash of the database.

use std::time::Duration;

use agentflow_storage::cache::{Cache, CacheKey, check_value, path};
use agentflow_types::{Result, Timestamp};
use async_trait::async_trait;

use crate::{
    Postgres,
    column::{Moment, get},
    statement::{Blob, Statement},
};

/// A statement whose first values are the columns `namespace` and `key`.
fn at(sql: &'static str, key: &CacheKey) -> Result<Statement> {
    key.check()?;
    Ok(Statement::new(sql)
        .bind(Some(Blob(path(&key.namespace))))
        .bind(Some(Blob(key.key.as_bytes().to_vec()))))
}

#[async_trait]
impl Cache for Postgres {
    async fn get(&self, key: &CacheKey, now: Timestamp) -> Result<Option<Vec<u8>>> {
        const SQL: &str = "SELECT value FROM agentflow.cache WHERE namespace = $1 AND key = $2
            AND (expires_at IS NULL OR expires_at > $3)";
        let rows = self.read(&at(SQL, key)?.bind(Moment(now))).await?;
        let value = |row| get::<&[u8]>(row, 0).map(<[u8]>::to_vec);
        rows.first().map(value).transpose()
    }

    async fn put(
        &self,
        key: &CacheKey,
        value: Vec<u8>,
        ttl: Option<Duration>,
        now: Timestamp,
    ) -> Result<()> {
        const SQL: &str = "INSERT INTO agentflow.cache (namespace, key, value, expires_at)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (namespace, key)
                DO UPDATE SET (value, expires_at) = (excluded.value, excluded.expires_at)";
        check_value(&value)?;
        let sql = at(SQL, key)?
            .bind(Some(Blob(value)))
            .bind(ttl.map(|ttl| Moment(now.plus(ttl))));
        self.write(&sql).await.map(drop)
    }

    async fn delete(&self, key: &CacheKey) -> Result<()> {
        const SQL: &str = "DELETE FROM agentflow.cache WHERE namespace = $1 AND key = $2";
        self.write(&at(SQL, key)?).await.map(drop)
    }

    async fn clear(&self, namespace: &[String]) -> Result<()> {
        const SQL: &str = "DELETE FROM agentflow.cache
            WHERE substring(namespace FROM 1 FOR length($1)) = $1";
        let sql = Statement::new(SQL).bind(Some(Blob(path(namespace))));
        self.write(&sql).await.map(drop)
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        const SQL: &str = "DELETE FROM agentflow.cache WHERE (namespace, key) IN (
            SELECT namespace, key FROM agentflow.cache WHERE expires_at <= $1
            LIMIT $2 FOR UPDATE SKIP LOCKED)";
        let sql = Statement::new(SQL).bind(Moment(now)).bind(i64::from(limit));
        Ok(self.write(&sql).await?.count)
    }
}
