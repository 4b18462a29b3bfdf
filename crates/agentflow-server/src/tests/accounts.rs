//! Accounts, keys and the log of requests as Mem0's self-hosted server has them.

use http::HeaderValue;
use serde_json::{Value, json};

use super::{
    Answer, Server,
    access::{BOOTSTRAP, Guarded},
    request,
};

const PASSWORD: &str = "correct horse battery";

/// Asks with a token.
async fn bearer(up: &Guarded, token: &str, line: &str, body: Value) -> Answer {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let mut request = request(line, &body);
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    request.headers_mut().insert("authorization", value);
    up.server.send(request).await
}

fn detail(answer: &Answer) -> String {
    let detail = &answer.json()["detail"];
    format!(
        "{} {}",
        answer.status.as_u16(),
        detail.as_str().unwrap_or("no text")
    )
}

/// The first account; its tokens.
async fn registered(up: &Guarded) -> (String, String) {
    let new = json!({ "name": "Ada", "email": "ada@x.y", "password": PASSWORD });
    let answer = up
        .call(BOOTSTRAP, "POST /auth/register", &new.to_string())
        .await;
    let pair = answer.json();
    assert_eq!(
        (answer.status.as_u16(), &pair["token_type"]),
        (200, &json!("bearer"))
    );
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    (text("access_token"), text("refresh_token"))
}

#[tokio::test]
async fn the_first_account_is_made_once_and_by_nobody_unknown() {
    let up = Guarded::new().await;
    let status = up.call("", "GET /auth/setup-status", "").await.json();
    assert_eq!(status, json!({ "needsSetup": true }));
    let new = |email: &str, password: &str| {
        json!({ "name": "Ada", "email": email, "password": password }).to_string()
    };
    for (key, body, want) in [
        (
            "",
            new("ada@x.y", PASSWORD),
            "403 This server has keys already: register with one that may make users.",
        ),
        ("af_wrong", new("ada@x.y", PASSWORD), "401 Invalid API key."),
        (
            BOOTSTRAP,
            new("ada@x.y", "short"),
            "400 Password must be at least 12 characters.",
        ),
        (BOOTSTRAP, new("ada", PASSWORD), "422 no text"),
    ] {
        let answer = up.call(key, "POST /auth/register", &body).await;
        assert_eq!(detail(&answer), want);
    }
    let mut foreign = request("POST /auth/register", &new("eve@x.y", PASSWORD));
    let page = HeaderValue::from_static("https://evil.example");
    foreign.headers_mut().insert("origin", page);
    let foreign = up.server.send(foreign).await;
    assert_eq!(
        detail(&foreign),
        "403 An account may not be made from another origin."
    );
    registered(&up).await;
    let status = up.call("", "GET /auth/setup-status", "").await.json();
    assert_eq!(status, json!({ "needsSetup": false }));
    let again = up
        .call(BOOTSTRAP, "POST /auth/register", &new("eve@x.y", PASSWORD))
        .await;
    let closed = "403 Registration is closed. An admin account already exists.";
    assert_eq!(detail(&again), closed);
}

#[tokio::test]
async fn an_account_signs_in_and_looks_after_itself() {
    let up = Guarded::new().await;
    let (access, refresh) = registered(&up).await;
    let me = bearer(&up, &access, "GET /auth/me", Value::Null)
        .await
        .json();
    assert_eq!(
        (&me["name"], &me["email"], &me["role"], &me["means"]),
        (
            &json!("Ada"),
            &json!("ada@x.y"),
            &json!("admin"),
            &json!("access")
        )
    );
    let patch = json!({ "name": " Countess " });
    let me = bearer(&up, &access, "PATCH /auth/me", patch).await.json();
    assert_eq!(
        (&me["name"], &me["email"]),
        (&json!("Countess"), &json!("ada@x.y"))
    );
    let moved = json!({ "email": "eve@x.y" });
    let moved = bearer(&up, &access, "PATCH /auth/me", moved).await;
    assert_eq!(moved.status, 400, "{}", moved.text);
    let login = |password: &str| json!({ "email": "ada@x.y", "password": password }).to_string();
    let wrong = up.call("", "POST /auth/login", &login("wrong")).await;
    assert_eq!(detail(&wrong), "401 Invalid email or password.");
    let good = up.call("", "POST /auth/login", &login(PASSWORD)).await;
    assert!(
        good.json()["access_token"]
            .as_str()
            .unwrap()
            .starts_with("afa_")
    );
    assert_eq!(good.headers.get("set-cookie"), None);
    let body = json!({ "refresh_token": refresh }).to_string();
    assert_eq!(up.call("", "POST /auth/refresh", &body).await.status, 200);
    let twice = up.call("", "POST /auth/refresh", &body).await;
    assert_eq!(detail(&twice), "401 Refresh token is no longer valid.");
    let done = json!({ "use_case": "notes" });
    let done = bearer(&up, &access, "POST /auth/onboarding-complete", done).await;
    assert_eq!(done.json(), json!({ "message": "Onboarding completed." }));
    let change = |current: &str| json!({ "current_password": current, "new_password": "another long password" });
    let line = "POST /auth/change-password";
    let wrong = bearer(&up, &access, line, change("wrong")).await;
    assert_eq!(detail(&wrong), "401 Current password is incorrect.");
    let changed = bearer(&up, &access, line, change(PASSWORD)).await;
    assert_eq!(changed.json(), json!({ "message": "Password updated." }));
    let over = bearer(&up, &access, "GET /auth/me", Value::Null).await;
    assert_eq!(detail(&over), "401 Invalid or expired token.");
    let signed = up
        .call(
            "",
            "POST /auth/login",
            &login(PASSWORD).replace(PASSWORD, "another long password"),
        )
        .await
        .json();
    let token = |name: &str| signed[name].as_str().unwrap().to_owned();
    let access = token("access_token");
    let out = bearer(&up, &access, "POST /auth/logout", Value::Null).await;
    assert_eq!(out.status, 204);
    let body = json!({ "refresh_token": token("refresh_token") }).to_string();
    assert_eq!(up.call("", "POST /auth/refresh", &body).await.status, 401);
    // A key is nobody's account.
    let key = up.key("default", agentflow_types::Role::User, None).await;
    let nobody = up.call(&key, line, &change(PASSWORD).to_string()).await;
    assert_eq!(detail(&nobody), "401 Authentication required.");
}

#[tokio::test]
async fn an_account_makes_lists_and_revokes_keys() {
    let up = Guarded::new().await;
    let (access, _) = registered(&up).await;
    let new = json!({ "label": "app", "memory_scope": { "user_id": "alice" } });
    let made = bearer(&up, &access, "POST /api-keys", new).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(key.starts_with(made["key_prefix"].as_str().unwrap()));
    let list = bearer(&up, &access, "GET /api-keys", Value::Null).await;
    assert!(!list.text.contains(key), "a key is shown once");
    let list = list.json();
    assert_eq!(
        (&list[0]["label"], &list[0]["id"]),
        (&json!("app"), &json!(id))
    );
    assert_eq!(list[0]["memory_scope"], json!({ "user_id": "alice" }));
    let add = json!({ "messages": "x", "user_id": "bob", "infer": false }).to_string();
    assert_eq!(
        up.call(key, "POST /v3/memories/add/", &add).await.status,
        403
    );
    let more = json!({ "label": "root", "role": "operator" });
    assert_eq!(
        bearer(&up, &access, "POST /api-keys", more).await.status,
        403
    );
    let nameless = json!({ "label": "" });
    let nameless = bearer(&up, &access, "POST /api-keys", nameless).await;
    assert_eq!(nameless.json()["detail"][0]["loc"], json!(["body"]));
    // Who may make keys sees and revokes its own here.
    let others = up.call(BOOTSTRAP, "GET /api-keys", "").await;
    assert_eq!(others.json(), json!([]));
    let line = format!("DELETE /api-keys/{id}");
    assert_eq!(
        detail(&up.call(BOOTSTRAP, &line, "").await),
        "404 API key not found."
    );
    let revoked = bearer(&up, &access, &line, Value::Null).await;
    assert_eq!(revoked.json(), json!({ "message": "API key revoked." }));
    let again = bearer(&up, &access, &line, Value::Null).await;
    assert_eq!(detail(&again), "400 API key is already revoked.");
    assert_eq!(up.call(key, "GET /v1/ping/", "").await.status, 401);
    let list = bearer(&up, &access, "GET /api-keys", Value::Null).await;
    assert_eq!(list.json(), json!([]));
}

#[tokio::test]
async fn requests_about_memories_are_listed_without_what_was_sent() {
    let up = Guarded::new().await;
    let (access, _) = registered(&up).await;
    let key = up.key("default", agentflow_types::Role::User, None).await;
    let add = json!({ "messages": "my secret", "user_id": "ada", "infer": false });
    up.call(&key, "POST /v3/memories/add/", &add.to_string())
        .await;
    up.call(&key, "GET /memories?user_id=sesame", "").await;
    up.call(&key, "GET /memories", "").await;
    let theirs = up.key("acme", agentflow_types::Role::User, None).await;
    up.call(&theirs, "GET /entities", "").await;
    // People at a console do not fill the log.
    bearer(&up, &access, "GET /entities", Value::Null).await;
    let list = bearer(&up, &access, "GET /requests", Value::Null).await;
    for secret in ["secret", "sesame", &key] {
        assert!(!list.text.contains(secret), "{}", list.text);
    }
    let list = list.json();
    let shown: Vec<(&str, &str, u64)> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap();
            (
                text("method"),
                text("path"),
                one["status_code"].as_u64().unwrap(),
            )
        })
        .collect();
    let want = [
        ("GET", "/memories", 403),
        ("GET", "/memories", 200),
        ("POST", "/v3/memories/add", 200),
    ];
    assert_eq!(shown, want);
    assert_eq!(
        (&list[0]["auth_type"], &list[0]["principal"]),
        (&json!("api_key"), &json!("user of default"))
    );
    assert!(list[0]["latency_ms"].as_f64().is_some());
    let second = bearer(&up, &access, "GET /requests?limit=1&offset=1", Value::Null).await;
    assert_eq!(second.json(), json!([list[1]]));
    let wrong = bearer(&up, &access, "GET /requests?limit=201", Value::Null).await;
    assert_eq!(wrong.json()["detail"][0]["loc"], json!(["query", "limit"]));
    assert_eq!(up.call(&key, "GET /requests", "").await.status, 403);
}

#[tokio::test]
async fn without_authentication_each_answers_what_it_can() {
    let server = Server::new().await;
    let status = server.call("GET /auth/setup-status", "").await.json();
    assert_eq!(status, json!({ "needsSetup": false }));
    let me = server.call("GET /auth/me", "").await.json();
    assert_eq!(
        (&me["principal"], &me["means"]),
        (&json!("local"), &json!("open"))
    );
    let account = json!({ "name": "a", "email": "a@b.c", "password": PASSWORD }).to_string();
    let off = "400 authentication is off on this server";
    for line in ["POST /auth/register", "POST /auth/login", "PATCH /auth/me"] {
        assert_eq!(detail(&server.call(line, &account).await), off, "{line}");
    }
    server.call("GET /entities", "").await;
    let requests = server.call("GET /requests", "").await.json();
    assert_eq!(
        (&requests[0]["path"], &requests[0]["auth_type"]),
        (&json!("/entities"), &json!("disabled"))
    );
    let done = server
        .call("POST /auth/onboarding-complete", r#"{"use_case":"x"}"#)
        .await;
    assert_eq!(done.status, 200);
    let none = server
        .call("POST /generate-instructions", r#"{"use_case":"x"}"#)
        .await;
    assert_eq!(
        (none.status.as_u16(), &none.json()["code"]),
        (502, &json!("provider_unavailable"))
    );
}

#[tokio::test]
async fn what_does_not_fit_is_listed_on_the_self_hosted_surface_only() {
    let server = Server::new().await;
    for (line, body, loc, kind) in [
        ("POST /search", "{}", json!(["body", "query"]), "missing"),
        (
            "POST /memories",
            r#"{"user_id":"a"}"#,
            json!(["body", "messages"]),
            "missing",
        ),
        (
            "POST /search",
            r#"{"query":1}"#,
            json!(["body", "query"]),
            "string_type",
        ),
        (
            "POST /search",
            r#"{"query":"x","top_k":"y"}"#,
            json!(["body", "top_k"]),
            "int_type",
        ),
        ("POST /search", "{", json!(["body"]), "json_invalid"),
        (
            "POST /auth/refresh",
            "{}",
            json!(["body", "refresh_token"]),
            "missing",
        ),
        (
            "GET /memories?user_id=a&top_k=2000",
            "",
            json!(["query", "top_k"]),
            "value_error",
        ),
        (
            "GET /memories?user_id=a&top_k=x",
            "",
            json!(["query", "top_k"]),
            "int_type",
        ),
        (
            "DELETE /entities/thing/a",
            "",
            json!(["path", "entity_type"]),
            "value_error",
        ),
    ] {
        let answer = server.call(line, body).await;
        let detail = &answer.json()["detail"];
        assert_eq!(answer.status, 422, "{line}: {}", answer.text);
        assert_eq!(
            (&detail[0]["loc"], &detail[0]["type"]),
            (&loc, &json!(kind)),
            "{line} {body}"
        );
        assert!(detail[0]["msg"].is_string());
    }
    let platform = server
        .call("POST /v3/memories/search/", r#"{"query":1}"#)
        .await;
    assert_eq!(platform.status, 400);
    assert!(platform.json()["detail"].is_string());
    let threads = server.call("POST /threads", r#"{"thread_id":1}"#).await;
    assert!(threads.json()["detail"].is_string(), "{}", threads.text);
}
