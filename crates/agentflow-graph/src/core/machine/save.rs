//! What a run stores.

use agentflow_storage::checkpoint::CheckpointOp;
use agentflow_types::{Map, Result, Value, graph::Durability};

use super::{Effect, Machine, Metadata};
use crate::core::{
    ids::{TaskId, checkpoint_text},
    payload::{At, CheckpointView, INTERNAL_METADATA, config_metadata},
    task::{Target, Write, read_send, send_value},
};
use crate::layout::Layout;

impl Machine {
    /// Whether writes are stored while the run goes on.
    pub(super) fn saves_writes(&self) -> bool {
        self.setup.saves && self.setup.durability != Durability::Exit
    }

    /// Makes the next checkpoint; stores it unless the run stores only its end.
    ///
    /// # Errors
    /// None in practice, see [`Board::store`](crate::core::board::Board::store).
    pub(super) fn put_checkpoint(&mut self, source: &'static str) -> Result<()> {
        let updated = self.board.updated.as_deref().unwrap_or_default();
        let layout = &self.setup.layout;
        self.deltas.counters.step(layout, updated);
        self.metadata = Metadata::Own {
            source,
            step: self.step,
        };
        self.board.id = self.setup.world.checkpoint_id(self.step);
        if self.saves_writes() {
            self.store_checkpoint()?;
        }
        self.step += 1;
        Ok(())
    }

    /// Stores the current state as a checkpoint.
    pub(super) fn store_checkpoint(&mut self) -> Result<()> {
        let snapshots = self.take_due();
        let ts = self.timestamp();
        let rng = &*self.setup.world.rng;
        let stored = &self.stored_versions;
        let mut checkpoint = self.board.store(ts, &snapshots, stored, rng)?;
        strip_untracked(&self.setup.layout, &mut checkpoint.channel_values);
        let new_versions = self.board.changed_since(&self.stored_versions);
        self.stored_versions.clone_from(&self.board.versions);
        let id = checkpoint_text(self.board.id);
        let parent_id = self.saved_id.replace(id);
        self.previous_id.clone_from(&parent_id);
        let metadata = stored_metadata(self.own_metadata(), self);
        self.effects
            .push(Effect::Commit(Box::new(CheckpointOp::Put {
                thread_id: self.thread().to_owned(),
                checkpoint_ns: self.setup.ns.clone(),
                parent_id,
                checkpoint,
                metadata,
                new_versions,
            })));
        Ok(())
    }

    pub(super) fn thread(&self) -> &str {
        self.setup.thread_id.as_deref().unwrap_or_default()
    }

    /// Metadata of the current checkpoint, without what the configuration adds.
    fn own_metadata(&self) -> Map {
        match &self.metadata {
            Metadata::Loaded(map) => map.clone(),
            Metadata::Own { source, step } => {
                let mut map = Map::with_capacity(3);
                map.insert("source".into(), Value::str(*source));
                map.insert("step".into(), Value::Int(*step));
                map.insert("parents".into(), Value::map(self.setup.parents.clone()));
                self.deltas.counters.store(&self.setup.layout, &mut map);
                map
            }
        }
    }

    /// Keeps and stores the writes of a task.
    pub(super) fn record(&mut self, id: TaskId, path: String, writes: &[Write]) {
        if self.setup.saves {
            self.remember(id, writes);
            if self.saves_writes() {
                self.commit_writes(id, path, writes);
            }
        }
    }

    /// Stores writes beside the current checkpoint.
    pub(super) fn commit_writes(&mut self, task: TaskId, task_path: String, writes: &[Write]) {
        let layout = &self.setup.layout;
        let kept = writes.iter().filter(|w| match w.target {
            Target::Channel(id) => layout.channels[id].kind.is_tracked(),
            _ => true,
        });
        let stored = kept.map(|w| {
            let value = if layout.has_untracked && w.target == Target::Channel(layout.tasks) {
                tracked_send(layout, &w.value)
            } else {
                w.value.clone()
            };
            (w.target.name(layout), value)
        });
        let writes = stored.collect();
        self.effects
            .push(Effect::Commit(Box::new(CheckpointOp::Writes {
                thread_id: self.thread().to_owned(),
                checkpoint_ns: self.setup.ns.clone(),
                checkpoint_id: checkpoint_text(self.board.id),
                task_id: task.to_string(),
                task_path,
                writes,
            })));
    }

    /// Stores the end of a run that stores nothing else.
    pub(super) fn store_end(&mut self) -> Result<()> {
        if self.board.id != self.loaded_id {
            self.store_exit_writes();
            self.store_checkpoint()?;
        }
        let written = std::mem::take(&mut self.written);
        if written.contains(&TaskId::NULL) {
            let writes = self.null_writes();
            if !writes.is_empty() {
                self.commit_writes(TaskId::NULL, String::new(), &writes);
            }
        }
        for id in crate::core::task::tasks_of(&self.pending) {
            if !written.contains(&id) {
                continue;
            }
            let writes: Vec<Write> = self
                .pending
                .iter()
                .filter(|p| p.task == id)
                .map(|p| p.write.clone())
                .collect();
            self.commit_writes(id, self.path_text(id), &writes);
        }
        Ok(())
    }

    /// The path of a task of this superstep, as it is stored; empty if there is no such task.
    pub(super) fn path_text(&self, id: TaskId) -> String {
        let layout = &self.setup.layout;
        let task = self.tasks.iter().find(|task| task.id == id);
        let call = || self.calls.iter().find(|call| call.id == id);
        match task {
            Some(task) => task.path_text(layout),
            None => call().map_or_else(String::new, |call| call.path_text.clone()),
        }
    }

    /// Data of the `checkpoints` mode for the current state.
    pub(super) fn checkpoint_payload(&self) -> Value {
        let metadata = self.own_metadata();
        let parents = metadata.get("parents").and_then(Value::as_map).cloned();
        CheckpointView {
            layout: &self.setup.layout,
            at: At {
                config: &self.setup.config,
                thread_id: self.setup.thread_id.as_deref(),
                ns: &self.setup.ns,
                parents: parents.as_ref(),
            },
            id: self.board.id,
            parent: self.previous_id.as_deref(),
            values: self.board.view(&self.setup.layout.state),
            metadata,
            tasks: &self.tasks,
            pending: &self.pending,
        }
        .data()
    }
}

/// What a saver stores beside a checkpoint: its metadata and the plain values of the
/// configuration.
pub(crate) fn with_config_metadata(mut metadata: Map, configured: Map) -> Map {
    for (key, value) in configured {
        let plain = matches!(
            value,
            Value::Str(_) | Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_)
        );
        let internal = key.starts_with("__") || INTERNAL_METADATA.contains(&&*key);
        if plain && !internal && !metadata.contains_key(&key) {
            metadata.insert(key, value);
        }
    }
    metadata
}

pub(super) fn stored_metadata(own: Map, machine: &Machine) -> Map {
    let mut metadata = with_config_metadata(own, config_metadata(&machine.setup.config));
    if let Some(run_id) = &machine.setup.run_id {
        metadata.insert("run_id".into(), Value::str(run_id.as_str()));
    }
    metadata
}

/// Removes keys of untracked channels from what a packet carries.
fn tracked_send(layout: &Layout, packet: &Value) -> Value {
    let Some((node, Value::Map(arg))) = read_send(packet) else {
        return packet.clone();
    };
    let mut arg = (**arg).clone();
    arg.retain(|key, _| {
        layout
            .channel(key)
            .is_none_or(|id| layout.channels[id].kind.is_tracked())
    });
    send_value(node, Value::map(arg))
}

fn strip_untracked(layout: &Layout, values: &mut Map) {
    if !layout.has_untracked {
        return;
    }
    if let Some(Value::List(packets)) = values.get_mut(crate::compile::TASKS) {
        let tracked = packets
            .iter()
            .map(|packet| tracked_send(layout, packet))
            .collect();
        *packets = std::sync::Arc::new(tracked);
    }
}
