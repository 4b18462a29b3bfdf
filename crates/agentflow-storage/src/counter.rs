//! Rate limits and quotas, shared by all servers.

use std::time::Duration;

use agentflow_types::{Error, Result, Timestamp};
use async_trait::async_trait;

/// Most bytes of a key.
pub const MAX_KEY_BYTES: usize = 512;
/// Greatest limit of a rate, and the greatest number that may be asked for at once.
pub const MAX_LIMIT: u64 = 1_000_000_000;
/// Longest period of a rate.
pub const MAX_PERIOD: Duration = Duration::from_secs(366 * 24 * 3600);

/// How much may be taken: at once `limit`, and as much again evenly over each `period`.
///
/// A bucket that is full at first and refilled all the time, not a window that begins anew: no
/// moment exists at which all wait for the same second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What a full bucket holds, from 1 to [`MAX_LIMIT`].
    pub limit: u64,
    /// How long an empty one takes to fill, above zero, up to [`MAX_PERIOD`].
    pub period: Duration,
}

impl Rate {
    /// Microseconds that one unit takes to come back: rounded up, so that never more is granted
    /// than asked for.
    ///
    /// # Errors
    /// `Invalid` if limit or period are out of bounds.
    pub fn interval_micros(&self) -> Result<i64> {
        let in_bounds = (1..=MAX_LIMIT).contains(&self.limit)
            && !self.period.is_zero()
            && self.period <= MAX_PERIOD;
        if !in_bounds {
            return Err(Error::invalid("rate is out of bounds")
                .with("limit", self.limit)
                .with("period_ms", self.period.as_millis()));
        }
        let micros = self.period.as_micros().div_ceil(u128::from(self.limit));
        Ok(i64::try_from(micros).unwrap_or(i64::MAX).max(1))
    }
}

/// How much may be taken until a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What may be taken in all.
    pub limit: u64,
    /// When the count is forgotten, for example at the end of the month.
    pub until: Timestamp,
}

/// What became of a request to take some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken.
    Granted {
        /// What is left now.
        remaining: u64,
    },
    /// Nothing was taken.
    Refused {
        /// What is left now; less than was asked for.
        remaining: u64,
        /// How long until as much as was asked for may be there, if nobody else takes of it;
        /// `None` if it is more than there ever can be.
        retry_after: Option<Duration>,
    },
}

impl Taken {
    /// Whether it was taken.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted { .. })
    }
}

/// Takes `n` from a bucket: the moment at which it will be full again, and what became of it.
///
/// `full_at`: when the bucket would be full again before; a moment that is past, or the epoch
/// for one that nobody used, means full. The moment moves only if it was granted.
///
/// # Errors
/// `Invalid` if the rate is out of bounds.
///
/// Source: the generic cell rate algorithm of ITU-T I.371, with a burst of `limit` cells.
pub fn take(full_at: Timestamp, n: u64, rate: Rate, now: Timestamp) -> Result<(Timestamp, Taken)> {
    let interval = rate.interval_micros()?;
    let units = |n: u64| {
        i64::try_from(n)
            .unwrap_or(i64::MAX)
            .saturating_mul(interval)
    };
    let capacity = units(rate.limit);
    let start = full_at.0.max(now.0);
    // What is left lies between the moment at which the bucket is full and that of an empty one.
    let left = now.0.saturating_add(capacity).saturating_sub(start);
    let remaining = |left: i64| (left.max(0) / interval).unsigned_abs();
    if n > rate.limit {
        let refused = Taken::Refused {
            remaining: remaining(left),
            retry_after: None,
        };
        return Ok((full_at, refused));
    }
    let missing = units(n).saturating_sub(left);
    if missing > 0 {
        let refused = Taken::Refused {
            remaining: remaining(left),
            retry_after: Some(Duration::from_micros(missing.unsigned_abs())),
        };
        return Ok((full_at, refused));
    }
    let granted = Taken::Granted {
        remaining: remaining(left - units(n)),
    };
    Ok((Timestamp(start.saturating_add(units(n))), granted))
}

/// Takes `n` from what a quota leaves after `spent`: what is spent then, and what became of it.
#[must_use]
pub fn spend(spent: u64, n: u64, quota: Quota, now: Timestamp) -> (u64, Taken) {
    let remaining = quota.limit.saturating_sub(spent);
    if n <= remaining {
        let granted = Taken::Granted {
            remaining: remaining - n,
        };
        return (spent + n, granted);
    }
    let refused = Taken::Refused {
        remaining,
        retry_after: (n <= quota.limit).then(|| quota.until.since(now)),
    };
    (spent, refused)
}

/// Checks a key and a number.
///
/// # Errors
/// `Invalid` if the key is empty, too long or holds NUL, or the number is too large.
pub fn check(key: &str, n: u64) -> Result<()> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(Error::invalid("counter key is empty or too long")
            .with("bytes", key.len())
            .with("limit", MAX_KEY_BYTES));
    }
    if key.contains('\0') {
        return Err(Error::invalid("counter key holds NUL"));
    }
    if n > MAX_LIMIT {
        return Err(Error::invalid("too much for one request")
            .with("n", n)
            .with("limit", MAX_LIMIT));
    }
    Ok(())
}

/// Counts what was taken, for all servers together.
///
/// Keys are of the caller's making and should begin with what they are about and the tenant; a
/// rate and a quota under the same key are two things. Taking is atomic: of many at once exactly
/// as many are granted as there is room for. A backend that loses its data has forgotten what
/// was taken.
///
/// # Errors
/// `Invalid` from all methods as [`check`] says.
#[async_trait]
pub trait Counters: Send + Sync {
    /// Takes `n` from the bucket of a key, all of it or nothing. Taking nothing tells what is
    /// left. A rate that changed applies from now on. A clock that lags behind others takes from
    /// what was left by their time.
    ///
    /// # Errors
    /// `Invalid` if the rate is out of bounds.
    async fn take(&self, key: &str, n: u64, rate: Rate, now: Timestamp) -> Result<Taken>;

    /// Takes `n` from the quota of a key, all of it or nothing. Whoever takes first decides until
    /// when the count lasts; later ones may change the limit, not the moment.
    async fn spend(&self, key: &str, n: u64, quota: Quota, now: Timestamp) -> Result<Taken>;

    /// Gives back what was spent from a quota but not used, down to nothing.
    async fn refund(&self, key: &str, n: u64, now: Timestamp) -> Result<()>;

    /// What is spent of the quota of a key.
    async fn spent(&self, key: &str, now: Timestamp) -> Result<u64>;

    /// Forgets the bucket and the quota of a key.
    async fn reset(&self, key: &str) -> Result<()>;

    /// Removes at most `limit` buckets that are full and quotas that are over; returns how many. A
    /// backend that removes them by itself returns 0.
    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn an_interval_is_rounded_up() {
        let micros = |limit, period| Rate { limit, period }.interval_micros().unwrap();
        assert_eq!(micros(7, Duration::from_secs(1)), 142_858);
        assert_eq!(micros(60, MINUTE), 1_000_000);
        assert_eq!(micros(MAX_LIMIT, Duration::from_micros(1)), 1);
        assert_eq!(micros(1, MAX_PERIOD), 31_622_400_000_000);
    }

    #[test]
    fn numbers_at_the_bounds_do_not_overflow() {
        let rate = Rate {
            limit: MAX_LIMIT,
            period: MAX_PERIOD,
        };
        let (full_at, taken) = take(Timestamp(i64::MAX), u64::MAX, rate, Timestamp(0)).unwrap();
        assert_eq!(full_at, Timestamp(i64::MAX));
        let refused = Taken::Refused {
            remaining: 0,
            retry_after: None,
        };
        assert_eq!(taken, refused);
        let (_, taken) = take(Timestamp(i64::MIN), 1, rate, Timestamp(i64::MAX)).unwrap();
        assert!(!taken.is_granted(), "time ends there");
    }
}
