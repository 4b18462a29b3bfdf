//! The life of one run of one graph: input, supersteps, end. Events in, effects out.

pub(crate) mod calls;
mod deltas;
mod end;
mod first;
mod save;
pub(crate) mod step;

pub(crate) use save::with_config_metadata;

use std::sync::{Arc, Mutex, PoisonError};

use agentflow_storage::checkpoint::{CheckpointOp, CheckpointTuple};
use agentflow_types::{
    Map, Result, Str, Value,
    graph::{Durability, Interrupt, RunConfig, StreamMode},
};

use tokio_util::sync::CancellationToken;

use super::{
    World,
    board::Board,
    ids::TaskId,
    payload::Modes,
    task::{Pending, Target, Task, Write},
    version::Ver,
};
use crate::{
    invocation::{Input, InterruptAt},
    layout::Layout,
};

/// Recursion limit of runs that do not set one, as LangGraph has it.
pub const DEFAULT_RECURSION_LIMIT: u64 = 10_007;

/// The one answer that a client gave without saying to which question. Whoever asks first takes
/// it; a graph inside a node looks in its own place, then in its parent's.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    value: Mutex<Option<Value>>,
    parent: Option<Arc<Answer>>,
}

impl Answer {
    /// The place of a graph inside a node.
    pub(crate) fn below(parent: Option<Arc<Answer>>) -> Self {
        Self {
            value: Mutex::new(None),
            parent,
        }
    }

    fn set(&self, value: Option<Value>) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    fn peek(&self) -> Option<Value> {
        self.value
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes the answer, here or above.
    pub(crate) fn take(&self) -> Option<Value> {
        let own = self
            .value
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        own.or_else(|| self.parent.as_ref()?.take())
    }
}

/// Whether a graph is the outermost one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Root,
    /// It runs inside a task of another graph.
    Nested,
}

/// What a run is made of, besides its input.
pub(crate) struct Setup {
    pub(crate) layout: Arc<Layout>,
    pub(crate) world: World,
    pub(crate) level: Level,
    /// Namespace; empty at the root.
    pub(crate) ns: String,
    pub(crate) thread_id: Option<String>,
    pub(crate) config: Arc<RunConfig>,
    pub(crate) modes: Modes,
    /// Whether there is a saver.
    pub(crate) saves: bool,
    pub(crate) durability: Durability,
    pub(crate) interrupt_before: InterruptAt,
    pub(crate) interrupt_after: InterruptAt,
    pub(crate) run_id: Option<String>,
    /// Attempt of the run, from 1.
    pub(crate) attempt: u32,
    /// What the parent graph says about resuming; `None` if it says nothing.
    pub(crate) resuming: Option<bool>,
    /// Whether a certain checkpoint was asked for.
    pub(crate) addressed: bool,
    /// Whether the thread has moved past that checkpoint.
    pub(crate) superseded: bool,
    /// Answers by interrupt id.
    pub(crate) resume_map: Option<Arc<Map>>,
    /// Checkpoints of the graphs above, by namespace.
    pub(crate) parents: Map,
    pub(crate) answer: Arc<Answer>,
    /// Fires when the run is to stop before its next superstep.
    pub(crate) drain: CancellationToken,
}

/// Something for the shell to do, in order.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Tell the readers.
    Emit(StreamMode, Value),
    /// Write to the saver.
    Commit(Box<CheckpointOp>),
}

/// What the next superstep is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    /// Run the tasks that are not done.
    Run,
    /// Nothing is left to do.
    Done,
    /// A static interrupt stops the graph.
    Interrupted,
    /// The run is asked to stop here.
    Drained,
    /// The recursion limit is reached.
    OutOfSteps,
}

/// How a run ends, for what is saved and reported last.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// It came to its end.
    Done,
    /// Questions, or a static interrupt if there are none, stop it.
    Interrupted(Vec<Interrupt>),
    /// An error stops it.
    Failed,
}

/// One run of one graph.
pub(crate) struct Machine {
    pub(crate) setup: Setup,
    pub(crate) board: Board,
    /// Number of the superstep that runs, or comes next.
    pub(crate) step: i64,
    /// Last superstep that may run.
    pub(crate) stop: i64,
    pub(crate) tasks: Vec<Task>,
    /// Functional tasks of this superstep.
    pub(crate) calls: Vec<calls::Call>,
    pub(crate) effects: Vec<Effect>,
    pending: Vec<Pending>,
    metadata: Metadata,
    /// Whether stored writes of finished tasks are not handed back: they run again.
    is_replaying: bool,
    /// Whether this run continues an earlier one; told to graphs inside tasks of the first
    /// superstep.
    pub(crate) resuming: Option<bool>,
    /// Checkpoint before which graphs inside tasks are replayed.
    pub(crate) replay_before: Option<String>,
    resume_map: Option<Arc<Map>>,
    /// Newest stored checkpoint.
    saved_id: Option<String>,
    /// Its parent.
    previous_id: Option<String>,
    /// Checkpoint that was loaded, stored or not.
    loaded_id: u128,
    stored_versions: Vec<Ver>,
    /// Tasks that wrote during this run; only theirs are saved when the run ends.
    written: Vec<TaskId>,
    /// Whether the pending answer of no task came with this run.
    answer_is_new: bool,
    deltas: deltas::Deltas,
}

/// Metadata of the current checkpoint.
#[derive(Clone, Debug)]
enum Metadata {
    /// As it was loaded.
    Loaded(Map),
    /// As this run makes it.
    Own { source: &'static str, step: i64 },
}

impl Metadata {
    fn source(&self) -> Option<&str> {
        match self {
            Self::Loaded(map) => map.get("source").and_then(Value::as_str),
            Self::Own { source, .. } => Some(source),
        }
    }
}

impl Machine {
    /// Starts a run from what the saver has and the input.
    ///
    /// # Errors
    /// `Invalid` if the input is refused or missing; `Corrupt` if the checkpoint is damaged.
    pub(crate) fn start(
        setup: Setup,
        saved: Option<CheckpointTuple>,
        input: Input,
    ) -> Result<Self> {
        let limit = setup
            .config
            .recursion_limit
            .unwrap_or(DEFAULT_RECURSION_LIMIT);
        if limit == 0 {
            return Err(agentflow_types::Error::invalid(
                "recursion_limit must be at least 1",
            ));
        }
        let layout = setup.layout.clone();
        let mut machine = match saved {
            Some(saved) => Self::loaded(setup, saved)?,
            None => {
                let id = setup.world.checkpoint_id(-2);
                let board = Board::empty(layout, id);
                Self::with(setup, board, Metadata::Loaded(Map::new()), -2)
            }
        };
        machine.load_deltas();
        machine.step += 1;
        machine.stop = machine
            .step
            .saturating_add(i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1);
        machine.first(input)?;
        Ok(machine)
    }

    fn with(setup: Setup, board: Board, metadata: Metadata, step: i64) -> Self {
        Self {
            step,
            stop: 0,
            tasks: Vec::new(),
            calls: Vec::new(),
            effects: Vec::new(),
            pending: Vec::new(),
            metadata,
            is_replaying: false,
            resuming: setup.resuming,
            replay_before: None,
            resume_map: setup.resume_map.clone(),
            saved_id: None,
            previous_id: None,
            loaded_id: board.id,
            stored_versions: board.versions.clone(),
            written: Vec::new(),
            answer_is_new: false,
            deltas: deltas::Deltas::default(),
            board,
            setup,
        }
    }

    fn loaded(setup: Setup, saved: CheckpointTuple) -> Result<Self> {
        let layout = setup.layout.clone();
        let checkpoint = super::migrate::migrate(&layout, saved.checkpoint);
        let board = Board::restore(layout.clone(), &checkpoint)?;
        let step = saved
            .metadata
            .get("step")
            .and_then(Value::as_i64)
            .unwrap_or(-1);
        let mut machine = Self::with(setup, board, Metadata::Loaded(saved.metadata), step);
        machine.saved_id = Some(checkpoint.id);
        machine.previous_id = saved.parent_id;
        for stored in saved.pending_writes {
            let task = TaskId::parse(&stored.task_id).unwrap_or(TaskId(u128::MAX));
            let target = Target::parse(&layout, &stored.channel);
            if task == TaskId::NULL && target == Target::Resume {
                machine.setup.answer.set(Some(stored.value));
            } else {
                machine.pending.push(Pending {
                    task,
                    write: Write::new(target, stored.value),
                });
            }
        }
        Ok(machine)
    }

    /// The outputs, for whoever started the run.
    pub(crate) fn output(&self) -> Value {
        self.board.view(&self.setup.layout.outputs)
    }

    /// Names of the tasks that are not done.
    pub(crate) fn next(&self) -> Vec<Str> {
        let open = self.tasks.iter().filter(|task| !task.is_done());
        open.map(|task| self.setup.layout.nodes[task.node].name.clone())
            .collect()
    }

    /// Answers by interrupt id, for graphs inside tasks.
    pub(crate) fn resume_map(&self) -> Option<&Arc<Map>> {
        self.resume_map.as_ref()
    }

    fn wants(&self, mode: StreamMode) -> bool {
        self.setup.modes.has(mode)
    }

    fn emit(&mut self, mode: StreamMode, data: Value) {
        self.effects.push(Effect::Emit(mode, data));
    }

    fn timestamp(&self) -> String {
        self.setup.world.clock.now().to_string()
    }
}
