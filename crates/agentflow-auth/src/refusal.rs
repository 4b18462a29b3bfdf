//! Why somebody is not let in.

use std::time::Duration;

use agentflow_types::Error;

/// Why somebody is not let in.
#[derive(Debug)]
pub enum Refusal {
    /// It is not known who asks. The text may be shown to whoever asked.
    Unknown(&'static str),
    /// It is known, and it may not.
    Denied(String),
    /// Too often; again after this time.
    Later(Duration, String),
    /// It cannot be told at present.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(err: Error) -> Self {
        Self::Failed(err)
    }
}
