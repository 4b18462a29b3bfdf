//! How the server's parts are.

use std::time::{Duration, Instant};

use agentflow_runs::service::Service;
use agentflow_storage::record::RunStatus;
use agentflow_types::Result;
use async_trait::async_trait;
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

/// Longest time that one part is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wellness {
    /// Well; a word about it.
    Ok(String),
    /// Not well, but the server does without.
    Degraded(String),
    /// Not well, and the server cannot do without.
    Failed(String),
}

/// A part of the server that somebody outside this crate knows.
#[async_trait]
pub trait Part: Send + Sync {
    /// Its name in the report, for example `redis`.
    fn name(&self) -> &'static str;

    /// How it is now.
    async fn wellness(&self) -> Wellness;
}

/// The report that `/health` gives.
pub(crate) struct Report {
    version: String,
    parts: Map<String, Value>,
    runs: Value,
    has_failed: bool,
    is_degraded: bool,
}

impl Report {
    pub(crate) fn new(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            parts: Map::new(),
            runs: Value::Null,
            has_failed: false,
            is_degraded: false,
        }
    }

    /// Whether the database answers.
    pub(crate) async fn database(&mut self, service: &Service) {
        let asked = Instant::now();
        let answer = within(service.counts()).await;
        let ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        match answer {
            Ok(counts) => {
                let waiting = counts.runs.iter().find(|(s, _)| *s == RunStatus::Pending);
                self.runs = json!({
                    "executing": counts.executing, "pending": waiting.map_or(0, |(_, n)| *n),
                });
                self.parts.insert(
                    "database".into(),
                    json!({ "status": "ok", "answer_ms": ms }),
                );
            }
            Err(text) => self.add("database", Wellness::Failed(text)),
        }
    }

    /// Whether runs are taken here.
    pub(crate) fn queue(&mut self, service: &Service, closing: &CancellationToken) {
        let wellness = match service.worker_room() {
            _ if closing.is_cancelled() => Wellness::Failed("the server is stopping".into()),
            Some(0) => Wellness::Ok("every place is taken".into()),
            Some(room) => Wellness::Ok(format!("room for {room} more runs")),
            None => Wellness::Degraded("no worker in this process".into()),
        };
        self.add("queue", wellness);
    }

    pub(crate) async fn part(&mut self, part: &dyn Part) {
        let found = tokio::time::timeout(PATIENCE, part.wellness()).await;
        let late = || Wellness::Degraded("no answer in time".into());
        self.add(part.name(), found.unwrap_or_else(|_| late()));
    }

    fn add(&mut self, name: &str, wellness: Wellness) {
        let (word, detail) = match wellness {
            Wellness::Ok(detail) => ("ok", detail),
            Wellness::Degraded(detail) => {
                self.is_degraded = true;
                ("degraded", detail)
            }
            Wellness::Failed(detail) => {
                self.has_failed = true;
                ("failed", detail)
            }
        };
        let part = json!({ "status": word, "detail": detail });
        self.parts.insert(name.to_owned(), part);
    }
}

/// The answer within [`PATIENCE`], or what to say about its absence. Details of errors are for
/// the log.
async fn within<T>(answer: impl Future<Output = Result<T>>) -> std::result::Result<T, String> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(err)) => {
            tracing::warn!(error = %err, "a part of the server is not well");
            Err("it answers with an error".into())
        }
        Err(_) => Err("no answer in time".into()),
    }
}

impl IntoResponse for Report {
    fn into_response(self) -> Response {
        let (code, word) = match (self.has_failed, self.is_degraded) {
            (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
            (false, true) => (StatusCode::OK, "degraded"),
            (false, false) => (StatusCode::OK, "ok"),
        };
        let body = json!({
            "status": word, "version": self.version, "parts": self.parts, "runs": self.runs,
        });
        (code, Json(body)).into_response()
    }
}
