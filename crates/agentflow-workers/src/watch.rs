//! Noticing that a project's files changed.
//!
//! Files are looked at twice a second. Their number is that of a project's own code, so a look
//! costs about a millisecond, and works on every file system, in containers and over the network,
//! which change notifications do not.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Pause between two looks.
pub(crate) const EVERY: Duration = Duration::from_millis(500);
/// Most files that are looked at.
const MOST: usize = 20_000;
/// Most folders within each other.
const DEEPEST: usize = 24;
/// Kinds of files whose change matters.
const WATCHED: [&str; 7] = ["py", "json", "toml", "yaml", "yml", "env", "txt"];
/// Folders that hold nothing of the project itself. Those that begin with a dot do not either.
const PASSED_BY: [&str; 5] = [
    "node_modules",
    "__pycache__",
    "venv",
    "site-packages",
    "dist",
];

/// When each file was changed last, and its length.
pub(crate) type Look = BTreeMap<PathBuf, (SystemTime, u64)>;

/// Looks at the files below `folder`.
pub(crate) fn look(folder: &Path) -> Look {
    let mut seen = Look::new();
    into(folder, 0, &mut seen);
    seen
}

fn into(folder: &Path, depth: usize, seen: &mut Look) {
    // What cannot be read is not there for the worker either.
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            let is_own = !name.starts_with('.') && !PASSED_BY.contains(&&*name);
            if is_own && depth < DEEPEST {
                into(&entry.path(), depth + 1, seen);
            }
            continue;
        }
        let extension = name.rsplit('.').next().unwrap_or_default();
        if !WATCHED.contains(&extension) || seen.len() >= MOST {
            continue;
        }
        if let Ok(metadata) = entry.metadata() {
            let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            seen.insert(entry.path(), (changed, metadata.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_counts_and_what_is_installed_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("agent.py", "a");
        write(".env", "A=1");
        let before = look(dir.path());
        assert_eq!(before.len(), 2);
        write(".venv/lib/x.py", "x");
        write("__pycache__/agent.pyc", "x");
        write("picture.png", "x");
        assert_eq!(look(dir.path()), before);
        write("agent.py", "ab");
        assert_ne!(look(dir.path()), before);
    }
}
