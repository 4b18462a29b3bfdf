//! Waiting for a database that is away, so that running work goes on when it is back.
//!
//! A database that restarts, fails over or is cut off answers `Busy` or `Uncertain` for a while.
//! Whoever executes a run, or reads one that goes on, asks again: reads, and writes that may be
//! applied twice. After the time of their [`Patience`] they give up with an error of class
//! [`UNAVAILABLE`], by which a run is told from one whose graph failed.

use std::{sync::Arc, time::Duration};

use agentflow_storage::{
    checkpoint::{
        CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Checkpoints, Fence, Prune,
        Rest, delta::DeltaHistory, usage::Usage,
    },
    store::{Item, ItemQuery, NamespaceQuery, PutItem, Refresh, Store},
};
use agentflow_types::{Error, ErrorKind, Result, Scope, Str, Timestamp};
use async_trait::async_trait;
use tokio::time::Instant;

/// Class of the error after the time is over.
pub const UNAVAILABLE: &str = "StorageUnavailable";

/// Shortest and longest pause between two tries; each is twice the one before.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Whether an error may pass by itself, and what failed may be asked again.
#[must_use]
pub fn is_passing(err: &Error) -> bool {
    matches!(err.kind(), ErrorKind::Busy | ErrorKind::Uncertain)
}

/// Whether storage was away for longer than anybody waits.
#[must_use]
pub fn is_unavailable(err: &Error) -> bool {
    is_passing(err) && err.class_name() == UNAVAILABLE
}

/// How long it is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience(pub Duration);

impl Patience {
    /// Begins with the first failure.
    #[must_use]
    pub fn begin(self) -> Trial {
        Trial {
            ends: Instant::now() + self.0,
            pause: PAUSE.0,
        }
    }

    /// Asks until there is an answer, or another error than one that may pass.
    ///
    /// # Errors
    /// The last one; of class [`UNAVAILABLE`] if the time is over.
    pub async fn ask<T, F: Future<Output = Result<T>>>(self, ask: impl Fn() -> F) -> Result<T> {
        let mut trial = None;
        loop {
            match ask().await {
                Err(err) => trial.get_or_insert_with(|| self.begin()).again(err).await?,
                done => return done,
            }
        }
    }
}

/// A series of tries.
#[derive(Debug)]
pub struct Trial {
    ends: Instant,
    pause: Duration,
}

impl Trial {
    /// Waits a while before the next try.
    ///
    /// # Errors
    /// `err` if it does not pass by itself, or, with class [`UNAVAILABLE`], if the time is over.
    pub async fn again(&mut self, err: Error) -> Result<()> {
        if !is_passing(&err) {
            return Err(err);
        }
        if Instant::now() + self.pause > self.ends {
            return Err(err.class(UNAVAILABLE));
        }
        tracing::debug!(error = %err, "storage is asked again");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
        Ok(())
    }
}

/// Checkpoints that wait for their database. A commit is repeated as a whole: what it stores is
/// the same the second time.
#[must_use]
pub fn checkpoints(inner: Arc<dyn Checkpoints>, patience: Patience) -> Arc<dyn Checkpoints> {
    Arc::new(Patient { inner, patience })
}

struct Patient {
    inner: Arc<dyn Checkpoints>,
    patience: Patience,
}

#[async_trait]
impl Checkpoints for Patient {
    async fn get(&self, key: &CheckpointKey) -> Result<Option<CheckpointTuple>> {
        self.patience.ask(|| self.inner.get(key)).await
    }

    async fn list(&self, query: &CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        self.patience.ask(|| self.inner.list(query)).await
    }

    async fn commit(&self, ops: Vec<CheckpointOp>, fence: Option<Fence>) -> Result<()> {
        self.patience
            .ask(|| self.inner.commit(ops.clone(), fence))
            .await
    }

    async fn commit_at_rest(&self, ops: Vec<CheckpointOp>, rest: Rest) -> Result<()> {
        self.patience
            .ask(|| self.inner.commit_at_rest(ops.clone(), rest))
            .await
    }

    async fn take_over(&self, thread_id: &str, fence: Fence) -> Result<()> {
        self.patience
            .ask(|| self.inner.take_over(thread_id, fence))
            .await
    }

    async fn delta_history(
        &self,
        key: &CheckpointKey,
        channels: &[Str],
    ) -> Result<Vec<DeltaHistory>> {
        self.patience
            .ask(|| self.inner.delta_history(key, channels))
            .await
    }

    async fn delete_thread(&self, thread_id: &str) -> Result<()> {
        self.inner.delete_thread(thread_id).await
    }

    async fn copy_thread(&self, from: &str, to: &str) -> Result<()> {
        self.inner.copy_thread(from, to).await
    }

    async fn delete_for_runs(&self, run_ids: &[String]) -> Result<()> {
        self.inner.delete_for_runs(run_ids).await
    }

    async fn prune(&self, thread_ids: &[String], strategy: Prune) -> Result<()> {
        self.inner.prune(thread_ids, strategy).await
    }

    async fn usage(&self, thread_id: &str) -> Result<Option<Usage>> {
        self.inner.usage(thread_id).await
    }
}

/// Long-term items that wait for their database, for the nodes of graphs. A put that is repeated
/// stores the same once more.
#[must_use]
pub fn store(inner: Arc<dyn Store>, patience: Patience) -> Arc<dyn Store> {
    Arc::new(PatientStore { inner, patience })
}

struct PatientStore {
    inner: Arc<dyn Store>,
    patience: Patience,
}

#[async_trait]
impl Store for PatientStore {
    async fn put(&self, scope: &Scope, now: Timestamp, items: Vec<PutItem>) -> Result<()> {
        self.patience
            .ask(|| self.inner.put(scope, now, items.clone()))
            .await
    }

    async fn get(
        &self,
        scope: &Scope,
        now: Timestamp,
        namespace: &[String],
        key: &str,
        refresh: Refresh,
    ) -> Result<Option<Item>> {
        self.patience
            .ask(|| self.inner.get(scope, now, namespace, key, refresh))
            .await
    }

    async fn delete(&self, scope: &Scope, namespace: &[String], key: &str) -> Result<()> {
        self.patience
            .ask(|| self.inner.delete(scope, namespace, key))
            .await
    }

    async fn search(&self, scope: &Scope, now: Timestamp, query: &ItemQuery) -> Result<Vec<Item>> {
        self.patience
            .ask(|| self.inner.search(scope, now, query))
            .await
    }

    async fn namespaces(
        &self,
        scope: &Scope,
        now: Timestamp,
        query: &NamespaceQuery,
    ) -> Result<Vec<Vec<String>>> {
        self.patience
            .ask(|| self.inner.namespaces(scope, now, query))
            .await
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        self.inner.sweep(now, limit).await
    }
}
