//! The worker: takes runs, looks after lost leases, crons, and what has expired.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use agentflow_storage::{
    checkpoint::{CheckpointQuery, Prune},
    record::{Candidate, Change, Run, RunQuery, RunStatus, ThreadRuns},
};
use agentflow_types::{Error, ErrorKind, Map, Result, RunId, Scope, ThreadId, Timestamp, Value};
use tokio_util::sync::CancellationToken;

use super::{Service, runs::Slot};
use crate::machine::{self, Claimed, Progress};

/// Candidates looked at per round.
const CANDIDATES: u32 = 64;
/// Candidates that are claimed per look if other workers look too: the list is soon out of date.
const SHARED_CLAIMS: usize = 8;
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

/// How claims went.
#[derive(Default)]
pub(super) struct Claims {
    /// Looks at the queue.
    looks: AtomicU64,
    pub(super) tried: AtomicU64,
    /// Those that found nothing left: another worker was faster.
    pub(super) missed: AtomicU64,
}

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
        // Goes on while requests are served, after the worker has stopped.
        tokio::spawn(self.clone().hear(CancellationToken::new()));
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
        let (found, full) = self.chosen(found);
        let mut claimed = false;
        for candidate in found {
            let Some(permit) = self.try_slot() else {
                return Ok(self.starve());
            };
            let scope = candidate.scope.clone();
            self.claims.tried.fetch_add(1, Ordering::Relaxed);
            let found = match self.claim(candidate).await {
                // The thread was removed meanwhile, and its runs with it.
                Err(err) if err.kind() == ErrorKind::NotFound => None,
                found => found?,
            };
            if let Some(run) = found {
                claimed = true;
                self.start(scope, run, permit);
            } else {
                self.claims.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(full && claimed)
    }

    /// The candidates that this look tries to claim, and whether it leaves some.
    ///
    /// Workers that share a database see the same list. Each tries a few of it, in an order of its
    /// own that is another one with each look, so that they seldom meet and nobody is forgotten.
    fn chosen(&self, mut found: Vec<Candidate>) -> (Vec<Candidate>, bool) {
        if self.config.exclusive || found.len() == 1 {
            let full = found.len() == CANDIDATES as usize;
            return (found, full);
        }
        let look = self.claims.looks.fetch_add(1, Ordering::Relaxed);
        found.sort_by_cached_key(|candidate| {
            let mut hasher = DefaultHasher::new();
            (&self.config.worker_id, look, candidate.thread_id.0).hash(&mut hasher);
            hasher.finish()
        });
        let more = found.len() > SHARED_CLAIMS;
        found.truncate(SHARED_CLAIMS);
        (found, more)
    }

    /// Notes that work was left, so that the next run that ends rings; true if there is room by
    /// now.
    fn starve(&self) -> bool {
        self.starved.store(true, Ordering::SeqCst);
        self.slots.available_permits() > 0
    }

    async fn claim(&self, candidate: Candidate) -> Result<Option<Run>> {
        let Candidate { scope, thread_id } = candidate;
        let mut claimed = self.try_claim(&scope, thread_id, None).await?;
        if let Some(lost) = claimed.lost {
            let progress = self.progress(thread_id, lost).await?;
            claimed = self.try_claim(&scope, thread_id, Some(progress)).await?;
        }
        self.end_without_worker(&scope, thread_id, claimed.ended)
            .await?;
        Ok(claimed.run)
    }

    async fn try_claim(
        &self,
        scope: &Scope,
        thread: ThreadId,
        progress: Option<Progress>,
    ) -> Result<Claimed> {
        let (now, worker, max) = (self.now(), self.worker(), self.config.max_attempts);
        let (inside, outside) = Slot::new();
        let decide = move |found: Option<&ThreadRuns>| {
            let (changes, claimed) = match found {
                Some(found) => machine::claim(found, &worker, max, progress, now),
                None => (vec![], Claimed::default()),
            };
            inside.put(claimed);
            Ok(changes)
        };
        let threads = &self.backend.threads;
        match threads.decide(scope, thread, Box::new(decide)).await {
            Ok(()) => outside.take(),
            Err(err) if err.kind() == ErrorKind::Uncertain => {
                self.claimed_after_all(outside.take(), err).await
            }
            Err(err) => Err(err),
        }
    }

    /// A claim whose answer was lost, if it was stored: nobody else would execute the run before
    /// its lease is over.
    ///
    /// # Errors
    /// `answer` if it was not stored, or that cannot be seen.
    async fn claimed_after_all(&self, claimed: Result<Claimed>, answer: Error) -> Result<Claimed> {
        let Ok(claimed) = claimed else {
            return Err(answer);
        };
        let lease = claimed.run.as_ref().and_then(|run| run.lease.as_ref());
        let Some((run, lease)) = claimed.run.as_ref().zip(lease) else {
            return Err(answer);
        };
        let until = self.now().plus(self.config.lease);
        let threads = &self.backend.threads;
        match threads.heartbeat(run.run_id, lease.token, until).await {
            Ok(_) => Ok(claimed),
            Err(_) => Err(answer),
        }
    }

    /// When a run made its newest checkpoint.
    pub(super) async fn progress(&self, thread: ThreadId, run_id: RunId) -> Result<Progress> {
        let mut metadata = Map::new();
        metadata.insert("run_id".into(), Value::str(run_id.text()));
        let query = CheckpointQuery {
            thread_id: Some(thread.text()),
            metadata,
            limit: Some(1),
            ..CheckpointQuery::default()
        };
        let found = self.backend.checkpoints.list(&query).await?;
        // Whoever wrote a time that cannot be read is not known to have got on.
        let newest = found
            .first()
            .and_then(|tuple| tuple.checkpoint.ts.parse().ok());
        Ok(Progress { run_id, newest })
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

    /// Removes expired threads, items, events and results of nodes; one bounded round.
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
            gone = gone.max(self.backend.cache.sweep(now, CLEAN).await?);
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
