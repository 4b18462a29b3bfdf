//! What git keeps: the names in the index of a working copy.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::compose::Files;

/// Most files of one working copy.
pub const MAX_TRACKED: usize = 2_000_000;
/// Most folders upwards that are looked at.
const MAX_UP: usize = 64;

/// The files that git keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// The folder of the working copy.
    pub root: PathBuf,
    paths: BTreeSet<String>,
}

impl Tracked {
    /// Whether git keeps a file.
    pub fn holds(&self, path: &Path) -> bool {
        let inside = path.strip_prefix(&self.root).ok().and_then(Path::to_str);
        inside.is_some_and(|inside| self.paths.contains(inside))
    }

    /// Every file, from the folder of the working copy.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }
}

/// The folder of the working copy that a path is in.
pub(crate) fn root_of(files: &dyn Files, path: &Path) -> Option<PathBuf> {
    path.ancestors().take(MAX_UP).find_map(|folder| {
        let git = folder.join(".git");
        let is_copy = files.is_file(&git) || files.is_file(&git.join("HEAD"));
        is_copy.then(|| folder.to_owned())
    })
}

/// Reads the index; nothing if there is none or it is not one that we know.
pub(crate) fn tracked(files: &dyn Files, root: &Path) -> Option<Tracked> {
    let git = root.join(".git");
    let folder = match files.is_file(&git) {
        // A worktree or a submodule: the file says where its folder is.
        true => {
            let text = String::from_utf8(files.read(&git).ok()?).ok()?;
            root.join(text.strip_prefix("gitdir:")?.trim())
        }
        false => git,
    };
    let bytes = files.read(&folder.join("index")).ok()?;
    let paths = names(&bytes)?;
    Some(Tracked {
        root: root.to_owned(),
        paths,
    })
}

/// The names in an index of version 2, 3 or 4.
fn names(bytes: &[u8]) -> Option<BTreeSet<String>> {
    let number = |at: usize| -> Option<u32> {
        let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(four))
    };
    if bytes.get(..4)? != b"DIRC" {
        return None;
    }
    let version = number(4)?;
    let count = number(8)? as usize;
    if !(2..=4).contains(&version) || count > MAX_TRACKED {
        return None;
    }
    let mut found = BTreeSet::new();
    let mut before: Vec<u8> = Vec::new();
    let mut at = 12;
    for _ in 0..count {
        // Times, device, inode, mode, owner and size are 40 bytes, the hash 20, the flags 2.
        let flags = u16::from_be_bytes(bytes.get(at + 60..at + 62)?.try_into().ok()?);
        let extended = version >= 3 && flags & 0x4000 != 0;
        let mut here = at + if extended { 64 } else { 62 };
        if version == 4 {
            let (cut, next) = variable(bytes, here)?;
            before.truncate(before.len().checked_sub(cut)?);
            here = next;
        } else {
            before.clear();
        }
        let rest = bytes.get(here..)?;
        let len = rest.iter().position(|byte| *byte == 0)?;
        before.extend_from_slice(&rest[..len]);
        at = match version {
            4 => here + len + 1,
            // Filled up to eight bytes with at least one zero.
            _ => at + (here + len - at + 8) / 8 * 8,
        };
        found.insert(String::from_utf8_lossy(&before).into_owned());
    }
    Some(found)
}

/// A number as pack files write offsets, and where it ends.
fn variable(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut byte = *bytes.get(at)?;
    let mut value = usize::from(byte & 0x7f);
    while byte & 0x80 != 0 {
        at += 1;
        byte = *bytes.get(at)?;
        value = value.checked_add(1)?.checked_mul(128)? + usize::from(byte & 0x7f);
    }
    Some((value, at + 1))
}
