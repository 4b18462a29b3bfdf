//! Graphs that exercise the run service: echo, approval, slow loops, recorded side effects.

use std::{fs::OpenOptions, io::Write, sync::Arc, time::Duration};

use agentflow_graph::{Channel, END, Graph, GraphBuilder, START, goto};
use agentflow_types::{Error, Result, Value, message, value};

/// Graph id and graph.
pub type Named = (&'static str, Arc<Graph>);

/// All graphs of this module.
pub fn all() -> Result<Vec<Named>> {
    Ok(vec![
        ("agent-asks", agent_asks()?),
        ("approve", approve()?),
        ("broken", broken()?),
        ("echo", echo()?),
        ("factory_agent", factory_agent()?),
        ("recorder", recorder()?),
        ("slow", slow()?),
    ])
}

fn int(state: &Value, key: &str) -> i64 {
    state.get(key).and_then(Value::as_i64).unwrap_or(0)
}

/// Asks a person, and answers with what it was told.
fn agent_asks() -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("agent-asks");
    graph
        .channel("messages", Channel::messages())
        .node("ask", |_, ctx| async move {
            let answer = ctx.interrupt(value!("ok?"))?;
            let text = answer.as_str().unwrap_or_default();
            let said = message::ai(format!("answer: {text}"));
            Ok(Value::object([("messages", Value::list(vec![said]))]).into())
        })
        .edge(START, "ask")
        .edge("ask", END);
    graph.compile()
}

/// Answers "echo: …" to the last message and counts its runs.
fn echo() -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("echo");
    graph
        .channel("messages", Channel::messages())
        .channel("n", Channel::last_value())
        .node("echo", |state: Value, _| async move {
            let messages = state
                .get("messages")
                .and_then(Value::as_list)
                .unwrap_or_default();
            let text = messages.last().map(message::text).unwrap_or_default();
            let answer = message::ai(format!("echo: {text}"));
            Ok(Value::object([
                ("messages", Value::list(vec![answer])),
                ("n", Value::Int(int(&state, "n") + 1)),
            ])
            .into())
        })
        .edge(START, "echo")
        .edge("echo", END);
    graph.compile()
}

/// Asks before it goes on.
fn approve() -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("approve");
    graph
        .channel("question", Channel::last_value())
        .channel("answer", Channel::last_value())
        .channel("log", Channel::append())
        .node("ask", |_, ctx| async move {
            let answer = ctx.interrupt(value!({"question": "ok?"}))?;
            Ok(Value::object([("answer", answer), ("log", value!(["ask"]))]).into())
        })
        .node("done", |_, _| async {
            Ok(value!({"log": ["done"]}).into())
        })
        .edge(START, "ask")
        .edge("ask", "done")
        .edge("done", END);
    graph.compile()
}

/// Fails.
fn broken() -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("broken");
    graph
        .channel("x", Channel::last_value())
        .node("fail", |_, _| async {
            Err(Error::failed("boom").class("ValueError"))
        })
        .edge(START, "fail")
        .edge("fail", END);
    graph.compile()
}

/// Sleeps `delay_ms` in each of `steps` supersteps.
fn slow() -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("slow");
    graph
        .channel("steps", Channel::last_value())
        .channel("delay_ms", Channel::last_value())
        .channel("log", Channel::append())
        .node("work", |state: Value, ctx| async move {
            let delay = u64::try_from(int(&state, "delay_ms")).unwrap_or(0);
            ctx.write(value!({"step": ctx.step()})).await;
            tokio::time::sleep(Duration::from_millis(delay)).await;
            Ok(Value::object([("log", Value::list(vec![Value::Int(ctx.step())]))]).into())
        })
        .edge(START, "work")
        .branch(
            "work",
            |state: &Value, _| {
                let done = state
                    .get("log")
                    .and_then(Value::as_list)
                    .map_or(0, <[_]>::len);
                let more = (done as i64) < int(state, "steps");
                Ok(vec![goto(if more { "work" } else { END })])
            },
            ["work", END],
        );
    graph.compile()
}

/// Appends one line `thread run task step` to `file` in each of `nodes` supersteps: a side effect
/// outside the database, by which the crash driver sees how often a task ran.
fn recorder() -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("recorder");
    graph
        .channel("nodes", Channel::last_value())
        .channel("file", Channel::last_value())
        .channel("count", Channel::last_value())
        .channel("done", Channel::append())
        .node("reset", |_, _| async { Ok(value!({"count": 0}).into()) })
        .node("record", |state: Value, ctx| async move {
            let file = state
                .get("file")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let line = format!(
                "{} {} {} {}\n",
                ctx.thread_id().unwrap_or("-"),
                ctx.run_id().unwrap_or_default(),
                ctx.task_id(),
                ctx.step(),
            );
            let written = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&file)
                .and_then(|mut out| out.write_all(line.as_bytes()));
            written.map_err(|err| {
                Error::invalid("the record cannot be written")
                    .with("file", &file)
                    .source_err(err)
            })?;
            tokio::time::sleep(Duration::from_millis(2)).await;
            let count = int(&state, "count") + 1;
            Ok(Value::object([
                ("count", Value::Int(count)),
                ("done", Value::list(vec![Value::str(ctx.task_id())])),
            ])
            .into())
        })
        .edge(START, "reset")
        .edge("reset", "record")
        .branch(
            "record",
            |state: &Value, _| {
                let more = int(state, "count") < int(state, "nodes");
                Ok(vec![goto(if more { "record" } else { END })])
            },
            ["record", END],
        );
    graph.compile()
}

/// The graph that LangGraph's SDK suite builds per run: it tells how it was reached.
fn factory_agent() -> Result<Arc<Graph>> {
    let mut graph = GraphBuilder::new("factory_agent");
    graph
        .channel("text", Channel::last_value())
        .channel("access_context", Channel::last_value())
        .channel("is_for_execution", Channel::last_value())
        .node("echo", |state: Value, _| async move {
            let text = state
                .get("text")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            Ok(value!({
                "text": format!("{text} echoed"),
                "access_context": "threads.create_run",
                "is_for_execution": true,
            })
            .into())
        })
        .edge(START, "echo")
        .edge("echo", END);
    graph.compile()
}
