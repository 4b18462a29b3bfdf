//! What a run remembers about its delta channels.

use agentflow_storage::checkpoint::{Checkpoint, CheckpointOp};
use agentflow_types::{Map, Str, Value, graph::Durability};
use indexmap::IndexMap;

use super::{Effect, Machine, Metadata, save::stored_metadata};
use crate::{
    core::{
        delta::{Counters, ExitWrite, delta_of, overwritten, touched},
        ids::{TaskId, checkpoint_text},
        task::{Pending, Write},
    },
    layout::ChanId,
};

/// Step that the metadata of an empty first checkpoint names.
const BEFORE_INPUT: i64 = -2;

/// The delta channels of a run. Stays empty in graphs without one.
#[derive(Debug, Default)]
pub(super) struct Deltas {
    pub(super) counters: Counters,
    /// Channels that the next stored checkpoint has whole.
    forced: Vec<ChanId>,
    /// Writes of a run that stores only its end.
    exit: Vec<ExitWrite>,
    /// First superstep that the run completed.
    first_step: Option<i64>,
    /// Writes of this run's command.
    command: Vec<Write>,
    /// Task and channel of writes that are stored beside the loaded checkpoint.
    stored: Vec<(TaskId, ChanId)>,
    /// Writes of tasks that were loaded and may be handed back to them.
    loaded: Vec<Pending>,
    /// Tasks that got theirs back.
    handed_back: Vec<TaskId>,
}

impl Machine {
    fn has_deltas(&self) -> bool {
        !self.setup.layout.deltas.is_empty()
    }

    fn stores_exit(&self) -> bool {
        self.has_deltas() && self.setup.saves && self.setup.durability == Durability::Exit
    }

    /// Reads counters and stored writes of the loaded checkpoint.
    pub(super) fn load_deltas(&mut self) {
        let layout = &self.setup.layout;
        let metadata = match &self.metadata {
            Metadata::Loaded(map) => map,
            Metadata::Own { .. } => return,
        };
        self.deltas.counters = Counters::read(layout, metadata);
        if !self.has_deltas() {
            return;
        }
        let of_tasks = self.pending.iter().filter(|p| p.task != TaskId::NULL);
        let stored = of_tasks.filter_map(|p| Some((p.task, delta_of(layout, &p.write)?)));
        self.deltas.stored = stored.collect();
    }

    /// Decides which channels a run that starts from pending writes has to store whole.
    /// `hands_back`: whether tasks get the writes that are stored for them.
    pub(super) fn start_deltas(&mut self, hands_back: bool) {
        if !self.has_deltas() {
            return;
        }
        if hands_back {
            let of_tasks = self.pending.iter().filter(|p| p.task != TaskId::NULL);
            self.deltas.loaded = of_tasks.cloned().collect();
        } else {
            self.deltas.forced = touched(&self.setup.layout, &self.pending);
        }
    }

    /// Writes that a fork carries are nowhere beside an ancestor: the fork has their sum.
    pub(super) fn carry_deltas(&mut self, carried: &[Write]) {
        let layout = self.setup.layout.clone();
        let ids = carried.iter().filter_map(|w| delta_of(&layout, w));
        self.deltas.forced.extend(ids);
    }

    /// Remembers the writes of a command for a run that stores only its end.
    pub(super) fn command_deltas(&mut self, writes: &[Write]) {
        if self.stores_exit() {
            let layout = &self.setup.layout;
            let of_deltas = writes.iter().filter(|w| delta_of(layout, w).is_some());
            self.deltas.command = of_deltas.cloned().collect();
        }
    }

    pub(super) fn hands_back_to(&mut self, task: TaskId) {
        if self.has_deltas() {
            self.deltas.handed_back.push(task);
        }
    }

    /// Before a superstep's writes are combined.
    pub(super) fn before_combining(&mut self) {
        if !self.has_deltas() {
            return;
        }
        let layout = self.setup.layout.clone();
        let writes = self.tasks.iter().flat_map(|task| &task.writes);
        self.deltas.forced.extend(overwritten(&layout, writes));
        let loaded = std::mem::take(&mut self.deltas.loaded);
        let dropped = loaded
            .iter()
            .filter(|p| !self.deltas.handed_back.contains(&p.task));
        self.deltas.forced.extend(touched(&layout, dropped));
    }

    /// After a superstep's writes are combined, while they are still pending.
    pub(super) fn collect_exit(&mut self) {
        if !self.stores_exit() {
            return;
        }
        let layout = self.setup.layout.clone();
        let step = self.step;
        let is_first = self.deltas.first_step.is_none();
        let entry = |task: TaskId, path: String, write: &Write| {
            let channel = delta_of(&layout, write)?;
            let value = write.value.clone();
            Some(ExitWrite {
                step,
                task,
                path,
                channel,
                value,
            })
        };
        let mut fresh = Vec::new();
        if is_first {
            self.deltas.first_step = Some(step);
            let command = std::mem::take(&mut self.deltas.command);
            let entries = command
                .iter()
                .filter_map(|w| entry(TaskId::NULL, String::new(), w));
            fresh.extend(entries);
        }
        for Pending { task, write } in &self.pending {
            let Some(channel) = delta_of(&layout, write) else {
                continue;
            };
            let is_stored = *task == TaskId::NULL || self.deltas.stored.contains(&(*task, channel));
            if is_first && is_stored {
                continue;
            }
            fresh.extend(entry(*task, self.path_text(*task), write));
        }
        self.deltas.exit.extend(fresh);
    }

    /// Channels that the checkpoint which is stored now has whole; their counters start again.
    pub(super) fn take_due(&mut self) -> Vec<ChanId> {
        if !self.has_deltas() {
            return Vec::new();
        }
        let forced = std::mem::take(&mut self.deltas.forced);
        let due = self.deltas.counters.due(&self.board, &forced);
        self.deltas.counters.reset(&self.setup.layout, &due);
        due
    }

    /// Stores the writes to delta channels of a run that stores only its end, beside the
    /// checkpoint that it started from; a thread that had none gets an empty one.
    pub(super) fn store_exit_writes(&mut self) {
        if self.deltas.exit.is_empty() {
            return;
        }
        let all = std::mem::take(&mut self.deltas.exit);
        let has_parent = self.saved_id.is_some();
        if has_parent && self.setup.addressed {
            // Its other children would read what is stored there.
            self.deltas.forced.extend(all.iter().map(|w| w.channel));
        }
        let due = self.deltas.counters.due(&self.board, &self.deltas.forced);
        let mut groups: IndexMap<(String, String), Vec<(Str, Value)>> = IndexMap::new();
        for write in all.into_iter().filter(|w| !due.contains(&w.channel)) {
            let place = write.place(self.deltas.first_step);
            let name = self.setup.layout.channels[write.channel].name.clone();
            groups.entry(place).or_default().push((name, write.value));
        }
        if groups.is_empty() {
            return;
        }
        if !has_parent {
            self.store_empty();
        }
        let anchor = checkpoint_text(self.loaded_id);
        for ((task_id, task_path), writes) in groups {
            self.effects
                .push(Effect::Commit(Box::new(CheckpointOp::Writes {
                    thread_id: self.thread().to_owned(),
                    checkpoint_ns: self.setup.ns.clone(),
                    checkpoint_id: anchor.clone(),
                    task_id,
                    task_path,
                    writes,
                })));
        }
    }

    /// Stores the empty checkpoint that the run started from.
    fn store_empty(&mut self) {
        let id = checkpoint_text(self.loaded_id);
        let metadata = Map::from_iter([("step".into(), Value::Int(BEFORE_INPUT))]);
        let put = CheckpointOp::Put {
            thread_id: self.thread().to_owned(),
            checkpoint_ns: self.setup.ns.clone(),
            parent_id: None,
            checkpoint: Checkpoint {
                v: crate::core::board::CHECKPOINT_FORMAT,
                ts: self.timestamp(),
                id: id.clone(),
                ..Checkpoint::default()
            },
            metadata: stored_metadata(metadata, self),
            new_versions: Vec::new(),
        };
        self.effects.push(Effect::Commit(Box::new(put)));
        self.saved_id = Some(id);
    }
}
