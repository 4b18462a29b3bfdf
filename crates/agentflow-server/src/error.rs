//! Errors as clients see them: a status and `{"detail": "…"}`.

use agentflow_types::{Error, ErrorKind};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};

/// What a client sees for a defect of ours; the log has the rest.
const INTERNAL: &str = "Internal Server Error";
/// Seconds after which a busy server may be asked again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// The error of a handler.
#[derive(Debug)]
pub enum Failure {
    /// An error of the domain.
    Domain(Error),
    /// Something in the request does not fit.
    Misfit(Misfit),
    /// An error of HTTP itself, with its text.
    Http(StatusCode, String),
    /// Text without JSON around it, where LangGraph's server answers so.
    Text(StatusCode, String),
    /// `{"error": "…"}`, where LangGraph's server answers so.
    Legacy(StatusCode, &'static str),
}

/// What does not fit in a request, and where.
#[derive(Clone, Debug)]
pub struct Misfit {
    /// `body`, `query` or `path`.
    pub(crate) part: &'static str,
    /// The place in it, as `messages[0].content`; empty for the whole.
    pub(crate) path: String,
    /// What is wrong.
    pub(crate) text: String,
}

impl Misfit {
    fn of(part: &'static str, path: &str, text: &str) -> Self {
        Self {
            part,
            path: if path == "." { "" } else { path }.to_owned(),
            text: text.to_owned(),
        }
    }

    /// In the body.
    pub(crate) fn of_body(path: &str, text: &str) -> Self {
        Self::of("body", path, text)
    }

    /// In a query parameter.
    pub(crate) fn of_query(name: &str, text: &str) -> Self {
        Self::of("query", name, text)
    }

    /// In a parameter of the path.
    pub(crate) fn of_path(name: &str, text: &str) -> Self {
        Self::of("path", name, text)
    }

    /// In one sentence.
    pub(crate) fn sentence(&self) -> String {
        match self.path.as_str() {
            "" => self.text.clone(),
            path => format!("{path}: {}", self.text),
        }
    }
}

impl From<Misfit> for Failure {
    fn from(misfit: Misfit) -> Self {
        Self::Misfit(misfit)
    }
}

/// The result of a handler.
pub type Reply<T = Response> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(err: Error) -> Self {
        Self::Domain(err)
    }
}

/// The HTTP status of an error kind.
#[must_use]
pub fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict | ErrorKind::Cancelled => StatusCode::CONFLICT,
        ErrorKind::Limited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Uncertain => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Corrupt | ErrorKind::Bug | ErrorKind::Failed => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// The text of an error that a client may read.
pub(crate) fn detail_of(err: &Error) -> String {
    match err.kind() {
        ErrorKind::Corrupt | ErrorKind::Bug => INTERNAL.to_owned(),
        _ => err.to_string(),
    }
}

/// `{"detail": …}` with a status.
pub(crate) fn detail(status: StatusCode, text: &str) -> Response {
    (status, Json(serde_json::json!({ "detail": text }))).into_response()
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Domain(err) => {
                let status = status_of(err.kind());
                if status.is_server_error() {
                    tracing::error!(error = ?err, "request failed");
                }
                let mut response = detail(status, &detail_of(&err));
                let wait = err
                    .context()
                    .iter()
                    .find(|(name, _)| *name == "retry_after_s");
                if let Some(wait) = wait.and_then(|(_, text)| HeaderValue::from_str(text).ok()) {
                    response.headers_mut().insert(header::RETRY_AFTER, wait);
                }
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    response
                        .headers_mut()
                        .insert(header::RETRY_AFTER, RETRY_AFTER);
                }
                response
            }
            Self::Misfit(misfit) => {
                let mut response = detail(StatusCode::UNPROCESSABLE_ENTITY, &misfit.sentence());
                // Some dialects tell the place apart.
                response.extensions_mut().insert(misfit);
                response
            }
            Self::Http(status, text) => detail(status, &text),
            Self::Text(status, text) => (status, text).into_response(),
            Self::Legacy(status, text) => {
                (status, Json(serde_json::json!({ "error": text }))).into_response()
            }
        }
    }
}

/// The answer for a route that does not exist.
pub(crate) async fn not_found() -> Response {
    detail(StatusCode::NOT_FOUND, "Not Found")
}

/// The answer for a method that a route does not have.
pub(crate) async fn method_not_allowed() -> Response {
    detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// The answer for a handler that panicked.
pub(crate) fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(panic = text, "a handler panicked");
    detail(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL)
}
