//! What a node knows about its run, and what it can do to it.

use std::sync::{Arc, atomic::Ordering};

use agentflow_storage::store::Store;
use agentflow_types::{
    Clock, Error, Result, Rng, Scope, Str, Value,
    graph::{RunConfig, StreamEvent, StreamMode},
};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{ids::lasting_ns, payload::Speaker},
    graph::Graph,
    shell::{self, TaskShared},
    signal,
};

/// What an error handler handles.
#[derive(Clone, Debug)]
pub struct NodeFailure {
    /// The node that failed; empty if the handler was reached by a goto.
    pub node: Str,
    /// Its error. After a crash between failure and handler, only the text of it.
    pub error: Arc<Error>,
}

impl NodeFailure {
    pub(crate) fn none() -> Self {
        Self {
            node: "".into(),
            error: Arc::new(Error::invalid("no node failed")),
        }
    }
}

/// A node's view of its run. Cheap to clone.
#[derive(Clone)]
pub struct NodeContext(pub(crate) Arc<TaskShared>);

impl NodeContext {
    /// Configuration of the run.
    #[must_use]
    pub fn config(&self) -> &RunConfig {
        &self.0.run.config
    }

    /// Static context of the run.
    #[must_use]
    pub fn runtime_context(&self) -> &Value {
        &self.0.run.config.context
    }

    /// Number of this superstep.
    #[must_use]
    pub fn step(&self) -> i64 {
        self.0.step
    }

    /// Name of this node.
    #[must_use]
    pub fn node(&self) -> &Str {
        &self.0.node
    }

    /// Deterministic id of this task.
    #[must_use]
    pub fn task_id(&self) -> String {
        self.0.task_id.to_string()
    }

    /// Same as the task id: equal for every attempt and resume of this task, different for every
    /// other task. Give it to services that can refuse to do the same thing twice.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.task_id()
    }

    /// Where in its run this task is: the run's id, and the superstep and the path of each task
    /// from the root down to this one. `None` if the run has no id.
    ///
    /// [`idempotency_key`](Self::idempotency_key) is another one when a server died before it
    /// stored the checkpoint that the task follows, because that is made anew; this is the same
    /// then. But it differs from run to run, also for a task that asks something and goes on in
    /// the next one.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        let mut tasks = Vec::new();
        let mut below = Some(&self.0);
        while let Some(task) = below {
            tasks.push(task.place());
            below = task.run.above.as_ref();
        }
        tasks.reverse();
        // Graphs that one task calls one after the other differ by their numbers.
        let ns = lasting_ns(self.checkpoint_ns());
        Some(format!("{}/{ns}/{}", self.run_id()?, tasks.join("/")))
    }

    /// Namespace of this task: `node:task_id`, after the namespaces above it.
    #[must_use]
    pub fn checkpoint_ns(&self) -> &str {
        self.0.checkpoint_ns()
    }

    /// Attempt of this node under its retry policy, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt.load(Ordering::Relaxed)
    }

    /// Attempt of the run, from 1.
    #[must_use]
    pub fn run_attempt(&self) -> u32 {
        self.0.run.attempt
    }

    /// Supersteps left before the recursion limit, this one included.
    #[must_use]
    pub fn remaining_steps(&self) -> i64 {
        self.0.stop - self.0.step
    }

    /// Whether the recursion limit ends the run after this superstep.
    #[must_use]
    pub fn is_last_step(&self) -> bool {
        self.0.step == self.0.stop - 1
    }

    /// In an error handler: what it handles.
    #[must_use]
    pub fn failure(&self) -> Option<&NodeFailure> {
        self.0.failure.as_ref()
    }

    /// In a function: what its last run on the thread saved; null the first time.
    #[must_use]
    pub fn previous(&self) -> &Value {
        &self.0.previous
    }

    /// Tells that the node makes progress, so that its idle timeout starts again.
    pub fn heartbeat(&self) {
        self.0.heartbeat();
    }

    /// Asks the run to stop before its next superstep, as
    /// [`Invocation::drain`](crate::Invocation::drain) does.
    pub fn request_drain(&self) {
        self.0.run.drain.cancel();
    }

    /// Whether the run is asked to stop before its next superstep.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.run.drain.is_cancelled()
    }

    /// Thread of the run.
    #[must_use]
    pub fn thread_id(&self) -> Option<&str> {
        self.0.run.thread_id.as_deref()
    }

    /// Id of the run.
    #[must_use]
    pub fn run_id(&self) -> Option<String> {
        self.0.run.run_id.map(|id| id.text())
    }

    /// Long-term items, if the runtime has a store. They belong to the [scope](Self::scope) of
    /// the run.
    ///
    /// ```
    /// use agentflow_graph::{Channel, GraphBuilder, Invocation, NodeContext, Runtime, START};
    /// use agentflow_storage::{memory::Memory, store::{PutItem, Refresh}};
    /// use agentflow_types::{Scope, value};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let namespace = vec!["people".to_owned()];
    /// let mut builder = GraphBuilder::new("greeter");
    /// let people = namespace.clone();
    /// builder
    ///     .channel("likes", Channel::last_value())
    ///     .node("recall", move |_, ctx: NodeContext| {
    ///         let people = people.clone();
    ///         async move {
    ///             let store = ctx.store().expect("the runtime below has a store");
    ///             let (scope, now) = (ctx.scope(), ctx.clock().now());
    ///             let item = store.get(scope, now, &people, "ada", Refresh::Yes).await?;
    ///             Ok(item.map(|item| item.value).unwrap_or_default().into())
    ///         }
    ///     })
    ///     .edge(START, "recall");
    /// let backend = Memory::open();
    /// let runtime = Runtime { store: Some(backend.store.clone()), ..Runtime::default() };
    /// # let value = agentflow_types::Map::from_iter([("likes".into(), value!("looms"))]);
    /// # let item = PutItem { namespace, key: "ada".into(), value, ttl_minutes: None };
    /// # let now = runtime.clock.now();
    /// # backend.store.put(&Scope::local(), now, vec![item]).await?;
    /// let run = Invocation::new(value!({"likes": "?"}));
    /// let out = builder.compile()?.run(&runtime, run, None).await?;
    /// assert_eq!(out.values, value!({"likes": "looms"}));
    /// # Ok::<(), agentflow_types::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn store(&self) -> Option<Arc<dyn Store>> {
        self.0.run.runtime.store.clone()
    }

    /// Whose items and threads the run may touch.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.0.run.runtime.scope
    }

    /// Time.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.run.runtime.clock
    }

    /// Randomness.
    #[must_use]
    pub fn rng(&self) -> &Arc<dyn Rng> {
        &self.0.run.runtime.rng
    }

    /// Fires when the run is cancelled; the node is dropped at its next await anyway.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.0.run.cancel
    }

    /// Whether somebody reads this mode of this graph.
    #[must_use]
    pub fn wants(&self, mode: StreamMode) -> bool {
        self.0.run.emitter.wants(mode)
    }

    /// Sends anything to readers of the `custom` mode.
    pub async fn write(&self, data: impl Into<Value> + Send) {
        self.0.advances();
        if self.wants(StreamMode::Custom) {
            self.emit(StreamMode::Custom, data.into()).await;
        }
    }

    /// Sends an event of `mode` in the namespace of this graph, if somebody reads that mode.
    /// Waits while the reader's buffer is full.
    ///
    /// For [`StreamMode::Messages`], `data` is the message or chunk, or a pair of it and a map of
    /// metadata; the metadata that tells where it comes from is added.
    pub async fn emit(&self, mode: StreamMode, data: Value) {
        self.0.advances();
        if !self.wants(mode) {
            return;
        }
        let (data, ns) = match mode {
            StreamMode::Messages => match self.0.message_event(data, Speaker::Model) {
                Some(pair) => (pair, self.0.run.emitter.ns()),
                None => return,
            },
            _ => (data, self.0.run.emitter.ns()),
        };
        self.0
            .run
            .emitter
            .send(StreamEvent { ns, mode, data })
            .await;
    }

    /// Asks a question and returns its answer.
    ///
    /// The first time this stops the node with an error that must be returned (`?`); when the
    /// answer has come, the node runs again from its start and this returns the answer.
    ///
    /// # Errors
    /// The signal that stops the node.
    pub fn interrupt(&self, question: impl Into<Value>) -> Result<Value> {
        self.0.interrupt(question.into(), None)
    }

    /// Like [`interrupt`](Self::interrupt), telling clients which JSON Schema the answer has.
    ///
    /// # Errors
    /// The signal that stops the node.
    pub fn interrupt_with_schema(
        &self,
        question: impl Into<Value>,
        schema: serde_json::Value,
    ) -> Result<Value> {
        self.0
            .interrupt(question.into(), Some(Value::from_json(&schema)))
    }

    /// Runs another graph inside this task, with this run's saver and stream.
    ///
    /// # Errors
    /// Whatever the graph fails with, or the signal of its interrupts, which must be returned.
    pub async fn invoke(&self, graph: &Arc<Graph>, input: Value) -> Result<Value> {
        self.0.advances();
        let result = shell::run_nested(graph, &self.0, input).await;
        self.0.advances();
        result
    }

    /// Whether an error is the signal of an interrupt, which a node must pass on.
    #[must_use]
    pub fn is_interrupt(error: &Error) -> bool {
        signal::interrupts(error).is_some()
    }
}
