//! Memory in graphs that are written in Rust.

use std::path::PathBuf;

use agentflow::{
    app::App,
    config::{self, Config},
};
use agentflow_declarative::memory::{Memories, Recall, Remember, Said};
use agentflow_graph::{Channel, Graph, GraphBuilder, NodeContext, NodeOptions, RetryPolicy, START};
use agentflow_types::{Error, Result, Value, value};
use serde_json::json;
use std::sync::Arc;

fn config(dir: &tempfile::TempDir) -> Config {
    let mut config = config::embedded(&PathBuf::from(dir.path())).unwrap();
    config.server.port = 0;
    config.port_is_explicit = true;
    config.models.detect_ollama = false;
    config.memory.embedding = "off".into();
    config
}

fn remember(text: &str, part: &str) -> Remember {
    Remember {
        messages: vec![Said {
            role: "user",
            content: text.into(),
        }],
        owners: vec![("user_id", "ada".into())],
        part: part.into(),
        ..Remember::default()
    }
}

/// A node that adds two memories, fails after that twice, and then tells what is known.
fn graph(app: &App) -> Result<Arc<Graph>> {
    let memory = app.memory().clone();
    let retries = NodeOptions {
        retry: Some(RetryPolicy {
            initial_interval: std::time::Duration::ZERO,
            jitter: false,
            ..RetryPolicy::attempts(3)
        }),
        ..NodeOptions::default()
    };
    let mut builder = GraphBuilder::new("notes");
    builder
        .channel("known", Channel::last_value())
        .node_with("add", retries, move |_, context: NodeContext| {
            let memory = memory.clone();
            async move {
                let tea = remember("I drink tea", "drinks");
                let first = memory.remember(&context, tea).await?;
                let bread = remember("I eat bread and drink tea", "eats");
                memory.remember(&context, bread).await?;
                if context.attempt() < 3 {
                    return Err(Error::busy("it fails after the adds"));
                }
                // The job of the first time, with what came of it.
                assert_eq!(first.results.len(), 1);
                let recall = Recall {
                    query: "tea".into(),
                    owners: vec![("user_id", "ada".into())],
                    ..Recall::default()
                };
                let known = memory.recall(&context, recall).await?;
                let texts = known.into_iter().map(|one| Value::from(one.memory));
                Ok(value!({"known": Value::list(texts.collect())}).into())
            }
        })
        .edge(START, "add");
    builder.compile()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_fails_after_its_adds_adds_once() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let app = App::new(config(&dir));
    let graph = graph(&app).unwrap();
    let server = app.graph("notes", graph).start().await.unwrap();
    let run = json!({"assistant_id": "notes", "input": {"known": []}});
    let url = format!("{}/runs/wait", server.url());
    let answer = reqwest::Client::new().post(url).json(&run).send();
    let end: serde_json::Value = answer.await.unwrap().json().await.unwrap();
    let mut known: Vec<&str> = end["known"]
        .as_array()
        .unwrap_or_else(|| panic!("{end}"))
        .iter()
        .map(|one| one.as_str().unwrap())
        .collect();
    known.sort_unstable();
    assert_eq!(known, ["I drink tea", "I eat bread and drink tea"]);
    server.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_memory_a_node_is_told_so() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    config.memory.enabled = false;
    let app = App::new(config);
    let graph = graph(&app).unwrap();
    let server = app.graph("notes", graph).start().await.unwrap();
    let run = json!({"assistant_id": "notes", "input": {"known": []}});
    let url = format!("{}/runs/wait", server.url());
    let answer = reqwest::Client::new().post(url).json(&run).send();
    let end: serde_json::Value = answer.await.unwrap().json().await.unwrap();
    let error = end["__error__"].to_string();
    assert!(error.contains("memory.enabled"), "{end}");
    server.shut_down().await.unwrap();
}
