//! Whether a tenant may have one more run.

use agentflow_storage::{
    page::MAX_LIMIT,
    record::{RunQuery, RunStatus},
};
use agentflow_types::{Result, Scope};
use async_trait::async_trait;

use super::Service;

/// Decides whether a tenant may have one more run.
#[async_trait]
pub trait Admission: Send + Sync {
    /// The number of runs that wait or execute up to which it wants to be told; `None`: it does
    /// not matter.
    fn most_live(&self) -> Option<u64>;

    /// Counts a run that is about to be created while `live` others wait or execute.
    ///
    /// # Errors
    /// `Limited` if there are too many.
    async fn admit(&self, scope: &Scope, live: u64) -> Result<()>;
}

impl Service {
    /// Asks whether the tenant may have one more run.
    pub(super) async fn admit(&self, scope: &Scope) -> Result<()> {
        let Some(admission) = self.admission.get() else {
            return Ok(());
        };
        let mut live = 0;
        if let Some(most) = admission.most_live() {
            let limit = u32::try_from(most).unwrap_or(MAX_LIMIT).clamp(1, MAX_LIMIT);
            for status in [RunStatus::Pending, RunStatus::Running] {
                let query = RunQuery {
                    status: Some(status),
                    limit,
                    ..RunQuery::default()
                };
                live += self.backend.threads.runs(scope, &query).await?.len() as u64;
            }
        }
        admission.admit(scope, live).await
    }
}
