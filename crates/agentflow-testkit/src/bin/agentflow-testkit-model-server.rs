//! The model server as a program, for tests in other languages.
//!
//! Prints one JSON line when it is ready and runs until it is stopped.

use std::{io, path::PathBuf, process::ExitCode};

use agentflow_testkit::{ModelServer, Script};
use clap::Parser;

/// A scriptable model server on a loopback port: OpenAI's, Anthropic's and Ollama's APIs.
#[derive(Debug, Parser)]
struct Args {
    /// Port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Script file in JSON; without one, requests are echoed.
    #[arg(long)]
    script: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agentflow-testkit-model-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> io::Result<()> {
    let script = match args.script {
        Some(path) => serde_json::from_slice(&std::fs::read(path)?)?,
        None => Script::default(),
    };
    let server = ModelServer::start_on(script, args.port).await?;
    let ready = serde_json::json!({
        "event": "ready",
        "port": server.port(),
        "url": server.url(),
        "openai_base_url": server.openai_url(),
    });
    println!("{ready}");
    tokio::signal::ctrl_c().await
}
