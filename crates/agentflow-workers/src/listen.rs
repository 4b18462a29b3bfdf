//! Where workers connect.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use agentflow_types::{Error, Result};
use tokio::net::UnixListener;

use crate::peer::{Reading, Writing};

/// What the names of our folders begin with.
const PREFIX: &str = "agentflow-workers-";
/// Name of the socket.
const SOCKET: &str = "workers.sock";

/// Removes the folders of servers that were killed: nobody listens on their sockets.
fn remove_stale(folders: &Path) {
    let Ok(entries) = std::fs::read_dir(folders) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let heard = std::os::unix::net::UnixStream::connect(entry.path().join(SOCKET));
        if heard.is_err_and(|err| err.kind() == std::io::ErrorKind::ConnectionRefused) {
            // Somebody else may have been faster.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A Unix socket in a folder that only we may enter.
pub(crate) struct Door {
    listener: UnixListener,
    folder: PathBuf,
    socket: PathBuf,
}

impl Door {
    /// Opens one in the folder for temporary files, where paths are short enough for sockets.
    ///
    /// # Errors
    /// `Busy` if that is not possible.
    pub(crate) fn open() -> Result<Self> {
        let folders = std::env::temp_dir();
        remove_stale(&folders);
        let name = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        Self::open_in(&folders.join(name))
    }

    fn open_in(folder: &Path) -> Result<Self> {
        let cannot = |err: std::io::Error| {
            Error::busy("the socket for workers cannot be made")
                .with("folder", folder.display())
                .source_err(err)
        };
        DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .map_err(cannot)?;
        let socket = folder.join(SOCKET);
        Ok(Self {
            listener: UnixListener::bind(&socket).map_err(cannot)?,
            folder: folder.to_owned(),
            socket,
        })
    }

    /// Where workers connect.
    pub(crate) fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    /// The folder, which is removed with the socket.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> std::io::Result<(Reading, Writing)> {
        let (stream, _) = self.listener.accept().await?;
        let (reading, writing) = stream.into_split();
        let reading = tokio::io::BufReader::with_capacity(1 << 16, reading);
        Ok((Box::new(reading), Box::new(writing)))
    }

    /// Removes the socket.
    pub(crate) fn remove(&self) {
        // What is left is an empty socket in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn folders_of_killed_servers_go() {
        let dir = tempfile::tempdir().unwrap();
        let alive = Door::open_in(&dir.path().join(format!("{PREFIX}a"))).unwrap();
        let killed = dir.path().join(format!("{PREFIX}b"));
        let other = dir.path().join("other");
        for folder in [&killed, &other] {
            std::fs::create_dir(folder).unwrap();
            drop(std::os::unix::net::UnixListener::bind(folder.join(SOCKET)).unwrap());
        }
        remove_stale(dir.path());
        assert!(!killed.exists() && other.exists());
        assert!(alive.folder().join(SOCKET).exists());
    }
}
