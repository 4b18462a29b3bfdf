//! A graph with a saver and a scripted model, for tests.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;

use agentflow_declarative::{Environment, LoadedGraph, load_text};
use agentflow_graph::{Graph, Input, Invocation, Runtime};
use agentflow_models::{Kind, Provider, Registry};
use agentflow_storage::memory::Memory;
use agentflow_testkit::{ModelServer, Reply, Script};
use agentflow_types::{
    Result, Value,
    graph::{RunOutcome, StreamMode},
    message,
};
use futures_util::StreamExt;

/// A graph on one thread of a saver in memory.
pub struct Bench {
    pub graph: Arc<Graph>,
    runtime: Runtime,
}

/// Loads, or fails with the report.
pub fn loaded(text: &str, environment: &Environment) -> LoadedGraph {
    load_text("test.yaml", text, environment).unwrap_or_else(|report| panic!("{report}"))
}

impl Bench {
    pub fn new(text: &str, environment: &Environment) -> Self {
        Self::of(loaded(text, environment).graph)
    }

    pub fn of(graph: Arc<Graph>) -> Self {
        Self {
            graph,
            runtime: Runtime::with_saver(Memory::open().checkpoints),
        }
    }

    pub async fn run(&self, input: impl Into<Input>) -> Result<RunOutcome> {
        self.graph
            .run(&self.runtime, Invocation::new(input).thread("t"), None)
            .await
    }

    pub async fn resume(&self, answer: Value) -> Result<RunOutcome> {
        self.run(Input::resume(answer)).await
    }

    /// Events of a run by mode.
    pub async fn events(&self, input: impl Into<Input>, mode: StreamMode) -> Vec<Value> {
        let invocation = Invocation::new(input).thread("t").modes([mode]);
        let events = self.graph.stream(&self.runtime, invocation);
        events.map(|event| event.unwrap().data).collect().await
    }
}

/// A server that answers chat requests one after the other, and an environment that uses it.
pub async fn models(replies: impl IntoIterator<Item = Reply>) -> (ModelServer, Environment) {
    let server = ModelServer::start(Script::replies(replies)).await.unwrap();
    let mut registry = Registry::new();
    registry.add(
        Provider::new(Kind::OpenAi)
            .named("test")
            .at(server.openai_url()),
    );
    let models = Arc::new(registry);
    let environment = Environment::with_models(models, Some("test:small".to_owned()));
    (server, environment)
}

/// `type: text` of each message of a state.
pub fn conversation(values: &Value) -> Vec<String> {
    let messages = values
        .get("messages")
        .and_then(Value::as_list)
        .unwrap_or_default();
    let line = |one: &Value| {
        format!(
            "{}: {}",
            message::kind(one).unwrap_or_default(),
            message::text(one)
        )
    };
    messages.iter().map(line).collect()
}

/// The question of the only interrupt.
pub fn question(outcome: &RunOutcome) -> &Value {
    assert_eq!(outcome.interrupts.len(), 1, "{:?}", outcome.interrupts);
    &outcome.interrupts[0].value
}
