//! Long-term memory: what is kept of conversations, and how it is found again.
//!
//! [`Service`] is what a server calls: every call takes a scope and a project within it. Records
//! are in SQL and come first; the index of vectors is derived from them through the outbox.
//! [`text`] turns text into terms, entities and times; [`retrieval`] scores what indexes found;
//! [`filter`] reads the filters of clients.

mod extract;
pub mod filter;
mod index;
pub mod retrieval;
mod service;
pub mod text;

pub use service::{
    Add, Added, Deleted, Edit, Found, Models, Project, Search, Service, Speech, Which,
};
