//! Errors as frames carry them. See `docs/worker-protocol.md`, section 4.

use agentflow_types::{Error, ErrorKind, Value};

const KINDS: [(&str, ErrorKind); 12] = [
    ("invalid", ErrorKind::Invalid),
    ("unprocessable", ErrorKind::Unprocessable),
    ("denied", ErrorKind::Denied),
    ("not_found", ErrorKind::NotFound),
    ("conflict", ErrorKind::Conflict),
    ("limited", ErrorKind::Limited),
    ("busy", ErrorKind::Busy),
    ("uncertain", ErrorKind::Uncertain),
    ("corrupt", ErrorKind::Corrupt),
    ("cancelled", ErrorKind::Cancelled),
    ("failed", ErrorKind::Failed),
    ("bug", ErrorKind::Bug),
];

/// Key of the number of threads that outlive a cancelled run.
pub(crate) const STUCK: &str = "stuck_threads";

/// An error of the other side; its traceback is logged.
pub(crate) fn read(error: &Value) -> Error {
    let text = |key: &str| error.get(key).and_then(Value::as_str);
    let word = text("kind").unwrap_or_default();
    let known = KINDS.iter().find(|(name, _)| *name == word);
    let kind = known.map_or(ErrorKind::Failed, |(_, kind)| *kind);
    let mut read = Error::new(kind, text("message").unwrap_or_default().to_owned());
    if let Some(class) = text("class").filter(|class| !class.is_empty()) {
        read = read.class(class.to_owned());
    }
    if let Some(traceback) = text("traceback").filter(|text| !text.is_empty()) {
        tracing::info!(class = read.class_name(), "a worker reports:\n{traceback}");
    }
    match error.get(STUCK).and_then(Value::as_i64) {
        Some(threads) if threads > 0 => read.with(STUCK, threads),
        _ => read,
    }
}

/// An error of ours.
pub(crate) fn write(err: &Error) -> Value {
    let kind = KINDS.iter().find(|(_, kind)| *kind == err.kind());
    Value::object([
        ("kind", Value::str(kind.map_or("bug", |(word, _)| *word))),
        ("class", Value::str(err.class_name())),
        ("message", Value::str(err.to_string())),
    ])
}
