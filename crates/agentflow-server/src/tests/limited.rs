//! Keys that are limited to some memories, on both surfaces and as tools.

use agentflow_auth::NewKey;
use agentflow_types::{Map, MemoryScope, Permissions, Role, Scope};
use serde_json::{Value, json};

use super::access::Guarded;

/// A server with a memory of alice and one of somebody else; their ids.
async fn open() -> (Guarded, String, [String; 2]) {
    let up = Guarded::new().await;
    let whole = up.key("default", Role::User, None).await;
    let mut ids = Vec::new();
    for user in ["alice", "victim"] {
        let body = json!({ "messages": "tea is good", "user_id": user, "infer": false });
        let added = up
            .call(&whole, "POST /v3/memories/add/", &body.to_string())
            .await;
        let id = added.json()["results"][0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        ids.push(id);
    }
    let key = limited(&up, r#"{"user_id":"alice"}"#).await;
    (up, key, [ids.remove(0), ids.remove(0)])
}

async fn limited(up: &Guarded, scope: &str) -> String {
    let root = Scope::authenticated("default", "root", Permissions::ALL, Map::new());
    let new = NewKey {
        name: "limited".into(),
        principal: None,
        role: Role::Admin,
        scopes: None,
        memories: Some(MemoryScope::parse(scope).unwrap()),
        expires_at: None,
        tenant: None,
    };
    up.auth.create_key(&root, new).await.unwrap().secret
}

#[tokio::test]
async fn reads_of_both_surfaces_stay_within() {
    let (up, key, [alice, victim]) = open().await;
    let every = json!({ "AND": [{ "user_id": "*" }] });
    let or = json!({ "OR": [{ "user_id": "victim" }, { "user_id": "alice" }] });
    let reads = [
        (
            "POST /v3/memories/search/",
            json!({ "query": "tea", "filters": every, "threshold": 0 }),
        ),
        (
            "POST /v3/memories/search/",
            json!({ "query": "tea", "filters": or, "threshold": 0 }),
        ),
        ("POST /v3/memories/", json!({ "filters": every })),
        ("POST /v2/memories/", json!({ "filters": every })),
        ("GET /v1/memories/?user_id=*", Value::Null),
        (
            "POST /search",
            json!({ "query": "tea", "filters": every, "threshold": 0 }),
        ),
        ("GET /v1/entities/", Value::Null),
        ("GET /entities", Value::Null),
        ("GET /v1/memories/events/", Value::Null),
    ];
    for (line, body) in reads {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = up.call(&key, line, &body).await;
        assert_eq!(answer.status, 200, "{line}: {}", answer.text);
        assert!(answer.text.contains("alice"), "{line}: {}", answer.text);
        assert!(!answer.text.contains("victim"), "{line}: {}", answer.text);
    }
    for (line, want) in [
        (format!("GET /v1/memories/{alice}/"), 200),
        (format!("GET /v1/memories/{victim}/"), 404),
        (format!("DELETE /v1/memories/{victim}/"), 404),
        (format!("DELETE /memories/{victim}"), 404),
    ] {
        let answer = up.call(&key, &line, "").await;
        assert_eq!(answer.status, want, "{line}: {}", answer.text);
    }
    let none = up.call(&key, &format!("GET /memories/{victim}"), "").await;
    assert_eq!(none.text, "null");
}

#[tokio::test]
async fn writes_beyond_are_refused_with_a_reason() {
    let (up, key, _) = open().await;
    let add = json!({ "messages": [{ "role": "user", "content": "x" }], "user_id": "victim",
        "infer": false });
    for line in [
        "POST /v3/memories/add/",
        "POST /memories",
        "POST /v1/memories/",
    ] {
        let answer = up.call(&key, line, &add.to_string()).await;
        assert_eq!(answer.status, 403, "{line}: {}", answer.text);
        let text = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            text.contains(r#"memories of {"user_id":"alice"}"#),
            "{text}"
        );
    }
    for (line, body) in [
        ("POST /configure", json!({ "custom_instructions": "x" })),
        (
            "POST /api/v1/orgs/organizations/default/projects/",
            json!({ "name": "x" }),
        ),
        (
            "DELETE /api/v1/orgs/organizations/default/projects/default/",
            Value::Null,
        ),
        ("POST /v2/profiles/settings/", json!({ "enabled": false })),
        // Whatever else the role allows would lead past the limit.
        ("POST /admin/keys", json!({ "name": "x" })),
        ("POST /threads", json!({})),
        (
            "PUT /store/items",
            json!({ "namespace": ["a"], "key": "k", "value": {} }),
        ),
    ] {
        let answer = up.call(&key, line, &body.to_string()).await;
        assert_eq!(answer.status, 403, "{line}: {}", answer.text);
    }
    // All of it is all that is within.
    let wiped = up.call(&key, "POST /reset", "").await;
    assert_eq!(wiped.status, 200, "{}", wiped.text);
    let whole = up.key("default", Role::User, None).await;
    let left = up.call(&whole, "GET /entities", "").await.text;
    assert!(left.contains("victim") && !left.contains("alice"), "{left}");
}

#[tokio::test]
async fn tools_are_about_what_is_within() {
    let (up, key, [_, victim]) = open().await;
    let tool = |name: &str, arguments: Value| {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": name, "arguments": arguments } });
        let line = "POST /mcp";
        let (up, key) = (&up, &key);
        async move {
            let mut request = super::request(line, &call.to_string());
            let headers = request.headers_mut();
            headers.insert("x-api-key", key.parse().unwrap());
            let both = "application/json, text/event-stream";
            headers.insert("host", "127.0.0.1".parse().unwrap());
            headers.insert("accept", both.parse().unwrap());
            up.server.send(request).await.text
        }
    };
    let added = tool("add_memory", json!({ "text": "cellos", "infer": false })).await;
    assert!(added.contains("SUCCEEDED"), "{added}");
    let own = tool("get_memories", json!({})).await;
    assert!(own.contains("cellos") && own.contains("tea"), "{own}");
    let every = json!({ "query": "tea", "filters": { "user_id": "*" } });
    let found = tool("search_memories", every).await;
    assert!(
        found.contains("alice") && !found.contains("victim"),
        "{found}"
    );
    let other = tool("get_memory", json!({ "memory_id": victim })).await;
    assert!(other.contains("not found"), "{other}");
    let foreign = json!({ "text": "x", "user_id": "victim", "infer": false });
    let refused = tool("add_memory", foreign).await;
    assert!(refused.contains("may only add"), "{refused}");
    let all = tool("delete_all_memories", json!({ "user_id": "victim" })).await;
    assert!(
        all.contains("\\\"deleted\\\":0") || all.contains("\"deleted\":0"),
        "{all}"
    );
}

#[tokio::test]
async fn a_limit_is_given_shown_and_checked() {
    let up = Guarded::new().await;
    let admin = up.key("default", Role::Admin, None).await;
    let body =
        json!({ "name": "app", "memory_scope": { "agent_id": "a", "metadata": { "n": 1 } } });
    let made = up
        .call(&admin, "POST /admin/keys", &body.to_string())
        .await
        .json();
    assert_eq!(made["memory_scope"], body["memory_scope"]);
    let key = made["key"].as_str().unwrap();
    let me = up.call(key, "GET /auth/me", "").await.json();
    let want = json!(["assistants:read", "memories:read", "memories:write"]);
    assert_eq!(me["permissions"], want);
    let wrong = json!({ "name": "app", "memory_scope": { "user_id": { "ne": "a" } } });
    let wrong = up
        .call(&admin, "POST /admin/keys", &wrong.to_string())
        .await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
}
