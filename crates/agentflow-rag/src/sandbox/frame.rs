//! What parent and worker send each other.

use serde::{Deserialize, Serialize};

use crate::{document::Parsed, limits::Limits, parse::Declared, refusal::Refusal};

/// Bytes of a frame from the parent. Documents are not frames.
pub(super) const REQUEST: u64 = 1 << 20;

/// The first frame, to the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub limits: Limits,
}

/// The worker's answer to it, once its limits hold.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    /// Version of the frames, so that a program that is replaced while it runs finds out.
    pub version: u32,
}

/// Version of the frames.
pub(super) const VERSION: u32 = 1;

/// A document; its bytes follow.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub declared: Declared,
    pub bytes: u64,
}

/// What became of it.
pub(super) type Answer = Result<Parsed, Refusal>;
