//! What a worker may do for one request of ours. See `docs/worker-protocol.md`, section 6.

use std::sync::Arc;

use agentflow_storage::checkpoint::{CheckpointOp, Fence, Rest, fenced};
use agentflow_types::{Error, ErrorKind, Result, Scope, Str, Value, graph::StreamEvent};
use tokio::sync::mpsc;

use crate::{Services, link::Link};

/// Commits of one request that may wait; beyond it the connection is not read.
const COMMITS: usize = 256;
/// Commits that share a transaction.
const TOGETHER: usize = 64;
/// What an event costs besides its JSON, in bytes.
pub(crate) const EVENT_COST: u64 = 64;

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rights {
    /// Checkpoints of the thread may be read.
    Read,
    /// And written, under this lease if there is one; items as well.
    Write(Option<Fence>),
    /// And written while the thread rests as it was seen; items as well.
    AtRest(Rest),
}

/// One event with its price.
pub(crate) type Priced = (StreamEvent, u64);

/// A request of ours that a worker works for.
pub(crate) struct Session {
    scope: Scope,
    thread_id: String,
    rights: Rights,
    commits: mpsc::Sender<Commit>,
    events: Option<mpsc::Sender<Priced>>,
}

struct Commit {
    ops: Vec<CheckpointOp>,
    id: u64,
}

impl Session {
    /// A session about a thread; commits are answered over `link`.
    pub(crate) fn open(
        services: &Services,
        link: &Arc<Link>,
        scope: Scope,
        thread_id: String,
        rights: Rights,
        events: Option<mpsc::Sender<Priced>>,
    ) -> Self {
        let (commits, waiting) = mpsc::channel(COMMITS);
        if rights != Rights::Read {
            tokio::spawn(store(services.clone(), link.clone(), rights, waiting));
        }
        Self {
            scope,
            thread_id,
            rights,
            commits,
            events,
        }
    }

    /// In whose name.
    ///
    /// # Errors
    /// `Denied` if the request is not about anything of theirs but a thread.
    pub(crate) fn scope(&self) -> Result<&Scope> {
        match self.rights {
            Rights::Write(_) | Rights::AtRest(_) => Ok(&self.scope),
            Rights::Read => Err(Error::denied("items are for runs and updates")),
        }
    }

    /// Checks that a thread is the one that this is about.
    ///
    /// # Errors
    /// `Denied` if not.
    pub(crate) fn check_thread(&self, thread_id: &str) -> Result<()> {
        match thread_id == self.thread_id {
            true => Ok(()),
            false => Err(
                Error::denied("a graph reaches the checkpoints of its own thread only")
                    .with("thread_id", thread_id),
            ),
        }
    }

    /// The thread that this is about.
    pub(crate) fn thread_id(&self) -> &str {
        &self.thread_id
    }

    /// Has a commit stored and answered under `id`, after those before it.
    ///
    /// # Errors
    /// `Denied` if the request only reads.
    pub(crate) async fn commit(&self, id: u64, ops: Vec<CheckpointOp>) -> Result<()> {
        if self.rights == Rights::Read {
            return Err(Error::denied("this request only reads checkpoints"));
        }
        let sent = self.commits.send(Commit { ops, id }).await;
        sent.map_err(|_| over())
    }

    /// Takes in an event.
    ///
    /// # Errors
    /// `Invalid` if the worker sent more than it had credit for.
    pub(crate) fn event(&self, event: Priced) -> Result<()> {
        let Some(events) = &self.events else {
            return Err(Error::invalid("only runs have events"));
        };
        match events.try_send(event) {
            // Whoever dropped the run does not need them.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(Error::invalid("a worker sent more events than it may"))
            }
        }
    }
}

/// The answer to whoever works for a request that is answered.
pub(crate) fn over() -> Error {
    Error::conflict("the request is over")
}

async fn write(services: &Services, rights: Rights, ops: Vec<CheckpointOp>) -> Result<()> {
    match rights {
        Rights::Write(fence) => services.checkpoints.commit(ops, fence).await,
        Rights::AtRest(rest) => services.checkpoints.commit_at_rest(ops, rest).await,
        Rights::Read => Err(Error::denied("this request only reads checkpoints")),
    }
}

/// Stores commits in order, whatever waits at once in one transaction.
async fn store(
    services: Services,
    link: Arc<Link>,
    rights: Rights,
    mut waiting: mpsc::Receiver<Commit>,
) {
    let mut lost = false;
    let mut batch: Vec<Commit> = Vec::new();
    while waiting.recv_many(&mut batch, TOGETHER).await > 0 {
        if let (true, Rights::Write(Some(fence))) = (lost, rights) {
            for commit in batch.drain(..) {
                link.answer(commit.id, Err(fenced(fence))).await;
            }
            continue;
        }
        let together = batch.len() > 1;
        let ops: Vec<CheckpointOp> = match together {
            true => batch.iter().flat_map(|commit| commit.ops.clone()).collect(),
            false => batch
                .iter_mut()
                .flat_map(|c| std::mem::take(&mut c.ops))
                .collect(),
        };
        match write(&services, rights, ops).await {
            Ok(()) => {
                for commit in batch.drain(..) {
                    link.answer(commit.id, Ok(Value::Null)).await;
                }
            }
            Err(err) if together && err.kind() != ErrorKind::Conflict => {
                // One of them may be at fault; each gets its own answer.
                for commit in batch.drain(..) {
                    let stored = write(&services, rights, commit.ops).await;
                    link.answer(commit.id, stored.map(|()| Value::Null)).await;
                }
            }
            Err(err) => {
                lost = err.kind() == ErrorKind::Conflict;
                let answer = crate::fault::write(&err);
                for commit in batch.drain(..) {
                    link.answer(commit.id, Err(crate::fault::read(&answer)))
                        .await;
                }
            }
        }
    }
}

/// Reads the events of a notification.
///
/// # Errors
/// `Invalid` if they are none.
pub(crate) fn read_events(params: &Value) -> Result<Vec<Priced>> {
    let one = |event: &Value| {
        let wrong = || crate::wire::wrong("event");
        let Some([ns, mode, data]) = event.as_list() else {
            return Err(wrong());
        };
        let ns = ns
            .as_list()
            .ok_or_else(wrong)?
            .iter()
            .filter_map(Value::as_str);
        let size = match data {
            Value::Bytes(bytes) => bytes.len(),
            Value::Str(text) => text.len(),
            _ => return Err(wrong()),
        };
        let event = StreamEvent {
            ns: ns.map(Str::from).collect(),
            mode: mode.as_str().ok_or_else(wrong)?.parse()?,
            data: crate::wire::from_json(Some(data))?,
        };
        Ok((event, size as u64 + EVENT_COST))
    };
    crate::wire::items(params, "events")
        .iter()
        .map(one)
        .collect()
}
