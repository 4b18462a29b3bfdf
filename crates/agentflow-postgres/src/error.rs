//! What an error of the driver or the server means for the caller.

use std::error::Error as StdError;

use agentflow_types::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// Names the answer to something whose loss changes nothing: a read, or a transaction that is not
/// yet committed.
pub(crate) fn from(err: tokio_postgres::Error) -> Error {
    let Some(refused) = err.as_db_error() else {
        return driver(err);
    };
    let text = refused.message().to_owned();
    let code = refused.code().code().to_owned();
    let mut named = of_state(refused)
        .with("reason", text)
        .with("sqlstate", code);
    if let Some(constraint) = refused.constraint() {
        named = named.with("constraint", constraint.to_owned());
    }
    named.source_err(err)
}

/// Names the answer to what may have been committed: one whose answer was lost is `Uncertain`.
pub(crate) fn sent(err: tokio_postgres::Error) -> Error {
    if !may_be_done(&err) {
        return from(err);
    }
    Error::uncertain("the answer of the database to a commit was lost").source_err(err)
}

/// Whether the connection ended with this error.
pub(crate) fn lost(err: &tokio_postgres::Error) -> bool {
    match err.as_db_error() {
        Some(refused) => is_fatal(refused),
        None => err.is_closed() || io(err),
    }
}

/// Whether the server itself ended the connection, as it does when it stops. A pooler that lost its
/// server has another code.
pub(crate) fn ended(err: &tokio_postgres::Error) -> bool {
    let refused = err.as_db_error();
    refused.is_some_and(|db| is_fatal(db) && db.code().code().starts_with("57"))
}

/// Whether a server that is in no state to write said no: another one of the list may.
pub(crate) fn read_only(err: &tokio_postgres::Error) -> bool {
    err.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// Whether the server stopped a statement, because its time was up or because we asked.
pub(crate) fn cancelled(err: &tokio_postgres::Error) -> bool {
    err.code() == Some(&SqlState::QUERY_CANCELED)
}

fn is_fatal(refused: &DbError) -> bool {
    matches!(
        refused.parsed_severity(),
        Some(Severity::Fatal | Severity::Panic)
    )
}

/// Whether what was sent may have been done in spite of the error. An error of the server itself
/// is an answer, unless it or a pooler says that a connection broke meanwhile.
fn may_be_done(err: &tokio_postgres::Error) -> bool {
    let Some(refused) = err.as_db_error() else {
        return !before_sending(err);
    };
    let broke = is_fatal(refused) || refused.code().code().starts_with("08");
    broke && !never_sent(refused)
}

/// Errors of the driver that come before it sends: values that cannot be encoded.
fn before_sending(err: &tokio_postgres::Error) -> bool {
    let shown = err.to_string();
    shown.starts_with("error serializing parameter") || shown.starts_with("error encoding message")
}

/// What PgBouncer says to a client for whose query it found no server: none of it was sent on.
const NO_SERVER: [&str; 4] = [
    "query_wait_timeout",
    "client_login_timeout",
    "server login has been failing",
    "no more connections allowed",
];

/// Whether a pooler says that it sent nothing on.
fn never_sent(refused: &DbError) -> bool {
    let said = refused.message();
    NO_SERVER.iter().any(|words| said.contains(words))
}

fn io(err: &tokio_postgres::Error) -> bool {
    err.source()
        .is_some_and(<dyn StdError>::is::<std::io::Error>)
}

fn driver(err: tokio_postgres::Error) -> Error {
    if err.is_closed() || io(&err) {
        return Error::busy("the connection to the database was lost").source_err(err);
    }
    if before_sending(&err) {
        let reason = causes(&err);
        return Error::invalid("a value cannot be stored")
            .with("reason", reason)
            .source_err(err);
    }
    let reason = causes(&err);
    Error::bug("the database answered in an unexpected way")
        .with("reason", reason)
        .source_err(err)
}

/// What an error and its causes say, in one line.
pub(crate) fn causes(err: &dyn StdError) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

/// What a code of the server means. Source: PostgreSQL's manual, "PostgreSQL Error Codes".
fn of_state(refused: &DbError) -> Error {
    let state = refused.code();
    if *state == SqlState::QUERY_CANCELED {
        return Error::busy("the database did not finish in time");
    }
    if *state == SqlState::INSUFFICIENT_PRIVILEGE {
        return Error::bug("the database user lacks a right");
    }
    if *state == SqlState::PROGRAM_LIMIT_EXCEEDED
        || *state == SqlState::UNTRANSLATABLE_CHARACTER
        || *state == SqlState::CHARACTER_NOT_IN_REPERTOIRE
    {
        return Error::invalid("a value cannot be stored");
    }
    if *state == SqlState::UNIQUE_VIOLATION {
        return Error::conflict("another row has this key");
    }
    if *state == SqlState::UNDEFINED_TABLE || *state == SqlState::INVALID_SCHEMA_NAME {
        return Error::bug("a table is missing in the database");
    }
    match &state.code()[..2] {
        "22" => Error::invalid("a value cannot be stored"),
        "40" | "55" => Error::busy("another transaction was in the way"),
        "25" => Error::busy("the database takes no writes at the moment"),
        "53" => Error::busy("the database lacks resources"),
        "08" | "57" | "58" => Error::busy("the database is not available"),
        "XX" if state.code() != "XX000" => Error::corrupt("the database is damaged"),
        _ => Error::bug("the database refused a statement"),
    }
}
