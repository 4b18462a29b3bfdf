//! Benchmarks side by side: the peer and us in turn, in one command, as ratios.

mod checkpoints;
mod graph;
mod locomo;
mod memory;
mod streams;
mod worker;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell::{cargo, output, root, run, target};

pub use checkpoints::{Args as CheckpointArgs, run as checkpoints};
pub(crate) use graph::Peer;
pub use graph::{Args as GraphArgs, graph};
pub use locomo::{Args as LocomoArgs, locomo};
pub use memory::{Args as MemoryArgs, run as memory};
pub use streams::{Args as StreamArgs, run as streams};
pub use worker::{Args as WorkerArgs, worker};

/// The graphs that the peer's server is measured with.
fn peer_folder() -> PathBuf {
    root().join("clients").join("python").join("peer")
}

/// Builds the load generator and the server that is measured; their paths, in this order.
///
/// One command for both: apart, each would be built for link-time optimisation in its own way
/// and undo what the other needs.
fn programs() -> Result<(PathBuf, PathBuf)> {
    run(&mut cargo([
        "build",
        "--release",
        "-p",
        "agentflow-bench",
        "-p",
        "agentflow",
        "--bin",
        "agentflow-bench",
        "--example",
        "fixture_server",
    ]))?;
    let release = target().join("release");
    Ok((
        release.join("agentflow-bench"),
        release.join("examples").join("fixture_server"),
    ))
}

/// Small writes of one probe of the disk.
const PROBE_WRITES: u32 = 100;

/// Synced writes per second, and milliseconds of a fixed loop.
fn probe(folder: &Path) -> Result<(f64, f64)> {
    use std::io::Write;
    let path = folder.join("probe");
    let mut file = fs::File::create(&path)?;
    let started = Instant::now();
    for _ in 0..PROBE_WRITES {
        file.write_all(&[0; 64])?;
        file.sync_data()?;
    }
    let syncs = f64::from(PROBE_WRITES) / started.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    let started = Instant::now();
    let sum = (0..20_000_000_u64).fold(1_u64, |x, i| x.wrapping_mul(6_364_136_223_846_793_005) ^ i);
    std::hint::black_box(sum);
    Ok((syncs, started.elapsed().as_secs_f64() * 1e3))
}

/// JSON lines that a program prints.
fn json_lines(command: &mut std::process::Command) -> Result<Vec<Value>> {
    let text = output(command)?;
    text.lines()
        .map(|line| serde_json::from_str(line).context(line.to_owned()))
        .collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    format!("{:.1} [{low:.1}..{high:.1}]", median(values))
}

fn machine() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    Ok(format!(
        "{}, {cores} cores, Linux",
        model.unwrap_or("unknown CPU")
    ))
}
