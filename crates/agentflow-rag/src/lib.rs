//! Documents: what a file holds as text, and the chunks that are made of it.
//!
//! [`parse()`] reads bytes of some thirty kinds into a [`Parsed`] document, within [`Limits`]. There is
//! no I/O here and no model: pictures and recordings are answered with [`Refusal::NeedsModel`].

pub mod document;
pub mod kind;
pub mod limits;
pub mod parse;
pub mod refusal;

pub use document::{Block, Parsed, Place};
pub use kind::Kind;
pub use limits::Limits;
pub use parse::{Declared, parse};
pub use refusal::Refusal;
