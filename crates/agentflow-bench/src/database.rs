//! A PostgreSQL server that flushes each commit to the disk, for as long as somebody measures.

use std::io::Read as _;

use agentflow_testkit::servers::postgres::{APP, Options, Own, Version};
use anyhow::{Context, Result};
use serde_json::json;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Databases to create on it.
    #[arg(required = true)]
    names: Vec<String>,
}

/// Settings that differ from those of tests: a commit is a flush, and nothing but the load makes
/// the server write.
const SETTINGS: [(&str, &str); 7] = [
    ("fsync", "on"),
    ("shared_buffers", "256MB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum_naptime", "1min"),
    ("max_connections", "100"),
    ("shared_preload_libraries", "pg_stat_statements"),
];

/// Starts the server, prints how it is reached as one JSON line, and stops it when the input ends.
pub fn run(args: &Args) -> Result<()> {
    let options = SETTINGS
        .iter()
        .fold(Options::new(Version::V17), |options, (name, value)| {
            options.set(name, value)
        });
    let server = Own::start(&options)?;
    let address = server.address();
    for name in &args.names {
        let sql = format!("CREATE DATABASE {name} OWNER {APP}");
        address.sql("postgres", &sql)?;
    }
    let file = server.folder().join("data").join("postmaster.pid");
    let pid: u32 = std::fs::read_to_string(file)?
        .lines()
        .next()
        .context("the server has no process")?
        .parse()?;
    let line = json!({
        "port": address.port,
        "pid": pid,
        "admin": address.admin_url("postgres"),
        "app": address.url("postgres"),
        "version": address.sql("postgres", "SHOW server_version")?,
    });
    println!("{line}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
