//! Runs whose worker was lost.

use agentflow_storage::record::{Run, RunStatus};
use agentflow_types::{RunId, Timestamp, value};

use super::claimed_at;

/// What the checkpoints say about a run whose worker was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The run.
    pub run_id: RunId,
    /// When its newest checkpoint was made; `None` if it has none.
    pub newest: Option<Timestamp>,
}

/// Whether a run whose worker was lost is pending again; if not, it is over.
pub(super) fn requeue(run: &mut Run, max_attempts: u32) -> bool {
    run.status = match run.cancel {
        Some(_) => RunStatus::Interrupted,
        None if run.attempt >= max_attempts => {
            run.error = value!({
                "error": "WorkerLostError",
                "message": format!("the worker was lost in each of {max_attempts} attempts without a new checkpoint"),
            });
            RunStatus::Error
        }
        None => RunStatus::Pending,
    };
    run.status == RunStatus::Pending
}

/// Ends the lease of a run whose worker was lost; an attempt that made a checkpoint is not held
/// against it.
pub(super) fn forgive(run: &mut Run, known: Progress) {
    if let (Some(lease), Some(newest)) = (run.lease.take(), known.newest)
        && claimed_at(&lease) < newest
    {
        // Later attempts differ from the first, so it does not begin with 0 again.
        run.attempt = 1;
    }
}
