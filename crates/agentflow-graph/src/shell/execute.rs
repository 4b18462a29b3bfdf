//! Running one task: attempts, timeouts, panics.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use agentflow_types::{Error, Result, Value};
use futures_util::FutureExt;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument as _;

use super::{TaskShared, run_nested};
use crate::{
    builder::Body,
    context::NodeContext,
    output::NodeOutput,
    policy::{RetryPolicy, Timeouts},
    signal,
};

/// Runs a task until it succeeds, asks, or has no attempt left. Its span belongs to whatever the
/// caller is in, wherever the future is polled.
pub(super) fn execute(
    task: Arc<TaskShared>,
    input: Value,
) -> impl Future<Output = Result<NodeOutput>> + Send {
    let span = tracing::info_span!(
        "task",
        otel.name = %task.node,
        node = %task.node,
        task_id = %task.task_id,
    );
    attempts(task, input).instrument(span)
}

async fn attempts(task: Arc<TaskShared>, input: Value) -> Result<NodeOutput> {
    let policies = match &task.called {
        Some(called) => called.options.retries.clone(),
        None => task.run.graph.layout().retries(task.node_id),
    };
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
        let is_final = signal::interrupts(&error).is_some()
            || signal::is_drained(&error)
            || task.run.cancel.is_cancelled();
        let fits = |p: &&RetryPolicy| !is_final && p.matches(&error);
        let policy = policies.iter().find(fits);
        let Some(policy) = policy.filter(|p| attempt < p.max_attempts) else {
            return Err(error);
        };
        let wait = policy.wait(attempt, &*task.run.runtime.rng);
        tracing::info!(node = %task.node, attempt, %error, "a node failed and is tried again");
        sleep(wait).await;
        attempt += 1;
    }
}

pub(super) fn timeouts(task: &TaskShared) -> Timeouts {
    match &task.called {
        Some(called) => Timeouts {
            run: called.options.timeout,
            idle: called.options.idle_timeout,
        },
        None => {
            let options = &task.run.graph.layout().nodes[task.node_id].options;
            Timeouts {
                run: options.timeout,
                idle: options.idle_timeout,
            }
        }
    }
}

async fn attempt_once(task: &Arc<TaskShared>, input: Value) -> Result<NodeOutput> {
    let caught = AssertUnwindSafe(body(task, input)).catch_unwind();
    let limits = timeouts(task);
    let result = if limits == Timeouts::default() {
        caught.await
    } else {
        let started = Instant::now();
        tokio::select! {
            biased;
            result = caught => result,
            // What the node had in hand is lost; it has written nothing.
            () = after(limits.run) => return Err(too_long(task, limits.run, started)),
            () = idle(task, limits.idle) => return Err(too_quiet(task, limits.idle, started)),
        }
    };
    result.unwrap_or_else(|panic| Err(panicked(&task.node, &*panic)))
}

async fn body(task: &Arc<TaskShared>, input: Value) -> Result<NodeOutput> {
    if let Some(called) = &task.called {
        let value = (called.body)(input, NodeContext(task.clone())).await?;
        return Ok(NodeOutput::Update(value));
    }
    let graph = task.run.graph.clone();
    match &graph.layout().nodes[task.node_id].body {
        None => Ok(NodeOutput::Update(input)),
        Some(Body::Function(body)) => body(input, NodeContext(task.clone())).await,
        Some(Body::Graph(inner)) => run_nested(inner, task, input).await.map(NodeOutput::Update),
    }
}

/// Ends after a time; never without one.
async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Ends when the task made no progress for a time; never without one.
async fn idle(task: &TaskShared, limit: Option<Duration>) {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    loop {
        let last = task.progress();
        sleep_until(last + limit).await;
        if task.progress() <= last {
            return;
        }
    }
}

fn seconds(limit: Option<Duration>) -> f64 {
    limit.unwrap_or_default().as_secs_f64()
}

fn too_long(task: &TaskShared, limit: Option<Duration>, started: Instant) -> Error {
    let (limit, elapsed) = (seconds(limit), started.elapsed().as_secs_f64());
    Error::failed(format!(
        "Node '{}' exceeded its run timeout of {limit:.3}s (elapsed: {elapsed:.3}s).",
        task.node
    ))
    .class("NodeTimeoutError")
}

fn too_quiet(task: &TaskShared, limit: Option<Duration>, started: Instant) -> Error {
    let (limit, elapsed) = (seconds(limit), started.elapsed().as_secs_f64());
    Error::failed(format!(
        "Node '{}' exceeded its idle timeout of {limit:.3}s without making progress (elapsed: {elapsed:.3}s).",
        task.node
    ))
    .class("NodeTimeoutError")
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
