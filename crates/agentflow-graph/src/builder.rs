//! The dynamic builder: channels, nodes and edges by name.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use agentflow_types::{Map, Result, Str, Value, graph::Goto};
use indexmap::IndexMap;

use crate::{
    cache::CachePolicy,
    channel::Channel,
    context::{NodeContext, NodeFailure},
    graph::Graph,
    invocation::InterruptAt,
    managed::Managed,
    output::NodeOutput,
    policy::{Refresh, RetryPolicy},
};

/// The future that a node returns.
pub type NodeFuture = Pin<Box<dyn Future<Output = Result<NodeOutput>> + Send>>;
/// The body of a node.
pub type NodeFn = Arc<dyn Fn(Value, NodeContext) -> NodeFuture + Send + Sync>;
/// The body of a branch: where to go next, from the state after the node's own update.
pub type BranchFn = Arc<dyn Fn(&Value, &NodeContext) -> Result<Vec<Goto>> + Send + Sync>;

/// Options of a node.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// How the node is retried; `None` for once only.
    pub retry: Option<RetryPolicy>,
    /// Further policies: of `retry` and these, in order, the first that fits an error counts.
    pub more_retries: Vec<RetryPolicy>,
    /// Longest time of one attempt.
    pub timeout: Option<Duration>,
    /// Longest time of one attempt without progress.
    pub idle_timeout: Option<Duration>,
    /// What counts as progress.
    pub refresh: Refresh,
    /// How results are cached; `None` for the graph's own policy.
    pub cache: Option<CachePolicy>,
    /// Runs only when nothing else is left to do.
    pub defer: bool,
    /// Where the node's commands may go, for pictures and reachability.
    pub destinations: Vec<String>,
    /// Metadata for events and pictures.
    pub metadata: Map,
    /// Channels that the node reads; `None` for all of the state.
    pub reads: Option<Vec<String>>,
    /// Tags, for example `langsmith:nostream` to keep messages out of the stream.
    pub tags: Vec<String>,
}

/// Labels of a branch and the nodes that they stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BranchTargets {
    /// The branch names nodes, and may name any.
    #[default]
    Any,
    /// The branch names these nodes.
    Nodes(Vec<String>),
    /// The branch names labels, each standing for a node.
    Labels(Vec<(String, String)>),
}

impl<const N: usize> From<[&str; N]> for BranchTargets {
    fn from(nodes: [&str; N]) -> Self {
        Self::Nodes(nodes.iter().map(|n| (*n).to_owned()).collect())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for BranchTargets {
    fn from(labels: [(&str, &str); N]) -> Self {
        Self::Labels(
            labels
                .iter()
                .map(|(l, n)| ((*l).to_owned(), (*n).to_owned()))
                .collect(),
        )
    }
}

/// Where a graph that runs inside a node keeps its checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    /// With the parent's saver, under the task: nothing survives the parent's run but what a
    /// resume needs.
    #[default]
    Inherit,
    /// With the parent's saver, under the node: memory that lasts over runs of the thread.
    Persistent,
    /// Not at all.
    None,
}

/// What runs when a node runs.
#[derive(Clone)]
pub(crate) enum Body {
    Function(NodeFn),
    Graph(Arc<Graph>),
}

/// A node before compilation.
#[derive(Clone)]
pub(crate) struct NodeSpec {
    pub(crate) body: Body,
    pub(crate) options: NodeOptions,
    pub(crate) role: Role,
}

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Work,
    /// It runs when another node failed.
    Handler,
}

/// Name of the node that handles errors of nodes without a handler of their own.
pub(crate) const DEFAULT_HANDLER: &str = "__default_error_handler__";

/// Name of the node that handles the errors of `node`.
pub(crate) fn handler_name(node: &str) -> String {
    format!("__error_handler__{node}")
}

/// A branch before compilation.
#[derive(Clone)]
pub(crate) struct BranchSpec {
    pub(crate) source: Str,
    pub(crate) path: BranchFn,
    pub(crate) targets: BranchTargets,
}

/// Builds a [`Graph`] from parts that are named at run time.
///
/// Mistakes are reported by [`GraphBuilder::compile`], so that the calls chain.
///
/// ```
/// use agentflow_graph::{Channel, END, GraphBuilder, START};
/// use agentflow_types::{Value, value};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let mut builder = GraphBuilder::new("greeter");
/// builder
///     .channel("name", Channel::last_value())
///     .channel("greeting", Channel::last_value())
///     .node("greet", |state: Value, _ctx| async move {
///         let name = state.get("name").and_then(Value::as_str).unwrap_or("you");
///         Ok(value!({"greeting": format!("hello {name}")}).into())
///     })
///     .edge(START, "greet")
///     .edge("greet", END);
/// let graph = builder.compile()?;
///
/// let out = graph.invoke(value!({"name": "Ada"})).await?;
/// assert_eq!(out, value!({"name": "Ada", "greeting": "hello Ada"}));
/// # Ok::<(), agentflow_types::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct GraphBuilder {
    pub(crate) name: Str,
    pub(crate) channels: IndexMap<Str, Channel>,
    pub(crate) nodes: IndexMap<Str, NodeSpec>,
    pub(crate) edges: Vec<(Str, Str)>,
    pub(crate) joins: Vec<(Vec<Str>, Str)>,
    pub(crate) branches: Vec<BranchSpec>,
    pub(crate) input_channels: Option<Vec<String>>,
    pub(crate) output_channels: Option<Vec<String>>,
    pub(crate) schemas: agentflow_types::graph::GraphSchemas,
    pub(crate) interrupt_before: InterruptAt,
    pub(crate) interrupt_after: InterruptAt,
    pub(crate) persistence: Persistence,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) cache: Option<CachePolicy>,
    pub(crate) managed: IndexMap<Str, Managed>,
    pub(crate) mistakes: Vec<String>,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: impl Into<Str>) -> Self {
        Self {
            name: name.into(),
            channels: IndexMap::new(),
            nodes: IndexMap::new(),
            edges: Vec::new(),
            joins: Vec::new(),
            branches: Vec::new(),
            input_channels: None,
            output_channels: None,
            schemas: agentflow_types::graph::GraphSchemas::default(),
            interrupt_before: InterruptAt::Never,
            interrupt_after: InterruptAt::Never,
            persistence: Persistence::Inherit,
            retry: None,
            cache: None,
            managed: IndexMap::new(),
            mistakes: Vec::new(),
        }
    }

    /// Adds a key of the state.
    pub fn channel(&mut self, name: impl Into<Str>, channel: Channel) -> &mut Self {
        let name = name.into();
        if self.channels.insert(name.clone(), channel).is_some() {
            self.mistakes
                .push(format!("channel '{name}' is defined twice"));
        }
        self
    }

    /// Adds a key that nodes read and the library computes.
    pub fn managed(&mut self, name: impl Into<Str>, value: Managed) -> &mut Self {
        self.managed.insert(name.into(), value);
        self
    }

    /// Adds a node.
    pub fn node<F, Fut>(&mut self, name: impl Into<Str>, body: F) -> &mut Self
    where
        F: Fn(Value, NodeContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<NodeOutput>> + Send + 'static,
    {
        self.node_with(name, NodeOptions::default(), body)
    }

    /// Adds a node with options.
    pub fn node_with<F, Fut>(
        &mut self,
        name: impl Into<Str>,
        options: NodeOptions,
        body: F,
    ) -> &mut Self
    where
        F: Fn(Value, NodeContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<NodeOutput>> + Send + 'static,
    {
        self.node_fn(
            name,
            options,
            Arc::new(move |state, ctx| Box::pin(body(state, ctx))),
        )
    }

    /// Adds a node whose body is already boxed.
    pub fn node_fn(
        &mut self,
        name: impl Into<Str>,
        options: NodeOptions,
        body: NodeFn,
    ) -> &mut Self {
        self.add_node(
            name.into(),
            NodeSpec {
                body: Body::Function(body),
                options,
                role: Role::Work,
            },
        )
    }

    /// Adds a node that runs `graph`, which shares channels with this graph by name.
    pub fn subgraph(&mut self, name: impl Into<Str>, graph: Arc<Graph>) -> &mut Self {
        self.subgraph_with(name, NodeOptions::default(), graph)
    }

    /// Adds a node that runs `graph`, with options.
    pub fn subgraph_with(
        &mut self,
        name: impl Into<Str>,
        options: NodeOptions,
        graph: Arc<Graph>,
    ) -> &mut Self {
        self.add_node(
            name.into(),
            NodeSpec {
                body: Body::Graph(graph),
                options,
                role: Role::Work,
            },
        )
    }

    fn add_node(&mut self, name: Str, spec: NodeSpec) -> &mut Self {
        if self.nodes.insert(name.clone(), spec).is_some() {
            self.mistakes
                .push(format!("Node `{name}` already present."));
        }
        self
    }

    /// After `from` runs `to`. [`START`](crate::START) and [`END`](crate::END) are the ends.
    pub fn edge(&mut self, from: impl Into<Str>, to: impl Into<Str>) -> &mut Self {
        self.edges.push((from.into(), to.into()));
        self
    }

    /// After all of `from` ran, runs `to`.
    pub fn join<I, S>(&mut self, from: I, to: impl Into<Str>) -> &mut Self
    where
        I: IntoIterator<Item = S>,
        S: Into<Str>,
    {
        self.joins
            .push((from.into_iter().map(Into::into).collect(), to.into()));
        self
    }

    /// After `from`, `path` decides where to go, from the state with the node's own update.
    pub fn branch<F>(
        &mut self,
        from: impl Into<Str>,
        path: F,
        targets: impl Into<BranchTargets>,
    ) -> &mut Self
    where
        F: Fn(&Value, &NodeContext) -> Result<Vec<Goto>> + Send + Sync + 'static,
    {
        self.branches.push(BranchSpec {
            source: from.into(),
            path: Arc::new(path),
            targets: targets.into(),
        });
        self
    }

    /// Restricts what a run takes; without this, every channel.
    pub fn input_channels<I, S>(&mut self, names: I) -> &mut Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.input_channels = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Restricts what a run gives; without this, every channel.
    pub fn output_channels<I, S>(&mut self, names: I) -> &mut Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.output_channels = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// JSON Schema of the input.
    pub fn input_schema(&mut self, schema: serde_json::Value) -> &mut Self {
        self.schemas.input_schema = Some(schema);
        self
    }

    /// JSON Schema of the output.
    pub fn output_schema(&mut self, schema: serde_json::Value) -> &mut Self {
        self.schemas.output_schema = Some(schema);
        self
    }

    /// JSON Schema of the state; also of input and output unless those have their own.
    pub fn state_schema(&mut self, schema: serde_json::Value) -> &mut Self {
        self.schemas.state_schema = Some(schema);
        self
    }

    /// JSON Schema of `configurable`.
    pub fn config_schema(&mut self, schema: serde_json::Value) -> &mut Self {
        self.schemas.config_schema = Some(schema);
        self
    }

    /// JSON Schema of the static context.
    pub fn context_schema(&mut self, schema: serde_json::Value) -> &mut Self {
        self.schemas.context_schema = Some(schema);
        self
    }

    /// Stops every run before these nodes.
    pub fn interrupt_before(&mut self, nodes: InterruptAt) -> &mut Self {
        self.interrupt_before = nodes;
        self
    }

    /// Stops every run after these nodes.
    pub fn interrupt_after(&mut self, nodes: InterruptAt) -> &mut Self {
        self.interrupt_after = nodes;
        self
    }

    /// Where checkpoints go when this graph runs inside a node of another one.
    pub fn persistence(&mut self, persistence: Persistence) -> &mut Self {
        self.persistence = persistence;
        self
    }

    /// What runs when `node` failed, in the same superstep, with the node's input: its update and
    /// gotos count in place of the node's, whose edges are not followed. Interrupts are no
    /// failures. Retries come first.
    ///
    /// That the node failed is stored before the handler starts: after a crash the handler runs
    /// (again), not the node.
    ///
    /// ```
    /// use agentflow_graph::{Channel, GraphBuilder, START};
    /// use agentflow_types::{Error, value};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let mut builder = GraphBuilder::new("order");
    /// builder
    ///     .channel("status", Channel::last_value())
    ///     .node("pay", |_, _| async { Err(Error::failed("card refused")) })
    ///     .error_handler("pay", |_, failure, _| async move {
    ///         Ok(value!({"status": format!("{}: {}", failure.node, failure.error)}).into())
    ///     })
    ///     .edge(START, "pay");
    /// let out = builder.compile()?.invoke(value!({"status": "open"})).await?;
    /// assert_eq!(out, value!({"status": "pay: card refused"}));
    /// # Ok::<(), agentflow_types::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn error_handler<F, Fut>(&mut self, node: &str, body: F) -> &mut Self
    where
        F: Fn(Value, NodeFailure, NodeContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<NodeOutput>> + Send + 'static,
    {
        self.handler(handler_name(node), body)
    }

    /// What runs when a node failed that has no [handler](Self::error_handler) of its own.
    pub fn default_error_handler<F, Fut>(&mut self, body: F) -> &mut Self
    where
        F: Fn(Value, NodeFailure, NodeContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<NodeOutput>> + Send + 'static,
    {
        self.handler(DEFAULT_HANDLER.to_owned(), body)
    }

    fn handler<F, Fut>(&mut self, name: String, body: F) -> &mut Self
    where
        F: Fn(Value, NodeFailure, NodeContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<NodeOutput>> + Send + 'static,
    {
        let body: NodeFn = Arc::new(move |state, ctx: NodeContext| {
            // Reached by a goto instead of a failure, it is told so.
            let failure = ctx.failure().cloned().unwrap_or_else(NodeFailure::none);
            Box::pin(body(state, failure, ctx))
        });
        let spec = NodeSpec {
            body: Body::Function(body),
            options: NodeOptions::default(),
            role: Role::Handler,
        };
        self.add_node(name.into(), spec)
    }

    /// Cache policy of nodes that have none of their own.
    pub fn default_cache(&mut self, policy: CachePolicy) -> &mut Self {
        self.cache = Some(policy);
        self
    }

    /// Retry policy of nodes that have none of their own.
    pub fn default_retry(&mut self, policy: RetryPolicy) -> &mut Self {
        self.retry = Some(policy);
        self
    }

    /// Checks the parts and puts them together.
    ///
    /// # Errors
    /// `Invalid` if a name is reserved or unknown, a node cannot be reached, or nothing follows
    /// the start. All mistakes are named in one message.
    pub fn compile(&self) -> Result<Arc<Graph>> {
        crate::compile::compile(self).map(Arc::new)
    }
}
