//! The state of a graph between supersteps: channels, versions, who saw what.

mod bump;
mod fresh;
mod prepare;

pub(crate) use fresh::Foreseen;
pub(crate) use prepare::Prepare;

use std::sync::Arc;

use agentflow_storage::checkpoint::{Checkpoint, Version, delta};
use agentflow_types::{Map, Result, Rng, Str, Value};
use indexmap::IndexMap;

use super::{
    ids::{checkpoint_id, checkpoint_text},
    task::{INPUT, Path, Target, Task, Write},
    version::{Style, Ver},
};
use crate::{
    channel::Slot,
    invocation::InterruptAt,
    layout::{ChanId, Layout, NodeId},
};

/// Format version of the checkpoints that are written.
pub(crate) const CHECKPOINT_FORMAT: i64 = 4;
/// Key of the entry that remembers the versions at the last interrupt.
const INTERRUPT_SEEN: &str = "__interrupt__";

/// A set of writes from one source.
pub(crate) struct WriteSet {
    pub(crate) path: Path,
    /// The node, unless the writes are input.
    pub(crate) node: Option<NodeId>,
    pub(crate) writes: Vec<Write>,
}

/// Whether applied writes make new channel versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// They do.
    Bump,
    /// They do not: a look at what would be.
    Keep,
}

/// Channels, versions, who saw what.
#[derive(Clone)]
pub(crate) struct Board {
    pub(crate) layout: Arc<Layout>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) versions: Vec<Ver>,
    style: Style,
    /// Per node, aligned to its triggers; `None` if it never ran.
    seen: Vec<Option<Vec<Ver>>>,
    /// Per channel; `None` before the first interrupt or resume.
    interrupt_seen: Option<Vec<Ver>>,
    input_seen: bool,
    /// Entries of checkpoints that this graph does not know, kept.
    other_versions: IndexMap<Str, Version>,
    other_seen: IndexMap<Str, IndexMap<Str, Version>>,
    /// Highest counter among the unknown versions.
    other_max: u64,
    /// Id of the checkpoint that this is the state of.
    pub(crate) id: u128,
    /// Channels that the last superstep changed, if known.
    pub(crate) updated: Option<Vec<ChanId>>,
    scratch: Scratch,
}

/// Buffers that are reused from step to step.
#[derive(Clone, Default)]
struct Scratch {
    writes: Vec<Vec<Value>>,
    touched: Vec<ChanId>,
    is_updated: Vec<bool>,
    order: Vec<usize>,
    /// What branches already saw of this superstep's end; empty after it.
    foreseen: Foreseen,
}

impl Board {
    /// An empty state.
    pub(crate) fn empty(layout: Arc<Layout>, id: u128) -> Self {
        let channels = layout.channels.len();
        Self {
            slots: layout.channels.iter().map(|c| Slot::new(&c.kind)).collect(),
            versions: vec![Ver::NONE; channels],
            style: Style::Text,
            seen: vec![None; layout.nodes.len()],
            interrupt_seen: None,
            input_seen: false,
            other_versions: IndexMap::new(),
            other_seen: IndexMap::new(),
            other_max: 0,
            id,
            updated: None,
            scratch: Scratch {
                writes: vec![Vec::new(); channels],
                is_updated: vec![false; channels],
                ..Scratch::default()
            },
            layout,
        }
    }

    /// The state that a checkpoint stores.
    ///
    /// # Errors
    /// `Corrupt` or `Invalid` if its id or a version is not what it should be.
    pub(crate) fn restore(layout: Arc<Layout>, stored: &Checkpoint) -> Result<Self> {
        let mut board = Self::empty(layout.clone(), checkpoint_id(&stored.id)?);
        for (slot, def) in board.slots.iter_mut().zip(&layout.channels) {
            *slot = Slot::restore(&def.kind, stored.channel_values.get(&def.name));
        }
        for (name, version) in &stored.channel_versions {
            let (parsed, style) = Ver::parse(version)?;
            board.style = style;
            match layout.channel(name) {
                Some(id) => board.versions[id] = parsed,
                None => {
                    board.other_max = board.other_max.max(parsed.n);
                    board.other_versions.insert(name.clone(), version.clone());
                }
            }
        }
        board.restore_all_seen(&stored.versions_seen)?;
        board.updated = stored
            .updated_channels
            .as_ref()
            .filter(|names| !names.is_empty())
            .map(|names| {
                names
                    .iter()
                    .filter_map(|name| layout.channel(name))
                    .collect()
            });
        Ok(board)
    }

    /// Keeps what a node, or the input, has seen of channels that do not trigger it.
    fn keep_other_seen(
        &mut self,
        name: &Str,
        versions: &IndexMap<Str, Version>,
        triggers: &[ChanId],
    ) {
        let is_trigger = |channel: &Str| {
            let mut triggers = triggers.iter();
            triggers.any(|id| self.layout.channels[*id].name == *channel)
        };
        let others = versions.iter().filter(|(channel, _)| !is_trigger(channel));
        let others: IndexMap<Str, Version> = others.map(|(c, v)| (c.clone(), v.clone())).collect();
        if !others.is_empty() {
            self.other_seen.insert(name.clone(), others);
        }
    }

    fn restore_seen(&mut self, name: &Str, versions: &IndexMap<Str, Version>) -> Result<()> {
        let layout = self.layout.clone();
        let find = |id: ChanId| -> Result<Ver> {
            match versions.get(&layout.channels[id].name) {
                Some(stored) => Ok(Ver::parse(stored)?.0),
                None => Ok(Ver::NONE),
            }
        };
        if &**name == INPUT {
            self.input_seen = true;
            self.keep_other_seen(name, versions, &[]);
        } else if &**name == INTERRUPT_SEEN {
            let all: Result<Vec<Ver>> = (0..layout.channels.len()).map(find).collect();
            self.interrupt_seen = Some(all?);
        } else if let Some(node) = layout.node(name) {
            let triggers = &layout.nodes[node].triggers;
            let all: Result<Vec<Ver>> = triggers.iter().map(|id| find(*id)).collect();
            self.seen[node] = Some(all?);
            self.keep_other_seen(name, versions, triggers);
        } else {
            self.other_seen.insert(name.clone(), versions.clone());
        }
        Ok(())
    }

    /// The stored form of this state, with the values of these delta channels. `stored`: the
    /// versions of the checkpoint before; a channel that is stored whole although it did not
    /// change since gets a new version, because savers store values by version.
    ///
    /// # Errors
    /// None in practice: versions that were just written are read back.
    pub(crate) fn store(
        &mut self,
        ts: String,
        snapshots: &[ChanId],
        stored: &[Ver],
        rng: &dyn Rng,
    ) -> Result<Checkpoint> {
        let bumps = self.bump_unmoved(snapshots, stored, rng);
        let mut checkpoint = self.stored(ts);
        for id in snapshots {
            let def = &self.layout.channels[*id];
            if let Some(value) = self.slots[*id].get(&def.kind) {
                let values = &mut checkpoint.channel_values;
                values.insert(def.name.clone(), delta::snapshot(value));
            }
        }
        if !bumps.is_empty() {
            bump::mark(&mut checkpoint.versions_seen, &bumps);
            self.restore_all_seen(&checkpoint.versions_seen)?;
        }
        Ok(checkpoint)
    }

    fn stored(&self, ts: String) -> Checkpoint {
        let layout = &self.layout;
        let mut channel_values = Map::new();
        let mut channel_versions = self.other_versions.clone();
        for (id, def) in layout.channels.iter().enumerate() {
            if !self.versions[id].is_some() {
                continue;
            }
            channel_versions.insert(def.name.clone(), self.versions[id].store(self.style));
            if let Some(value) = self.slots[id].checkpoint(&def.kind) {
                channel_values.insert(def.name.clone(), value);
            }
        }
        let updated = self.updated.as_ref().map(|ids| {
            let mut names: Vec<Str> = ids
                .iter()
                .map(|id| layout.channels[*id].name.clone())
                .collect();
            names.sort();
            names
        });
        Checkpoint {
            v: CHECKPOINT_FORMAT,
            ts,
            id: checkpoint_text(self.id),
            channel_values,
            channel_versions,
            versions_seen: self.store_seen(),
            updated_channels: updated,
            extra: Map::new(),
        }
    }

    fn store_seen(&self) -> IndexMap<Str, IndexMap<Str, Version>> {
        let mut seen = self.other_seen.clone();
        let entry = |ids: &mut dyn Iterator<Item = (ChanId, Ver)>| -> IndexMap<Str, Version> {
            ids.filter(|(_, version)| version.is_some())
                .map(|(id, version)| {
                    (
                        self.layout.channels[id].name.clone(),
                        version.store(self.style),
                    )
                })
                .collect()
        };
        if self.input_seen {
            seen.entry(INPUT.into()).or_default();
        }
        for (node, versions) in self.layout.nodes.iter().zip(&self.seen) {
            if let Some(versions) = versions {
                let mut ids = node.triggers.iter().copied().zip(versions.iter().copied());
                let own = entry(&mut ids);
                seen.entry(node.name.clone()).or_default().extend(own);
            }
        }
        if let Some(versions) = &self.interrupt_seen {
            seen.insert(
                INTERRUPT_SEEN.into(),
                entry(&mut versions.iter().copied().enumerate()),
            );
        }
        seen
    }

    /// Whether anything was ever written.
    pub(crate) fn has_versions(&self) -> bool {
        !self.other_versions.is_empty() || self.versions.iter().any(|v| v.is_some())
    }

    /// Names of channels whose version differs from `before`.
    pub(crate) fn changed_since(&self, before: &[Ver]) -> Vec<Str> {
        let changed = |id: &ChanId| {
            self.versions[*id].is_some() && before.get(*id) != Some(&self.versions[*id])
        };
        (0..self.versions.len())
            .filter(changed)
            .map(|id| self.layout.channels[id].name.clone())
            .collect()
    }

    /// The value of a channel, if it shows one.
    pub(crate) fn get(&self, id: ChanId) -> Option<Value> {
        self.slots[id].get(&self.layout.channels[id].kind)
    }

    fn is_available(&self, id: ChanId) -> bool {
        self.slots[id].is_available(&self.layout.channels[id].kind)
    }

    /// The channels that show a value, as a map.
    pub(crate) fn read(&self, ids: &[ChanId]) -> Value {
        let mut map = Map::with_capacity(ids.len());
        for id in ids {
            if let Some(value) = self.get(*id) {
                map.insert(self.layout.channels[*id].name.clone(), value);
            }
        }
        Value::map(map)
    }

    /// The channels that show a value; of a graph that is a function, its result.
    pub(crate) fn view(&self, ids: &[ChanId]) -> Value {
        match self.layout.function {
            Some(function) => self.get(function.result).unwrap_or_default(),
            None => self.read(ids),
        }
    }

    /// Remembers that a task that is no node ran.
    pub(crate) fn saw_task(&mut self, name: &Str) {
        self.other_seen.entry(name.clone()).or_default();
    }

    /// The state that a node reads.
    pub(crate) fn read_for(&self, node: NodeId) -> Value {
        let reads = self.layout.nodes[node]
            .reads
            .as_ref()
            .unwrap_or(&self.layout.state);
        self.read(reads)
    }

    /// Remembers the current versions as seen by the last interrupt.
    pub(crate) fn see_interrupt(&mut self) {
        let seen = self
            .interrupt_seen
            .get_or_insert_with(|| vec![Ver::NONE; self.versions.len()]);
        for (seen, version) in seen.iter_mut().zip(&self.versions) {
            if version.is_some() {
                *seen = *version;
            }
        }
    }

    /// The tasks among `tasks` at which a static interrupt stops the graph.
    pub(crate) fn interrupts(&self, at: &InterruptAt, tasks: &[Task]) -> bool {
        let hit = |task: &Task| {
            let node = &self.layout.nodes[task.node];
            match at {
                InterruptAt::Never => false,
                InterruptAt::All => !node.is_hidden(),
                InterruptAt::Nodes(names) => names.iter().any(|n| **n == *node.name),
            }
        };
        if *at == InterruptAt::Never || !tasks.iter().any(hit) {
            return false;
        }
        let changed = |(id, version): (usize, &Ver)| {
            *version
                > self
                    .interrupt_seen
                    .as_ref()
                    .map_or(Ver::NONE, |seen| seen[id])
        };
        self.versions.iter().enumerate().any(changed)
    }

    /// The highest counter of all channels, plus one.
    fn next_version(&self, rng: &dyn Rng) -> Ver {
        let max = self
            .versions
            .iter()
            .map(|v| v.n)
            .max()
            .unwrap_or(0)
            .max(self.other_max);
        let fraction = if self.style == Style::Int {
            0.0
        } else {
            rng.next_f64()
        };
        Ver {
            n: max + 1,
            fraction,
        }
    }

    /// The version that each node of the graph saw last, with the node, sorted.
    pub(crate) fn last_seen(&self) -> Vec<(Ver, NodeId)> {
        let mut all: Vec<(Ver, NodeId)> = self
            .seen
            .iter()
            .enumerate()
            .flat_map(|(node, seen)| seen.iter().flatten().map(move |version| (*version, node)))
            .filter(|(version, _)| version.is_some())
            .collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        all
    }
}

/// Combining writes.
impl Board {
    /// Applies the writes of one superstep, in the order of their paths; returns the channels
    /// that changed and show a value.
    ///
    /// # Errors
    /// `Invalid` if a channel refuses its writes. The state is then half changed: drop it.
    pub(crate) fn apply(
        &mut self,
        sets: &mut [WriteSet],
        versions: Versions,
        rng: &dyn Rng,
    ) -> Result<Vec<ChanId>> {
        let layout = self.layout.clone();
        let mut order = std::mem::take(&mut self.scratch.order);
        order.clear();
        order.extend(0..sets.len());
        order.sort_by_key(|at| sets[*at].path.order());
        let bump_step = sets.iter().any(|set| set.path != Path::Input);
        for at in &order {
            self.see(&sets[*at]);
        }
        let next = match versions {
            Versions::Bump => Some(self.next_version(rng)),
            Versions::Keep => None,
        };
        self.consume(&layout, sets, next);
        let mut updated = Vec::new();
        for at in &order {
            for write in sets[*at].writes.drain(..) {
                if let Target::Channel(id) = write.target {
                    if self.scratch.writes[id].is_empty() {
                        self.scratch.touched.push(id);
                    }
                    self.scratch.writes[id].push(write.value);
                }
            }
        }
        self.scratch.order = order;
        self.combine(&layout, next, &mut updated)?;
        if bump_step {
            self.pass_step(&layout, next, &mut updated)?;
        }
        for id in &updated {
            self.scratch.is_updated[*id] = false;
        }
        Ok(updated)
    }

    fn see(&mut self, set: &WriteSet) {
        let Some(node) = set.node else {
            self.input_seen = true;
            return;
        };
        let triggers = &self.layout.nodes[node].triggers;
        let seen = self.seen[node].get_or_insert_with(|| vec![Ver::NONE; triggers.len()]);
        if matches!(set.path, Path::Pull(_)) {
            for (seen, trigger) in seen.iter_mut().zip(triggers) {
                if self.versions[*trigger].is_some() {
                    *seen = self.versions[*trigger];
                }
            }
        }
    }

    fn consume(&mut self, layout: &Layout, sets: &[WriteSet], next: Option<Ver>) {
        let pulled = sets.iter().filter(|set| matches!(set.path, Path::Pull(_)));
        for trigger in pulled
            .filter_map(|s| s.node)
            .flat_map(|n| &layout.nodes[n].triggers)
        {
            if self.slots[*trigger].consume(&layout.channels[*trigger].kind)
                && let Some(next) = next
            {
                self.versions[*trigger] = next;
            }
        }
    }

    fn combine(
        &mut self,
        layout: &Layout,
        next: Option<Ver>,
        updated: &mut Vec<ChanId>,
    ) -> Result<()> {
        let mut touched = std::mem::take(&mut self.scratch.touched);
        let mut failed = None;
        for id in touched.drain(..) {
            let mut writes = std::mem::take(&mut self.scratch.writes[id]);
            if failed.is_none() {
                failed = self.update(layout, id, &mut writes, next, updated).err();
            }
            writes.clear();
            self.scratch.writes[id] = writes;
        }
        self.scratch.touched = touched;
        self.scratch.foreseen.clear();
        failed.map_or(Ok(()), Err)
    }

    fn update(
        &mut self,
        layout: &Layout,
        id: ChanId,
        writes: &mut Vec<Value>,
        next: Option<Ver>,
        updated: &mut Vec<ChanId>,
    ) -> Result<()> {
        let def = &layout.channels[id];
        let is_changed = match self.scratch.foreseen.take(id, writes) {
            Some(slot) => {
                self.slots[id] = slot;
                true
            }
            None => self.slots[id].update(&def.kind, &def.name, writes)?,
        };
        if is_changed && let Some(next) = next {
            self.versions[id] = next;
            if self.is_available(id) {
                self.scratch.is_updated[id] = true;
                updated.push(id);
            }
        }
        Ok(())
    }

    /// Tells channels without a write that a superstep passed, and, when nothing is left to do,
    /// that the graph is about to end.
    fn pass_step(
        &mut self,
        layout: &Layout,
        next: Option<Ver>,
        updated: &mut Vec<ChanId>,
    ) -> Result<()> {
        for id in &layout.transient {
            if !self.scratch.is_updated[*id] && self.is_available(*id) {
                self.update(layout, *id, &mut Vec::new(), next, updated)?;
            }
        }
        if updated
            .iter()
            .all(|id| layout.channels[*id].wakes.is_empty())
        {
            for id in &layout.finishing {
                if self.slots[*id].finish(&layout.channels[*id].kind)
                    && let Some(next) = next
                {
                    self.versions[*id] = next;
                    if self.is_available(*id) && !self.scratch.is_updated[*id] {
                        self.scratch.is_updated[*id] = true;
                        updated.push(*id);
                    }
                }
            }
        }
        Ok(())
    }
}
