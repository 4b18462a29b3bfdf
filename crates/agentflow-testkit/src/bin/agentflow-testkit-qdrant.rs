//! The stand-in for Qdrant as a program, for tests that start and kill processes, and for trying
//! `cargo xtask conformance vectors`.
//!
//! Prints one JSON line when it is ready and runs until it is stopped. Collections are in memory.

use std::{fs, io, path::PathBuf, process::ExitCode};

use agentflow_testkit::{
    qdrant::{Options, QdrantServer},
    servers::certs::Identity,
};
use clap::Parser;

/// Qdrant's gRPC services on a loopback port.
#[derive(Debug, Parser)]
struct Args {
    /// Port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// File with the key that callers must send.
    #[arg(long)]
    api_key_file: Option<PathBuf>,
    /// File with the server's certificate, PEM; without one there is no TLS.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// File with its key, PEM.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// File of the authority that must have signed the certificates of clients, PEM.
    #[arg(long, requires = "cert")]
    client_ca: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agentflow-testkit-qdrant: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> io::Result<()> {
    let api_key = args.api_key_file.map(fs::read_to_string).transpose()?;
    let identity = args.cert.zip(args.key);
    let options = Options {
        api_key: api_key.map(|key| key.trim_end().to_owned()),
        identity: identity.map(|(cert, key)| Identity { cert, key }),
        client_ca: args.client_ca,
        ..Options::default()
    };
    let server = QdrantServer::start_on(options, args.port).await?;
    let ready = serde_json::json!({
        "event": "ready",
        "port": server.port(),
        "url": server.url(),
    });
    println!("{ready}");
    tokio::signal::ctrl_c().await
}
