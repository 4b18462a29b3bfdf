//! Requests that are wrong, and limits.

use axum::body::Body;
use http::{Request, StatusCode};

use super::{NOBODY, Server, check, request};
use crate::Limits;

#[tokio::test]
async fn mistakes_are_answered_as_observed() {
    let server = Server::new().await;
    let nobody = |path: &str| format!("{path}/{NOBODY}");
    check(
        &server,
        &[
            ("POST /threads", "{", r#"422 {"detail":"Invalid JSON in request body"}"#),
            (
                "POST /threads/search",
                r#"{"limit":"x"}"#,
                r#"422 {"detail":"limit: invalid type: string \"x\", expected i64"}"#,
            ),
            (
                "POST /threads/search",
                r#"{"limit":0}"#,
                r#"422 {"detail":"limit: 0 is less than the minimum of 1"}"#,
            ),
            (
                "POST /threads/search",
                r#"{"limit":10000}"#,
                r#"422 {"detail":"limit: 10000 is greater than the maximum of 1000"}"#,
            ),
            (
                "POST /threads/search",
                r#"{"status":"asleep"}"#,
                r#"422 {"detail":"status: unknown variant `asleep`, expected one of `idle`, `busy`, `interrupted`, `error`"}"#,
            ),
            (
                "POST /threads/search",
                r#"{"sort_by":"x"}"#,
                r#"422 {"detail":"sort_by: \"x\" is not one of thread_id, status, created_at, updated_at, state_updated_at"}"#,
            ),
            (
                "GET /threads/nope",
                "",
                r#"422 {"detail":"Invalid thread ID: must be a UUID"}"#,
            ),
            (
                &nobody("GET /threads"),
                "",
                r#"404 {"detail":"Thread with ID 00000000-0000-4000-8000-000000000000 not found"}"#,
            ),
            (
                "POST /runs/wait",
                r#"{"assistant_id":"nope"}"#,
                r#"422 {"detail":"Invalid assistant: 'nope'. Must be either:\n- A valid assistant UUID, or\n- One of the registered graphs: agent, other"}"#,
            ),
            (
                "POST /runs/wait",
                "{}",
                r#"422 {"detail":"missing field `assistant_id`"}"#,
            ),
            (
                "POST /runs/wait",
                r#"{"assistant_id":"00000000-0000-4000-8000-000000000000"}"#,
                r#"404 {"detail":"Thread or assistant not found."}"#,
            ),
            (
                &format!("{}/runs", nobody("POST /threads")),
                r#"{"assistant_id":"agent"}"#,
                r#"404 {"detail":"Thread or assistant not found."}"#,
            ),
            (
                "POST /runs/stream",
                r#"{"assistant_id":"agent","stream_mode":"tools"}"#,
                r#"422 {"detail":"stream_mode: \"tools\" is not one of values, updates, messages, messages-tuple, custom, tasks, checkpoints, debug, events"}"#,
            ),
            (
                "POST /runs/wait",
                r#"{"assistant_id":"agent","command":{"resume":1}}"#,
                r#"400 {"detail":"Cannot resume a run without a thread_id"}"#,
            ),
            (
                "POST /runs",
                r#"{"assistant_id":"agent","config":{"recursion_limit":"many"}}"#,
                r#"422 {"detail":"config.recursion_limit: must be a positive integer"}"#,
            ),
            ("GET /nowhere", "", r#"404 {"detail":"Not Found"}"#),
            ("PUT /threads", "", r#"405 {"detail":"Method Not Allowed"}"#),
            ("GET /ok/", "", r#"200 {"ok":true,"services":{}}"#),
        ],
    )
    .await;
}

#[tokio::test]
async fn large_bodies_are_refused_without_being_read() {
    let server = Server::with(Limits {
        body_bytes: 1000,
        ..Limits::default()
    })
    .await;
    let refused = r#"413 {"detail":"request body is larger than 1000 bytes"}"#;
    // The length alone is enough: this body never comes.
    let announced = Request::post("/threads")
        .header("content-length", "100000000")
        .body(Body::from_stream(futures_util::stream::pending::<
            Result<String, std::io::Error>,
        >()))
        .unwrap();
    assert_eq!(server.send(announced).await.shown(), refused);
    // Without a length, reading stops at the limit.
    let pieces = (0..1_000_000).map(|_| Ok::<_, std::io::Error>("x".repeat(100)));
    let endless = Request::post("/threads")
        .body(Body::from_stream(futures_util::stream::iter(pieces)))
        .unwrap();
    assert_eq!(server.send(endless).await.shown(), refused);
}

#[tokio::test]
async fn slow_bodies_and_deep_ones_are_refused() {
    let limits = Limits {
        body_timeout: std::time::Duration::from_millis(20),
        ..Limits::default()
    };
    let server = Server::with(limits).await;
    let silent = Request::post("/threads")
        .body(Body::from_stream(futures_util::stream::pending::<
            Result<String, std::io::Error>,
        >()))
        .unwrap();
    assert_eq!(
        server.send(silent).await.shown(),
        r#"408 {"detail":"the request body did not arrive in time"}"#
    );
    let deep = format!(
        "{{\"metadata\":{{\"a\":{}{}}}}}",
        "[".repeat(200),
        "]".repeat(200)
    );
    assert_eq!(
        server.call("POST /threads", &deep).await.shown(),
        r#"422 {"detail":"request body is nested deeper than 100 levels"}"#
    );
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let run = r#"{"assistant_id":"agent","input":{"do":[]}}"#;
    server
        .call(&format!("POST /threads/{thread}/runs/wait"), run)
        .await;
    let line = format!("POST /threads/{thread}/state");
    let answer = server
        .call(&line, r#"{"values":{},"as_node":"panic"}"#)
        .await;
    assert_eq!(answer.shown(), r#"500 {"detail":"Internal Server Error"}"#);
}

#[tokio::test]
async fn pages_of_other_origins_are_let_in() {
    let server = Server::new().await;
    let preflight = Request::options("/threads")
        .header("origin", "https://studio.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-api-key")
        .header("access-control-request-private-network", "true")
        .body(Body::empty())
        .unwrap();
    let answer = server.send(preflight).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(
        answer.header("access-control-allow-headers"),
        "content-type,x-api-key"
    );
    assert_eq!(
        answer.header("access-control-allow-private-network"),
        "true"
    );
    let mut get = request("GET /ok", "");
    get.headers_mut()
        .insert("origin", "https://studio.example".parse().unwrap());
    let answer = server.send(get).await;
    assert_eq!(
        answer.header("access-control-expose-headers"),
        "location,content-location,x-pagination-total,x-pagination-next,x-request-id,retry-after"
    );
}
