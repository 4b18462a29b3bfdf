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
    /// Processes: 0 for one per core.
    pub processes: i64,
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
    /// Where workers of other machines connect; empty for nowhere.
    pub listen: String,
    /// Certificate of that listener.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Authorities of such workers.
    pub client_ca_file: PathBuf,
}

impl WorkersSection {
    /// Whether there is a project.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.project.as_os_str().is_empty()
    }

    /// Processes of this machine.
    #[must_use]
    pub fn local_processes(&self) -> usize {
        match usize::try_from(self.processes) {
            Ok(0) => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                cores.min(MOST_PROCESSES)
            }
            Ok(processes) => processes,
            Err(_) => 0,
        }
    }

    /// Where workers of other machines connect.
    ///
    /// # Errors
    /// `Invalid` if that is no address.
    pub fn address(&self) -> Result<std::net::SocketAddr> {
        self.listen.parse().map_err(|err| {
            Error::invalid("must be an address and a port, such as 0.0.0.0:7600")
                .with("key", "workers.listen")
                .source_err(err)
        })
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
        if !self.listen.is_empty() {
            let files = [
                ("workers.cert_file", &mut self.cert_file),
                ("workers.key_file", &mut self.key_file),
                ("workers.client_ca_file", &mut self.client_ca_file),
            ];
            for (key, file) in files {
                if file.as_os_str().is_empty() {
                    let needed = "workers of other machines need TLS and certificates";
                    return Err(Error::invalid(needed).with("missing", key));
                }
                *file = base.join(&*file);
            }
            self.address()?;
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
