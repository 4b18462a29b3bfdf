//! Which check failed when a server did not accept us, or we not it.

use agentflow_types::Error;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use rustls::{AlertDescription, CertificateError, Error as Tls};

use crate::{address::Host, error};

const AUTHORITY: &str = "certificate authority";
const VALIDITY: &str = "certificate validity";
const HOST: &str = "host name";
const VERSION: &str = "tls version";
const OFFERED: &str = "tls offered";
const DEMANDED: &str = "tls demanded";
const TLS: &str = "tls";
const LOGIN: &str = "password";
const CLIENT: &str = "client certificate";
const RIGHTS: &str = "rights";
const REACH: &str = "network";
const READY: &str = "server ready";

type Named = (&'static str, &'static str);

/// Names why connecting to `host` failed.
///
/// All are `Busy` for who asks Redis for something: nothing was written, and an operator can mend
/// it. The fact `check` tells which check failed.
pub(crate) fn name(err: RedisError, host: &Host, user: Option<&str>, is_tls: bool) -> Error {
    let reason = error::causes(&err);
    let (check, message) = match error::tls(&err) {
        Some(tls) => of_tls(tls),
        None => of_words(&err, &reason, is_tls),
    };
    Error::busy(message)
        .with("check", check)
        .with("host", host)
        .with("user", user.unwrap_or("default"))
        .with("reason", reason)
        .source_err(err)
}

/// A connection that took too long.
pub(crate) fn slow(host: &Host, timeout: std::time::Duration) -> Error {
    Error::busy("Redis did not accept a connection in time")
        .with("check", REACH)
        .with("host", host)
        .with("timeout_ms", timeout.as_millis())
}

/// A server that answers without TLS only.
pub(crate) fn no_tls(host: &Host) -> Error {
    Error::busy("Redis offers no TLS")
        .with("check", OFFERED)
        .with("host", host)
}

fn of_tls(err: &Tls) -> Named {
    match err {
        Tls::InvalidCertificate(found) => of_certificate(found),
        Tls::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate,
        ) => (CLIENT, "Redis refused our client certificate"),
        Tls::AlertReceived(AlertDescription::ProtocolVersion) | Tls::PeerIncompatible(_) => (
            VERSION,
            "Redis speaks no TLS version that we accept, which is 1.2 at least",
        ),
        Tls::InvalidMessage(_) => (OFFERED, "Redis offers no TLS"),
        _ => (TLS, "no TLS connection to Redis"),
    }
}

fn of_certificate(found: &CertificateError) -> Named {
    match found {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (VALIDITY, "the certificate of Redis has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (VALIDITY, "the certificate of Redis is not yet valid")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (HOST, "the certificate of Redis is for another host")
        }
        CertificateError::Revoked => (VALIDITY, "the certificate of Redis is revoked"),
        _ => (
            AUTHORITY,
            "the certificate of Redis is not from a known authority",
        ),
    }
}

/// What only the server's and the driver's words tell.
fn of_words(err: &RedisError, reason: &str, is_tls: bool) -> Named {
    let login = ["WRONGPASS", "NOAUTH", "AUTH failed", "without any password"];
    if err.kind() == ErrorKind::AuthenticationFailed
        || login.iter().any(|words| reason.contains(words))
    {
        return (LOGIN, "Redis refused the user or the password");
    }
    if ["CertificateRequired", "certificate required", "UnknownCA"]
        .iter()
        .any(|words| reason.contains(words))
    {
        return (CLIENT, "Redis refused our client certificate");
    }
    match err.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm) => (RIGHTS, "the Redis user lacks a right"),
        ErrorKind::Server(_) | ErrorKind::Extension => (READY, "Redis is not ready"),
        // A server that expects TLS hangs up on who speaks without.
        _ if !is_tls && err.is_connection_dropped() && !err.is_connection_refusal() => {
            (DEMANDED, "Redis hung up; it may demand TLS: rediss://")
        }
        _ => (REACH, "Redis cannot be reached"),
    }
}
