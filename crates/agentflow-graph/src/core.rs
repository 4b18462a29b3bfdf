//! The pure core: what happens next, as functions of state and event. No async, no I/O; time,
//! ids and randomness come in through [`World`].

pub(crate) mod board;
pub(crate) mod delta;
pub(crate) mod ids;
pub(crate) mod machine;
pub(crate) mod migrate;
pub(crate) mod payload;
pub(crate) mod task;
pub(crate) mod version;
pub(crate) mod writes;

use std::sync::Arc;

use agentflow_types::{Clock, Rng};

/// Where time, ids and randomness come from.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) ids: Arc<ids::CheckpointIds>,
}

impl World {
    /// The parts of a runtime that the core uses.
    pub(crate) fn of(runtime: &crate::invocation::Runtime) -> Self {
        Self {
            clock: runtime.clock.clone(),
            rng: runtime.rng.clone(),
            ids: runtime.ids.clone(),
        }
    }

    /// A new checkpoint id.
    pub(crate) fn checkpoint_id(&self, step: i64) -> u128 {
        self.ids.next(&*self.clock, &*self.rng, step)
    }
}
