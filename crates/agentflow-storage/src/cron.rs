//! Schedules that create runs.

use agentflow_types::{AssistantId, CronId, Map, Result, Rights, Scope, ThreadId, Timestamp};
use async_trait::async_trait;

use crate::page::{Page, PageQuery};

/// A cron.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron {
    /// Id.
    pub cron_id: CronId,
    /// Assistant that runs.
    pub assistant_id: AssistantId,
    /// Thread that all runs share; `None` for a new thread each time.
    pub thread_id: Option<ThreadId>,
    /// What happens to the thread of a run when it ends: `delete` or `keep`; only without
    /// `thread_id`.
    pub on_run_completed: Option<String>,
    /// No firing after this.
    pub end_time: Option<Timestamp>,
    /// Cron expression.
    pub schedule: String,
    /// IANA zone; UTC if absent.
    pub timezone: Option<String>,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// Who created it.
    pub user_id: Option<String>,
    /// Body of the runs it creates.
    pub payload: Map,
    /// Next firing; `None` if there is none.
    pub next_run_date: Option<Timestamp>,
    /// Metadata.
    pub metadata: Map,
    /// Whether it fires.
    pub enabled: bool,
    /// What its runs may do: no more than anybody may who wrote it.
    pub rights: Rights,
}

/// Which crons to search; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CronQuery {
    /// Only this assistant.
    pub assistant_id: Option<AssistantId>,
    /// Only this thread.
    pub thread_id: Option<ThreadId>,
    /// Only enabled or disabled ones.
    pub enabled: Option<bool>,
    /// Metadata must contain this.
    pub metadata: Map,
}

/// Stores crons.
///
/// Sort columns: `cron_id`, `assistant_id`, `thread_id`, `next_run_date`, `end_time`,
/// `created_at`, `updated_at`.
#[async_trait]
pub trait Crons: Send + Sync {
    /// Stores a cron, new or known.
    async fn put(&self, scope: &Scope, cron: Cron) -> Result<()>;

    /// The cron.
    async fn get(&self, scope: &Scope, id: CronId) -> Result<Option<Cron>>;

    /// Removes the cron; false if there was none.
    async fn delete(&self, scope: &Scope, id: CronId) -> Result<bool>;

    /// One page of the crons that match.
    async fn search(
        &self,
        scope: &Scope,
        query: &CronQuery,
        page: &PageQuery,
    ) -> Result<Page<Cron>>;

    /// Enabled crons of any tenant that are due at `now`, at most `limit`.
    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<(Scope, Cron)>>;

    /// Moves the next firing from `expected` to `next`; false if another server was faster.
    async fn advance(
        &self,
        id: CronId,
        expected: Timestamp,
        next: Option<Timestamp>,
    ) -> Result<bool>;
}
