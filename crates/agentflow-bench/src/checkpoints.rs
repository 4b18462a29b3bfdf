//! What storing each superstep costs on PostgreSQL: loops of one node, and conversations.

use std::sync::Arc;

use agentflow_graph::{Channel, Graph, Invocation, Runtime};
use agentflow_postgres::{Dsn, Listen, Options, Postgres};
use agentflow_testkit::servers::postgres::{Address, Version};
use agentflow_types::{Value, graph::Durability, value};
use anyhow::Result;

use crate::{
    graphs::{conversation, counter, noise},
    meter::Meter,
};

/// Supersteps of one thread alone, and of each of many.
const STEPS: i64 = 200;
const STEPS_EACH: i64 = 60;
/// Threads at once.
const THREADS: i64 = 16;
/// Supersteps of a conversation that starts with a large message.
const TALK: i64 = 30;
/// Supersteps of one part of a conversation that grows, and its parts.
const PART: i64 = 50;
const PARTS: i64 = 4;
/// Bytes of each message.
const MESSAGE: usize = 1 << 10;
/// Bytes that a conversation starts with.
const STARTS: [(&str, usize); 3] = [("1kb", 1 << 10), ("100kb", 100 << 10), ("1mb", 1 << 20)];

/// How a conversation is kept.
type Kept = fn() -> Channel;

/// Conversations that are kept whole, and as what changed.
const CHANNELS: [(&str, Kept); 2] = [
    ("whole", Channel::messages),
    ("delta", Channel::delta_messages),
];

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Port of the server of `agentflow-bench database`.
    #[arg(long)]
    port: u16,
    /// Its process.
    #[arg(long)]
    postmaster: u32,
    /// Database, empty or used for this before.
    #[arg(long)]
    database: String,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

struct Bench {
    runtime: Arc<Runtime>,
    meter: Meter,
    only: String,
}

/// Measures each case once; one JSON line per case.
pub async fn run(args: Args) -> Result<()> {
    let address = Address {
        port: args.port,
        version: Version::V17,
    };
    let options = Options {
        listen: Listen::Off,
        ..Options::new(Dsn::parse(&address.url(&args.database))?)
    };
    let postgres = Postgres::open(options).await?;
    let bench = Bench {
        runtime: Arc::new(Runtime::with_saver(postgres.backend().checkpoints)),
        meter: Meter {
            address,
            database: args.database,
            postmaster: args.postmaster,
        },
        only: args.only,
    };
    for threads in [1, THREADS] {
        for durability in [Durability::Sync, Durability::Async] {
            bench.loops(threads, durability).await?;
        }
    }
    for (name, channel) in CHANNELS {
        for (size, bytes) in STARTS {
            bench
                .talk(&format!("talk_{name}_{size}"), channel(), bytes)
                .await?;
        }
        bench.growth(&format!("grow_{name}"), channel()).await?;
    }
    Ok(())
}

impl Bench {
    fn wants(&self, case: &str) -> bool {
        case.contains(&self.only)
    }

    async fn turn(
        &self,
        graph: &Arc<Graph>,
        thread: &str,
        input: Value,
        how: Durability,
    ) -> Result<()> {
        let mut invocation = Invocation::new(input).thread(thread);
        invocation.durability = how;
        graph.run(&self.runtime, invocation, None).await?;
        Ok(())
    }

    /// So many threads at once, each a loop.
    async fn loops(&self, threads: i64, durability: Durability) -> Result<()> {
        let word = match durability {
            Durability::Async => "async",
            _ => "sync",
        };
        let case = format!("loop_{word}_{threads}");
        if !self.wants(&case) {
            return Ok(());
        }
        let steps = if threads == 1 { STEPS } else { STEPS_EACH };
        let all = async |name: &str, steps: i64| -> Result<()> {
            let graph = counter(steps)?;
            let turns = (0..threads).map(|thread| {
                let thread = format!("{case} {name} {thread} {}", std::process::id());
                let (graph, runtime) = (graph.clone(), self.runtime.clone());
                tokio::spawn(async move {
                    let mut invocation = Invocation::new(value!({"n": 0})).thread(&thread);
                    invocation.durability = durability;
                    graph.run(&runtime, invocation, None).await
                })
            });
            // Started all at once, then awaited.
            for turn in turns.collect::<Vec<_>>() {
                turn.await??;
            }
            Ok(())
        };
        // Opens the connections.
        all("warm", 5).await?;
        let before = self.meter.read()?;
        all("measured", steps).await?;
        let line = self.meter.since(&before, &case, steps * threads)?;
        println!("{line}");
        Ok(())
    }

    /// A conversation that starts with a large message.
    async fn talk(&self, case: &str, messages: Channel, bytes: usize) -> Result<()> {
        if !self.wants(case) {
            return Ok(());
        }
        let graph = conversation(messages, TALK, MESSAGE)?;
        let thread = format!("{case} {}", std::process::id());
        let first = value!({"messages": [["user", noise(bytes)]], "n": 0});
        let before = self.meter.read()?;
        self.turn(&graph, &thread, first, Durability::Sync).await?;
        println!("{}", self.meter.since(&before, case, TALK)?);
        Ok(())
    }

    /// A conversation of several turns, each measured by itself.
    async fn growth(&self, case: &str, messages: Channel) -> Result<()> {
        if !self.wants(case) {
            return Ok(());
        }
        let graph = conversation(messages, PART, MESSAGE)?;
        let thread = format!("{case} {}", std::process::id());
        for part in 1..=PARTS {
            let said = value!({"messages": [["user", noise(MESSAGE)]]});
            let before = self.meter.read()?;
            self.turn(&graph, &thread, said, Durability::Sync).await?;
            let case = format!("{case}_{}", part * PART);
            println!("{}", self.meter.since(&before, &case, PART)?);
        }
        Ok(())
    }
}
