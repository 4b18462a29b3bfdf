//! The router in process, over the in-memory backend and a scripted graph host.

mod access;
mod accounts;
mod assistants;
mod bodies;
mod compatibility;
mod host;
mod limited;
mod listener;
mod memories;
mod protocol;
mod runs;
mod store;
mod streams;
mod system;
mod threads;
mod tls;

use std::{collections::HashMap, sync::Arc, time::Duration};

use agentflow_runs::service::{Service, ServiceConfig, ServiceParts};
use agentflow_storage::{
    Backend,
    memory::{Memory, VectorIndex},
};
use agentflow_types::SystemClock;
use axum::{Router, body::Body, response::Response};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{AppState, Limits};

/// Longest time that a test waits for something that happens at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// A UUID that nothing has.
pub(crate) const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// A server without a listener.
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) state: AppState,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Status and body on one line; ids and times replaced by what they are.
    pub(crate) fn shown(&self) -> String {
        normal(&format!("{} {}", self.status.as_u16(), self.text))
            .trim_end()
            .to_owned()
    }
}

impl Server {
    pub(crate) async fn new() -> Self {
        Self::with(Limits {
            heartbeat: Duration::from_millis(30),
            ..Limits::default()
        })
        .await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::over(Memory::open(), limits, |state| state).await
    }

    /// A server on this backend, its state completed by `finish`.
    pub(crate) async fn over(
        backend: Backend,
        limits: Limits,
        finish: impl FnOnce(AppState) -> AppState,
    ) -> Self {
        let service = Service::open(ServiceParts {
            backend: backend.clone(),
            hosts: vec![Arc::new(host::Scripted::default())],
            clock: Arc::new(SystemClock),
            config: ServiceConfig {
                poll: Duration::from_millis(50),
                ..ServiceConfig::default()
            },
            webhook: None,
        });
        let service = service.await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn({
            let (service, stop) = (service.clone(), stop.clone());
            async move { service.run_worker(stop).await }
        });
        // The worker takes runs from its first poll on.
        tokio::task::yield_now().await;
        let memory = memory(backend.clone());
        tokio::spawn({
            let (memory, stop) = (memory.clone(), stop.clone());
            async move { memory.run(stop).await }
        });
        let state = AppState::new(service).with_memory(memory);
        let state = finish(state.with_limits(limits));
        Self {
            router: crate::router(state.clone()),
            state,
            stop,
        }
    }

    /// Sends a request and returns the answer with its body still open.
    pub(crate) async fn open(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.open(request).await;
        let (parts, body) = response.into_parts();
        let bytes = tokio::time::timeout(SOON, body.collect())
            .await
            .expect("the body ends");
        let text = String::from_utf8(bytes.unwrap().to_bytes().to_vec()).unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text,
        }
    }

    /// Sends `METHOD /path` with a JSON body; an empty body is none.
    pub(crate) async fn call(&self, line: &str, body: &str) -> Answer {
        self.send(request(line, body)).await
    }

    /// A new thread's id.
    pub(crate) async fn thread(&self) -> String {
        let made = self.call("POST /threads", "{}").await;
        made.json()["thread_id"].as_str().unwrap().to_owned()
    }
}

/// Memories over the backend, without models.
fn memory(backend: Backend) -> agentflow_memory::Service {
    agentflow_memory::Service::new(
        backend,
        Arc::new(VectorIndex::default()),
        agentflow_memory::Models::default(),
        Arc::new(SystemClock),
        agentflow_memory::text::Language::English,
    )
}

/// A request from `METHOD /path` and a body.
pub(crate) fn request(line: &str, body: &str) -> Request<Body> {
    let (method, path) = line.split_once(' ').unwrap();
    let mut builder = Request::builder().method(method).uri(path);
    if !body.is_empty() {
        builder = builder.header("content-type", "application/json");
    }
    builder.body(Body::from(body.to_owned())).unwrap()
}

/// Checks answers: `METHOD /path body` against `status body`.
pub(crate) async fn check(server: &Server, cases: &[(&str, &str, &str)]) {
    for (line, body, want) in cases {
        let answer = server.call(line, body).await;
        assert_eq!(answer.shown(), *want, "{line} {body}");
    }
}

/// Text with each UUID and time replaced by its name; the same one gets the same name.
pub(crate) fn normal(text: &str) -> String {
    let mut names: HashMap<String, String> = HashMap::new();
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let head = rest.get(..36).unwrap_or("");
        let known = ["00000000-0000-4000-8000-000000000000"].contains(&head);
        if !known && uuid::Uuid::try_parse(head).is_ok() {
            let next = names.len() + 1;
            out.push_str(
                names
                    .entry(head.to_owned())
                    .or_insert_with(|| format!("<id{next}>")),
            );
            rest = &rest[36..];
        } else if rest.get(..32).is_some_and(is_time) {
            out.push_str("<time>");
            rest = &rest[32..];
        } else {
            let ch = rest.chars().next().unwrap();
            out.push(ch);
            rest = &rest[ch.len_utf8()..];
        }
    }
    out
}

fn is_time(text: &str) -> bool {
    text.starts_with("20")
        && text.ends_with("+00:00")
        && text.parse::<agentflow_types::Timestamp>().is_ok()
}
