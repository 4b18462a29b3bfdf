//! The model server as a program: what tests in other languages see.

use std::time::Duration;

use agentflow_testkit::{Outcome, Process, Recorded};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

const DEADLINE: Duration = Duration::from_secs(20);

async fn start(args: &[&str]) -> (Process, u16) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow-testkit-model-server"));
    command.args(args);
    let mut process = Process::spawn(command).expect("the program was built for this test");
    let ready = process
        .ready(DEADLINE, |line| line["event"] == "ready")
        .await;
    let port = ready.expect("the program gets ready")["port"].as_u64();
    (
        process,
        port.and_then(|port| u16::try_from(port).ok())
            .expect("a port"),
    )
}

/// Status and body of one request.
async fn call(port: u16, method: &str, path: &str, body: Value) -> (u16, String) {
    let body = body.to_string();
    let request = format!(
        "{method} {path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("the server listens");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the server reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("the server answers in UTF-8");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    (status.expect("a status"), body.expect("a body"))
}

fn chat(text: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": text}]})
}

#[tokio::test]
async fn scripts_can_be_set_and_requests_read() {
    let (process, port) = start(&[]).await;
    let path = "/v1/chat/completions";
    let (_, answer) = call(port, "POST", path, chat("echo me")).await;
    assert!(answer.contains(r#""content":"echo me""#), "{answer}");

    let script = json!({"rules": [{"when": {"text": "a"}, "replies": [{"text": "b"}]}]});
    assert_eq!(call(port, "POST", "/__script", script).await.0, 204);
    let (_, answer) = call(port, "POST", path, chat("a?")).await;
    assert!(answer.contains(r#""content":"b""#), "{answer}");

    let (_, requests) = call(port, "GET", "/__requests", Value::Null).await;
    let requests: Vec<Recorded> = serde_json::from_str(&requests).unwrap();
    assert_eq!(
        requests.len(),
        1,
        "setting a script forgets what came before"
    );
    assert_eq!(requests[0].body["messages"][0]["content"], "a?");
    assert_eq!(requests[0].outcome, Outcome::Completed);

    let (status, error) = call(port, "POST", "/__script", json!({"ruels": []})).await;
    assert!(
        (400..500).contains(&status) && error.contains("ruels"),
        "{status} {error}"
    );
    process.interrupt(DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_script_file_is_read_and_streams_are_events() {
    let path = std::env::temp_dir().join(format!("agentflow-script-{}.json", std::process::id()));
    let script = json!({"rules": [{"replies": [{"text": "one two", "usage": [3, 4]}]}]});
    std::fs::write(&path, script.to_string()).unwrap();
    let (process, port) = start(&["--script", path.to_str().unwrap()]).await;
    let mut body = chat("x");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let (_, answer) = call(port, "POST", "/v1/chat/completions", body).await;
    let texts: Vec<String> = answer
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert_eq!(texts, ["", "one ", "two"]);
    assert!(
        answer.contains(r#""prompt_tokens":3,"completion_tokens":4"#),
        "{answer}"
    );
    assert!(answer.contains("data: [DONE]\n\n"), "{answer}");
    process.kill9().await.unwrap();
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn requests_that_the_real_servers_refuse_are_refused() {
    let (_process, port) = start(&[]).await;
    let message = |role: &str| json!({"role": role, "content": "x", "tool_call_id": "1"});
    for (path, body, want) in [
        (
            "/v1/chat/completions",
            json!({"model": "m", "messages": []}),
            "too short",
        ),
        (
            "/v1/chat/completions",
            json!({"model": "m", "messages": [message("tool")]}),
            "preceding",
        ),
        (
            "/v1/chat/completions",
            json!({"model": "m", "messages": [message("king")]}),
            "king",
        ),
        ("/v1/chat/completions", json!("x"), "model"),
        ("/v1/messages", chat("x"), "anthropic-version"),
        ("/api/chat", json!({"model": "m"}), "messages"),
    ] {
        let (status, answer) = call(port, "POST", path, body).await;
        assert!(
            status == 400 && answer.contains(want),
            "{path} {status} {answer}"
        );
    }
    assert_eq!(call(port, "POST", "/v1/unknown", json!({})).await.0, 404);
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let (_process, port) = start(&[]).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow-testkit-model-server"));
    command.args(["--port", &port.to_string()]);
    let second = Process::spawn(command).unwrap();
    let status = second.wait(DEADLINE).await.unwrap();
    assert!(!status.success());
}
