//! Changing stored states from outside.

use std::{collections::VecDeque, sync::Arc};

use agentflow_storage::checkpoint::{CheckpointOp, CheckpointTuple, delta::COUNTERS};
use agentflow_types::{
    Map, Result, Value,
    graph::{CheckpointRef, END, RunConfig},
};
use uuid::Uuid;

use crate::{
    core::{
        World,
        board::{Board, Foreseen, Prepare, Versions, WriteSet},
        delta::{self, Counters},
        ids::{TaskId, checkpoint_text},
        machine::with_config_metadata,
        migrate::migrate,
        payload::config_metadata,
        task::{INPUT, Path, Pending, Status, Task, Write, tasks_of},
        version::Ver,
        writes::{Writers, invalid_update},
    },
    graph::{Graph, StateUpdate},
    inspect::{graph_at, key_of, null_writes, own_ns, pending_of, rebuild_deltas, saver},
    invocation::Runtime,
    layout::{ChanId, NodeId},
    output::NodeOutput,
};

/// Word for a copy of a checkpoint.
const COPY: &str = "__copy__";
/// Most supersteps that one bulk update may hold.
const MAX_SUPERSTEPS: usize = 10_000;

/// Applies supersteps of updates, in order.
pub(crate) async fn bulk(
    graph: &Arc<Graph>,
    runtime: &Runtime,
    at: &CheckpointRef,
    supersteps: Vec<Vec<StateUpdate>>,
    config: &RunConfig,
) -> Result<CheckpointRef> {
    saver(runtime)?;
    let empty = agentflow_types::Error::invalid("No supersteps provided").class("ValueError");
    if supersteps.is_empty() {
        return Err(empty);
    }
    if supersteps.len() > MAX_SUPERSTEPS {
        return Err(agentflow_types::Error::invalid("too many supersteps")
            .with("limit", MAX_SUPERSTEPS)
            .with("found", supersteps.len()));
    }
    let graph = graph_at(graph, &at.checkpoint_ns)?;
    let mut at = CheckpointRef {
        checkpoint_ns: own_ns(&graph, &at.checkpoint_ns),
        ..at.clone()
    };
    for (index, updates) in supersteps.into_iter().enumerate() {
        if updates.is_empty() {
            return Err(agentflow_types::Error::invalid("No updates provided").class("ValueError"));
        }
        let mut change = Change::load(&graph, runtime, &at, config).await?;
        change.is_first = index == 0;
        if change.is_first {
            change.forced = delta::touched(graph.layout(), &change.pending);
        }
        at = change.perform(updates).await?;
    }
    Ok(at)
}

/// One superstep of updates on one checkpoint.
struct Change<'a> {
    graph: &'a Arc<Graph>,
    runtime: &'a Runtime,
    config: &'a RunConfig,
    at: CheckpointRef,
    world: World,
    saved: Option<CheckpointTuple>,
    board: Board,
    pending: Vec<Pending>,
    /// Step of the checkpoint; -1 if there is none.
    step: i64,
    before: Vec<Ver>,
    ops: Vec<CheckpointOp>,
    is_first: bool,
    /// Channels that were written.
    updated: Vec<ChanId>,
    /// Delta channels that the new checkpoint has whole.
    forced: Vec<ChanId>,
}

impl<'a> Change<'a> {
    async fn load(
        graph: &'a Arc<Graph>,
        runtime: &'a Runtime,
        at: &CheckpointRef,
        config: &'a RunConfig,
    ) -> Result<Self> {
        let world = World::of(runtime);
        let layout = graph.layout().clone();
        let saved = saver(runtime)?.get(&key_of(graph, at)).await?;
        let (board, pending, step) = match &saved {
            Some(saved) => {
                let mut complete = saved.clone();
                rebuild_deltas(&**saver(runtime)?, &layout, &mut complete).await?;
                let stored = migrate(&layout, complete.checkpoint);
                let step = saved
                    .metadata
                    .get("step")
                    .and_then(Value::as_i64)
                    .unwrap_or(-1);
                (
                    Board::restore(layout, &stored)?,
                    pending_of(graph, saved),
                    step,
                )
            }
            None => (
                Board::empty(layout, world.checkpoint_id(-2)),
                Vec::new(),
                -1,
            ),
        };
        Ok(Self {
            graph,
            runtime,
            config,
            at: at.clone(),
            world,
            saved,
            before: board.versions.clone(),
            board,
            pending,
            step,
            ops: Vec::new(),
            is_first: true,
            updated: Vec::new(),
            forced: Vec::new(),
        })
    }

    async fn perform(self, mut updates: Vec<StateUpdate>) -> Result<CheckpointRef> {
        let single = updates.len() == 1;
        let first = &updates[0];
        let nothing = first.values.is_null() && first.command.is_none();
        match first.as_node.as_deref() {
            Some(END) if nothing && !single => Err(invalid_update(
                "Cannot apply multiple updates when clearing state",
            )),
            Some(END) if nothing => self.clear().await,
            Some(INPUT) if !single => Err(invalid_update(
                "Cannot apply multiple updates when updating as input",
            )),
            Some(INPUT) => {
                let values = std::mem::take(&mut updates[0].values);
                self.apply_input(values).await
            }
            Some(COPY) if !single => Err(invalid_update(
                "Cannot copy checkpoint with multiple updates",
            )),
            Some(COPY) => {
                let values = std::mem::take(&mut updates[0].values);
                self.copy(values).await
            }
            _ => self.apply_nodes(updates).await,
        }
    }

    /// The tasks that follow the checkpoint.
    fn tasks(&self) -> Vec<Task> {
        let mut board = self.board.clone();
        board.updated = None;
        board.prepare(&Prepare {
            ns: &self.at.checkpoint_ns,
            step: self.step + 1,
            stop: self.step + 3,
            pending: &self.pending,
            resume_map: None,
        })
    }

    fn apply(&mut self, mut sets: Vec<WriteSet>) -> Result<Vec<usize>> {
        self.board
            .apply(&mut sets, Versions::Bump, &*self.world.rng)
    }

    /// Drops what was to run next; what already ran counts.
    async fn clear(mut self) -> Result<CheckpointRef> {
        let mut updated = Vec::new();
        if self.saved.is_some() {
            let mut tasks = self.tasks();
            let writes = null_writes(&self.pending);
            if !writes.is_empty() {
                updated = self.apply(vec![WriteSet {
                    path: Path::Input,
                    node: None,
                    writes,
                }])?;
            }
            for id in tasks_of(&self.pending) {
                let Some(task) = tasks.iter_mut().find(|task| task.id == id) else {
                    continue;
                };
                task.writes
                    .extend(Status::read(&self.pending, id).unwrap_or_default().output);
            }
            let sets = tasks.into_iter().map(|task| WriteSet {
                path: task.path,
                node: Some(task.node),
                writes: task.writes,
            });
            let sets = sets.collect();
            updated.extend(self.apply(sets)?);
        }
        self.board.updated = None;
        self.updated = updated;
        let step = self.step;
        self.store("update", step + 1, step).await
    }

    async fn apply_input(mut self, values: Value) -> Result<CheckpointRef> {
        if values.is_null() {
            return Err(invalid_update("Received no input writes for __start__"));
        }
        let write = Write::to(self.graph.layout().start, values);
        if self.saved.is_some() && !self.is_superseded().await? {
            let task = Uuid::new_v5(&Uuid::from_u128(self.board.id), INPUT.as_bytes());
            self.put_writes(
                TaskId(task.as_u128()),
                String::new(),
                std::slice::from_ref(&write),
            );
        }
        self.updated = self.apply(vec![WriteSet {
            path: Path::Input,
            node: None,
            writes: vec![write],
        }])?;
        self.board.updated = None;
        let has_step = self
            .saved
            .as_ref()
            .is_some_and(|s| s.metadata.contains_key("step"));
        let step = if has_step { self.step + 1 } else { -1 };
        self.store("input", step, step).await
    }

    /// Copies the checkpoint beside itself; with a list of `[values, node]`, then updates the
    /// copy.
    async fn copy(mut self, values: Value) -> Result<CheckpointRef> {
        let Some(saved) = self.saved.take() else {
            return Err(invalid_update("Cannot copy a non-existent checkpoint"));
        };
        let mut checkpoint = saved.checkpoint.clone();
        checkpoint.id = checkpoint_text(self.world.checkpoint_id(self.step));
        checkpoint.ts = self.world.clock.now().to_string();
        checkpoint.updated_channels = None;
        let id = checkpoint.id.clone();
        let parents = saved.metadata.get("parents").cloned();
        let mut metadata = self.metadata("fork", self.step + 1, parents);
        if let Some(counters) = saved.metadata.get(COUNTERS) {
            // The copy has the same values and the same parent.
            metadata.insert(COUNTERS.into(), counters.clone());
        }
        self.ops.push(CheckpointOp::Put {
            thread_id: self.at.thread_id.clone(),
            checkpoint_ns: self.at.checkpoint_ns.clone(),
            parent_id: saved.parent_id.clone(),
            // The copy may live where the original's channel values do not.
            new_versions: checkpoint.channel_versions.keys().cloned().collect(),
            checkpoint,
            metadata,
        });
        let ops = std::mem::take(&mut self.ops);
        saver(self.runtime)?.commit(ops, None).await?;
        let at = CheckpointRef {
            checkpoint_id: Some(id),
            ..self.at.clone()
        };
        let Some(items) = values.as_list().filter(|items| !items.is_empty()) else {
            return Ok(at);
        };
        let mut updates = Vec::with_capacity(items.len());
        for item in items {
            let Some([values, node, ..]) = item.as_list() else {
                return Err(invalid_update(format!(
                    "Invalid update item: {item} when copying checkpoint"
                )));
            };
            updates.push(StateUpdate {
                values: values.clone(),
                as_node: node.as_str().map(str::to_owned),
                ..StateUpdate::default()
            });
        }
        updates.sort_by(|a, b| a.as_node.cmp(&b.as_node));
        let mut change = Change::load(self.graph, self.runtime, &at, self.config).await?;
        change.is_first = false;
        Box::pin(change.perform(updates)).await
    }

    /// Applies updates as if nodes had made them.
    async fn apply_nodes(mut self, updates: Vec<StateUpdate>) -> Result<CheckpointRef> {
        let mut waiting = self.waiting();
        let several = updates.len() > 1;
        let mut nodes = Vec::with_capacity(updates.len());
        for update in &updates {
            nodes.push(self.node_of(update, several)?);
        }
        let stores = self.saved.is_some() && !self.is_superseded().await?;
        let mut sets = Vec::with_capacity(updates.len());
        for (index, (update, node)) in updates.into_iter().zip(nodes).enumerate() {
            let prepared = waiting.get_mut(node).and_then(VecDeque::pop_front);
            let given = update.task_id.as_deref().and_then(TaskId::parse);
            let id = given
                .or(prepared)
                .unwrap_or_else(|| self.update_task(index));
            let mut output = vec![NodeOutput::Update(update.values)];
            output.extend(update.command.map(NodeOutput::Command));
            let context = crate::shell::outside_context(
                self.graph,
                self.runtime,
                self.config,
                &self.at,
                self.step,
            );
            let mut writers = Writers {
                board: &self.board,
                rng: &*self.world.rng,
                context: &context,
                foreseen: Foreseen::default(),
            };
            let output = if output.len() == 1 {
                output.remove(0)
            } else {
                NodeOutput::Many(output)
            };
            let writes = writers.of(node, &output)?;
            let layout = self.graph.layout().clone();
            self.forced.extend(delta::overwritten(&layout, &writes));
            let deltas = writes.iter().filter_map(|w| delta::delta_of(&layout, w));
            self.updated.extend(deltas.clone());
            if !stores {
                self.forced.extend(deltas);
            }
            let path = Path::Update(index);
            if stores && !writes.is_empty() {
                self.put_writes(id, path.text(""), &writes);
            }
            sets.push(WriteSet {
                path,
                node: Some(node),
                writes,
            });
        }
        self.apply(sets)?;
        self.board.updated = None;
        let step = self.step + 1;
        self.store("update", step, step).await
    }

    /// Tasks that wait, by node.
    fn waiting(&self) -> Vec<VecDeque<TaskId>> {
        let mut waiting = vec![VecDeque::new(); self.graph.layout().nodes.len()];
        if self.saved.is_some() {
            for task in self.tasks() {
                waiting[task.node].push_back(task.id);
            }
        }
        waiting
    }

    fn update_task(&self, index: usize) -> TaskId {
        let name = match index {
            0 => "__interrupt__".to_owned(),
            n => format!("__interrupt__:{n}"),
        };
        TaskId(Uuid::new_v5(&Uuid::from_u128(self.board.id), name.as_bytes()).as_u128())
    }

    fn node_of(&self, update: &StateUpdate, several: bool) -> Result<NodeId> {
        let layout = self.graph.layout();
        match &update.as_node {
            Some(name) => layout
                .node(name)
                .ok_or_else(|| invalid_update(format!("Node {name} does not exist"))),
            None if several => Err(invalid_update(
                "as_node is required when applying multiple updates",
            )),
            None => self
                .last_node()
                .ok_or_else(|| invalid_update("Ambiguous update, specify as_node")),
        }
    }

    /// The node that ran last; the start if none did; `None` if several did at once.
    fn last_node(&self) -> Option<NodeId> {
        let seen = self.board.last_seen();
        match seen.as_slice() {
            [] => Some(crate::layout::START_NODE),
            [(_, node)] => Some(*node),
            [.., (before, _), (last, node)] => (before != last).then_some(*node),
        }
    }

    /// Whether the thread has moved past the checkpoint that is changed; then nothing is stored
    /// beside it, because its other children would see that.
    async fn is_superseded(&self) -> Result<bool> {
        if !self.is_first || self.at.checkpoint_id.is_none() {
            return Ok(false);
        }
        let key = key_of(
            self.graph,
            &CheckpointRef {
                checkpoint_id: None,
                ..self.at.clone()
            },
        );
        let newest = saver(self.runtime)?.get(&key).await?;
        Ok(newest.is_some_and(|newest| {
            self.saved
                .as_ref()
                .is_some_and(|saved| saved.checkpoint.id != newest.checkpoint.id)
        }))
    }

    fn put_writes(&mut self, task: TaskId, task_path: String, writes: &[Write]) {
        let layout = self.graph.layout();
        let tracked = writes.iter().filter(|write| match write.target {
            crate::core::task::Target::Channel(id) => layout.channels[id].kind.is_tracked(),
            _ => true,
        });
        self.ops.push(CheckpointOp::Writes {
            thread_id: self.at.thread_id.clone(),
            checkpoint_ns: self.at.checkpoint_ns.clone(),
            checkpoint_id: checkpoint_text(self.board.id),
            task_id: task.to_string(),
            task_path,
            writes: tracked
                .map(|w| (w.target.name(layout), w.value.clone()))
                .collect(),
        });
    }

    fn metadata(&self, source: &str, step: i64, parents: Option<Value>) -> Map {
        let mut map = Map::new();
        map.insert("source".into(), Value::str(source));
        map.insert("step".into(), Value::Int(step));
        map.insert(
            "parents".into(),
            parents.unwrap_or_else(|| Value::map(Map::new())),
        );
        with_config_metadata(map, config_metadata(self.config))
    }

    /// Stores the changed state. `seq` goes into the checkpoint's id.
    async fn store(mut self, source: &str, step: i64, seq: i64) -> Result<CheckpointRef> {
        let parents = self
            .saved
            .as_ref()
            .and_then(|s| s.metadata.get("parents").cloned());
        self.board.id = self.world.checkpoint_id(seq);
        let layout = self.graph.layout().clone();
        let mut metadata = self.metadata(source, step, parents);
        let snapshots = match &self.saved {
            // A new thread stores whole what it has.
            None => {
                let deltas = layout.deltas.iter().copied();
                deltas
                    .filter(|id| self.board.versions[*id].is_some())
                    .collect()
            }
            Some(saved) => {
                let mut counters = Counters::read(&layout, &saved.metadata);
                counters.step(&layout, &self.updated);
                let due = counters.due(&self.board, &self.forced);
                counters.reset(&layout, &due);
                counters.store(&layout, &mut metadata);
                due
            }
        };
        let ts = self.world.clock.now().to_string();
        let rng = &*self.world.rng;
        let checkpoint = self.board.store(ts, &snapshots, &self.before, rng)?;
        let id = checkpoint.id.clone();
        let put = CheckpointOp::Put {
            thread_id: self.at.thread_id.clone(),
            checkpoint_ns: self.at.checkpoint_ns.clone(),
            parent_id: self.saved.as_ref().map(|saved| saved.checkpoint.id.clone()),
            checkpoint,
            metadata,
            new_versions: self.board.changed_since(&self.before),
        };
        self.ops.push(put);
        saver(self.runtime)?
            .commit(std::mem::take(&mut self.ops), None)
            .await?;
        Ok(CheckpointRef {
            checkpoint_id: Some(id),
            ..self.at
        })
    }
}
