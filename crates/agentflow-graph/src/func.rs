//! Functions instead of graphs: an [`entrypoint`] is one async function that calls [`Task`]s.
//!
//! LangGraph's functional API. The result of a task is stored when it ends; when the function
//! runs again after an interrupt, a crash or on another machine, it starts from its first line,
//! and tasks that ended give their stored results at once. Tasks are told apart by the order in
//! which the function calls them, so the function must call them in the same order every time:
//! whatever is random or comes from outside belongs into a task.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use agentflow_types::{
    Error, Result, Str, Value, from_value,
    graph::{END, GraphSchemas, START},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    builder::{Body, NodeFn, NodeOptions, Persistence, Role},
    cache::CachePolicy,
    channel::{Guard, Kind},
    compile::TASKS,
    context::NodeContext,
    graph::Graph,
    invocation::InterruptAt,
    layout::{ChannelDef, Function, Layout, NameMap, NodeDef},
    output::NodeOutput,
    policy::{Refresh, RetryPolicy},
    shell::CallBody,
    typed::try_value,
};

/// Channel of what a run saves for the next one.
const PREVIOUS: &str = "__previous__";

/// Options of a functional task.
#[derive(Clone, Debug, Default)]
pub struct TaskOptions {
    /// How the task is retried: the first policy that fits an error counts.
    pub retries: Vec<RetryPolicy>,
    /// Longest time of one attempt.
    pub timeout: Option<Duration>,
    /// Longest time of one attempt without progress.
    pub idle_timeout: Option<Duration>,
    /// What counts as progress.
    pub refresh: Refresh,
    /// How results are cached.
    pub cache: Option<CachePolicy>,
}

/// A piece of work with a result that is stored. See [`entrypoint`].
pub struct Task<I, O> {
    name: Str,
    body: CallBody,
    options: Arc<TaskOptions>,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> Clone for Task<I, O> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            body: self.body.clone(),
            options: self.options.clone(),
            types: PhantomData,
        }
    }
}

impl<I, O> Task<I, O>
where
    I: Serialize + DeserializeOwned,
    O: Serialize + DeserializeOwned,
{
    /// A task. `name` is part of its id: stored results are found again under the same name only.
    pub fn new<F, Fut>(name: impl Into<Str>, body: F) -> Self
    where
        F: Fn(I, NodeContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O>> + Send + 'static,
    {
        let name = name.into();
        let body = move |input: Value, context| -> Pin<Box<dyn Future<Output = _> + Send>> {
            let started = read::<I>(&input).map(|input| body(input, context));
            Box::pin(async move { try_value(&started?.await?) })
        };
        Self {
            name,
            body: Arc::new(body),
            options: Arc::default(),
            types: PhantomData,
        }
    }

    /// The task with options.
    #[must_use]
    pub fn options(mut self, options: TaskOptions) -> Self {
        self.options = Arc::new(options);
        self
    }

    /// Starts the task inside a function, a node or another task. It runs whether or not the
    /// result is waited for; several calls run side by side.
    pub fn call(&self, context: &NodeContext, input: I) -> Called<O> {
        let state = match try_value(&input) {
            Ok(input) => State::Asked(context.0.request(
                &self.name,
                input,
                &self.body,
                &self.options,
            )),
            Err(error) => State::Refused(Some(error)),
        };
        Called {
            state,
            output: PhantomData,
        }
    }
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T> {
    from_value(value).map_err(|error| {
        Error::invalid("a value does not fit the type of the function")
            .with("cause", &error)
            .source_err(error)
    })
}

enum State {
    Asked(tokio::sync::oneshot::Receiver<Result<Value>>),
    Refused(Option<Error>),
}

/// A functional task that was called; its result when awaited.
///
/// # Errors
/// That of the task, or the signal of its interrupt, which must be returned (`?`).
pub struct Called<O> {
    state: State,
    output: PhantomData<fn() -> O>,
}

impl<O: DeserializeOwned> Future for Called<O> {
    type Output = Result<O>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Asked(reply) => Pin::new(reply).poll(cx).map(|result| match result {
                Ok(value) => read(&value?),
                Err(_) => Err(Error::cancelled("the run ended before the task")),
            }),
            State::Refused(error) => Poll::Ready(Err(error
                .take()
                .unwrap_or_else(|| Error::bug("a result was taken twice")))),
        }
    }
}

/// A result with another value for the next run.
#[derive(Clone, Debug)]
pub struct Final<V, S> {
    /// What the caller gets.
    pub value: V,
    /// What [`NodeContext::previous`] gives in the next run on the thread.
    pub save: S,
}

/// What a function may return: a value, which is also saved, or a [`Final`].
pub trait IntoFinal {
    /// The result, and what is saved.
    ///
    /// # Errors
    /// `Invalid` if it has no form as a value.
    fn into_final(self) -> Result<(Value, Value)>;
}

impl<T: Serialize> IntoFinal for T {
    fn into_final(self) -> Result<(Value, Value)> {
        let value = try_value(&self)?;
        Ok((value.clone(), value))
    }
}

impl<V: Serialize, S: Serialize> IntoFinal for Final<V, S> {
    fn into_final(self) -> Result<(Value, Value)> {
        Ok((try_value(&self.value)?, try_value(&self.save)?))
    }
}

/// Makes a graph of a function. Its result is the run's output; what it returned last on the
/// thread is [`NodeContext::previous`].
///
/// ```
/// use agentflow_graph::{Input, Invocation, NodeContext, Runtime, Task, entrypoint};
/// use agentflow_storage::memory::Memory;
/// use agentflow_types::{Value, value};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let draft = Task::new("draft", async |topic: String, _| Ok(format!("about {topic}")));
/// let letters = Task::new("letters", async |text: String, _| Ok(text.len()));
/// let write = entrypoint("write", move |topic: String, ctx: NodeContext| {
///     let (draft, letters) = (draft.clone(), letters.clone());
///     async move {
///         let text = draft.call(&ctx, topic).await?;
///         // Two tasks side by side.
///         let (one, two) = (letters.call(&ctx, text.clone()), letters.call(&ctx, text.clone()));
///         let length = one.await? + two.await?;
///         // Stops here; the answer runs the function again, the tasks above are not repeated.
///         let approved = ctx.interrupt(value!({"publish?": text, "length": length}))?;
///         Ok(approved.as_bool() == Some(true))
///     }
/// })
/// .compile();
///
/// let runtime = Runtime::with_saver(Memory::open().checkpoints);
/// let start = Invocation::new(Value::str("bees")).thread("t");
/// let asked = graph_run(&write, &runtime, start).await?;
/// assert_eq!(asked.interrupts[0].value, value!({"publish?": "about bees", "length": 20}));
/// let yes = Invocation::new(Input::resume(true)).thread("t");
/// assert_eq!(graph_run(&write, &runtime, yes).await?.values, Value::Bool(true));
/// # async fn graph_run(
/// #     graph: &std::sync::Arc<agentflow_graph::Graph>, runtime: &Runtime, run: Invocation,
/// # ) -> agentflow_types::Result<agentflow_types::graph::RunOutcome> {
/// #     graph.run(runtime, run, None).await
/// # }
/// # Ok::<(), agentflow_types::Error>(())
/// # }).unwrap();
/// ```
pub fn entrypoint<I, R, F, Fut>(name: impl Into<Str>, body: F) -> Entrypoint
where
    I: DeserializeOwned,
    R: IntoFinal,
    F: Fn(I, NodeContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R>> + Send + 'static,
{
    let body: NodeFn = Arc::new(move |input, context| {
        let started = read::<I>(&input).map(|input| body(input, context));
        Box::pin(async move {
            let (value, save) = started?.await?.into_final()?;
            Ok(NodeOutput::Final { value, save })
        })
    });
    Entrypoint {
        name: name.into(),
        body,
        options: NodeOptions::default(),
        schemas: GraphSchemas::default(),
    }
}

/// A function before it becomes a graph.
#[derive(Clone)]
pub struct Entrypoint {
    name: Str,
    body: NodeFn,
    options: NodeOptions,
    schemas: GraphSchemas,
}

impl Entrypoint {
    /// Retries, timeouts and cache of the function as a whole.
    #[must_use]
    pub fn options(mut self, options: NodeOptions) -> Self {
        self.options = options;
        self
    }

    /// JSON Schemas of input and output.
    #[must_use]
    pub fn schemas(mut self, schemas: GraphSchemas) -> Self {
        self.schemas = schemas;
        self
    }

    /// The graph.
    #[must_use]
    pub fn compile(self) -> Arc<Graph> {
        Arc::new(Graph::new(self.layout()))
    }

    fn layout(self) -> Layout {
        let channel = |name: &str, kind: Kind, is_result: bool| ChannelDef {
            name: name.into(),
            kind,
            wakes: Vec::new(),
            is_state: is_result,
            is_output: is_result,
            is_input: false,
        };
        let (start, result, previous, tasks) = (0, 1, 2, 3);
        let mut channels = vec![
            channel(START, Kind::Ephemeral(Guard::One), false),
            channel(END, Kind::LastValue, true),
            channel(PREVIOUS, Kind::LastValue, false),
            channel(TASKS, Kind::Topic { accumulate: false }, false),
        ];
        channels[start].wakes.push(0);
        let node = NodeDef {
            name: self.name.clone(),
            body: Some(Body::Function(self.body)),
            options: self.options,
            triggers: vec![start],
            trigger_names: vec![START.into()],
            reads: None,
            writers: Vec::new(),
            rank: 0,
            entry: None,
            role: Role::Work,
            handler: None,
            reads_input: true,
        };
        let ids = |names: Vec<Str>| -> NameMap { names.into_iter().zip(0..).collect() };
        Layout {
            channel_ids: ids(channels.iter().map(|c| c.name.clone()).collect()),
            channels,
            node_ids: ids(vec![self.name.clone()]),
            nodes: vec![node],
            branches: Vec::new(),
            state: vec![result],
            outputs: vec![result],
            start,
            tasks,
            transient: vec![start, tasks],
            finishing: Vec::new(),
            deltas: Vec::new(),
            has_untracked: false,
            schemas: self.schemas,
            interrupt_before: InterruptAt::Never,
            interrupt_after: InterruptAt::Never,
            persistence: Persistence::Inherit,
            retry: None,
            cache: None,
            managed: Vec::new(),
            function: Some(Function { result, previous }),
            edges: vec![
                (START.into(), self.name.clone()),
                (self.name.clone(), END.into()),
            ],
            joins: Vec::new(),
            branch_sources: Vec::new(),
            name: self.name,
        }
    }
}
