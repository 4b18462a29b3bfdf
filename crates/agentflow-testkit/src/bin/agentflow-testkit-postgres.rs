//! A new PostgreSQL database as a program, for tests in other languages.
//!
//! Prints one JSON line with its address and keeps it until it is stopped.

use std::process::ExitCode;

use agentflow_testkit::servers::postgres::{self, Version};
use agentflow_types::{Error, Result};

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agentflow-testkit-postgres: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<()> {
    let database = postgres::shared(Version::Debian)?.create_database()?;
    println!(
        "{}",
        serde_json::json!({"event": "ready", "url": database.url()})
    );
    let stopped = tokio::signal::ctrl_c().await;
    stopped.map_err(|err| Error::busy("signals cannot be listened for").source_err(err))
}
