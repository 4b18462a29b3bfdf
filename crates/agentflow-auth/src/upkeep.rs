//! What is done now and then: notes, and cleaning.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use agentflow_types::{Result, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::Auth;

/// Pause between two rounds.
const EVERY: Duration = Duration::from_secs(30);
/// Rows that one step of cleaning removes.
const STEP: u32 = 500;
/// Steps of one round; what is left waits for the next one.
const STEPS: usize = 100;

impl Auth {
    /// Looks after the records until `stop` fires.
    pub async fn upkeep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let is_last = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(EVERY) => false,
            };
            if let Err(err) = self.round().await {
                tracing::warn!(error = %err, "accounts were not looked after");
            }
            if is_last {
                return;
            }
        }
    }

    /// One round: notes uses of keys, removes what is old.
    ///
    /// # Errors
    /// Errors of the backend; uses are then noted in the next round.
    pub(crate) async fn round(&self) -> Result<()> {
        let used: Vec<_> = {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.drain().collect()
        };
        if !used.is_empty()
            && let Err(err) = self.backend.keys.used(&used).await
        {
            let mut waiting = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            for (id, at) in used {
                waiting.entry(id).or_insert(at);
            }
            return Err(err);
        }
        let now = self.now();
        let age = i64::try_from(self.config.audit_retention.as_micros()).unwrap_or(i64::MAX);
        let before = Timestamp(now.micros().saturating_sub(age));
        for _ in 0..STEPS {
            let entries = self.config.audit_entries;
            let audit = self.backend.audit.sweep(before, entries, STEP).await?;
            let sessions = self.backend.sessions.sweep(now, STEP).await?;
            let counters = self.backend.counters.sweep(now, STEP).await?;
            let most = audit.max(sessions).max(counters);
            if most < u64::from(STEP) {
                break;
            }
        }
        Ok(())
    }
}
