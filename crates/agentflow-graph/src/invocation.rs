//! What a run needs: its input and options, and the services of its surroundings.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use agentflow_storage::{
    checkpoint::{Checkpoints, Fence},
    store::Store,
};
use agentflow_types::{
    Clock, Rng, RunId, Scope, SystemClock, SystemRng, Value,
    graph::{CheckpointRef, Command, Durability, RunConfig, StreamEvent, StreamMode},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{cache::Cache, core::ids::CheckpointIds};

/// Where a run reports. Bounded: a graph that is faster than the reader waits.
pub type EventSink = mpsc::Sender<StreamEvent>;

/// What a run starts with.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Input {
    /// Nothing: go on from the checkpoint.
    #[default]
    None,
    /// Input for the graph: a map from input channel to value.
    Value(Value),
    /// A command: resume, update, goto.
    Command(Command),
}

impl From<Value> for Input {
    /// Null means nothing.
    fn from(value: Value) -> Self {
        if value.is_null() {
            Self::None
        } else {
            Self::Value(value)
        }
    }
}

impl From<Command> for Input {
    fn from(command: Command) -> Self {
        Self::Command(command)
    }
}

impl Input {
    /// The answer to interrupts: one value, or a map from interrupt id to value.
    pub fn resume(answer: impl Into<Value>) -> Self {
        Self::Command(Command {
            resume: Some(answer.into()),
            ..Command::default()
        })
    }
}

/// Which nodes make a static interrupt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum InterruptAt {
    /// None.
    #[default]
    Never,
    /// All nodes.
    All,
    /// These nodes.
    Nodes(Vec<String>),
}

/// One attempt of a run.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// Input.
    pub input: Input,
    /// Configuration; `configurable.thread_id` names the thread when there is a saver.
    pub config: RunConfig,
    /// Checkpoint to start from; its thread id, when not empty, wins over the configuration's.
    pub checkpoint: Option<CheckpointRef>,
    /// Run. When the newest checkpoint carries the same run id in its metadata, the run goes on
    /// from there and ignores `input`.
    pub run_id: Option<RunId>,
    /// Attempt, from 1; 0 means 1.
    pub attempt: u32,
    /// Modes to report.
    pub modes: Vec<StreamMode>,
    /// Whether events of subgraphs are reported.
    pub subgraphs: bool,
    /// When checkpoints are written.
    pub durability: Durability,
    /// Static interrupts before nodes, in addition to the graph's own.
    pub interrupt_before: InterruptAt,
    /// Static interrupts after nodes, in addition to the graph's own.
    pub interrupt_after: InterruptAt,
    /// Lease under which checkpoints are written.
    pub fence: Option<Fence>,
    /// Stops the run.
    pub cancel: CancellationToken,
    /// Lets the run stop before its next superstep, with everything stored: it ends with an error
    /// of class `GraphDrained`, and a run without input goes on from there.
    ///
    /// ```
    /// use agentflow_graph::{Channel, GraphBuilder, Input, Invocation, NodeContext, Runtime, START};
    /// use agentflow_storage::memory::Memory;
    /// use agentflow_types::value;
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let mut builder = GraphBuilder::new("batch");
    /// builder
    ///     .channel("done", Channel::append())
    ///     .node("first", |_, ctx: NodeContext| async move {
    ///         // As a signal handler would, with the token of the invocation.
    ///         ctx.request_drain();
    ///         Ok(value!({"done": [1]}).into())
    ///     })
    ///     .node("second", |_, _| async { Ok(value!({"done": [2]}).into()) })
    ///     .edge(START, "first")
    ///     .edge("first", "second");
    /// let graph = builder.compile()?;
    /// let runtime = Runtime::with_saver(Memory::open().checkpoints);
    /// let start = Invocation::new(value!({"done": []})).thread("t");
    /// let stopped = graph.run(&runtime, start, None).await.unwrap_err();
    /// assert_eq!(stopped.class_name(), "GraphDrained");
    /// let rest = graph.run(&runtime, Invocation::new(Input::None).thread("t"), None).await?;
    /// assert_eq!(rest.values, value!({"done": [1, 2]}));
    /// # Ok::<(), agentflow_types::Error>(())
    /// # }).unwrap();
    /// ```
    pub drain: CancellationToken,
}

impl Invocation {
    /// A run with this input and no other option.
    pub fn new(input: impl Into<Input>) -> Self {
        Self {
            input: input.into(),
            ..Self::default()
        }
    }

    /// Sets the thread.
    #[must_use]
    pub fn thread(mut self, thread_id: &str) -> Self {
        self.config
            .configurable
            .insert("thread_id".into(), Value::str(thread_id));
        self
    }

    /// Sets the modes to report.
    #[must_use]
    pub fn modes(mut self, modes: impl IntoIterator<Item = StreamMode>) -> Self {
        self.modes = modes.into_iter().collect();
        self
    }
}

/// Counts what is executed, since the start.
#[derive(Debug, Default)]
pub struct Meter {
    supersteps: AtomicU64,
    tasks: AtomicU64,
}

impl Meter {
    pub(crate) fn superstep(&self, tasks: usize) {
        self.supersteps.fetch_add(1, Ordering::Relaxed);
        self.tasks.fetch_add(tasks as u64, Ordering::Relaxed);
    }

    /// Supersteps that began.
    #[must_use]
    pub fn supersteps(&self) -> u64 {
        self.supersteps.load(Ordering::Relaxed)
    }

    /// Tasks that began, those in subgraphs included.
    #[must_use]
    pub fn tasks(&self) -> u64 {
        self.tasks.load(Ordering::Relaxed)
    }
}

/// The services that runs use.
#[derive(Clone)]
pub struct Runtime {
    /// Stores checkpoints; without one nothing survives the run.
    pub saver: Option<Arc<dyn Checkpoints>>,
    /// Long-term items, for nodes.
    pub store: Option<Arc<dyn Store>>,
    /// Remembers what nodes with a cache policy wrote.
    pub cache: Option<Arc<dyn Cache>>,
    /// Whose items nodes see.
    pub scope: Scope,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Counts what is executed.
    pub meter: Arc<Meter>,
    /// Checkpoint ids; a simulation brings its own source, everything else shares one.
    pub ids: Arc<CheckpointIds>,
}

impl Default for Runtime {
    /// No saver, no store; the machine's clock and random numbers.
    fn default() -> Self {
        Self {
            saver: None,
            store: None,
            cache: None,
            scope: Scope::local(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
            meter: Arc::default(),
            ids: CheckpointIds::process(),
        }
    }
}

impl Runtime {
    /// The default with a saver.
    pub fn with_saver(saver: Arc<dyn Checkpoints>) -> Self {
        Self {
            saver: Some(saver),
            ..Self::default()
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("saver", &self.saver.is_some())
            .field("store", &self.store.is_some())
            .field("cache", &self.cache.is_some())
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
