//! Long-term memory: what is kept of conversations, and how it is found again.
//!
//! [`text`] turns text into terms, entities and times; [`retrieval`] scores what indexes found.

pub mod retrieval;
pub mod text;
