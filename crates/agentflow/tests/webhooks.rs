//! Webhooks of real servers: signed, told once more after a crash, told once by several.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use agentflow::webhook::Keys;
use agentflow_testkit::{
    receiver::{Received, Receiver},
    servers::postgres::{self, Database, Version},
    waiting::until,
};
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Longer than any of these tests should take.
const LONG: Duration = Duration::from_secs(60);

/// A server that is killed when the test ends, or before.
struct Server {
    child: Child,
    url: String,
    client: reqwest::Client,
}

impl Server {
    fn start(dir: &Path, settings: &[(&str, &str)]) -> Self {
        // A second install in one process would be the only error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow"));
        command
            .args(["dev", "--json", "--port", "0"])
            .current_dir(dir);
        for (name, _) in std::env::vars() {
            if name.starts_with("AGENTFLOW_") || name.ends_with("_API_KEY") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command
            .env("AGENTFLOW_MODELS__DETECT_OLLAMA", "false")
            .env("AGENTFLOW_WEBHOOKS__SECRET", SECRET)
            .env("AGENTFLOW_WEBHOOKS__ALLOW_NETWORKS", "127.0.0.0/8")
            .env("AGENTFLOW_WEBHOOKS__RETRY_SECONDS", "1")
            .env("AGENTFLOW_WEBHOOKS__TIMEOUT_SECONDS", "1")
            .envs(settings.iter().copied())
            .stdin(Stdio::null());
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

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.url)).json(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Runs the built-in agent to its end; returns the run's id.
    async fn run(&self, webhook: &str) -> String {
        let (status, run) = self.post("/runs", &body(webhook)).await;
        assert_eq!(status, 200, "{run}");
        run["run_id"].as_str().unwrap().to_owned()
    }

    async fn depth(&self) -> (u64, u64) {
        let url = format!("{}/metrics?format=json", self.url);
        let answer: Value = self
            .client
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let of = |key: &str| answer["webhooks"][key].as_u64().unwrap();
        (of("waiting"), of("dead"))
    }

    /// As `kill -9` does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn body(webhook: &str) -> Value {
    json!({
        "assistant_id": "agent",
        "input": {"messages": [{"role": "user", "content": "hello"}]},
        "webhook": webhook,
        "metadata": {"order": 7},
    })
}

fn ids(calls: &[Received]) -> Vec<&str> {
    calls.iter().map(|call| call.header("webhook-id")).collect()
}

#[tokio::test]
async fn a_call_is_signed_and_comes_again_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.answer(503);
    let server = Server::start(dir.path(), &[]);
    let run = server.run(&receiver.url("/hook?key=1")).await;
    until(LONG, async || !receiver.calls().is_empty())
        .await
        .unwrap();
    server.kill();
    let before = receiver.calls().len();
    receiver.answer(204);
    let server = Server::start(dir.path(), &[]);
    until(LONG, async || receiver.calls().len() > before)
        .await
        .unwrap();
    until(LONG, async || server.depth().await == (0, 0))
        .await
        .unwrap();

    let calls = receiver.calls();
    let id = format!("msg_{run}");
    assert!(
        ids(&calls).iter().all(|other| *other == id),
        "{:?}",
        ids(&calls)
    );
    let last = calls.last().unwrap();
    assert_eq!(last.path, "/hook?key=1");
    let stamp: i64 = last.header("webhook-timestamp").parse().unwrap();
    let want = Keys::parse(SECRET)
        .unwrap()
        .signature(&id, stamp, &last.body);
    assert_eq!(Some(last.header("webhook-signature")), want.as_deref());
    let told: Value = serde_json::from_slice(&last.body).unwrap();
    assert_eq!(told["run_id"], run);
    assert_eq!(
        (&told["status"], &told["error"]),
        (&json!("success"), &Value::Null)
    );
    assert_eq!(told["metadata"]["order"], 7);
    assert_eq!(told["values"]["messages"].as_array().unwrap().len(), 2);
    for key in [
        "run_started_at",
        "run_ended_at",
        "webhook_sent_at",
        "created_at",
    ] {
        assert!(told[key].as_str().unwrap().ends_with("+00:00"), "{key}");
    }
}

#[tokio::test]
async fn what_leads_inside_is_refused_and_redirects_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let settings = [
        ("AGENTFLOW_WEBHOOKS__ALLOW_NETWORKS", ""),
        ("AGENTFLOW_WEBHOOKS__MAX_ATTEMPTS", "1"),
    ];
    let server = Server::start(dir.path(), &settings);
    for url in [
        receiver.url("/"),
        "http://169.254.169.254/latest".into(),
        "/runs".into(),
    ] {
        let (status, refused) = server.post("/runs", &body(&url)).await;
        assert_eq!(status, 422, "{refused}");
    }
    // A name is resolved when it is called.
    let named = receiver.url("/").replace("127.0.0.1", "localhost");
    server.run(&named).await;
    until(LONG, async || server.depth().await == (0, 1))
        .await
        .unwrap();
    assert_eq!(receiver.calls().len(), 0);
    let dead = server.client.get(format!("{}/webhooks/dead", server.url));
    let dead: Value = dead.send().await.unwrap().json().await.unwrap();
    assert!(
        dead[0]["error"]
            .as_str()
            .unwrap()
            .contains("allow_networks"),
        "{dead}"
    );
    server.kill();

    let settings = [("AGENTFLOW_WEBHOOKS__MAX_ATTEMPTS", "1")];
    let server = Server::start(dir.path(), &settings);
    receiver.redirect(307, &receiver.url("/elsewhere"));
    server.run(&receiver.url("/first")).await;
    until(LONG, async || server.depth().await == (0, 2))
        .await
        .unwrap();
    let paths: Vec<String> = receiver.calls().into_iter().map(|call| call.path).collect();
    assert_eq!(paths, ["/first"]);
}

fn on(database: &Database) -> [(&'static str, String); 2] {
    let server = postgres::shared(Version::Debian).unwrap();
    let bouncer = server.bouncer().unwrap();
    [
        ("DATABASE_URL", database.bouncer_url(&bouncer)),
        ("AGENTFLOW_STORAGE__LISTEN_URL", database.url()),
    ]
}

#[tokio::test]
async fn servers_on_one_database_tell_each_end_once() {
    const RUNS: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let database = postgres::shared(Version::Debian)
        .unwrap()
        .create_database()
        .unwrap();
    let settings = on(&database);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let receiver = Receiver::start().await;
    let servers = [
        Server::start(dir.path(), &settings),
        Server::start(dir.path(), &settings),
        Server::start(dir.path(), &settings),
    ];
    for n in 0..RUNS {
        servers[n % servers.len()].run(&receiver.url("/hook")).await;
    }
    let done = async || receiver.calls().len() >= RUNS && servers[0].depth().await == (0, 0);
    until(LONG, done).await.unwrap();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for call in receiver.calls() {
        *counts
            .entry(call.header("webhook-id").to_owned())
            .or_default() += 1;
    }
    assert_eq!(counts.len(), RUNS);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}
