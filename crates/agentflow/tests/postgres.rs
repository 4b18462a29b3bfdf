//! Servers as processes, on a PostgreSQL database through PgBouncer.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Output, Stdio},
};

use agentflow_testkit::servers::postgres::{self, Database, Version};
use serde_json::{Value, json};

/// A command with nothing of the developer's shell, on this database.
fn agentflow(dir: &tempfile::TempDir, database: &Database, args: &[&str]) -> Command {
    let bouncer = postgres::shared(Version::Debian)
        .unwrap()
        .bouncer()
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow"));
    command.args(args).current_dir(dir.path());
    for (name, _) in std::env::vars() {
        if name.starts_with("AGENTFLOW_") || name.ends_with("_API_KEY") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
        .env("DATABASE_URL", database.bouncer_url(&bouncer))
        .env("AGENTFLOW_STORAGE__LISTEN_URL", database.url())
        .env("AGENTFLOW_MODELS__DETECT_OLLAMA", "false")
        .stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8(text).unwrap();
    (output, text)
}

/// A server that is killed when the test ends.
struct Server {
    child: Child,
    url: String,
    client: reqwest::Client,
}

impl Server {
    fn start(mut command: Command) -> Self {
        // A second install in one process would be the only error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        let place = ready["data"].as_str().unwrap();
        assert!(place.starts_with("PostgreSQL "), "{place}");
        Self {
            child,
            url: ready["api"].as_str().unwrap().to_owned(),
            client: reqwest::Client::new(),
        }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.url)).json(&body);
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await;
        answer.unwrap().json().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn question(text: &str) -> Value {
    json!({"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": text}]}})
}

#[tokio::test]
async fn servers_share_a_database_and_one_may_die() {
    let server = postgres::shared(Version::Debian).unwrap();
    let (dir, database) = (
        tempfile::tempdir().unwrap(),
        server.create_database().unwrap(),
    );
    let start = || {
        let args = ["dev", "--json", "--port", "0"];
        Server::start(agentflow(&dir, &database, &args))
    };
    let (first, second) = (start(), start());
    let thread = first.post("/threads", json!({})).await;
    let path = format!("/threads/{}", thread["thread_id"].as_str().unwrap());
    let wait = format!("{path}/runs/wait");
    let answer = second.post(&wait, question("one")).await;
    assert_eq!(answer["messages"].as_array().unwrap().len(), 2);
    // Runs that one server accepts are waited for on the other.
    let run = first.post(&format!("{path}/runs"), question("two")).await;
    let join = format!("{path}/runs/{}/join", run["run_id"].as_str().unwrap());
    let joined = second.get(&join).await;
    assert_eq!(joined["messages"].as_array().unwrap().len(), 4);
    drop(second);
    let answer = first.post(&wait, question("three")).await;
    assert_eq!(answer["messages"].as_array().unwrap().len(), 6);
    let history = first
        .post(&format!("{path}/history"), json!({"limit": 100}))
        .await;
    assert!(history.as_array().unwrap().len() >= 6);
}

#[test]
fn tables_are_made_by_whoever_may() {
    let server = postgres::shared(Version::Debian).unwrap();
    let (dir, database) = (
        tempfile::tempdir().unwrap(),
        server.create_database().unwrap(),
    );
    let run = |args: &[&str]| output(&mut agentflow(&dir, &database, args));
    let (_, status) = run(&["migrate", "status"]);
    assert!(status.contains("changes are missing"), "{status}");
    let mut checks = agentflow(&dir, &database, &["dev", "--json", "--port", "0"]);
    let (refused, said) = output(checks.env("AGENTFLOW_STORAGE__MIGRATE", "false"));
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("migrate"), "{said}");
    let (applied, said) = run(&["migrate", "apply"]);
    assert!(applied.status.success(), "{said}");
    assert!(run(&["migrate", "status"]).1.contains("up to date"));
    assert!(run(&["migrate", "plan"]).1.contains("nothing to do"));
    let (backup, said) = run(&["backup", "copy.db"]);
    assert!(
        !backup.status.success() && said.contains("pg_dump"),
        "{said}"
    );
}

#[test]
fn production_refuses_what_does_not_verify_the_server() {
    let server = postgres::shared(Version::Debian).unwrap();
    let (dir, database) = (
        tempfile::tempdir().unwrap(),
        server.create_database().unwrap(),
    );
    let start = |mode: &str| {
        let mut command = agentflow(&dir, &database, &["dev", "--json", "--port", "0"]);
        let url = format!("postgres://someone:hushhush@127.0.0.1:1/x?sslmode={mode}");
        command
            .env("AGENTFLOW_PROFILE", "production")
            .env("AGENTFLOW_AUTH__MODE", "on")
            .env("AGENTFLOW_STORAGE__LISTEN_URL", "off")
            .env("DATABASE_URL", url);
        output(&mut command)
    };
    for mode in ["disable", "prefer", "require", "verify-ca"] {
        let (refused, said) = start(mode);
        assert!(!refused.status.success());
        assert!(said.contains("sslmode=verify-full"), "{mode}: {said}");
        assert!(!said.contains("hushhush"), "{said}");
    }
    let (refused, said) = start("verify-full");
    assert!(!refused.status.success());
    assert!(!said.contains("must verify the server"), "{said}");
    assert!(!said.contains("hushhush"), "{said}");
    let mut command = agentflow(&dir, &database, &["config", "show"]);
    let url = "postgres://someone:hushhush@db/x";
    let (_, shown) = output(command.env("DATABASE_URL", url));
    assert!(
        shown.contains("someone:***@db") && !shown.contains("hushhush"),
        "{shown}"
    );
}
