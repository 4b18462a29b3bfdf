//! Storage ports, the in-memory backend and the conformance suites.
//!
//! A port is a small object-safe trait whose rustdoc is the contract: order, atomicity,
//! durability, and what a stale write returns. Backends live in their own crates; each runs every
//! case of the suites of the module `conformance` (a feature, for tests).

pub mod account;
pub mod audit;
pub mod cache;
pub mod checkpoint;
pub mod cipher;
pub mod condition;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod counter;
pub mod cron;
pub mod documents;
pub mod event;
pub mod faulty;
pub mod figures;
pub mod filter;
pub mod json;
pub mod memories;
pub mod memory;
pub mod msgpack;
pub mod outbox;
pub mod page;
pub mod record;
pub mod session;
pub mod signal;
pub mod store;
pub mod vector;

use std::sync::Arc;

/// One backend: every port, over one database.
#[derive(Clone)]
pub struct Backend {
    /// Tenants.
    pub tenants: Arc<dyn account::Tenants>,
    /// Users.
    pub users: Arc<dyn account::Users>,
    /// API keys.
    pub keys: Arc<dyn account::Keys>,
    /// The log of changes.
    pub audit: Arc<dyn audit::Audit>,
    /// Checkpoints and pending writes.
    pub checkpoints: Arc<dyn checkpoint::Checkpoints>,
    /// Assistants and their versions.
    pub assistants: Arc<dyn record::Assistants>,
    /// Threads and runs.
    pub threads: Arc<dyn record::Threads>,
    /// The numbered event log.
    pub events: Arc<dyn event::Events>,
    /// Long-term key-value items.
    pub store: Arc<dyn store::Store>,
    /// Schedules.
    pub crons: Arc<dyn cron::Crons>,
    /// Letters to the outside.
    pub outbox: Arc<dyn outbox::Outbox>,
    /// Wake-ups.
    pub signals: Arc<dyn signal::Signals>,
    /// Sessions of people who signed in.
    pub sessions: Arc<dyn session::Sessions>,
    /// Rate limits and quotas.
    pub counters: Arc<dyn counter::Counters>,
    /// Results worth keeping for a while.
    pub cache: Arc<dyn cache::Cache>,
    /// Memories, and the work on them.
    pub memories: Arc<dyn memories::Memories>,
    /// Documents, and the bytes of uploads.
    pub documents: Arc<dyn documents::Documents>,
}
