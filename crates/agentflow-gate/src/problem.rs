//! What is wrong with a file.

use std::fmt;

use crate::source::{Sources, Span};

/// What part of reading refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A file is not there or cannot be read.
    File,
    /// The bytes are not text.
    Encoding,
    /// The text is not YAML, or YAML that Compose does not take.
    Syntax,
    /// One of our limits is passed; Docker Compose may accept the file.
    Limit,
    /// A variable is missing or its expression is wrong.
    Interpolation,
    /// A key or value that the Compose specification does not know.
    Schema,
    /// Two files cannot be laid over each other.
    Merge,
    /// `extends` or `include` cannot be followed.
    Reference,
    /// Parts that are right alone and wrong together.
    Consistency,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What part of reading refused.
    pub kind: Kind,
    /// What is wrong, in one line.
    pub message: String,
    /// Dotted path of the value in the model; empty if there is none.
    pub path: String,
    /// Keys that are not known, for [`Kind::Schema`].
    pub unknown: Vec<String>,
    /// Where it stands.
    pub span: Span,
    /// Other places that explain it.
    pub related: Vec<(Span, String)>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, span: Span, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            path: String::new(),
            unknown: Vec::new(),
            span,
            related: Vec::new(),
        }
    }

    pub(crate) fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    pub(crate) fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// The problem in one line, with its place.
    pub fn line(&self, sources: &Sources) -> String {
        format!("{}: {self}", sources.locate(self.span))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

impl std::error::Error for Problem {}
