//! Retry and timeout policies of nodes.

use std::{fmt, sync::Arc, time::Duration};

use agentflow_types::{Error, ErrorKind, Rng};

/// Decides whether an error is worth another attempt.
pub type RetryPredicate = Arc<dyn Fn(&Error) -> bool + Send + Sync>;

/// First wait before a retry, unless the policy says otherwise.
const INITIAL_INTERVAL: Duration = Duration::from_millis(500);
/// Longest wait before a retry, unless the policy says otherwise.
const MAX_INTERVAL: Duration = Duration::from_secs(128);
/// Attempts in all, unless the policy says otherwise.
const MAX_ATTEMPTS: u32 = 3;

/// How often, and how far apart, a failing node is tried again.
///
/// The wait before retry `n` (from 1) is `initial_interval * backoff_factor^(n-1)`, at most
/// `max_interval`, plus up to one second when `jitter` is set.
#[derive(Clone)]
pub struct RetryPolicy {
    /// Wait before the first retry.
    pub initial_interval: Duration,
    /// Growth of the wait per retry.
    pub backoff_factor: f64,
    /// Longest wait, jitter not counted.
    pub max_interval: Duration,
    /// Attempts in all, the first one included.
    pub max_attempts: u32,
    /// Adds a random part of up to one second.
    pub jitter: bool,
    /// Which errors are retried; `None` means [`RetryPolicy::is_transient`].
    pub retry_on: Option<RetryPredicate>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial_interval: INITIAL_INTERVAL,
            backoff_factor: 2.0,
            max_interval: MAX_INTERVAL,
            max_attempts: MAX_ATTEMPTS,
            jitter: true,
            retry_on: None,
        }
    }
}

impl RetryPolicy {
    /// A policy with this many attempts in all and no other change from the default.
    #[must_use]
    pub fn attempts(max_attempts: u32) -> Self {
        Self {
            max_attempts,
            ..Self::default()
        }
    }

    /// Whether an error may go away by itself: `Busy`, `Uncertain` and `Failed` may; a wrong
    /// request, missing rights, damaged data and defects do not.
    #[must_use]
    pub fn is_transient(error: &Error) -> bool {
        matches!(
            error.kind(),
            ErrorKind::Busy | ErrorKind::Uncertain | ErrorKind::Failed
        )
    }

    /// A policy for errors of these kinds only, otherwise the default.
    ///
    /// ```
    /// use agentflow_graph::{NodeOptions, RetryPolicy};
    /// use agentflow_types::ErrorKind;
    ///
    /// // What is busy is asked often, what failed once more; the first policy that fits counts.
    /// let options = NodeOptions {
    ///     retry: Some(RetryPolicy { max_attempts: 10, ..RetryPolicy::on([ErrorKind::Busy]) }),
    ///     more_retries: vec![RetryPolicy { max_attempts: 2, ..RetryPolicy::on([ErrorKind::Failed]) }],
    ///     ..NodeOptions::default()
    /// };
    /// # assert_eq!(options.more_retries.len(), 1);
    /// ```
    #[must_use]
    pub fn on(kinds: impl IntoIterator<Item = ErrorKind>) -> Self {
        let kinds: Vec<ErrorKind> = kinds.into_iter().collect();
        Self {
            retry_on: Some(Arc::new(move |error| kinds.contains(&error.kind()))),
            ..Self::default()
        }
    }

    /// Whether this policy retries `error`.
    #[must_use]
    pub fn matches(&self, error: &Error) -> bool {
        match &self.retry_on {
            Some(predicate) => predicate(error),
            None => Self::is_transient(error),
        }
    }

    /// The wait after `attempt` failed attempts (from 1).
    pub(crate) fn wait(&self, attempt: u32, rng: &dyn Rng) -> Duration {
        let power = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial_interval.as_secs_f64() * self.backoff_factor.powi(power);
        let capped = grown.min(self.max_interval.as_secs_f64()).max(0.0);
        let jitter = if self.jitter { rng.next_f64() } else { 0.0 };
        Duration::from_secs_f64(capped + jitter)
    }
}

/// What counts as progress of a node with an idle timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refresh {
    /// Events that the node sends, graphs and tasks that it calls, and heartbeats.
    #[default]
    Auto,
    /// Heartbeats only.
    Heartbeat,
}

/// How long one attempt of a node may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) run: Option<Duration>,
    pub(crate) idle: Option<Duration>,
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("initial_interval", &self.initial_interval)
            .field("backoff_factor", &self.backoff_factor)
            .field("max_interval", &self.max_interval)
            .field("max_attempts", &self.max_attempts)
            .field("jitter", &self.jitter)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::SeededRng;

    use super::*;

    #[test]
    fn waits_grow_up_to_the_limit() {
        let policy = RetryPolicy {
            jitter: false,
            max_interval: Duration::from_secs(3),
            initial_interval: Duration::from_secs(1),
            ..RetryPolicy::default()
        };
        let rng = SeededRng::new(1);
        let waits: Vec<u64> = (1..=4).map(|n| policy.wait(n, &rng).as_secs()).collect();
        assert_eq!(waits, [1, 2, 3, 3]);
    }

    #[test]
    fn wrong_requests_are_not_retried() {
        let policy = RetryPolicy::default();
        assert!(policy.matches(&Error::failed("x")));
        assert!(!policy.matches(&Error::invalid("x")));
    }
}
