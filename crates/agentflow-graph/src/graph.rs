//! A compiled graph and everything that can be asked of it.

use std::sync::Arc;

use agentflow_types::{
    Error, Map, Result, Value,
    graph::{
        CheckpointRef, Drawing, GraphSchemas, RunConfig, RunOutcome, StateSnapshot, StreamEvent, Command
    },
};
use futures_util::Stream;

use crate::invocation::{EventSink, Invocation, Runtime};

/// A compiled graph. Immutable; share it.
pub struct Graph { _p: () }

/// One change of state from outside.
#[derive(Clone, Debug, Default)]
pub struct StateUpdate {
    /// New values by channel; null for none.
    pub values: Value,
    /// A command instead of, or next to, the values: its update and goto are applied.
    pub command: Option<Command>,
    /// Node that is said to have written them.
    pub as_node: Option<String>,
    /// Task id that is said to have written them.
    pub task_id: Option<String>,
}

/// Which history is wanted.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Thread and namespace; with a checkpoint id, only that checkpoint.
    pub checkpoint: CheckpointRef,
    /// Only before this checkpoint.
    pub before: Option<String>,
    /// Metadata must have these entries.
    pub metadata: Map,
    /// Most snapshots; `None` for all.
    pub limit: Option<u32>,
}

impl Graph {
    /// Name given to the builder.
    pub fn name(&self) -> &str { "" }
    /// Runs with these services, without reports: gives the output channels.
    pub async fn invoke(self: &Arc<Self>, _input: Value) -> Result<Value> { Err(Error::bug("not linked")) }
    /// Runs without services and yields each event.
    pub fn stream(self: &Arc<Self>, _runtime: &Runtime, _invocation: Invocation) -> impl Stream<Item = Result<StreamEvent>> + Send + use<> { futures_util::stream::empty() }
    /// Executes one attempt of a run. Every event is sent before this returns.
    pub async fn run(self: &Arc<Self>, _runtime: &Runtime, _invocation: Invocation, _sink: Option<EventSink>) -> Result<RunOutcome> { Err(Error::bug("not linked")) }
    /// State at a checkpoint.
    pub async fn state(self: &Arc<Self>, _runtime: &Runtime, _at: &CheckpointRef, _subgraphs: bool) -> Result<StateSnapshot> { Err(Error::bug("not linked")) }
    /// States, newest first.
    pub async fn history(self: &Arc<Self>, _runtime: &Runtime, _query: &HistoryQuery) -> Result<Vec<StateSnapshot>> { Err(Error::bug("not linked")) }
    /// Changes the state; returns the new checkpoint.
    pub async fn update_state(self: &Arc<Self>, _runtime: &Runtime, _at: &CheckpointRef, _update: StateUpdate, _config: &RunConfig) -> Result<CheckpointRef> { Err(Error::bug("not linked")) }
    /// Applies supersteps of updates in order; returns the last checkpoint.
    pub async fn bulk_update(self: &Arc<Self>, _runtime: &Runtime, _at: &CheckpointRef, _supersteps: Vec<Vec<StateUpdate>>, _config: &RunConfig) -> Result<CheckpointRef> { Err(Error::bug("not linked")) }
    /// Picture; `depth` subgraph levels are drawn in place.
    pub fn drawing(&self, _depth: u32) -> Drawing { Drawing::default() }
    /// JSON Schemas.
    pub fn schemas(&self) -> GraphSchemas { GraphSchemas::default() }
    /// Subgraphs by namespace, node names joined with `|`.
    pub fn subgraphs(&self) -> Vec<(String, Arc<Graph>)> { Vec::new() }
    /// Channel names of the state.
    pub fn channel_names(&self) -> Vec<String> { Vec::new() }
    /// Node names, the virtual ones not included.
    pub fn node_names(&self) -> Vec<String> { Vec::new() }
}
