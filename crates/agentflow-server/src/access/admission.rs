//! Quotas of runs, as the run service asks for them.

use std::sync::Arc;

use agentflow_auth::Auth;
use agentflow_runs::service::Admission;
use agentflow_types::{Error, Result, Scope};
use async_trait::async_trait;

/// Asks the limits of the tenant.
pub(crate) struct Admit(pub(crate) Arc<Auth>);

#[async_trait]
impl Admission for Admit {
    fn most_live(&self) -> Option<u64> {
        self.0.concurrent_runs()
    }

    async fn admit(&self, scope: &Scope, live: u64) -> Result<()> {
        self.0.admit_run(scope, live).await?.map_err(|limited| {
            let seconds = limited.retry_after.as_secs_f64().ceil().max(1.0);
            Error::limited(limited.text).with("retry_after_s", seconds)
        })
    }
}
