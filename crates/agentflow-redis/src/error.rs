//! What Redis and its driver say, as advice to the caller.

use std::{error::Error as StdError, io, sync::Arc};

use agentflow_types::Error;
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Whether the connection is of no more use: it broke, does not answer, or leads to a server that
/// takes no writes.
pub(crate) fn is_lost(err: &RedisError) -> bool {
    err.is_unrecoverable_error()
        || err.is_io_error()
        || err.is_timeout()
        || matches!(
            err.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
                | ErrorKind::ClusterConnectionNotFound
        )
}

/// Whether the server said no, so that nothing was done.
fn is_answer(err: &RedisError) -> bool {
    matches!(err.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// The shared error for one of the driver's, of a command that may be repeated.
pub(crate) fn from(err: RedisError) -> Error {
    let reason = causes(&err);
    let named = match err.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm) => {
            Error::busy("the Redis user lacks a right").with("check", "rights")
        }
        // A right that is missing in a script has no code of its own.
        ErrorKind::Server(ServerErrorKind::ResponseError) | ErrorKind::Extension
            if reason.contains("executing the script can't") || reason.contains("ACL failure") =>
        {
            Error::busy("the Redis user lacks a right").with("check", "rights")
        }
        ErrorKind::Server(ServerErrorKind::ResponseError) | ErrorKind::Extension
            if reason.contains("OOM") || reason.contains("MISCONF") =>
        {
            Error::busy("Redis takes no writes at the moment")
        }
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain,
        ) => Error::busy("Redis is not ready"),
        ErrorKind::Server(_) | ErrorKind::Extension => Error::bug("Redis refused a command"),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            Error::bug("Redis answered in an unexpected way")
        }
        _ if err.is_timeout() => Error::busy("Redis did not answer in time"),
        _ => Error::busy("the connection to Redis was lost"),
    };
    named.with("reason", reason).source_err(err)
}

/// As [`from`], of a command that changes something each time it is sent.
pub(crate) fn sent(err: RedisError) -> Error {
    if is_answer(&err) {
        return from(err);
    }
    let reason = causes(&err);
    Error::uncertain("the answer of Redis was lost")
        .with("reason", reason)
        .source_err(err)
}

/// What an error and its causes say, in one line.
pub(crate) fn causes(err: &dyn StdError) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

/// The error of TLS behind an error of the driver, which wraps it several times.
pub(crate) fn tls(err: &RedisError) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(err);
    while let Some(next) = cause {
        if let Some(found) = next.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let shared = next.downcast_ref::<Arc<dyn StdError + Send + Sync>>();
        let io = match shared {
            Some(shared) => (**shared).downcast_ref::<io::Error>(),
            None => next.downcast_ref::<io::Error>(),
        };
        if let Some(inner) = io.and_then(io::Error::get_ref)
            && let Some(found) = inner.downcast_ref::<rustls::Error>()
        {
            return Some(found);
        }
        cause = next.source();
    }
    None
}
