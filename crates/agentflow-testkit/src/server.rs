//! The model server: three APIs, one script, every request recorded.
//!
//! Besides the APIs there are `POST /__script` (replaces the script, forgets the requests),
//! `GET /__requests` and `GET /__health`, for tests in other languages.

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;

use crate::{
    delivery::{self, Form, Performer},
    listener::{Connection, Resettable},
    script::{Ask, Engine, Reply, Script},
    waiting,
    wire::{self, Answer, Api, anthropic, ollama, openai},
};

/// Most bytes of a request.
const REQUEST_BYTES: usize = 64 << 20;

/// Most requests that are recorded; later ones are answered but not remembered.
const MOST_RECORDED: usize = 100_000;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is being answered.
    Open,
    /// The answer was sent as the script says, up to and including faults.
    Completed,
    /// The client went away before that.
    Aborted,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Map<String, Value>,
    /// Body; `null` if it is not JSON.
    pub body: Value,
    /// Number of the connection that it came through, from 1.
    pub connection: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// A running model server on a loopback port. Dropping it stops it and ends what hangs.
pub struct ModelServer {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// Guards the script and how far it has come.
    engine: Mutex<Engine>,
    /// Guards the requests so far.
    requests: Mutex<Vec<Recorded>>,
    changed: Notify,
    shutdown: CancellationToken,
}

impl ModelServer {
    /// Starts on a free port.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::start_on(script, 0).await
    }

    /// Starts on `port`; 0 means a free one.
    ///
    /// # Errors
    /// If the port cannot be bound.
    pub async fn start_on(script: Script, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            engine: Mutex::new(Engine::new(script)),
            requests: Mutex::default(),
            changed: Notify::new(),
            shutdown: CancellationToken::new(),
        });
        let router = Router::new()
            .route("/__script", post(set_script))
            .route("/__requests", get(list_requests))
            .route("/__health", get(async || "ok"))
            .fallback(answer)
            .layer(DefaultBodyLimit::max(REQUEST_BYTES))
            .with_state(shared.clone());
        let service = router.into_make_service_with_connect_info::<Connection>();
        let stopped = shared.shutdown.clone().cancelled_owned();
        // The task ends with the token, which the server's drop fires.
        tokio::spawn(async move {
            let serve = axum::serve(Resettable::new(listener), service);
            let _ = serve.with_graceful_shutdown(stopped).await;
        });
        Ok(Self { port, shared })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, without a path; for Anthropic and Ollama.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The address for OpenAI clients.
    #[must_use]
    pub fn openai_url(&self) -> String {
        format!("{}/v1", self.url())
    }

    /// Replaces the script and forgets the requests.
    pub fn set_script(&self, script: Script) {
        self.shared.set_script(script);
    }

    /// The requests so far, in the order in which they came.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests().clone()
    }

    /// Waits until the requests satisfy `condition`.
    ///
    /// # Errors
    /// If they do not within `deadline`; the message lists them.
    pub async fn until(
        &self,
        deadline: Duration,
        condition: impl Fn(&[Recorded]) -> bool,
    ) -> agentflow_types::Result<()> {
        let holds = async || {
            let changed = self.shared.changed.notified();
            if condition(&self.shared.requests()) {
                return true;
            }
            // A missed notification costs one interval of the waiting, not the test.
            let _ = tokio::time::timeout(waiting::INTERVAL, changed).await;
            condition(&self.shared.requests())
        };
        waiting::until(deadline, holds)
            .await
            .map_err(|error| error.with("requests", format!("{:?}", self.shared.requests())))
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.shared.shutdown.cancel();
    }
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_script(&self, script: Script) {
        *self.engine() = Engine::new(script);
        self.requests().clear();
        self.changed.notify_waiters();
    }

    /// Remembers a request; its number.
    fn record(&self, request: Recorded) -> usize {
        let mut requests = self.requests();
        if requests.len() < MOST_RECORDED {
            requests.push(request);
        }
        self.changed.notify_waiters();
        requests.len() - 1
    }

    fn finish(&self, number: usize, outcome: Outcome) {
        if let Some(request) = self.requests().get_mut(number) {
            request.outcome = outcome;
        }
        self.changed.notify_waiters();
    }
}

/// Notes how a request ended: aborted, unless it was completed before.
pub(crate) struct Ending {
    shared: Arc<Shared>,
    number: usize,
    outcome: Outcome,
}

impl Ending {
    /// The answer was given as the script says.
    pub(crate) fn completed(&mut self) {
        self.outcome = Outcome::Completed;
        self.shared.finish(self.number, Outcome::Completed);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.outcome == Outcome::Open {
            self.shared.finish(self.number, Outcome::Aborted);
        }
    }
}

async fn set_script(State(shared): State<Arc<Shared>>, Json(script): Json<Script>) -> StatusCode {
    shared.set_script(script);
    StatusCode::NO_CONTENT
}

async fn list_requests(State(shared): State<Arc<Shared>>) -> Json<Vec<Recorded>> {
    Json(shared.requests().clone())
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Chat(Api),
    Embed(Api),
    Models(Api),
    Unknown,
}

impl Call {
    fn of(method: &Method, path: &str) -> Self {
        match (method.as_str(), path) {
            ("POST", "/v1/chat/completions") => Self::Chat(Api::OpenAi),
            ("POST", "/v1/messages") => Self::Chat(Api::Anthropic),
            ("POST", "/api/chat") => Self::Chat(Api::Ollama),
            ("POST", "/v1/embeddings") => Self::Embed(Api::OpenAi),
            ("POST", "/api/embed") => Self::Embed(Api::Ollama),
            ("GET", "/v1/models") => Self::Models(Api::OpenAi),
            ("GET", "/api/tags") => Self::Models(Api::Ollama),
            _ => Self::Unknown,
        }
    }

    fn api(self) -> Api {
        match self {
            Self::Chat(api) | Self::Embed(api) | Self::Models(api) => api,
            Self::Unknown => Api::OpenAi,
        }
    }
}

/// What to send: status, headers, frames.
struct Prepared {
    status: u16,
    content_type: &'static str,
    retry_after: Option<String>,
    frames: Vec<String>,
    form: Form,
    reply: Reply,
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let call = Call::of(&method, uri.path());
    let number = shared.record(Recorded {
        method: method.to_string(),
        path: uri.path().to_owned(),
        headers: header_map(&headers),
        body: body.clone(),
        connection: connection.number,
        outcome: Outcome::Open,
    });
    let ending = Ending {
        shared: shared.clone(),
        number,
        outcome: Outcome::Open,
    };
    let mut performer = Performer {
        connection,
        shutdown: shared.shutdown.clone(),
        ending,
    };
    let prepared = prepare(&shared, call, uri.path(), &headers, &body, number);
    if performer
        .before(delivery::before(&prepared.reply.faults))
        .await
        .is_err()
    {
        // Nothing of this is sent after a reset; after a hang the server is stopping.
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let faults = &prepared.reply.faults;
    let steps = delivery::body(prepared.frames, faults, prepared.form, call.api());
    let mut response = Response::builder()
        .status(prepared.status)
        .header(header::CONTENT_TYPE, prepared.content_type)
        .header("x-request-id", format!("req-{number}"));
    if let Some(wait) = prepared.retry_after {
        response = response.header(header::RETRY_AFTER, wait);
    }
    for (name, value) in &prepared.reply.headers {
        response = response.header(name, value);
    }
    response
        .body(performer.body(steps))
        .unwrap_or_else(|error| {
            // Only a script with an impossible status or header comes here.
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                Body::from(error.to_string()),
            )
                .into_response()
        })
}

fn prepare(
    shared: &Shared,
    call: Call,
    path: &str,
    headers: &HeaderMap,
    body: &Value,
    number: usize,
) -> Prepared {
    let mut engine = shared.engine();
    if let Err((status, message)) = check(&engine.script, call, headers, body) {
        return failed(call.api(), status, &message, Reply::default());
    }
    let ask = match call {
        Call::Chat(_) => wire::ask(path, body),
        _ => Ask {
            path: path.to_owned(),
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            text: openai::inputs(&body["input"]).join("\n"),
            ..Ask::default()
        },
    };
    let reply = engine.reply(&ask);
    if let Some(status) = reply.status {
        let message = reply
            .error
            .clone()
            .unwrap_or_else(|| format!("the script says {status}"));
        return failed(call.api(), status, &message, reply);
    }
    let script = &engine.script;
    let whole = |document: Value| (vec![document.to_string()], Form::Whole, "application/json");
    let (frames, form, content_type) = match call {
        Call::Chat(api) => chat(api, &Answer::new(&ask, &reply, number), body),
        Call::Embed(Api::Ollama) => whole(ollama::embeddings(body, script.embedding_dim)),
        Call::Embed(_) => whole(openai::embeddings(body, script.embedding_dim)),
        Call::Models(Api::Ollama) => {
            let models: Vec<Value> = script
                .models
                .iter()
                .map(|name| json!({"name": name, "model": name}))
                .collect();
            whole(json!({"models": models}))
        }
        Call::Models(_) | Call::Unknown => {
            let models: Vec<Value> = script
                .models
                .iter()
                .map(|id| json!({"id": id, "object": "model"}))
                .collect();
            whole(json!({"object": "list", "data": models}))
        }
    };
    Prepared {
        status: 200,
        content_type,
        retry_after: None,
        frames,
        form,
        reply,
    }
}

/// Frames of a chat answer in the form that the request asks for. Ollama streams unless told
/// otherwise.
fn chat(api: Api, answer: &Answer, body: &Value) -> (Vec<String>, Form, &'static str) {
    let streams = body["stream"].as_bool().unwrap_or(api == Api::Ollama);
    if !streams {
        let whole = match api {
            Api::OpenAi => openai::whole(answer),
            Api::Anthropic => anthropic::whole(answer),
            Api::Ollama => ollama::whole(answer),
        };
        return (vec![whole], Form::Whole, "application/json");
    }
    match api {
        Api::OpenAi => (
            openai::frames(answer, body),
            Form::Stream,
            "text/event-stream",
        ),
        Api::Anthropic => (anthropic::frames(answer), Form::Stream, "text/event-stream"),
        Api::Ollama => (ollama::frames(answer), Form::Stream, "application/x-ndjson"),
    }
}

/// What the server refuses before it looks at the rules.
fn check(
    script: &Script,
    call: Call,
    headers: &HeaderMap,
    body: &Value,
) -> Result<(), (u16, String)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(key) = &script.api_key {
        let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let given = bearer.or_else(|| text("x-api-key")).unwrap_or_default();
        if given != key {
            // Real servers quote the key; clients must not pass that on.
            return Err((401, format!("Incorrect API key provided: {given}.")));
        }
    }
    let bad = |message: String| (400, message);
    match call {
        Call::Unknown => Err((404, "unknown path".to_owned())),
        Call::Models(_) => Ok(()),
        _ if body.is_null() => Err(bad("the body is not JSON".to_owned())),
        Call::Chat(Api::OpenAi) => openai::check(body).map_err(bad),
        Call::Chat(Api::Anthropic) if text("anthropic-version").is_none() => {
            Err(bad("anthropic-version: header is required".to_owned()))
        }
        Call::Chat(Api::Anthropic) => anthropic::check(body).map_err(bad),
        Call::Chat(Api::Ollama) if !body["messages"].is_array() => {
            Err(bad("messages: required".to_owned()))
        }
        _ => Ok(()),
    }
}

fn failed(api: Api, status: u16, message: &str, reply: Reply) -> Prepared {
    let body = match api {
        Api::OpenAi => openai::error(status, message),
        Api::Anthropic => anthropic::error(status, message),
        Api::Ollama => ollama::error(message),
    };
    Prepared {
        status,
        content_type: "application/json",
        retry_after: reply.retry_after.clone(),
        frames: vec![body.to_string()],
        form: Form::Whole,
        reply,
    }
}

fn header_map(headers: &HeaderMap) -> Map<String, Value> {
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), json!(text(value))))
        .collect()
}
