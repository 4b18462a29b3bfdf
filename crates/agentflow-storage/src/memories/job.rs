//! Work on memories that goes on after its request was answered.

use agentflow_types::{JobId, Map, Timestamp, Value};
use serde::{Deserialize, Serialize};

/// Life of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobStatus {
    /// Waits for its turn.
    #[default]
    Pending,
    /// An attempt is under way.
    Running,
    /// Done.
    Succeeded,
    /// Given up.
    Failed,
}

impl JobStatus {
    /// The word on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
        }
    }

    /// Whether it will never change again.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// A job; clients call it an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Id.
    pub job_id: JobId,
    /// The project, within the tenant.
    pub project: String,
    /// What is done: `ADD`, `DELETE_ALL`, …
    pub kind: String,
    /// Jobs of one lane are done one after the other, the oldest first.
    pub lane: String,
    /// Status.
    pub status: JobStatus,
    /// What is asked for.
    pub payload: Map,
    /// What came of it.
    pub results: Vec<Value>,
    /// Why it failed, or what its result lacks; empty if nothing went wrong.
    pub error: String,
    /// Claims so far; proves that a claim is the last one.
    pub attempt: u32,
    /// When it may be claimed, for the first time or again.
    pub due_at: Timestamp,
    /// Creation, and its place in the lane.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// When the first attempt began.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub completed_at: Option<Timestamp>,
}

/// A job that was handed out.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// Whose it is.
    pub tenant: String,
    /// The job as it is now.
    pub job: Job,
}

/// Which jobs; all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobQuery {
    /// Of this project.
    pub project: String,
    /// Of this kind.
    pub kind: Option<String>,
    /// With this status.
    pub status: Option<JobStatus>,
    /// Most rows.
    pub limit: u32,
    /// Rows to skip.
    pub offset: u64,
}
