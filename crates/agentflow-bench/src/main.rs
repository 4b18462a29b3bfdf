//! Load generators and the crash driver; `cargo xtask` calls them.

mod chaos;
mod checkpoints;
mod cpu;
mod crash;
mod database;
mod drive;
mod engine;
mod floor;
mod graphs;
mod load;
mod memory;
mod meter;
mod replicas;
mod soak;
mod streams;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Break what is between servers and their PostgreSQL, and check what they promised.
    Chaos(chaos::Args),
    /// Time what storing supersteps on PostgreSQL costs; one JSON line per case.
    Checkpoints(checkpoints::Args),
    /// Start a PostgreSQL server to measure; it stops when the input ends.
    Database(database::Args),
    /// Kill a server at random moments under load and check what it promised.
    Crash(crash::Args),
    /// Time the graph engine; one JSON line per case.
    Engine(engine::Args),
    /// Load an agent server; one JSON line per case.
    Load(load::Args),
    /// Time adding and finding memories; one JSON line per case.
    Memory(memory::Args),
    /// Run a command with two servers on PostgreSQL and Redis, everything over TLS.
    Replicas(replicas::Args),
    /// Mixed load for a long time on two servers, one of which is killed again and again.
    Soak(soak::Args),
    /// Hold many streams open on an agent server; one JSON line per case.
    Streams(streams::Args),
}

fn main() -> Result<()> {
    // A second install in one process would be the only error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new;
    match Cli::parse().command {
        Command::Chaos(args) => runtime()?.block_on(chaos::run(args)),
        Command::Checkpoints(args) => runtime()?.block_on(checkpoints::run(args)),
        Command::Crash(args) => runtime()?.block_on(crash::run(args)),
        Command::Database(args) => database::run(&args),
        Command::Engine(args) => runtime()?.block_on(engine::run(&args)),
        Command::Load(args) => load::run(&args),
        Command::Memory(args) => runtime()?.block_on(memory::run(args)),
        Command::Replicas(args) => runtime()?.block_on(replicas::run(args)),
        Command::Soak(args) => runtime()?.block_on(soak::run(args)),
        Command::Streams(args) => runtime()?.block_on(streams::run(&args)),
    }
}
