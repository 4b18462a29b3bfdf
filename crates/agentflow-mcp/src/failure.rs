//! Errors of the SDK as ours.

use std::{error::Error as StdError, time::Duration};

use agentflow_types::{Error, ErrorKind, Result};
use rmcp::{ServiceError, model::ErrorCode, service::ClientInitializeError};

/// Most characters of a foreign error that are shown.
const SHOWN_CHARS: usize = 500;

fn cut(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

/// Whether a request certainly did not reach the server.
fn not_sent(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(one) = cause {
        if let Some(error) = one.downcast_ref::<reqwest::Error>() {
            return error.is_connect();
        }
        cause = one.source();
    }
    false
}

/// The innermost cause, which says most.
fn root(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cut(&cause.to_string())
}

/// An error of a request.
pub(crate) fn of_request(error: ServiceError, server: &str) -> Error {
    if error.is_authorization_required() {
        return Error::denied("the mcp server demands authorization").with("server", server);
    }
    match error {
        ServiceError::McpError(error) => {
            let kind = match error.code {
                ErrorCode::INVALID_PARAMS | ErrorCode::METHOD_NOT_FOUND => ErrorKind::Invalid,
                _ => ErrorKind::Failed,
            };
            Error::new(kind, cut(&error.message)).with("server", server)
        }
        ServiceError::TransportSend(error) if not_sent(error.error.as_ref()) => {
            Error::busy("the mcp server cannot be reached")
                .with("server", server)
                .with("cause", root(error.error.as_ref()))
        }
        ServiceError::TransportSend(error) => {
            Error::uncertain("the connection to the mcp server broke")
                .with("server", server)
                .with("cause", root(error.error.as_ref()))
        }
        ServiceError::TransportClosed | ServiceError::Cancelled { .. } => {
            Error::uncertain("the mcp server ended before it answered").with("server", server)
        }
        other => Error::failed("the mcp server gave an answer that is not one")
            .with("server", server)
            .with("cause", cut(&other.to_string())),
    }
}

/// An error of the handshake.
pub(crate) fn of_start(error: ClientInitializeError, server: &str) -> Error {
    if error.is_authorization_required() {
        return Error::denied("the mcp server demands authorization").with("server", server);
    }
    let cause = match &error {
        ClientInitializeError::TransportError { error, .. } => root(error.error.as_ref()),
        other => cut(&other.to_string()),
    };
    Error::busy("the mcp server did not start")
        .with("server", server)
        .with("cause", cause)
}

/// Adds the last words of a program.
pub(crate) fn said_by(error: Error, said: &str) -> Error {
    let lines: Vec<&str> = said.lines().rev().take(5).collect();
    let said: Vec<&str> = lines.into_iter().rev().collect();
    match said.is_empty() {
        true => error,
        false => error.with("stderr", cut(&said.join("\n"))),
    }
}

/// Runs something for a limited time.
///
/// # Errors
/// What it fails with, or `late`.
pub(crate) async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T>>,
    late: impl FnOnce() -> Error,
) -> Result<T> {
    match tokio::time::timeout(time, work).await {
        Ok(done) => done,
        Err(_) => Err(late().with("seconds", time.as_secs_f64())),
    }
}
