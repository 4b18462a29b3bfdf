//! What the server and the network say, as advice to the caller.

use std::{error::Error as StdError, io};

use agentflow_types::{Error, Result};
use qdrant_client::qdrant::{UpdateResult, UpdateStatus};
use rustls::{CertificateError, Error as Tls};
use tonic::{Code, ConnectError, Status};

/// What may have happened if an answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: it was a read, or repeating it does no harm.
    None,
    /// It may have been done.
    Unknown,
}

/// How TLS tells of the peer's refusal. HTTP/2 hands on only the words of what broke it.
const ALERT: &str = "received fatal alert: ";

/// Alerts about our certificate.
const OF_CLIENT: [&str; 7] = [
    "CertificateRequired",
    "BadCertificate",
    "UnknownCA",
    "CertificateExpired",
    "CertificateRevoked",
    "CertificateUnknown",
    "UnsupportedCertificate",
];

/// Whether another try may go better.
pub(crate) fn is_transient(status: &Status) -> bool {
    if tls(status).is_some() || alert(&reason(status)).is_some() {
        return false;
    }
    // What the server says has no source; what the channel says has.
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) || is_lost(status)
}

/// Whether the channel failed rather than the server answered.
fn is_lost(status: &Status) -> bool {
    status.source().is_some() && status.code() != Code::OutOfRange
}

/// Whether a collection could not be made because it exists.
pub(crate) fn is_already_there(status: &Status) -> bool {
    // Servers have said it with both codes.
    let is_invalid = status.code() == Code::InvalidArgument;
    status.code() == Code::AlreadyExists
        || is_invalid && status.message().contains("already exists")
}

/// Checks that updates were applied, not only taken.
///
/// # Errors
/// `Uncertain` if one was not: it may be applied later.
pub(crate) fn completed(updates: &[UpdateResult]) -> Result<()> {
    let is_open = |update: &&UpdateResult| update.status() != UpdateStatus::Completed;
    match updates.iter().find(is_open) {
        None => Ok(()),
        Some(open) => Err(
            Error::uncertain("Qdrant did not say that it has stored a change")
                .with("status", open.status().as_str_name()),
        ),
    }
}

/// The shared error for a status.
pub(crate) fn name(status: Status, effect: Effect) -> Error {
    let reason = reason(&status);
    let (check, message) = match (tls(&status), alert(&reason)) {
        (Some(err), _) => of_tls(err),
        (None, Some(named)) => named,
        (None, None) => match status.code() {
            Code::Unauthenticated => ("api key", "Qdrant refused the API key"),
            Code::PermissionDenied => ("rights", "the API key of Qdrant lacks a right"),
            Code::ResourceExhausted => ("room", "Qdrant takes no more at the moment"),
            Code::FailedPrecondition => ("server ready", "Qdrant is not ready"),
            Code::InvalidArgument | Code::NotFound | Code::AlreadyExists => {
                return Error::bug("Qdrant refused a request")
                    .with("code", format!("{:?}", status.code()))
                    .with("reason", reason)
                    .source_err(status);
            }
            Code::Unimplemented => ("version", "Qdrant is too old or too new for this request"),
            _ if is_unsent(&status) => ("network", "Qdrant cannot be reached"),
            _ if effect == Effect::Unknown => {
                return Error::uncertain("the answer of Qdrant was lost")
                    .with("code", format!("{:?}", status.code()))
                    .with("reason", reason)
                    .source_err(status);
            }
            Code::DeadlineExceeded => ("network", "Qdrant did not answer in time"),
            _ => ("network", "the connection to Qdrant was lost"),
        },
    };
    Error::busy(message)
        .with("check", check)
        .with("reason", reason)
        .source_err(status)
}

/// What the peer said while or after TLS was agreed on.
fn alert(reason: &str) -> Option<(&'static str, &'static str)> {
    let (_, alert) = reason.split_once(ALERT)?;
    Some(match OF_CLIENT.iter().any(|name| alert.starts_with(name)) {
        true => (
            "client certificate",
            "Qdrant refused our client certificate",
        ),
        false => ("tls", "no TLS connection to Qdrant"),
    })
}

fn of_tls(err: &Tls) -> (&'static str, &'static str) {
    let said = err.to_string();
    if let Some(named) = alert(&said) {
        return named;
    }
    match err {
        Tls::InvalidCertificate(found) => of_certificate(found),
        Tls::InvalidMessage(_) => ("tls offered", "Qdrant offers no TLS"),
        _ => ("tls", "no TLS connection to Qdrant"),
    }
}

fn of_certificate(found: &CertificateError) -> (&'static str, &'static str) {
    match found {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            "certificate validity",
            "the certificate of Qdrant has expired",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            "certificate validity",
            "the certificate of Qdrant is not yet valid",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            ("host name", "the certificate of Qdrant is for another host")
        }
        _ => (
            "certificate authority",
            "the certificate of Qdrant is not from a known authority",
        ),
    }
}

/// Errors behind a status, the nearest first.
fn sources(status: &Status) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(status.source(), |&err| {
        // The error inside an I/O error is not its source.
        let inner = err.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match inner {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => err.source(),
        }
    })
}

fn tls(status: &Status) -> Option<&Tls> {
    sources(status).find_map(|err| err.downcast_ref())
}

/// Whether there was no connection, so that the server saw nothing.
fn is_unsent(status: &Status) -> bool {
    sources(status).any(|err| err.is::<ConnectError>())
}

fn reason(status: &Status) -> String {
    let mut text = status.message().to_owned();
    for said in sources(status).map(ToString::to_string) {
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
    }
    text
}

/// What an error and its causes say, in one line.
pub(crate) fn causes(err: &dyn StdError) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_was_only_taken_is_uncertain() {
        let with = |status: UpdateStatus| UpdateResult {
            operation_id: None,
            status: status.into(),
        };
        let done = with(UpdateStatus::Completed);
        assert!(completed(&[]).is_ok() && completed(&[done, done]).is_ok());
        for status in [UpdateStatus::Acknowledged, UpdateStatus::WaitTimeout] {
            let err = completed(&[done, with(status)]).unwrap_err();
            assert_eq!(err.kind(), agentflow_types::ErrorKind::Uncertain);
        }
    }

    #[test]
    fn advice_fits_what_happened() {
        use agentflow_types::ErrorKind::{Bug, Busy, Uncertain};
        for (code, effect, kind) in [
            (Code::Unavailable, Effect::None, Busy),
            (Code::Unavailable, Effect::Unknown, Uncertain),
            (Code::DeadlineExceeded, Effect::Unknown, Uncertain),
            (Code::Internal, Effect::Unknown, Uncertain),
            (Code::Unauthenticated, Effect::Unknown, Busy),
            (Code::PermissionDenied, Effect::None, Busy),
            (Code::ResourceExhausted, Effect::Unknown, Busy),
            (Code::InvalidArgument, Effect::Unknown, Bug),
        ] {
            assert_eq!(
                name(Status::new(code, "x"), effect).kind(),
                kind,
                "{code:?}"
            );
        }
    }
}
