//! One error type: kind (advice to the caller), message, context, source.

use std::{borrow::Cow, error::Error as StdError, fmt};

/// Result with the shared [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Advice to the caller: what may be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong; fix it. HTTP 400.
    Invalid,
    /// The request is well-formed but its content cannot be accepted. HTTP 422.
    Unprocessable,
    /// Rights are missing. HTTP 403.
    Denied,
    /// The thing does not exist for this scope. HTTP 404.
    NotFound,
    /// The state moved on; reload and decide again. HTTP 409.
    Conflict,
    /// Too much was asked for; retry when the fact `retry_after_s` says. HTTP 429.
    Limited,
    /// Retry later; nothing was written. HTTP 503.
    Busy,
    /// It may or may not have been written; read before retrying. HTTP 504.
    Uncertain,
    /// Stored data is damaged; stop and restore. HTTP 500.
    Corrupt,
    /// A defect of ours; report it. HTTP 500.
    Bug,
    /// The work was cancelled before it ended. HTTP 409.
    Cancelled,
    /// User code, or a model or tool that it called, failed. HTTP 500.
    Failed,
}

/// What went wrong, for whom, and why.
///
/// `class` is the name a client sees in the `error` field of a run (for example
/// `GraphRecursionError`); `code` names a page under `docs/errors/`.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    class: Option<Cow<'static, str>>,
    code: Option<&'static str>,
    message: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {
        impl Error {
            $($(#[$doc])* pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
                Self::new(ErrorKind::$kind, message)
            })*
        }
    };
}

constructors! {
    /// The caller must fix the request.
    invalid => Invalid;
    /// The content cannot be accepted.
    unprocessable => Unprocessable;
    /// The caller lacks rights.
    denied => Denied;
    /// The thing does not exist for this scope.
    not_found => NotFound;
    /// The state moved on.
    conflict => Conflict;
    /// Too much was asked for.
    limited => Limited;
    /// Retry later; nothing was written.
    busy => Busy;
    /// The outcome is unknown.
    uncertain => Uncertain;
    /// Stored data is damaged.
    corrupt => Corrupt;
    /// A defect of ours.
    bug => Bug;
    /// The work was cancelled.
    cancelled => Cancelled;
    /// User code, a model or a tool failed.
    failed => Failed;
}

impl Error {
    /// An error of `kind`. The message is lowercase and has no full stop, unless the wire
    /// format of a peer demands otherwise.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            class: None,
            code: None,
            message: message.into(),
            context: Vec::new(),
            source: None,
        }))
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn source_err(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Sets the class name that run clients see.
    #[must_use]
    pub fn class(mut self, class: impl Into<Cow<'static, str>>) -> Self {
        self.0.class = Some(class.into());
        self
    }

    /// Sets the code of a page under `docs/errors/`, for example `AF0101`.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.0.code = Some(code);
        self
    }

    /// Advice to the caller.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message without context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The class name for run clients; falls back to the kind's name.
    pub fn class_name(&self) -> &str {
        match &self.0.class {
            Some(class) => class,
            None => match self.0.kind {
                ErrorKind::Invalid | ErrorKind::Unprocessable => "ValueError",
                ErrorKind::Denied => "PermissionError",
                ErrorKind::NotFound => "NotFoundError",
                ErrorKind::Conflict => "ConflictError",
                ErrorKind::Limited => "RateLimitError",
                ErrorKind::Busy => "BusyError",
                ErrorKind::Uncertain => "TimeoutError",
                ErrorKind::Corrupt => "CorruptDataError",
                ErrorKind::Bug => "InternalError",
                ErrorKind::Cancelled => "CancelledError",
                ErrorKind::Failed => "RuntimeError",
            },
        }
    }

    /// The code of the page under `docs/errors/`, if any.
    pub fn error_code(&self) -> Option<&'static str> {
        self.0.code
    }

    /// Facts in the order they were added.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (i, (name, value)) in self.0.context.iter().enumerate() {
            f.write_str(if i == 0 { " (" } else { ", " })?;
            write!(f, "{name}: {value}")?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        if let Some(code) = self.0.code {
            write!(f, " [{code}]")?;
        }
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, "\n  caused by: {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|e| e as &(dyn StdError + 'static))
    }
}
