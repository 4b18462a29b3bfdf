//! A compiled graph and everything that can be asked of it.

use std::{fmt, sync::Arc};

use agentflow_types::{
    Map, Result, Value,
    graph::{
        CheckpointRef, Command, Drawing, GraphSchemas, NS_SEPARATOR, RunConfig, RunOutcome,
        StateSnapshot, StreamEvent,
    },
};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::{
    inspect,
    invocation::{EventSink, Invocation, Runtime},
    layout::Layout,
    shell, update,
};

/// Events that [`Graph::stream`] holds ready for its reader.
const STREAM_BUFFER: usize = 64;

/// A compiled graph. Immutable; share it.
pub struct Graph {
    layout: Arc<Layout>,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("name", &self.layout.name)
            .field("nodes", &self.node_names())
            .finish()
    }
}

/// One change of state from outside.
#[derive(Clone, Debug, Default)]
pub struct StateUpdate {
    /// New values by channel; null for none.
    pub values: Value,
    /// A command whose update and gotos are applied after the values.
    pub command: Option<Command>,
    /// Node that is said to have written them; `None` means the last one that ran.
    pub as_node: Option<String>,
    /// Task that is said to have written them; `None` means the one that waits, if any.
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
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout: Arc::new(layout),
        }
    }

    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The name that the builder was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.layout.name
    }

    /// Names of the nodes, the virtual ones not included.
    #[must_use]
    pub fn node_names(&self) -> Vec<String> {
        let nodes = self.layout.shown_nodes();
        nodes.map(|node| node.name.to_string()).collect()
    }

    /// Names of the keys of the state.
    #[must_use]
    pub fn channel_names(&self) -> Vec<String> {
        let state = self.layout.state.iter();
        state
            .map(|id| self.layout.channels[*id].name.to_string())
            .collect()
    }

    /// Runs without saver, store and reports; returns the output channels.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn invoke(self: &Arc<Self>, input: Value) -> Result<Value> {
        let outcome = self
            .run(&Runtime::default(), Invocation::new(input), None)
            .await?;
        Ok(outcome.values)
    }

    /// Executes one attempt of a run. Every event is sent before this returns, and everything is
    /// stored.
    ///
    /// # Errors
    /// `Invalid` for input that the graph refuses; the error of a node, of a reducer, or of the
    /// saver (`Conflict` if the fence broke); `Failed` with class `GraphRecursionError` at the
    /// recursion limit; `Cancelled` when the invocation's token fired.
    pub async fn run(
        self: &Arc<Self>,
        runtime: &Runtime,
        invocation: Invocation,
        sink: Option<EventSink>,
    ) -> Result<RunOutcome> {
        shell::run_root(self, runtime, invocation, sink).await
    }

    /// Executes a run and yields its events; an error comes last.
    ///
    /// Dropping the stream cancels the run.
    pub fn stream(
        self: &Arc<Self>,
        runtime: &Runtime,
        invocation: Invocation,
    ) -> impl Stream<Item = Result<StreamEvent>> + Send + use<> {
        let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
        let (graph, runtime) = (self.clone(), runtime.clone());
        let guard = invocation.cancel.clone().drop_guard();
        let handle =
            tokio::spawn(async move { graph.run(&runtime, invocation, Some(sender)).await });
        let events = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|event| (Ok(event), receiver))
        });
        let last = futures_util::stream::once(async move {
            let _guard = guard;
            match handle.await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(Err(error)),
                Err(lost) => Some(Err(
                    agentflow_types::Error::bug("the run was lost").source_err(lost)
                )),
            }
        });
        events.chain(last.filter_map(std::future::ready))
    }

    /// The state at a checkpoint; of an empty thread an empty snapshot.
    ///
    /// Without a checkpoint id the snapshot is live: it counts what unfinished supersteps have
    /// already done. `subgraphs` fills in the states of graphs inside tasks.
    ///
    /// # Errors
    /// `Invalid` without a saver; `NotFound` if the namespace names no subgraph.
    pub async fn state(
        self: &Arc<Self>,
        runtime: &Runtime,
        at: &CheckpointRef,
        subgraphs: bool,
    ) -> Result<StateSnapshot> {
        inspect::state(self, runtime, at, subgraphs).await
    }

    /// States of a thread, newest first.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub async fn history(
        self: &Arc<Self>,
        runtime: &Runtime,
        query: &HistoryQuery,
    ) -> Result<Vec<StateSnapshot>> {
        inspect::history(self, runtime, query).await
    }

    /// Changes the state as if a node had; returns the new checkpoint.
    ///
    /// `as_node` may also be `__end__` (with null values: drops what was to run next), `__input__`
    /// and `__copy__`.
    ///
    /// # Errors
    /// `Invalid` with class `InvalidUpdateError` if the node is unknown, or not given and
    /// ambiguous.
    pub async fn update_state(
        self: &Arc<Self>,
        runtime: &Runtime,
        at: &CheckpointRef,
        update: StateUpdate,
        config: &RunConfig,
    ) -> Result<CheckpointRef> {
        self.bulk_update(runtime, at, vec![vec![update]], config)
            .await
    }

    /// Applies supersteps of updates, in order; returns the last checkpoint.
    ///
    /// # Errors
    /// As [`update_state`](Self::update_state); several updates in one superstep need `as_node`.
    pub async fn bulk_update(
        self: &Arc<Self>,
        runtime: &Runtime,
        at: &CheckpointRef,
        supersteps: Vec<Vec<StateUpdate>>,
        config: &RunConfig,
    ) -> Result<CheckpointRef> {
        update::bulk(self, runtime, at, supersteps, config).await
    }

    /// Id of the task that follows a checkpoint: of a triggered node, or of the `send`-th packet.
    ///
    /// # Errors
    /// `NotFound` if the node is unknown; `Invalid` if the checkpoint id is not a UUID.
    pub fn task_id(
        &self,
        checkpoint_id: &str,
        checkpoint_ns: &str,
        step: i64,
        node: &str,
        send: Option<usize>,
    ) -> Result<String> {
        let unknown = || agentflow_types::Error::not_found("unknown node").with("node", node);
        let id = self.layout.node(node).ok_or_else(unknown)?;
        let checkpoint = crate::core::ids::checkpoint_id(checkpoint_id)?;
        let mut ids = crate::core::ids::TaskIds::new(checkpoint, checkpoint_ns, step);
        let task = match send {
            Some(index) => ids.push(node, index),
            None => ids.pull(node, &self.layout.nodes[id].trigger_names),
        };
        Ok(task.to_string())
    }

    /// A picture; `depth` levels of subgraphs are drawn in place of their nodes.
    #[must_use]
    pub fn drawing(&self, depth: u32) -> Drawing {
        crate::draw::draw(&self.layout, depth)
    }

    /// JSON Schemas of input, output, state, configuration and context.
    #[must_use]
    pub fn schemas(&self) -> GraphSchemas {
        self.layout.schemas.clone()
    }

    /// Graphs with a state that are nodes of this one, at any depth, by namespace (node names joined with
    /// `|`).
    #[must_use]
    pub fn subgraphs(&self) -> Vec<(String, Arc<Graph>)> {
        let mut all = Vec::new();
        for (id, node) in self.layout.nodes.iter().enumerate() {
            let Some(graph) = self.layout.stored_subgraph(id) else {
                continue;
            };
            all.push((node.name.to_string(), graph.clone()));
            let inner = graph.subgraphs().into_iter();
            all.extend(inner.map(|(ns, g)| (format!("{}{NS_SEPARATOR}{ns}", node.name), g)));
        }
        all
    }
}
