//! Assistants over HTTP.

use super::{Server, check, normal};

#[tokio::test]
async fn assistants_live_through_their_versions() {
    let server = Server::new().await;
    let body = r#"{"graph_id":"agent","name":"Mine","metadata":{"a":1},"config":{"tags":["t"]}}"#;
    let made = server.call("POST /assistants", body).await;
    let want = r#"200 {"assistant_id":"<id1>","graph_id":"agent","config":{"tags":["t"]},"context":{},"metadata":{"a":1},"name":"Mine","created_at":"<time>","updated_at":"<time>","version":1,"description":null}"#;
    assert_eq!(made.shown(), want);
    let id = made.json()["assistant_id"].as_str().unwrap().to_owned();

    let again = format!(r#"{{"graph_id":"agent","assistant_id":"{id}"}}"#);
    let refused = server.call("POST /assistants", &again).await;
    assert_eq!(
        refused.shown(),
        r#"409 {"detail":"Assistant with ID <id1> already exists"}"#
    );
    let kept = again.replace('}', r#","if_exists":"do_nothing"}"#);
    assert_eq!(server.call("POST /assistants", &kept).await.shown(), want);

    let patch = format!("PATCH /assistants/{id}");
    let changed = server
        .call(&patch, r#"{"name":"Yours","metadata":{"b":2}}"#)
        .await
        .json();
    assert_eq!(changed["version"], 2);
    assert_eq!(changed["metadata"], serde_json::json!({"a": 1, "b": 2}));
    let versions = server
        .call(&format!("POST /assistants/{id}/versions"), "{}")
        .await
        .json();
    let numbers: Vec<_> = versions
        .as_array()
        .unwrap()
        .iter()
        .map(|v| &v["version"])
        .collect();
    assert_eq!(numbers, [2, 1]);
    for (path, body) in [("latest", r#"{"version":1}"#), ("latest?version=1", "{}")] {
        let line = format!("POST /assistants/{id}/{path}");
        assert_eq!(server.call(&line, body).await.json()["name"], "Mine");
        server.call(&patch, r#"{"name":"Yours"}"#).await;
    }
    let line = format!("POST /assistants/{id}/latest");
    assert_eq!(
        server.call(&line, "{}").await.shown(),
        r#"422 {"detail":"version: missing"}"#
    );

    let gone = server.call(&format!("DELETE /assistants/{id}"), "").await;
    assert_eq!(gone.shown(), "204");
    let missing = server.call(&format!("GET /assistants/{id}"), "").await;
    assert_eq!(
        missing.shown(),
        r#"404 {"detail":"Assistant with ID <id1> not found"}"#
    );
}

#[tokio::test]
async fn graphs_are_described_by_id_and_by_name() {
    let server = Server::new().await;
    let drawing = r#"200 {"nodes":[{"id":"__start__","type":"runnable","data":{"name":"__start__"}},{"id":"a","type":"runnable","data":{"name":"a"}},{"id":"__end__"}],"edges":[{"source":"__start__","target":"a"},{"source":"a","target":"__end__"}]}"#;
    let schemas = r#"200 {"graph_id":"agent","input_schema":{"type":"object"},"output_schema":null,"state_schema":null,"config_schema":null,"context_schema":null}"#;
    let one = r#"{"input_schema":null,"output_schema":null,"state_schema":null,"config_schema":null,"context_schema":null}"#;
    check(
        &server,
        &[
            ("GET /assistants/agent/graph", "", drawing),
            ("GET /assistants/fe096781-5601-53d2-b2f6-0d3403f7e9ca/graph?xray=false", "", drawing),
            ("GET /assistants/agent/schemas", "", schemas),
            (
                "GET /assistants/agent/subgraphs?recurse=true",
                "",
                &format!(r#"200 {{"a":{one},"a|b":{one}}}"#),
            ),
            ("GET /assistants/agent/subgraphs/a", "", &format!(r#"200 {{"a":{one}}}"#)),
            (
                "POST /assistants",
                r#"{"graph_id":"zzz"}"#,
                r#"404 {"detail":"Graph 'zzz' not found. Expected one of: [\"agent\", \"other\"]"}"#,
            ),
        ],
    )
    .await;
    for xray in ["true", "1", "5"] {
        let line = format!("GET /assistants/agent/graph?xray={xray}");
        assert_eq!(
            server.call(&line, "").await.json()["nodes"][2]["id"],
            "a:inner",
            "{xray}"
        );
    }
}

#[tokio::test]
async fn searches_have_pages_and_selections() {
    let server = Server::new().await;
    for name in ["one", "two", "three"] {
        let body = format!(r#"{{"graph_id":"agent","name":"{name}","metadata":{{"mine":true}}}}"#);
        server.call("POST /assistants", &body).await;
    }
    let body = r#"{"metadata":{"mine":true},"limit":2,"sort_by":"name","sort_order":"asc","select":["name"]}"#;
    let found = server.call("POST /assistants/search", body).await;
    assert_eq!(found.text, r#"[{"name":"one"},{"name":"three"}]"#);
    assert_eq!(
        (
            found.header("x-pagination-total"),
            found.header("x-pagination-next")
        ),
        ("3", "2")
    );
    let rest = server
        .call(
            "POST /assistants/search",
            &body.replace("2,", "2,\"offset\":2,"),
        )
        .await;
    assert_eq!(
        (rest.text.as_str(), rest.header("x-pagination-next")),
        (r#"[{"name":"two"}]"#, "")
    );
    let count = server
        .call("POST /assistants/count", r#"{"name":"TW"}"#)
        .await;
    assert_eq!(normal(&count.text), "1");
    let system = server
        .call("POST /assistants/search", r#"{"graph_id":"other"}"#)
        .await
        .json();
    assert_eq!(system[0]["metadata"]["created_by"], "system");
}
