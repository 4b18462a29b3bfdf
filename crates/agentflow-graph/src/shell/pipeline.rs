//! Commits to the saver, in order.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use agentflow_storage::checkpoint::{CheckpointOp, Checkpoints, Fence};
use agentflow_types::{Error, Result};
use tokio::sync::{mpsc, oneshot};

/// Most batches that wait for the saver; a run that is faster waits.
const MAX_QUEUED: usize = 64;
/// Most batches that one commit joins.
const MAX_JOINED: usize = 16;

/// What the writing task gets.
enum Job {
    Write(Vec<CheckpointOp>),
    Flush(oneshot::Sender<()>),
}

/// Why nothing more is written: kind, class and text of the first error.
type Broken = Arc<Mutex<Option<Error>>>;

/// Writes to a saver, batch after batch, in the order of the calls.
pub(crate) struct Pipeline {
    saver: Arc<dyn Checkpoints>,
    fence: Option<Fence>,
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    waiting: Arc<AtomicUsize>,
    broken: Broken,
}

impl Pipeline {
    pub(crate) fn new(saver: Arc<dyn Checkpoints>, fence: Option<Fence>) -> Self {
        Self {
            saver,
            fence,
            queue: Mutex::new(None),
            waiting: Arc::default(),
            broken: Broken::default(),
        }
    }

    pub(crate) fn saver(&self) -> &Arc<dyn Checkpoints> {
        &self.saver
    }

    /// Writes and waits until it is durable, after everything that was queued before.
    ///
    /// # Errors
    /// Whatever the saver says, now or earlier.
    pub(crate) async fn write(&self, ops: Vec<CheckpointOp>) -> Result<()> {
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.queue(ops).await?;
            return self.flush().await;
        }
        self.check()?;
        let result = self.saver.commit(ops, self.fence).await;
        result.map_err(|error| self.breaks(error))
    }

    /// Queues a batch; waits only while the queue is full.
    ///
    /// # Errors
    /// Whatever the saver said to an earlier batch.
    pub(crate) async fn queue(&self, ops: Vec<CheckpointOp>) -> Result<()> {
        self.check()?;
        let queue = self.sender();
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if queue.send(Job::Write(ops)).await.is_err() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(Error::bug("the checkpoint writer is gone"));
        }
        Ok(())
    }

    /// Waits until everything that was queued is durable.
    ///
    /// # Errors
    /// Whatever the saver said.
    pub(crate) async fn flush(&self) -> Result<()> {
        let queue = self
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(queue) = queue {
            let (done, wait) = oneshot::channel();
            if queue.send(Job::Flush(done)).await.is_ok() {
                let _ = wait.await;
            }
        }
        self.check()
    }

    fn check(&self) -> Result<()> {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.as_ref().map_or(Ok(()), |error| Err(copy(error)))
    }

    fn breaks(&self, error: Error) -> Error {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get_or_insert_with(|| copy(&error));
        error
    }

    fn sender(&self) -> mpsc::Sender<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue
            .get_or_insert_with(|| {
                let (sender, receiver) = mpsc::channel(MAX_QUEUED);
                let writer = Writer {
                    saver: self.saver.clone(),
                    fence: self.fence,
                    waiting: self.waiting.clone(),
                    broken: self.broken.clone(),
                };
                // The task ends when the last sender, which the pipeline owns, is dropped; the
                // run flushes before that.
                tokio::spawn(writer.run(receiver));
                sender
            })
            .clone()
    }
}

/// An error with the same kind, class and text; errors cannot be cloned because of their source.
fn copy(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string()).class(error.class_name().to_owned())
}

struct Writer {
    saver: Arc<dyn Checkpoints>,
    fence: Option<Fence>,
    waiting: Arc<AtomicUsize>,
    broken: Broken,
}

impl Writer {
    async fn run(self, mut receiver: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(MAX_JOINED);
        while receiver.recv_many(&mut jobs, MAX_JOINED).await > 0 {
            let mut ops = Vec::new();
            let mut batches = 0;
            let mut flushes = Vec::new();
            for job in jobs.drain(..) {
                match job {
                    Job::Write(batch) => {
                        ops.extend(batch);
                        batches += 1;
                    }
                    Job::Flush(done) => flushes.push(done),
                }
            }
            self.commit(ops).await;
            self.waiting.fetch_sub(batches, Ordering::AcqRel);
            for done in flushes {
                let _ = done.send(());
            }
        }
    }

    async fn commit(&self, ops: Vec<CheckpointOp>) {
        let is_broken = self
            .broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        if ops.is_empty() || is_broken {
            return;
        }
        if let Err(error) = self.saver.commit(ops, self.fence).await {
            let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
            broken.get_or_insert(error);
        }
    }
}
