//! Times of the graph engine: loops, fan-out, growing messages, with and without SQLite.

use std::{path::PathBuf, sync::Arc, time::Instant};

use agentflow_embedded::{Embedded, Options};
use agentflow_graph::{Channel, END, Graph, GraphBuilder, Invocation, Runtime, START, goto, send};
use agentflow_types::{Value, graph::Durability, message, value};
use anyhow::Result;
use serde_json::json;

/// Supersteps of a loop.
const STEPS: i64 = 1000;
/// Tasks of a fan-out.
const FAN: i64 = 100;
/// Bytes of the large message.
const MESSAGE_BYTES: usize = 100 * 1024;
/// Rows of the floor measurement.
const ROWS: usize = 1000;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for databases; a fresh subfolder is used for each case.
    #[arg(long)]
    dir: PathBuf,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

fn counter() -> Result<Arc<Graph>> {
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
            |state: &Value, _| {
                let n = state.get("n").and_then(Value::as_i64).unwrap_or(0);
                Ok(vec![goto(if n < STEPS { "step" } else { END })])
            },
            ["step", END],
        );
    Ok(graph.compile()?)
}

fn fan() -> Result<Arc<Graph>> {
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
            |_: &Value, _| Ok((0..FAN).map(|i| send("work", Value::Int(i))).collect()),
            ["work"],
        )
        .edge("work", END);
    Ok(graph.compile()?)
}

fn chat() -> Result<Arc<Graph>> {
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
            |state: &Value, _| {
                let n = state.get("n").and_then(Value::as_i64).unwrap_or(0);
                Ok(vec![goto(if n < 100 { "say" } else { END })])
            },
            ["say", END],
        );
    Ok(graph.compile()?)
}

/// One way to run a graph.
struct Case {
    name: &'static str,
    graph: Arc<Graph>,
    input: Value,
    /// Units that one run has: supersteps or tasks.
    units: i64,
    durability: Option<Durability>,
}

fn cases() -> Result<Vec<Case>> {
    let large = "x".repeat(MESSAGE_BYTES);
    let messages = value!({"messages": [{"role": "user", "content": large, "id": "u"}], "n": 0});
    let case = |name, graph: &Arc<Graph>, input: &Value, units, durability| Case {
        name,
        graph: graph.clone(),
        input: input.clone(),
        units,
        durability,
    };
    let (counter, fan, chat) = (counter()?, fan()?, chat()?);
    let zero = value!({"n": 0});
    let start = value!({"out": []});
    Ok(vec![
        case("loop", &counter, &zero, STEPS, None),
        case(
            "loop_sqlite_sync",
            &counter,
            &zero,
            STEPS,
            Some(Durability::Sync),
        ),
        case(
            "loop_sqlite_async",
            &counter,
            &zero,
            STEPS,
            Some(Durability::Async),
        ),
        case(
            "loop_sqlite_exit",
            &counter,
            &zero,
            STEPS,
            Some(Durability::Exit),
        ),
        case("fan", &fan, &start, FAN, None),
        case("fan_sqlite_sync", &fan, &start, FAN, Some(Durability::Sync)),
        case("messages_100kb", &chat, &messages, 100, None),
        case(
            "messages_100kb_sqlite_sync",
            &chat,
            &messages,
            100,
            Some(Durability::Sync),
        ),
    ])
}

/// Times each case once and prints µs per unit.
pub async fn run(args: &Args) -> Result<()> {
    for case in cases()?
        .iter()
        .filter(|case| case.name.contains(&args.only))
    {
        let folder = tempfile::tempdir_in(&args.dir)?;
        let database = match case.durability {
            Some(_) => Some(Embedded::open(
                folder.path().join("bench.db"),
                Options::default(),
            )?),
            None => None,
        };
        let saver = database.as_ref().map(|db| db.backend().checkpoints);
        let runtime = Runtime {
            saver,
            ..Runtime::default()
        };
        let mut invocation = Invocation::new(case.input.clone()).thread("bench");
        invocation.durability = case.durability.unwrap_or_default();
        let started = Instant::now();
        case.graph.run(&runtime, invocation, None).await?;
        let micros = started.elapsed().as_secs_f64() * 1e6;
        println!(
            "{}",
            json!({"case": case.name, "us_per_unit": micros / case.units as f64})
        );
    }
    floor(args).await
}

/// The time of one committed write of a small checkpoint, alone: what a superstep cannot beat.
async fn floor(args: &Args) -> Result<()> {
    if !"floor_commit".contains(&args.only) {
        return Ok(());
    }
    use agentflow_storage::checkpoint::CheckpointOp;
    let folder = tempfile::tempdir_in(&args.dir)?;
    let database = Embedded::open(folder.path().join("bench.db"), Options::default())?;
    let saver = database.backend().checkpoints;
    let started = Instant::now();
    for row in 0..ROWS {
        let op = CheckpointOp::Writes {
            thread_id: "floor".into(),
            checkpoint_ns: String::new(),
            checkpoint_id: format!("{row:08}"),
            task_id: "task".into(),
            task_path: String::new(),
            writes: vec![("n".into(), Value::Int(1))],
        };
        saver.commit(vec![op], None).await?;
    }
    let micros = started.elapsed().as_secs_f64() * 1e6 / ROWS as f64;
    println!("{}", json!({"case": "floor_commit", "us_per_unit": micros}));
    Ok(())
}
