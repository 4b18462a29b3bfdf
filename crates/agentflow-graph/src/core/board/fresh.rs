//! What a branch sees: the state with its own node's writes.

use std::sync::Arc;

use agentflow_types::{Map, Result, Value};

use super::Board;
use crate::{
    channel::{Kind, Slot},
    core::task::{Target, Write},
    layout::{ChanId, NodeId},
};

/// Channels as branches saw them with one write applied. If that write stays the only one of the
/// superstep, the channel becomes what was seen, instead of combining the same once more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Foreseen(Vec<Seen>);

/// A channel with one write applied.
#[derive(Clone, Debug)]
struct Seen {
    channel: ChanId,
    write: Value,
    slot: Slot,
}

impl Foreseen {
    /// Adds what others saw; of two views of one channel the later one stays.
    pub(crate) fn add(&mut self, other: Self) {
        for seen in other.0 {
            self.0.retain(|known| known.channel != seen.channel);
            self.0.push(seen);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The channel with `writes` applied, if it was seen so. The caller forgets all when any
    /// channel changed.
    pub(super) fn take(&mut self, channel: ChanId, writes: &mut Vec<Value>) -> Option<Slot> {
        let [write] = writes.as_slice() else {
            return None;
        };
        let at = self.position(channel, write)?;
        writes.clear();
        Some(self.0.swap_remove(at).slot)
    }

    fn position(&self, channel: ChanId, write: &Value) -> Option<usize> {
        let is_it = |seen: &Seen| seen.channel == channel && is_same(&seen.write, write);
        self.0.iter().position(is_it)
    }
}

/// Whether two values are one list.
fn is_same(a: &Value, b: &Value) -> bool {
    matches!((a, b), (Value::List(a), Value::List(b)) if Arc::ptr_eq(a, b))
}

impl Board {
    /// Keeps what branches of a task saw until the superstep ends.
    pub(crate) fn foresee(&mut self, seen: Foreseen) {
        self.scratch.foreseen.add(seen);
    }

    /// The state that a node reads, with the node's own writes applied; notes in `foreseen` what
    /// was combined for it.
    ///
    /// # Errors
    /// Whatever a channel says to the writes.
    pub(crate) fn read_fresh(
        &self,
        node: NodeId,
        writes: &[Write],
        foreseen: &mut Foreseen,
    ) -> Result<Value> {
        let reads = self.layout.nodes[node]
            .reads
            .as_ref()
            .unwrap_or(&self.layout.state);
        let mut map = Map::with_capacity(reads.len());
        let mut values = Vec::new();
        for id in reads {
            let def = &self.layout.channels[*id];
            let own = writes.iter().filter(|w| w.target == Target::Channel(*id));
            values.extend(own.map(|w| w.value.clone()));
            let value = if values.is_empty() {
                self.get(*id)
            } else {
                let slot = self.with_writes(*id, &mut values, foreseen)?;
                values.clear();
                slot.get(&def.kind)
            };
            if let Some(value) = value {
                map.insert(def.name.clone(), value);
            }
        }
        Ok(Value::map(map))
    }

    /// A channel with writes applied.
    fn with_writes(
        &self,
        id: ChanId,
        values: &mut Vec<Value>,
        foreseen: &mut Foreseen,
    ) -> Result<Slot> {
        let def = &self.layout.channels[id];
        let only = match values.as_slice() {
            [only] if combines(&def.kind) => Some(only.clone()),
            _ => None,
        };
        let known = only.as_ref().and_then(|write| foreseen.position(id, write));
        if let Some(at) = known {
            return Ok(foreseen.0[at].slot.clone());
        }
        let mut slot = self.slots[id].clone();
        slot.update(&def.kind, &def.name, values)?;
        if let Some(write) = only {
            let slot = slot.clone();
            foreseen.add(Foreseen(vec![Seen {
                channel: id,
                write,
                slot,
            }]));
        }
        Ok(slot)
    }
}

/// Whether combining a write with what is there may take long.
fn combines(kind: &Kind) -> bool {
    matches!(kind, Kind::Messages | Kind::Reduce { .. } | Kind::Delta(_))
}
