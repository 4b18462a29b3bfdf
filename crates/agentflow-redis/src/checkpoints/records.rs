//! Decisions about threads in the database, and what they mean for the checkpoints in Redis.
//!
//! A decision that removes a thread, or rolls a run back, cannot remove checkpoints in its own
//! transaction. It stores a letter there instead, which says what is to be removed. That is done
//! at once afterwards; if it fails, or the process dies, the letter is found later: by whoever
//! begins an attempt, before it reads, or by a task that looks now and then.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use agentflow_storage::{
    checkpoint::{
        CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Checkpoints, Fence, Prune,
        Rest, delta::DeltaHistory, usage::Usage,
    },
    outbox::{Letter, Outbox, Posted, Settled},
    page::{Page, PageQuery},
    record::{
        Ages, Candidate, Change, Decide, Heartbeat, Run, RunQuery, RunStatus, Standing, Thread,
        ThreadQuery, Threads,
    },
};
use agentflow_types::{
    Clock as _, Error, ErrorKind, LetterId, Result, RunId, Scope, Str, SystemClock, ThreadId,
    Timestamp, Value,
};
use async_trait::async_trait;

use super::Saver;

/// Letters about runs that were rolled back.
const ROLLBACKS: &str = "checkpoints.rollback";
/// Letters about threads that are gone.
const REMOVALS: &str = "checkpoints.remove";
/// Letters that are taken at once.
const LETTERS: u32 = 100;
/// How long nobody else takes a letter that was taken.
const CLAIM: Duration = Duration::from_secs(30);
/// How often it is looked for letters that somebody left.
const EVERY: Duration = Duration::from_secs(5);
/// Later than any letter is due: a letter that somebody else works on is worked on all the same,
/// because doing it twice does no harm.
const EVERYTHING: Duration = Duration::from_secs(24 * 3600);

/// When a letter is obeyed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Right after the decision.
    AtOnce,
    /// Perhaps much later: the thread's id may have been used again.
    Later,
}

/// Threads of the database with their checkpoints in Redis.
pub(crate) struct Linked {
    saver: Arc<Saver>,
    threads: Arc<dyn Threads>,
    outbox: Arc<dyn Outbox>,
}

impl Linked {
    pub(crate) fn start(
        saver: Arc<Saver>,
        threads: Arc<dyn Threads>,
        outbox: Arc<dyn Outbox>,
    ) -> Arc<Self> {
        let linked = Arc::new(Self {
            saver,
            threads,
            outbox,
        });
        tokio::spawn(look_after(Arc::downgrade(&linked)));
        linked
    }

    /// Does what the letters of a topic say that are due at a moment.
    async fn work_off(&self, topic: &str, due: Timestamp) -> Result<()> {
        loop {
            let until = SystemClock.now().plus(CLAIM);
            let letters = self.outbox.claim(topic, due, until, LETTERS).await?;
            for Posted {
                letter, attempt, ..
            } in &letters
            {
                let settled = match self.obey(letter, When::Later).await {
                    Ok(()) => Settled::Delivered,
                    Err(err) if matches!(err.kind(), ErrorKind::Busy | ErrorKind::Uncertain) => {
                        return Err(err);
                    }
                    // One that nobody can obey must not keep all others waiting.
                    Err(err) => {
                        tracing::error!(error = %err, topic, "checkpoints are not removed");
                        Settled::Dead(SystemClock.now(), err.to_string())
                    }
                };
                let id = letter.letter_id;
                self.outbox.settle(id, *attempt, settled).await?;
            }
            if letters.len() < LETTERS as usize {
                return Ok(());
            }
        }
    }

    /// Does what a letter says.
    async fn obey(&self, letter: &Letter, when: When) -> Result<()> {
        let part = |name: &str| letter.body.get(name).and_then(Value::as_str);
        let wrong = || Error::corrupt("a letter about checkpoints cannot be read");
        let thread = part("thread_id").ok_or_else(wrong)?;
        match part("run_id") {
            Some(run) => self.saver.roll_back(thread, run).await,
            None => {
                let made = (when == When::Later).then_some(letter.created_at);
                self.saver.forget(thread, made).await
            }
        }
    }

    /// Does what a decision said, now that it is stored.
    async fn follow(&self, letters: Vec<Letter>) {
        for letter in letters {
            let done = async {
                self.obey(&letter, When::AtOnce).await?;
                let id = letter.letter_id;
                self.outbox.settle(id, 0, Settled::Delivered).await
            };
            if let Err(err) = done.await {
                tracing::warn!(error = %err, "checkpoints are removed later");
                return;
            }
        }
    }
}

/// Looks for letters that somebody left, while anybody uses the threads.
async fn look_after(linked: Weak<Linked>) {
    let mut is_silent = false;
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(linked) = linked.upgrade() else {
            return;
        };
        for topic in [ROLLBACKS, REMOVALS] {
            match linked.work_off(topic, SystemClock.now()).await {
                Ok(()) => is_silent = false,
                Err(err) if !is_silent => {
                    is_silent = true;
                    tracing::warn!(error = %err, topic, "checkpoints could not be removed");
                }
                Err(_) => {}
            }
        }
    }
}

/// The letters that belong to changes of a thread.
fn letters(id: ThreadId, changes: &[Change], mut is_ours: bool) -> Vec<Letter> {
    let mut letters = Vec::new();
    for change in changes {
        let (topic, run) = match change {
            Change::PutThread(_) => {
                is_ours = true;
                continue;
            }
            Change::RollbackRun(run) => (ROLLBACKS, Some(run)),
            Change::DeleteThread => (REMOVALS, None),
            _ => continue,
        };
        // Of a thread that somebody else has, nothing goes.
        if !is_ours {
            continue;
        }
        let thread = [("thread_id", Value::str(id.text()))];
        let run = run.map(|run| ("run_id", Value::str(run.text())));
        letters.push(Letter {
            letter_id: LetterId::mint(),
            topic: topic.into(),
            created_at: SystemClock.now(),
            body: Value::object(thread.into_iter().chain(run)),
        });
    }
    letters
}

#[async_trait]
impl Threads for Linked {
    async fn decide(&self, scope: &Scope, id: ThreadId, decide: Decide) -> Result<()> {
        let posted = Arc::<Mutex<Vec<Letter>>>::default();
        let note = posted.clone();
        let with_letters: Decide = Box::new(move |thread| {
            let mut changes = decide(thread)?;
            let letters = letters(id, &changes, thread.is_some());
            let posts = letters.iter().cloned().map(Box::new).map(Change::Post);
            changes.extend(posts);
            *note.lock().unwrap_or_else(PoisonError::into_inner) = letters;
            Ok(changes)
        });
        self.threads.decide(scope, id, with_letters).await?;
        let posted = std::mem::take(&mut *posted.lock().unwrap_or_else(PoisonError::into_inner));
        self.follow(posted).await;
        Ok(())
    }

    async fn get(&self, scope: &Scope, id: ThreadId) -> Result<Option<Thread>> {
        self.threads.get(scope, id).await
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &ThreadQuery,
        page: &PageQuery,
    ) -> Result<Page<Thread>> {
        self.threads.search(scope, query, page).await
    }

    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>> {
        self.threads.run(scope, id).await
    }

    async fn runs(&self, scope: &Scope, query: &RunQuery) -> Result<Vec<Run>> {
        self.threads.runs(scope, query).await
    }

    async fn candidates(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        self.threads.candidates(now, limit).await
    }

    async fn heartbeat(&self, run_id: RunId, token: i64, until: Timestamp) -> Result<Heartbeat> {
        self.threads.heartbeat(run_id, token, until).await
    }

    async fn rests(&self, rest: Rest) -> Result<bool> {
        self.threads.rests(rest).await
    }

    async fn holds(&self, fence: Fence) -> Result<bool> {
        self.threads.holds(fence).await
    }

    async fn standing(&self, threads: &[ThreadId], runs: &[RunId]) -> Result<Standing> {
        self.threads.standing(threads, runs).await
    }

    async fn ages(&self) -> Result<Ages> {
        self.threads.ages().await
    }

    async fn counts(&self) -> Result<Vec<(RunStatus, u64)>> {
        self.threads.counts().await
    }

    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        self.threads.expired(now, limit).await
    }
}

#[async_trait]
impl Checkpoints for Linked {
    async fn take_over(&self, thread_id: &str, fence: Fence) -> Result<()> {
        self.saver.take_over(thread_id, fence).await?;
        let everything = SystemClock.now().plus(EVERYTHING);
        self.work_off(ROLLBACKS, everything).await
    }

    async fn get(&self, key: &CheckpointKey) -> Result<Option<CheckpointTuple>> {
        self.saver.get(key).await
    }

    async fn list(&self, query: &CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        self.saver.list(query).await
    }

    async fn commit(&self, ops: Vec<CheckpointOp>, fence: Option<Fence>) -> Result<()> {
        self.saver.commit(ops, fence).await
    }

    async fn commit_at_rest(&self, ops: Vec<CheckpointOp>, rest: Rest) -> Result<()> {
        self.saver.commit_at_rest(ops, rest).await
    }

    async fn delta_history(
        &self,
        key: &CheckpointKey,
        channels: &[Str],
    ) -> Result<Vec<DeltaHistory>> {
        self.saver.delta_history(key, channels).await
    }

    async fn delete_thread(&self, thread_id: &str) -> Result<()> {
        self.saver.delete_thread(thread_id).await
    }

    async fn copy_thread(&self, from: &str, to: &str) -> Result<()> {
        self.saver.copy_thread(from, to).await
    }

    async fn delete_for_runs(&self, run_ids: &[String]) -> Result<()> {
        self.saver.delete_for_runs(run_ids).await
    }

    async fn prune(&self, thread_ids: &[String], strategy: Prune) -> Result<()> {
        self.saver.prune(thread_ids, strategy).await
    }

    async fn usage(&self, thread_id: &str) -> Result<Option<Usage>> {
        self.saver.usage(thread_id).await
    }
}
