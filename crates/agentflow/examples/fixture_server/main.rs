//! A server with small native graphs, for the client tests, the crash driver and the benches.
//!
//! It is also an example of a Rust program that brings its own graphs:
//! `cargo run --example fixture_server -- --port 8123 --data ./data`.

mod agents;
mod graphs;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use agentflow::{
    app::{App, Keep},
    config, logging,
};
use agentflow_types::Result;
use clap::Parser;

#[derive(Parser)]
struct Args {
    /// Port on 127.0.0.1; 0 for any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Data folder; without one nothing is kept.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Log filter.
    #[arg(long, default_value = "warn")]
    log: String,
    /// Runs at once.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Attempts per run: many, because the crash driver kills the server on purpose, and that is
    /// not the fault of the runs.
    #[arg(long, default_value_t = 100)]
    max_attempts: u32,
}

async fn serve(args: Args, started: Instant) -> Result<()> {
    let keep = if args.data.is_some() {
        Keep::OnDisk
    } else {
        Keep::Nothing
    };
    let mut config = config::embedded(&args.data.unwrap_or_default())?;
    config.server.port = args.port;
    config.port_is_explicit = true;
    config.runs.concurrency = args.concurrency;
    config.runs.max_attempts = args.max_attempts;
    config.log.level = args.log;
    logging::start(&config.log)?;
    let mut app = App::new(config).keep(keep);
    for (id, hosted) in agentflow::project::built_in(&Default::default())? {
        if id == "review" {
            app = app.graph(&id, hosted.graph);
        }
    }
    for (id, graph) in graphs::all()?.into_iter().chain(agents::all()?) {
        app = app.graph(id, graph);
    }
    let server = app.start().await?;
    println!("{}", server.ready(started).json());
    server.until_signal().await
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Args::parse(), Instant::now()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:?}");
            ExitCode::FAILURE
        }
    }
}
