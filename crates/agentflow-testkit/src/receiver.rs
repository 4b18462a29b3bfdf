//! A server that somebody is to call: it remembers the calls and answers as it is told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;

/// Most bytes of a call.
const MAX_BYTES: usize = 64 << 20;

/// A call that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// Path with query.
    pub path: String,
    /// Names, in lower case, and values of the headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

impl Received {
    /// A header; empty if it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// What is answered, and what came.
#[derive(Default)]
struct Shared {
    calls: Vec<Received>,
    status: u16,
    location: Option<String>,
}

/// A server on a free port of 127.0.0.1. It stops when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Starts; answers 204 until told otherwise.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Mutex::new(Shared {
            status: 204,
            ..Shared::default()
        }));
        let router = Router::new().fallback(receive).with_state(shared.clone());
        let task = tokio::spawn(async move {
            // Ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Self {
            address,
            shared,
            task,
        }
    }

    /// A URL of this server.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers with this status from now on.
    pub fn answer(&self, status: u16) {
        let mut shared = lock(&self.shared);
        (shared.status, shared.location) = (status, None);
    }

    /// Answers with a redirect from now on.
    pub fn redirect(&self, status: u16, location: &str) {
        let mut shared = lock(&self.shared);
        (shared.status, shared.location) = (status, Some(location.to_owned()));
    }

    /// The calls so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Received> {
        lock(&self.shared).calls.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(State(shared): State<Arc<Mutex<Shared>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BYTES).await;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let text =
        |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let call = Received {
        path: path.to_owned(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        body: body.unwrap_or_default(),
    };
    let (status, location) = {
        let mut shared = lock(&shared);
        shared.calls.push(call);
        (shared.status, shared.location.clone())
    };
    let status = axum::http::StatusCode::from_u16(status).unwrap_or_default();
    match location {
        Some(location) => (status, [(axum::http::header::LOCATION, location)]).into_response(),
        None => status.into_response(),
    }
}
