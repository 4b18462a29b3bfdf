//! Where workers connect.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use agentflow_types::{Error, Result};
use tokio::net::UnixListener;

use crate::peer::{Reading, Writing};

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
        let name = format!("agentflow-{}", uuid::Uuid::new_v4().simple());
        Self::open_in(&std::env::temp_dir().join(name))
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
        let socket = folder.join("workers.sock");
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
