//! Cases of [`crate::counter::Counters`].

use std::time::Duration;

use agentflow_types::{ErrorKind::Invalid, Result};
use futures_util::future::try_join_all;

use super::{refused, sample::at, suite};
use crate::{
    Backend,
    counter::{MAX_KEY_BYTES, MAX_LIMIT, MAX_PERIOD, Quota, Rate, Taken},
};

suite! {
    ($)
    /// Instantiates the cases of the counters port.
    counter_conformance:
    a_full_bucket_gives_its_limit,
    a_bucket_fills_evenly,
    a_take_is_all_or_nothing,
    more_than_the_limit_is_never_there,
    taking_nothing_tells_what_is_left,
    keys_are_apart,
    a_changed_rate_applies,
    a_clock_that_lags_gains_nothing,
    takes_at_once_stay_within_the_limit,
    rates_at_the_bounds_work,
    a_quota_is_spent,
    a_quota_is_forgotten_in_time,
    spends_at_once_stay_within_the_quota,
    what_was_not_used_is_given_back,
    a_reset_forgets,
    bounds_are_checked,
    sweeping_forgets_nothing_that_counts,
}

/// Six at once, one every ten seconds.
const RATE: Rate = Rate {
    limit: 6,
    period: Duration::from_secs(60),
};
/// Callers at once.
const CROWD: u64 = 40;

fn granted(remaining: u64) -> Taken {
    Taken::Granted { remaining }
}

fn wait(remaining: u64, seconds: u64) -> Taken {
    Taken::Refused {
        remaining,
        retry_after: Some(Duration::from_secs(seconds)),
    }
}

fn never(remaining: u64) -> Taken {
    Taken::Refused {
        remaining,
        retry_after: None,
    }
}

fn until(limit: u64, seconds: i64) -> Quota {
    Quota {
        limit,
        until: at(seconds),
    }
}

async fn take(backend: &Backend, n: u64, seconds: i64) -> Result<Taken> {
    backend.counters.take("k", n, RATE, at(seconds)).await
}

async fn spend(backend: &Backend, n: u64, quota: Quota, seconds: i64) -> Result<Taken> {
    backend.counters.spend("k", n, quota, at(seconds)).await
}

/// At once, then no more.
pub async fn a_full_bucket_gives_its_limit(backend: Backend) -> Result<()> {
    for left in (0..6).rev() {
        assert_eq!(take(&backend, 1, 0).await?, granted(left));
    }
    assert_eq!(take(&backend, 1, 0).await?, wait(0, 10));
    assert_eq!(take(&backend, 1, 4).await?, wait(0, 6));
    Ok(())
}

/// One after ten seconds, all after a minute, never more than all.
pub async fn a_bucket_fills_evenly(backend: Backend) -> Result<()> {
    assert_eq!(take(&backend, 6, 0).await?, granted(0));
    assert_eq!(take(&backend, 1, 10).await?, granted(0));
    assert_eq!(take(&backend, 1, 19).await?, wait(0, 1));
    assert_eq!(take(&backend, 2, 35).await?, granted(0));
    assert_eq!(take(&backend, 6, 9_000).await?, granted(0));
    assert_eq!(take(&backend, 1, 9_000).await?, wait(0, 10));
    Ok(())
}

/// What is refused costs nothing.
pub async fn a_take_is_all_or_nothing(backend: Backend) -> Result<()> {
    assert_eq!(take(&backend, 4, 0).await?, granted(2));
    for _ in 0..3 {
        assert_eq!(take(&backend, 3, 0).await?, wait(2, 10));
    }
    assert_eq!(take(&backend, 2, 0).await?, granted(0));
    Ok(())
}

/// However long one waits.
pub async fn more_than_the_limit_is_never_there(backend: Backend) -> Result<()> {
    assert_eq!(take(&backend, 7, 0).await?, never(6));
    assert_eq!(take(&backend, 2, 0).await?, granted(4));
    assert_eq!(take(&backend, MAX_LIMIT, 0).await?, never(4));
    assert_eq!(spend(&backend, 7, until(6, 60), 0).await?, never(6));
    Ok(())
}

/// And changes nothing.
pub async fn taking_nothing_tells_what_is_left(backend: Backend) -> Result<()> {
    assert_eq!(take(&backend, 0, 0).await?, granted(6));
    assert_eq!(take(&backend, 6, 0).await?, granted(0));
    assert_eq!(take(&backend, 0, 0).await?, granted(0));
    assert_eq!(take(&backend, 0, 20).await?, granted(2));
    assert_eq!(spend(&backend, 0, until(5, 60), 0).await?, granted(5));
    Ok(())
}

/// Also those that look alike; a rate and a quota of one key are two things.
pub async fn keys_are_apart(backend: Backend) -> Result<()> {
    let keys = ["k", "K", "k ", "k:*", "k%", "kü", "{k}", "k'\"\n\\"];
    let rate = Rate { limit: 1, ..RATE };
    for key in keys {
        let taken = backend.counters.take(key, 1, rate, at(0)).await?;
        assert_eq!(taken, granted(0), "{key}");
        let taken = backend.counters.spend(key, 1, until(1, 60), at(0)).await?;
        assert_eq!(taken, granted(0), "{key}");
    }
    for key in keys {
        let taken = backend.counters.take(key, 1, rate, at(0)).await?;
        assert!(!taken.is_granted(), "{key}");
        assert_eq!(backend.counters.spent(key, at(0)).await?, 1, "{key}");
    }
    Ok(())
}

/// From now on: what was taken at the old rate takes as long to come back.
pub async fn a_changed_rate_applies(backend: Backend) -> Result<()> {
    assert_eq!(take(&backend, 3, 0).await?, granted(3));
    let twice = Rate { limit: 12, ..RATE };
    let taken = backend.counters.take("k", 1, twice, at(0)).await?;
    assert_eq!(taken, granted(5));
    let half = Rate { limit: 3, ..RATE };
    let taken = backend.counters.take("k", 3, half, at(0)).await?;
    assert_eq!(taken, wait(1, 35));
    Ok(())
}

/// It sees the bucket as others left it.
pub async fn a_clock_that_lags_gains_nothing(backend: Backend) -> Result<()> {
    assert_eq!(take(&backend, 6, 30).await?, granted(0));
    assert_eq!(take(&backend, 1, 0).await?, wait(0, 40));
    assert_eq!(take(&backend, 1, 40).await?, granted(0));
    Ok(())
}

/// Exactly the limit is granted.
pub async fn takes_at_once_stay_within_the_limit(backend: Backend) -> Result<()> {
    let rate = Rate { limit: 25, ..RATE };
    let all = (0..CROWD).map(|_| backend.counters.take("k", 1, rate, at(0)));
    let all = try_join_all(all).await?;
    assert_eq!(all.iter().filter(|taken| taken.is_granted()).count(), 25);
    Ok(())
}

/// The slowest and the fastest.
pub async fn rates_at_the_bounds_work(backend: Backend) -> Result<()> {
    let slow = Rate {
        limit: 1,
        period: MAX_PERIOD,
    };
    let fast = Rate {
        limit: MAX_LIMIT,
        period: Duration::from_micros(1),
    };
    let many = Rate {
        limit: MAX_LIMIT,
        period: MAX_PERIOD,
    };
    let counters = &backend.counters;
    assert_eq!(counters.take("slow", 1, slow, at(0)).await?, granted(0));
    let refused = Taken::Refused {
        remaining: 0,
        retry_after: Some(MAX_PERIOD - Duration::from_secs(1)),
    };
    assert_eq!(counters.take("slow", 1, slow, at(1)).await?, refused);
    let taken = counters.take("fast", MAX_LIMIT, fast, at(0)).await?;
    assert_eq!(taken, granted(0));
    let taken = counters.take("fast", MAX_LIMIT, fast, at(1_000)).await?;
    assert_eq!(taken, granted(0));
    let taken = counters.take("many", MAX_LIMIT - 1, many, at(0)).await?;
    assert_eq!(taken, granted(1));
    Ok(())
}

/// Until nothing is left.
pub async fn a_quota_is_spent(backend: Backend) -> Result<()> {
    assert_eq!(backend.counters.spent("k", at(0)).await?, 0);
    assert_eq!(spend(&backend, 4, until(6, 60), 0).await?, granted(2));
    assert_eq!(spend(&backend, 3, until(6, 60), 10).await?, wait(2, 50));
    assert_eq!(spend(&backend, 2, until(6, 60), 10).await?, granted(0));
    assert_eq!(backend.counters.spent("k", at(10)).await?, 6);
    // A smaller limit leaves nothing, a greater one more.
    assert_eq!(spend(&backend, 1, until(3, 60), 10).await?, wait(0, 50));
    assert_eq!(spend(&backend, 1, until(9, 60), 10).await?, granted(2));
    Ok(())
}

/// At the moment that the first one named.
pub async fn a_quota_is_forgotten_in_time(backend: Backend) -> Result<()> {
    assert_eq!(spend(&backend, 6, until(6, 60), 0).await?, granted(0));
    assert_eq!(spend(&backend, 1, until(6, 900), 59).await?, wait(0, 1));
    assert_eq!(backend.counters.spent("k", at(60)).await?, 0);
    assert_eq!(spend(&backend, 1, until(6, 900), 60).await?, granted(5));
    assert_eq!(backend.counters.spent("k", at(899)).await?, 1);
    Ok(())
}

/// Exactly the quota is granted.
pub async fn spends_at_once_stay_within_the_quota(backend: Backend) -> Result<()> {
    let all = (0..CROWD).map(|_| spend(&backend, 2, until(50, 60), 0));
    let all = try_join_all(all).await?;
    assert_eq!(all.iter().filter(|taken| taken.is_granted()).count(), 25);
    assert_eq!(backend.counters.spent("k", at(0)).await?, 50);
    Ok(())
}

/// Down to nothing; of a quota that is over, nothing.
pub async fn what_was_not_used_is_given_back(backend: Backend) -> Result<()> {
    let refund = |n, seconds| backend.counters.refund("k", n, at(seconds));
    refund(1, 0).await?;
    assert_eq!(spend(&backend, 5, until(6, 60), 0).await?, granted(1));
    refund(2, 1).await?;
    assert_eq!(backend.counters.spent("k", at(1)).await?, 3);
    assert_eq!(spend(&backend, 3, until(6, 60), 1).await?, granted(0));
    refund(9, 1).await?;
    assert_eq!(backend.counters.spent("k", at(1)).await?, 0);
    assert_eq!(spend(&backend, 6, until(6, 60), 2).await?, granted(0));
    refund(1, 60).await?;
    assert_eq!(spend(&backend, 6, until(6, 90), 60).await?, granted(0));
    Ok(())
}

/// Both the bucket and the quota; nothing of other keys.
pub async fn a_reset_forgets(backend: Backend) -> Result<()> {
    let counters = &backend.counters;
    take(&backend, 6, 0).await?;
    spend(&backend, 6, until(6, 60), 0).await?;
    counters.take("other", 6, RATE, at(0)).await?;
    counters.reset("k").await?;
    counters.reset("never seen").await?;
    assert_eq!(take(&backend, 6, 0).await?, granted(0));
    assert_eq!(spend(&backend, 6, until(6, 60), 0).await?, granted(0));
    assert_eq!(counters.take("other", 1, RATE, at(0)).await?, wait(0, 10));
    Ok(())
}

/// Of keys, numbers and rates.
pub async fn bounds_are_checked(backend: Backend) -> Result<()> {
    let counters = &backend.counters;
    let long = "k".repeat(MAX_KEY_BYTES);
    counters.take(&long, 1, RATE, at(0)).await?;
    for key in ["", "a\0b", &format!("{long}k")] {
        refused(counters.take(key, 1, RATE, at(0)).await, Invalid);
        refused(counters.spend(key, 1, until(1, 60), at(0)).await, Invalid);
        refused(counters.refund(key, 1, at(0)).await, Invalid);
        refused(counters.spent(key, at(0)).await, Invalid);
        refused(counters.reset(key).await, Invalid);
    }
    refused(take(&backend, MAX_LIMIT + 1, 0).await, Invalid);
    let rates = [
        Rate { limit: 0, ..RATE },
        Rate {
            limit: MAX_LIMIT + 1,
            ..RATE
        },
        Rate {
            period: Duration::ZERO,
            ..RATE
        },
        Rate {
            period: MAX_PERIOD + Duration::from_micros(1),
            ..RATE
        },
    ];
    for rate in rates {
        refused(counters.take("k", 1, rate, at(0)).await, Invalid);
    }
    Ok(())
}

/// A few at a time, or nothing where they go by themselves.
pub async fn sweeping_forgets_nothing_that_counts(backend: Backend) -> Result<()> {
    let counters = &backend.counters;
    for key in ["a", "b"] {
        counters.take(key, 1, RATE, at(0)).await?;
        counters.spend(key, 1, until(9, 10), at(0)).await?;
    }
    counters.take("long", 2, RATE, at(0)).await?;
    counters.spend("long", 1, until(9, 20), at(0)).await?;
    assert_eq!(counters.sweep(at(9), 9).await?, 0);
    let mut swept = Vec::new();
    for _ in 0..3 {
        swept.push(counters.sweep(at(10), 3).await?);
    }
    assert!(swept == [3, 1, 0] || swept == [0, 0, 0], "{swept:?}");
    assert_eq!(counters.take("long", 0, RATE, at(10)).await?, granted(5));
    assert_eq!(counters.spent("long", at(10)).await?, 1);
    Ok(())
}
