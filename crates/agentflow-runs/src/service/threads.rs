//! Threads and their state.

use agentflow_storage::{
    checkpoint::{Prune, Rest, usage::Usage},
    page::{Page, PageQuery},
    record::{Change, Thread, ThreadQuery, ThreadRuns, ThreadStatus, ThreadTtl},
};
use agentflow_types::{
    Error, ErrorKind, Map, Result, Scope, ThreadId, Value,
    graph::{CheckpointRef, RunConfig, StateSnapshot},
};
use indexmap::IndexMap;

use super::{IfExists, Service};
use crate::{
    host::{GraphHost, HistoryQuery, Superstep, UpdateRequest},
    machine,
};

/// How often a change of state is tried that the thread did not wait for.
const UPDATE_TRIES: usize = 8;

/// A new thread.
#[derive(Clone, Debug, Default)]
pub struct CreateThread {
    /// Id; minted if absent.
    pub thread_id: Option<ThreadId>,
    /// Metadata.
    pub metadata: Map,
    /// What to do when the id exists.
    pub if_exists: IfExists,
    /// Time to live.
    pub ttl: Option<ThreadTtl>,
    /// Graph whose state `supersteps` build; `None` if there are none.
    pub graph_id: Option<String>,
    /// Updates to apply, superstep by superstep.
    pub supersteps: Vec<Superstep>,
}

/// Changes of a thread; absent fields stay.
#[derive(Clone, Debug, Default)]
pub struct PatchThread {
    /// Metadata, merged.
    pub metadata: Option<Map>,
    /// Time to live.
    pub ttl: Option<ThreadTtl>,
}

/// A change of a thread's state.
#[derive(Clone, Debug, Default)]
pub struct StateUpdate {
    /// Values: a map, a list of maps, or null.
    pub values: Value,
    /// Node that is said to have written them.
    pub as_node: Option<String>,
    /// Checkpoint to change; the latest if absent.
    pub checkpoint: Option<CheckpointRef>,
}

fn not_found(id: ThreadId) -> Error {
    Error::not_found(format!("Thread with ID {id} not found"))
}

/// The graph that a thread's runs used.
fn graph_of(thread: &Thread) -> Option<&str> {
    thread.metadata.get("graph_id").and_then(Value::as_str)
}

impl Service {
    /// Creates a thread.
    ///
    /// # Errors
    /// `Conflict` if it exists and `if_exists` says raise.
    pub async fn create_thread(&self, scope: &Scope, create: CreateThread) -> Result<Thread> {
        let id = create.thread_id.unwrap_or_else(ThreadId::mint);
        let now = self.now();
        let mut thread = machine::new_thread(id, create.metadata, now);
        thread.ttl = create.ttl;
        if let Some(graph_id) = &create.graph_id {
            self.host(graph_id)?;
            thread
                .metadata
                .insert("graph_id".into(), Value::str(graph_id.as_str()));
        }
        let (row, if_exists) = (thread.clone(), create.if_exists);
        let decided = self.backend.threads.decide(
            scope,
            id,
            Box::new(move |found| match (found, if_exists) {
                (None, _) => Ok(vec![Change::PutThread(Box::new(row))]),
                (Some(_), IfExists::DoNothing) => Ok(vec![]),
                (Some(_), IfExists::Raise) => Err(Error::conflict(format!(
                    "Thread with ID {id} already exists"
                ))),
            }),
        );
        decided.await?;
        if !create.supersteps.is_empty() {
            let graph_id = create
                .graph_id
                .ok_or_else(|| Error::invalid("supersteps need a graph: set metadata.graph_id"))?;
            let at = CheckpointRef {
                thread_id: id.text(),
                ..CheckpointRef::default()
            };
            self.host(&graph_id)?
                .bulk_update(scope, &graph_id, &at, create.supersteps, thread_config(id))
                .await?;
            self.refresh_thread(scope, id, Refresh::Changed).await?;
        }
        self.get_thread(scope, id).await
    }

    /// The thread.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_thread(&self, scope: &Scope, id: ThreadId) -> Result<Thread> {
        self.backend
            .threads
            .get(scope, id)
            .await?
            .ok_or_else(|| not_found(id))
    }

    /// One page of threads.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn search_threads(
        &self,
        scope: &Scope,
        query: &ThreadQuery,
        page: &PageQuery,
    ) -> Result<Page<Thread>> {
        self.backend.threads.search(scope, query, page).await
    }

    /// Changes metadata and time to live.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn patch_thread(
        &self,
        scope: &Scope,
        id: ThreadId,
        patch: PatchThread,
    ) -> Result<Thread> {
        let now = self.now();
        let decide = move |found: Option<&ThreadRuns>| {
            let mut thread = found.ok_or_else(|| not_found(id))?.thread.clone();
            for (key, value) in patch.metadata.unwrap_or_default() {
                thread.metadata.insert(key, value);
            }
            thread.ttl = patch.ttl.or(thread.ttl);
            thread.updated_at = now;
            Ok(vec![Change::PutThread(Box::new(thread))])
        };
        self.backend
            .threads
            .decide(scope, id, Box::new(decide))
            .await?;
        self.get_thread(scope, id).await
    }

    /// Removes a thread with its runs, events and checkpoints. Runs that execute are stopped.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_thread(&self, scope: &Scope, id: ThreadId) -> Result<()> {
        let now = self.now();
        let (tx, rx) = std::sync::mpsc::channel();
        let decide = move |found: Option<&ThreadRuns>| {
            let found = found.ok_or_else(|| not_found(id))?;
            // The receiver lives until the decision was made.
            let _ = tx.send(found.live.clone());
            let letters = found.live.iter().filter_map(|run| machine::lost(run, now));
            Ok(letters.chain([Change::DeleteThread]).collect())
        };
        self.backend
            .threads
            .decide(scope, id, Box::new(decide))
            .await?;
        for run in rx.try_iter().flatten() {
            self.stop_here(
                run.run_id,
                agentflow_storage::record::CancelAction::Rollback,
            );
            self.letters_may_wait(&run);
            self.tell_waiters(scope, &run, Value::map(Map::new()));
        }
        Ok(())
    }

    /// Copies a thread with all its checkpoints to a new thread.
    ///
    /// # Errors
    /// `Conflict` if there is no such thread (as LangGraph's server answers).
    pub async fn copy_thread(&self, scope: &Scope, id: ThreadId) -> Result<Thread> {
        let source = self.get_thread(scope, id).await.map_err(|_| {
            Error::conflict(format!(
                "Thread with ID {id} does not exist, so it cannot be copied"
            ))
        })?;
        let copy_id = ThreadId::mint();
        self.backend
            .checkpoints
            .copy_thread(&id.text(), &copy_id.text())
            .await?;
        let now = self.now();
        let mut copy = source;
        copy.thread_id = copy_id;
        (copy.created_at, copy.updated_at, copy.state_updated_at) = (now, now, now);
        if copy.status == ThreadStatus::Busy {
            copy.status = ThreadStatus::Idle;
        }
        copy.metadata
            .insert("thread_id".into(), Value::str(copy_id.text()));
        let row = copy.clone();
        let decide = move |_: Option<&_>| Ok(vec![Change::PutThread(Box::new(row))]);
        self.backend
            .threads
            .decide(scope, copy_id, Box::new(decide))
            .await?;
        Ok(copy)
    }

    /// Removes threads, or all but their newest checkpoints; returns how many were touched.
    /// Unknown ids and busy threads are passed over.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn prune_threads(
        &self,
        scope: &Scope,
        ids: &[ThreadId],
        strategy: Prune,
    ) -> Result<u64> {
        let mut pruned = 0;
        for id in ids {
            let Some(thread) = self.backend.threads.get(scope, *id).await? else {
                continue;
            };
            if thread.status == ThreadStatus::Busy {
                continue;
            }
            match strategy {
                Prune::Delete => self.delete_thread(scope, *id).await?,
                Prune::KeepLatest => {
                    self.backend
                        .checkpoints
                        .prune(&[id.text()], Prune::KeepLatest)
                        .await?;
                }
            }
            pruned += 1;
        }
        Ok(pruned)
    }

    /// What the checkpoints of a thread take; `None` if the backend does not measure it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn storage_use(&self, scope: &Scope, id: ThreadId) -> Result<Option<Usage>> {
        self.get_thread(scope, id).await?;
        self.backend.checkpoints.usage(&id.text()).await
    }

    /// The host and id of the graph that a thread belongs to; `None` before its first run.
    fn graph_for(&self, thread: &Thread) -> Result<Option<(&dyn GraphHost, String)>> {
        match graph_of(thread) {
            None => Ok(None),
            Some(id) => Ok(Some((&**self.host(id)?, id.to_owned()))),
        }
    }

    /// State at a checkpoint, or the latest state.
    ///
    /// # Errors
    /// `NotFound` for the thread, or a checkpoint that does not exist.
    pub async fn state(
        &self,
        scope: &Scope,
        id: ThreadId,
        checkpoint: Option<CheckpointRef>,
        subgraphs: bool,
    ) -> Result<StateSnapshot> {
        let thread = self.get_thread(scope, id).await?;
        let mut at = checkpoint.unwrap_or_default();
        at.thread_id = id.text();
        let wanted = at.checkpoint_id.clone();
        let snapshot = match self.graph_for(&thread)? {
            Some((host, graph_id)) => host.state(&graph_id, &at, subgraphs).await?,
            None => StateSnapshot {
                values: Value::map(Map::new()),
                checkpoint: at,
                ..StateSnapshot::default()
            },
        };
        if wanted.is_some() && snapshot.created_at.is_none() {
            return Err(Error::not_found("Checkpoint not found.")
                .with("checkpoint_id", wanted.unwrap_or_default()));
        }
        Ok(snapshot)
    }

    /// States of a thread, newest first.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn history(
        &self,
        scope: &Scope,
        id: ThreadId,
        mut query: HistoryQuery,
    ) -> Result<Vec<StateSnapshot>> {
        let thread = self.get_thread(scope, id).await?;
        query.checkpoint.thread_id = id.text();
        match self.graph_for(&thread)? {
            Some((host, graph_id)) => host.history(&graph_id, &query).await,
            None => Ok(vec![]),
        }
    }

    /// Changes the state of an idle thread; returns the new checkpoint.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while a run is in flight; `Invalid` if the graph refuses.
    pub async fn update_state(
        &self,
        scope: &Scope,
        id: ThreadId,
        update: StateUpdate,
    ) -> Result<CheckpointRef> {
        for _ in 0..UPDATE_TRIES {
            let thread = self.get_thread(scope, id).await?;
            if thread.status == ThreadStatus::Busy {
                return Err(Error::conflict(
                    "Thread is busy with a running job. Cannot update state while a run is in \
                     flight.",
                ));
            }
            match self.update_as_seen(scope, &thread, update.clone()).await {
                // Whether a run began, or somebody renamed the thread: the next look tells.
                Err(err) if err.kind() == ErrorKind::Conflict => {}
                done => {
                    let written = done?;
                    self.refresh_thread(scope, id, Refresh::Changed).await?;
                    return Ok(written);
                }
            }
        }
        Err(Error::conflict(
            "Thread changes all the time. Cannot update its state.",
        ))
    }

    /// Changes the state of a thread.
    ///
    /// # Errors
    /// `Conflict` if the thread is not as it was seen; nothing is written then.
    async fn update_as_seen(
        &self,
        scope: &Scope,
        thread: &Thread,
        update: StateUpdate,
    ) -> Result<CheckpointRef> {
        let id = thread.thread_id;
        let Some((host, graph_id)) = self.graph_for(thread)? else {
            return Err(Error::invalid(format!(
                "Thread '{id}' has no assigned graph ID. This usually occurs when no runs have \
                 been made on this particular thread."
            )));
        };
        let mut checkpoint = update.checkpoint.unwrap_or_default();
        checkpoint.thread_id = id.text();
        let request = UpdateRequest {
            scope: scope.clone(),
            graph_id,
            checkpoint,
            values: update.values,
            as_node: update.as_node,
            config: thread_config(id),
            rest: Rest {
                thread_id: id,
                updated_at: thread.updated_at,
            },
        };
        host.update_state(request).await
    }

    /// Reads the latest state into the row of a thread that no run executes on.
    pub(super) async fn refresh_thread(
        &self,
        scope: &Scope,
        id: ThreadId,
        why: Refresh,
    ) -> Result<()> {
        let Some(thread) = self.backend.threads.get(scope, id).await? else {
            return Ok(());
        };
        let snapshot = match self.graph_for(&thread)? {
            Some((host, graph_id)) => {
                let at = CheckpointRef {
                    thread_id: id.text(),
                    ..CheckpointRef::default()
                };
                host.state(&graph_id, &at, false).await?
            }
            None => return Ok(()),
        };
        let now = self.now();
        let decide = move |found: Option<&ThreadRuns>| {
            let Some(found) = found.filter(|found| found.live.is_empty()) else {
                return Ok(vec![]);
            };
            let mut thread = found.thread.clone();
            thread.interrupts = interrupts_by_task(&snapshot);
            // A thread that never ran has no values, which is not the same as empty ones.
            if snapshot.created_at.is_some() || !thread.values.is_null() {
                thread.values = snapshot.values;
            }
            if why == Refresh::Changed {
                thread.error = Value::Null;
                thread.state_updated_at = now;
            }
            thread.updated_at = now;
            thread.status = match () {
                () if !thread.error.is_null() => ThreadStatus::Error,
                () if !snapshot.next.is_empty() => ThreadStatus::Interrupted,
                () => ThreadStatus::Idle,
            };
            Ok(vec![Change::PutThread(Box::new(thread))])
        };
        let threads = &self.backend.threads;
        threads.decide(scope, id, Box::new(decide)).await
    }
}

/// Why a thread row is read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refresh {
    /// Somebody changed the state; the last run's error is history.
    Changed,
    /// The last runs went without leaving a result.
    AtRest,
}

/// Configuration of an update from outside a run.
fn thread_config(id: ThreadId) -> RunConfig {
    let mut config = RunConfig::default();
    config
        .configurable
        .insert("thread_id".into(), Value::str(id.text()));
    config
}

/// Interrupts of the tasks of a state, by task id.
pub(super) fn interrupts_by_task(
    snapshot: &StateSnapshot,
) -> IndexMap<String, Vec<agentflow_types::graph::Interrupt>> {
    snapshot
        .tasks
        .iter()
        .filter(|task| !task.interrupts.is_empty())
        .map(|task| (task.id.clone(), task.interrupts.clone()))
        .collect()
}
