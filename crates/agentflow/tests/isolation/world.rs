//! A server with tenants, over HTTP, on SQLite or PostgreSQL.

use std::{path::PathBuf, time::Duration};

use agentflow::{
    app::{App, Running},
    config::{self, Config, Mode},
};
use agentflow_testkit::servers::postgres::{self, Database, Version};
use serde_json::{Value, json};

use crate::bodies::{Ask, Things};

/// How long a stream is listened to.
const LISTEN: Duration = Duration::from_millis(700);

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

pub struct World {
    pub url: String,
    /// The bootstrap key.
    pub root: String,
    client: reqwest::Client,
    running: Running,
    _dir: tempfile::TempDir,
    /// Dropped after the server.
    _database: Option<Database>,
}

/// What holds the data.
#[derive(Clone, Copy, Debug)]
pub enum Store {
    Sqlite,
    Postgres,
}

impl Store {
    /// Has a server keep its data there: in PostgreSQL through PgBouncer, in a database of its own.
    fn set(self, config: &mut Config) -> Option<Database> {
        let Self::Postgres = self else { return None };
        let server = postgres::shared(Version::Debian).unwrap();
        let database = server.create_database().unwrap();
        config.storage.url = database.bouncer_url(&server.bouncer().unwrap());
        config.storage.listen_url = database.url();
        Some(database)
    }
}

/// A tenant's keys.
pub struct Tenant {
    pub name: String,
    /// Of a user.
    pub key: String,
    /// Of an admin.
    pub admin: String,
}

impl World {
    pub async fn start(store: Store) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let root = "bootstrap-key-of-the-isolation-test".to_owned();
        let mut config = config::embedded(&PathBuf::from(dir.path())).unwrap();
        config.server.port = 0;
        config.port_is_explicit = true;
        config.models.detect_ollama = false;
        config.auth.mode = Mode::On;
        config.auth.bootstrap_key = root.clone();
        let database = store.set(&mut config);
        let app = App::new(config).graphs_from_config().await.unwrap();
        let running = app.start().await.unwrap();
        Self {
            url: running.url(),
            root,
            client: reqwest::Client::new(),
            running,
            _dir: dir,
            _database: database,
        }
    }

    pub async fn stop(self) {
        self.running.shut_down().await.unwrap();
    }

    pub async fn tenant(&self, name: &str) -> Tenant {
        let body = json!({ "tenant": name });
        let made = self.send(&self.root, "POST", "/admin/tenants", &body).await;
        assert_eq!(made.status, 200, "{made:?}");
        let mut keys = Vec::new();
        for role in ["user", "admin"] {
            let body = json!({ "name": role, "role": role, "tenant": name });
            let made = self.send(&self.root, "POST", "/admin/keys", &body).await;
            keys.push(made.json()["key"].as_str().unwrap().to_owned());
        }
        let admin = keys.pop().unwrap();
        Tenant {
            name: name.into(),
            key: keys.pop().unwrap(),
            admin,
        }
    }

    pub async fn get(&self, key: &str, path: &str) -> Reply {
        let request = self.client.get(format!("{}{path}", self.url));
        self.read(request.header("x-api-key", key)).await
    }

    pub async fn send(&self, key: &str, method: &str, path: &str, body: &Value) -> Reply {
        let method = method.parse().unwrap();
        let request = self.client.request(method, format!("{}{path}", self.url));
        self.read(request.header("x-api-key", key).json(body)).await
    }

    /// Asks an operation with somebody's things.
    pub async fn ask(&self, key: &str, ask: &Ask, things: &Things) -> Reply {
        let url = format!("{}{}", self.url, things.path(&ask.path));
        let method = ask.method.parse().unwrap();
        let query = (ask.query)(things);
        let query: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let url = match query.is_empty() {
            true => url,
            false => format!("{url}?{}", query.join("&")),
        };
        let request = self.client.request(method, url);
        let mut request = request
            .header("x-api-key", key)
            .header("accept", "application/json, text/event-stream");
        if let Some(body) = ask.body {
            request = request.json(&body(things));
        }
        self.read(request).await
    }

    /// Reads an answer; of one that does not end, what comes within a moment.
    async fn read(&self, request: reqwest::RequestBuilder) -> Reply {
        let mut answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let is_stream = answer
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind.to_str().unwrap().starts_with("text/event-stream"));
        let mut text = Vec::new();
        loop {
            let part = match is_stream {
                true => match tokio::time::timeout(LISTEN, answer.chunk()).await {
                    Ok(part) => part,
                    Err(_) => break,
                },
                false => answer.chunk().await,
            };
            match part.unwrap() {
                Some(part) => text.extend_from_slice(&part),
                None => break,
            }
        }
        Reply {
            status,
            text: String::from_utf8(text).unwrap(),
        }
    }
}

impl Tenant {
    /// Makes something of every kind.
    pub async fn fill(&self, world: &World) -> Things {
        let marker = format!("marker-of-{}", self.name);
        let mark = json!({ "mark": marker });
        let post = async |path: &str, body: Value| {
            let reply = world.send(&self.key, "POST", path, &body).await;
            assert!(reply.status < 300, "{path}: {reply:?}");
            reply.json()
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let assistant = post(
            "/assistants",
            json!({ "graph_id": "agent", "name": marker, "metadata": mark }),
        )
        .await;
        let assistant = text(&assistant["assistant_id"]);
        let thread = post("/threads", json!({ "metadata": mark })).await;
        let thread = text(&thread["thread_id"]);
        let input = json!({ "messages": [{ "role": "user", "content": marker }] });
        let run = json!({ "assistant_id": assistant, "input": input, "metadata": mark });
        post(&format!("/threads/{thread}/runs/wait"), run).await;
        let runs = world
            .get(&self.key, &format!("/threads/{thread}/runs"))
            .await
            .json();
        let state = world
            .get(&self.key, &format!("/threads/{thread}/state"))
            .await
            .json();
        assert!(state["values"].to_string().contains(&marker), "{state}");
        let cron = json!({ "assistant_id": assistant, "schedule": "0 0 1 1 *", "input": input, "metadata": mark });
        let cron = post(&format!("/threads/{thread}/runs/crons"), cron).await;
        for (namespace, key) in [(marker.as_str(), "secret"), ("shared", "same")] {
            let item = json!({ "namespace": [namespace], "key": key, "value": mark });
            let put = world.send(&self.key, "PUT", "/store/items", &item).await;
            assert_eq!(put.status, 204);
        }
        let admin = async |path: &str, body: Value| {
            world.send(&self.admin, "POST", path, &body).await.json()
        };
        let projects = format!("/api/v1/orgs/organizations/{}/projects", self.name);
        let project = post(&projects, json!({ "name": marker })).await;
        let memory = json!({
            "messages": format!("secret {marker}"), "user_id": marker, "infer": false,
            "metadata": mark,
        });
        let memory = post("/v3/memories/add", memory).await;
        let hook = json!({ "url": "https://example.com/", "event_types": ["memory_delete"] });
        let hook = post("/api/v1/webhooks/projects/default", hook).await;
        let key = admin("/admin/keys", json!({ "name": marker })).await;
        let user = json!({ "name": "boss", "password": format!("{marker} password") });
        let user = admin("/admin/users", user).await;
        Things {
            marker,
            assistant,
            thread,
            run: text(&runs[0]["run_id"]),
            checkpoint: text(&state["checkpoint"]["checkpoint_id"]),
            cron: text(&cron["cron_id"]),
            key: text(&key["key_id"]),
            user: text(&user["user_id"]),
            tenant: self.name.clone(),
            webhook: text(&hook["webhook_id"]),
            memory: text(&memory["results"][0]["id"]),
            event: text(&memory["event_id"]),
            project: text(&project["project_id"]),
        }
    }

    /// Everything that was made, as its owner sees it.
    pub async fn everything(&self, world: &World, things: &Things) -> Vec<(String, String)> {
        let Things {
            thread,
            run,
            assistant,
            cron,
            key,
            user,
            marker,
            memory,
            event,
            project,
            tenant,
            ..
        } = things;
        let mut found = Vec::new();
        for path in [
            format!("/assistants/{assistant}"),
            format!("/threads/{thread}"),
            format!("/threads/{thread}/state"),
            format!("/threads/{thread}/history?limit=100"),
            format!("/threads/{thread}/runs/{run}"),
            format!("/threads/{thread}/runs"),
            format!("/runs/crons/{cron}"),
            format!("/store/items?namespace={marker}&key=secret"),
            "/store/items?namespace=shared&key=same".to_owned(),
            format!("/admin/keys/{key}"),
            format!("/admin/users/{user}"),
            format!("/v1/memories/{memory}"),
            format!("/v1/memories/{memory}/history"),
            format!("/v1/event/{event}"),
            "/v1/entities".to_owned(),
            "/api/v1/webhooks/projects/default".to_owned(),
            format!("/api/v1/orgs/organizations/{tenant}/projects/{project}"),
        ] {
            let reply = world.get(&self.admin, &path).await;
            assert_eq!(reply.status, 200, "{path}: {reply:?}");
            assert_ne!(reply.text, "null", "{path}");
            found.push((path, reply.text));
        }
        for path in [
            "/threads/search",
            "/assistants/search",
            "/runs/crons/search",
        ] {
            let body = json!({ "metadata": { "mark": marker } });
            let reply = world.send(&self.admin, "POST", path, &body).await;
            assert_eq!(
                reply.json().as_array().unwrap().len(),
                1,
                "{path}: {reply:?}"
            );
            found.push((path.to_owned(), reply.text));
        }
        found
    }
}
