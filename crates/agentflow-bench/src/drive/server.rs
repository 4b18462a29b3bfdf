//! A server process that can be killed and started again on the same data.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
};

use agentflow_embedded::Embedded;
use agentflow_storage::Backend;
use agentflow_testkit::{
    process::tied,
    servers::postgres::{self, Version},
};
use anyhow::{Context, Result};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
};

use super::{Url, audit::Promised};

/// Longest time that a server takes to stop.
const STOP: std::time::Duration = std::time::Duration::from_secs(60);

/// How long a run belongs to a dead server while another one lives, in seconds.
pub const LEASE_SECONDS: u64 = 3;

/// Where servers keep their data.
pub enum Store {
    /// In a folder, which one server uses at a time.
    Folder(PathBuf),
    /// In a PostgreSQL database.
    Postgres(Shared),
}

/// A database that several servers use, seen past them and past poolers.
pub struct Shared {
    /// Dropped with this, if it is ours.
    _database: Option<postgres::Database>,
    name: String,
    /// Where it is now.
    address: Mutex<postgres::Address>,
    options: Vec<String>,
}

impl Shared {
    /// The database `name`, which servers reach with `options`.
    pub fn new(name: &str, address: &postgres::Address, options: Vec<String>) -> Self {
        Self {
            _database: None,
            name: name.to_owned(),
            address: Mutex::new(address.clone()),
            options,
        }
    }

    /// Looks elsewhere from now on.
    pub fn moved(&self, address: &postgres::Address) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address.clone();
    }

    /// Runs SQL as superuser; the rows, columns separated by `|`.
    pub fn sql(&self, sql: &str) -> Result<String> {
        let address = self
            .address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(address.sql(&self.name, sql)?)
    }

    /// What is stored about these threads, without our own code in between.
    pub fn promised(&self, threads: &[String]) -> Result<Promised> {
        // Slots below zero hold what is not a result: errors, questions, answers.
        const TASKS: &str = "SELECT DISTINCT task_id FROM checkpoint_writes WHERE idx >= 0";
        const EVENTS: &str = "SELECT thread_id, seq, run_id, md5(kind || ' ' || data)
            FROM agentflow.events";
        let tasks: BTreeSet<String> = self.sql(TASKS)?.lines().map(str::to_owned).collect();
        let mut events = BTreeMap::new();
        let threads: BTreeSet<&str> = threads.iter().map(String::as_str).collect();
        for line in self.sql(EVENTS)?.lines() {
            let mut columns = line.split('|');
            let mut next = || columns.next().context("a column is missing");
            let (thread, seq) = (next()?.to_owned(), next()?.parse()?);
            if !threads.contains(thread.as_str()) {
                continue;
            }
            events.insert((thread, seq), (next()?.to_owned(), next()?.to_owned()));
        }
        Ok(Promised { tasks, events })
    }
}

impl Store {
    /// A new database on the server that all tests share, through PgBouncer.
    pub async fn postgres() -> Result<Self> {
        let server = postgres::shared(Version::Debian)?;
        let database = server.create_database()?;
        let options = vec![
            "--database-url".into(),
            database.bouncer_url(&server.bouncer()?),
            "--listen-url".into(),
            database.url(),
            "--lease-seconds".into(),
            LEASE_SECONDS.to_string(),
        ];
        let shared = Shared::new(database.name(), database.address(), options);
        Ok(Self::Postgres(Shared {
            _database: Some(database),
            ..shared
        }))
    }

    /// What is stored in a folder, which nobody else may have open meanwhile.
    pub fn folder(folder: &Path) -> Result<Backend> {
        let file = folder.join("agentflow.db");
        Ok(Embedded::open(file, Default::default())?.backend())
    }

    /// How a server finds it.
    pub fn options(&self) -> Result<Vec<String>> {
        Ok(match self {
            Self::Folder(folder) => vec!["--data".into(), folder.display().to_string()],
            Self::Postgres(shared) => shared.options.clone(),
        })
    }
}

/// The process, and where it listens.
pub struct Server {
    binary: PathBuf,
    options: Vec<String>,
    /// Where it writes what it has to say; our own standard error if absent.
    log: Option<PathBuf>,
    child: Option<Child>,
    url: watch::Sender<Option<String>>,
}

impl Server {
    /// A server that does not run yet, and its address to be.
    pub fn new(binary: PathBuf, options: Vec<String>) -> (Self, Url) {
        let (url, watch) = watch::channel(None);
        let server = Self {
            binary,
            options,
            log: None,
            child: None,
            url,
        };
        (server, watch)
    }

    /// With a file for what it has to say.
    #[must_use]
    pub fn log(mut self, file: PathBuf) -> Self {
        self.log = Some(file);
        self
    }

    /// Starts the process and waits until it is ready.
    pub async fn start(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(["--port", "0"]).args(&self.options);
        let mut command = tied(command);
        if let Some(log) = &self.log {
            let file = std::fs::File::options()
                .create(true)
                .append(true)
                .open(log)?;
            command.stderr(file);
        }
        let mut child = command
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

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Where it listens, while it runs.
    pub fn address(&self) -> Option<String> {
        self.url.borrow().clone()
    }

    /// Stops the process as an operator does; it must end well.
    pub async fn stop(&mut self) -> Result<()> {
        self.url.send_replace(None);
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        if let Some(pid) = child.id() {
            let mut kill = Command::new("kill");
            kill.args(["-TERM", &pid.to_string()]).status().await?;
        }
        let status = tokio::time::timeout(STOP, child.wait()).await??;
        anyhow::ensure!(status.success(), "the server stopped with {status}");
        Ok(())
    }

    /// Whether the process is there.
    pub fn runs(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Kills up to `most` of the processes that it started; returns how many.
    pub fn kill_workers(&self, most: usize) -> Result<usize> {
        let Some(pid) = self.pid() else { return Ok(0) };
        let mut killed = 0;
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may have ended meanwhile.
            let Ok(children) = std::fs::read_to_string(task?.path().join("children")) else {
                continue;
            };
            for child in children.split_whitespace() {
                let child = child.parse().ok().and_then(rustix::process::Pid::from_raw);
                let Some(child) = child.filter(|_| killed < most) else {
                    continue;
                };
                killed += usize::from(
                    rustix::process::kill_process(child, rustix::process::Signal::KILL).is_ok(),
                );
            }
        }
        Ok(killed)
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
