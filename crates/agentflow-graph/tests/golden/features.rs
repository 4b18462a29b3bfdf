//! The graphs of `features.py`, in Rust.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use agentflow_graph::{
    CachePolicy, Channel, END, Final, Graph, GraphBuilder, Managed, NodeContext, NodeFailure,
    NodeOptions, NodeOutput, Persistence, START, Task, TaskOptions, channel::overwrite, entrypoint,
    goto, send,
};
use agentflow_types::{
    Error, Value,
    graph::{Command, Goto},
    message, value,
};

use super::graphs::{after, fixed, state as plain_state, text};

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

fn double() -> Task<i64, i64> {
    Task::new("double", async |n: i64, _| Ok(n * 2))
}

fn func() -> Arc<Graph> {
    let slow = Task::new("slow", async |n: i64, _| {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(n + 100)
    });
    let run = move |n: i64, ctx: NodeContext| {
        let slow = slow.clone();
        async move {
            let first = double().call(&ctx, n).await?;
            let (one, two) = (slow.call(&ctx, first), double().call(&ctx, first));
            let both = (two.await?, one.await?);
            let value = value!([ctx.previous().clone(), first, both.0, both.1]);
            Ok(Final { value, save: first })
        }
    };
    entrypoint("workflow", run).compile()
}

fn func_ask() -> Arc<Graph> {
    let note = Task::new("note", async |text: String, _| Ok(format!("noted {text}")));
    let question = Task::new("question", async |text: String, ctx: NodeContext| {
        let answer = ctx.interrupt(text.as_str())?;
        Ok(format!("{text} {}", answer.as_str().unwrap()))
    });
    let run = move |_: i64, ctx: NodeContext| {
        let (note, question) = (note.clone(), question.clone());
        async move {
            let a = note.call(&ctx, "a".into()).await?;
            let b = question.call(&ctx, "b?".into()).await?;
            let c = ctx.interrupt("c?")?;
            let d = question.call(&ctx, "d?".into()).await?;
            Ok(value!([a, b, c, d]))
        }
    };
    entrypoint("workflow", run).compile()
}

fn func_nested() -> Arc<Graph> {
    let inner = Task::new("inner", async |n: i64, _| Ok(n + 1));
    let nested = inner.clone();
    let outer = Task::new("outer", move |n: i64, ctx: NodeContext| {
        let inner = nested.clone();
        async move { Ok([inner.call(&ctx, n).await?, inner.call(&ctx, n * 10).await?]) }
    });
    let run = move |n: i64, ctx: NodeContext| {
        let (inner, outer) = (inner.clone(), outer.clone());
        async move {
            let (a, b) = (outer.call(&ctx, n).await?, outer.call(&ctx, n + 1).await?);
            Ok((a, b, inner.call(&ctx, n).await?))
        }
    };
    entrypoint("workflow", run).compile()
}

fn func_fail() -> Arc<Graph> {
    let tries = Arc::new(AtomicI64::new(0));
    let count = tries.clone();
    let steady = Task::new("steady", move |_: i64, _| {
        let n = count.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Ok(n) }
    });
    let flaky = Task::new("flaky", move |_: i64, _| {
        let n = tries.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if n == 2 {
                return Err(Error::invalid("boom").class("ValueError"));
            }
            Ok(n)
        }
    });
    let run = move |n: i64, ctx: NodeContext| {
        let (steady, flaky) = (steady.clone(), flaky.clone());
        async move { Ok([steady.call(&ctx, n).await?, flaky.call(&ctx, n).await?]) }
    };
    entrypoint("workflow", run).compile()
}

fn func_catch() -> Arc<Graph> {
    let bad = Task::new("bad", async |n: i64, _| -> agentflow_types::Result<i64> {
        Err(Error::invalid(format!("bad {n}")).class("ValueError"))
    });
    let run = move |n: i64, ctx: NodeContext| {
        let bad = bad.clone();
        async move {
            let error = bad.call(&ctx, n).await.unwrap_err();
            Ok(error.message().to_owned())
        }
    };
    entrypoint("workflow", run).compile()
}

fn func_node() -> GraphBuilder {
    let work = Task::new("work", async |n: i64, _| Ok(n * 10));
    let again = work.clone();
    let mut g = plain_state("func_node");
    g.node("node", move |_, ctx: NodeContext| {
        let work = work.clone();
        async move {
            let both = (work.call(&ctx, 1).await?, work.call(&ctx, 2).await?);
            Ok(value!({"items": [both.0, both.1]}).into())
        }
    });
    g.node("sent", move |arg: Value, ctx: NodeContext| {
        let work = again.clone();
        async move {
            let x = arg.get("x").and_then(Value::as_i64).unwrap();
            Ok(value!({"items": [work.call(&ctx, x).await?]}).into())
        }
    });
    g.edge(START, "node");
    let path =
        |_: &Value, _: &NodeContext| Ok([7, 8].map(|x| send("sent", value!({"x": x}))).to_vec());
    g.branch("node", path, ["sent"]);
    g
}

fn boom(text: &str) -> Error {
    Error::invalid(text.to_owned()).class("ValueError")
}

fn handled() -> GraphBuilder {
    let mut g = plain_state("handled");
    g.node("bad", |_, _| async { Err(boom("boom")) });
    g.error_handler("bad", |s: Value, failure: NodeFailure, _| async move {
        let line = format!("{}: {}", failure.node, failure.error.message());
        Ok(Command {
            update: Some(value!({"items": [line, text(&s, "value")]})),
            goto: vec![goto("after")],
            ..Command::default()
        }
        .into())
    });
    g.node("fine", after(30, value!({"items": ["fine"]})));
    g.node("never", fixed(value!({"value": "never"})));
    g.node("after", fixed(value!({"value": "after"})));
    g.edge(START, "bad")
        .edge(START, "fine")
        .edge("bad", "never");
    g
}

fn handled_by_default() -> GraphBuilder {
    let mut g = plain_state("handled_by_default");
    g.node("work", |arg: Value, _| async move {
        match arg.get("x").and_then(Value::as_i64) {
            Some(1) => Err(boom("one")),
            x => Ok(value!({"items": [x.unwrap()]}).into()),
        }
    });
    g.default_error_handler(|arg: Value, failure: NodeFailure, _| async move {
        let x = arg.get("x").and_then(Value::as_i64).unwrap();
        let line = format!("{} {x} {}", failure.node, failure.error.message());
        Ok(value!({"items": [line]}).into())
    });
    let path =
        |_: &Value, _: &NodeContext| Ok((0..3).map(|x| send("work", value!({"x": x}))).collect());
    g.branch(START, path, ["work"]);
    g
}

fn handler_fails() -> GraphBuilder {
    let (runs, tries) = (AtomicI64::new(0), AtomicI64::new(0));
    let mut g = plain_state("handler_fails");
    g.node("bad", move |_, _| {
        let n = runs.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Err(boom(&format!("boom {n}"))) }
    });
    g.error_handler("bad", move |_, _, _| {
        let n = tries.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if n == 1 {
                return Err(boom("handler"));
            }
            Ok(value!({"items": [n]}).into())
        }
    });
    g.edge(START, "bad");
    g
}

fn handler_asks() -> GraphBuilder {
    let mut g = plain_state("handler_asks");
    g.node("bad", |_, _| async { Err(boom("boom")) });
    g.error_handler(
        "bad",
        |_, failure: NodeFailure, ctx: NodeContext| async move {
            let answer = ctx.interrupt(format!("what about {}?", failure.node))?;
            Ok(Value::object([("items", Value::list(vec![answer]))]).into())
        },
    );
    g.edge(START, "bad");
    g
}

fn cached() -> GraphBuilder {
    let runs = AtomicI64::new(0);
    let key = |s: &Value| text(s, "value").into_bytes();
    let options = NodeOptions {
        cache: Some(CachePolicy::default().key(key)),
        ..NodeOptions::default()
    };
    let mut g = plain_state("cached");
    g.node_with("work", options, move |_, _| {
        let n = runs.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Ok(value!({"items": [n], "n": 1}).into()) }
    });
    g.edge(START, "work");
    g
}

fn cached_task() -> Arc<Graph> {
    let runs = AtomicI64::new(0);
    let work = Task::new("work", move |n: i64, _| {
        let run = runs.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Ok([n, run]) }
    })
    .options(TaskOptions {
        cache: Some(CachePolicy::default()),
        ..TaskOptions::default()
    });
    let run = move |n: i64, ctx: NodeContext| {
        let work = work.clone();
        async move { Ok([work.call(&ctx, 1).await?, work.call(&ctx, n).await?]) }
    };
    entrypoint("workflow", run).compile()
}

fn managed() -> GraphBuilder {
    let mut g = GraphBuilder::new("managed");
    g.channel("items", Channel::append());
    g.managed("left", Managed::RemainingSteps);
    g.managed("is_last", Managed::IsLastStep);
    for name in ["a", "b"] {
        g.node(name, |s: Value, _| async move {
            let seen = ["left", "is_last"].map(|key| s.get(key).cloned().unwrap());
            let seen = Value::list(seen.to_vec());
            Ok(Value::object([("items", Value::list(vec![seen]))]).into())
        });
    }
    g.edge(START, "a");
    let a = |s: &Value, _: &NodeContext| {
        let more = s.get("left").and_then(Value::as_i64) > Some(1);
        Ok(vec![goto(if more { "b" } else { END })])
    };
    let b = |s: &Value, _: &NodeContext| {
        let last = s.get("is_last").and_then(Value::as_bool) == Some(true);
        Ok(vec![goto(if last { END } else { "a" })])
    };
    g.branch("a", a, ["b", END]).branch("b", b, ["a", END]);
    g
}

fn drain() -> GraphBuilder {
    let drained = AtomicI64::new(0);
    let mut inner = plain_state("inner");
    inner.node("b", move |_, ctx: NodeContext| {
        if drained.fetch_add(1, Ordering::Relaxed) == 0 {
            ctx.request_drain();
        }
        async { Ok(value!({"items": ["b"]}).into()) }
    });
    inner.node("c", fixed(value!({"items": ["c"]})));
    inner.edge(START, "b").edge("b", "c");
    let mut g = plain_state("drain");
    g.node("a", fixed(value!({"items": ["a"]})));
    g.subgraph("sub", inner.compile().unwrap());
    g.node("d", fixed(value!({"items": ["d"]})));
    g.edge(START, "a").edge("a", "sub").edge("sub", "d");
    g
}

fn count(state: &Value) -> i64 {
    state.get("n").and_then(Value::as_i64).unwrap_or(0)
}

fn counting(persistence: Persistence) -> Arc<Graph> {
    let mut g = plain_state("counting");
    g.node("count", fixed(value!({"n": 1})));
    g.node("ask", |s: Value, ctx: NodeContext| async move {
        let answer = ctx.interrupt("inner")?;
        let line = format!("{} {}", count(&s), answer.as_str().unwrap());
        Ok(value!({"items": [line]}).into())
    });
    g.edge(START, "count").edge("count", "ask");
    g.persistence(persistence);
    g.compile().unwrap()
}

fn silent(persistence: Persistence) -> Arc<Graph> {
    let mut g = plain_state("silent");
    g.node("count", fixed(value!({"n": 1})));
    g.node("tell", |s: Value, _| async move {
        Ok(value!({"items": [count(&s).to_string()]}).into())
    });
    g.edge(START, "count").edge("count", "tell");
    g.persistence(persistence);
    g.compile().unwrap()
}

fn around(sub: Arc<Graph>) -> GraphBuilder {
    let mut g = GraphBuilder::new("around");
    g.channel("items", Channel::append());
    g.node("before", fixed(value!({"items": ["before"]})));
    g.subgraph("sub", sub);
    g.edge(START, "before").edge("before", "sub");
    g
}

fn leaving(update: Value, goto: Vec<Goto>) -> NodeOutput {
    Command {
        graph: Some("__parent__".into()),
        update: Some(update),
        goto,
        ..Command::default()
    }
    .into()
}

fn sub_deep() -> GraphBuilder {
    let to = |names: &[&str]| NodeOptions {
        destinations: names.iter().map(|n| (*n).to_owned()).collect(),
        ..NodeOptions::default()
    };
    let mut leaf = plain_state("leaf");
    leaf.node("leave", |_, _| async {
        Ok(leaving(value!({"items": ["leaf"]}), vec![goto("beside")]))
    });
    leaf.edge(START, "leave");
    let mut middle = plain_state("middle");
    middle.subgraph_with("leaf", to(&["beside"]), leaf.compile().unwrap());
    middle.node("beside", |s: Value, _| async move {
        let all = [items(&s, "items"), &[Value::str("beside")]].concat();
        let update = Value::object([("items", Value::list(all))]);
        let next = vec![send("target", value!({"x": 1})), goto("other")];
        Ok(leaving(update, next))
    });
    middle.edge(START, "leaf");
    let mut g = plain_state("sub_deep");
    g.subgraph_with(
        "middle",
        to(&["target", "other"]),
        middle.compile().unwrap(),
    );
    g.node("target", |arg: Value, _| async move {
        Ok(value!({"items": [arg.get("x").cloned().unwrap()]}).into())
    });
    g.node("other", fixed(value!({"value": "other"})));
    g.edge(START, "middle");
    g
}

fn sub_func() -> GraphBuilder {
    let work = Task::new("work", async |n: i64, ctx: NodeContext| {
        Ok(n + ctx.interrupt("how many?")?.as_i64().unwrap())
    });
    let run = move |n: i64, ctx: NodeContext| {
        let work = work.clone();
        async move { work.call(&ctx, n).await }
    };
    let inner = entrypoint("inner", run).compile();
    let mut g = plain_state("sub_func");
    g.node("call", move |_, ctx: NodeContext| {
        let inner = inner.clone();
        async move {
            let one = ctx.invoke(&inner, value!(1)).await?;
            let two = ctx.invoke(&inner, value!(2)).await?;
            Ok(Value::object([("items", Value::list(vec![one, two]))]).into())
        }
    });
    g.edge(START, "call");
    g
}

fn sub_twice() -> GraphBuilder {
    let sub = counting(Persistence::Persistent);
    let mut g = GraphBuilder::new("sub_twice");
    g.channel("items", Channel::append());
    g.node("call", move |_, ctx: NodeContext| {
        let sub = sub.clone();
        async move {
            let one = ctx.invoke(&sub, value!({"items": ["1"]})).await?;
            let two = ctx.invoke(&sub, value!({"items": ["2"]})).await?;
            let both = [one, two].map(|state| state.get("items").cloned().unwrap());
            Ok(Value::object([("items", Value::list(both.to_vec()))]).into())
        }
    });
    g.edge(START, "call");
    g
}

fn sub_defer() -> GraphBuilder {
    let mut g = plain_state("sub_defer");
    g.node("a", fixed(value!({"items": ["a"]})));
    g.subgraph("sub", silent(Persistence::Inherit));
    let options = NodeOptions {
        defer: true,
        ..NodeOptions::default()
    };
    g.node_with("last", options, |s: Value, ctx: NodeContext| async move {
        let n = i64::try_from(items(&s, "items").len()).unwrap();
        Ok(Value::object([("value", ctx.interrupt(n)?)]).into())
    });
    g.edge(START, "a").edge(START, "sub").edge("a", "last");
    g.join(["a", "sub"], "last");
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
        "func" => return func(),
        "func_ask" => return func_ask(),
        "func_nested" => return func_nested(),
        "func_fail" => return func_fail(),
        "func_catch" => return func_catch(),
        "func_node" => func_node(),
        "handled" => handled(),
        "handled_by_default" => handled_by_default(),
        "handler_fails" => handler_fails(),
        "handler_asks" => handler_asks(),
        "cached" => cached(),
        "cached_task" => return cached_task(),
        "managed" => managed(),
        "drain" => drain(),
        "sub_inherit" => around(counting(Persistence::Inherit)),
        "sub_own" => around(counting(Persistence::Persistent)),
        "sub_none" => around(silent(Persistence::None)),
        "sub_own_silent" => around(silent(Persistence::Persistent)),
        "sub_deep" => sub_deep(),
        "sub_func" => sub_func(),
        "sub_twice" => sub_twice(),
        "sub_defer" => sub_defer(),
        other => panic!("unknown graph {other}"),
    };
    builder.compile().unwrap()
}
