//! Load generators and the crash driver; `cargo xtask` calls them.

mod chaos;
mod checkpoints;
mod crash;
mod database;
mod drive;
mod engine;
mod floor;
mod graphs;
mod load;
mod meter;
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
    /// Mixed load for a long time on two servers, one of which is killed again and again.
    Soak(soak::Args),
    /// Hold many streams open on an agent server; one JSON line per case.
    Streams(streams::Args),
}

#[tokio::main]
async fn main() -> Result<()> {
    // A second install in one process would be the only error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Cli::parse().command {
        Command::Chaos(args) => chaos::run(args).await,
        Command::Checkpoints(args) => checkpoints::run(args).await,
        Command::Crash(args) => crash::run(args).await,
        Command::Database(args) => database::run(&args),
        Command::Engine(args) => engine::run(&args).await,
        Command::Load(args) => load::run(&args).await,
        Command::Soak(args) => soak::run(args).await,
        Command::Streams(args) => streams::run(&args).await,
    }
}
