//! A server with graphs that recall and remember, as a process.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use agentflow_testkit::{
    Process,
    servers::postgres::{self, Database, Version},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// Longest start of a server, and longest wait for a run.
pub const LONG: Duration = Duration::from_secs(120);
/// The key that may do everything.
pub const ROOT: &str = "bootstrap-key-of-the-recollection-test";

/// The user is whoever asks; without authentication, whoever the client says.
const NOTES: &str = "
version: 1
state: {messages: messages, known: list, facts: string, added: object}
nodes:
  recall:
    kind: recall
    user_id: '{{ config.user_id or context.user_id }}'
    output: known
    text: facts
  remember:
    kind: remember
    user_id: '{{ config.user_id or context.user_id }}'
    output: added
edges: [START -> recall -> remember -> END]
";

/// The user is whoever the client says; `said` is remembered if there is one.
const DESK: &str = "
version: 1
state: {asked: string, said: string, known: list, added: object}
nodes:
  recall: {kind: recall, user_id: '{{ context.of }}', query: '=asked', output: known}
  remember: {kind: remember, user_id: '{{ context.of }}', text: '=said', output: added}
edges:
  - {from: START, when: said == null, to: recall, else: remember}
";

/// What is remembered is followed by a step that may be where the server dies.
const SLOW: &str = "
version: 1
state: {sky: any}
nodes:
  remember: {kind: remember, user_id: ada, text: I sail on Sundays}
  ask: {kind: http, url: 'http://127.0.0.1:PORT/', allow_private: true, output: sky}
edges: [START -> remember -> ask -> END]
";

/// What holds the data.
#[derive(Clone, Copy, Debug)]
pub enum Store {
    Sqlite,
    Postgres,
}

/// A project with its data.
pub struct Project {
    dir: TempDir,
    database: Option<Database>,
}

impl Project {
    /// `port`: where the slow graph asks.
    pub fn new(store: Store, port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let slow = SLOW.replace("PORT", &port.to_string());
        let files = [("notes", NOTES), ("desk", DESK), ("slow", &slow)];
        let mut config = "[graphs]\n".to_owned();
        for (name, text) in files {
            fs::write(dir.path().join(format!("{name}.yaml")), text).unwrap();
            config += &format!("{name} = \"{name}.yaml\"\n");
        }
        fs::write(dir.path().join("agentflow.toml"), config).unwrap();
        let database = match store {
            Store::Sqlite => None,
            Store::Postgres => {
                let server = postgres::shared(Version::Debian).unwrap();
                Some(server.create_database().unwrap())
            }
        };
        Self { dir, database }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A command with nothing of the developer's shell.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow"));
        for (name, _) in std::env::vars() {
            let ours = ["AGENTFLOW_", "REDIS_", "DATABASE_", "QDRANT_"];
            if ours.iter().any(|start| name.starts_with(start)) || name.ends_with("_API_KEY") {
                command.env_remove(name);
            }
        }
        if let Some(database) = &self.database {
            command.env("DATABASE_URL", database.url());
        }
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_remove("RUST_LOG")
            .env("AGENTFLOW_MODELS__DETECT_OLLAMA", "false")
            .env("AGENTFLOW_MEMORY__EMBEDDING", "off");
        command
    }

    pub async fn start(&self, more: &[(&str, &str)]) -> Server {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut command = self.command(&["dev", "--json", "--port", "0"]);
        command.envs(more.iter().copied());
        let mut process = Process::spawn(command).unwrap();
        let ready = process.ready(LONG, |line| line["event"] == "ready").await;
        Server {
            url: ready.unwrap()["api"].as_str().unwrap().to_owned(),
            client: reqwest::Client::new(),
            process,
        }
    }

    /// One that lets nobody in without a key.
    pub async fn guarded(&self) -> Server {
        let auth = [
            ("AGENTFLOW_AUTH__MODE", "on"),
            ("AGENTFLOW_AUTH__BOOTSTRAP_KEY", ROOT),
        ];
        self.start(&auth).await
    }
}

pub struct Server {
    url: String,
    client: reqwest::Client,
    process: Process,
}

impl Server {
    /// Status and answer.
    pub async fn ask(&self, key: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.url);
        let request = self.client.request(method.parse().unwrap(), url);
        let request = request
            .header("x-api-key", key)
            .header("accept", "application/json, text/event-stream");
        let answer = request.json(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (status, json)
    }

    pub async fn post(&self, key: &str, path: &str, body: Value) -> Value {
        let (status, json) = self.ask(key, "POST", path, &body).await;
        assert!((200..300).contains(&status), "{path}: {status} {json}");
        json
    }

    /// A new key of a principal.
    pub async fn key(&self, principal: &str, more: Value) -> String {
        let mut body = json!({"name": principal, "principal": principal, "role": "user"});
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        let made = self.post(ROOT, "/admin/keys", body).await;
        made["key"].as_str().unwrap().to_owned()
    }

    /// The end of a run of `notes` in which somebody says something; `more` is further parts of
    /// the request.
    pub async fn say(&self, key: &str, text: &str, more: Value) -> Value {
        let mut run = json!({
            "assistant_id": "notes",
            "input": {"messages": [{"role": "user", "content": text}]},
        });
        let more = more.as_object().unwrap().clone();
        run.as_object_mut().unwrap().extend(more);
        self.post(key, "/runs/wait", run).await
    }

    /// The end of a run of `desk`.
    pub async fn desk(&self, key: &str, of: &str, input: Value) -> Value {
        let run = json!({"assistant_id": "desk", "input": input, "context": {"of": of}});
        self.post(key, "/runs/wait", run).await
    }

    /// All memories of a user, as clients of memory list them.
    pub async fn memories(&self, key: &str, user: &str) -> Vec<String> {
        let by = json!({"filters": {"user_id": user}});
        let found = self.post(key, "/v3/memories/", by).await;
        texts(&found["results"])
    }

    /// All frames of a stream, as text.
    pub async fn told(&self, path: &str) -> String {
        let ask = self.client.get(format!("{}{path}", self.url));
        let answer = ask.header("last-event-id", "-1").send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.text().await.unwrap()
    }

    pub async fn kill(self) {
        self.process.kill9().await.unwrap();
    }
}

/// What memories say.
pub fn texts(memories: &Value) -> Vec<String> {
    let all = memories.as_array().unwrap_or_else(|| panic!("{memories}"));
    let text = |one: &Value| one["memory"].as_str().unwrap().to_owned();
    let mut texts: Vec<String> = all.iter().map(text).collect();
    texts.sort();
    texts
}

/// A web server that lets the first one wait for ever.
pub struct Oracle {
    pub port: u16,
    /// The connections of those who wait.
    waiting: Arc<Mutex<Vec<TcpStream>>>,
}

impl Oracle {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let waiting = Arc::<Mutex<Vec<TcpStream>>>::default();
        let held = waiting.clone();
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let mut held = held.lock().unwrap();
                if held.is_empty() {
                    held.push(stream);
                    continue;
                }
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                     content-length: 2\r\nconnection: close\r\n\r\n42"
                );
            }
        });
        Self { port, waiting }
    }

    /// Whether somebody waits.
    pub fn is_asked(&self) -> bool {
        !self.waiting.lock().unwrap().is_empty()
    }
}
