//! Documents: what a file holds as text, and the chunks that are made of it.
//!
//! [`parse()`] reads bytes of some thirty kinds into a [`Parsed`] document, within [`Limits`].
//! [`sandbox`] does so in a worker process, because files come from strangers: one that wants too
//! much time or memory, or that brings a parser down, fails alone and with a reason.
//! [`chunk()`] cuts the text into pieces that can be found and cited. These have no I/O besides the
//! worker's pipes, and no model: pictures and recordings are answered with [`Refusal::NeedsModel`].
//! [`Service`] keeps documents of users and finds their chunks.

pub mod chunk;
pub mod document;
pub mod kind;
pub mod limits;
pub mod parse;
pub mod refusal;
pub mod sandbox;
pub mod service;

pub use chunk::{Chunk, chunk};
pub use document::{Block, Parsed, Place};
pub use kind::Kind;
pub use limits::Limits;
pub use parse::{Declared, parse};
pub use refusal::Refusal;
pub use sandbox::Sandbox;
pub use service::Service;
