//! Memories over HTTP, in both dialects, without a model.

use serde_json::{Value, json};

use super::{Answer, NOBODY, Server};

/// Sends a JSON body.
async fn call(server: &Server, line: &str, body: Value) -> Answer {
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    server.call(line, &text).await
}

/// The answer of a call that succeeds.
async fn good(server: &Server, line: &str, body: Value) -> Value {
    let answer = call(server, line, body).await;
    assert!(
        answer.status.is_success(),
        "{line}: {} {}",
        answer.status,
        answer.text
    );
    answer.json()
}

/// Status and text of a call that fails.
async fn bad(server: &Server, line: &str, body: Value) -> (u16, String) {
    let answer = call(server, line, body).await;
    assert!(!answer.status.is_success(), "{line}: {}", answer.text);
    let text = answer.json()["detail"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (answer.status.as_u16(), text)
}

/// Adds a text as it is; its id.
async fn added(server: &Server, user: &str, text: &str) -> String {
    let body = json!({ "messages": text, "user_id": user, "infer": false });
    let answer = good(server, "POST /v3/memories/add/", body).await;
    assert_eq!(answer["status"], "SUCCEEDED");
    let result = &answer["results"][0];
    assert_eq!(
        (&result["event"], &result["data"]["memory"]),
        (&json!("ADD"), &json!(text))
    );
    result["id"].as_str().unwrap().to_owned()
}

fn texts(answer: &Value) -> Vec<&str> {
    let results = answer["results"].as_array().or(answer.as_array());
    let results = results.unwrap().iter();
    results.map(|one| one["memory"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_memory_lives_and_dies() {
    let server = Server::new().await;
    let ping = good(&server, "GET /v1/ping/", Value::Null).await;
    assert_eq!(
        (&ping["status"], &ping["org_id"]),
        (&json!("ok"), &json!("default"))
    );
    let id = added(&server, "ada", "I love green tea").await;
    let search = json!({ "query": "tea", "filters": { "user_id": "ada" } });
    let found = good(&server, "POST /v3/memories/search/", search.clone()).await;
    assert_eq!(texts(&found), ["I love green tea"]);
    assert!(found["results"][0]["score"].as_f64().unwrap() > 0.0);
    let edit = json!({ "text": "I love black coffee", "metadata": { "n": 1 }, "source": "CLI" });
    let line = format!("PUT /v1/memories/{id}/");
    let edited = good(&server, &line, edit).await;
    assert_eq!(edited["metadata"], json!({ "n": 1 }));
    assert_eq!(
        texts(&good(&server, "POST /v3/memories/search/", search).await).len(),
        0
    );
    let line = format!("GET /v1/memories/{id}/history/");
    let history = good(&server, &line, Value::Null).await;
    assert_eq!(history[1]["old_memory"], "I love green tea");
    assert_eq!(history[1]["new_memory"], "I love black coffee");
    assert_eq!(history[0]["input"][0]["content"], "I love green tea");
    let line = format!("DELETE /v1/memories/{id}/");
    let gone = good(&server, &line, Value::Null).await;
    assert_eq!(gone["message"], "Memory deleted successfully!");
    let line = format!("GET /v1/memories/{id}/");
    assert_eq!(
        bad(&server, &line, Value::Null).await,
        (404, "Memory not found!".into())
    );
    let wrong = bad(&server, "GET /v1/memories/x/", Value::Null).await;
    assert_eq!(wrong, (400, "memory_id should be a valid UUID".into()));
}

#[tokio::test]
async fn lists_have_pages_and_filters() {
    let server = Server::new().await;
    for (user, text) in [
        ("ada", "a one"),
        ("ada", "a two"),
        ("ada", "a three"),
        ("bob", "b one"),
    ] {
        added(&server, user, text).await;
    }
    let filters = json!({ "filters": { "AND": [{ "user_id": "ada" }] } });
    let page = good(
        &server,
        "POST /v3/memories/?page=1&page_size=2",
        filters.clone(),
    )
    .await;
    assert_eq!(
        (&page["count"], texts(&page)),
        (&json!(3), vec!["a three", "a two"])
    );
    let next = page["next"].as_str().unwrap();
    assert!(next.ends_with("/v3/memories/?page=2&page_size=2"), "{next}");
    let page = good(&server, "POST /v3/memories/?page=2&page_size=2", filters).await;
    assert_eq!((texts(&page), &page["next"]), (vec!["a one"], &Value::Null));
    let escape = json!({ "filters": { "user_id": "ada", "AND": [{ "user_id": "bob" }] } });
    let page = good(&server, "POST /v3/memories/", escape).await;
    assert_eq!(page["count"], 0);
    for (filters, status) in [
        (json!({}), 400),
        (
            json!({ "filters": { "user_id": "ada", "colour": "red" } }),
            400,
        ),
        (json!({ "filters": { "user_id": { "like": "a" } } }), 400),
        (json!({ "user_id": "ada" }), 400),
    ] {
        let refused = bad(&server, "POST /v3/memories/", filters.clone()).await;
        assert_eq!(refused.0, status, "{filters}: {}", refused.1);
    }
    for size in ["0", "201", "x"] {
        let line = format!("POST /v3/memories/?page_size={size}");
        let body = json!({ "filters": { "user_id": "ada" } });
        assert_eq!(bad(&server, &line, body).await.0, 400, "{size}");
    }
}

#[tokio::test]
async fn removal_names_whom_it_is_about() {
    let server = Server::new().await;
    added(&server, "ada", "a").await;
    added(&server, "o'neil x/y", "b").await;
    for wrong in [
        "DELETE /v1/memories/",
        "DELETE /v1/memories/?filters=%5Bobject%20Object%5D",
    ] {
        assert_eq!(bad(&server, wrong, Value::Null).await.0, 400, "{wrong}");
    }
    let python = "DELETE /v1/memories/?filters=%7B%27user_id%27%3A+%27ada%27%7D";
    let answer = good(&server, python, Value::Null).await;
    let event = answer["event_id"].as_str().unwrap();
    let event = good(&server, &format!("GET /v1/event/{event}/"), Value::Null).await;
    assert_eq!(
        (&event["status"], &event["event_type"]),
        (&json!("SUCCEEDED"), &json!("DELETE_ALL"))
    );
    let entities = good(&server, "GET /v1/entities/", Value::Null).await;
    assert_eq!(entities["total_users"], 1);
    assert_eq!(entities["results"][0]["name"], "o'neil x/y");
    let line = "DELETE /v2/entities/user/o%27neil%20x%2Fy/";
    good(&server, line, Value::Null).await;
    let entities = good(&server, "GET /v1/entities/", Value::Null).await;
    assert_eq!(entities["count"], 0);
    let wrong = bad(&server, "DELETE /v2/entities/thing/x/", Value::Null).await;
    assert_eq!(wrong, (400, "Invalid entity type".into()));
}

#[tokio::test]
async fn batches_feedback_and_exports() {
    let server = Server::new().await;
    let (a, b) = (
        added(&server, "ada", "tea").await,
        added(&server, "ada", "rum").await,
    );
    let edits = json!({ "memories": [{ "memory_id": a, "text": "gin" }, { "memory_id": b, "text": "ale" }] });
    let done = good(&server, "PUT /v1/batch/", edits).await;
    assert_eq!(done["message"], "Successfully updated 2 memories");
    let body = json!({ "memory_id": a, "feedback": "POSITIVE", "feedback_reason": "yes" });
    assert_eq!(
        good(&server, "POST /v1/feedback/", body).await["feedback"],
        "POSITIVE"
    );
    let body = json!({ "memory_id": NOBODY, "feedback": "POSITIVE" });
    assert_eq!(bad(&server, "POST /v1/feedback/", body).await.0, 404);
    let body = json!({ "schema": { "type": "object" }, "filters": { "user_id": "ada" } });
    let export = call(&server, "POST /v1/exports/", body).await;
    assert_eq!(export.status, 201);
    let body = json!({ "memory_export_id": export.json()["id"] });
    let export = good(&server, "POST /v1/exports/get/", body).await;
    assert_eq!(export["memories"].as_array().unwrap().len(), 2);
    let body = json!({ "filters": { "user_id": "ada" } });
    assert_eq!(
        good(&server, "POST /v1/exports/get/", body.clone()).await,
        export
    );
    let summary = good(&server, "POST /v1/summary/", body).await;
    assert!(summary["summary"].as_str().unwrap().contains("ale"));
    let ids = json!({ "memories": [{ "memory_id": a }, { "memory_id": b }] });
    let done = good(&server, "DELETE /v1/batch/", ids.clone()).await;
    assert_eq!(done["message"], "Successfully deleted 2 memories");
    assert_eq!(bad(&server, "DELETE /v1/batch/", ids).await.0, 404);
}

#[tokio::test]
async fn projects_keep_memories_apart() {
    let server = Server::new().await;
    let base = "/api/v1/orgs/organizations/default/projects";
    let made = good(
        &server,
        &format!("POST {base}/"),
        json!({ "name": "second" }),
    )
    .await;
    let project = made["project_id"].as_str().unwrap();
    let body = json!({ "messages": "secret tea", "user_id": "ada", "infer": false });
    good(
        &server,
        &format!("POST /v3/memories/add/?project_id={project}"),
        body,
    )
    .await;
    let query = json!({ "query": "tea", "filters": { "user_id": "ada" } });
    let found = good(&server, "POST /v3/memories/search/", query.clone()).await;
    assert!(texts(&found).is_empty());
    let line = format!("POST /v3/memories/search/?project_id={project}");
    assert_eq!(
        texts(&good(&server, &line, query.clone()).await),
        ["secret tea"]
    );
    let line = "POST /v3/memories/search/?project_id=nothing";
    assert_eq!(bad(&server, line, query).await.0, 404);
    let line = format!("PATCH {base}/{project}/");
    let patch = json!({ "custom_categories": [{ "food": "what is eaten" }], "decay": true });
    good(&server, &line, patch).await;
    let shown = good(&server, &format!("GET {base}/{project}/"), Value::Null).await;
    assert_eq!(
        shown["custom_categories"],
        json!([{ "food": "what is eaten" }])
    );
    assert_eq!(
        (&shown["decay"], &shown["name"]),
        (&json!(true), &json!("second"))
    );
    let line = format!("POST {base}/{project}/members/");
    good(
        &server,
        &line,
        json!({ "email": "a@b.c", "role": "READER" }),
    )
    .await;
    assert_eq!(
        bad(&server, &line, json!({ "email": "a@b.c", "role": "KING" }))
            .await
            .0,
        400
    );
    let line = format!("GET {base}/{project}/members/");
    let members = good(&server, &line, Value::Null).await;
    assert_eq!(members["members"][0]["username"], "a@b.c");
    good(&server, &format!("DELETE {base}/{project}/"), Value::Null).await;
    assert_eq!(
        bad(&server, &format!("GET {base}/{project}/"), Value::Null)
            .await
            .0,
        404
    );
    let other = "GET /api/v1/orgs/organizations/other/projects/";
    assert_eq!(bad(&server, other, Value::Null).await.0, 404);
}

#[tokio::test]
async fn profiles_are_made_once_per_key() {
    let server = Server::new().await;
    for text in ["I like tea", "I live in Rome", "I play the cello"] {
        added(&server, "ada", text).await;
    }
    let none = good(&server, "GET /v2/entities/user/ada/profile/", Value::Null).await;
    assert_eq!(none["status"], "insufficient_data");
    let body = json!({ "operation": "trigger", "entity_type": "user", "entity_id": "ada" });
    let job = good(&server, "POST /v2/profiles/jobs/", body).await;
    let url = job["status_url"].as_str().unwrap();
    let id = job["event_id"].as_str().unwrap();
    let memory = server.state.memory.clone().unwrap();
    let (scope, id) = (agentflow_types::Scope::local(), id.parse().unwrap());
    memory
        .wait(&scope, "default", id, super::SOON)
        .await
        .unwrap();
    let done = good(&server, &format!("GET {url}"), Value::Null).await;
    assert_eq!(done["job"]["status"], "succeeded");
    let profile = good(&server, "GET /v2/entities/user/ada/profile/", Value::Null).await;
    assert_eq!(profile["status"], "succeeded");
    assert!(profile["profile"].as_str().unwrap().contains("cello"));
    let off = json!({ "enabled": false });
    good(&server, "POST /v2/profiles/settings/", off).await;
    let flat = json!({ "schema": {} });
    assert_eq!(
        bad(&server, "POST /v2/profiles/settings/", flat).await.0,
        400
    );
}

#[tokio::test]
async fn the_self_hosted_dialect_has_its_own_shapes() {
    let server = Server::new().await;
    let body = json!({ "messages": [{ "role": "user", "content": "I like tea" }], "infer": false });
    let nobody = bad(&server, "POST /memories", body.clone()).await;
    assert_eq!(nobody.0, 400);
    let mut body = body;
    body["user_id"] = json!("ada");
    body["metadata"] = json!({ "topic": "drinks" });
    let made = good(&server, "POST /memories", body).await;
    let id = made["results"][0]["id"].as_str().unwrap().to_owned();
    let one = good(&server, &format!("GET /memories/{id}"), Value::Null).await;
    assert_eq!(
        (&one["user_id"], &one["score"]),
        (&json!("ada"), &Value::Null)
    );
    assert!(one.get("agent_id").is_none());
    let none = good(&server, &format!("GET /memories/{NOBODY}"), Value::Null).await;
    assert_eq!(none, Value::Null);
    let query = json!({ "query": "tea", "filters": { "user_id": "ada", "topic": "drinks" } });
    assert_eq!(
        texts(&good(&server, "POST /search", query).await),
        ["I like tea"]
    );
    let query = json!({ "query": "tea", "filters": { "user_id": "ada", "topic": "cars" } });
    assert!(texts(&good(&server, "POST /search", query).await).is_empty());
    let query = json!({ "query": "tea", "filters": { "topic": "drinks" } });
    assert_eq!(bad(&server, "POST /search", query).await.0, 400);
    let listed = good(&server, "GET /memories?user_id=ada", Value::Null).await;
    assert_eq!(texts(&listed), ["I like tea"]);
    assert_eq!(
        texts(&good(&server, "GET /memories", Value::Null).await).len(),
        1
    );
    let star = good(&server, "DELETE /memories?user_id=*", Value::Null).await;
    assert_eq!(star["message"], "All relevant memories deleted");
    assert_eq!(
        texts(&good(&server, "GET /memories?user_id=ada", Value::Null).await).len(),
        1
    );
    good(&server, "POST /reset", Value::Null).await;
    assert!(texts(&good(&server, "GET /memories", Value::Null).await).is_empty());
    let history = good(&server, &format!("GET /memories/{id}/history"), Value::Null).await;
    let events: Vec<&Value> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["event"])
        .collect();
    assert_eq!(events, ["ADD", "DELETE"]);
}

#[tokio::test]
async fn older_clients_get_older_shapes() {
    let server = Server::new().await;
    added(&server, "ada", "I like tea").await;
    let bare = good(&server, "GET /v1/memories/?user_id=ada", Value::Null).await;
    assert_eq!(texts(&bare), ["I like tea"]);
    let query = json!({ "query": "tea", "user_id": "ada" });
    assert_eq!(
        texts(&good(&server, "POST /v1/memories/search/", query).await).len(),
        1
    );
    let query = json!({ "query": "tea", "filters": { "user_id": "ada" }, "output_format": "v1.1" });
    let found = good(&server, "POST /v2/memories/search/", query).await;
    assert_eq!(found["relations"], json!([]));
    let body = json!({ "filters": { "user_id": "ada" } });
    assert!(
        good(&server, "POST /v2/memories/", body.clone())
            .await
            .is_array()
    );
    assert_eq!(
        good(&server, "POST /v2/memories/?page=1", body).await["count"],
        1
    );
    let one = good(&server, "GET /v1/memories/user/ada/", Value::Null).await;
    assert_eq!(one["count"], 1);
    let refused = call(&server, "POST /api/v1/auth/agent_mode/", json!({})).await;
    assert_eq!(refused.status, 403);
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .contains("no accounts")
    );
}

#[tokio::test]
async fn a_webhook_for_events_that_never_happen_is_refused() {
    let server = Server::new().await;
    let line = "POST /api/v1/webhooks/projects/default";
    for (event, want) in [
        ("ingest_job_completed", "never happens on this server"),
        ("ingest_job:failed", "never happens on this server"),
        ("memory_lost", "is none of memory_add"),
    ] {
        let body =
            json!({ "url": "https://example.com/hook", "event_types": ["memory_add", event] });
        let answer = server.call(line, &body.to_string()).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.text.contains(want), "{}", answer.text);
    }
}
