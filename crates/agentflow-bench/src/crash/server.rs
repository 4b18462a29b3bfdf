//! A server process that can be killed and started again on the same data.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
};

use super::Url;

/// The process, and where it listens.
pub struct Server {
    binary: PathBuf,
    data: PathBuf,
    child: Option<Child>,
    url: watch::Sender<Option<String>>,
}

impl Server {
    /// A server that does not run yet, and its address to be.
    pub fn new(binary: PathBuf, data: PathBuf) -> (Self, Url) {
        let (url, watch) = watch::channel(None);
        let child = None;
        let server = Self {
            binary,
            data,
            child,
            url,
        };
        (server, watch)
    }

    /// Starts the process and waits until it is ready.
    pub async fn start(&mut self) -> Result<()> {
        let mut child = Command::new(&self.binary)
            .args(["--port", "0", "--data"])
            .arg(&self.data)
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
