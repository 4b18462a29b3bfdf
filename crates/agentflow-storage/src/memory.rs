//! The in-memory backend: every port over plain maps.
//!
//! It is a real backend, for tests, simulation and throw-away servers. A write is applied under
//! one lock, completely or not at all, so what a reader sees is always a committed state. To
//! simulate a crash, wrap [`Memory::backend`] in [`crate::faulty`] and afterwards take a new
//! backend from the same `Memory`: it holds exactly what was committed.

mod accounts;
mod audit;
mod cache;
mod checkpoints;
mod counters;
mod crons;
mod documents;
mod memories;
mod outbox;
mod records;
mod sessions;
mod store;
mod threads;
mod vectors;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use agentflow_types::{
    AssistantId, CronId, Error, JobId, KeyId, LetterId, MemoryId, Result, RunId, ThreadId,
    Timestamp, UserId,
};
use uuid::Uuid;

pub use vectors::VectorIndex;

use crate::{
    Backend,
    account::{ApiKey, Tenant, User},
    cache::CacheKey,
    checkpoint::{Fence, Rest},
    cron::Cron,
    event::Event,
    memories::{Claimed, Note},
    outbox::Posted,
    record::{Assistant, Run, RunStatus, Thread},
    session::{Session, SessionKey},
    signal::Local,
};

/// A database in memory. Clones share it.
#[derive(Clone, Default)]
pub struct Memory {
    /// Guards all tables; held only for the length of one operation, never across an await.
    tables: Arc<Mutex<Tables>>,
    signals: Arc<Local>,
}

#[derive(Clone, Default)]
struct Tables {
    tenants: BTreeMap<String, Tenant>,
    users: BTreeMap<UserId, accounts::Owned<User>>,
    keys: BTreeMap<KeyId, accounts::Owned<ApiKey>>,
    /// By time, then id.
    audit: BTreeMap<(Timestamp, Uuid), audit::Logged>,
    checkpoints: HashMap<String, checkpoints::Line>,
    assistants: BTreeMap<AssistantId, AssistantRow>,
    threads: BTreeMap<ThreadId, ThreadRow>,
    run_threads: HashMap<RunId, ThreadId>,
    items: BTreeMap<store::ItemKey, store::ItemRow>,
    crons: BTreeMap<CronId, CronRow>,
    sessions: HashMap<SessionKey, Session>,
    buckets: HashMap<String, Timestamp>,
    quotas: HashMap<String, counters::Spent>,
    cached: HashMap<CacheKey, cache::Cached>,
    letters: BTreeMap<LetterId, Posted>,
    memories: BTreeMap<MemoryId, memories::Line>,
    jobs: BTreeMap<JobId, Claimed>,
    notes: BTreeMap<memories::NoteKey, Note>,
    documents: documents::Shelf,
}

#[derive(Clone)]
struct AssistantRow {
    tenant: Arc<str>,
    selected: Assistant,
    versions: BTreeMap<i64, Assistant>,
}

#[derive(Clone)]
struct ThreadRow {
    tenant: Arc<str>,
    thread: Thread,
    runs: BTreeMap<RunId, Run>,
    events: BTreeMap<u64, Event>,
    last_seq: u64,
}

#[derive(Clone)]
struct CronRow {
    tenant: Arc<str>,
    principal: Arc<str>,
    cron: Cron,
}

impl Memory {
    /// An empty database, as a backend.
    pub fn open() -> Backend {
        Self::new().backend()
    }

    /// An empty database.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every port over this database.
    #[must_use]
    pub fn backend(&self) -> Backend {
        let this = Arc::new(self.clone());
        Backend {
            tenants: this.clone(),
            users: this.clone(),
            keys: this.clone(),
            audit: this.clone(),
            checkpoints: this.clone(),
            assistants: this.clone(),
            threads: this.clone(),
            events: this.clone(),
            store: this.clone(),
            crons: this.clone(),
            outbox: this.clone(),
            signals: self.signals.clone(),
            sessions: this.clone(),
            counters: this.clone(),
            cache: this.clone(),
            memories: this.clone(),
            documents: this,
        }
    }

    /// A separate database with the same content; later writes to either do not reach the other.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self {
            tables: Arc::new(Mutex::new(self.lock().clone())),
            signals: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Every operation checks before it changes, and a decision runs before the first change,
        // so a panic in it leaves the tables whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn run(&self, id: RunId) -> Option<&Run> {
        self.threads.get(self.run_threads.get(&id)?)?.runs.get(&id)
    }

    fn run_mut(&mut self, id: RunId) -> Option<&mut Run> {
        self.threads
            .get_mut(self.run_threads.get(&id)?)?
            .runs
            .get_mut(&id)
    }

    fn rests(&self, rest: Rest) -> bool {
        self.threads.get(&rest.thread_id).is_some_and(|row| {
            let mut runs = row.runs.values();
            row.thread.updated_at == rest.updated_at
                && !runs.any(|run| run.status == RunStatus::Running)
        })
    }

    fn check_fence(&self, fence: Option<Fence>) -> Result<()> {
        let Some(fence) = fence else { return Ok(()) };
        let held = self
            .run(fence.run_id)
            .is_some_and(|run| holds_lease(run, fence.token));
        if held {
            Ok(())
        } else {
            Err(crate::checkpoint::fenced(fence))
        }
    }
}

fn holds_lease(run: &Run, token: i64) -> bool {
    run.status == RunStatus::Running && run.lease.as_ref().is_some_and(|l| l.token == token)
}

/// Checks that events continue a thread's log: numbers grow and none was used before.
fn check_seq(last_seq: u64, events: &[Event]) -> Result<u64> {
    events.iter().try_fold(last_seq, |last, event| {
        if event.seq > last {
            Ok(event.seq)
        } else {
            Err(Error::conflict("event number is taken")
                .with("seq", event.seq)
                .with("last", last))
        }
    })
}
