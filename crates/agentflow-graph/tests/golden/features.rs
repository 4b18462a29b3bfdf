//! The graphs of `features.py`, in Rust.

use std::{sync::Arc, time::Duration};

use agentflow_graph::{Channel, Graph, GraphBuilder, NodeContext, START, channel::overwrite};
use agentflow_types::{Value, message, value};

use super::graphs::{after, fixed};

fn log() -> Channel {
    Channel::delta_append().snapshot_every(3)
}

fn state(name: &str) -> GraphBuilder {
    let mut g = GraphBuilder::new(name);
    g.channel("value", Channel::last_value());
    g.channel("log", log());
    g.channel("n", Channel::sum());
    g
}

fn items<'a>(state: &'a Value, key: &str) -> &'a [Value] {
    state.get(key).and_then(Value::as_list).unwrap_or_default()
}

fn joined(state: &Value) -> String {
    let texts = items(state, "log").iter().filter_map(Value::as_str);
    texts.collect::<Vec<_>>().join(",")
}

fn delta() -> GraphBuilder {
    let mut g = state("delta");
    g.node("a", |s: Value, _| async move {
        let n = items(&s, "log").len();
        Ok(value!({"log": [format!("a{n}")]}).into())
    });
    g.node("b", |s: Value, _| async move {
        Ok(value!({"value": joined(&s), "n": 1}).into())
    });
    g.edge(START, "a").edge("a", "b");
    g
}

fn delta_fan() -> GraphBuilder {
    let mut g = state("delta_fan");
    g.node("fast", fixed(value!({"log": ["fast"]})));
    g.node("slow", after(20, value!({"log": ["slow"]})));
    g.node("ask", |_, ctx: NodeContext| async move {
        tokio::time::sleep(Duration::from_millis(40)).await;
        let answer = ctx.interrupt("which?")?;
        Ok(Value::object([("log", Value::list(vec![answer]))]).into())
    });
    g.node("end", |s: Value, _| async move {
        Ok(value!({"value": joined(&s)}).into())
    });
    g.edge(START, "fast").edge(START, "slow").edge(START, "ask");
    g.join(["fast", "slow", "ask"], "end");
    g
}

fn delta_overwrite() -> GraphBuilder {
    let mut g = state("delta_overwrite");
    g.node("a", fixed(value!({"log": ["a"]})));
    let only = Value::object([("log", overwrite(value!(["only"])))]);
    g.node("b", fixed(only));
    g.node("c", fixed(value!({"log": ["c"]})));
    g.edge(START, "a").edge("a", "b").edge("b", "c");
    g
}

fn delta_chat() -> GraphBuilder {
    let mut g = GraphBuilder::new("delta_chat");
    g.channel("messages", Channel::delta_messages());
    g.node("reply", |s: Value, _| async move {
        let n = items(&s, "messages").len();
        let reply = message::with_id(&message::ai(format!("reply {n}")), &format!("ai-{n}"));
        Ok(Value::object([("messages", Value::list(vec![reply]))]).into())
    });
    g.node("forget", |s: Value, _| async move {
        let first = message::id(&items(&s, "messages")[0]).unwrap_or_default();
        let remove = |id: &str| {
            message::coerce(&value!({"type": "remove", "id": id, "content": ""})).unwrap()
        };
        let both = Value::list(vec![remove(first), remove("nobody")]);
        Ok(Value::object([("messages", both)]).into())
    });
    g.edge(START, "reply").edge("reply", "forget");
    g
}

fn delta_nested() -> GraphBuilder {
    let mut s = state("inner");
    s.node("think", |_, ctx: NodeContext| async move {
        let answer = ctx.interrupt("inner")?;
        Ok(Value::object([("log", Value::list(vec![answer]))]).into())
    });
    s.node("done", fixed(value!({"log": ["done"]})));
    s.edge(START, "think").edge("think", "done");
    let mut g = state("delta_nested");
    g.node("before", fixed(value!({"log": ["before"]})));
    g.subgraph("sub", s.compile().unwrap());
    g.edge(START, "before").edge("before", "sub");
    g
}

/// The graph of this name.
pub fn build(name: &str) -> Arc<Graph> {
    let builder = match name {
        "delta" => delta(),
        "delta_fan" => delta_fan(),
        "delta_overwrite" => delta_overwrite(),
        "delta_chat" => delta_chat(),
        "delta_nested" => delta_nested(),
        other => panic!("unknown graph {other}"),
    };
    builder.compile().unwrap()
}
