//! Times of the graph engine: loops, fan-out, growing messages, with and without SQLite.

use std::{path::PathBuf, sync::Arc, time::Instant};

use agentflow_embedded::{Embedded, Options};
use agentflow_graph::{Graph, Invocation, Runtime};
use agentflow_types::{Value, graph::Durability, value};
use anyhow::Result;
use serde_json::json;

use crate::{
    floor,
    graphs::{counter, fan, says},
};

/// Supersteps of a loop.
const STEPS: i64 = 1000;
/// Tasks of a fan-out.
const FAN: i64 = 100;
/// Supersteps of a conversation.
const MESSAGES: i64 = 100;
/// Bytes of the large message.
const MESSAGE_BYTES: usize = 100 * 1024;

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
    let (counter, fan, chat) = (counter(STEPS)?, fan(FAN)?, says(MESSAGES)?);
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
        case("messages_100kb", &chat, &messages, MESSAGES, None),
        case(
            "messages_100kb_sqlite_sync",
            &chat,
            &messages,
            MESSAGES,
            Some(Durability::Sync),
        ),
    ])
}

/// Times each case once and prints µs per unit; with a database also what SQLite alone takes.
pub async fn run(args: &Args) -> Result<()> {
    for case in cases()?
        .iter()
        .filter(|case| case.name.contains(&args.only))
    {
        let folder = tempfile::tempdir_in(&args.dir)?;
        let path = folder.path().join("bench.db");
        let mut database = match case.durability {
            Some(_) => Some(Embedded::open(&path, Options::default())?),
            None => None,
        };
        let saver = database.as_ref().map(|db| db.backend().checkpoints);
        let runtime = Runtime {
            saver,
            ..Runtime::default()
        };
        // Once without storage, untimed: the first run of a program pays for what is loaded lazily.
        let first = Invocation::new(case.input.clone());
        case.graph.run(&Runtime::default(), first, None).await?;
        let mut invocation = Invocation::new(case.input.clone()).thread("bench");
        invocation.durability = case.durability.unwrap_or_default();
        let started = Instant::now();
        case.graph.run(&runtime, invocation, None).await?;
        print_case(case.name, started.elapsed().as_secs_f64() * 1e6, case.units);
        drop(runtime);
        if database.take().is_some() {
            let micros = floor::insert_again(&path, &folder.path().join("floor.db"))?;
            print_case(&format!("floor_{}", case.name), micros, case.units);
        }
    }
    Ok(())
}

fn print_case(name: &str, micros: f64, units: i64) {
    let line = json!({"case": name, "us_per_unit": micros / units as f64});
    println!("{line}");
}
