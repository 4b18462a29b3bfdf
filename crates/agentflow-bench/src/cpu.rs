//! CPU time of processes.

use std::fs;

use anyhow::{Context, Result};

/// Ticks of a second in `/proc`; fixed for programs on Linux.
const TICKS: f64 = 100.0;
/// Position of `utime` behind the name in `/proc/PID/stat`; `stime` follows.
const UTIME: usize = 11;

/// Seconds of CPU, user and system, that a process took so far, its ended threads included;
/// `None` is this one.
pub fn seconds(pid: Option<u32>) -> Result<f64> {
    let pid = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("no such process")?;
    // The name is in parentheses and may hold anything.
    let (_, fields) = stat
        .rsplit_once(") ")
        .context("no name in /proc/PID/stat")?;
    let ticks = fields.split(' ').skip(UTIME).take(2);
    let ticks: f64 = ticks.map(|n| n.parse().unwrap_or(0.0)).sum();
    Ok(ticks / TICKS)
}
