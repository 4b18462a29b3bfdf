//! The sections `[runs]` and `[crons]`.

use serde::Deserialize;

/// Run execution.
#[derive(Clone, Debug, Deserialize)]
pub struct Runs {
    /// Runs at once.
    pub concurrency: usize,
    /// Attempts per run that make no checkpoint before their server is lost.
    pub max_attempts: u32,
    /// How long a run belongs to a server that does not renew its claim, in seconds.
    pub lease_seconds: u64,
    /// Longest attempt in seconds.
    pub timeout_seconds: u64,
    /// Retention of events of ended runs in seconds.
    pub event_retention_seconds: u64,
    /// Bytes of the newest events that are held for those who listen.
    pub live_event_bytes: usize,
}

/// Crons.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Crons {
    /// What happens to firings that were missed.
    pub missed: Missed,
}

/// What happens to firings that were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// All that a cron missed make one run.
    Once,
    /// They make no run.
    Skip,
    /// Each makes a run.
    All,
}
