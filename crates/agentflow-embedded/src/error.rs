//! What SQLite and the file system say, as advice to the caller.

use agentflow_types::{Error, ErrorKind};
use rusqlite::ErrorCode;

use crate::functions::DAMAGED;

/// The shared error for one of SQLite's.
///
/// Every statement runs in a transaction that an error rolls back, so only a failed write of the
/// log leaves open what is stored.
pub(crate) fn from(err: rusqlite::Error) -> Error {
    let (kind, message) = match &err {
        rusqlite::Error::SqliteFailure(_, Some(message)) if message.starts_with(DAMAGED) => (
            ErrorKind::Corrupt,
            "a stored column has an unexpected content",
        ),
        rusqlite::Error::SqliteFailure(failure, _) => of_code(failure.code),
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => (
            ErrorKind::Corrupt,
            "a stored column has an unexpected content",
        ),
        _ => (ErrorKind::Bug, "a database call failed"),
    };
    Error::new(kind, message)
        .with("sqlite", &err)
        .source_err(err)
}

fn of_code(code: ErrorCode) -> (ErrorKind, &'static str) {
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            (ErrorKind::Busy, "the database is locked by another process")
        }
        ErrorCode::DiskFull => (ErrorKind::Busy, "the disk is full"),
        ErrorCode::OutOfMemory => (ErrorKind::Busy, "the database is out of memory"),
        ErrorCode::OperationInterrupted | ErrorCode::OperationAborted => {
            (ErrorKind::Busy, "the database call was interrupted")
        }
        ErrorCode::DatabaseCorrupt => (ErrorKind::Corrupt, "the database is damaged"),
        ErrorCode::NotADatabase => (ErrorKind::Corrupt, "the file is not a database"),
        ErrorCode::SystemIoFailure => (ErrorKind::Uncertain, "the disk failed"),
        ErrorCode::ReadOnly => (ErrorKind::Denied, "the database is read-only"),
        ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            (ErrorKind::Denied, "access to the database was denied")
        }
        ErrorCode::CannotOpen => (ErrorKind::Invalid, "the database cannot be opened"),
        ErrorCode::TooBig => (
            ErrorKind::Invalid,
            "the value is too large for the database",
        ),
        _ => (ErrorKind::Bug, "a database call failed"),
    }
}

/// The shared error for one of the file system's.
pub(crate) fn file(err: &std::io::Error, message: &'static str) -> Error {
    let kind = match err.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::Denied
        }
        std::io::ErrorKind::StorageFull => ErrorKind::Busy,
        _ => ErrorKind::Invalid,
    };
    Error::new(kind, message).with("cause", err)
}
