//! Long-term memory: what is kept of conversations, and how it is found again.
//!
//! [`Service`] is what a server calls: every call takes a scope and a project within it. Records
//! are in SQL and come first; the index of vectors is derived from them through the outbox.
//! [`text`] turns text into terms, entities and times; [`retrieval`] scores what indexes found;
//! [`filter`] reads the filters of clients.

#[cfg(feature = "conformance")]
pub mod conformance;
mod extract;
mod fence;
pub mod filter;
mod index;
pub mod retrieval;
mod service;

pub use agentflow_text as text;
pub use index::{Begins, Drift, Embedders, IndexState, Lasting, Reembed, Step};
pub use service::{
    Add, Added, DEFAULT_PROJECT, Deleted, Edit, Export, Feedback, Found, MAX_QUERY_BYTES, Models,
    ModelsUsed, Profile, ProfileSettings, ProfileStatus, Project, Search, Service, Speech, Verdict,
    Webhook, WebhookPatch, Which,
};
