//! Rates and quotas in memory.

use agentflow_types::{Result, Timestamp};
use async_trait::async_trait;

use super::Memory;
use crate::counter::{self, Counters, Quota, Rate, Taken};

/// What was spent, and until when it counts.
#[derive(Clone)]
pub(super) struct Spent {
    amount: u64,
    until: Timestamp,
}

#[async_trait]
impl Counters for Memory {
    async fn take(&self, key: &str, n: u64, rate: Rate, now: Timestamp) -> Result<Taken> {
        counter::check(key, n)?;
        let mut tables = self.lock();
        let before = tables.buckets.get(key).copied().unwrap_or_default();
        let (after, taken) = counter::take(before, n, rate, now)?;
        if taken.is_granted() && n > 0 {
            tables.buckets.insert(key.to_owned(), after);
        }
        Ok(taken)
    }

    async fn spend(&self, key: &str, n: u64, quota: Quota, now: Timestamp) -> Result<Taken> {
        counter::check(key, n)?;
        let mut tables = self.lock();
        let known = tables.quotas.get(key).filter(|spent| now < spent.until);
        let (amount, until) = known.map_or((0, quota.until), |spent| (spent.amount, spent.until));
        let (amount, taken) = counter::spend(amount, n, Quota { until, ..quota }, now);
        if taken.is_granted() && n > 0 {
            tables
                .quotas
                .insert(key.to_owned(), Spent { amount, until });
        }
        Ok(taken)
    }

    async fn refund(&self, key: &str, n: u64, now: Timestamp) -> Result<()> {
        counter::check(key, n)?;
        let mut tables = self.lock();
        let spent = tables.quotas.get_mut(key);
        if let Some(spent) = spent.filter(|spent| now < spent.until) {
            spent.amount = spent.amount.saturating_sub(n);
        }
        Ok(())
    }

    async fn spent(&self, key: &str, now: Timestamp) -> Result<u64> {
        counter::check(key, 0)?;
        let tables = self.lock();
        let spent = tables.quotas.get(key).filter(|spent| now < spent.until);
        Ok(spent.map_or(0, |spent| spent.amount))
    }

    async fn reset(&self, key: &str) -> Result<()> {
        counter::check(key, 0)?;
        let mut tables = self.lock();
        tables.buckets.remove(key);
        tables.quotas.remove(key);
        Ok(())
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        let mut tables = self.lock();
        let full = tables
            .buckets
            .iter()
            .filter(|(_, full_at)| **full_at <= now);
        let full: Vec<String> = full
            .map(|(key, _)| key.clone())
            .take(limit as usize)
            .collect();
        for key in &full {
            tables.buckets.remove(key);
        }
        let over = tables.quotas.iter().filter(|(_, spent)| spent.until <= now);
        let over: Vec<String> = over
            .map(|(key, _)| key.clone())
            .take(limit as usize - full.len())
            .collect();
        for key in &over {
            tables.quotas.remove(key);
        }
        Ok((full.len() + over.len()) as u64)
    }
}
