//! Delta channels: channels of which a checkpoint stores only what changed.
//!
//! LangGraph's `DeltaChannel` leaves its value out of most checkpoints. The value at a checkpoint
//! is the nearest value that one of its ancestors stores (a *seed*), combined with the pending
//! writes of all checkpoints from that ancestor on. A seed that was stored for this purpose is a
//! *snapshot*, an extension of its own in the serializer; any other stored value (left from the
//! time before the channel was a delta channel) counts as well.

use std::{collections::HashSet, sync::Arc};

use agentflow_types::{Error, Map, Result, Str, Typed, Value};

use super::{Checkpoint, CheckpointKey, Checkpoints, PendingWrite};
use crate::msgpack::DELTA_CODE;

/// Metadata entry that counts, per delta channel, updates and supersteps since its last snapshot.
/// Channels whose value is in the checkpoint are not in it.
pub const COUNTERS: &str = "counters_since_delta_snapshot";
/// Most ancestors that are visited for one value; LangGraph takes a snapshot at least every 5000
/// supersteps.
pub const MAX_WALK: usize = 100_000;

const MODULE: &str = "langgraph.checkpoint.serde.types";
const NAME: &str = "_DeltaSnapshot";

/// The snapshot of a delta channel, as a checkpoint stores it.
#[must_use]
pub fn snapshot(value: Value) -> Value {
    Value::Typed(Arc::new(Typed {
        code: DELTA_CODE,
        module: MODULE.into(),
        name: NAME.into(),
        value,
        method: None,
    }))
}

/// The value in a snapshot; `None` if this is not one.
#[must_use]
pub fn read_snapshot(stored: &Value) -> Option<&Value> {
    match stored {
        Value::Typed(typed) if typed.code == DELTA_CODE => Some(&typed.value),
        _ => None,
    }
}

/// What rebuilds one delta channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeltaHistory {
    /// The value stored by the nearest ancestor that stores one, snapshot or not; `None` if none
    /// does: the channel started empty.
    pub seed: Option<Value>,
    /// Writes since, oldest first; those of one superstep in the order in which they were
    /// applied.
    pub writes: Vec<PendingWrite>,
}

/// Collects histories while somebody walks from a checkpoint to its ancestors.
#[derive(Debug)]
pub struct Walk {
    channels: Vec<Str>,
    /// Newest first until [`Walk::finish`].
    histories: Vec<DeltaHistory>,
    open: Vec<bool>,
    visited: HashSet<String>,
}

impl Walk {
    /// For these channels.
    #[must_use]
    pub fn new(channels: &[Str]) -> Self {
        Self {
            histories: vec![DeltaHistory::default(); channels.len()],
            open: vec![true; channels.len()],
            channels: channels.to_vec(),
            visited: HashSet::new(),
        }
    }

    /// Whether an ancestor must be visited: a seed is still missing, and the parents do not run
    /// in a circle (which happens when a checkpoint is stored again under a descendant).
    ///
    /// # Errors
    /// `Corrupt` after [`MAX_WALK`] ancestors.
    pub fn wants(&mut self, checkpoint_id: &str) -> Result<bool> {
        if self.visited.len() >= MAX_WALK {
            return Err(Error::corrupt("a delta channel has too many ancestors")
                .with("limit", MAX_WALK)
                .with("checkpoint_id", checkpoint_id));
        }
        Ok(self.open.contains(&true) && self.visited.insert(checkpoint_id.to_owned()))
    }

    /// Whether writes to this channel are collected from the ancestor that is visited.
    #[must_use]
    pub fn collects(&self, channel: &str) -> bool {
        self.place(channel).is_some()
    }

    fn place(&self, channel: &str) -> Option<usize> {
        let at = self.channels.iter().position(|c| &**c == channel)?;
        self.open[at].then_some(at)
    }

    /// Takes in one ancestor: its pending writes, in order, and its channel values.
    pub fn visit(&mut self, writes: Vec<PendingWrite>, values: &Map) {
        for write in writes.into_iter().rev() {
            if let Some(at) = self.place(&write.channel) {
                self.histories[at].writes.push(write);
            }
        }
        for (at, channel) in self.channels.iter().enumerate() {
            if self.open[at]
                && let Some(seed) = values.get(channel)
            {
                self.histories[at].seed = Some(seed.clone());
                self.open[at] = false;
            }
        }
    }

    /// The histories, in the order of the channels.
    #[must_use]
    pub fn finish(mut self) -> Vec<DeltaHistory> {
        for history in &mut self.histories {
            history.writes.reverse();
        }
        self.histories
    }
}

/// [`Checkpoints::delta_history`] by one `get` per ancestor.
///
/// # Errors
/// What `get` returns; `Corrupt` if there are more than [`MAX_WALK`] ancestors.
pub async fn walk<C: Checkpoints + ?Sized>(
    saver: &C,
    key: &CheckpointKey,
    channels: &[Str],
) -> Result<Vec<DeltaHistory>> {
    let mut walk = Walk::new(channels);
    let target = saver.get(key).await?;
    let mut parent = target.and_then(|target| target.parent_id);
    while let Some(id) = parent {
        if !walk.wants(&id)? {
            break;
        }
        let at = CheckpointKey {
            checkpoint_id: Some(id),
            ..key.clone()
        };
        let Some(found) = saver.get(&at).await? else {
            break;
        };
        walk.visit(found.pending_writes, &found.checkpoint.channel_values);
        parent = found.parent_id;
    }
    Ok(walk.finish())
}

/// The channels of a checkpoint whose value only its ancestors have: pruning must keep these, up
/// to the nearest one with a value for each.
#[must_use]
pub fn unresolved(checkpoint: &Checkpoint, metadata: &Map) -> Vec<Str> {
    let counters = metadata.get(COUNTERS).and_then(Value::as_map);
    let names = counters.into_iter().flat_map(Map::keys);
    let is_elsewhere = |name: &&Str| {
        checkpoint.channel_versions.contains_key(*name)
            && !checkpoint.channel_values.contains_key(*name)
    };
    names.filter(is_elsewhere).cloned().collect()
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    fn write(channel: &str, value: Value) -> PendingWrite {
        PendingWrite {
            task_id: "t".into(),
            channel: channel.into(),
            value,
        }
    }

    #[test]
    fn each_channel_stops_at_its_own_seed() {
        let mut walk = Walk::new(&["a".into(), "b".into()]);
        assert!(walk.wants("3").unwrap());
        walk.visit(
            vec![
                write("a", value!(3)),
                write("b", value!(30)),
                write("c", value!(0)),
            ],
            &Map::new(),
        );
        assert!(walk.wants("2").unwrap());
        let values = Map::from_iter([("a".into(), snapshot(value!(1)))]);
        walk.visit(vec![write("a", value!(2))], &values);
        assert!(!walk.collects("a") && walk.collects("b"));
        assert!(walk.wants("1").unwrap());
        walk.visit(
            vec![write("a", value!(9)), write("b", value!(10))],
            &Map::new(),
        );
        assert!(!walk.wants("2").unwrap(), "a circle ends the walk");
        let [a, b] = <[DeltaHistory; 2]>::try_from(walk.finish()).unwrap();
        assert_eq!(a.seed.as_ref().and_then(read_snapshot), Some(&value!(1)));
        assert_eq!(a.writes, [write("a", value!(2)), write("a", value!(3))]);
        assert_eq!(b.seed, None);
        assert_eq!(b.writes, [write("b", value!(10)), write("b", value!(30))]);
    }
}
