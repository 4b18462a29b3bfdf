//! Running one task: attempts, timeouts, panics.

use std::{panic::AssertUnwindSafe, sync::Arc};

use agentflow_types::{Error, Result, Value};
use futures_util::FutureExt;

use super::{TaskShared, run_nested};
use crate::{builder::Body, context::NodeContext, output::NodeOutput, policy::RetryPolicy, signal};

/// Runs a task until it succeeds, asks, or has no attempt left.
pub(super) async fn execute(task: Arc<TaskShared>, input: Value) -> Result<NodeOutput> {
    let graph = task.run.graph.clone();
    let layout = graph.layout();
    let policy = layout.retry(task.node_id);
    let mut attempt = 1;
    loop {
        task.start_attempt(attempt);
        let error = match attempt_once(&task, input.clone()).await {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        if let Some(command) = signal::parent_command(&error) {
            // A graph inside this task speaks to this graph.
            let command = agentflow_types::graph::Command {
                graph: None,
                ..command.clone()
            };
            return Ok(NodeOutput::Command(command));
        }
        let is_final = signal::interrupts(&error).is_some() || task.run.cancel.is_cancelled();
        let again = |p: &&RetryPolicy| !is_final && attempt < p.max_attempts && p.matches(&error);
        let Some(policy) = policy.filter(again) else {
            return Err(error);
        };
        let wait = policy.wait(attempt, &*task.run.runtime.rng);
        tracing::info!(node = %task.node, attempt, %error, "a node failed and is tried again");
        tokio::time::sleep(wait).await;
        attempt += 1;
    }
}

async fn attempt_once(task: &Arc<TaskShared>, input: Value) -> Result<NodeOutput> {
    let graph = task.run.graph.clone();
    let node = &graph.layout().nodes[task.node_id];
    let body = async {
        match &node.body {
            None => Ok(NodeOutput::Update(input)),
            Some(Body::Function(body)) => body(input, NodeContext(task.clone())).await,
            Some(Body::Graph(inner)) => {
                run_nested(inner, task, input).await.map(NodeOutput::Update)
            }
        }
    };
    let caught = AssertUnwindSafe(body).catch_unwind();
    let result = match node.options.timeout {
        None => caught.await,
        Some(limit) => match tokio::time::timeout(limit, caught).await {
            Ok(result) => result,
            Err(_) => {
                let seconds = limit.as_secs_f64();
                return Err(Error::failed(format!(
                    "Node '{}' exceeded its run timeout of {seconds}s",
                    node.name
                ))
                .class("NodeTimeoutError"));
            }
        },
    };
    result.unwrap_or_else(|panic| Err(panicked(&node.name, &*panic)))
}

/// The error of a run whose node panicked.
fn panicked(node: &str, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Error::bug(format!("node '{node}' panicked: {text}")).class("PanicError")
}
