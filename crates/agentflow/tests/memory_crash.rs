//! A server that is killed while memories are added, and an index that comes and goes: what was
//! acknowledged is found, once.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use agentflow_testkit::{
    Process,
    qdrant::{Options, QdrantServer},
    waiting::until,
};
use serde_json::{Value, json};
use tokio::{process::Command, sync::Mutex};

/// Times that the server is killed.
const KILLS: usize = 50;
/// Memories that are acknowledged at least.
const ADDS: usize = 5_000;
/// Memories that are added at most, on a machine where killing takes long.
const MOST_ADDS: usize = 40_000;
/// Clients that add at once.
const CLIENTS: usize = 16;
/// How long the server lives between two kills; drawn from the first ones.
const LIVES_MS: std::ops::Range<u64> = 150..600;
/// Memories that one search looks for.
const SOUGHT: usize = 100;
/// Longest start of a server, and longest time until the outbox is empty.
const LONG: Duration = Duration::from_secs(120);

/// What every start of the server has in common.
struct Setting {
    folder: PathBuf,
    port: u16,
    qdrant: String,
}

impl Setting {
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow"));
        for (name, _) in std::env::vars() {
            if name.starts_with("AGENTFLOW_") || name.ends_with("_API_KEY") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command
            .current_dir(&self.folder)
            .env("AGENTFLOW_MODELS__DETECT_OLLAMA", "false")
            .env("AGENTFLOW_MEMORY__EMBEDDING", "off")
            .env("QDRANT_URL", &self.qdrant);
        command
    }

    async fn start(&self) -> Process {
        let mut command = self.command();
        command.args(["dev", "--json", "--port", &self.port.to_string()]);
        let mut process = Process::spawn(command).unwrap();
        let ready = process.ready(LONG, |line| line["event"] == "ready").await;
        ready.unwrap();
        process
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

/// A port that nobody has, below those that the system gives out: while the server is down, no
/// other test gets it.
fn free_port() -> u16 {
    let first = 20_000 + u16::try_from(std::process::id() % 8_000).unwrap();
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..first + 100).find(is_free).unwrap()
}

/// What the clients share: acknowledged ids by the word that only their memory has.
#[derive(Default)]
struct Acknowledged {
    ids: Mutex<HashMap<String, String>>,
    words: AtomicUsize,
    enough: AtomicBool,
}

/// Adds until it is enough. Each attempt says something of its own, so that one whose answer was
/// lost is not taken for another.
async fn add(setting: Arc<Setting>, shared: Arc<Acknowledged>) {
    let http = reqwest::Client::new();
    while !shared.enough.load(Ordering::Relaxed) {
        let number = shared.words.fetch_add(1, Ordering::Relaxed);
        if number >= MOST_ADDS {
            return;
        }
        let word = format!("qz{number}xv");
        let body = json!({ "messages": word, "user_id": "ada", "infer": false });
        let request = http.post(setting.url("/v3/memories/add/")).json(&body);
        let Ok(answer) = request.send().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if !answer.status().is_success() {
            continue;
        }
        if let Ok(answer) = answer.json::<Value>().await {
            let id = answer["results"][0]["id"].as_str().unwrap().to_owned();
            shared.ids.lock().await.insert(word, id);
        }
    }
}

/// What is wrong with what a search for these words finds: each memory must be found, once.
async fn difference(
    http: &reqwest::Client,
    setting: &Setting,
    sought: &[(&String, &String)],
) -> String {
    let words: Vec<&str> = sought.iter().map(|(word, _)| word.as_str()).collect();
    let body = json!({
        "query": words.join(" "), "filters": { "user_id": "ada" }, "keyword_search": true,
        "threshold": 0.0, "top_k": 1_000, "fields": ["memory"],
    });
    let request = http.post(setting.url("/v3/memories/search/")).json(&body);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let results = answer["results"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    let mut hits: Vec<(&str, &str)> = results
        .iter()
        .map(|one| (one["memory"].as_str().unwrap(), one["id"].as_str().unwrap()))
        .collect();
    let mut wanted: Vec<(&str, &str)> = sought
        .iter()
        .map(|(word, id)| (word.as_str(), id.as_str()))
        .collect();
    // A memory is also found by the words of what was said before it: those are not asked about.
    hits.retain(|(word, _)| wanted.iter().any(|(wanted, _)| wanted == word));
    hits.sort_unstable();
    wanted.sort_unstable();
    match hits == wanted {
        true => String::new(),
        false => format!("{} memories, found {hits:?}", wanted.len()),
    }
}

/// Kills the server again and again, and lets the index come and go.
async fn torment(setting: &Setting, qdrant: &mut QdrantServer, shared: &Acknowledged) -> Process {
    let mut server = setting.start().await;
    let mut is_away = false;
    for kill in 0.. {
        let acknowledged = shared.ids.lock().await.len();
        if kill >= KILLS && acknowledged >= ADDS {
            break;
        }
        // Random enough: nobody knows when adds are where.
        let spread = LIVES_MS.end - LIVES_MS.start;
        let life = LIVES_MS.start + (kill as u64 * 7_919) % spread;
        tokio::time::sleep(Duration::from_millis(life)).await;
        if kill % 3 == 0 {
            match is_away {
                false => qdrant.pause().await,
                true => qdrant.resume().await.unwrap(),
            }
            is_away = !is_away;
        }
        if kill < KILLS {
            server.kill9().await.unwrap();
            server = setting.start().await;
        }
    }
    if is_away {
        qdrant.resume().await.unwrap();
    }
    shared.enough.store(true, Ordering::Relaxed);
    server
}

/// What `agentflow reconcile --check` says.
async fn check(setting: &Setting) -> (bool, String) {
    let mut command = setting.command();
    let data: &Path = &setting.folder.join(".agentflow");
    let output = command
        .args(["reconcile", "--check", "--data"])
        .arg(data)
        .output();
    let output = output.await.unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn acknowledged_memories_survive_kills_and_an_index_that_comes_and_goes() {
    // A second install in one process would be the only error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut qdrant = QdrantServer::start(Options::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let setting = Arc::new(Setting {
        folder: folder.path().to_owned(),
        port: free_port(),
        qdrant: qdrant.url(),
    });
    let shared = Arc::new(Acknowledged::default());
    let clients = (0..CLIENTS).map(|_| tokio::spawn(add(setting.clone(), shared.clone())));
    let clients: Vec<_> = clients.collect();
    let server = torment(&setting, &mut qdrant, &shared).await;
    for client in clients {
        client.await.unwrap();
    }
    let ids = shared.ids.lock().await;
    assert!(
        ids.len() >= ADDS,
        "only {} adds\n{}",
        ids.len(),
        server.tail()
    );
    let all: Vec<(&String, &String)> = ids.iter().collect();
    let http = reqwest::Client::new();
    for sought in all.chunks(SOUGHT) {
        let is_found = until(LONG, async || {
            difference(&http, &setting, sought).await.is_empty()
        });
        if is_found.await.is_err() {
            panic!(
                "{}
{}",
                difference(&http, &setting, sought).await,
                server.tail()
            );
        }
    }
    server.kill9().await.unwrap();
    let (is_clean, text) = check(&setting).await;
    assert!(is_clean, "{text}");
    println!("{KILLS} kills, {} acknowledged: {text}", ids.len());
}
