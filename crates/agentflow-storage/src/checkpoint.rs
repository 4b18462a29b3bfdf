//! Checkpoints and pending writes, in LangGraph's model.

pub mod delta;
pub mod usage;

use agentflow_types::{Error, Map, Result, RunId, Str, ThreadId, Timestamp, Value};
use async_trait::async_trait;
use delta::DeltaHistory;
use indexmap::IndexMap;

/// Pseudo channels of pending writes, with the fixed slots that LangGraph's savers give them.
pub mod special {
    /// A task's error.
    pub const ERROR: &str = "__error__";
    /// A task was scheduled by another one.
    pub const SCHEDULED: &str = "__scheduled__";
    /// A task asks a question.
    pub const INTERRUPT: &str = "__interrupt__";
    /// Answers to a task's questions.
    pub const RESUME: &str = "__resume__";

    /// The slot of a special channel; `None` for ordinary channels, whose slot is their position
    /// in the list of writes.
    #[must_use]
    pub fn slot(channel: &str) -> Option<i64> {
        match channel {
            ERROR => Some(-1),
            SCHEDULED => Some(-2),
            INTERRUPT => Some(-3),
            RESUME => Some(-4),
            _ => None,
        }
    }
}

/// Version of a channel.
///
/// LangGraph writes text like `00000000000000000000000000000002.0.7215228518483673`; custom
/// Python savers write integers or floats. Comparison is within a kind; text compares as text.
#[derive(Clone, Debug, PartialEq)]
pub enum Version {
    /// Text, compared as text.
    Text(Str),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
}

/// The state of one (sub)graph after a superstep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Format version; 4 is what is written today, older ones are read.
    pub v: i64,
    /// ISO 8601.
    pub ts: String,
    /// UUID version 6 text; sorts by time.
    pub id: String,
    /// Channel contents.
    pub channel_values: Map,
    /// Channel versions.
    pub channel_versions: IndexMap<Str, Version>,
    /// For each node, the channel versions it last ran with.
    pub versions_seen: IndexMap<Str, IndexMap<Str, Version>>,
    /// Channels that the last superstep changed, sorted; `None` in old checkpoints.
    pub updated_channels: Option<Vec<Str>>,
    /// Keys that this version does not know, kept as they were read.
    pub extra: Map,
}

/// Channel of scheduled `Send`s.
const TASKS: &str = "__pregel_tasks";
/// First format version in which scheduled sends are a channel of the checkpoint.
const SENDS_IN_CHANNEL: i64 = 4;

impl Checkpoint {
    /// Whether this is an old checkpoint whose scheduled sends are writes under its parent.
    #[must_use]
    pub fn wants_pending_sends(&self) -> bool {
        self.v < SENDS_IN_CHANNEL && !self.channel_values.contains_key(TASKS)
    }

    /// Moves the sends of an old checkpoint into their channel, at the newest version of any
    /// channel, as LangGraph's PostgreSQL saver does on reading. No sends: no change.
    pub fn take_pending_sends(&mut self, sends: Vec<Value>) {
        if sends.is_empty() {
            return;
        }
        let newest = self
            .channel_versions
            .values()
            .reduce(|a, b| if b.newer_than(a) { b } else { a });
        let version = newest.cloned().unwrap_or_else(|| Version::Text("1".into()));
        self.channel_values.insert(TASKS.into(), Value::list(sends));
        self.channel_versions.insert(TASKS.into(), version);
    }
}

impl Version {
    /// Whether this version is greater; versions of different kinds compare as numbers before
    /// text.
    #[must_use]
    pub fn newer_than(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a > b,
            (Self::Text(_), _) => true,
            (_, Self::Text(_)) => false,
            (Self::Int(a), Self::Int(b)) => a > b,
            (Self::Float(a), Self::Float(b)) => a > b,
            (Self::Int(a), Self::Float(b)) => (*a as f64) > *b,
            (Self::Float(a), Self::Int(b)) => *a > (*b as f64),
        }
    }
}

/// The sends among the pending writes of the parent of an old checkpoint, in order.
#[must_use]
pub fn pending_sends_of(writes: Vec<PendingWrite>) -> Vec<Value> {
    writes
        .into_iter()
        .filter(|write| &*write.channel == TASKS)
        .map(|write| write.value)
        .collect()
}

/// The error of a writer whose lease is gone.
#[must_use]
pub fn fenced(fence: Fence) -> Error {
    Error::conflict("the run is no longer leased under this token")
        .with("run_id", fence.run_id)
        .with("token", fence.token)
}

/// What a task wrote to one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingWrite {
    /// The task.
    pub task_id: String,
    /// Channel, or one of [`special`].
    pub channel: Str,
    /// The value.
    pub value: Value,
}

/// Where a checkpoint is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CheckpointKey {
    /// The thread.
    pub thread_id: String,
    /// Namespace; empty at the root.
    pub checkpoint_ns: String,
    /// The checkpoint; `None` for the latest (greatest id).
    pub checkpoint_id: Option<String>,
}

/// A stored checkpoint with its surroundings.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointTuple {
    /// Where it is; `checkpoint_id` is always set.
    pub key: CheckpointKey,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Metadata: `source`, `step`, `parents`, `run_id`, and what the configuration added.
    pub metadata: Map,
    /// Id of the parent in the same thread and namespace.
    pub parent_id: Option<String>,
    /// Writes of the tasks that follow this checkpoint, sorted by (task path, task id, slot).
    pub pending_writes: Vec<PendingWrite>,
}

/// Which checkpoints to list; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckpointQuery {
    /// Only this thread; `None` for all.
    pub thread_id: Option<String>,
    /// Only this namespace; `None` for all.
    pub checkpoint_ns: Option<String>,
    /// Only this checkpoint.
    pub checkpoint_id: Option<String>,
    /// Only checkpoints whose metadata has these entries, each equal.
    pub metadata: Map,
    /// Only ids smaller than this one.
    pub before: Option<String>,
    /// Most rows; `None` for all.
    pub limit: Option<u32>,
}

/// One write of a [`Checkpoints::commit`].
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "lists of these are short and short-lived"
)]
pub enum CheckpointOp {
    /// Stores a checkpoint; an existing one with the same key is replaced.
    Put {
        /// Thread.
        thread_id: String,
        /// Namespace.
        checkpoint_ns: String,
        /// Parent id.
        parent_id: Option<String>,
        /// The checkpoint.
        checkpoint: Checkpoint,
        /// Metadata.
        metadata: Map,
        /// Channels whose version changed since the stored parent; a backend that stores channel
        /// values apart writes only these.
        new_versions: Vec<Str>,
    },
    /// Stores the writes of one task under a checkpoint.
    ///
    /// The slot of a write is [`special::slot`], else its position in `writes`. If all channels
    /// are special, a write replaces what its slot holds; otherwise the first write to a slot
    /// wins and later ones are ignored.
    Writes {
        /// Thread.
        thread_id: String,
        /// Namespace.
        checkpoint_ns: String,
        /// The checkpoint that the task follows.
        checkpoint_id: String,
        /// The task.
        task_id: String,
        /// Path of the task, for sorting.
        task_path: String,
        /// Channel and value, in order.
        writes: Vec<(Str, Value)>,
    },
}

/// Proof that the writer still holds the lease of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The run.
    pub run_id: RunId,
    /// The token that the claim returned.
    pub token: i64,
}

/// What was seen of a thread by somebody outside of a run, who wants to store a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// The thread.
    pub thread_id: ThreadId,
    /// The last change of its row. A run that begins or ends changes it.
    pub updated_at: Timestamp,
}

/// The error of a writer whose thread did not stay as it was seen.
#[must_use]
pub fn moved(rest: Rest) -> Error {
    Error::conflict("the thread has changed meanwhile").with("thread_id", rest.thread_id)
}

/// Stores checkpoints.
///
/// Ids sort by time, so "newest" means the greatest id. Values are read back with the type they
/// had (`1` is not `1.0`, bytes are not text, unknown extensions keep their bytes).
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// The checkpoint at `key`, or the newest one of its namespace; `None` if there is none.
    async fn get(&self, key: &CheckpointKey) -> Result<Option<CheckpointTuple>>;

    /// Checkpoints that match, newest first.
    async fn list(&self, query: &CheckpointQuery) -> Result<Vec<CheckpointTuple>>;

    /// Applies all writes, in order, in one transaction; durable when it returns.
    ///
    /// # Errors
    /// `Conflict` if a fence is given and the run is no longer leased under that token; nothing
    /// is written then.
    async fn commit(&self, ops: Vec<CheckpointOp>, fence: Option<Fence>) -> Result<()>;

    /// As [`Self::commit`] without a fence, if no run of the thread is running and its row is as
    /// it was seen: then no run has been there since, and none begins before the commit.
    ///
    /// # Errors
    /// `Conflict` if that is not so; nothing is written then. `Bug` from savers that know no
    /// threads.
    async fn commit_at_rest(&self, ops: Vec<CheckpointOp>, rest: Rest) -> Result<()> {
        let _ = (ops, rest);
        Err(Error::bug("these checkpoints know no threads"))
    }

    /// Whoever holds the lease of a run on the thread calls this before it reads what it goes on
    /// from: afterwards nothing is stored under an earlier lease. Backends whose fences look at
    /// the run itself have nothing to do.
    ///
    /// # Errors
    /// `Conflict` if the run is no longer leased under that token.
    async fn take_over(&self, thread_id: &str, fence: Fence) -> Result<()> {
        let _ = (thread_id, fence);
        Ok(())
    }

    /// What rebuilds delta channels at a checkpoint, in the order of `channels`: for each the
    /// value that the nearest ancestor stores, and the pending writes of the ancestors from that
    /// one on. The checkpoint's own value and pending writes do not count. Follows parents, so
    /// that other branches of the thread do not count either.
    ///
    /// Backends that can follow parents with fewer round trips replace this walk.
    ///
    /// # Errors
    /// `Corrupt` if there are more than [`delta::MAX_WALK`] ancestors.
    async fn delta_history(
        &self,
        key: &CheckpointKey,
        channels: &[Str],
    ) -> Result<Vec<DeltaHistory>> {
        delta::walk(self, key, channels).await
    }

    /// Removes all checkpoints and writes of a thread. A thread that has none is fine.
    async fn delete_thread(&self, thread_id: &str) -> Result<()>;

    /// Copies all checkpoints and writes of a thread to another thread, ids unchanged.
    async fn copy_thread(&self, from: &str, to: &str) -> Result<()>;

    /// Removes the checkpoints whose metadata names one of these runs, with their writes.
    async fn delete_for_runs(&self, run_ids: &[String]) -> Result<()>;

    /// Removes all checkpoints of the threads (`Delete`), or all but the newest of each
    /// namespace (`KeepLatest`) and the ancestors that its delta channels are rebuilt from
    /// ([`delta::unresolved`]).
    async fn prune(&self, thread_ids: &[String], strategy: Prune) -> Result<()>;

    /// What the checkpoints of a thread take; `None` if the backend does not measure it. Nothing
    /// for a thread that has none.
    async fn usage(&self, thread_id: &str) -> Result<Option<usage::Usage>> {
        let _ = thread_id;
        Ok(None)
    }
}

/// What pruning keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// The newest checkpoint of each namespace, and what its delta channels are rebuilt from.
    KeepLatest,
    /// Nothing.
    Delete,
}
