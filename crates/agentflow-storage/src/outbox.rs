//! What must reach somebody outside: committed with the change it tells of, delivered afterwards.
//!
//! A letter is stored by [`crate::record::Change::Post`], in the transaction of a decision. A
//! dispatcher claims letters, delivers them, and says how it went. Several may do so at once: a
//! claim hides a letter until a moment, after which it is handed out again, and whoever claimed
//! it before has no say any more. Delivery is therefore at least once, and the letter's id lets
//! the addressee drop the second copy.

use agentflow_types::{LetterId, Result, Scope, Timestamp, Value};
use async_trait::async_trait;

use crate::page::Page;

/// Something that must reach somebody outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// Id; the same for every attempt.
    pub letter_id: LetterId,
    /// Who delivers it, for example `webhook`.
    pub topic: String,
    /// Creation; the first attempt is due then.
    pub created_at: Timestamp,
    /// What the dispatcher needs to know.
    pub body: Value,
}

/// A letter and how far it got.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    /// The letter.
    pub letter: Letter,
    /// Whose it is.
    pub tenant: String,
    /// Claims so far; proves to the outbox that a claim is the latest.
    pub attempt: u32,
    /// Whether no further attempt is made.
    pub is_dead: bool,
    /// When the next attempt is due; for a dead letter, when it was given up.
    pub due_at: Timestamp,
    /// Why the last attempt failed; empty before that.
    pub error: String,
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It arrived; the letter goes.
    Delivered,
    /// It did not; another attempt is made at that moment.
    Again(Timestamp, String),
    /// It did not, and no further attempt is made; the moment is now.
    Dead(Timestamp, String),
}

/// Letters of one topic, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Letters that are to be delivered.
    pub waiting: u64,
    /// Letters that were given up.
    pub dead: u64,
    /// Creation of the oldest that is to be delivered.
    pub oldest: Option<Timestamp>,
}

/// Stores letters until they are delivered.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Hands out letters of a topic, of all tenants, that are due at `now`, the longest due
    /// first, at most `limit`. Each gets one more attempt and is due again at `until`, so nobody
    /// else gets it before.
    async fn claim(
        &self,
        topic: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Posted>>;

    /// Says how the attempt ended; false, and nothing changes, if the letter was handed out again
    /// since, or is gone.
    async fn settle(&self, id: LetterId, attempt: u32, settled: Settled) -> Result<bool>;

    /// Dead letters of a topic, given up last first, then by id.
    async fn dead(
        &self,
        scope: &Scope,
        topic: &str,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Posted>>;

    /// Makes a dead letter due at `now` for one more attempt; false if there is none.
    async fn revive(&self, scope: &Scope, id: LetterId, now: Timestamp) -> Result<bool>;

    /// Removes a dead letter; false if there is none.
    async fn discard(&self, scope: &Scope, id: LetterId) -> Result<bool>;

    /// Removes dead letters that were given up before `before`, at most `limit`; returns how many
    /// went.
    async fn forget(&self, before: Timestamp, limit: u32) -> Result<u64>;

    /// Letters of a topic, of all tenants, counted.
    async fn depth(&self, topic: &str) -> Result<Depth>;
}
