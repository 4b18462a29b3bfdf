//! When delta channels store their whole value, and how it is rebuilt when they did not.

use agentflow_storage::checkpoint::{
    Checkpoint,
    delta::{COUNTERS, DeltaHistory},
};
use agentflow_types::{Map, Result, Str, Value};

use super::{
    board::Board,
    ids::TaskId,
    task::{Pending, Target, Write},
};
use crate::{
    channel::{Kind, Slot, is_overwrite},
    layout::{ChanId, Layout},
};

/// Supersteps after which every delta channel stores its whole value, written or not, so that
/// loading a thread never combines more. As in LangGraph.
const MAX_SUPERSTEPS: u64 = 5000;

/// Updates and supersteps since the last snapshot, per delta channel of the layout.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(Vec<(u64, u64)>);

impl Counters {
    /// As the metadata of a checkpoint has them.
    pub(crate) fn read(layout: &Layout, metadata: &Map) -> Self {
        let stored = metadata.get(COUNTERS).and_then(Value::as_map);
        let number = |v: &Value| v.as_i64().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        let of = |id: &ChanId| {
            let pair = stored.and_then(|map| map.get(&layout.channels[*id].name));
            match pair.and_then(Value::as_list) {
                Some([updates, supersteps]) => (number(updates), number(supersteps)),
                _ => (0, 0),
            }
        };
        Self(layout.deltas.iter().map(of).collect())
    }

    /// Counts a superstep that wrote to these channels.
    pub(crate) fn step(&mut self, layout: &Layout, updated: &[ChanId]) {
        for (counter, id) in self.0.iter_mut().zip(&layout.deltas) {
            counter.0 += u64::from(updated.contains(id));
            counter.1 += 1;
        }
    }

    /// The channels that store their value now: those that are due, and those that must.
    pub(crate) fn due(&self, board: &Board, forced: &[ChanId]) -> Vec<ChanId> {
        let layout = &*board.layout;
        let is_due = |(id, (updates, supersteps)): (&ChanId, &(u64, u64))| {
            let Kind::Delta(delta) = &layout.channels[*id].kind else {
                return None;
            };
            let is_due = board.versions[*id].is_some()
                && (*updates >= delta.snapshot_frequency.into() || *supersteps >= MAX_SUPERSTEPS);
            (is_due || forced.contains(id)).then_some(*id)
        };
        layout
            .deltas
            .iter()
            .zip(&self.0)
            .filter_map(is_due)
            .collect()
    }

    /// Starts again for channels that stored their value.
    pub(crate) fn reset(&mut self, layout: &Layout, stored: &[ChanId]) {
        for (counter, id) in self.0.iter_mut().zip(&layout.deltas) {
            if stored.contains(id) {
                *counter = (0, 0);
            }
        }
    }

    /// Puts the counters that are not zero into metadata.
    pub(crate) fn store(&self, layout: &Layout, metadata: &mut Map) {
        let pair = |(updates, supersteps): &(u64, u64)| {
            let number = |n: &u64| Value::Int(i64::try_from(*n).unwrap_or(i64::MAX));
            Value::list(vec![number(updates), number(supersteps)])
        };
        let counting = layout
            .deltas
            .iter()
            .zip(&self.0)
            .filter(|(_, c)| **c != (0, 0));
        let map: Map = counting
            .map(|(id, counter)| (layout.channels[*id].name.clone(), pair(counter)))
            .collect();
        if !map.is_empty() {
            metadata.insert(COUNTERS.into(), Value::map(map));
        }
    }
}

/// The delta channel that a write goes to.
pub(crate) fn delta_of(layout: &Layout, write: &Write) -> Option<ChanId> {
    match write.target {
        Target::Channel(id) if layout.channels[id].kind.is_delta() => Some(id),
        _ => None,
    }
}

/// Delta channels that pending writes touch. A branch that starts at their checkpoint must store
/// these channels whole: nothing tells which child of the checkpoint took the writes in.
pub(crate) fn touched<'a>(
    layout: &Layout,
    pending: impl IntoIterator<Item = &'a Pending>,
) -> Vec<ChanId> {
    let ids = pending.into_iter();
    ids.filter_map(|p| delta_of(layout, &p.write)).collect()
}

/// Delta channels that writes replace: these store the new value whole, otherwise a reader would
/// combine what was thrown away.
pub(crate) fn overwritten<'a>(
    layout: &Layout,
    writes: impl IntoIterator<Item = &'a Write>,
) -> Vec<ChanId> {
    let ids = writes.into_iter().filter(|w| is_overwrite(&w.value));
    ids.filter_map(|w| delta_of(layout, w)).collect()
}

/// Channels of a checkpoint whose value only its ancestors have: delta channels, and reducing
/// channels that were delta channels when the checkpoint was made.
pub(crate) fn to_rebuild(layout: &Layout, checkpoint: &Checkpoint) -> Vec<ChanId> {
    let is_missing = |(_, def): &(usize, &crate::layout::ChannelDef)| {
        matches!(
            def.kind,
            Kind::Delta(_) | Kind::Messages | Kind::Reduce { .. }
        ) && !checkpoint.channel_values.contains_key(&def.name)
            && checkpoint.channel_versions.contains_key(&def.name)
    };
    let missing = layout.channels.iter().enumerate().filter(is_missing);
    missing.map(|(id, _)| id).collect()
}

/// Puts rebuilt values into a loaded checkpoint, as if it had stored them.
///
/// # Errors
/// What a reducer fails with.
pub(crate) fn rebuild(
    layout: &Layout,
    checkpoint: &mut Checkpoint,
    ids: &[ChanId],
    histories: Vec<DeltaHistory>,
) -> Result<()> {
    for (id, history) in ids.iter().zip(histories) {
        let def = &layout.channels[*id];
        if let Some(value) = Slot::rebuild(&def.kind, history)?.get(&def.kind) {
            checkpoint.channel_values.insert(def.name.clone(), value);
        }
    }
    Ok(())
}

/// A write to a delta channel that a run which stores only its end has to store with it.
#[derive(Clone, Debug)]
pub(crate) struct ExitWrite {
    pub(crate) step: i64,
    pub(crate) task: TaskId,
    /// Path of the task, as text.
    pub(crate) path: String,
    pub(crate) channel: ChanId,
    pub(crate) value: Value,
}

impl ExitWrite {
    /// Task id and path under which the write is stored beside the checkpoint that the run
    /// started from. `first`: the superstep that this checkpoint is about; its writes are sorted
    /// among those that are stored there already, later ones come after them, step by step.
    ///
    /// Source: `exit_delta_task_id` and `exit_delta_late_task_id` of LangGraph 1.2.
    pub(crate) fn place(&self, first: Option<i64>) -> (String, String) {
        let id = self.task.to_string();
        let rest = &id[8..];
        let step = self.step;
        if self.task != TaskId::NULL && first != Some(step) {
            let late = format!(
                "ffffffff-{:04x}-{:04x}{}",
                step >> 16,
                step & 0xFFFF,
                &id[18..]
            );
            return (late, format!("~~{step:010}{}", self.path));
        }
        let own = format!("{step:08}{rest}");
        let own = if own == TaskId::NULL.to_string() {
            format!("{step:08}-0000-0000-0000-000000000001")
        } else {
            own
        };
        let path = if self.task == TaskId::NULL {
            String::new()
        } else {
            self.path.clone()
        };
        (own, path)
    }
}

/// Names of channels, for the saver.
pub(crate) fn names(layout: &Layout, ids: &[ChanId]) -> Vec<Str> {
    ids.iter()
        .map(|id| layout.channels[*id].name.clone())
        .collect()
}
