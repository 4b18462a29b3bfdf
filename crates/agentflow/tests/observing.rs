//! What a real server tells about itself: traces, logs, metrics, health.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use agentflow_testkit::{receiver::Receiver, waiting::until};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value as Any,
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::{Value, json};

/// Longer than any of these tests should take.
const LONG: Duration = Duration::from_secs(60);

/// A server whose standard error is in a file.
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
        let mut child = command
            .env("AGENTFLOW_MODELS__DETECT_OLLAMA", "false")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.join("stderr.txt")).unwrap())
            .spawn()
            .unwrap();
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

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.url)).json(&body);
        request.send().await.unwrap().json().await.unwrap()
    }

    async fn get(&self, path: &str) -> String {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await;
        answer.unwrap().text().await.unwrap()
    }

    /// A thread and a run on it that has ended.
    async fn run(&self, assistant: &str) -> (String, String) {
        let thread = self.post("/threads", json!({})).await["thread_id"].clone();
        let thread = thread.as_str().unwrap().to_owned();
        let body = json!({"assistant_id": assistant, "input": {"messages": [
            {"role": "user", "content": "hello"}]}});
        let run = self.post(&format!("/threads/{thread}/runs"), body).await;
        let run = run["run_id"].as_str().unwrap().to_owned();
        self.get(&format!("/threads/{thread}/runs/{run}/join"))
            .await;
        (thread, run)
    }

    /// Ends it as an operator does.
    fn stop(mut self) {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Attributes as text.
fn attributes(span: &Span) -> HashMap<&str, String> {
    let text = |value: &Any| match value {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = span.attributes.iter().map(|pair| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        (pair.key.as_str(), value.map(text).unwrap_or_default())
    });
    pairs.collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| {
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        panic!("no span {name} among {names:?}")
    })
}

/// On two threads, because the collector must answer while the server ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_traced_down_to_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Receiver::start().await;
    collector.answer(200);
    let endpoint = collector.url("");
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let server = Server::start(dir.path(), &settings);
    let (thread, run) = server.run("agent").await;
    server.stop();
    let calls = collector.calls();
    assert!(calls.iter().all(|call| call.path == "/v1/traces"));
    let spans: Vec<Span> = calls
        .iter()
        .map(|call| ExportTraceServiceRequest::decode(&call.body[..]).unwrap())
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .collect();

    let request = named(&spans, "POST /threads/{thread_id}/runs");
    let agent = named(&spans, "invoke_agent agent");
    let chat = named(&spans, "chat extractive");
    let superstep = spans
        .iter()
        .find(|span| span.parent_span_id == agent.span_id);
    assert_eq!(superstep.unwrap().name, "superstep");
    assert_eq!(agent.parent_span_id, request.span_id);
    let task = spans
        .iter()
        .find(|span| span.span_id == chat.parent_span_id)
        .unwrap();
    let step = spans
        .iter()
        .find(|span| span.span_id == task.parent_span_id)
        .unwrap();
    assert_eq!(
        (step.name.as_str(), &step.parent_span_id),
        ("superstep", &agent.span_id)
    );
    assert!(
        spans
            .iter()
            .all(|span| span.name != "superstep" || span.trace_id == agent.trace_id)
    );

    let said = attributes(agent);
    for (key, want) in [
        ("thread_id", thread.as_str()),
        ("run_id", run.as_str()),
        ("gen_ai.operation.name", "invoke_agent"),
        ("gen_ai.agent.name", "agent"),
        ("gen_ai.conversation.id", thread.as_str()),
    ] {
        assert_eq!(
            said.get(key).map(String::as_str),
            Some(want),
            "{key}: {said:?}"
        );
    }
    let said = attributes(chat);
    for (key, want) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "extractive"),
        ("gen_ai.request.model", "extractive"),
        ("gen_ai.usage.input_tokens", "0"),
    ] {
        assert_eq!(
            said.get(key).map(String::as_str),
            Some(want),
            "{key}: {said:?}"
        );
    }
    let said = attributes(request);
    assert_eq!(said["http.route"], "/threads/{thread_id}/runs");
    assert_eq!(said["http.response.status_code"], "200");
}

#[tokio::test]
async fn logs_say_which_thread_and_run_they_are_about() {
    let dir = tempfile::tempdir().unwrap();
    let graph = "
version: 1
name: broken
state: { messages: messages, out: any }
nodes:
  call: { kind: http, url: 'http://localhost:9/', output: out }
edges:
  - START -> call -> END
";
    std::fs::write(dir.path().join("broken.yaml"), graph).unwrap();
    let config = "[graphs]\nbroken = \"broken.yaml\"\n[log]\nlevel = \"info\"\nformat = \"json\"\n";
    std::fs::write(dir.path().join("agentflow.toml"), config).unwrap();
    let server = Server::start(dir.path(), &[]);
    let (thread, run) = server.run("broken").await;
    server.stop();
    let text = std::fs::read_to_string(dir.path().join("stderr.txt")).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let failed: Vec<Value> = lines
        .filter(|line| line["message"] == "run failed")
        .collect();
    assert_eq!(failed.len(), 1, "{text}");
    let spans = failed[0]["spans"].as_array().unwrap();
    let of = spans.iter().find(|span| span["name"] == "run").unwrap();
    assert_eq!(
        (&of["thread_id"], &of["run_id"]),
        (&json!(thread), &json!(run))
    );
}

#[tokio::test]
async fn metrics_and_health_tell_of_every_part() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    server.run("agent").await;
    let told = async |wanted: &str| server.get("/metrics").await.contains(wanted);
    let ended = "agentflow_run_duration_seconds_count{status=\"success\"} 1";
    until(LONG, async || told(ended).await).await.unwrap();
    let text = server.get("/metrics").await;
    for wanted in [
        "# TYPE agentflow_runs gauge",
        "agentflow_queue_oldest_seconds 0",
        "agentflow_lease_oldest_seconds 0",
        "agentflow_streams ",
        "agentflow_webhooks{state=\"waiting\"} 0",
        "agentflow_webhooks{state=\"dead\"} 0",
        "agentflow_run_wait_seconds_count 1",
        "agentflow_run_duration_seconds_bucket{status=\"success\",le=\"+Inf\"} 1",
        "agentflow_http_request_duration_seconds_count{method=\"POST\",path=\"/threads\"} 1",
        "agentflow_supersteps_total ",
        "agentflow_tasks_total ",
        "agentflow_tokens_total{provider=\"extractive\",model=\"extractive\",type=\"input\"} 0",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    let steps = text
        .lines()
        .find(|line| line.starts_with("agentflow_supersteps_total"));
    assert_ne!(steps.unwrap(), "agentflow_supersteps_total 0");

    let health: Value = serde_json::from_str(&server.get("/health").await).unwrap();
    assert_eq!(health["status"], "ok", "{health}");
    for part in ["database", "queue", "model"] {
        assert_eq!(health["parts"][part]["status"], "ok", "{health}");
    }
    let alive: Value = serde_json::from_str(&server.get("/ok").await).unwrap();
    assert_eq!(alive["ok"], true);
}
