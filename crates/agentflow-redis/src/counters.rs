//! Rates and quotas, by scripts: one round trip each.

use agentflow_storage::counter::{self, Counters, Quota, Rate, Taken};
use agentflow_types::{Result, Timestamp};
use async_trait::async_trait;
use redis::cmd;

use crate::{Redis, link::Repeat, scripts, ttl_ms};

/// Greatest number that Lua's floats hold exactly.
const MAX_EXACT: u64 = 1 << 53;

#[async_trait]
impl Counters for Redis {
    async fn take(&self, key: &str, n: u64, rate: Rate, now: Timestamp) -> Result<Taken> {
        counter::check(key, n)?;
        let interval = rate.interval_micros()?;
        let units = |n: u64| {
            i64::try_from(n)
                .unwrap_or(i64::MAX)
                .saturating_mul(interval)
        };
        // More than a full bucket holds is not asked for.
        let asked = if n <= rate.limit { units(n) } else { 0 };
        let values = [now.0, asked, units(rate.limit)].map(|number| number.to_string());
        let values = values.each_ref().map(|text| text.as_bytes());
        let names = [self.inner.keys.bucket(key)];
        // If the answer is lost and it is taken twice, less is granted than might be.
        let taken = self
            .inner
            .link
            .script(&scripts::TAKE, &names, &values, Repeat::Yes);
        let (granted, full_at): (u8, i64) = taken.await?;
        let n = if granted == 1 { 0 } else { n };
        Ok(counter::take(Timestamp(full_at), n, rate, now)?.1)
    }

    async fn spend(&self, key: &str, n: u64, quota: Quota, now: Timestamp) -> Result<Taken> {
        counter::check(key, n)?;
        let limit = quota.limit.min(MAX_EXACT);
        let texts = [
            now.0.to_string(),
            n.to_string(),
            limit.to_string(),
            quota.until.0.to_string(),
            ttl_ms(std::time::Duration::MAX).to_string(),
        ];
        let values = texts.each_ref().map(|text| text.as_bytes());
        let names = [self.inner.keys.quota(key)];
        let spent = self
            .inner
            .link
            .script(&scripts::SPEND, &names, &values, Repeat::No);
        let (granted, spent, until): (u8, u64, i64) = spent.await?;
        let n = if granted == 1 { 0 } else { n };
        let quota = Quota {
            limit: quota.limit,
            until: Timestamp(until),
        };
        Ok(counter::spend(spent, n, quota, now).1)
    }

    async fn refund(&self, key: &str, n: u64, now: Timestamp) -> Result<()> {
        counter::check(key, n)?;
        let texts = [now.0.to_string(), n.to_string()];
        let values = texts.each_ref().map(|text| text.as_bytes());
        let names = [self.inner.keys.quota(key)];
        let refund = self
            .inner
            .link
            .script(&scripts::REFUND, &names, &values, Repeat::No);
        refund.await
    }

    async fn spent(&self, key: &str, now: Timestamp) -> Result<u64> {
        counter::check(key, 0)?;
        let mut command = cmd("HMGET");
        command.arg(self.inner.keys.quota(key));
        command.arg(&["spent", "until"]);
        let found: (Option<u64>, Option<i64>) = self.inner.link.run(&command, Repeat::Yes).await?;
        Ok(match found {
            (Some(spent), Some(until)) if now < Timestamp(until) => spent,
            _ => 0,
        })
    }

    async fn reset(&self, key: &str) -> Result<()> {
        counter::check(key, 0)?;
        for name in [self.inner.keys.bucket(key), self.inner.keys.quota(key)] {
            let mut command = cmd("DEL");
            command.arg(name);
            let _: u64 = self.inner.link.run(&command, Repeat::Yes).await?;
        }
        Ok(())
    }

    async fn sweep(&self, _: Timestamp, _: u32) -> Result<u64> {
        Ok(0)
    }
}
