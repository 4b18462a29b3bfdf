//! Rates and quotas. What is granted is written by one statement that checks as it writes, under
//! the lock of the row; what is refused writes nothing.

use agentflow_storage::counter::{self, Counters, Quota, Rate, Taken};
use agentflow_types::{Error, Result, Timestamp};
use async_trait::async_trait;

use crate::{
    Postgres,
    column::{Moment, count, get, time, unsigned},
    statement::Statement,
};

/// Times that a refusal is looked at again because it was none any more: somebody reset the
/// counter, or its time ended.
const TRIES: usize = 4;

fn restless() -> Error {
    Error::busy("a counter is reset all the time")
}

impl Postgres {
    async fn bucket(&self, key: &str) -> Result<Timestamp> {
        const SQL: &str = "SELECT full_at_micros FROM agentflow.buckets WHERE key = $1";
        let rows = self.read(&Statement::new(SQL).bind(key.to_owned())).await?;
        let found = rows.first().map(|row| get(row, 0)).transpose()?;
        Ok(found.map_or_else(Timestamp::default, Timestamp))
    }

    /// What is spent, and until when it counts; `None` if nothing is.
    async fn quota(&self, key: &str, now: Timestamp) -> Result<Option<(u64, Timestamp)>> {
        const SQL: &str = "SELECT spent, until FROM agentflow.quotas WHERE key = $1 AND until > $2";
        let sql = Statement::new(SQL).bind(key.to_owned()).bind(Moment(now));
        let rows = self.read(&sql).await?;
        let read = |row| Ok((unsigned(row, 0)?, time(row, 1)?));
        rows.first().map(read).transpose()
    }

    /// Takes from a bucket; the moment at which it is full again, or `None` if it has too little.
    async fn try_take(
        &self,
        key: &str,
        taken: i64,
        capacity: i64,
        now: Timestamp,
    ) -> Result<Option<Timestamp>> {
        const SQL: &str = "INSERT INTO agentflow.buckets AS b (key, full_at_micros)
            VALUES ($1, $2::bigint + $3::bigint)
            ON CONFLICT (key) DO UPDATE
                SET full_at_micros = GREATEST(b.full_at_micros, $2) + $3
                WHERE GREATEST(b.full_at_micros, $2) + $3 <= $2 + $4::bigint
            RETURNING full_at_micros";
        let sql = Statement::new(SQL)
            .bind(key.to_owned())
            .bind(now.0)
            .bind(taken)
            .bind(capacity);
        let done = self.write(&sql).await?;
        let full_at = done.rows.first().map(|row| get(row, 0)).transpose()?;
        Ok(full_at.map(Timestamp))
    }

    /// Takes from a quota; what is spent then, or `None` if too little is left.
    async fn try_spend(
        &self,
        key: &str,
        n: u64,
        quota: Quota,
        now: Timestamp,
    ) -> Result<Option<u64>> {
        const SQL: &str = "INSERT INTO agentflow.quotas AS q (key, spent, until)
            VALUES ($1, $2, $3)
            ON CONFLICT (key) DO UPDATE SET
                spent = excluded.spent + CASE WHEN q.until > $4 THEN q.spent ELSE 0 END,
                until = CASE WHEN q.until > $4 THEN q.until ELSE excluded.until END
                WHERE q.until <= $4 OR q.spent + excluded.spent <= $5
            RETURNING spent";
        let sql = Statement::new(SQL)
            .bind(key.to_owned())
            .bind(count(n))
            .bind(Moment(quota.until))
            .bind(Moment(now))
            .bind(count(quota.limit));
        let done = self.write(&sql).await?;
        done.rows.first().map(|row| unsigned(row, 0)).transpose()
    }
}

#[async_trait]
impl Counters for Postgres {
    async fn take(&self, key: &str, n: u64, rate: Rate, now: Timestamp) -> Result<Taken> {
        counter::check(key, n)?;
        let interval = rate.interval_micros()?;
        let units = |n: u64| count(n).saturating_mul(interval);
        let is_possible = (1..=rate.limit).contains(&n);
        for _ in 0..TRIES {
            if is_possible {
                let done = self.try_take(key, units(n), units(rate.limit), now);
                if let Some(full_at) = done.await? {
                    return Ok(counter::take(full_at, 0, rate, now)?.1);
                }
            }
            let (_, taken) = counter::take(self.bucket(key).await?, n, rate, now)?;
            if !taken.is_granted() || n == 0 {
                return Ok(taken);
            }
        }
        Err(restless())
    }

    async fn spend(&self, key: &str, n: u64, quota: Quota, now: Timestamp) -> Result<Taken> {
        counter::check(key, n)?;
        let is_possible = (1..=quota.limit).contains(&n);
        for _ in 0..TRIES {
            if is_possible && let Some(spent) = self.try_spend(key, n, quota, now).await? {
                return Ok(counter::spend(spent, 0, quota, now).1);
            }
            let (spent, until) = self.quota(key, now).await?.unwrap_or((0, quota.until));
            let (_, taken) = counter::spend(spent, n, Quota { until, ..quota }, now);
            if !taken.is_granted() || n == 0 {
                return Ok(taken);
            }
        }
        Err(restless())
    }

    async fn refund(&self, key: &str, n: u64, now: Timestamp) -> Result<()> {
        const SQL: &str = "UPDATE agentflow.quotas SET spent = GREATEST(0, spent - $2)
            WHERE key = $1 AND until > $3";
        counter::check(key, n)?;
        let sql = Statement::new(SQL)
            .bind(key.to_owned())
            .bind(count(n))
            .bind(Moment(now));
        self.write(&sql).await.map(drop)
    }

    async fn spent(&self, key: &str, now: Timestamp) -> Result<u64> {
        counter::check(key, 0)?;
        Ok(self.quota(key, now).await?.map_or(0, |(spent, _)| spent))
    }

    async fn reset(&self, key: &str) -> Result<()> {
        counter::check(key, 0)?;
        let delete = |sql: &'static str| Statement::new(sql).bind(key.to_owned());
        self.atomic(vec![
            delete("DELETE FROM agentflow.buckets WHERE key = $1"),
            delete("DELETE FROM agentflow.quotas WHERE key = $1"),
        ])
        .await
        .map(drop)
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        const QUOTAS: &str = "DELETE FROM agentflow.quotas WHERE key IN (
            SELECT key FROM agentflow.quotas WHERE until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
        const BUCKETS: &str = "DELETE FROM agentflow.buckets WHERE key IN (
            SELECT key FROM agentflow.buckets WHERE full_at_micros <= $1
            LIMIT $2 FOR UPDATE SKIP LOCKED)";
        let buckets = Statement::new(BUCKETS).bind(now.0).bind(i64::from(limit));
        let full = self.write(&buckets).await?.count;
        let left = u64::from(limit).saturating_sub(full);
        let quotas = Statement::new(QUOTAS).bind(Moment(now)).bind(count(left));
        Ok(full + self.write(&quotas).await?.count)
    }
}
