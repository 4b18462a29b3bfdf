//! Finding and reading the configuration file.

use std::path::{Path, PathBuf};

use agentflow_types::{Error, Result};

use super::FILE_NAME;

/// Largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The nearest `agentflow.toml` in `start` or a folder above it.
#[must_use]
pub fn find(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .map(|dir| dir.join(FILE_NAME))
        .find(|path| path.is_file())
}

/// The text of a configuration file.
///
/// # Errors
/// `NotFound` or `Invalid` with the path.
pub(super) fn read(path: &Path) -> Result<String> {
    let size = std::fs::metadata(path).map_err(|err| {
        Error::not_found("configuration file cannot be read")
            .with("path", path.display())
            .source_err(err)
    })?;
    if size.len() > MAX_FILE_BYTES {
        return Err(
            Error::invalid("configuration file is larger than 1 MiB").with("path", path.display())
        );
    }
    std::fs::read_to_string(path).map_err(|err| {
        Error::invalid("configuration file cannot be read")
            .with("path", path.display())
            .source_err(err)
    })
}
