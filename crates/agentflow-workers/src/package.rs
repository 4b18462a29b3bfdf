//! The Python package of the worker, which is part of this program.

use std::{fs, path::Path};

use agentflow_types::{Error, Result};

/// Name and text of its files.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/package.rs"));

/// Name of the package.
const NAME: &str = "agentflow_worker";

/// Writes the package into `folder`, which then belongs on Python's import path.
///
/// # Errors
/// `Busy` if it cannot be written.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let package = folder.join(NAME);
    let cannot = |err: std::io::Error| {
        Error::busy("the worker's package cannot be written")
            .with("folder", package.display())
            .source_err(err)
    };
    fs::create_dir_all(&package).map_err(cannot)?;
    for (name, text) in FILES {
        fs::write(package.join(name), text).map_err(cannot)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_can_be_run_as_a_module() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        assert!(dir.path().join(NAME).join("__main__.py").is_file());
    }
}
