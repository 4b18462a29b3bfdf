//! Where files come from, and paths without a file system.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::volume::clean;
use crate::source::MAX_FILE_BYTES;

/// What a load may read.
pub trait Files {
    /// The bytes of a file, at most one more than [`MAX_FILE_BYTES`].
    ///
    /// # Errors
    /// The file is absent, no file, or cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Whether this is a folder.
    fn is_dir(&self, path: &Path) -> bool;

    /// Whether this is a file.
    fn is_file(&self, path: &Path) -> bool;

    /// What is in a folder, sorted, at most [`MAX_LISTED`]; links are not followed to folders.
    ///
    /// # Errors
    /// The folder is absent or cannot be read.
    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>>;
}

/// Most entries of one folder that are looked at.
pub const MAX_LISTED: usize = 100_000;

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The whole path.
    pub path: PathBuf,
    /// Whether it is a folder itself.
    pub is_dir: bool,
}

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // A pipe or a device might never end.
        if !std::fs::metadata(path)?.is_file() {
            let message = "this is not a file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut bytes = Vec::new();
        let most = MAX_FILE_BYTES as u64 + 1;
        std::fs::File::open(path)?
            .take(most)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder)?.take(MAX_LISTED) {
            let entry = entry?;
            let is_dir = entry.file_type()?.is_dir();
            found.push(Listed {
                path: entry.path(),
                is_dir,
            });
        }
        found.sort();
        Ok(found)
    }
}

/// Files held in memory, by absolute path: for tests, and for revisions that are not on disk.
#[derive(Clone, Debug, Default)]
pub struct InMemory(BTreeMap<PathBuf, Vec<u8>>);

impl InMemory {
    /// Adds a file.
    pub fn with(mut self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.insert(path.into(), bytes.into());
        self
    }
}

impl Files for InMemory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no such file");
        self.0.get(path).cloned().ok_or_else(missing)
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.0
            .keys()
            .any(|file| file != path && file.starts_with(path))
    }

    fn is_file(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        let below = self.0.keys().filter_map(|file| {
            let mut rest = file.strip_prefix(folder).ok()?.components();
            let path = folder.join(rest.next()?);
            let is_dir = rest.next().is_some();
            Some(Listed { path, is_dir })
        });
        let mut found: Vec<Listed> = below.collect();
        found.sort();
        found.dedup();
        Ok(found)
    }
}

/// `path` as seen from `base`, cleaned; `path` itself if it is absolute.
pub(super) fn join(base: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    match (base, path) {
        ("", "") => String::new(),
        ("", path) => clean(path),
        (base, path) => clean(&format!("{base}/{path}")),
    }
}

/// The folder of a path.
pub(super) fn parent(path: &str) -> String {
    match path.rsplit_once('/') {
        Some(("", _)) => "/".to_owned(),
        Some((parent, _)) => clean(parent),
        None => ".".to_owned(),
    }
}

/// How to get from one folder to another, both absolute.
pub(super) fn relative(from: &str, to: &str) -> String {
    let (from, to) = (clean(from), clean(to));
    let parts = |path: &str| -> Vec<String> {
        path.split('/')
            .filter(|it| !it.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (from, to) = (parts(&from), parts(&to));
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", from.len() - shared);
    let way: Vec<&str> = up.chain(to[shared..].iter().map(String::as_str)).collect();
    match way.is_empty() {
        true => ".".to_owned(),
        false => way.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_and_related() {
        assert_eq!(join("/a/b", "../c"), "/a/c");
        assert_eq!(join(".", "./c"), "c");
        assert_eq!(join("/a", "/b"), "/b");
        assert_eq!(parent("/a/b"), "/a");
        assert_eq!(parent("b"), ".");
        assert_eq!(relative("/a/b", "/a/c/d"), "../c/d");
        assert_eq!(relative("/a", "/a"), ".");
    }
}
