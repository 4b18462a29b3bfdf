//! The work behind the requests: letters of one topic, done by whichever process has them.

use std::time::Duration;

use agentflow_storage::{
    documents::Change,
    outbox::{Letter, Posted, Settled},
};
use agentflow_types::{ErrorKind, LetterId, Result, Scope, Timestamp, Value, from_value, to_value};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Service;

/// Topic of the letters.
const TOPIC: &str = "documents";
/// Who acts when work is done.
const PRINCIPAL: &str = "documents";
/// Letters that are worked on at once in this process.
const AT_ONCE: usize = 4;
/// How long a letter is hidden from others; renewed with every step.
const LEASE: Duration = Duration::from_secs(20);
/// How often letters of other processes are looked for.
const POLL: Duration = Duration::from_secs(1);
/// Pause before an index that cannot be reached is looked at again.
const FILL_AGAIN: Duration = Duration::from_secs(2);
/// Longest pause before work that failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long bytes may wait for the document that names them.
const PENDING: Duration = Duration::from_secs(3_600);
/// How often bytes that nobody kept are looked for, and how many go at once.
const SWEEP: (Duration, u32) = (Duration::from_secs(60), 1_000);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "lowercase")]
pub(super) enum Task {
    /// Read, cut and store an upload.
    Ingest {
        /// The document.
        document: Uuid,
        /// The upload: if the document has another one by now, nothing is to be done.
        upload: Uuid,
    },
    /// Bring what the index shows of a document, or that it is gone, to what the records say.
    Show {
        /// The document.
        document: Uuid,
    },
    /// Bring what the index shows of a chunk to what the records say.
    ShowChunk {
        /// The chunk.
        chunk: Uuid,
    },
    /// Take documents out of a collection that is gone.
    Leave {
        /// The collection.
        collection: Uuid,
    },
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to do.
    More,
    /// All is done.
    Done,
}

/// A letter about work.
pub(super) fn letter(now: Timestamp, task: &Task) -> Change {
    Change::Post(Box::new(Letter {
        letter_id: LetterId(Uuid::now_v7()),
        topic: TOPIC.into(),
        created_at: now,
        // It is made of ids alone, which are values.
        body: to_value(task).unwrap_or(Value::Null),
    }))
}

/// Pause before another attempt.
fn pause(attempt: u32) -> Duration {
    let doubled = Duration::from_millis(250) * 2_u32.saturating_pow(attempt.min(16));
    doubled.min(LONGEST_PAUSE)
}

impl Service {
    /// Does the work until `stop` fires; steps that are under way end first.
    pub async fn run(&self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut swept = None;
        let filling = {
            let (service, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(service.fill()).await })
        };
        while !stop.is_cancelled() {
            while tasks.try_join_next().is_some() {}
            match self.claim(AT_ONCE - tasks.len()).await {
                Ok(claimed) => {
                    for posted in claimed {
                        let (service, stop) = (self.clone(), stop.clone());
                        tasks.spawn(async move { service.attempt(posted, &stop).await });
                    }
                }
                Err(err) => tracing::error!(error = %err, "work on documents cannot be read"),
            }
            let now = self.now();
            if swept.is_none_or(|at: Timestamp| at.plus(SWEEP.0).0 <= now.0) {
                swept = Some(now);
                if let Err(err) = self.sweep(now).await {
                    tracing::warn!(error = %err, "bytes that nobody kept stay for now");
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Some(_) = tasks.join_next() => {}
                () = self.inner.work.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        while tasks.join_next().await.is_some() {}
        if let Err(err) = filling.await {
            tracing::error!(error = %err, "filling the index of documents panicked");
        }
    }

    async fn fill(&self) {
        while let Err(err) = self.inner.index.fill().await {
            tracing::warn!(error = %err, "the index of documents cannot be reached yet");
            tokio::time::sleep(FILL_AGAIN).await;
        }
    }

    /// Does all work that is due now, one letter after the other; how many there were.
    ///
    /// # Errors
    /// If letters cannot be read.
    pub async fn work(&self) -> Result<usize> {
        let stop = CancellationToken::new();
        let mut many = 0;
        loop {
            let claimed = self.claim(AT_ONCE).await?;
            if claimed.is_empty() {
                return Ok(many);
            }
            many += claimed.len();
            for posted in claimed {
                self.attempt(posted, &stop).await;
            }
        }
    }

    async fn sweep(&self, now: Timestamp) -> Result<()> {
        let before = Timestamp(now.0 - PENDING.as_micros() as i64);
        let gone = self.records().sweep_blobs(before, SWEEP.1).await?;
        if gone > 0 {
            tracing::info!(uploads = gone, "uploads that came to nothing were removed");
        }
        Ok(())
    }

    async fn claim(&self, free: usize) -> Result<Vec<Posted>> {
        if free == 0 {
            return Ok(vec![]);
        }
        let now = self.now();
        let outbox = &self.inner.backend.outbox;
        let limit = u32::try_from(free).unwrap_or(u32::MAX);
        outbox.claim(TOPIC, now, now.plus(LEASE), limit).await
    }

    /// Works on a letter until all of it is done, it fails, or somebody else has it.
    async fn attempt(&self, posted: Posted, stop: &CancellationToken) {
        let scope = Scope::new(&posted.tenant, PRINCIPAL);
        let task: Option<Task> = from_value(&posted.letter.body).ok();
        loop {
            let stepped = match &task {
                Some(task) => match self.held(&scope, task, &posted).await {
                    Some(stepped) => stepped,
                    None => return,
                },
                None => {
                    tracing::error!(letter = %posted.letter.letter_id, "a letter says nothing");
                    Ok(Step::Done)
                }
            };
            let now = self.now();
            let (settled, is_over) = match stepped {
                Ok(Step::Done) => (Settled::Delivered, true),
                // Who stops gives the letter back at once.
                Ok(Step::More) if stop.is_cancelled() => (Settled::Again(now, String::new()), true),
                Ok(Step::More) => (Settled::Again(now.plus(LEASE), String::new()), false),
                Err(err) => {
                    // Somebody changed the document meanwhile: at once again.
                    let wait = match err.kind() {
                        ErrorKind::Conflict => Duration::ZERO,
                        _ => pause(posted.attempt),
                    };
                    tracing::warn!(error = %err, ?task, "work on a document is tried again");
                    (Settled::Again(now.plus(wait), err.to_string()), true)
                }
            };
            let outbox = &self.inner.backend.outbox;
            let id = posted.letter.letter_id;
            match outbox.settle(id, posted.attempt, settled).await {
                Ok(true) if !is_over => {}
                Ok(_) => return,
                Err(err) => {
                    tracing::warn!(error = %err, "work on a document is done once more");
                    return;
                }
            }
        }
    }

    /// A step, while the letter is kept from others; `None` if somebody else has it.
    async fn held(&self, scope: &Scope, task: &Task, posted: &Posted) -> Option<Result<Step>> {
        let step = self.step(scope, task, posted.attempt);
        tokio::pin!(step);
        loop {
            tokio::select! {
                stepped = &mut step => return Some(stepped),
                () = tokio::time::sleep(LEASE / 3) => {}
            }
            let more = Settled::Again(self.now().plus(LEASE), String::new());
            let outbox = &self.inner.backend.outbox;
            let id = posted.letter.letter_id;
            match outbox.settle(id, posted.attempt, more).await {
                Ok(true) => {}
                Ok(false) => return None,
                // The records refuse what is stale in any case.
                Err(err) => tracing::warn!(error = %err, "a letter is not kept for longer"),
            }
        }
    }

    async fn step(&self, scope: &Scope, task: &Task, attempt: u32) -> Result<Step> {
        match task {
            Task::Ingest { document, upload } => {
                self.ingest(scope, (*document, *upload), attempt).await
            }
            Task::Show { document } => {
                self.inner.index.show(scope, *document).await?;
                Ok(Step::Done)
            }
            Task::ShowChunk { chunk } => {
                self.inner.index.bring(scope, &[*chunk]).await?;
                Ok(Step::Done)
            }
            Task::Leave { collection } => Ok(match self.leave(scope, *collection).await? {
                true => Step::More,
                false => Step::Done,
            }),
        }
    }
}
