//! Load generators and the crash driver; `cargo xtask` calls them.

mod cpu;
mod crash;
mod engine;
mod floor;
mod load;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Kill a server at random moments under load and check what it promised.
    Crash(crash::Args),
    /// Time the graph engine; one JSON line per case.
    Engine(engine::Args),
    /// Load an agent server; one JSON line per case.
    Load(load::Args),
}

fn main() -> Result<()> {
    // A second install in one process would be the only error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new;
    match Cli::parse().command {
        Command::Crash(args) => runtime()?.block_on(crash::run(args)),
        Command::Engine(args) => runtime()?.block_on(engine::run(&args)),
        Command::Load(args) => load::run(&args),
    }
}
