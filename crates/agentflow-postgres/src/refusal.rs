//! Which check failed when a server did not accept us, or we not it.

use std::error::Error as StdError;

use agentflow_types::Error;
use rustls::{AlertDescription, CertificateError, Error as Tls};
use tokio_postgres::error::SqlState;

use crate::{
    connect::Refused,
    dsn::{Dsn, Host},
    error,
};

/// Names why connecting to `host` failed.
///
/// All are `Busy` for who asks the database for something: nothing was written, and an operator
/// can mend it. The fact `check` tells which check failed.
pub(crate) fn name(err: tokio_postgres::Error, dsn: &Dsn, host: &Host) -> Refused {
    let reason = error::causes(&err);
    let (check, message, passing) = match (err.code(), cause::<Tls>(&err)) {
        (Some(state), _) => of_state(state, &reason),
        (None, Some(tls)) => of_tls(tls),
        (None, None) => of_text(&err, &reason),
    };
    let mut named = Error::busy(message)
        .with("check", check)
        .with("host", host)
        .with("user", &dsn.user)
        .with("database", &dsn.dbname);
    if let Some(path) = dsn.ssl.root.as_ref().filter(|_| check == AUTHORITY) {
        named = named.with("sslrootcert", path.display());
    }
    Refused {
        error: named.with("reason", reason).source_err(err),
        passing,
    }
}

/// Names of the checks.
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

type Named = (&'static str, &'static str, bool);

fn of_state(state: &SqlState, reason: &str) -> Named {
    if *state == SqlState::INVALID_PASSWORD {
        return (LOGIN, "the database refused the password", false);
    }
    if *state == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        if reason.contains("certificate") {
            return (CLIENT, "the database demands a client certificate", false);
        }
        return (LOGIN, "the database refused the user", false);
    }
    if *state == SqlState::TOO_MANY_CONNECTIONS {
        return (READY, "the database has no connection left", true);
    }
    // A pooler has only one code for everything.
    if reason.contains("password authentication failed") || reason.contains("SASL authentication") {
        return (LOGIN, "the database refused the password", false);
    }
    if reason.contains("SSL required") {
        return (DEMANDED, "the pooler demands TLS", false);
    }
    match &state.code()[..2] {
        "57" | "53" | "08" => (READY, "the database is not ready", true),
        _ => (RIGHTS, "the database refused the connection", false),
    }
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
        ) => (CLIENT, "the database refused our client certificate", false),
        Tls::AlertReceived(AlertDescription::ProtocolVersion) | Tls::PeerIncompatible(_) => (
            VERSION,
            "the database speaks no TLS version that we accept, which is 1.2 at least",
            false,
        ),
        _ => (TLS, "no TLS connection to the database", false),
    }
}

fn of_certificate(found: &CertificateError) -> Named {
    match found {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            VALIDITY,
            "the certificate of the database has expired",
            false,
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            VALIDITY,
            "the certificate of the database is not yet valid",
            false,
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            HOST,
            "the certificate of the database is for another host",
            false,
        ),
        CertificateError::Revoked => (
            VALIDITY,
            "the certificate of the database is revoked",
            false,
        ),
        _ => (
            AUTHORITY,
            "the certificate of the database is not from a known authority",
            false,
        ),
    }
}

/// What only the driver's words tell.
fn of_text(err: &tokio_postgres::Error, reason: &str) -> Named {
    if reason.contains("does not support TLS") {
        return (OFFERED, "the database offers no TLS", false);
    }
    if reason.contains("password missing") {
        return (LOGIN, "the database asks for a password", false);
    }
    if reason.contains("authentication") || reason.contains("channel binding") {
        return (LOGIN, "the login to the database failed", false);
    }
    if reason.contains("TLS handshake") {
        return (TLS, "no TLS connection to the database", true);
    }
    if cause::<std::io::Error>(err).is_some() || err.is_closed() {
        return (REACH, "the database cannot be reached", true);
    }
    (REACH, "no connection to the database", false)
}

/// The first cause of this kind. An I/O error hides what it was made of from `source`.
fn cause<'a, T: StdError + 'static>(err: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(err);
    while let Some(err) = next {
        if let Some(found) = err.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = err
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        if let Some(inner) = inner {
            let inner: &(dyn StdError + 'static) = inner;
            if let Some(found) = inner.downcast_ref::<T>() {
                return Some(found);
            }
        }
        next = err.source();
    }
    None
}
