//! Event streams of runs and threads over HTTP.

use std::time::Duration;

use axum::{body::Body, response::Response};
use futures_util::StreamExt;
use serde_json::Value;

use super::{SOON, Server, normal, request};
use crate::Limits;

/// Speaks in every way, then asks.
const TALKS: &str = r#"{"assistant_id":"agent","input":{"do":[
    ["emit","custom",{"progress":1}],
    ["emit","messages",[{"type":"AIMessageChunk","id":"m","content":"Hi"},{}]],
    ["emit","values",{"deep":true},"sub:1"],
    ["set",{"x":1}],["ask","ok?"]]},
    "stream_mode":["values","updates","messages-tuple","custom"],
    "stream_subgraphs":true,"stream_resumable":true}"#;
const HANGS: &str = r#"{"assistant_id":"agent","input":{"do":[["hang"]]},"stream_mode":"values"}"#;

/// Frames as `event data`, with ` #` where there is an id.
pub(super) fn frames(text: &str) -> Vec<String> {
    let shown = |frame: &str| {
        let field = |name: &str| {
            frame
                .split("\r\n")
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
        };
        let id = if field("id: ").is_empty() { "" } else { " #" };
        format!("{} {}{id}", field("event: "), field("data: "))
    };
    normal(text)
        .split("\r\n\r\n")
        .filter(|frame| !frame.is_empty() && !frame.starts_with(':'))
        .map(shown)
        .collect()
}

#[tokio::test]
async fn frames_and_headers_are_as_observed() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let answer = server
        .call(&format!("POST /threads/{thread}/runs/stream"), TALKS)
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        "text/event-stream; charset=utf-8"
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-accel-buffering"), "no");
    let run = answer.header("content-location").to_owned();
    assert_eq!(answer.header("location"), format!("{run}/stream"));
    assert!(answer.text.ends_with("\r\n\r\n"));
    assert_eq!(
        frames(&answer.text),
        [
            r#"metadata {"run_id":"<id1>","attempt":1} #"#,
            r#"custom {"progress":1} #"#,
            r#"messages [{"type":"AIMessageChunk","id":"m","content":"Hi"},{}] #"#,
            r#"values|sub:1 {"deep":true} #"#,
            r#"updates {"a":{"x":1}} #"#,
            r#"values {"x":1} #"#,
            r#"updates {"__interrupt__":[{"value":"ok?","id":"0123456789abcdef0123456789abcdef","response_schema":null}]} #"#,
        ]
    );
    // When the stream ended, the end of the run was stored.
    assert_eq!(
        server.call(&format!("GET {run}"), "").await.json()["status"],
        "success"
    );
}

#[tokio::test]
async fn clients_resume_where_they_left_off() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let answer = server
        .call(&format!("POST /threads/{thread}/runs/stream"), TALKS)
        .await;
    let run = answer.header("content-location").to_owned();
    let ids: Vec<&str> = answer
        .text
        .split("\r\n")
        .filter_map(|line| line.strip_prefix("id: "))
        .collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5", "6", "7"]);
    let join = async |query: &str, last: Option<&str>| {
        let mut request = request(&format!("GET {run}/stream{query}"), "");
        if let Some(last) = last {
            request
                .headers_mut()
                .insert("last-event-id", last.parse().unwrap());
        }
        frames(&server.send(request).await.text)
    };
    let all = frames(&answer.text);
    assert_eq!(join("", Some("-1")).await, all);
    assert_eq!(join("", Some("0")).await, all);
    assert_eq!(join("", Some("4")).await, all[4..]);
    assert_eq!(join("", None).await, Vec::<String>::new());
    let only = join("?stream_mode=values", Some("-1")).await;
    assert_eq!(only, [all[0].clone(), all[3].clone(), all[5].clone()]);
    let id = run.rsplit('/').next().unwrap();
    let by_id = server.call(&format!("GET /runs/{id}/stream"), "").await;
    assert_eq!(by_id.status, 200);
}

#[tokio::test]
async fn accumulated_messages_resume_whole() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let body = r#"{"assistant_id":"agent","input":{"do":[
        ["emit","messages",[{"type":"AIMessageChunk","id":"m","content":"He"},{}]],
        ["emit","messages",[{"type":"AIMessageChunk","id":"m","content":"llo"},{}]]]},
        "stream_mode":["messages"],"stream_resumable":true}"#;
    let answer = server
        .call(&format!("POST /threads/{thread}/runs/stream"), body)
        .await;
    let run = answer.header("content-location").to_owned();
    let mut again = request(&format!("GET {run}/stream"), "");
    again
        .headers_mut()
        .insert("last-event-id", "2".parse().unwrap());
    assert_eq!(
        frames(&server.send(again).await.text),
        [r#"messages/partial [{"type":"ai","id":"m","content":"Hello"}] #"#]
    );
}

#[tokio::test]
async fn failures_are_told() {
    let server = Server::new().await;
    let body = r#"{"assistant_id":"agent","input":{"do":[["fail","boom"]]}}"#;
    let answer = server.call("POST /runs/stream", body).await;
    let run = answer.header("content-location").to_owned();
    assert!(run.starts_with("/runs/"), "{run}");
    assert_eq!(answer.header("location"), format!("{run}/stream"));
    assert_eq!(
        frames(&answer.text),
        [
            r#"metadata {"run_id":"<id1>","attempt":1}"#,
            r#"error {"error":"ValueError","message":"boom"}"#,
        ]
    );
}

/// Reads from a body until `wanted` was seen.
async fn read_until(body: Body, wanted: &str) -> axum::body::BodyDataStream {
    let mut stream = body.into_data_stream();
    let mut seen = String::new();
    tokio::time::timeout(SOON, async {
        while !seen.contains(wanted) {
            let piece = stream.next().await.expect("more follows").unwrap();
            seen.push_str(std::str::from_utf8(&piece).unwrap());
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{wanted:?} not in {seen:?}"));
    stream
}

/// Waits until a run has this status.
async fn until_status(server: &Server, run: &str, wanted: &str) {
    let look = async {
        loop {
            let found = server.call(&format!("GET {run}"), "").await.json();
            if found["status"] == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, look)
        .await
        .unwrap_or_else(|_| panic!("not {wanted}"));
}

fn place(response: &Response) -> String {
    response.headers()["content-location"]
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn silent_streams_show_life_and_end_with_their_reader() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let line = format!("POST /threads/{thread}/runs/stream");
    let cancels = HANGS.replacen('{', r#"{"on_disconnect":"cancel","#, 1);
    let response = server.open(request(&line, &cancels)).await;
    let run = place(&response);
    let stream = read_until(response.into_body(), ": heartbeat\r\n\r\n").await;
    drop(stream);
    until_status(&server, &run, "interrupted").await;

    // The default lets it go on; a joining reader may still stop it.
    let response = server.open(request(&line, HANGS)).await;
    let run = place(&response);
    drop(read_until(response.into_body(), "metadata").await);
    assert_eq!(
        server.call(&format!("GET {run}"), "").await.json()["status"],
        "running"
    );
    let join = format!("GET {run}/stream?cancel_on_disconnect=true");
    let response = server.open(request(&join, "")).await;
    drop(read_until(response.into_body(), "heartbeat").await);
    until_status(&server, &run, "interrupted").await;
}

#[tokio::test]
async fn a_reader_that_never_reads_is_cut_off_and_the_run_goes_on() {
    let server = Server::with(Limits {
        frames: 2,
        stall: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let thread = server.thread().await;
    let steps = vec![r#"["emit","custom",{"n":1}]"#; 200].join(",");
    let body =
        format!(r#"{{"assistant_id":"agent","input":{{"do":[{steps}]}},"stream_mode":"custom"}}"#);
    let response = server
        .open(request(
            &format!("POST /threads/{thread}/runs/stream"),
            &body,
        ))
        .await;
    let run = place(&response);
    until_status(&server, &run, "success").await;
    // Once the writer gave up, the body breaks: nobody takes what he has for complete.
    server.state.tasks.close();
    tokio::time::timeout(SOON, server.state.tasks.wait())
        .await
        .expect("the writer gives up");
    let mut left = response.into_body().into_data_stream();
    assert!(left.next().await.unwrap().is_err());
}

#[tokio::test]
async fn threads_are_listened_to_across_runs() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let mut listen = request(&format!("GET /threads/{thread}/stream"), "");
    listen
        .headers_mut()
        .insert("last-event-id", "-1".parse().unwrap());
    let response = server.open(listen).await;
    let run = r#"{"assistant_id":"agent","input":{"do":[["set",{"x":1}]]}}"#;
    for _ in 0..2 {
        server
            .call(&format!("POST /threads/{thread}/runs/wait"), run)
            .await;
    }
    let mut stream = response.into_body().into_data_stream();
    let mut seen = String::new();
    while seen.matches("run_done").count() < 2 {
        let piece = tokio::time::timeout(SOON, stream.next()).await.unwrap();
        seen.push_str(std::str::from_utf8(&piece.unwrap().unwrap()).unwrap());
    }
    let one = |id: &str| {
        [
            format!(r#"metadata {{"run_id":"{id}","attempt":1}} #"#),
            r#"values {"x":1} #"#.to_owned(),
            format!(r#"metadata {{"status":"run_done","run_id":"{id}"}} #"#),
        ]
    };
    assert_eq!(frames(&seen), [one("<id1>"), one("<id2>")].concat());
    let bad = server
        .call(
            &format!("GET /threads/{thread}/stream?stream_modes=odd"),
            "",
        )
        .await;
    assert_eq!(bad.status, 422);
}

#[tokio::test]
async fn derived_events_reach_the_client() {
    let server = Server::new().await;
    let body =
        r#"{"assistant_id":"agent","input":{"do":[["set",{"x":1}]]},"stream_mode":["events"]}"#;
    let answer = server.call("POST /runs/stream", body).await;
    let kinds: Vec<String> = answer
        .text
        .split("\r\n")
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter_map(|data| data["event"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        kinds,
        [
            "on_chain_start",
            "on_chain_stream",
            "on_chain_stream",
            "on_chain_end"
        ]
    );
}
