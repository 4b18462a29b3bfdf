//! Looking at stored states.

use std::sync::Arc;

use agentflow_storage::checkpoint::{CheckpointKey, CheckpointQuery, CheckpointTuple, Checkpoints};
use agentflow_types::{
    Error, Result, SeededRng, Str, Value,
    graph::{CheckpointRef, Interrupt, StateSnapshot, TaskSnapshot},
};

use crate::{
    builder::Persistence,
    core::{
        board::{Board, Prepare, Versions, WriteSet},
        delta,
        ids::{TaskId, lasting_ns, task_ns, without_task_ids},
        migrate::migrate,
        payload::{Wanted, result},
        task::{Path, Pending, Status, Target, Task, Write, read_interrupt, tasks_of},
    },
    graph::{Graph, HistoryQuery},
    invocation::Runtime,
    layout::Layout,
};

/// Whether a snapshot shows how things stand, or is a record of a superstep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// Values count what finished tasks wrote; answered questions are gone.
    Live,
    /// Values as of the start of the superstep; every task and question of it.
    Record,
}

/// The saver of a runtime.
///
/// # Errors
/// `Invalid` if there is none.
pub(crate) fn saver(runtime: &Runtime) -> Result<&Arc<dyn Checkpoints>> {
    runtime
        .saver
        .as_ref()
        .ok_or_else(|| Error::invalid("No checkpointer set").class("ValueError"))
}

/// The graph that a namespace is about.
///
/// # Errors
/// `NotFound` if there is none.
pub(crate) fn graph_at(graph: &Arc<Graph>, ns: &str) -> Result<Arc<Graph>> {
    if ns.is_empty() {
        return Ok(graph.clone());
    }
    let wanted = without_task_ids(ns);
    let found = graph
        .subgraphs()
        .into_iter()
        .find(|(name, _)| *name == wanted);
    found
        .map(|(_, graph)| graph)
        .ok_or_else(|| Error::not_found(format!("Subgraph {wanted} not found")).class("ValueError"))
}

/// The namespace under which a graph keeps what a reference names.
pub(crate) fn own_ns(graph: &Graph, ns: &str) -> String {
    match graph.layout().persistence {
        Persistence::Persistent => lasting_ns(ns),
        _ => ns.to_owned(),
    }
}

/// The key of a reference to a state of `graph`.
pub(crate) fn key_of(graph: &Graph, at: &CheckpointRef) -> CheckpointKey {
    CheckpointKey {
        thread_id: at.thread_id.clone(),
        checkpoint_ns: own_ns(graph, &at.checkpoint_ns),
        checkpoint_id: at.checkpoint_id.clone().filter(|id| !id.is_empty()),
    }
}

/// Fills in the values that a loaded checkpoint leaves to its ancestors.
///
/// # Errors
/// What the saver or a reducer fails with.
pub(crate) async fn rebuild_deltas(
    saver: &dyn Checkpoints,
    layout: &Layout,
    saved: &mut CheckpointTuple,
) -> Result<()> {
    let ids = delta::to_rebuild(layout, &saved.checkpoint);
    if ids.is_empty() {
        return Ok(());
    }
    let names = delta::names(layout, &ids);
    let histories = saver.delta_history(&saved.key, &names).await?;
    delta::rebuild(layout, &mut saved.checkpoint, &ids, histories)
}

/// The checkpoint at a key, complete.
///
/// # Errors
/// As [`rebuild_deltas`].
pub(crate) async fn load(
    saver: &dyn Checkpoints,
    layout: &Layout,
    key: &CheckpointKey,
) -> Result<Option<CheckpointTuple>> {
    let mut saved = saver.get(key).await?;
    if let Some(saved) = &mut saved {
        rebuild_deltas(saver, layout, saved).await?;
    }
    Ok(saved)
}

/// The state at a checkpoint.
pub(crate) async fn state(
    graph: &Arc<Graph>,
    runtime: &Runtime,
    at: &CheckpointRef,
    subgraphs: bool,
) -> Result<StateSnapshot> {
    let saver = saver(runtime)?;
    let graph = graph_at(graph, &at.checkpoint_ns)?;
    let key = key_of(&graph, at);
    let view = if key.checkpoint_id.is_none() {
        View::Live
    } else {
        View::Record
    };
    let Some(saved) = load(&**saver, graph.layout(), &key).await? else {
        return Ok(StateSnapshot {
            values: Value::map(agentflow_types::Map::new()),
            checkpoint: at.clone(),
            ..StateSnapshot::default()
        });
    };
    let mut snapshot = snapshot(&graph, saved, view)?;
    if subgraphs {
        fill_subgraphs(&graph, runtime, &mut snapshot).await?;
    }
    Ok(snapshot)
}

/// Reads the states of graphs inside tasks.
async fn fill_subgraphs(
    graph: &Arc<Graph>,
    runtime: &Runtime,
    snapshot: &mut StateSnapshot,
) -> Result<()> {
    for task in &mut snapshot.tasks {
        let Some(at) = &task.checkpoint else { continue };
        let node = graph.layout().node(&task.name);
        let Some(inner) = node.and_then(|node| graph.layout().stored_subgraph(node)) else {
            continue;
        };
        let saved = load(&**saver(runtime)?, inner.layout(), &key_of(inner, at)).await?;
        let mut state = match saved {
            Some(saved) => self::snapshot(inner, saved, View::Live)?,
            None => StateSnapshot {
                values: Value::map(agentflow_types::Map::new()),
                checkpoint: at.clone(),
                ..StateSnapshot::default()
            },
        };
        Box::pin(fill_subgraphs(inner, runtime, &mut state)).await?;
        task.state = Some(Box::new(state));
    }
    Ok(())
}

/// States, newest first.
pub(crate) async fn history(
    graph: &Arc<Graph>,
    runtime: &Runtime,
    query: &HistoryQuery,
) -> Result<Vec<StateSnapshot>> {
    let saver = saver(runtime)?;
    let graph = graph_at(graph, &query.checkpoint.checkpoint_ns)?;
    let query = CheckpointQuery {
        thread_id: Some(query.checkpoint.thread_id.clone()),
        checkpoint_ns: Some(own_ns(&graph, &query.checkpoint.checkpoint_ns)),
        checkpoint_id: query.checkpoint.checkpoint_id.clone(),
        metadata: query.metadata.clone(),
        before: query.before.clone(),
        limit: query.limit,
    };
    let mut all = Vec::new();
    for mut saved in saver.list(&query).await? {
        rebuild_deltas(&**saver, graph.layout(), &mut saved).await?;
        all.push(snapshot(&graph, saved, View::Record)?);
    }
    Ok(all)
}

/// The pending writes of a stored checkpoint.
pub(crate) fn pending_of(graph: &Graph, saved: &CheckpointTuple) -> Vec<Pending> {
    let layout = graph.layout();
    let read = |stored: &agentflow_storage::checkpoint::PendingWrite| Pending {
        task: TaskId::parse(&stored.task_id).unwrap_or(TaskId(u128::MAX)),
        write: Write::new(Target::parse(layout, &stored.channel), stored.value.clone()),
    };
    saved.pending_writes.iter().map(read).collect()
}

/// The pending writes of no task.
pub(crate) fn null_writes(pending: &[Pending]) -> Vec<Write> {
    let null = pending.iter().filter(|p| p.task == TaskId::NULL);
    null.map(|p| p.write.clone()).collect()
}

/// A stored checkpoint as a snapshot.
fn snapshot(graph: &Arc<Graph>, saved: CheckpointTuple, view: View) -> Result<StateSnapshot> {
    let layout = graph.layout();
    let pending = pending_of(graph, &saved);
    let checkpoint = migrate(layout, saved.checkpoint);
    let mut board = Board::restore(layout.clone(), &checkpoint)?;
    // All nodes are looked at, whatever the last superstep changed.
    board.updated = None;
    let step = saved
        .metadata
        .get("step")
        .and_then(Value::as_i64)
        .unwrap_or(-1)
        + 1;
    let mut tasks = board.prepare(&Prepare {
        ns: &saved.key.checkpoint_ns,
        step,
        stop: step + 2,
        pending: &pending,
        resume_map: None,
    });
    let open = apply_pending(&mut board, &mut tasks, &pending, view)?;
    let context = TaskView {
        graph,
        ns: &saved.key.checkpoint_ns,
        thread: &saved.key.thread_id,
    };
    let tasks: Vec<TaskSnapshot> = tasks
        .iter()
        .map(|task| context.snapshot(task, &pending, view))
        .collect();
    let at = |id: String| CheckpointRef {
        thread_id: saved.key.thread_id.clone(),
        checkpoint_ns: saved.key.checkpoint_ns.clone(),
        checkpoint_id: Some(id),
    };
    Ok(StateSnapshot {
        values: board.view(&layout.state),
        next: open,
        interrupts: tasks
            .iter()
            .flat_map(|task| task.interrupts.iter().cloned())
            .collect(),
        tasks,
        metadata: Value::map(saved.metadata),
        created_at: Some(checkpoint.ts),
        checkpoint: at(checkpoint.id),
        parent_checkpoint: saved.parent_id.map(at),
    })
}

/// Applies pending writes for show; returns the nodes that are still to run.
fn apply_pending(
    board: &mut Board,
    tasks: &mut [Task],
    pending: &[Pending],
    view: View,
) -> Result<Vec<Str>> {
    // Only shown values change, so that no version and no random number is needed.
    let rng = SeededRng::new(0);
    let writes = null_writes(pending);
    if !writes.is_empty() {
        let mut sets = [WriteSet {
            path: Path::Input,
            node: None,
            writes,
        }];
        board.apply(&mut sets, Versions::Keep, &rng)?;
    }
    if view == View::Live {
        for id in tasks_of(pending) {
            let Some(task) = tasks.iter_mut().find(|task| task.id == id) else {
                continue;
            };
            task.writes
                .extend(Status::read(pending, id).unwrap_or_default().output);
        }
        let done = tasks.iter().filter(|task| task.is_done());
        let mut sets: Vec<WriteSet> = done
            .map(|task| WriteSet {
                path: task.path,
                node: Some(task.node),
                writes: task.writes.clone(),
            })
            .collect();
        if !sets.is_empty() {
            board.apply(&mut sets, Versions::Keep, &rng)?;
        }
    }
    let open = tasks.iter().filter(|task| !task.is_done());
    Ok(open
        .map(|task| board.layout.nodes[task.node].name.clone())
        .collect())
}

/// Where tasks are looked at.
struct TaskView<'a> {
    graph: &'a Arc<Graph>,
    ns: &'a str,
    thread: &'a str,
}

impl TaskView<'_> {
    fn snapshot(&self, task: &Task, pending: &[Pending], view: View) -> TaskSnapshot {
        let layout = self.graph.layout();
        let status = Status::read(pending, task.id).unwrap_or_default();
        let name = &layout.nodes[task.node].name;
        let answered = view == View::Live && status.is_finished();
        let interrupts: Vec<Interrupt> = if answered {
            Vec::new()
        } else {
            status.interrupts.iter().map(read_interrupt).collect()
        };
        let checkpoint = layout.stored_subgraph(task.node).map(|_| CheckpointRef {
            thread_id: self.thread.to_owned(),
            checkpoint_ns: task_ns(self.ns, name, task.id),
            checkpoint_id: None,
        });
        let error = status.error.as_ref().map(|error| match error {
            Value::Str(text) => text.to_string(),
            other => other.json_text(),
        });
        TaskSnapshot {
            id: task.id.to_string(),
            name: name.clone(),
            path: task.path.value(name),
            error,
            interrupts,
            checkpoint,
            state: None,
            result: result(layout, &status, Wanted::State),
        }
    }
}
