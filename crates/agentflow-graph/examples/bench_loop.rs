//! Measures the engine without a saver: microseconds per superstep of a loop, per task of a
//! fan-out, and per superstep with a large message state. Prints one JSON line per case.
//!
//! Run with `cargo run --release -p agentflow-graph --example bench_loop`.

use std::{sync::Arc, time::Instant};

use agentflow_graph::{Channel, Graph, GraphBuilder, NodeContext, START, goto, send};
use agentflow_types::{Result, Value, message, value};

/// Supersteps of the loops.
const STEPS: i64 = 1_000;
/// Packets of the fan-out.
const SENDS: i64 = 100;
/// Bytes of text in the message state.
const MESSAGE_BYTES: usize = 100 * 1024;
/// Messages that hold that text.
const MESSAGES: usize = 100;
/// Runs of each case; the median counts.
const RUNS: usize = 21;

fn stop_after(
    steps: i64,
) -> impl Fn(&Value, &NodeContext) -> Result<Vec<agentflow_types::graph::Goto>> {
    move |state, _| {
        let n = state.get("n").and_then(Value::as_i64).unwrap_or(0);
        Ok(if n < steps {
            vec![goto("work")]
        } else {
            vec![]
        })
    }
}

fn count(state: &Value) -> i64 {
    state.get("n").and_then(Value::as_i64).unwrap_or(0) + 1
}

fn one_node_loop() -> Result<Arc<Graph>> {
    let mut g = GraphBuilder::new("loop");
    g.channel("n", Channel::last_value());
    g.node("work", |state: Value, _| async move {
        Ok(Value::object([("n", Value::Int(count(&state)))]).into())
    });
    g.edge(START, "work")
        .branch("work", stop_after(STEPS), ["work"]);
    g.compile()
}

fn fan_out() -> Result<Arc<Graph>> {
    let mut g = GraphBuilder::new("fan-out");
    g.channel("items", Channel::append());
    g.node("plan", |_, _| async { Ok(().into()) });
    g.node("work", |arg: Value, _| async move {
        Ok(Value::object([("items", Value::list(vec![arg]))]).into())
    });
    let path =
        |_: &Value, _: &NodeContext| Ok((0..SENDS).map(|i| send("work", Value::Int(i))).collect());
    g.edge(START, "plan").branch("plan", path, ["work"]);
    g.compile()
}

fn chat_loop() -> Result<Arc<Graph>> {
    let mut g = GraphBuilder::new("chat");
    g.channel("n", Channel::last_value());
    g.channel("messages", Channel::messages());
    g.node("work", |state: Value, _| async move {
        let n = count(&state);
        let reply = message::with_id(&message::ai("ok"), &format!("reply-{}", n % 10));
        Ok(Value::object([("n", Value::Int(n)), ("messages", reply)]).into())
    });
    g.edge(START, "work")
        .branch("work", stop_after(STEPS), ["work"]);
    g.compile()
}

fn large_messages() -> Value {
    let text = "x".repeat(MESSAGE_BYTES / MESSAGES);
    let one = |i: usize| message::with_id(&message::human(text.as_str()), &format!("m-{i}"));
    Value::object([("messages", Value::list((0..MESSAGES).map(one).collect()))])
}

async fn measure(
    name: &str,
    unit: &str,
    graph: &Arc<Graph>,
    input: Value,
    units: f64,
) -> Result<()> {
    let mut micros = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        graph.invoke(input.clone()).await?;
        micros.push(start.elapsed().as_secs_f64() * 1e6 / units);
    }
    micros.sort_by(f64::total_cmp);
    let (median, best) = (micros[RUNS / 2], micros[0]);
    let line = value!({"case": name, "unit": unit, "median_us": median, "best_us": best});
    println!("{line}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let start = value!({"n": 0});
    measure(
        "loop_1000",
        "superstep",
        &one_node_loop()?,
        start,
        STEPS as f64,
    )
    .await?;
    measure(
        "fan_out_100",
        "task",
        &fan_out()?,
        value!({"items": []}),
        SENDS as f64,
    )
    .await?;
    let chat = chat_loop()?;
    measure(
        "loop_1000_messages_100kb",
        "superstep",
        &chat,
        large_messages(),
        STEPS as f64,
    )
    .await
}
