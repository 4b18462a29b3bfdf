//! A server whose embedding model is changed, and which is killed while memories are embedded anew.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{path::PathBuf, process::Output, time::Duration};

use agentflow_testkit::{
    Process,
    qdrant::{Options, QdrantServer},
    script::{Reply, Script, When},
    server::ModelServer,
    waiting::until,
};
use serde_json::{Value, json};
use tokio::process::Command;

/// Memories before the change.
const MEMORIES: usize = 3_000;
/// Those of one request.
const AT_ONCE: usize = 100;
/// Longest start of a server, and longest change.
const LONG: Duration = Duration::from_secs(120);

/// What every start has in common.
struct Setting {
    folder: PathBuf,
    urls: [String; 2],
    qdrant: Option<String>,
}

impl Setting {
    fn command(&self, embedding: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow"));
        for (name, _) in std::env::vars() {
            let is_ours = name.starts_with("AGENTFLOW_") || name.ends_with("_API_KEY");
            if is_ours || name.starts_with("QDRANT_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        let [a, b] = &self.urls;
        let file = format!(
            "[models]\ndetect_ollama = false\n[models.providers]\n\
            pa = {{ kind = \"openai\", base_url = \"{a}\" }}\n\
            pb = {{ kind = \"openai\", base_url = \"{b}\" }}\n\
            [memory]\nmodel = \"off\"\nembedding = \"{embedding}\"\n\
            [qdrant]\nurl = \"{}\"\n",
            self.qdrant.as_deref().unwrap_or_default()
        );
        std::fs::write(self.folder.join("agentflow.toml"), file).unwrap();
        command.current_dir(&self.folder);
        command
    }

    async fn start(&self, embedding: &str) -> (Process, String) {
        let mut command = self.command(embedding);
        command.args(["dev", "--json"]);
        let mut process = Process::spawn(command).unwrap();
        let ready = process.ready(LONG, |line| line["event"] == "ready").await;
        let url = ready.unwrap()["api"].as_str().unwrap().to_owned();
        (process, url)
    }

    async fn run(&self, embedding: &str, args: &[&str]) -> (bool, String) {
        let output = self.command(embedding).args(args).output().await;
        let Output {
            status,
            stdout,
            stderr,
        } = output.unwrap();
        let text = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (status.success(), text.concat())
    }
}

async fn post(url: &str, path: &str, body: Value) -> Value {
    let http = reqwest::Client::new();
    let answer = http.post(format!("{url}{path}")).json(&body).send().await;
    let answer = answer.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.json().await.unwrap()
}

async fn add(url: &str, words: impl Iterator<Item = String>) {
    let messages: Vec<Value> = words
        .map(|word| json!({ "role": "user", "content": word }))
        .collect();
    let body = json!({ "messages": messages, "user_id": "ada", "infer": false });
    post(url, "/v3/memories/add/", body).await;
}

/// Whether exactly this memory is found, by its vector too.
async fn is_found(url: &str, word: &str) -> bool {
    let body = json!({
        "query": word, "filters": { "user_id": "ada" }, "threshold": 0.0, "top_k": 5,
        "explain": true,
    });
    let answer = post(url, "/v3/memories/search/", body).await;
    let results = answer["results"].as_array().unwrap();
    let found = results.iter().find(|one| one["memory"] == word);
    let found = found.unwrap_or_else(|| panic!("{word}: {answer}"));
    found["score_breakdown"]["semantic"]
        .as_f64()
        .unwrap_or_default()
        > 0.0
}

/// What `/health` says about the index.
async fn told(url: &str) -> String {
    let answer = reqwest::get(format!("{url}/health")).await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    answer.to_string()
}

async fn change(qdrant: Option<String>) {
    // A second install in one process would be the only error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let of = |embedding_dim| Script {
        embedding_dim,
        ..Script::default()
    };
    let a = ModelServer::start(of(64)).await.unwrap();
    let b = ModelServer::start(of(32)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let setting = Setting {
        folder: folder.path().to_owned(),
        urls: [a.openai_url(), b.openai_url()],
        qdrant,
    };
    let (server, url) = setting.start("pa:m").await;
    for first in (0..MEMORIES).step_by(AT_ONCE) {
        add(&url, (first..first + AT_ONCE).map(|n| format!("zq{n}xv"))).await;
    }
    assert!(is_found(&url, "zq7xv").await);
    server.kill9().await.unwrap();

    // Killed in the middle: the new model stops answering, so that there is one.
    let (server, url) = setting.start("pb:m").await;
    let begun = until(LONG, async || {
        let told = told(&url).await;
        told.contains("memories are embedded by pb:m") && !told.contains("; 0 of")
    });
    begun.await.unwrap();
    b.set_script(of(32).rule(When::path("/v1/embeddings"), [Reply::status(500)]));
    add(&url, std::iter::once("zq9000xv".to_owned())).await;
    for word in ["zq7xv", "zq2999xv", "zq9000xv"] {
        assert!(is_found(&url, word).await, "{word} is found by words alone");
    }
    let told_now = told(&url).await;
    assert!(told_now.contains("found by pa:m"), "{told_now}");
    let (is_fine, text) = setting.run("pb:m", &["memory", "reembed"]).await;
    assert!(!is_fine && text.contains("in use"), "{text}");
    server.kill9().await.unwrap();

    b.set_script(of(32));
    let (server, url) = setting.start("pb:m").await;
    add(&url, std::iter::once("zq9001xv".to_owned())).await;
    let served = until(LONG, async || {
        let told = told(&url).await;
        told.contains("found by pb:m (32 numbers)") && !told.contains("memories are")
    });
    served.await.unwrap();
    for word in ["zq7xv", "zq2999xv", "zq9000xv", "zq9001xv"] {
        assert!(is_found(&url, word).await, "{word} is found by words alone");
    }
    server.kill9().await.unwrap();
    let (is_clean, text) = setting.run("pb:m", &["reconcile", "--check"]).await;
    assert!(is_clean, "{text}");
    println!("{text}");

    // And back, by the command.
    let (is_fine, text) = setting.run("pa:m", &["memory", "reembed"]).await;
    assert!(
        is_fine && text.contains("found by pa:m (64 numbers)"),
        "{text}"
    );
    let (is_clean, text) = setting.run("pa:m", &["reconcile", "--check"]).await;
    assert!(is_clean, "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn models_change_on_sqlite_over_a_kill() {
    change(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn models_change_on_qdrant_over_a_kill() {
    let qdrant = QdrantServer::start(Options::default()).await.unwrap();
    change(Some(qdrant.url())).await;
}
