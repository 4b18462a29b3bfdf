//! A chat that does what its last message says, for clients with a screen: slow tokens, a
//! question, a tool, a subgraph.

use std::{sync::Arc, time::Duration};

use agentflow_graph::{Channel, END, Graph, GraphBuilder, NodeContext, START, goto};
use agentflow_types::{Map, Result, Value, graph::StreamMode, message, value};

use crate::graphs::Named;

/// All graphs of this module.
pub fn all() -> Result<Vec<Named>> {
    Ok(vec![("chat", chat()?)])
}

fn messages(state: &Value) -> &[Value] {
    let list = state.get("messages").and_then(Value::as_list);
    list.unwrap_or_default()
}

/// The words of the last message of the user.
fn order(state: &Value) -> Vec<String> {
    let human = |message: &&Value| message::kind(message) == Some("human");
    let last = messages(state).iter().rev().find(human);
    let text = last.map(message::text).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// The number at `place`, or `default`.
fn number(order: &[String], place: usize, default: u64) -> u64 {
    let word = order.get(place).and_then(|word| word.parse().ok());
    word.unwrap_or(default)
}

/// Streams `word1 word2 …` with a pause before each.
async fn speak(ctx: &NodeContext, words: u64, pause: Duration) -> Value {
    // The same in every attempt, so that a client sees one message.
    let id = format!("said-{}", ctx.task_id());
    let mut text = String::new();
    for number in 1..=words {
        tokio::time::sleep(pause).await;
        let word = match number {
            1 => "word1".to_owned(),
            _ => format!(" word{number}"),
        };
        text.push_str(&word);
        let last = match number == words {
            true => message::Last::Yes,
            false => message::Last::No,
        };
        let chunk = message::ai_chunk(&id, Value::str(word), Map::new(), last);
        ctx.emit(StreamMode::Messages, chunk).await;
    }
    message::with_id(&message::ai(text), &id)
}

fn said(message: Value) -> Value {
    Value::object([("messages", Value::list(vec![message]))])
}

/// Answers in its own namespace.
fn helper() -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("helper");
    graph
        .channel("messages", Channel::messages())
        .node("think", |_, ctx| async move {
            Ok(said(speak(&ctx, 5, Duration::from_millis(30)).await).into())
        })
        .edge(START, "think")
        .edge("think", END);
    graph.compile()
}

/// `tell N MS`: N words with MS milliseconds before each. `ask`: a question first, then its answer.
/// `look`: a tool. `delegate`: a subgraph. Anything else: three words.
fn chat() -> Result<Arc<Graph>> {
    let helper = helper()?;
    let mut graph = GraphBuilder::new("chat");
    graph
        .channel("messages", Channel::messages())
        .node("tell", |state: Value, ctx| async move {
            let order = order(&state);
            let pause = Duration::from_millis(number(&order, 2, 10));
            Ok(said(speak(&ctx, number(&order, 1, 3), pause).await).into())
        })
        .node("ask", |_, ctx| async move {
            let answer = ctx.interrupt(value!({"question": "May I?"}))?;
            let text = match answer.as_str() {
                Some(text) => text.to_owned(),
                None => answer.json_text(),
            };
            let id = format!("asked-{}", ctx.task_id());
            Ok(said(message::with_id(&message::ai(format!("You said {text}")), &id)).into())
        })
        .node("call", |_, ctx| async move {
            let call = value!({
                "name": "search", "args": {"query": "rust"}, "id": format!("call-{}", ctx.task_id()),
                "type": "tool_call",
            });
            let id = format!("calls-{}", ctx.task_id());
            let asks = message::with_id(&message::ai_with_tool_calls("", vec![call]), &id);
            Ok(said(asks).into())
        })
        .node("look", |state: Value, ctx| async move { Ok(look(&state, &ctx).await.into()) })
        .node("delegate", move |_, ctx: NodeContext| {
            let helper = helper.clone();
            async move {
                let out = ctx.invoke(&helper, value!({"messages": []})).await?;
                let text = messages(&out).last().map(message::text);
                let id = format!("delegated-{}", ctx.task_id());
                let text = format!("The helper said {}", text.unwrap_or_default());
                Ok(said(message::with_id(&message::ai(text), &id)).into())
            }
        })
        .branch(
            START,
            |state: &Value, _| {
                let order = order(state);
                let node = match order.first().map(String::as_str) {
                    Some("ask") => "ask",
                    Some("look") => "call",
                    Some("delegate") => "delegate",
                    _ => "tell",
                };
                Ok(vec![goto(node)])
            },
            ["ask", "call", "delegate", "tell"],
        )
        .edge("call", "look")
        .edge("look", "tell")
        .edge("tell", END)
        .edge("ask", END)
        .edge("delegate", END);
    graph.compile()
}

/// Runs the tool that the last message asks for, between the events that report it.
async fn look(state: &Value, ctx: &NodeContext) -> Value {
    let calls = messages(state).last().and_then(|m| m.get("tool_calls"));
    let call = calls.and_then(Value::as_list).and_then(<[Value]>::first);
    let id = call.and_then(|call| call.get("id")).and_then(Value::as_str);
    let id = id.unwrap_or_default();
    let started = value!({
        "event": "tool-started", "tool_call_id": id, "tool_name": "search",
        "input": {"query": "rust"},
    });
    ctx.emit(StreamMode::Tools, started).await;
    let output = message::tool("found it", id, "search");
    let finished = Value::object([
        ("event", Value::str("tool-finished")),
        ("tool_call_id", Value::str(id)),
        ("output", output.clone()),
    ]);
    ctx.emit(StreamMode::Tools, finished).await;
    said(output)
}
