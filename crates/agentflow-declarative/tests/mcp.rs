//! Tools of an MCP server, called by a model and by name.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::{fs, path::PathBuf};

use agentflow_testkit::{Call, Reply};
use agentflow_types::{Value, message, value};
use serde_json::json;
use support::{Bench, conversation, models, question};

/// A folder in which the server leaves the names of the tools that were called.
struct Peer(tempfile::TempDir);

impl Peer {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("calls")
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The declaration, with more keys.
    fn declared(&self, more: &str) -> String {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/server.py");
        let (script, log) = (script.display(), self.log());
        let log = log.display();
        format!(r#"{{kind: mcp, command: python3, args: ["{script}", "{log}"]{more}}}"#)
    }
}

fn calls<const N: usize>(calls: [(&str, serde_json::Value); N]) -> Reply {
    let calls = calls
        .into_iter()
        .enumerate()
        .map(|(at, (name, args))| Call {
            id: Some(format!("call-{at}")),
            ..Call::new(name, args)
        });
    Reply {
        calls: calls.collect(),
        ..Reply::default()
    }
}

fn ask(text: &str) -> Value {
    value!({"messages": [{"role": "user", "content": text}]})
}

#[tokio::test]
async fn a_model_calls_them_and_a_person_approves() {
    let peer = Peer::new();
    let text = format!(
        "version: 1\nkind: agent\ntools: [calculator]\ndeclare:\n  peer: {}\napprove: [peer.erase]\n",
        peer.declared("")
    );
    let first = calls([
        ("shout", json!({"text": "hi"})),
        ("shout", json!({})),
        ("odd_name", json!({})),
        ("erase", json!({})),
    ]);
    let (server, environment) = models([first, Reply::text("Done.")]).await;
    let bench = Bench::new(&text, &environment);
    let asked = bench.run(ask("go")).await.unwrap();
    let actions = question(&asked).get("action_requests").unwrap();
    assert_eq!(actions.as_list().unwrap().len(), 1, "{actions}");
    assert_eq!(peer.calls(), [""; 0], "nothing runs before the answer");
    let reject = value!({"decisions": [{"type": "reject", "message": "keep it"}]});
    let outcome = bench.resume(reject).await.unwrap();
    let lines = conversation(&outcome.values);
    assert_eq!(lines[2], "tool: HI");
    assert!(lines[3].contains("`text` is missing"), "{lines:?}");
    assert_eq!(lines[4], "tool: done");
    assert!(lines[5].contains("keep it"), "{lines:?}");
    assert_eq!(lines[6], "ai: Done.");
    assert_eq!(peer.calls(), ["shout", "odd.name"]);
    let messages = outcome
        .values
        .get("messages")
        .and_then(Value::as_list)
        .unwrap();
    assert_eq!(messages[2].get("artifact"), Some(&value!({"loud": "HI"})));
    assert_eq!(message::kind(&messages[2]), Some("tool"));
    let offered: Vec<String> = server.requests()[0].body["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["function"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(offered, ["calculator", "shout", "erase", "odd_name"]);
    environment.mcp.close().await;
}

#[tokio::test]
async fn a_node_gets_the_structure() {
    let peer = Peer::new();
    let text = format!(
        "
version: 1
state: {{said: any, word: string}}
tools: {{peer: {}}}
nodes:
  say: {{kind: tool, tool: peer.shout, args: {{text: '{{{{ word }}}}'}}, output: said}}
edges: [START -> say -> END]
",
        peer.declared(", tools: [shout], prefix: x_")
    );
    let (_server, environment) = models([]).await;
    let bench = Bench::new(&text, &environment);
    let outcome = bench.run(value!({"word": "tea"})).await.unwrap();
    assert_eq!(outcome.values.get("said"), Some(&value!({"loud": "TEA"})));
    let other = text.replace("peer.shout", "peer.erase");
    let error = Bench::new(&other, &environment)
        .run(value!({"word": "tea"}))
        .await
        .unwrap_err();
    assert_eq!(error.message(), "the source has no such tool");
    environment.mcp.close().await;
}
