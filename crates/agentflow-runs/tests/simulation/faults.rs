//! Ports whose writes fail at random: before they are applied, or after, so that the caller does
//! not learn what happened.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use agentflow_storage::{
    Backend,
    checkpoint::{CheckpointOp, Fence, Rest},
    event::Event,
    page::{Page, PageQuery},
    record::{
        Candidate, Decide, Heartbeat, Run, RunQuery, RunStatus, Standing, Thread, ThreadQuery,
        Threads,
    },
};
use agentflow_types::{Error, Result, RunId, Scope, ThreadId, Timestamp};
use async_trait::async_trait;

/// A backend whose writes fail at random.
pub struct Faulty {
    inner: Backend,
    dice: Mutex<fastrand::Rng>,
    /// Faults per thousand writes.
    rate: AtomicU32,
}

impl Faulty {
    /// Wraps a backend; `rate` is in faults per thousand writes.
    pub fn new(inner: Backend, seed: u64, rate: u32) -> Arc<Self> {
        let dice = Mutex::new(fastrand::Rng::with_seed(seed));
        Arc::new(Self {
            inner,
            dice,
            rate: AtomicU32::new(rate),
        })
    }

    /// From now on no write fails.
    pub fn heal(&self) {
        self.rate.store(0, Ordering::SeqCst);
    }

    /// Appends events, as `Events::append`.
    pub async fn append(&self, thread: ThreadId, events: Vec<Event>, fence: Fence) -> Result<()> {
        self.write(self.inner.events.append(thread, events, Some(fence)))
            .await
    }

    /// Commits checkpoints, as `Checkpoints::commit`.
    pub async fn commit(&self, ops: Vec<CheckpointOp>, fence: Fence) -> Result<()> {
        self.write(self.inner.checkpoints.commit(ops, Some(fence)))
            .await
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let (fails, before) = {
            let mut dice = self.dice.lock().expect("no panic while the dice are held");
            (
                dice.u32(..1000) < self.rate.load(Ordering::SeqCst),
                dice.bool(),
            )
        };
        match (fails, before) {
            (false, _) => write.await,
            (true, true) => Err(Error::busy("simulated fault before the write")),
            (true, false) => {
                // The answer is what gets lost, whatever it was.
                let _ = write.await;
                Err(Error::uncertain("simulated fault after the write"))
            }
        }
    }
}

#[async_trait]
impl Threads for Faulty {
    async fn get(&self, scope: &Scope, id: ThreadId) -> Result<Option<Thread>> {
        self.inner.threads.get(scope, id).await
    }

    async fn decide(&self, scope: &Scope, id: ThreadId, decide: Decide) -> Result<()> {
        self.write(self.inner.threads.decide(scope, id, decide))
            .await
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &ThreadQuery,
        page: &PageQuery,
    ) -> Result<Page<Thread>> {
        self.inner.threads.search(scope, query, page).await
    }

    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>> {
        self.inner.threads.run(scope, id).await
    }

    async fn runs(&self, scope: &Scope, query: &RunQuery) -> Result<Vec<Run>> {
        self.inner.threads.runs(scope, query).await
    }

    async fn candidates(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        self.inner.threads.candidates(now, limit).await
    }

    async fn heartbeat(&self, run_id: RunId, token: i64, until: Timestamp) -> Result<Heartbeat> {
        self.write(self.inner.threads.heartbeat(run_id, token, until))
            .await
    }

    async fn rests(&self, rest: Rest) -> Result<bool> {
        self.inner.threads.rests(rest).await
    }

    async fn holds(&self, fence: Fence) -> Result<bool> {
        self.inner.threads.holds(fence).await
    }

    async fn standing(&self, threads: &[ThreadId], runs: &[RunId]) -> Result<Standing> {
        self.inner.threads.standing(threads, runs).await
    }

    async fn counts(&self) -> Result<Vec<(RunStatus, u64)>> {
        self.inner.threads.counts().await
    }

    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        self.inner.threads.expired(now, limit).await
    }
}
