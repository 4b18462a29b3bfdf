//! A server process that can be killed and started again on the same data.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use agentflow_embedded::Embedded;
use agentflow_postgres::{Dsn, Listen, Postgres};
use agentflow_storage::Backend;
use agentflow_testkit::servers::postgres::{self, Version};
use anyhow::{Context, Result};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
};

use super::Url;

/// How long a run belongs to a dead server while another one lives, in seconds.
const LEASE_SECONDS: u64 = 2;

/// Where servers keep their data.
pub enum Store {
    /// In a folder, which one server uses at a time.
    Folder(PathBuf),
    /// In a PostgreSQL database, through PgBouncer.
    Postgres(Box<Shared>),
}

/// A database that several servers use.
pub struct Shared {
    database: postgres::Database,
    pooled: String,
    /// Our own eyes on it.
    backend: Backend,
}

impl Store {
    /// A new database on the server that all tests share.
    pub async fn postgres() -> Result<Self> {
        let server = postgres::shared(Version::Debian)?;
        let database = server.create_database()?;
        let pooled = database.bouncer_url(&server.bouncer()?);
        let only = agentflow_postgres::Options {
            listen: Listen::Off,
            ..agentflow_postgres::Options::new(Dsn::parse(&database.url())?)
        };
        Ok(Self::Postgres(Box::new(Shared {
            backend: Postgres::open(only).await?.backend(),
            pooled,
            database,
        })))
    }

    /// What is stored. Nobody else may have a folder's database open meanwhile.
    pub fn backend(&self) -> Result<Backend> {
        let file = |folder: &Path| folder.join("agentflow.db");
        Ok(match self {
            Self::Folder(folder) => Embedded::open(file(folder), Default::default())?.backend(),
            Self::Postgres(shared) => shared.backend.clone(),
        })
    }

    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Folder(folder) => vec!["--data".into(), folder.display().to_string()],
            Self::Postgres(shared) => vec![
                "--database-url".into(),
                shared.pooled.clone(),
                "--listen-url".into(),
                shared.database.url(),
                "--lease-seconds".into(),
                LEASE_SECONDS.to_string(),
            ],
        }
    }
}

/// The process, and where it listens.
pub struct Server {
    binary: PathBuf,
    store: Arc<Store>,
    child: Option<Child>,
    url: watch::Sender<Option<String>>,
}

impl Server {
    /// A server that does not run yet, and its address to be.
    pub fn new(binary: PathBuf, store: Arc<Store>) -> (Self, Url) {
        let (url, watch) = watch::channel(None);
        let child = None;
        let server = Self {
            binary,
            store,
            child,
            url,
        };
        (server, watch)
    }

    /// Starts the process and waits until it is ready.
    pub async fn start(&mut self) -> Result<()> {
        let mut child = Command::new(&self.binary)
            .args(["--port", "0"])
            .args(self.store.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = lines
            .next_line()
            .await?
            .context("the server ended before it was ready")?;
        let ready: Value = serde_json::from_str(&line)?;
        let url = ready["api"].as_str().context("no url")?;
        self.url.send_replace(Some(url.to_owned()));
        self.child = Some(child);
        Ok(())
    }

    /// Kills the process; no handler of it runs.
    pub async fn kill(&mut self) -> Result<()> {
        self.url.send_replace(None);
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }
}
