//! The section `[workers]`.

use std::path::{Path, PathBuf};

use agentflow_types::{Error, Result};
use serde::Deserialize;

/// Processes unless configured: one per core, at most this many.
const MOST_PROCESSES: usize = 4;
/// The word for no project.
const OFF: &str = "off";

/// Graphs in Python.
#[derive(Clone, Debug, Deserialize)]
pub struct WorkersSection {
    /// `langgraph.json` or its folder, absolute; empty for none.
    pub project: PathBuf,
    /// The interpreter; empty to find one.
    pub python: String,
    /// Processes.
    pub processes: usize,
    /// Runs of one process at once.
    pub concurrency: usize,
    /// Most private memory of one process, in MiB; 0 for no limit.
    pub memory_mib: u64,
    /// How long a process may take to load the project, in seconds.
    pub start_timeout_seconds: u64,
    /// How long a sign of life may take, in seconds.
    pub stall_seconds: u64,
    /// How long a cancelled run may go on, in seconds.
    pub cancel_grace_seconds: u64,
    /// Whether processes follow changes of the project.
    pub reload: bool,
}

impl WorkersSection {
    /// Whether there is a project.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.project.as_os_str().is_empty()
    }

    /// Checks it, finds the project, and makes its path absolute.
    pub(super) fn checked(mut self, base: &Path) -> Result<Self> {
        let beside = base.join(agentflow_workers::FILE_NAME);
        self.project = match () {
            () if self.project == Path::new(OFF) => PathBuf::new(),
            () if self.is_set() => base.join(&self.project),
            () if beside.is_file() => beside,
            () => PathBuf::new(),
        };
        if self.processes == 0 {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            self.processes = cores.min(MOST_PROCESSES);
        }
        let positive = |value: u64, key: &'static str| match value {
            0 => Err(Error::invalid("must be at least 1").with("key", key)),
            _ => Ok(()),
        };
        positive(self.concurrency as u64, "workers.concurrency")?;
        positive(self.start_timeout_seconds, "workers.start_timeout_seconds")?;
        positive(self.stall_seconds, "workers.stall_seconds")?;
        Ok(self)
    }
}
