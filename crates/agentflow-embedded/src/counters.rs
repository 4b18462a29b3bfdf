//! Rates and quotas. There is one writer, so reading and then writing is atomic.

use agentflow_storage::counter::{self, Counters, Quota, Rate, Taken};
use agentflow_types::{Result, Timestamp};
use async_trait::async_trait;
use rusqlite::{Connection, params};

use crate::{
    Embedded,
    column::{execute, first, get, time},
};

fn bucket(db: &Connection, key: &str) -> Result<Timestamp> {
    const SQL: &str = "SELECT full_at FROM agentflow_buckets WHERE key = ?1";
    Ok(first(db, SQL, [key], |row| time(row, 0))?.unwrap_or_default())
}

/// What is spent, and until when it counts; `None` if nothing is.
fn quota(db: &Connection, key: &str, now: Timestamp) -> Result<Option<(u64, Timestamp)>> {
    const SQL: &str = "SELECT spent, until FROM agentflow_quotas WHERE key = ?1 AND until > ?2";
    first(db, SQL, params![key, now.0], |row| {
        Ok((get::<i64>(row, 0)?.unsigned_abs(), time(row, 1)?))
    })
}

fn put_quota(db: &Connection, key: &str, spent: u64, until: Timestamp) -> Result<()> {
    const SQL: &str = "INSERT INTO agentflow_quotas (key, spent, until) VALUES (?1, ?2, ?3)
        ON CONFLICT (key) DO UPDATE SET (spent, until) = (excluded.spent, excluded.until)";
    let spent = i64::try_from(spent).unwrap_or(i64::MAX);
    execute(db, SQL, params![key, spent, until.0]).map(drop)
}

#[async_trait]
impl Counters for Embedded {
    async fn take(&self, key: &str, n: u64, rate: Rate, now: Timestamp) -> Result<Taken> {
        const SQL: &str = "INSERT INTO agentflow_buckets (key, full_at) VALUES (?1, ?2)
            ON CONFLICT (key) DO UPDATE SET full_at = excluded.full_at";
        counter::check(key, n)?;
        let key = key.to_owned();
        self.write(move |db| {
            let (full_at, taken) = counter::take(bucket(db, &key)?, n, rate, now)?;
            if taken.is_granted() && n > 0 {
                execute(db, SQL, params![key, full_at.0])?;
            }
            Ok(taken)
        })
        .await
    }

    async fn spend(&self, key: &str, n: u64, asked: Quota, now: Timestamp) -> Result<Taken> {
        counter::check(key, n)?;
        let key = key.to_owned();
        self.write(move |db| {
            let (spent, until) = quota(db, &key, now)?.unwrap_or((0, asked.until));
            let (spent, taken) = counter::spend(spent, n, Quota { until, ..asked }, now);
            if taken.is_granted() && n > 0 {
                put_quota(db, &key, spent, until)?;
            }
            Ok(taken)
        })
        .await
    }

    async fn refund(&self, key: &str, n: u64, now: Timestamp) -> Result<()> {
        counter::check(key, n)?;
        let key = key.to_owned();
        self.write(move |db| match quota(db, &key, now)? {
            None => Ok(()),
            Some((spent, until)) => put_quota(db, &key, spent.saturating_sub(n), until),
        })
        .await
    }

    async fn spent(&self, key: &str, now: Timestamp) -> Result<u64> {
        counter::check(key, 0)?;
        let key = key.to_owned();
        self.read_short(move |db| Ok(quota(db, &key, now)?.map_or(0, |(spent, _)| spent)))
            .await
    }

    async fn reset(&self, key: &str) -> Result<()> {
        counter::check(key, 0)?;
        let key = key.to_owned();
        self.write(move |db| {
            execute(db, "DELETE FROM agentflow_buckets WHERE key = ?1", [&key])?;
            execute(db, "DELETE FROM agentflow_quotas WHERE key = ?1", [&key])?;
            Ok(())
        })
        .await
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        const BUCKETS: &str = "DELETE FROM agentflow_buckets WHERE key IN (
            SELECT key FROM agentflow_buckets WHERE full_at <= ?1 LIMIT ?2)";
        const QUOTAS: &str = "DELETE FROM agentflow_quotas WHERE key IN (
            SELECT key FROM agentflow_quotas WHERE until <= ?1 LIMIT ?2)";
        self.write(move |db| {
            let full = execute(db, BUCKETS, params![now.0, limit])? as u64;
            let left = u64::from(limit).saturating_sub(full);
            let over = execute(db, QUOTAS, params![now.0, left as i64])? as u64;
            Ok(full + over)
        })
        .await
    }
}
