//! The graph host port: whatever can run graphs.
//!
//! The server does not know whether a graph is native, declarative, or lives in another process.

use agentflow_storage::checkpoint::{Fence, Rest};
use agentflow_types::{
    Error, ErrorKind, Result, RunId, Scope, Value,
    graph::{
        CheckpointRef, Command, Drawing, Durability, GraphSchemas, RunConfig, RunOutcome,
        StateSnapshot, StreamEvent, StreamMode,
    },
};
use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Class of the error of an attempt whose graph was lost with whatever executed it: a process that
/// died. The attempt is over; the run is tried again, as after the loss of a server.
pub const CRASHED: &str = "WorkerCrashed";

/// Whether an attempt ended because what executed it was lost.
#[must_use]
pub fn is_crash(err: &Error) -> bool {
    err.kind() == ErrorKind::Failed && err.class_name() == CRASHED
}

/// A graph that a host offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphInfo {
    /// Id; unique among all hosts.
    pub graph_id: String,
    /// Name for people.
    pub name: String,
    /// Description for people.
    pub description: Option<String>,
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

/// What a run starts with.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RunInput {
    /// Nothing: go on from the checkpoint.
    #[default]
    Resume,
    /// Input for the graph.
    Input(Value),
    /// A command: resume, update, goto.
    Command(Command),
}

/// One attempt of a run.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// In whose name it runs: what it may read and write beside its thread.
    pub scope: Scope,
    /// Graph.
    pub graph_id: String,
    /// Run.
    pub run_id: RunId,
    /// Attempt, from 1. A later attempt of the same run goes on from the last checkpoint that
    /// carries this run's id, else starts with `input`.
    pub attempt: u32,
    /// Input.
    pub input: RunInput,
    /// Configuration; `configurable.thread_id` is set.
    pub config: RunConfig,
    /// Checkpoint to fork from; `None` for the latest.
    pub checkpoint: Option<CheckpointRef>,
    /// Static interrupts before nodes.
    pub interrupt_before: InterruptAt,
    /// Static interrupts after nodes.
    pub interrupt_after: InterruptAt,
    /// Modes to report.
    pub modes: Vec<StreamMode>,
    /// Whether events of subgraphs are reported.
    pub subgraphs: bool,
    /// When checkpoints are written.
    pub durability: Durability,
    /// Lease under which checkpoints are written.
    pub fence: Option<Fence>,
}

/// Where a host reports. Bounded: a host that is faster than the log waits.
pub type EventSink = mpsc::Sender<StreamEvent>;

/// A change of state from outside.
#[derive(Clone, Debug)]
pub struct UpdateRequest {
    /// Who changes it.
    pub scope: Scope,
    /// Graph.
    pub graph_id: String,
    /// Checkpoint to change; its id `None` for the latest.
    pub checkpoint: CheckpointRef,
    /// New values; null to only make a checkpoint. A list of updates is applied in one
    /// superstep.
    pub values: Value,
    /// Node that is said to have written them.
    pub as_node: Option<String>,
    /// Configuration, for metadata.
    pub config: RunConfig,
    /// What was seen of the thread; the change is stored by
    /// [`agentflow_storage::checkpoint::Checkpoints::commit_at_rest`].
    pub rest: Rest,
}

/// One superstep of [`GraphHost::bulk_update`].
pub type Superstep = Vec<(Value, Option<Command>, Option<String>)>;

/// Which history is wanted.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Thread and namespace.
    pub checkpoint: CheckpointRef,
    /// Only before this checkpoint.
    pub before: Option<String>,
    /// Metadata must have these entries.
    pub metadata: agentflow_types::Map,
    /// Most snapshots.
    pub limit: u32,
}

/// Runs graphs and answers questions about them.
///
/// All calls with an unknown `graph_id` give `NotFound`.
#[async_trait]
pub trait GraphHost: Send + Sync {
    /// The graphs, sorted by id.
    fn graphs(&self) -> Vec<GraphInfo>;

    /// Picture of a graph; `depth` subgraph levels are drawn in place (0: none).
    async fn drawing(&self, graph_id: &str, depth: u32) -> Result<Drawing>;

    /// JSON Schemas of a graph.
    async fn schemas(&self, graph_id: &str) -> Result<GraphSchemas>;

    /// Subgraphs by namespace (node names joined with `|`), with their schemas.
    async fn subgraphs(
        &self,
        graph_id: &str,
        namespace: Option<&str>,
        recurse: bool,
    ) -> Result<Vec<(String, GraphSchemas)>>;

    /// Executes one attempt. Every event is sent before this returns.
    ///
    /// When `cancel` fires, the host stops at once (tasks are dropped at their next await), stores
    /// what is complete, and returns kind `Cancelled`.
    ///
    /// # Errors
    /// `Invalid` for input the graph refuses; `Conflict` if the fence broke; `Failed` (with the
    /// class of the exception) if a node failed; `Failed` of class [`CRASHED`] if what executed
    /// the graph was lost.
    async fn run(
        &self,
        request: RunRequest,
        sink: EventSink,
        cancel: CancellationToken,
    ) -> Result<RunOutcome>;

    /// State at a checkpoint; with an empty thread an empty snapshot.
    async fn state(
        &self,
        graph_id: &str,
        checkpoint: &CheckpointRef,
        subgraphs: bool,
    ) -> Result<StateSnapshot>;

    /// States, newest first.
    async fn history(&self, graph_id: &str, query: &HistoryQuery) -> Result<Vec<StateSnapshot>>;

    /// Changes the state; returns the new checkpoint.
    async fn update_state(&self, request: UpdateRequest) -> Result<CheckpointRef>;

    /// Applies supersteps of updates `(values, command, as_node)` in order; returns the last
    /// checkpoint.
    async fn bulk_update(
        &self,
        scope: &Scope,
        graph_id: &str,
        checkpoint: &CheckpointRef,
        supersteps: Vec<Superstep>,
        config: RunConfig,
    ) -> Result<CheckpointRef>;
}
