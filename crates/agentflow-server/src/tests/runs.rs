//! Runs over HTTP: background, wait, cancel, stateless, batches.

use serde_json::json;

use super::{NOBODY, Server, check};

/// A run that ends at once with these values.
const QUICK: &str = r#"{"assistant_id":"agent","input":{"do":[["set",{"x":1}]]}}"#;
/// A run that only ends when it is stopped.
const HANGS: &str = r#"{"assistant_id":"agent","input":{"do":[["hang"]]}}"#;

#[tokio::test]
async fn background_runs_are_found_and_removed() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let made = server
        .call(&format!("POST /threads/{thread}/runs"), QUICK)
        .await;
    let run = made.json();
    assert_eq!(
        (&run["status"], &run["multitask_strategy"]),
        (&json!("pending"), &json!("enqueue"))
    );
    let path = format!("/threads/{thread}/runs/{}", run["run_id"].as_str().unwrap());
    assert_eq!(made.header("content-location"), path);
    let joined = server.call(&format!("GET {path}/join"), "").await;
    assert_eq!(joined.text.trim(), r#"{"x":1}"#);
    assert_eq!(joined.header("location"), format!("{path}/join"));
    let line = format!("GET /threads/{thread}/runs?status=success&select=status&limit=5");
    let found = server.call(&line, "").await;
    assert_eq!(found.text, r#"[{"status":"success"}]"#);
    let bad = server
        .call(&format!("GET /threads/{thread}/runs?status=odd"), "")
        .await;
    assert_eq!(bad.status, 422);
    assert_eq!(
        server.call(&format!("GET {path}"), "").await.json()["run_id"],
        run["run_id"]
    );
    let over = server.call(&format!("POST {path}/cancel"), "").await;
    assert_eq!(over.status, 404);
    assert_eq!(
        server.call(&format!("DELETE {path}"), "").await.shown(),
        "204"
    );
    assert_eq!(server.call(&format!("GET {path}"), "").await.status, 404);
}

#[tokio::test]
async fn waiting_tells_values_questions_and_errors() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let line = format!("POST /threads/{thread}/runs/wait");
    let wait = async |body: &str| server.call(&line, body).await;
    let answer = wait(QUICK).await;
    assert_eq!(answer.text.trim(), r#"{"x":1}"#);
    assert_eq!(answer.header("content-type"), "application/json");
    let run = answer.header("content-location").to_owned();
    assert!(
        run.starts_with(&format!("/threads/{thread}/runs/")),
        "{run}"
    );
    assert_eq!(answer.header("location"), format!("{run}/join"));
    let asks = wait(r#"{"assistant_id":"agent","input":{"do":[["ask","ok?"]]}}"#).await;
    assert_eq!(
        asks.text.trim(),
        r#"{"x":1,"__interrupt__":[{"value":"ok?","id":"0123456789abcdef0123456789abcdef","response_schema":null}]}"#
    );
    let thread_now = server
        .call(&format!("GET /threads/{thread}"), "")
        .await
        .json();
    assert_eq!(thread_now["status"], "interrupted");
    assert_eq!(thread_now["interrupts"]["task-1"][0]["value"], "ok?");
    // As chat clients send it: input and command together.
    let body = r#"{"assistant_id":"agent","input":{},"command":{"resume":"yes"}}"#;
    assert_eq!(wait(body).await.json()["answer"], "yes");
    let fails = wait(r#"{"assistant_id":"agent","input":{"do":[["fail","boom"]]}}"#).await;
    assert_eq!(fails.status, 200);
    assert_eq!(
        fails.text.trim(),
        r#"{"__error__":{"error":"ValueError","message":"boom"}}"#
    );
}

#[tokio::test]
async fn silence_is_filled_while_waiting() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let run = server
        .call(&format!("POST /threads/{thread}/runs"), HANGS)
        .await
        .json();
    let path = format!("/threads/{thread}/runs/{}", run["run_id"].as_str().unwrap());
    let response = server
        .open(super::request(&format!("GET {path}/join"), ""))
        .await;
    let mut body = response.into_body().into_data_stream();
    let first = futures_util::StreamExt::next(&mut body)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first, "\n");
    let stopped = server
        .call(&format!("POST {path}/cancel?wait=true"), "")
        .await;
    assert_eq!(stopped.status, 200);
    assert_eq!(
        server.call(&format!("GET {path}"), "").await.json()["status"],
        "interrupted"
    );
}

#[tokio::test]
async fn cancelling_has_many_forms() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let runs = format!("POST /threads/{thread}/runs");
    let hang = async || {
        let run = server.call(&runs, HANGS).await.json();
        run["run_id"].as_str().unwrap().to_owned()
    };
    let id = hang().await;
    let busy = HANGS.replacen('{', r#"{"multitask_strategy":"reject","#, 1);
    let refused = server.call(&runs, &busy).await;
    assert_eq!(
        refused.shown(),
        r#"409 {"detail":"Thread is already running a task. Wait for it to finish or choose a different multitask strategy."}"#
    );
    let state = server
        .call(&format!("POST /threads/{thread}/state"), r#"{"values":{}}"#)
        .await;
    assert_eq!(state.status, 409);
    let line = format!("POST /threads/{thread}/runs/{id}/cancel");
    assert_eq!(server.call(&line, "").await.status, 202);
    server
        .call(&format!("GET /threads/{thread}/runs/{id}/join"), "")
        .await;

    let id = hang().await;
    let line = format!("POST /threads/{thread}/runs/{id}/cancel?wait=1&action=rollback");
    assert_eq!(server.call(&line, "").await.status, 200);
    assert_eq!(
        server
            .call(&format!("GET /threads/{thread}/runs/{id}"), "")
            .await
            .status,
        404
    );

    let id = hang().await;
    let body = format!(r#"{{"thread_id":"{thread}","run_ids":["{id}"]}}"#);
    assert_eq!(server.call("POST /runs/cancel", &body).await.shown(), "204");
    server
        .call(&format!("GET /threads/{thread}/runs/{id}/join"), "")
        .await;
    hang().await;
    let all = server
        .call("POST /runs/cancel?action=interrupt", r#"{"status":"all"}"#)
        .await;
    assert_eq!(all.shown(), "204");
    check(
        &server,
        &[
            (
                "POST /runs/cancel",
                "{}",
                r#"422 {"detail":"give either status, or thread_id with run_ids"}"#,
            ),
            (
                &format!("POST /threads/{thread}/runs/{NOBODY}/cancel?action=explode"),
                "",
                r#"422 {"detail":"action: \"explode\" is not one of interrupt, rollback"}"#,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn threads_are_made_when_wanted() {
    let server = Server::new().await;
    let body = QUICK.replacen('{', r#"{"if_not_exists":"create","#, 1);
    let line = format!("POST /threads/{NOBODY}/runs/wait");
    assert_eq!(server.call(&line, &body).await.text.trim(), r#"{"x":1}"#);
    assert_eq!(
        server
            .call(&format!("GET /threads/{NOBODY}"), "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn stateless_runs_leave_no_thread_unless_wanted() {
    let server = Server::new().await;
    let answer = server.call("POST /runs/wait", QUICK).await;
    assert_eq!(answer.text.trim(), r#"{"x":1}"#);
    assert!(answer.header("location").ends_with("/join"));
    let kept = QUICK.replacen('{', r#"{"on_completion":"keep","metadata":{"kept":1},"#, 1);
    let run = server.call("POST /runs", &kept).await;
    let id = run.json()["run_id"].as_str().unwrap().to_owned();
    assert_eq!(run.header("content-location"), format!("/runs/{id}"));
    let joined = server.call(&format!("GET /runs/{id}/join"), "").await;
    assert_eq!(joined.text.trim(), r#"{"x":1}"#);
    assert_eq!(
        server.call(&format!("GET /runs/{id}"), "").await.json()["status"],
        "success"
    );
    let thread = run.json()["thread_id"].as_str().unwrap().to_owned();
    assert_eq!(
        server
            .call(&format!("GET /threads/{thread}"), "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn batches_make_several_runs() {
    let server = Server::new().await;
    let runs = server
        .call("POST /runs/batch", &format!("[{QUICK},{QUICK}]"))
        .await
        .json();
    assert_eq!(runs.as_array().unwrap().len(), 2);
    assert_ne!(runs[0]["thread_id"], runs[1]["thread_id"]);
    let many = format!("[{}]", vec![QUICK; 1001].join(","));
    let refused = server.call("POST /runs/batch", &many).await;
    assert_eq!(
        refused.shown(),
        r#"422 {"detail":"a batch may have at most 1000 runs"}"#
    );
}

#[tokio::test]
async fn headers_reach_the_graph_but_secrets_do_not() {
    let server = Server::new().await;
    let thread = server.thread().await;
    let mut request = super::request(&format!("POST /threads/{thread}/runs"), QUICK);
    for (name, value) in [
        ("x-user-colour", "red"),
        ("x-api-key", "secret"),
        ("cookie", "c"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let run = server.send(request).await.json();
    let configurable = &run["kwargs"]["config"]["configurable"];
    assert_eq!(configurable["x-user-colour"], "red");
    assert!(configurable.get("x-api-key").is_none() && configurable.get("cookie").is_none());
}
