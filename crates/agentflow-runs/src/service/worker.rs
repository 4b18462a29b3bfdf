//! The worker: takes runs, looks after lost leases, crons, and what has expired.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use agentflow_storage::record::{Candidate, RunQuery, RunStatus, ThreadRuns};
use agentflow_types::{Result, Scope};
use tokio_util::sync::CancellationToken;

use super::{Service, runs::Slot};
use crate::machine::{self, Claimed};

/// Candidates looked at per round.
const CANDIDATES: u32 = 64;
/// Rows that one round of cleaning removes.
const CLEAN: u32 = 500;
/// Pause between rounds of cleaning.
const CLEAN_EVERY: Duration = Duration::from_secs(30);

impl Service {
    /// Takes and executes runs until `shutdown` fires, then lets running work go on for the
    /// drain time and gives back what is left.
    ///
    /// # Errors
    /// Errors of the backend at start; later ones are logged and retried.
    pub async fn run_worker(self: &Arc<Self>, shutdown: CancellationToken) -> Result<()> {
        if self.config.exclusive {
            self.take_over().await?;
        }
        self.working.store(true, Ordering::Release);
        let cleaner = tokio::spawn(self.clone().clean(shutdown.clone()));
        while !shutdown.is_cancelled() {
            let more = match self.round().await {
                Ok(more) => more,
                Err(err) => {
                    tracing::error!(error = %err, "the worker could not look for runs");
                    false
                }
            };
            if more {
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.bell.notified() => {}
                () = tokio::time::sleep(self.config.poll) => {}
            }
        }
        self.working.store(false, Ordering::Release);
        self.drain().await;
        cleaner.abort();
        Ok(())
    }

    /// Waits for executing runs, then gives back those that are still going.
    async fn drain(&self) {
        self.tasks.close();
        if tokio::time::timeout(self.config.drain_timeout, self.tasks.wait())
            .await
            .is_err()
        {
            self.released.cancel();
            self.tasks.wait().await;
        }
    }

    /// Gives runs whose process is gone back to the queue, at once.
    async fn take_over(&self) -> Result<()> {
        // Every lease on an exclusive database belongs to a process that is gone: leases end
        // within one lease length from now.
        let horizon = self.now().plus(self.config.lease * 2);
        loop {
            let found = self.backend.threads.candidates(horizon, CANDIDATES).await?;
            let mut any = false;
            for Candidate { scope, thread_id } in found {
                let query = RunQuery {
                    thread_id: Some(thread_id),
                    status: Some(RunStatus::Running),
                    limit: CANDIDATES,
                    ..RunQuery::default()
                };
                for run in self.backend.threads.runs(&scope, &query).await? {
                    let Some(lease) = run.lease else { continue };
                    let past = self.now();
                    self.backend
                        .threads
                        .heartbeat(run.run_id, lease.token, past)
                        .await?;
                    any |= lease.expires_at > past;
                }
            }
            if !any {
                return Ok(());
            }
        }
    }

    /// Claims what can be claimed; true if there may be more.
    async fn round(self: &Arc<Self>) -> Result<bool> {
        if self.slots.available_permits() == 0 {
            return Ok(false);
        }
        let found = self
            .backend
            .threads
            .candidates(self.now(), CANDIDATES)
            .await?;
        let full = found.len() == CANDIDATES as usize;
        let mut claimed = false;
        for candidate in found {
            let Some(permit) = self.try_slot() else {
                return Ok(false);
            };
            let scope = candidate.scope.clone();
            if let Some(run) = self.claim(candidate).await? {
                claimed = true;
                self.start(scope, run, permit);
            }
        }
        Ok(full && claimed)
    }

    async fn claim(&self, candidate: Candidate) -> Result<Option<agentflow_storage::record::Run>> {
        let (now, worker, max) = (self.now(), self.worker(), self.config.max_attempts);
        let (inside, outside) = Slot::new();
        let decide = move |found: Option<&ThreadRuns>| {
            let (changes, claimed) = match found {
                Some(found) => machine::claim(found, &worker, max, now),
                None => (vec![], Claimed::default()),
            };
            inside.put(claimed);
            Ok(changes)
        };
        let thread = candidate.thread_id;
        self.backend
            .threads
            .decide(&candidate.scope, thread, Box::new(decide))
            .await?;
        let Claimed { run, ended } = outside.take()?;
        self.end_without_worker(thread, ended).await?;
        Ok(run)
    }

    /// Fires crons and removes what has expired, until stopped.
    async fn clean(self: Arc<Self>, shutdown: CancellationToken) {
        let mut next_clean = tokio::time::Instant::now();
        while !shutdown.is_cancelled() {
            if let Err(err) = self.fire_crons().await {
                tracing::error!(error = %err, "crons could not be fired");
            }
            if tokio::time::Instant::now() >= next_clean {
                next_clean = tokio::time::Instant::now() + CLEAN_EVERY;
                if let Err(err) = self.remove_expired().await {
                    tracing::error!(error = %err, "expired data could not be removed");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(self.config.poll) => {}
            }
        }
    }

    /// Removes expired threads, items and events; one bounded round.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn remove_expired(&self) -> Result<()> {
        let now = self.now();
        for Candidate { scope, thread_id } in self.backend.threads.expired(now, CLEAN).await? {
            self.expire_thread(&scope, thread_id).await?;
        }
        self.backend.store.sweep(now, CLEAN).await?;
        let keep = i64::try_from(self.config.event_retention.as_micros()).unwrap_or(i64::MAX);
        let before = agentflow_types::Timestamp(now.micros().saturating_sub(keep));
        self.backend.events.expire(before, CLEAN).await?;
        Ok(())
    }

    async fn expire_thread(&self, scope: &Scope, id: agentflow_types::ThreadId) -> Result<()> {
        let Some(thread) = self.backend.threads.get(scope, id).await? else {
            return Ok(());
        };
        match thread.ttl.as_ref().map(|ttl| ttl.strategy.as_str()) {
            Some("keep_latest") => {
                let prune = agentflow_storage::checkpoint::Prune::KeepLatest;
                self.backend.checkpoints.prune(&[id.text()], prune).await
            }
            _ => self.delete_thread(scope, id).await,
        }
    }
}
