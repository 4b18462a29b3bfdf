//! Threads and their states over HTTP.

use serde_json::json;

use super::{NOBODY, Server, check, request};

#[tokio::test]
async fn threads_live() {
    let server = Server::new().await;
    let made = server
        .call("POST /threads", r#"{"metadata":{"a":1},"ttl":60}"#)
        .await;
    let want = r#"200 {"thread_id":"<id1>","created_at":"<time>","updated_at":"<time>","state_updated_at":"<time>","metadata":{"a":1},"status":"idle","config":{"configurable":{}},"values":null,"error":null,"interrupts":{}}"#;
    assert_eq!(made.shown(), want);
    let id = made.json()["thread_id"].as_str().unwrap().to_owned();
    let one = format!("/threads/{id}");
    assert_eq!(server.call(&format!("GET {one}"), "").await.shown(), want);
    let ttl = server
        .call(&format!("GET {one}?include=ttl"), "")
        .await
        .json()["ttl"]
        .clone();
    assert_eq!(
        (&ttl["strategy"], &ttl["ttl_minutes"]),
        (&json!("delete"), &json!(60.0))
    );

    let exists = format!(r#"{{"thread_id":"{id}"}}"#);
    let refused = server.call("POST /threads", &exists).await;
    assert_eq!(
        refused.shown(),
        r#"409 {"detail":"Thread with ID <id1> already exists"}"#
    );
    let kept = exists.replace('}', r#","if_exists":"do_nothing"}"#);
    assert_eq!(server.call("POST /threads", &kept).await.shown(), want);

    let patched = server
        .call(&format!("PATCH {one}"), r#"{"metadata":{"b":2}}"#)
        .await
        .json();
    assert_eq!(patched["metadata"], json!({"a": 1, "b": 2}));
    let mut minimal = request(&format!("PATCH {one}"), r#"{"metadata":{"c":3}}"#);
    minimal
        .headers_mut()
        .insert("prefer", "return=minimal".parse().unwrap());
    assert_eq!(server.send(minimal).await.shown(), "204");

    let copy = server.call(&format!("POST {one}/copy"), "").await.json();
    assert_ne!(copy["thread_id"], json!(id));
    assert_eq!(
        server
            .call("POST /threads/count", r#"{"metadata":{"c":3}}"#)
            .await
            .text,
        "2"
    );
    let storage = server.call(&format!("GET {one}/storage"), "").await;
    assert_eq!(
        storage.shown(),
        r#"200 {"thread_id":"<id1>","total_bytes":0,"checkpoints":{"count":0,"bytes":0},"channel_values":{"count":0,"bytes":0,"by_channel":{}},"pending_writes":{"count":0,"bytes":0}}"#
    );
    assert_eq!(
        server.call(&format!("DELETE {one}"), "").await.shown(),
        "204"
    );
    assert_eq!(server.call(&format!("DELETE {one}"), "").await.status, 404);
    let copied = server
        .call(&format!("POST /threads/{NOBODY}/copy"), "")
        .await;
    assert_eq!(copied.status, 409);
}

#[tokio::test]
async fn searches_select_and_extract() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let run = r#"{"assistant_id":"agent","input":{"do":[["set",{"messages":["x","y"]}]]}}"#;
    server
        .call(&format!("POST /threads/{thread}/runs/wait"), run)
        .await;
    let body = r#"{"values":{"messages":["y"]},"select":["status"],
        "extract":{"last":"values.messages[-1]","graph":"metadata.graph_id"}}"#;
    let found = server.call("POST /threads/search", body).await;
    assert_eq!(
        found.text,
        r#"[{"status":"idle","extracted":{"last":"y","graph":"agent"}}]"#
    );
    assert_eq!(found.header("x-pagination-total"), "1");
    let line = "POST /threads/search";
    for (body, want) in [
        (format!(r#"{{"ids":["{thread}"]}}"#), "1"),
        (format!(r#"{{"ids":["{NOBODY}"]}}"#), "0"),
        (r#"{"status":"interrupted"}"#.to_owned(), "0"),
    ] {
        assert_eq!(
            server.call(line, &body).await.header("x-pagination-total"),
            want,
            "{body}"
        );
    }
    let bad = server.call(line, r#"{"extract":{"x":"secrets"}}"#).await;
    assert_eq!(bad.status, 422);
    let pruned = format!(r#"{{"thread_ids":["{thread}","{NOBODY}"],"strategy":"delete"}}"#);
    check(
        &server,
        &[
            ("POST /threads/prune", &pruned, r#"200 {"pruned_count":1}"#),
            ("POST /threads/prune", &pruned, r#"200 {"pruned_count":0}"#),
        ],
    )
    .await;
}

#[tokio::test]
async fn states_have_the_documented_shape() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let path = format!("/threads/{thread}");
    let empty = server.call(&format!("GET {path}/state"), "").await;
    assert_eq!(
        empty.shown(),
        r#"200 {"values":{},"next":[],"tasks":[],"metadata":null,"created_at":null,"checkpoint":{"checkpoint_id":null,"thread_id":"<id1>","checkpoint_ns":""},"parent_checkpoint":null,"interrupts":[],"checkpoint_id":null,"parent_checkpoint_id":null}"#
    );
    let no_graph = server
        .call(&format!("POST {path}/state"), r#"{"values":{"x":1}}"#)
        .await;
    assert_eq!(no_graph.status, 400);

    let run = r#"{"assistant_id":"agent","input":{"do":[["set",{"x":1}],["ask","ok?"]]}}"#;
    server.call(&format!("POST {path}/runs/wait"), run).await;
    let state = server
        .call(&format!("GET {path}/state?subgraphs=true"), "")
        .await;
    assert_eq!(
        state.shown(),
        r#"200 {"values":{"x":1},"next":["asker"],"tasks":[{"id":"task-1","name":"asker","path":["__pregel_pull","asker"],"error":null,"interrupts":[{"value":"ok?","id":"0123456789abcdef0123456789abcdef","response_schema":null}],"checkpoint":null,"state":null,"result":null}],"metadata":{"source":"loop","step":1},"created_at":"<time>","checkpoint":{"checkpoint_id":"cp-1","thread_id":"<id1>","checkpoint_ns":""},"parent_checkpoint":{"checkpoint_id":"cp-0","thread_id":"<id1>","checkpoint_ns":""},"interrupts":[{"value":"ok?","id":"0123456789abcdef0123456789abcdef","response_schema":null}],"checkpoint_id":"cp-1","parent_checkpoint_id":"cp-0"}"#
    );
    let line = format!("GET {path}/state?select=values.x&select=next");
    assert_eq!(
        server.call(&line, "").await.text,
        r#"{"values":{"x":1},"next":["asker"]}"#
    );

    let updated = server
        .call(&format!("POST {path}/state"), r#"{"values":{"x":2}}"#)
        .await;
    assert_eq!(
        updated.shown(),
        r#"200 {"checkpoint":{"checkpoint_id":"cp-2","thread_id":"<id1>","checkpoint_ns":""}}"#
    );
    let at = server
        .call(&format!("GET {path}/state/cp-1"), "")
        .await
        .json();
    assert_eq!(at["values"], json!({"x": 1}));
    let body = r#"{"checkpoint":{"checkpoint_id":"cp-2"}}"#;
    let at = server
        .call(&format!("POST {path}/state/checkpoint"), body)
        .await
        .json();
    assert_eq!(at["values"], json!({"x": 2}));
    let gone = server.call(&format!("GET {path}/state/cp-9"), "").await;
    assert_eq!(gone.status, 404);

    let ids = async |line: String, body: &str| {
        let found = server.call(&line, body).await.json();
        let rows = found.as_array().unwrap().clone();
        rows.iter()
            .map(|s| s["checkpoint_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let history = format!("{path}/history");
    assert_eq!(ids(format!("POST {history}"), "{}").await, ["cp-2"]);
    assert_eq!(
        ids(format!("GET {history}"), "").await,
        ["cp-2", "cp-1", "cp-0"]
    );
    for before in [r#""cp-2""#, r#"{"checkpoint_id":"cp-2"}"#] {
        let body = format!(r#"{{"limit":10,"before":{before}}}"#);
        assert_eq!(
            ids(format!("POST {history}"), &body).await,
            ["cp-1", "cp-0"],
            "{before}"
        );
    }
    let patched = server
        .call(&format!("PATCH {path}/state"), r#"{"metadata":{"k":1}}"#)
        .await;
    assert_eq!(patched.json()["checkpoint"]["checkpoint_id"], "cp-2");
}

#[tokio::test]
async fn supersteps_make_the_first_state() {
    let server = Server::new().await;
    let body = r#"{"metadata":{"graph_id":"agent"},
        "supersteps":[{"updates":[{"values":{"x":1},"as_node":"a"}]}]}"#;
    let made = server.call("POST /threads", body).await.json();
    assert_eq!(made["values"], json!({"x": 1}));
}
