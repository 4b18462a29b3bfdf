//! Items and crons over HTTP.

use serde_json::json;

use super::{NOBODY, Server, check};

#[tokio::test]
async fn items_are_kept() {
    let server = Server::new().await;
    let item = r#"{"namespace":["a","b"],"key":"k","value":{"x":1},"created_at":"<time>","updated_at":"<time>"}"#;
    let hit = item.replace("\"}", "\",\"score\":null}");
    let hits = format!(r#"200 {{"items":[{hit}]}}"#);
    let found = format!("200 {item}");
    check(
        &server,
        &[
            (
                "PUT /store/items",
                r#"{"namespace":["a","b"],"key":"k","value":{"x":1}}"#,
                "204",
            ),
            ("GET /store/items?key=k&namespace=a.b", "", &found),
            (
                "GET /store/items?key=k&namespace=a&namespace=b&refresh_ttl=false",
                "",
                &found,
            ),
            ("GET /store/items?key=none&namespace=a.b", "", "200 null"),
            (
                "POST /store/items/search",
                r#"{"namespace_prefix":["a"],"filter":{"x":1}}"#,
                &hits,
            ),
            (
                "POST /store/items/search",
                r#"{"filter":{"x":{"$gt":1}}}"#,
                r#"200 {"items":[]}"#,
            ),
            (
                "POST /store/namespaces",
                r#"{"max_depth":1}"#,
                r#"200 {"namespaces":[["a"]]}"#,
            ),
            (
                "DELETE /store/items",
                r#"{"namespace":["a","b"],"key":"k"}"#,
                "204",
            ),
            ("DELETE /store/items?key=k&namespace=a.b", "", "204"),
            ("GET /store/items?key=k&namespace=a.b", "", "200 null"),
            (
                "GET /store/items?namespace=a",
                "",
                r#"400 {"error":"Missing required query parameter: key"}"#,
            ),
            (
                "PUT /store/items",
                r#"{"namespace":["a.b"],"key":"k","value":{}}"#,
                "422 Namespace label 'a.b' must be a non-empty string without periods",
            ),
            (
                "PUT /store/items",
                r#"{"namespace":[],"key":"k","value":{}}"#,
                r#"400 {"detail":"Namespace cannot be empty."}"#,
            ),
            (
                "PUT /store/items",
                r#"{"namespace":["a"],"key":"k","value":3}"#,
                r#"422 {"detail":"value: invalid type: integer `3`, expected a map"}"#,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn crons_live() {
    let server = Server::new().await;
    let body = r#"{"assistant_id":"agent","schedule":"0 0 1 1 *","input":{"x":1},
        "metadata":{"m":1},"interrupt_before":"*"}"#;
    let made = server.call("POST /runs/crons", body).await.json();
    assert_eq!(
        made["payload"],
        json!({"input": {"x": 1}, "interrupt_before": "*"})
    );
    assert_eq!(
        (
            &made["on_run_completed"],
            &made["enabled"],
            &made["thread_id"]
        ),
        (&json!("delete"), &json!(true), &json!(null))
    );
    assert!(
        made["next_run_date"]
            .as_str()
            .unwrap()
            .contains("-01-01T00:00:00")
    );
    let path = format!("/runs/crons/{}", made["cron_id"].as_str().unwrap());
    let patch = r#"{"enabled":false,"end_time":"2999-01-01T00:00:00Z","input":{"x":2}}"#;
    let changed = server.call(&format!("PATCH {path}"), patch).await.json();
    assert_eq!(
        (&changed["enabled"], &changed["payload"]["input"]),
        (&json!(false), &json!({"x": 2}))
    );
    let cleared = server
        .call(&format!("PATCH {path}"), r#"{"end_time":null}"#)
        .await
        .json();
    assert_eq!(
        (&cleared["end_time"], &cleared["enabled"]),
        (&json!(null), &json!(false))
    );
    let search = r#"{"enabled":false,"select":["cron_id"],"sort_by":"next_run_date"}"#;
    let found = server.call("POST /runs/crons/search", search).await;
    assert_eq!(found.json(), json!([{"cron_id": made["cron_id"]}]));
    assert_eq!(found.header("x-pagination-total"), "1");
    assert_eq!(
        server
            .call("POST /runs/crons/count", r#"{"enabled":true}"#)
            .await
            .text,
        "0"
    );
    let thread = server.thread().await;
    let shared = server
        .call(&format!("POST /threads/{thread}/runs/crons"), body)
        .await
        .json();
    assert_eq!(
        (&shared["thread_id"], &shared["on_run_completed"]),
        (&json!(thread), &json!(null))
    );
    assert_eq!(
        server.call(&format!("DELETE {path}"), "").await.shown(),
        "204"
    );
    assert_eq!(server.call(&format!("GET {path}"), "").await.status, 404);
    let bad = server
        .call("POST /runs/crons", &body.replace("0 0 1 1 *", "zzz"))
        .await;
    assert_eq!(bad.status, 422);
    let gone = server
        .call(&format!("POST /threads/{NOBODY}/runs/crons"), body)
        .await;
    assert_eq!(gone.status, 404);
}
