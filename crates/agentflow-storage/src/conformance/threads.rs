//! Cases of [`crate::record::Threads`].

mod decisions;
mod queue;
mod removal;
mod searches;

use agentflow_types::{Result, Scope};

use super::{sample::at, suite};
use crate::{
    Backend,
    page::PageQuery,
    record::{RunQuery, ThreadQuery},
};

pub use decisions::*;
pub use queue::*;
pub use removal::*;
pub use searches::*;

suite! {
    ($)
    /// Instantiates the cases of the threads port.
    thread_conformance:
    a_thread_is_read_back,
    a_run_is_read_back,
    a_decision_sees_the_live_runs,
    a_failed_decision_writes_nothing,
    a_refused_change_undoes_the_others,
    a_decision_stays_on_its_thread,
    decisions_about_a_thread_do_not_interleave,
    a_decision_appends_events,
    a_run_is_inserted_once,
    a_decision_fires_a_cron_once,
    rolling_back_removes_the_run_and_its_checkpoints,
    deleting_a_run_keeps_its_checkpoints,
    deleting_a_thread_removes_everything,
    only_resting_threads_are_removed_together,
    strangers_see_no_thread,
    search_finds_threads,
    search_contains_json,
    threads_sort_by_every_column,
    thread_pages_have_the_total,
    runs_are_found_newest_first,
    candidates_are_threads_with_work,
    a_heartbeat_needs_the_lease,
    a_heartbeat_extends_the_lease,
    what_is_watched_is_asked_about_at_once,
    runs_are_counted_by_status,
    ages_are_of_what_is_not_over,
    threads_expire,
}

async fn search(backend: &Backend, query: ThreadQuery) -> Result<Vec<u8>> {
    paged(backend, query, PageQuery::default()).await
}

async fn paged(backend: &Backend, query: ThreadQuery, page: PageQuery) -> Result<Vec<u8>> {
    let found = backend
        .threads
        .search(&Scope::local(), &query, &page)
        .await?;
    Ok(found
        .items
        .iter()
        .map(|row| row.thread_id.0.as_bytes()[15])
        .collect())
}

async fn runs(backend: &Backend, query: RunQuery) -> Result<Vec<u8>> {
    let found = backend.threads.runs(&Scope::local(), &query).await?;
    Ok(found
        .iter()
        .map(|row| row.run_id.0.as_bytes()[15])
        .collect())
}

async fn candidates(backend: &Backend, seconds: i64, limit: u32) -> Result<Vec<u8>> {
    let found = backend.threads.candidates(at(seconds), limit).await?;
    Ok(found
        .iter()
        .map(|row| row.thread_id.0.as_bytes()[15])
        .collect())
}
