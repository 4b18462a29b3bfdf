//! Graphs with the topology of the integration graphs of LangGraph's Python SDK: tokens, a tool,
//! a question, a subgraph, an agent with a tool, an agent that delegates.

use std::sync::Arc;

use agentflow_graph::{Channel, END, Graph, GraphBuilder, NodeContext, START, goto};
use agentflow_types::{Map, Result, Value, graph::StreamMode, message, value};

use crate::graphs::Named;

/// All graphs of this module.
pub fn all() -> Result<Vec<Named>> {
    Ok(vec![
        ("agent", agent()?),
        ("deep_agent", deep_agent()?),
        ("tools_agent", tools_agent()?),
    ])
}

/// Tells readers of custom events how far the graph is.
async fn progress(ctx: &NodeContext, step: &str, phase: &str) {
    ctx.write(value!({"name": "progress", "step": step, "phase": phase}))
        .await;
}

/// Streams a message word by word, as a model would, and returns it.
async fn speak(ctx: &NodeContext, id: &str, text: &str) -> Value {
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    for (index, word) in words.iter().enumerate() {
        let last = if index + 1 == words.len() {
            message::Last::Yes
        } else {
            message::Last::No
        };
        let chunk = message::ai_chunk(id, Value::str(*word), Map::new(), last);
        ctx.emit(StreamMode::Messages, chunk).await;
    }
    message::with_id(&message::ai(text), id)
}

/// Calls the tool `search` between the events that report a tool call.
async fn search(ctx: &NodeContext, call_id: &str, query: &str) -> Value {
    let started = value!({
        "event": "tool-started",
        "tool_call_id": call_id,
        "tool_name": "search",
        "input": {"query": query},
    });
    ctx.emit(StreamMode::Tools, started).await;
    let output = message::tool(format!("result for '{query}'"), call_id, "search");
    let finished = Value::object([
        ("event", Value::str("tool-finished")),
        ("tool_call_id", Value::str(call_id)),
        ("output", output.clone()),
    ]);
    ctx.emit(StreamMode::Tools, finished).await;
    output
}

fn search_call(message_id: &str) -> Value {
    let call =
        value!({"name": "search", "args": {"query": "v3"}, "id": "tc-1", "type": "tool_call"});
    message::with_id(&message::ai_with_tool_calls("", vec![call]), message_id)
}

fn update(messages: Vec<Value>, item: &str) -> Value {
    Value::object([
        ("messages", Value::list(messages)),
        ("items", value!([item])),
    ])
}

fn subgraph() -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("subgraph");
    graph
        .channel("messages", Channel::messages())
        .channel("note", Channel::last_value())
        .node("sub", |_, ctx| async move {
            progress(&ctx, "sub_node", "start").await;
            let said = message::with_id(&message::ai("from subgraph"), "sub-msg-1");
            progress(&ctx, "sub_node", "end").await;
            Ok(Value::object([
                ("messages", Value::list(vec![said])),
                ("note", value!("ran")),
            ])
            .into())
        })
        .edge(START, "sub")
        .edge("sub", END);
    graph.compile()
}

fn agent() -> Result<Arc<Graph>> {
    let inner = subgraph()?;
    let mut graph = GraphBuilder::new("agent");
    graph
        .channel("messages", Channel::messages())
        .channel("value", Channel::last_value())
        .channel("items", Channel::append())
        .node("stream_message", |_, ctx| async move {
            progress(&ctx, "stream_message", "start").await;
            let said = speak(&ctx, "ai-msg-1", "Hello, world!").await;
            progress(&ctx, "stream_message", "end").await;
            let mut out = update(vec![said], "streamed")
                .as_map()
                .cloned()
                .unwrap_or_default();
            out.insert("value".into(), value!("x"));
            Ok(Value::map(out).into())
        })
        .node("call_tool", |_, ctx| async move {
            progress(&ctx, "call_tool", "start").await;
            let result = message::tool("result for 'v3'", "tc-1", "search");
            progress(&ctx, "call_tool", "end").await;
            Ok(update(vec![search_call("ai-msg-2"), result], "tool").into())
        })
        .node("ask_human", |_, ctx| async move {
            progress(&ctx, "ask_human", "start").await;
            let answer = ctx.interrupt("Are we good?")?;
            progress(&ctx, "ask_human", "end").await;
            let answer = answer
                .as_str()
                .map_or_else(|| answer.json_text(), str::to_owned);
            let said = message::with_id(&message::ai(format!("Human said: {answer}")), "ai-msg-3");
            Ok(update(vec![said], "asked").into())
        })
        .node("run_subgraph", move |_, ctx: NodeContext| {
            let inner = inner.clone();
            async move {
                progress(&ctx, "run_subgraph", "start").await;
                let out = ctx
                    .invoke(&inner, value!({"messages": [], "note": ""}))
                    .await?;
                progress(&ctx, "run_subgraph", "end").await;
                let said = out
                    .get("messages")
                    .and_then(Value::as_list)
                    .unwrap_or_default();
                Ok(update(said.to_vec(), "sub").into())
            }
        })
        .edge(START, "stream_message")
        .edge("stream_message", "call_tool")
        .edge("call_tool", "ask_human")
        .edge("ask_human", "run_subgraph")
        .edge("run_subgraph", END);
    graph.compile()
}

fn last(state: &Value) -> Option<&Value> {
    state.get("messages").and_then(Value::as_list)?.last()
}

fn wants_tool(state: &Value) -> bool {
    last(state)
        .and_then(|message| message.get("tool_calls"))
        .and_then(Value::as_list)
        .is_some_and(|calls| !calls.is_empty())
}

/// An agent whose model asks for one search and then says "done.".
fn tools_agent() -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("tools_agent");
    graph
        .channel("messages", Channel::messages())
        .node("model", |state: Value, ctx| async move {
            let answered = last(&state).and_then(message::kind) == Some("tool");
            let said = match answered {
                true => speak(&ctx, "ai-tools-done", "done.").await,
                false => search_call("ai-tools-call"),
            };
            Ok(Value::object([("messages", Value::list(vec![said]))]).into())
        })
        .node("tools", |_, ctx| async move {
            let result = search(&ctx, "tc-1", "v3").await;
            Ok(Value::object([("messages", Value::list(vec![result]))]).into())
        })
        .edge(START, "model")
        .branch(
            "model",
            |state: &Value, _| Ok(vec![goto(if wants_tool(state) { "tools" } else { END })]),
            ["tools", END],
        )
        .edge("tools", "model");
    graph.compile()
}

fn researcher() -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("researcher");
    graph
        .channel("messages", Channel::messages())
        .node("model", |_, ctx| async move {
            let said = speak(
                &ctx,
                "res-1",
                "v3 streaming is event-typed and thread-centric.",
            )
            .await;
            Ok(Value::object([("messages", Value::list(vec![said]))]).into())
        })
        .edge(START, "model")
        .edge("model", END);
    graph.compile()
}

/// A supervisor that hands one task to a researcher, which runs as a graph of its own.
fn deep_agent() -> Result<Arc<Graph>> {
    let researcher = researcher()?;
    let mut graph = GraphBuilder::new("deep_agent");
    graph
        .channel("messages", Channel::messages())
        .node("model", |state: Value, ctx| async move {
            let answered = last(&state).and_then(message::kind) == Some("tool");
            let said = if answered {
                speak(&ctx, "sup-2", "Research complete.").await
            } else {
                let call = value!({
                    "name": "task",
                    "args": {"subagent_type": "researcher", "description": "research v3 streaming"},
                    "id": "tc-task-1",
                    "type": "tool_call",
                });
                message::with_id(&message::ai_with_tool_calls("", vec![call]), "sup-1")
            };
            Ok(Value::object([("messages", Value::list(vec![said]))]).into())
        })
        .node("tools", move |_, ctx: NodeContext| {
            let researcher = researcher.clone();
            async move {
                let task =
                    value!({"messages": [{"role": "user", "content": "research v3 streaming"}]});
                let out = ctx.invoke(&researcher, task).await?;
                let text = last(&out).map(message::text).unwrap_or_default();
                let result = message::tool(text, "tc-task-1", "task");
                Ok(Value::object([("messages", Value::list(vec![result]))]).into())
            }
        })
        .edge(START, "model")
        .branch(
            "model",
            |state: &Value, _| Ok(vec![goto(if wants_tool(state) { "tools" } else { END })]),
            ["tools", END],
        )
        .edge("tools", "model");
    graph.compile()
}
