//! What work costs: time, processor time here and in the database, bytes that the database wrote.

use std::{fs, time::Instant};

use agentflow_testkit::servers::postgres::Address;
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Bytes of write-ahead log since ever, and bytes of LangGraph's tables with their indexes.
const BYTES: &str = "SELECT pg_current_wal_insert_lsn() - '0/0', (SELECT
    sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r'
    AND relname IN ('checkpoints', 'checkpoint_blobs', 'checkpoint_writes'))";

/// Reads what a database and its processes have used so far.
pub struct Meter {
    pub address: Address,
    pub database: String,
    /// The server's first process, the parent of all others.
    pub postmaster: u32,
}

/// What was used when it was read.
pub struct Reading {
    at: Instant,
    cpu: f64,
    database_cpu: f64,
    wal: f64,
    tables: f64,
}

impl Meter {
    /// What has been used up to now.
    pub fn read(&self) -> Result<Reading> {
        let text = self.address.sql(&self.database, BYTES)?;
        let (wal, tables) = text.split_once('|').context("no bytes")?;
        Ok(Reading {
            wal: wal.parse()?,
            tables: tables.parse()?,
            database_cpu: family(self.postmaster),
            cpu: own(),
            at: Instant::now(),
        })
    }

    /// What was used since a reading, as one line of JSON for so many units of work.
    pub fn since(&self, before: &Reading, case: &str, units: i64) -> Result<Value> {
        let seconds = before.at.elapsed().as_secs_f64();
        let now = self.read()?;
        let units = units as f64;
        Ok(json!({
            "case": case,
            "per_second": units / seconds,
            "cpu_us": (now.cpu - before.cpu) * 1e6 / units,
            "database_cpu_us": (now.database_cpu - before.database_cpu) * 1e6 / units,
            "wal_bytes": (now.wal - before.wal) / units,
            "table_bytes": (now.tables - before.tables) / units,
        }))
    }
}

/// Seconds of processor time of this process's threads that live.
fn own() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    tasks.flatten().map(|task| ran(&task.path())).sum()
}

/// Seconds of processor time of a process and its children that live.
fn family(pid: u32) -> f64 {
    let own = format!("/proc/{pid}");
    let children = fs::read_to_string(format!("{own}/task/{pid}/children")).unwrap_or_default();
    let children = children
        .split_whitespace()
        .map(|child| ran(format!("/proc/{child}").as_ref()));
    children.sum::<f64>() + ran(own.as_ref())
}

/// Seconds that a thread ran; its folder may be gone.
fn ran(folder: &std::path::Path) -> f64 {
    let text = fs::read_to_string(folder.join("schedstat")).unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|first| first.parse().ok());
    nanos.map_or(0.0, |nanos: f64| nanos / 1e9)
}
