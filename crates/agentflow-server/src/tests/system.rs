//! What the server says about itself.

use super::{Server, check};

#[tokio::test]
async fn the_server_describes_itself() {
    let server = Server::new().await;
    let fine = r#"200 {"ok":true,"services":{}}"#;
    check(
        &server,
        &[
            ("GET /ok", "", fine),
            ("GET /ok?check_db=1", "", fine),
            ("GET /", "", fine),
        ],
    )
    .await;
    let info = server.call("GET /info", "").await.json();
    assert_eq!(info["flags"]["crons"], true);
    assert_eq!(info["graphs"], serde_json::json!(["agent", "other"]));
    let health = server.call("GET /health", "").await.json();
    assert_eq!(health["status"], "ok");
    let api = server.call("GET /openapi.json", "").await;
    assert_eq!(api.header("content-type"), "application/json");
    assert!(api.json()["paths"]["/threads/{thread_id}/runs/stream"].is_object());
    let docs = server.call("GET /docs", "").await;
    assert!(docs.text.contains("openapi.json"));
    for outside in ["http://", "https://", "//cdn"] {
        assert!(
            !docs.text.contains(outside),
            "the page must load nothing from outside"
        );
    }
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let server = Server::new().await;
    server.thread().await;
    server.call("GET /threads/nope", "").await;
    let text = server.call("GET /metrics", "").await;
    assert_eq!(
        text.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    for line in [
        r#"agentflow_api_http_requests_total{method="POST",path="/threads",status="200"} 1"#,
        r#"agentflow_api_http_requests_total{method="GET",path="/threads/{thread_id}",status="422"} 1"#,
        "agentflow_runs_executing 0",
    ] {
        assert!(
            text.text.lines().any(|found| found == line),
            "{line}\n{}",
            text.text
        );
    }
    let json = server.call("GET /metrics?format=json", "").await.json();
    assert_eq!(json["queue"]["n_pending"], 0);
    assert_eq!(json["api"]["http_requests_total"][0]["path"], "/metrics");
}
