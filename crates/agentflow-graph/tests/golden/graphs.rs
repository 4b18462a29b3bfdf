//! The graphs of `generate.py`, in Rust.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use agentflow_graph::{
    Channel, END, Graph, GraphBuilder, NodeContext, NodeOptions, NodeOutput, RetryPolicy, START,
    channel::overwrite, goto, send,
};
use agentflow_types::{Error, Result, Value, graph::Command, message, value};

pub fn state(name: &str) -> GraphBuilder {
    let mut g = GraphBuilder::new(name);
    g.channel("value", Channel::last_value());
    g.channel("items", Channel::append());
    g.channel("n", Channel::sum());
    g
}

pub fn text(state: &Value, key: &str) -> String {
    state
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// A node that always writes the same.
pub fn fixed(
    update: Value,
) -> impl Fn(Value, NodeContext) -> std::future::Ready<Result<NodeOutput>> + Send + Sync {
    move |_, _| std::future::ready(Ok(update.clone().into()))
}

fn linear() -> GraphBuilder {
    let mut g = state("linear");
    g.node("a", |_, ctx: NodeContext| async move {
        ctx.write(value!({"at": "a"})).await;
        Ok(value!({"value": "a", "items": ["a"]}).into())
    });
    let metadata = value!({"color": "red"}).as_map().cloned().unwrap();
    g.node_with(
        "b",
        NodeOptions {
            metadata,
            ..NodeOptions::default()
        },
        |s, _| async move {
            Ok(value!({"value": text(&s, "value") + "b", "items": ["b"], "n": 2}).into())
        },
    );
    g.edge(START, "a").edge("a", "b").edge("b", END);
    g
}

fn branch() -> GraphBuilder {
    let mut g = state("branch");
    g.node("work", |s: Value, _| async move {
        Ok(value!({"n": 1, "items": [s.get("n").cloned().unwrap_or(Value::Int(0))]}).into())
    });
    g.node("done", fixed(value!({"value": "done"})));
    g.edge(START, "work");
    let path = |s: &Value, _: &NodeContext| {
        Ok(vec![goto(
            if s.get("n").and_then(Value::as_i64) < Some(3) {
                "again"
            } else {
                "stop"
            },
        )])
    };
    g.branch("work", path, [("again", "work"), ("stop", "done")]);
    g
}

fn fanout() -> GraphBuilder {
    let mut g = state("fanout");
    g.node("plan", fixed(value!({"value": "planned"})));
    g.node("work", |arg: Value, _| async move {
        let x = arg.get("x").and_then(Value::as_i64).unwrap();
        Ok(value!({"items": [x * 10]}).into())
    });
    g.node("collect", |s: Value, _| async move {
        let items = s.get("items").and_then(Value::as_list).unwrap();
        let sum: i64 = items.iter().filter_map(Value::as_i64).sum();
        Ok(value!({"n": sum}).into())
    });
    g.edge(START, "plan").edge("work", "collect");
    let path =
        |_: &Value, _: &NodeContext| Ok([3, 1, 2].map(|x| send("work", value!({"x": x}))).to_vec());
    g.branch("plan", path, ["work"]);
    g
}

/// A node that waits, so that its place in the order of ends is known.
pub fn after(
    millis: u64,
    update: Value,
) -> impl Fn(Value, NodeContext) -> std::pin::Pin<Box<dyn Future<Output = Result<NodeOutput>> + Send>>
+ Send
+ Sync {
    move |_, _| {
        let update = update.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(update.into())
        })
    }
}

fn join() -> GraphBuilder {
    let mut g = state("join");
    g.node("a", fixed(value!({"items": ["a"]})));
    g.node("b", after(20, value!({"items": ["b"]})));
    g.node("b2", fixed(value!({"items": ["b2"]})));
    g.node("c", fixed(value!({"items": ["c"]})));
    g.edge(START, "a")
        .edge(START, "b")
        .edge("b", "b2")
        .join(["a", "b2"], "c");
    g
}

fn conflict() -> GraphBuilder {
    let mut g = state("conflict");
    g.node("a", fixed(value!({"value": "a"})));
    g.node("b", fixed(value!({"value": "b"})));
    g.edge(START, "a").edge(START, "b");
    g
}

fn ask() -> GraphBuilder {
    let mut g = state("ask");
    g.node("prepare", fixed(value!({"value": "ready"})));
    g.node("ask", |_, ctx: NodeContext| async move {
        let first = ctx.interrupt(value!({"question": "first"}))?;
        let second = ctx.interrupt(value!({"question": "second"}))?;
        Ok(value!({"items": [first, second]}).into())
    });
    g.edge(START, "prepare").edge("prepare", "ask");
    g
}

fn ask_many() -> GraphBuilder {
    let mut g = state("ask_many");
    g.node("one", |_, ctx: NodeContext| async move {
        let answer = ctx.interrupt("q1")?;
        Ok(value!({"items": [format!("one {}", answer.as_str().unwrap())]}).into())
    });
    g.node("two", |_, ctx: NodeContext| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let answer = ctx.interrupt("q2")?;
        Ok(value!({"items": [format!("two {}", answer.as_str().unwrap())]}).into())
    });
    g.node("three", after(40, value!({"items": ["three"]})));
    for name in ["one", "two", "three"] {
        g.edge(START, name).edge(name, "end");
    }
    g.node("end", fixed(value!({"value": "end"})));
    g
}

fn inner() -> Arc<Graph> {
    let mut g = state("inner");
    g.node("start_thinking", fixed(value!({"value": "in:"})));
    g.node("think", |s: Value, ctx: NodeContext| async move {
        let answer = ctx.interrupt("inner question")?;
        Ok(value!({"value": text(&s, "value") + answer.as_str().unwrap()}).into())
    });
    g.edge(START, "start_thinking")
        .edge("start_thinking", "think");
    g.compile().unwrap()
}

fn nested() -> GraphBuilder {
    let mut g = state("nested");
    g.node("before", fixed(value!({"value": "before"})));
    g.subgraph("sub", inner());
    g.node("after", |s: Value, _| async move {
        Ok(value!({"items": [text(&s, "value")]}).into())
    });
    g.edge(START, "before")
        .edge("before", "sub")
        .edge("sub", "after");
    g
}

fn plain_inner() -> Arc<Graph> {
    let mut g = state("plain_inner");
    g.node("x", |s: Value, _| async move {
        Ok(value!({"value": text(&s, "value") + "x"}).into())
    });
    g.edge(START, "x");
    g.compile().unwrap()
}

fn nested_plain() -> GraphBuilder {
    let mut g = state("nested_plain");
    g.node("before", fixed(value!({"value": "before"})));
    g.subgraph("sub", plain_inner());
    g.edge(START, "before").edge("before", "sub");
    g
}

fn twice() -> GraphBuilder {
    let mut g = state("twice");
    let sub = plain_inner();
    g.node("call", move |_, ctx: NodeContext| {
        let sub = sub.clone();
        async move {
            let one = ctx.invoke(&sub, value!({"value": "1"})).await?;
            let two = ctx.invoke(&sub, value!({"value": "2"})).await?;
            Ok(value!({"items": [text(&one, "value"), text(&two, "value")]}).into())
        }
    });
    g.edge(START, "call");
    g
}

fn commands() -> GraphBuilder {
    let mut g = state("commands");
    let destinations = vec!["left".to_owned(), "right".to_owned()];
    let options = NodeOptions {
        destinations,
        ..NodeOptions::default()
    };
    g.node_with("router", options, |s: Value, _| async move {
        if text(&s, "value") == "both" {
            let right = send("right", value!({"value": "sent"}));
            return Ok(vec![goto("left"), right].into());
        }
        let update = Some(value!({"value": "routed"}));
        Ok(Command {
            update,
            goto: vec![goto("left")],
            ..Command::default()
        }
        .into())
    });
    for side in ["left", "right"] {
        g.node(side, move |s: Value, _| async move {
            Ok(value!({"items": [format!("{side} {}", text(&s, "value"))]}).into())
        });
    }
    g.edge(START, "router");
    g
}

fn parent() -> GraphBuilder {
    let mut s = state("child");
    s.node("leave", |_, _| async move {
        Ok(Command {
            graph: Some("__parent__".into()),
            update: Some(value!({"items": ["from child"]})),
            goto: vec![goto("other")],
            resume: None,
        }
        .into())
    });
    s.edge(START, "leave");
    let mut g = state("parent");
    let options = NodeOptions {
        destinations: vec!["other".to_owned()],
        ..NodeOptions::default()
    };
    g.subgraph_with("child", options, s.compile().unwrap());
    g.node("other", fixed(value!({"value": "other"})));
    g.edge(START, "child");
    g
}

fn deferred() -> GraphBuilder {
    let mut g = state("deferred");
    for name in ["a", "b", "b2"] {
        g.node(name, fixed(value!({"items": [name]})));
    }
    let options = NodeOptions {
        defer: true,
        ..NodeOptions::default()
    };
    g.node_with("last", options, |s: Value, _| async move {
        let items = s.get("items").and_then(Value::as_list).unwrap();
        let names: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
        Ok(value!({"value": names.join(",")}).into())
    });
    g.edge(START, "a")
        .edge("a", "b")
        .edge("a", "last")
        .edge("b", "b2")
        .edge("b2", "last");
    g
}

fn flaky() -> GraphBuilder {
    let mut g = state("flaky");
    let tries = Arc::new(AtomicU32::new(0));
    let retry = RetryPolicy {
        initial_interval: Duration::from_millis(1),
        jitter: false,
        ..RetryPolicy::default()
    };
    let options = NodeOptions {
        retry: Some(retry),
        ..NodeOptions::default()
    };
    g.node_with("fail", options, move |_, _| {
        let tries = tries.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            if tries == 1 {
                return Err(Error::failed("not yet"));
            }
            Ok(value!({"n": tries}).into())
        }
    });
    g.edge(START, "fail");
    g
}

fn half_broken() -> GraphBuilder {
    let mut g = state("half_broken");
    let runs = Arc::new(AtomicU32::new(0));
    g.node("good", move |_, _| {
        let runs = runs.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok(value!({"items": [format!("good {runs}")]}).into()) }
    });
    let tries = Arc::new(AtomicU32::new(0));
    g.node("bad", move |_, _| {
        let tries = tries.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err(Error::invalid("boom"));
            }
            Ok(value!({"items": ["bad"]}).into())
        }
    });
    g.node("end", fixed(value!({"value": "end"})));
    g.edge(START, "good")
        .edge(START, "bad")
        .join(["good", "bad"], "end");
    g
}

fn chat() -> GraphBuilder {
    let mut g = GraphBuilder::new("chat");
    g.channel("messages", Channel::messages());
    let hello = message::with_id(&message::ai("hello"), "ai-1");
    g.node(
        "reply",
        fixed(Value::object([("messages", Value::list(vec![hello]))])),
    );
    let gone = message::coerce(&value!({"type": "remove", "id": "h-1", "content": ""})).unwrap();
    let bye = message::with_id(&message::ai("bye"), "ai-1");
    g.node(
        "forget",
        fixed(Value::object([("messages", Value::list(vec![gone, bye]))])),
    );
    g.edge(START, "reply").edge("reply", "forget");
    g
}

fn push_ask() -> GraphBuilder {
    let mut g = state("push_ask");
    g.node("work", |arg: Value, ctx: NodeContext| async move {
        let x = arg.get("x").cloned().unwrap();
        let answer = ctx.interrupt(Value::object([("for", x.clone())]))?;
        let pair = Value::list(vec![x, answer]);
        Ok(Value::object([("items", Value::list(vec![pair]))]).into())
    });
    g.node("end", |s: Value, _| async move {
        let n = s.get("items").and_then(Value::as_list).unwrap().len();
        Ok(value!({"n": n}).into())
    });
    let path =
        |_: &Value, _: &NodeContext| Ok([0, 1].map(|x| send("work", value!({"x": x}))).to_vec());
    g.branch(START, path, ["work"]).edge("work", "end");
    g
}

fn leaf(millis: u64) -> Arc<Graph> {
    let mut g = state("leaf");
    g.node("think", move |_, ctx: NodeContext| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(value!({"items": [ctx.interrupt("leaf")?]}).into())
    });
    g.edge(START, "think");
    g.compile().unwrap()
}

fn nested_two() -> GraphBuilder {
    let mut middle = state("middle");
    middle.subgraph("leaf", leaf(40)).edge(START, "leaf");
    let mut g = state("nested_two");
    g.subgraph("left", leaf(10));
    g.subgraph("right", middle.compile().unwrap());
    g.node("end", fixed(value!({"value": "end"})));
    g.edge(START, "left")
        .edge(START, "right")
        .join(["left", "right"], "end");
    g
}

fn loop_ask() -> GraphBuilder {
    let mut g = state("loop_ask");
    g.node("ask", |s: Value, ctx: NodeContext| async move {
        let n = s
            .get("items")
            .and_then(Value::as_list)
            .map_or(0, <[Value]>::len);
        let answer = ctx.interrupt(value!(n))?;
        Ok(Value::object([("items", Value::list(vec![answer]))]).into())
    });
    let destinations = vec!["ask".to_owned(), END.to_owned()];
    let options = NodeOptions {
        destinations,
        ..NodeOptions::default()
    };
    g.node_with("check", options, |s: Value, _| async move {
        let items = s.get("items").and_then(Value::as_list).unwrap();
        let stop = items.last().and_then(Value::as_str) == Some("stop");
        Ok(goto(if stop { END } else { "ask" }).into())
    });
    g.edge(START, "ask").edge("ask", "check");
    g
}

fn overwriting() -> GraphBuilder {
    let mut g = state("overwrite");
    g.node("a", fixed(value!({"items": ["a"]})));
    g.node(
        "b",
        fixed(Value::object([("items", overwrite(value!(["only"])))])),
    );
    g.node("c", fixed(Value::Null));
    g.edge(START, "a").edge("a", "b").edge("b", "c");
    g
}

/// The graph of this name.
pub fn build(name: &str) -> Arc<Graph> {
    let builder = match name {
        "linear" => linear(),
        "branch" => branch(),
        "fanout" => fanout(),
        "join" => join(),
        "conflict" => conflict(),
        "ask" => ask(),
        "ask_many" => ask_many(),
        "nested" => nested(),
        "nested_plain" => nested_plain(),
        "twice" => twice(),
        "commands" => commands(),
        "parent" => parent(),
        "deferred" => deferred(),
        "flaky" => flaky(),
        "half_broken" => half_broken(),
        "chat" => chat(),
        "push_ask" => push_ask(),
        "nested_two" => nested_two(),
        "loop_ask" => loop_ask(),
        "overwrite" => overwriting(),
        other => return super::features::build(other),
    };
    builder.compile().unwrap()
}
