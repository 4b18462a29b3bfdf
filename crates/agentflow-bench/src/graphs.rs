//! The graphs that are measured; `clients/python/peer` has the same ones.

use std::sync::Arc;

use agentflow_graph::{Channel, END, Graph, GraphBuilder, START, goto, send};
use agentflow_types::{Value, message};
use anyhow::Result;

/// A loop of one node, so many supersteps.
pub fn counter(steps: i64) -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("loop");
    graph
        .channel("n", Channel::last_value())
        .node("step", |state: Value, _| async move {
            let n = state.get("n").and_then(Value::as_i64).unwrap_or(0);
            Ok(Value::object([("n", Value::Int(n + 1))]).into())
        })
        .edge(START, "step")
        .branch(
            "step",
            move |state: &Value, _| {
                let n = state.get("n").and_then(Value::as_i64).unwrap_or(0);
                Ok(vec![goto(if n < steps { "step" } else { END })])
            },
            ["step", END],
        );
    Ok(graph.compile()?)
}

/// One node that sends so many tasks.
pub fn fan(tasks: i64) -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("fan");
    graph
        .channel("out", Channel::append())
        .node("plan", |_, _| async { Ok(Value::Null.into()) })
        .node("work", |item: Value, _| async move {
            Ok(Value::object([("out", Value::list(vec![item]))]).into())
        })
        .edge(START, "plan")
        .branch(
            "plan",
            move |_: &Value, _| Ok((0..tasks).map(|i| send("work", Value::Int(i))).collect()),
            ["work"],
        )
        .edge("work", END);
    Ok(graph.compile()?)
}

/// So many supersteps, each of which says two letters.
pub fn says(steps: i64) -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("chat");
    graph
        .channel("messages", Channel::messages())
        .channel("n", Channel::last_value())
        .node("say", |state: Value, _| async move {
            let n = state.get("n").and_then(Value::as_i64).unwrap_or(0);
            let said = message::with_id(&message::ai("ok"), &format!("m{n}"));
            Ok(Value::object([
                ("messages", Value::list(vec![said])),
                ("n", Value::Int(n + 1)),
            ])
            .into())
        })
        .edge(START, "say")
        .branch(
            "say",
            move |state: &Value, _| {
                let n = state.get("n").and_then(Value::as_i64).unwrap_or(0);
                Ok(vec![goto(if n < steps { "say" } else { END })])
            },
            ["say", END],
        );
    Ok(graph.compile()?)
}

/// Letters that say nothing twice, so that no compression hides how many bytes are stored.
pub fn noise(bytes: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .take(bytes)
        .collect()
}

/// A conversation in `messages`: each superstep adds a message of so many bytes, until `n` is a
/// multiple of `steps`.
pub fn conversation(messages: Channel, steps: i64, bytes: usize) -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("conversation");
    graph
        .channel("messages", messages)
        .channel("n", Channel::last_value())
        .node("say", move |state: Value, _| async move {
            let n = state.get("n").and_then(Value::as_i64).unwrap_or(0);
            let said = message::with_id(&message::ai(noise(bytes)), &format!("m{n}"));
            Ok(Value::object([
                ("messages", Value::list(vec![said])),
                ("n", Value::Int(n + 1)),
            ])
            .into())
        })
        .edge(START, "say")
        .branch(
            "say",
            move |state: &Value, _| {
                let n = state.get("n").and_then(Value::as_i64).unwrap_or(0);
                Ok(vec![goto(if n % steps == 0 { END } else { "say" })])
            },
            ["say", END],
        );
    Ok(graph.compile()?)
}
