//! The graph host for graphs that run in this process: native and declarative ones.

use std::{collections::BTreeMap, sync::Arc};

use agentflow_graph::{self as graph, Graph, Invocation, Runtime, StateUpdate};
use agentflow_runs::host::{
    EventSink, GraphHost, GraphInfo, HistoryQuery, InterruptAt, RunInput, RunRequest, Superstep,
    UpdateRequest,
};
use agentflow_types::{
    Error, Result, Scope,
    graph::{CheckpointRef, Drawing, GraphSchemas, RunConfig, RunOutcome, StateSnapshot},
};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{at_rest, remembered::Remembered};

/// A graph with what people want to know about it.
#[derive(Clone)]
pub struct Hosted {
    /// The graph.
    pub graph: Arc<Graph>,
    /// Name for people; the graph id if none was given.
    pub name: String,
    /// Description for people.
    pub description: Option<String>,
}

/// Graphs of this process, by id.
pub struct InProcess {
    graphs: BTreeMap<String, Hosted>,
    runtime: Runtime,
    cache: Option<Remembered>,
}

impl InProcess {
    /// A host of these graphs; `runtime` is shared by all runs.
    #[must_use]
    pub fn new(graphs: BTreeMap<String, Hosted>, runtime: Runtime) -> Self {
        Self {
            graphs,
            runtime,
            cache: None,
        }
    }

    /// Remembers what nodes with a cache policy write, for each tenant apart.
    #[must_use]
    pub(crate) fn remembering(mut self, cache: Remembered) -> Self {
        self.cache = Some(cache);
        self
    }

    /// The services as runs in a principal's name use them.
    fn runtime(&self, scope: Scope) -> Runtime {
        Runtime {
            cache: self.cache.as_ref().map(|cache| cache.of(&scope)),
            scope,
            ..self.runtime.clone()
        }
    }

    fn graph(&self, id: &str) -> Result<&Arc<Graph>> {
        self.graphs
            .get(id)
            .map(|hosted| &hosted.graph)
            .ok_or_else(|| {
                let known: Vec<&str> = self.graphs.keys().map(String::as_str).collect();
                Error::not_found(format!(
                    "Graph '{id}' not found. Expected one of: {known:?}"
                ))
            })
    }
}

fn interrupt_at(at: InterruptAt) -> graph::InterruptAt {
    match at {
        InterruptAt::Never => graph::InterruptAt::Never,
        InterruptAt::All => graph::InterruptAt::All,
        InterruptAt::Nodes(nodes) => graph::InterruptAt::Nodes(nodes),
    }
}

fn invocation(request: RunRequest, cancel: CancellationToken) -> Invocation {
    Invocation {
        input: match request.input {
            RunInput::Resume => graph::Input::None,
            RunInput::Input(value) => graph::Input::from(value),
            RunInput::Command(command) => graph::Input::Command(command),
        },
        config: request.config,
        checkpoint: request.checkpoint,
        run_id: Some(request.run_id),
        attempt: request.attempt,
        modes: request.modes,
        subgraphs: request.subgraphs,
        durability: request.durability,
        interrupt_before: interrupt_at(request.interrupt_before),
        interrupt_after: interrupt_at(request.interrupt_after),
        fence: request.fence,
        cancel,
        drain: CancellationToken::new(),
    }
}

#[async_trait]
impl GraphHost for InProcess {
    fn graphs(&self) -> Vec<GraphInfo> {
        self.graphs
            .iter()
            .map(|(id, hosted)| GraphInfo {
                graph_id: id.clone(),
                name: hosted.name.clone(),
                description: hosted.description.clone(),
            })
            .collect()
    }

    async fn drawing(&self, graph_id: &str, depth: u32) -> Result<Drawing> {
        Ok(self.graph(graph_id)?.drawing(depth))
    }

    async fn schemas(&self, graph_id: &str) -> Result<GraphSchemas> {
        Ok(self.graph(graph_id)?.schemas())
    }

    async fn subgraphs(
        &self,
        graph_id: &str,
        namespace: Option<&str>,
        recurse: bool,
    ) -> Result<Vec<(String, GraphSchemas)>> {
        let found = self.graph(graph_id)?.subgraphs().into_iter();
        Ok(found
            .filter(|(ns, _)| recurse || !ns.contains(agentflow_types::graph::NS_SEPARATOR))
            .filter(|(ns, _)| namespace.is_none_or(|wanted| wanted == ns))
            .map(|(ns, graph)| (ns, graph.schemas()))
            .collect())
    }

    async fn run(
        &self,
        request: RunRequest,
        sink: EventSink,
        cancel: CancellationToken,
    ) -> Result<RunOutcome> {
        let graph = self.graph(&request.graph_id)?;
        let runtime = self.runtime(request.scope.clone());
        graph
            .run(&runtime, invocation(request, cancel), Some(sink))
            .await
    }

    async fn state(
        &self,
        graph_id: &str,
        checkpoint: &CheckpointRef,
        subgraphs: bool,
    ) -> Result<StateSnapshot> {
        self.graph(graph_id)?
            .state(&self.runtime, checkpoint, subgraphs)
            .await
    }

    async fn history(&self, graph_id: &str, query: &HistoryQuery) -> Result<Vec<StateSnapshot>> {
        let query = graph::HistoryQuery {
            checkpoint: query.checkpoint.clone(),
            before: query.before.clone(),
            metadata: query.metadata.clone(),
            limit: Some(query.limit),
        };
        self.graph(graph_id)?.history(&self.runtime, &query).await
    }

    async fn update_state(&self, request: UpdateRequest) -> Result<CheckpointRef> {
        let update = StateUpdate {
            values: request.values,
            as_node: request.as_node,
            ..StateUpdate::default()
        };
        let mut runtime = self.runtime(request.scope);
        let rest = request.rest;
        runtime.saver = runtime.saver.map(|inner| at_rest::saver(inner, rest));
        self.graph(&request.graph_id)?
            .update_state(&runtime, &request.checkpoint, update, &request.config)
            .await
    }

    async fn bulk_update(
        &self,
        scope: &Scope,
        graph_id: &str,
        checkpoint: &CheckpointRef,
        supersteps: Vec<Superstep>,
        config: RunConfig,
    ) -> Result<CheckpointRef> {
        let update = |(values, command, as_node)| StateUpdate {
            values,
            command,
            as_node,
            ..StateUpdate::default()
        };
        let supersteps = supersteps
            .into_iter()
            .map(|step| step.into_iter().map(update).collect())
            .collect();
        self.graph(graph_id)?
            .bulk_update(
                &self.runtime(scope.clone()),
                checkpoint,
                supersteps,
                &config,
            )
            .await
    }
}
