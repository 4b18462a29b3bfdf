//! Creating a run and being there from its beginning: what comes is heard, not read.

use std::sync::Arc;

use agentflow_storage::record::Run;
use agentflow_types::{Result, Scope, Value};
use tokio::sync::oneshot;

use super::{Ended, Service, Subscription, Topic, runs::result_of};
use crate::config::CreateRun;

/// The end of a run that somebody waits for.
pub struct Awaited {
    run: Run,
    ended: oneshot::Receiver<Arc<Ended>>,
}

impl Service {
    /// Creates a run whose end its creator waits for, with [`Service::result`].
    ///
    /// # Errors
    /// As [`Service::create_run`].
    pub async fn create_awaited(
        self: &Arc<Self>,
        scope: &Scope,
        request: CreateRun,
    ) -> Result<(Run, Awaited)> {
        let new = self.plan_run(scope, request).await?;
        let id = new.planned.run.run_id;
        let ended = self.wait_here(scope, id);
        match self.insert_in_background(scope, new).await {
            Ok(run) => {
                let awaited = Awaited {
                    run: run.clone(),
                    ended,
                };
                Ok((run, awaited))
            }
            Err(err) => {
                drop(ended);
                self.forget_waiters(id);
                Err(err)
            }
        }
    }

    /// The result of a run, as soon as it is over; see [`Service::join`].
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn result(&self, scope: &Scope, awaited: Awaited) -> Result<Value> {
        let Awaited { run, mut ended } = awaited;
        if let Some(ended) = self.wait_end_of(&run, &mut ended, scope).await? {
            return Ok(result_of(&ended));
        }
        drop(ended);
        self.forget_waiters(run.run_id);
        self.stored_result(scope, run.thread_id, run.run_id).await
    }

    /// Creates a run whose creator reads all its events.
    ///
    /// # Errors
    /// As [`Service::create_run`].
    pub async fn create_followed(
        self: &Arc<Self>,
        scope: &Scope,
        request: CreateRun,
    ) -> Result<(Run, Subscription)> {
        let new = self.plan_run(scope, request).await?;
        let run = &new.planned.run;
        let events = self.listen(scope, run.thread_id, Topic::Run(run.run_id));
        let run = self.insert_in_background(scope, new).await?;
        Ok((run, events))
    }
}
