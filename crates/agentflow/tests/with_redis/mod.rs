//! Servers as processes, beside a Redis with TLS and the user of the file that is shipped.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses its part, and helpers of tests fail like tests"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Output, Stdio},
};

use agentflow_testkit::servers::{
    certs::{Authority, Identity},
    redis::{self, Own, Persistence},
};
use serde_json::Value;
use tempfile::TempDir;

/// The file that is shipped.
const USERS: &str = include_str!("../../../../deploy/redis/users.acl");
/// Password of its user in tests.
pub const PASSWORD: &str = "hushhush";

/// A Redis of the test's own.
pub struct Redis {
    /// The server.
    pub own: Own,
    /// Where its password is, in the file `password`.
    pub dir: TempDir,
    ca: Authority,
    client: Identity,
}

impl Redis {
    /// One that keeps its data.
    pub fn start() -> Self {
        Self::with(Persistence::AppendEverySecond)
    }

    /// One that keeps its data, or not.
    pub fn with(persistence: Persistence) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new(dir.path(), "ca").unwrap();
        let client = ca.client("test").unwrap();
        let users = USERS.replace(
            "#REPLACE_WITH_THE_SHA256_OF_THE_PASSWORD",
            &format!(">{PASSWORD}"),
        );
        let options = redis::Options::default()
            .acl(&users)
            .tls(&ca.server().unwrap(), &ca.pem(), Some(&client))
            .persistence(persistence);
        fs::write(dir.path().join("password"), format!("{PASSWORD}\n")).unwrap();
        Self {
            own: Own::start(&options).unwrap(),
            dir,
            ca,
            client,
        }
    }

    /// Tells a server of it.
    pub fn set(&self, command: &mut Command) {
        let port = self.own.address().port;
        command
            .env("REDIS_URL", format!("rediss://agentflow@127.0.0.1:{port}"))
            .env(
                "AGENTFLOW_REDIS__PASSWORD_FILE",
                self.dir.path().join("password"),
            )
            .env("AGENTFLOW_REDIS__CA_FILE", self.ca.pem())
            .env("AGENTFLOW_REDIS__CERT_FILE", &self.client.cert)
            .env("AGENTFLOW_REDIS__KEY_FILE", &self.client.key);
    }
}

/// A command with nothing of the developer's shell.
pub fn agentflow(dir: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow"));
    command.args(args).current_dir(dir.path());
    for (name, _) in std::env::vars() {
        let ours = ["AGENTFLOW_", "REDIS_", "DATABASE_"];
        if ours.iter().any(|start| name.starts_with(start)) || name.ends_with("_API_KEY") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("RUST_LOG")
        .env("AGENTFLOW_MODELS__DETECT_OLLAMA", "false")
        .stdin(Stdio::null());
    command
}

/// What a command that ends by itself said.
pub fn output(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output, String::from_utf8(text).unwrap())
}

/// A server that is killed when the test ends.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub url: String,
    client: reqwest::Client,
}

impl Server {
    /// Waits until it is ready.
    pub fn start(mut command: Command) -> Self {
        // A second install in one process would be the only error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        Self {
            child,
            url: ready["api"].as_str().unwrap().to_owned(),
            client: reqwest::Client::new(),
        }
    }

    /// What it answers.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.url)).json(&body);
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Status and text.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(format!("{}{path}", self.url));
        let answer = answer.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// All frames of a stream, as text.
    pub async fn stream(&self, path: &str) -> String {
        let ask = self.client.get(format!("{}{path}", self.url));
        let answer = ask.header("last-event-id", "-1").send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.text().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
