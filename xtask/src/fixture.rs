//! The fixture server: small native graphs behind the real server, for client tests.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use anyhow::{Context, Result};

use crate::shell::{built, program, target};

/// A running fixture server; killed on drop.
pub struct Fixture {
    child: Child,
    /// Base URL.
    pub url: String,
    /// Process id.
    pub pid: u32,
}

/// Builds the server and returns the binary.
pub fn build() -> Result<PathBuf> {
    built()?;
    Ok(binary())
}

/// Where the build puts the binary.
pub fn binary() -> PathBuf {
    target()
        .join("debug")
        .join("examples")
        .join("fixture_server")
}

impl Fixture {
    /// Starts the server on a free port and waits until it is ready.
    pub fn start(binary: &Path, data: &Path, port: u16) -> Result<Self> {
        Self::start_with(binary, data, port, &[])
    }

    /// The same with further arguments.
    pub fn start_with(binary: &Path, data: &Path, port: u16, more: &[&str]) -> Result<Self> {
        let mut child = program(binary)
            .args(["--port", &port.to_string(), "--data"])
            .arg(data)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let pid = child.id();
        let ready: serde_json::Value = serde_json::from_str(&line)
            .with_context(|| format!("the server printed {line:?} instead of its ready line"))?;
        let url = ready["api"]
            .as_str()
            .context("no api in the ready line")?
            .to_owned();
        Ok(Self { child, url, pid })
    }
}

impl Fixture {
    /// Port of the server.
    pub fn port(&self) -> Result<u16> {
        let (_, port) = self.url.rsplit_once(':').context("no port in the url")?;
        Ok(port.parse()?)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
