//! Graphs whose state is a struct.

use std::{future::Future, marker::PhantomData, sync::Arc};

use agentflow_types::{Error, Map, Str, from_value, graph::Goto};
pub use agentflow_types::{Result, Value};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    builder::{BranchTargets, GraphBuilder, NodeOptions},
    channel::Channel,
    context::{NodeContext, NodeFailure},
    graph::Graph,
    managed::Managed,
    output::NodeOutput,
};

/// State as a struct; made by `#[derive(GraphState)]`.
pub trait GraphState: Default + Serialize + DeserializeOwned + Send + 'static {
    /// What nodes return: the fields that are written.
    type Update: Update;

    /// The channels: one per field.
    fn channels() -> Vec<(&'static str, Channel)>;

    /// Fields that the library computes for nodes.
    fn managed() -> Vec<(&'static str, Managed)> {
        Vec::new()
    }
}

/// What a node of a typed graph may return.
pub trait Update: Send {
    /// The writes.
    ///
    /// # Errors
    /// `Invalid` if a value cannot be a value of state.
    fn into_output(self) -> Result<NodeOutput>;
}

impl Update for NodeOutput {
    fn into_output(self) -> Result<NodeOutput> {
        Ok(self)
    }
}

impl Update for () {
    fn into_output(self) -> Result<NodeOutput> {
        Ok(NodeOutput::Update(Value::Null))
    }
}

impl Update for agentflow_types::graph::Command {
    fn into_output(self) -> Result<NodeOutput> {
        Ok(NodeOutput::Command(self))
    }
}

/// A value of state.
///
/// # Errors
/// `Invalid` if the thing has no such form.
pub fn try_value<T: Serialize>(value: &T) -> Result<Value> {
    agentflow_types::to_value(value)
        .map_err(|error| Error::invalid("this cannot be a value of state").source_err(error))
}

/// A value of state; null if it has no such form.
pub fn to_value<T: Serialize>(value: &T) -> Value {
    try_value(value).unwrap_or_default()
}

/// A channel that combines with a function on typed values.
pub fn reducing<T: Serialize + DeserializeOwned + 'static>(
    default: Value,
    reducer: fn(T, T) -> T,
) -> Channel {
    let combine = move |left: Value, right: Value| -> Result<Value> {
        try_value(&reducer(read(&left)?, read(&right)?))
    };
    Channel::reducer(default, Arc::new(combine))
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T> {
    from_value(value).map_err(|error| {
        Error::invalid("state does not fit its type")
            .with("cause", &error)
            .source_err(error)
    })
}

/// The struct that a state's map stands for; absent keys take their value from `Default`.
///
/// # Errors
/// `Invalid` if a value does not fit its field.
pub fn state_of<S: GraphState>(state: &Value) -> Result<S> {
    let mut all: Map = to_value(&S::default())
        .as_map()
        .cloned()
        .unwrap_or_default();
    if let Some(map) = state.as_map() {
        all.extend(map.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    read(&Value::map(all))
}

/// Builds graphs whose nodes take and return structs.
///
/// ```
/// use agentflow_graph::{END, GraphState, START, TypedGraph};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Serialize, Deserialize, GraphState)]
/// struct Research {
///     topic: String,
///     #[state(append)]
///     notes: Vec<String>,
///     #[state(reducer = i64::max)]
///     depth: i64,
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let graph = TypedGraph::<Research>::builder("research")
///     .node("search", async |state: Research, _ctx| {
///         Ok(Research::update()
///             .notes([format!("about {}", state.topic)])
///             .depth(state.depth + 1))
///     })
///     .edge(START, "search")
///     .branch("search", |state, _ctx| Ok(if state.depth < 3 { "search" } else { END }))
///     .compile()?;
///
/// let end = graph.invoke(Research { topic: "bees".into(), ..Research::default() }).await?;
/// assert_eq!(end.depth, 3);
/// assert_eq!(end.notes.len(), 3);
/// # Ok::<(), agentflow_types::Error>(())
/// # }).unwrap();
/// ```
pub struct TypedBuilder<S> {
    inner: GraphBuilder,
    state: PhantomData<fn() -> S>,
}

impl<S: GraphState> TypedBuilder<S> {
    /// Adds a node.
    #[must_use]
    pub fn node<F, Fut, U>(self, name: &str, body: F) -> Self
    where
        F: Fn(S, NodeContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<U>> + Send + 'static,
        U: Update + 'static,
    {
        self.node_with(name, NodeOptions::default(), body)
    }

    /// Adds a node with options.
    #[must_use]
    pub fn node_with<F, Fut, U>(mut self, name: &str, options: NodeOptions, body: F) -> Self
    where
        F: Fn(S, NodeContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<U>> + Send + 'static,
        U: Update + 'static,
    {
        let body = move |state: Value, context: NodeContext| {
            let started = state_of::<S>(&state).map(|state| body(state, context));
            async move { started?.await?.into_output() }
        };
        self.inner.node_with(name, options, body);
        self
    }

    /// What runs when `node` failed; see [`GraphBuilder::error_handler`].
    ///
    /// ```
    /// use agentflow_graph::{GraphState, START, TypedGraph};
    /// use agentflow_types::Error;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Default, Serialize, Deserialize, GraphState)]
    /// struct Order {
    ///     #[state(delta_append, snapshot_every = 50)]
    ///     log: Vec<String>,
    ///     #[state(remaining_steps)]
    ///     left: i64,
    /// }
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let graph = TypedGraph::<Order>::builder("order")
    ///     .node("pay", async |state: Order, _| match state.left {
    ///         1.. => Err(Error::failed("card refused")),
    ///         _ => Ok(Order::update()),
    ///     })
    ///     .error_handler("pay", async |_: Order, failure, _| {
    ///         Ok(Order::update().log([failure.error.message().to_owned()]))
    ///     })
    ///     .edge(START, "pay")
    ///     .compile()?;
    /// assert_eq!(graph.invoke(Order::default()).await?.log, ["card refused"]);
    /// # Ok::<(), Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn error_handler<F, Fut, U>(mut self, node: &str, body: F) -> Self
    where
        F: Fn(S, NodeFailure, NodeContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<U>> + Send + 'static,
        U: Update + 'static,
    {
        let body = move |state: Value, failure: NodeFailure, context: NodeContext| {
            let started = state_of::<S>(&state).map(|state| body(state, failure, context));
            async move { started?.await?.into_output() }
        };
        self.inner.error_handler(node, body);
        self
    }

    /// After `from` runs `to`.
    #[must_use]
    pub fn edge(mut self, from: &str, to: &str) -> Self {
        self.inner.edge(from, to);
        self
    }

    /// After all of `from` ran, runs `to`.
    #[must_use]
    pub fn join<const N: usize>(mut self, from: [&str; N], to: &str) -> Self {
        self.inner.join(from, to);
        self
    }

    /// After `from`, `path` names the next node.
    #[must_use]
    pub fn branch<F, N>(self, from: &str, path: F) -> Self
    where
        F: Fn(S, &NodeContext) -> Result<N> + Send + Sync + 'static,
        N: Into<Str>,
    {
        self.branch_many(from, BranchTargets::Any, move |state, context| {
            Ok(vec![Goto::Node(path(state, context)?.into())])
        })
    }

    /// After `from`, `path` says what runs next: nodes, and packets with their own input.
    #[must_use]
    pub fn branch_many<F>(mut self, from: &str, targets: BranchTargets, path: F) -> Self
    where
        F: Fn(S, &NodeContext) -> Result<Vec<Goto>> + Send + Sync + 'static,
    {
        let path = move |state: &Value, context: &NodeContext| path(state_of(state)?, context);
        self.inner.branch(from, path, targets);
        self
    }

    /// Adds a node that runs another graph, which shares channels by name.
    #[must_use]
    pub fn subgraph(mut self, name: &str, graph: Arc<Graph>) -> Self {
        self.inner.subgraph(name, graph);
        self
    }

    /// The dynamic builder, for everything else.
    pub fn inner(&mut self) -> &mut GraphBuilder {
        &mut self.inner
    }

    /// Checks the parts and puts them together.
    ///
    /// # Errors
    /// As [`GraphBuilder::compile`].
    pub fn compile(&self) -> Result<TypedGraph<S>> {
        Ok(TypedGraph {
            graph: self.inner.compile()?,
            state: PhantomData,
        })
    }
}

/// A compiled graph with typed state.
pub struct TypedGraph<S> {
    graph: Arc<Graph>,
    state: PhantomData<fn() -> S>,
}

impl<S> Clone for TypedGraph<S> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            state: PhantomData,
        }
    }
}

impl<S: GraphState> TypedGraph<S> {
    /// A builder whose channels are the fields of `S`.
    #[must_use]
    pub fn builder(name: &str) -> TypedBuilder<S> {
        let mut inner = GraphBuilder::new(name);
        for (name, channel) in S::channels() {
            inner.channel(name, channel);
        }
        for (name, value) in S::managed() {
            inner.managed(name, value);
        }
        TypedBuilder {
            inner,
            state: PhantomData,
        }
    }

    /// The graph, for saver, streams, history and everything else.
    #[must_use]
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Runs without services.
    ///
    /// # Errors
    /// As [`Graph::run`]; `Invalid` if the result does not fit the struct.
    pub async fn invoke(&self, input: S) -> Result<S> {
        state_of(&self.graph.invoke(try_value(&input)?).await?)
    }
}
