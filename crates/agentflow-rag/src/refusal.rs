//! Why a document was not parsed.

use std::{fmt, time::Duration};

use agentflow_types::Error;
use serde::{Deserialize, Serialize};

use crate::{kind::Kind, limits::Bound};

/// The model that a file needs to become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// One that reads pictures.
    Vision,
    /// One that writes down what is said.
    Transcription,
}

/// Why a document was not parsed. Its `Display` is for the person who sent the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// The content is of no kind that is known.
    Unsupported {
        /// What it seems to be.
        found: String,
    },
    /// A model has to read it, and none was asked here.
    NeedsModel {
        /// What the file is.
        kind: Kind,
        /// The model.
        model: Model,
    },
    /// It opens with a password only.
    Encrypted {
        /// What the file is.
        kind: Kind,
    },
    /// It claims to be of a kind and is not, or is damaged.
    Malformed {
        /// What the file was read as.
        kind: Kind,
        /// What is wrong.
        message: String,
    },
    /// It was read and holds no text.
    Empty {
        /// What the file is; `None` if there is not a byte.
        kind: Option<Kind>,
    },
    /// A limit of [`crate::Limits`] was hit.
    TooLarge {
        /// Which limit.
        bound: Bound,
        /// The limit.
        allowed: u64,
        /// What was found until then; the whole may be larger.
        found: u64,
    },
    /// The worker took too long and was ended.
    Timeout {
        /// The time that it was given.
        allowed: Duration,
    },
    /// The worker asked for more memory than it may have, and was ended.
    OutOfMemory {
        /// Bytes that it may have.
        allowed: u64,
    },
    /// The worker ended by itself, or its parser panicked.
    Crashed {
        /// What is known of the end.
        message: String,
    },
    /// Too many documents wait for a worker. Nothing was read.
    Busy,
    /// The file or the worker could not be reached; the document is not to blame.
    Unavailable {
        /// What failed.
        message: String,
    },
}

impl Refusal {
    pub(crate) fn malformed(kind: Kind, message: impl fmt::Display) -> Self {
        // Libraries quote what they read, which may be the whole file.
        let message = message.to_string();
        Self::Malformed {
            kind,
            message: crate::parse::blocks::fact(&message),
        }
    }

    /// Whether the same document may be accepted another time: the file is not to blame.
    pub fn may_pass_later(&self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { found } => {
                write!(f, "the file is {found}, which cannot be read; what can: ")?;
                for (at, kind) in Kind::all().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{kind} ({})", kind.extensions()[0])?;
                }
                Ok(())
            }
            Self::NeedsModel { kind, model } => {
                let model = match model {
                    Model::Vision => "a model that reads pictures",
                    Model::Transcription => "a model that transcribes speech",
                };
                write!(f, "the {kind} file needs {model}, and none is configured")
            }
            Self::Encrypted { kind } => write!(f, "the {kind} file opens with a password only"),
            Self::Malformed { kind, message } => {
                write!(f, "the file cannot be read as {kind}: {message}")
            }
            Self::Empty { kind: None } => f.write_str("the file is empty"),
            Self::Empty { kind: Some(kind) } => write!(f, "the {kind} file holds no text"),
            Self::TooLarge {
                bound,
                allowed,
                found,
            } => write!(
                f,
                "the file has {found} {bound} or more; {allowed} are allowed"
            ),
            Self::Timeout { allowed } => {
                write!(
                    f,
                    "the file was not read within {} s",
                    allowed.as_secs_f32()
                )
            }
            Self::OutOfMemory { allowed } => {
                write!(
                    f,
                    "reading the file takes more than {} MiB of memory",
                    allowed >> 20
                )
            }
            Self::Crashed { message } => write!(f, "reading the file crashed: {message}"),
            Self::Busy => f.write_str("too many documents wait to be read"),
            Self::Unavailable { message } => f.write_str(message),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Busy => Self::busy(message),
            Refusal::Unavailable { .. } => Self::failed(message),
            _ => Self::unprocessable(message),
        }
    }
}
