//! The numbered event log of a thread's runs.

use std::sync::Arc;

use agentflow_types::{Result, RunId, Str, ThreadId, Timestamp};
use async_trait::async_trait;

use crate::checkpoint::Fence;

/// One event as stored; immutable.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Number within the thread, from 1, without gaps within a run that was not killed; never
    /// used twice.
    pub seq: u64,
    /// The run that speaks.
    pub run_id: RunId,
    /// When it was appended.
    pub at: Timestamp,
    /// What it is: a stream mode, `metadata`, `error`, `lifecycle`, `done`, …
    pub kind: Str,
    /// Namespace of the subgraph; empty at the root.
    pub ns: Vec<Str>,
    /// JSON text, serialized once for all readers.
    pub data: Arc<str>,
}

/// Stores events.
#[async_trait]
pub trait Events: Send + Sync {
    /// Appends events of one thread in one transaction; durable when it returns.
    ///
    /// # Errors
    /// `Conflict` if a number is not greater than all numbers used before in the thread, or the
    /// fence does not hold; `NotFound` if the thread does not exist. Nothing is written then.
    async fn append(
        &self,
        thread_id: ThreadId,
        events: Vec<Event>,
        fence: Option<Fence>,
    ) -> Result<()>;

    /// Events with a number greater than `after`, ascending, at most `limit`; only of `run` if
    /// given.
    ///
    /// May be answered from a copy, which has all that this process heard of, but perhaps not
    /// what others stored meanwhile.
    async fn read(
        &self,
        thread_id: ThreadId,
        run: Option<RunId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>>;

    /// As [`Self::read`], with everything that was stored before the call. For who concludes
    /// from what is not there.
    async fn read_stored(
        &self,
        thread_id: ThreadId,
        run: Option<RunId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>> {
        self.read(thread_id, run, after, limit).await
    }

    /// The greatest number ever used in the thread, 0 if none. Deleting events does not lower it
    /// while the thread exists.
    async fn last_seq(&self, thread_id: ThreadId) -> Result<u64>;

    /// Removes events of runs that ended (last changed) before `before`, or are gone, at most `limit` rows; returns
    /// how many went.
    async fn expire(&self, before: Timestamp, limit: u32) -> Result<u64>;
}
