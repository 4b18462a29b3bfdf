//! Assistants, threads and runs: the records of the agent server.
//!
//! Writes that concern a thread and its runs go through [`Threads::decide`]: the backend loads
//! the thread with its live runs, a pure function decides, the backend applies the changes, all
//! in one transaction that no other writer of that thread can enter.

use std::time::Duration;

use agentflow_types::{
    AssistantId, CronId, Map, Result, RunId, Scope, ThreadId, Timestamp, Value, graph::Interrupt,
};
use async_trait::async_trait;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::{Fence, Rest},
    page::{Page, PageQuery},
};

/// An assistant: a graph with configuration, versioned.
#[derive(Clone, Debug, PartialEq)]
pub struct Assistant {
    /// Id.
    pub assistant_id: AssistantId,
    /// The graph.
    pub graph_id: String,
    /// Version, from 1.
    pub version: i64,
    /// Name for people.
    pub name: String,
    /// Description for people.
    pub description: Option<String>,
    /// `{tags, recursion_limit, configurable}`; absent keys stay absent.
    pub config: Map,
    /// Static context.
    pub context: Map,
    /// Metadata.
    pub metadata: Map,
    /// Creation of the assistant (in version rows: of the version).
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// Which assistants to search; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AssistantQuery {
    /// Metadata must contain this (JSON containment).
    pub metadata: Map,
    /// Exact graph id.
    pub graph_id: Option<String>,
    /// Part of the name, upper and lower case alike.
    pub name: Option<String>,
}

/// Stores assistants and their versions.
///
/// Sort columns: `assistant_id`, `created_at`, `updated_at`, `name`, `graph_id`.
#[async_trait]
pub trait Assistants: Send + Sync {
    /// Stores a new assistant as version 1.
    ///
    /// # Errors
    /// `Conflict` if the id exists in any tenant.
    async fn insert(&self, scope: &Scope, assistant: Assistant) -> Result<()>;

    /// The latest (selected) version.
    async fn get(&self, scope: &Scope, id: AssistantId) -> Result<Option<Assistant>>;

    /// Stores `assistant` as a new version (greatest version plus one) and selects it; returns it
    /// with its version. The assistant keeps its creation; the version's is `updated_at`.
    ///
    /// # Errors
    /// `NotFound` if the assistant does not exist for the scope.
    async fn insert_version(&self, scope: &Scope, assistant: Assistant) -> Result<Assistant>;

    /// Selects a version and returns it; creation and last change of the assistant stay.
    ///
    /// # Errors
    /// `NotFound` if there is no such assistant or version.
    async fn select_version(
        &self,
        scope: &Scope,
        id: AssistantId,
        version: i64,
    ) -> Result<Assistant>;

    /// Versions, newest first, whose metadata contains `metadata`.
    async fn versions(
        &self,
        scope: &Scope,
        id: AssistantId,
        metadata: &Map,
        limit: u32,
        offset: u64,
    ) -> Result<Vec<Assistant>>;

    /// Removes the assistant with its versions; false if there was none.
    async fn delete(&self, scope: &Scope, id: AssistantId) -> Result<bool>;

    /// One page of the assistants that match.
    async fn search(
        &self,
        scope: &Scope,
        query: &AssistantQuery,
        page: &PageQuery,
    ) -> Result<Page<Assistant>>;
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThreadStatus {
    /// Nothing.
    #[default]
    Idle,
    /// A run is pending or running.
    Busy,
    /// The graph waits for somebody.
    Interrupted,
    /// The last run failed.
    Error,
}

impl ThreadStatus {
    /// The word on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Interrupted => "interrupted",
            Self::Error => "error",
        }
    }
}

/// A thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Thread {
    /// Id.
    pub thread_id: ThreadId,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change of any field.
    pub updated_at: Timestamp,
    /// Last change of the state.
    pub state_updated_at: Timestamp,
    /// Metadata; the server mirrors `graph_id` and `assistant_id` into it.
    pub metadata: Map,
    /// `{configurable}` that runs of this thread inherit.
    pub config: Map,
    /// What it is doing.
    pub status: ThreadStatus,
    /// Output channels after the last run; null before the first.
    pub values: Value,
    /// Unanswered interrupts by task id.
    pub interrupts: IndexMap<String, Vec<Interrupt>>,
    /// The last run's error `{error, message}`; null if it did not fail.
    pub error: Value,
    /// Time to live, if one was asked for.
    pub ttl: Option<ThreadTtl>,
}

impl Thread {
    /// When the thread goes away unless it changes; `None` if it stays. A time to live that is
    /// not a number counts as none.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        let ttl = self.ttl.as_ref()?;
        crate::store::expiry(self.updated_at, Some(ttl.ttl_minutes))
    }
}

/// Principal of the scopes in which the queue hands out work.
pub const QUEUE_PRINCIPAL: &str = "queue";

/// When a thread goes away by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadTtl {
    /// `delete` or `keep_latest`.
    pub strategy: String,
    /// Minutes since the last change.
    pub ttl_minutes: f64,
}

/// Life of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Waits for its turn or its time.
    #[default]
    Pending,
    /// A worker holds its lease.
    Running,
    /// Ended well (also when the graph waits for an answer).
    Success,
    /// Ended with an error.
    Error,
    /// Took too long.
    Timeout,
    /// Was cancelled.
    Interrupted,
}

impl RunStatus {
    /// Whether the run will never change again.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The word on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How a run is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CancelAction {
    /// Stop; keep what was done.
    Interrupt,
    /// Stop; remove the run and its checkpoints.
    Rollback,
}

/// What a new run does on a busy thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MultitaskStrategy {
    /// Refuse.
    Reject,
    /// Stop the others, keep what they did.
    Interrupt,
    /// Stop the others, remove them and their checkpoints.
    Rollback,
    /// Wait.
    #[default]
    Enqueue,
}

/// A run: one execution of an assistant on a thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Id.
    pub run_id: RunId,
    /// Thread.
    pub thread_id: ThreadId,
    /// Assistant.
    pub assistant_id: AssistantId,
    /// When it may start, and its place in the queue (`after_seconds` included).
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// Status.
    pub status: RunStatus,
    /// Metadata.
    pub metadata: Map,
    /// Everything the run needs: input, command, config, modes, … as the run service defines it.
    pub kwargs: Map,
    /// Strategy it was created with.
    pub multitask_strategy: MultitaskStrategy,
    /// Attempts so far; 1 while the first is running.
    pub attempt: u32,
    /// Set when somebody asked to stop it.
    pub cancel: Option<CancelAction>,
    /// Who holds the lease; `None` unless running.
    pub lease: Option<Lease>,
    /// `{error, message}` if it failed.
    pub error: Value,
    /// Whether the thread exists only for this run and goes when it ends.
    pub temporary_thread: bool,
}

/// A worker's right to write for a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The worker.
    pub worker: String,
    /// Fencing token; grows with each claim of the run.
    pub token: i64,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
}

/// A thread with its runs that are not terminal, oldest first (by `created_at`, then id).
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadRuns {
    /// The thread.
    pub thread: Thread,
    /// Pending and running runs.
    pub live: Vec<Run>,
}

/// What a decision changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Stores the thread row.
    PutThread(Box<Thread>),
    /// Stores a run row, new or known.
    PutRun(Box<Run>),
    /// Stores a run row whose id nobody has, in whatever state and of whichever tenant.
    InsertRun(Box<Run>),
    /// Moves the next firing of a cron of the tenant, as [`crate::cron::Crons::advance`] does.
    AdvanceCron {
        /// The cron.
        cron_id: CronId,
        /// The firing that it must be at.
        expected: Timestamp,
        /// The one after it; `None` if there is none.
        next: Option<Timestamp>,
    },
    /// Removes a run row with its events, and the checkpoints that name it.
    RollbackRun(RunId),
    /// Removes a run row with its events; checkpoints stay.
    DeleteRun(RunId),
    /// Removes the thread with its runs, events and checkpoints.
    DeleteThread,
    /// Appends events of this thread, as [`crate::event::Events::append`] does.
    Append(Vec<crate::event::Event>),
    /// Stores a letter of the tenant for delivery; one whose id exists stays as it is. The letter
    /// stays when the thread goes.
    Post(Box<crate::outbox::Letter>),
}

/// A pure decision about one thread: sees it and its live runs, returns what to change.
pub type Decide = Box<dyn FnOnce(Option<&ThreadRuns>) -> Result<Vec<Change>> + Send>;

/// Which threads to search; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThreadQuery {
    /// Only these ids; empty for all.
    pub ids: Vec<ThreadId>,
    /// Metadata must contain this (JSON containment).
    pub metadata: Map,
    /// Values must contain this (JSON containment).
    pub values: Map,
    /// Exact status.
    pub status: Option<ThreadStatus>,
}

/// Which runs to search; all conditions must hold. Sorted by `created_at`, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunQuery {
    /// Only this thread.
    pub thread_id: Option<ThreadId>,
    /// Only these ids; empty for all.
    pub run_ids: Vec<RunId>,
    /// Exact status.
    pub status: Option<RunStatus>,
    /// Most rows.
    pub limit: u32,
    /// Rows to skip.
    pub offset: u64,
}

/// A thread that there is something to do about: work to take, or an end of its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Whose it is; the principal is [`QUEUE_PRINCIPAL`].
    pub scope: Scope,
    /// The thread; claim by a decision on it.
    pub thread_id: ThreadId,
}

/// Stores threads and runs.
///
/// Sort columns of threads: `thread_id`, `status`, `created_at`, `updated_at`,
/// `state_updated_at`.
#[async_trait]
pub trait Threads: Send + Sync {
    /// The thread.
    async fn get(&self, scope: &Scope, id: ThreadId) -> Result<Option<Thread>>;

    /// Loads the thread (`None` if the scope has no such thread) with its live runs, calls
    /// `decide`, applies the changes in order, in one transaction; durable when it returns.
    ///
    /// No other decision about the same thread interleaves. `decide` is called at most once.
    ///
    /// # Errors
    /// What `decide` returns; nothing is written then. `Conflict` if `PutThread` would create a
    /// thread whose id another tenant owns, `PutRun` names a run of another thread, `InsertRun`
    /// a run that exists, `AdvanceCron` a firing that is past, or `Append` a number that was used.
    /// `Bug` if a change names another thread, or puts a run where no
    /// thread is. Deleting what does not exist is fine.
    async fn decide(&self, scope: &Scope, id: ThreadId, decide: Decide) -> Result<()>;

    /// Removes those of the threads that have no live run, as [`Change::DeleteThread`] does. A
    /// backend may remove all in one transaction.
    ///
    /// # Errors
    /// Errors of the backend; some of the threads may be gone then.
    async fn remove_resting(&self, threads: &[Candidate]) -> Result<()> {
        for Candidate { scope, thread_id } in threads {
            let decide = |found: Option<&ThreadRuns>| {
                let rests = found.is_some_and(|found| found.live.is_empty());
                Ok(Vec::from_iter(rests.then_some(Change::DeleteThread)))
            };
            self.decide(scope, *thread_id, Box::new(decide)).await?;
        }
        Ok(())
    }

    /// One page of the threads that match.
    async fn search(
        &self,
        scope: &Scope,
        query: &ThreadQuery,
        page: &PageQuery,
    ) -> Result<Page<Thread>>;

    /// The run.
    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>>;

    /// Runs that match.
    async fn runs(&self, scope: &Scope, query: &RunQuery) -> Result<Vec<Run>>;

    /// Threads, of any tenant, that have a pending run due at `now` and no running one, or a
    /// running one whose lease expired before `now`; oldest due first, at most `limit`.
    async fn candidates(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>>;

    /// Extends the lease of a run to `until`.
    ///
    /// # Errors
    /// `Conflict` if the run is no longer leased under that token.
    async fn heartbeat(&self, run_id: RunId, token: i64, until: Timestamp) -> Result<Heartbeat>;

    /// Whether the run is leased under that token at this moment. For backends that keep what a
    /// lease guards elsewhere; nothing keeps the answer true.
    async fn holds(&self, fence: Fence) -> Result<bool>;

    /// Whether no run of the thread is running at this moment, and its row is as it was seen.
    async fn rests(&self, rest: Rest) -> Result<bool>;

    /// How these threads and runs stand, of whatever tenant: one question for all that a process
    /// watches. Everything that was committed before the call is in the answer.
    async fn standing(&self, threads: &[ThreadId], runs: &[RunId]) -> Result<Standing>;

    /// Runs by status, of all tenants; for metrics.
    async fn counts(&self) -> Result<Vec<(RunStatus, u64)>>;

    /// How long runs wait and execute, of all tenants; for metrics. Nothing by default.
    async fn ages(&self) -> Result<Ages> {
        Ok(Ages::default())
    }

    /// Threads whose time to live ended before `now`, at most `limit`.
    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>>;
}

/// How watched threads and runs stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Those of the threads that exist, and the greatest event number ever used in each; in any
    /// order.
    pub logs: Vec<(ThreadId, u64)>,
    /// Those of the runs that exist and are not over, in any order.
    pub live: Vec<RunId>,
}

/// How long what is not over has been so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// When the pending run that is due longest became due; `None` if there is none.
    pub pending_since: Option<Timestamp>,
    /// When the run that executes longest last changed; `None` if there is none.
    pub running_since: Option<Timestamp>,
}

/// What a heartbeat learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Set if somebody asked to stop the run.
    pub cancel: Option<CancelAction>,
}

/// The lease that a worker asks for, and how often it must renew it: a third of this.
pub const LEASE: Duration = Duration::from_secs(30);
