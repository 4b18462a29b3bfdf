//! The worker: takes runs, looks after lost leases, crons, and what has expired.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use agentflow_storage::{
    checkpoint::Prune,
    record::{Candidate, Change, Run, RunQuery, RunStatus, ThreadRuns},
};
use agentflow_types::{Result, Scope, ThreadId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{Service, runs::Slot};
use crate::machine::{self, Claimed};

/// Candidates looked at per round.
const CANDIDATES: u32 = 64;
/// Threads with work that are looked at when an exclusive worker starts; leases on others run out
/// by themselves.
const TAKE_OVER: u32 = 100_000;
/// Rows that one step of cleaning removes.
const CLEAN: u32 = 500;
/// Steps of one round of cleaning; what is left waits for the next round.
const CLEAN_STEPS: usize = 100;
/// Strategy of a time to live that removes only old checkpoints.
const KEEP_LATEST: &str = "keep_latest";
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
        let dispatcher = tokio::spawn(self.clone().dispatch(shutdown.clone()));
        let hearing = tokio::spawn(self.clone().hear(CancellationToken::new()));
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
        // Ends within the time of one delivery; what it could not note is delivered again.
        if let Err(err) = dispatcher.await {
            tracing::error!(error = %err, "the dispatcher of webhooks panicked");
        }
        hearing.abort();
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
        let threads = &self.backend.threads;
        // Every lease on an exclusive database belongs to a process that is gone, and ends within
        // one lease length from now.
        let horizon = self.now().plus(self.config.lease * 2);
        for Candidate { scope, thread_id } in threads.candidates(horizon, TAKE_OVER).await? {
            let query = RunQuery {
                thread_id: Some(thread_id),
                status: Some(RunStatus::Running),
                limit: 1,
                ..RunQuery::default()
            };
            for run in threads.runs(&scope, &query).await? {
                if let Some(lease) = run.lease {
                    // Over means before now.
                    let past = Timestamp(self.now().micros() - 1);
                    threads.heartbeat(run.run_id, lease.token, past).await?;
                }
            }
        }
        Ok(())
    }

    /// Claims what can be claimed; true if there may be more.
    async fn round(self: &Arc<Self>) -> Result<bool> {
        if self.slots.available_permits() == 0 {
            return Ok(self.starve());
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
                return Ok(self.starve());
            };
            let scope = candidate.scope.clone();
            if let Some(run) = self.claim(candidate).await? {
                claimed = true;
                self.start(scope, run, permit);
            }
        }
        Ok(full && claimed)
    }

    /// Notes that work was left, so that the next run that ends rings; true if there is room by
    /// now.
    fn starve(&self) -> bool {
        self.starved.store(true, Ordering::SeqCst);
        self.slots.available_permits() > 0
    }

    async fn claim(&self, candidate: Candidate) -> Result<Option<Run>> {
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
        self.end_without_worker(&candidate.scope, thread, ended)
            .await?;
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
        let before = ago(now, self.config.event_retention);
        let old_letters = ago(now, self.config.delivery.keep_dead);
        for _ in 0..CLEAN_STEPS {
            let expired = self.backend.threads.expired(now, CLEAN).await?;
            let mut gone = expired.len() as u64;
            for Candidate { scope, thread_id } in expired {
                self.expire_thread(&scope, thread_id, now).await?;
            }
            gone = gone.max(self.backend.store.sweep(now, CLEAN).await?);
            gone = gone.max(self.backend.events.expire(before, CLEAN).await?);
            gone = gone.max(self.backend.outbox.forget(old_letters, CLEAN).await?);
            if gone < u64::from(CLEAN) {
                break;
            }
        }
        Ok(())
    }

    /// Applies the time to live of a thread. A thread in use, or of which the latest checkpoint
    /// is kept, gets a new term.
    async fn expire_thread(&self, scope: &Scope, id: ThreadId, now: Timestamp) -> Result<()> {
        let (inside, outside) = Slot::new();
        let decide = move |found: Option<&ThreadRuns>| {
            let Some(found) = found else {
                inside.put(false);
                return Ok(vec![]);
            };
            let ttl = found.thread.ttl.as_ref();
            let keeps = ttl.is_none_or(|ttl| ttl.strategy == KEEP_LATEST);
            inside.put(keeps && found.live.is_empty());
            if found.live.is_empty() && !keeps {
                return Ok(vec![Change::DeleteThread]);
            }
            let mut thread = found.thread.clone();
            thread.updated_at = now;
            Ok(vec![Change::PutThread(Box::new(thread))])
        };
        let threads = &self.backend.threads;
        threads.decide(scope, id, Box::new(decide)).await?;
        if outside.take()? {
            let checkpoints = &self.backend.checkpoints;
            checkpoints.prune(&[id.text()], Prune::KeepLatest).await?;
        }
        Ok(())
    }
}

/// The moment that long before `now`.
fn ago(now: Timestamp, keep: Duration) -> Timestamp {
    let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    Timestamp(now.micros().saturating_sub(keep))
}
