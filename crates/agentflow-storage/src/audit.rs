//! The log of changes: who did what to which thing, when, and what became of it.

use agentflow_types::{Result, Scope, Timestamp};
use async_trait::async_trait;
use uuid::Uuid;

use crate::page::Page;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Id; later entries have greater ones.
    pub entry_id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub principal: String,
    /// What, for example `keys.create`.
    pub action: String,
    /// To which thing; empty if it had no id.
    pub target: String,
    /// The request's id; empty for the command line.
    pub request_id: String,
    /// What became of it: `ok`, `denied`, or `failed` with the status.
    pub outcome: String,
}

/// Which entries are wanted; all conditions must hold. Newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only by this principal.
    pub principal: Option<String>,
    /// Only of this action.
    pub action: Option<String>,
    /// Only about this thing.
    pub target: Option<String>,
    /// Only at or after.
    pub since: Option<Timestamp>,
    /// Only before.
    pub until: Option<Timestamp>,
    /// Most entries.
    pub limit: u32,
    /// Entries to skip.
    pub offset: u64,
}

/// Stores the log. Entries are added, and removed when they are old; none ever changes.
#[async_trait]
pub trait Audit: Send + Sync {
    /// Adds an entry.
    ///
    /// # Errors
    /// `Conflict` if the id is taken.
    async fn append(&self, scope: &Scope, entry: Entry) -> Result<()>;

    /// One page of the tenant's entries that match.
    async fn search(&self, scope: &Scope, query: &AuditQuery) -> Result<Page<Entry>>;

    /// Removes the oldest entries of all tenants together: those from before `before`, and those
    /// beyond the newest `keep`; at most `limit`. Returns how many.
    async fn sweep(&self, before: Timestamp, keep: u64, limit: u32) -> Result<u64>;
}
