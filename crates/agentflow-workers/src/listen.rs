//! Where workers connect.

use std::{
    fmt,
    fs::DirBuilder,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agentflow_types::{Error, Result};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

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

/// Time for the handshake of a connection from elsewhere.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where workers of other machines connect: each must show a certificate.
#[derive(Clone)]
pub struct Remote {
    /// Address to listen on.
    pub address: SocketAddr,
    /// What takes the next connection; it must demand a certificate of the client.
    pub acceptor: Arc<dyn Fn() -> TlsAcceptor + Send + Sync>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.address).finish()
    }
}

/// A listener for them.
pub(crate) struct RemoteDoor {
    listener: TcpListener,
    remote: Remote,
}

impl RemoteDoor {
    /// Listens.
    ///
    /// # Errors
    /// `Invalid` if the address cannot be listened on.
    pub(crate) fn open(remote: Remote) -> Result<Self> {
        let cannot = |err: std::io::Error| {
            Error::invalid("the address for workers cannot be listened on")
                .with("address", remote.address)
                .source_err(err)
        };
        let listener = std::net::TcpListener::bind(remote.address).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        Ok(Self {
            listener: TcpListener::from_std(listener).map_err(cannot)?,
            remote,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// The next connection, and the future that shakes hands.
    pub(crate) async fn accept(
        &self,
    ) -> std::io::Result<impl Future<Output = std::io::Result<(Reading, Writing)>> + Send + use<>>
    {
        let (stream, _) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = (self.remote.acceptor)();
        Ok(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
            let stream = shaken.map_err(|_| std::io::ErrorKind::TimedOut)??;
            let (reading, writing) = tokio::io::split(stream);
            let reading = tokio::io::BufReader::with_capacity(1 << 16, reading);
            Ok((Box::new(reading) as Reading, Box::new(writing) as Writing))
        })
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
