//! The section `[storage]`.

use std::path::{Path, PathBuf};

use agentflow_types::{Error, Result};
use serde::Deserialize;

use super::{Checkpointer, merge, one_of};

/// Database.
#[derive(Clone, Deserialize)]
pub struct Storage {
    /// Folder of the embedded database.
    pub path: PathBuf,
    /// Address of a PostgreSQL server; empty for the embedded database.
    pub url: String,
    /// File with the address; empty for none.
    pub url_file: PathBuf,
    /// File with the password; empty for the one in the address.
    pub password_file: PathBuf,
    /// Where wake-ups are listened for: empty, `off`, or an address.
    pub listen_url: String,
    /// File with that address; empty for none.
    pub listen_url_file: PathBuf,
    /// Most connections.
    pub max_connections: usize,
    /// How long a request waits for a connection, in seconds.
    pub acquire_timeout_seconds: u64,
    /// How long a statement may take, in seconds.
    pub statement_timeout_seconds: u64,
    /// A statement that takes longer is logged, in milliseconds.
    pub slow_statement_milliseconds: u64,
    /// Whether opening brings the tables up to date.
    pub migrate: bool,
    /// What has the checkpoints.
    pub checkpointer: Checkpointer,
    /// How long checkpoints stay in Redis after a thread's last one, in seconds; 0 for as long as
    /// the thread.
    pub checkpoint_ttl_seconds: u64,
    /// Key that checkpoints are encrypted with; empty for none.
    pub encryption_key: String,
    /// File with that key; empty for none.
    pub encryption_key_file: PathBuf,
    /// Flush policy.
    pub synchronous: Synchronous,
    /// Connections for reading.
    pub readers: usize,
}

impl Storage {
    /// Whether a PostgreSQL server holds the data.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        !self.url.is_empty() || !self.url_file.as_os_str().is_empty()
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Addresses may hold passwords.
        f.debug_struct("Storage")
            .field("path", &self.path)
            .field("url", &merge::masked(&self.url))
            .field("url_file", &self.url_file)
            .field("password_file", &self.password_file)
            .field("listen_url", &merge::masked(&self.listen_url))
            .field("listen_url_file", &self.listen_url_file)
            .field("max_connections", &self.max_connections)
            .field("migrate", &self.migrate)
            .field("checkpointer", &self.checkpointer)
            .field("checkpoint_ttl_seconds", &self.checkpoint_ttl_seconds)
            .field("synchronous", &self.synchronous)
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}

/// When SQLite flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// At checkpoints of the write-ahead log.
    Normal,
    /// At each commit.
    Full,
}

/// The section with paths relative to `base`.
///
/// # Errors
/// `Invalid` if a value is given twice, itself and as a file.
pub(super) fn checked_storage(mut storage: Storage, base: &Path) -> Result<Storage> {
    let is_given = |file: &Path| !file.as_os_str().is_empty();
    one_of(
        ("storage.url", !storage.url.is_empty()),
        ("storage.url_file", is_given(&storage.url_file)),
    )?;
    one_of(
        ("storage.listen_url", !storage.listen_url.is_empty()),
        (
            "storage.listen_url_file",
            is_given(&storage.listen_url_file),
        ),
    )?;
    one_of(
        ("storage.encryption_key", !storage.encryption_key.is_empty()),
        (
            "storage.encryption_key_file",
            is_given(&storage.encryption_key_file),
        ),
    )?;
    if storage.checkpoint_ttl_seconds > 0 && storage.checkpointer == Checkpointer::Database {
        return Err(Error::invalid(
            "storage.checkpoint_ttl_seconds is only for storage.checkpointer = \"redis\"",
        ));
    }
    storage.path = base.join(&storage.path);
    for file in [
        &mut storage.encryption_key_file,
        &mut storage.url_file,
        &mut storage.password_file,
        &mut storage.listen_url_file,
    ] {
        if is_given(file) {
            *file = base.join(&*file);
        }
    }
    Ok(storage)
}
