//! Doors: credentials, permissions, sessions, limits, the log of changes.

use std::sync::Arc;

use agentflow_auth::{Auth, AuthConfig, Limits as Quotas, NewKey, NewUser};
use agentflow_types::{Map, Permissions, Role, Scope, SystemClock};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::{Answer, NOBODY, Server, request};
use crate::{Doors, Limits, Security};

pub(crate) const BOOTSTRAP: &str = "bootstrap-key-for-tests-0123456789";

/// A server whose doors are guarded.
pub(crate) struct Guarded {
    pub(crate) server: Server,
    pub(crate) auth: Arc<Auth>,
}

impl Guarded {
    pub(crate) async fn new() -> Self {
        Self::with(Quotas::default()).await
    }

    pub(crate) async fn with(limits: Quotas) -> Self {
        Self::on(agentflow_storage::memory::Memory::open(), limits).await
    }

    pub(crate) async fn on(backend: agentflow_storage::Backend, limits: Quotas) -> Self {
        let config = AuthConfig {
            bootstrap_key: Some(BOOTSTRAP.into()),
            limits,
            ..AuthConfig::default()
        };
        let auth = Auth::new(backend.clone(), Arc::new(SystemClock), config, None);
        let state = |state: crate::AppState| {
            state
                .with_auth(auth.clone(), Doors::Guarded)
                .with_security(Security::default())
        };
        let server = Server::over(backend, Limits::default(), state).await;
        Self { server, auth }
    }

    /// A new key of a tenant, which is made if it does not exist.
    pub(crate) async fn key(&self, tenant: &str, role: Role, scopes: Option<&[&str]>) -> String {
        let root = Scope::authenticated("default", "root", Permissions::ALL, Map::new());
        if tenant != "default" {
            // It may exist.
            let _ = self.auth.create_tenant(tenant.to_owned(), None).await;
        }
        let scopes = scopes.map(|words| Permissions::parse(words.iter().copied()).unwrap());
        let new = NewKey {
            memories: None,
            name: format!("{tenant}'s"),
            principal: Some(format!("user of {tenant}")),
            role,
            scopes,
            expires_at: None,
            tenant: Some(tenant.to_owned()),
        };
        self.auth.create_key(&root, new).await.unwrap().secret
    }

    pub(crate) async fn call(&self, key: &str, line: &str, body: &str) -> Answer {
        let mut request = request(line, body);
        if !key.is_empty() {
            let value = HeaderValue::from_str(key).unwrap();
            request.headers_mut().insert("x-api-key", value);
        }
        self.server.send(request).await
    }
}

#[tokio::test]
async fn nobody_unknown_comes_in() {
    let up = Guarded::new().await;
    for key in ["", "af_nobody", "sk-1"] {
        let refused = up.call(key, "POST /threads", "{}").await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert_eq!(
            refused.header("www-authenticate"),
            "Bearer realm=\"agentflow\""
        );
        assert!(refused.json()["detail"].is_string());
    }
    for open in [
        "GET /ok",
        "GET /info",
        "GET /health",
        "GET /docs",
        "GET /openapi.json",
        "GET /",
    ] {
        assert_eq!(up.call("", open, "").await.status, StatusCode::OK, "{open}");
    }
    // What does not exist does not ask who wants it.
    assert_eq!(
        up.call("", "GET /nothing", "").await.status,
        StatusCode::NOT_FOUND
    );
    let verb = up.call("", "PUT /threads", "").await.status;
    assert_eq!(verb, StatusCode::METHOD_NOT_ALLOWED);
}

/// A client's next request goes over the same connection, unless it is told otherwise.
#[tokio::test]
async fn refusals_read_the_rest_of_their_request() {
    let guarded = Guarded::new().await;
    let read = guarded.call("", "POST /threads", "{}").await;
    assert_eq!(read.status, StatusCode::UNAUTHORIZED);
    assert!(!read.headers.contains_key("connection"));
    let long = json!({"metadata": {"text": "x".repeat(100_000)}}).to_string();
    let unread = guarded.call("", "POST /threads", &long).await;
    assert_eq!(unread.status, StatusCode::UNAUTHORIZED);
    assert_eq!(unread.headers["connection"], "close");
}

#[tokio::test]
async fn every_scheme_of_clients_opens() {
    let up = Guarded::new().await;
    let key = up.key("default", Role::User, None).await;
    for (name, value) in [
        ("x-api-key", key.clone()),
        ("authorization", format!("Bearer {key}")),
        ("authorization", format!("Token {key}")),
    ] {
        let mut request = request("GET /auth/me", "");
        let value = HeaderValue::from_str(&value).unwrap();
        request.headers_mut().insert(name, value);
        let me = up.server.send(request).await.json();
        assert_eq!(me["principal"], "user of default", "{name}");
        assert_eq!(me["means"], "key");
    }
}

#[tokio::test]
async fn each_permission_opens_its_own_doors() {
    let up = Guarded::new().await;
    let reader = up.key("default", Role::User, Some(&["threads:read"])).await;
    let viewer = up.key("default", Role::Viewer, None).await;
    let user = up.key("default", Role::User, None).await;
    let thread = format!("GET /threads/{NOBODY}");
    for (key, line, body, want) in [
        (&reader, &*thread, "", 404),
        (&reader, "POST /threads", "{}", 403),
        (&reader, "POST /assistants/search", "{}", 403),
        (&viewer, "POST /assistants/search", "{}", 200),
        (&viewer, "POST /threads", "{}", 403),
        (
            &viewer,
            "PUT /store/items",
            r#"{"namespace":["a"],"key":"k","value":{}}"#,
            403,
        ),
        (
            &user,
            "PUT /store/items",
            r#"{"namespace":["a"],"key":"k","value":{}}"#,
            204,
        ),
        (&user, "GET /admin/keys", "", 403),
        (&user, "GET /metrics", "", 403),
        (&BOOTSTRAP.to_owned(), "GET /metrics", "", 200),
        (&BOOTSTRAP.to_owned(), "GET /admin/tenants", "", 200),
    ] {
        let answer = up.call(key, line, body).await;
        assert_eq!(answer.status.as_u16(), want, "{line}: {}", answer.text);
    }
    let refused = up.call(&viewer, "POST /threads", "{}").await.json();
    assert_eq!(refused["detail"], "Missing permission: threads:write");
}

#[tokio::test]
async fn commands_need_the_right_to_run() {
    let up = Guarded::new().await;
    let viewer = up.key("default", Role::Viewer, None).await;
    let body = r#"{"id":1,"method":"run.start","params":{"assistant_id":"agent"}}"#;
    let line = format!("POST /threads/{NOBODY}/commands");
    let answer = up.call(&viewer, &line, body).await.json();
    assert_eq!(answer["error"], "permission_denied");
    let user = up.key("default", Role::User, None).await;
    assert_eq!(up.call(&user, &line, body).await.json()["type"], "success");
}

#[tokio::test]
async fn a_session_needs_its_cookie_and_its_second_token() {
    let up = Guarded::new().await;
    let new = NewUser {
        title: String::new(),
        name: "ada".into(),
        password: "correct horse battery".into(),
        role: Role::Admin,
        tenant: None,
    };
    let root = Scope::authenticated("default", "root", Permissions::ALL, Map::new());
    up.auth.create_user(&root, new).await.unwrap();
    let wrong = r#"{"username":"ada","password":"wrong"}"#;
    let refused = up.call("", "POST /auth/login", wrong).await;
    assert_eq!(
        refused.shown(),
        r#"401 {"detail":"Wrong user or password."}"#
    );
    let right = r#"{"username":"ada","password":"correct horse battery"}"#;
    let signed = up.call("", "POST /auth/login", right).await;
    assert_eq!(signed.status, StatusCode::OK, "{}", signed.text);
    let cookie = signed.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let (pair, _) = cookie.split_once(';').unwrap();
    let csrf = signed.json()["csrf_token"].as_str().unwrap().to_owned();
    let send = async |line: &str, body: &str, more: &[(&'static str, &str)]| {
        let mut request = request(line, body);
        let headers = request.headers_mut();
        headers.insert("cookie", HeaderValue::from_str(pair).unwrap());
        for (name, value) in more {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        up.server.send(request).await
    };
    let me = send("GET /auth/me", "", &[]).await.json();
    assert_eq!(
        (&me["principal"], &me["csrf_token"]),
        (&json!("ada"), &json!(csrf))
    );
    assert_eq!(
        send("POST /threads", "{}", &[]).await.status,
        StatusCode::FORBIDDEN
    );
    let token = [("x-csrf-token", csrf.as_str())];
    assert_eq!(
        send("POST /threads", "{}", &token).await.status,
        StatusCode::OK
    );
    let foreign = [("origin", "https://evil.example"), ("host", "here")];
    assert_eq!(
        send("GET /auth/me", "", &foreign).await.status,
        StatusCode::FORBIDDEN
    );
    let gone = send("POST /auth/logout", "", &token).await;
    assert!(gone.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(
        send("GET /auth/me", "", &[]).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked_over_http_and_logged() {
    let up = Guarded::new().await;
    let admin = up.key("default", Role::Admin, None).await;
    let body =
        r#"{"name":"ci","role":"user","scopes":["runs:*"],"expires_at":"2999-01-01T00:00:00Z"}"#;
    let made = up.call(&admin, "POST /admin/keys", body).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    let (made, name) = (made.json(), made.header("x-request-id").to_owned());
    let (id, secret) = (
        made["key_id"].as_str().unwrap(),
        made["key"].as_str().unwrap(),
    );
    assert_eq!(made["scopes"], json!(["runs:read", "runs:write"]));
    let list = up.call(&admin, "GET /admin/keys", "").await;
    assert!(!list.text.contains(secret) && list.text.contains(id));
    assert_eq!(
        up.call(secret, "GET /auth/me", "").await.status,
        StatusCode::OK
    );
    let line = format!("DELETE /admin/keys/{id}");
    assert_eq!(
        up.call(&admin, &line, "").await.status,
        StatusCode::NO_CONTENT
    );
    let refused = up.call(secret, "GET /auth/me", "").await;
    assert_eq!(
        refused.shown(),
        r#"401 {"detail":"The API key was revoked."}"#
    );
    let denied = r#"{"name":"root","role":"operator"}"#;
    let denied = up.call(&admin, "POST /admin/keys", denied).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);

    let log = up.call(&admin, "GET /admin/audit", "").await.json();
    let told: Vec<(&str, &str, &str)> = log
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap();
            (text("action"), text("target"), text("outcome"))
        })
        .collect();
    let want = [
        ("keys.create", "", "denied"),
        ("keys.revoke", id, "ok"),
        ("keys.create", id, "ok"),
    ];
    assert_eq!(told, want);
    assert_eq!(log[2]["request_id"], name);
    assert_eq!(log[2]["principal"], "user of default");
}

#[tokio::test]
async fn requests_have_names() {
    let up = Guarded::new().await;
    let minted = up.call("", "GET /ok", "").await;
    assert!(uuid::Uuid::parse_str(minted.header("x-request-id")).is_ok());
    for (sent, kept) in [
        ("abc-1", true),
        ("with space", false),
        (&*"x".repeat(200), false),
    ] {
        let mut request = request("GET /ok", "");
        let value = HeaderValue::from_str(sent).unwrap();
        request.headers_mut().insert("x-request-id", value);
        let answer = up.server.send(request).await;
        assert_eq!(answer.header("x-request-id") == sent, kept, "{sent}");
    }
}

#[tokio::test]
async fn too_many_requests_and_runs_wait() {
    let up = Guarded::with(Quotas {
        requests_per_minute: 4,
        runs_per_day: 1,
        ..Quotas::default()
    })
    .await;
    let key = up.key("default", Role::User, None).await;
    let run = r#"{"assistant_id":"agent","input":{}}"#;
    assert_eq!(
        up.call(&key, "POST /runs/wait", run).await.status,
        StatusCode::OK
    );
    let refused = up.call(&key, "POST /runs", run).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains("1 runs per day")
    );
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    for want in [200, 200, 429] {
        let answer = up.call(&key, "GET /auth/me", "").await;
        assert_eq!(answer.status.as_u16(), want);
    }
    let refused = up.call(&key, "GET /auth/me", "").await;
    assert_eq!(refused.header("retry-after"), "15");
    assert_eq!(
        refused.json()["detail"],
        "Rate limit exceeded: 4 requests per minute."
    );
}

#[tokio::test]
async fn streams_and_concurrent_runs_are_bounded_by_tenant() {
    let up = Guarded::with(Quotas {
        open_streams: 1,
        concurrent_runs: 2,
        ..Quotas::default()
    })
    .await;
    let key = up.key("default", Role::User, None).await;
    let hangs = r#"{"assistant_id":"agent","input":{"do":[["hang"]]}}"#;
    let mut request = request("POST /runs/stream", hangs);
    let value = HeaderValue::from_str(&key).unwrap();
    request.headers_mut().insert("x-api-key", value);
    let open = up.server.open(request).await;
    assert_eq!(open.status(), StatusCode::OK);
    let refused = up.call(&key, "POST /runs/stream", hangs).await;
    assert_eq!(
        refused.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{}",
        refused.text
    );
    // The refused one made no run, so there is room for one more, not for two.
    assert_eq!(
        up.call(&key, "POST /runs", hangs).await.status,
        StatusCode::OK
    );
    let refused = up.call(&key, "POST /runs", hangs).await;
    assert_eq!(
        refused.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{}",
        refused.text
    );
    let other = up.key("acme", Role::User, None).await;
    assert_eq!(
        up.call(&other, "POST /runs", hangs).await.status,
        StatusCode::OK
    );
    drop(open);
    let all = r#"{"status":"all"}"#;
    assert_eq!(
        up.call(&key, "POST /runs/cancel", all).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        up.call(&other, "POST /runs/cancel", all).await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn graphs_learn_who_asks() {
    let up = Guarded::new().await;
    let key = up
        .key("default", Role::User, Some(&["runs:*", "threads:*"]))
        .await;
    let run = up
        .call(&key, "POST /runs", r#"{"assistant_id":"agent","input":{}}"#)
        .await;
    let configurable = &run.json()["kwargs"]["config"]["configurable"];
    assert_eq!(configurable["langgraph_auth_user_id"], "user of default");
    assert_eq!(configurable["user_id"], "user of default");
    let user = &configurable["langgraph_auth_user"];
    assert_eq!(
        (&user["identity"], &user["is_authenticated"]),
        (&json!("user of default"), &json!(true))
    );
    assert_eq!(
        configurable["langgraph_auth_permissions"],
        json!(["threads:read", "threads:write", "runs:read", "runs:write"])
    );
    assert!(configurable.get("x-api-key").is_none());
}

#[tokio::test]
async fn browsers_are_told_what_answers_are_not_for() {
    let up = Guarded::new().await;
    for line in ["GET /ok", "GET /nothing", "POST /threads"] {
        let answer = up.call("", line, "").await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{line}");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'"), "{line} {policy}");
        assert_eq!(answer.header("strict-transport-security"), "");
    }
    let docs = up.call("", "GET /docs", "").await;
    assert!(
        docs.header("content-security-policy")
            .contains("script-src")
    );
    assert_eq!(
        up.call("", "GET /auth/me", "")
            .await
            .header("cache-control"),
        "no-store"
    );
}
