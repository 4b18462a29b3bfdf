//! The end of an attempt: what is stored about it, and who is told.

use std::sync::Arc;

use agentflow_storage::{
    checkpoint::Fence,
    record::{CancelAction, Run, RunStatus, ThreadRuns},
    signal::Signal,
};
use agentflow_types::{
    Error, ErrorKind, Result, Scope, Value,
    graph::{CheckpointRef, Interrupt, RunOutcome, StateSnapshot},
    value,
};
use futures_util::future::BoxFuture;
use indexmap::IndexMap;

use super::{
    Service,
    execute::End,
    runs::{Slot, end_draft, wait_result},
    threads::{Refresh, interrupts_by_task},
};
use crate::{
    config::Kwargs,
    hub::{Channel, Draft},
    machine::{self, Finish, Finished, Progress},
    patience::is_unavailable,
};

/// What there is to say about the end of an attempt.
struct Report {
    finish: Finish,
    /// Interrupts of this run.
    interrupts: Vec<Interrupt>,
}

impl Service {
    /// Stores how the attempt ended: run, thread and last events, from `unsaid` on, in one
    /// transaction. Then tells everybody. True if the thread has more to do.
    ///
    /// # Errors
    /// `Conflict` if the lease is lost; errors of the backend.
    pub(super) async fn conclude(
        self: &Arc<Self>,
        scope: &Scope,
        run: &Run,
        fence: Fence,
        channel: &Channel,
        end: End,
        unsaid: Vec<Draft>,
    ) -> Result<bool> {
        if matches!(end, End::Released) {
            if !unsaid.is_empty() {
                self.append(run, fence, channel, &unsaid).await?;
            }
            let patience = self.config.patience;
            let released = patience.ask(|| self.release(scope, run, fence)).await;
            return released.map(|()| true);
        }
        let end = match end {
            End::Crashed(err) if self.try_again(scope, run, fence, &err).await? => return Ok(true),
            End::Crashed(err) => End::Failed(err),
            end => end,
        };
        let Report { finish, interrupts } = self.report(run, fence, end).await?;
        let result = finish.result.clone();
        let mut drafts = unsaid;
        drafts.extend(last_words(run, &finish, &interrupts));
        let Finished {
            run: over,
            rolled_back,
            more,
        } = self.store_end(scope, channel, run, finish, &drafts).await?;
        self.meter.ended(run, over.status.as_str(), self.now());
        self.letters_may_wait(&over);
        self.tell_waiters(scope, &over, result);
        if over.temporary_thread {
            self.remove_later(scope.clone(), over.thread_id);
        } else if rolled_back {
            self.refresh_thread(scope, over.thread_id, Refresh::AtRest)
                .await?;
        }
        Ok(more)
    }

    /// Gives the run back to the queue, or ends it if it was to be stopped.
    async fn release(&self, scope: &Scope, run: &Run, fence: Fence) -> Result<()> {
        let (now, id, token) = (self.now(), run.run_id, fence.token);
        let (inside, outside) = Slot::new();
        let decide = move |found: Option<&ThreadRuns>| {
            let (changes, ended) = machine::release(found, id, token, now)?;
            inside.put(ended);
            Ok(changes)
        };
        let threads = &self.backend.threads;
        threads
            .decide(scope, run.thread_id, Box::new(decide))
            .await?;
        let ended = outside.take()?.into_iter().collect();
        self.signal(Signal::Queue);
        self.end_without_worker(scope, run.thread_id, ended).await
    }

    /// Gives a run back whose graph was lost with what executed it, unless that happened too
    /// often or it was to be stopped anyway; tells whether.
    async fn try_again(&self, scope: &Scope, run: &Run, fence: Fence, err: &Error) -> Result<bool> {
        let patience = self.config.patience;
        let progress = patience
            .ask(|| self.progress(run.thread_id, run.run_id))
            .await?;
        let given_back = patience
            .ask(|| self.give_back(scope, run, fence, progress))
            .await?;
        if given_back {
            tracing::warn!(run_id = %run.run_id, error = %err, "a run is tried again");
            self.signal(Signal::Queue);
        }
        Ok(given_back)
    }

    async fn give_back(
        &self,
        scope: &Scope,
        run: &Run,
        fence: Fence,
        progress: Progress,
    ) -> Result<bool> {
        let (now, token, max) = (self.now(), fence.token, self.config.max_attempts);
        let (inside, outside) = Slot::new();
        let decide = move |found: Option<&ThreadRuns>| {
            let changes = machine::crashed(found, token, progress, max, now)?;
            inside.put(!changes.is_empty());
            Ok(changes)
        };
        let threads = &self.backend.threads;
        threads
            .decide(scope, run.thread_id, Box::new(decide))
            .await?;
        outside.take()
    }

    /// Stores the end; waits for a database that is away.
    async fn store_end(
        &self,
        scope: &Scope,
        channel: &Channel,
        run: &Run,
        finish: Finish,
        drafts: &[Draft],
    ) -> Result<Finished> {
        let mut trial = self.config.patience.begin();
        let mut in_doubt = false;
        loop {
            let stored = self.try_store_end(scope, channel, run, &finish, drafts);
            let err = match stored.await {
                Ok(finished) => return Ok(finished),
                Err(err) => err,
            };
            // An earlier try may be stored although its answer was lost.
            if err.kind() == ErrorKind::Conflict && in_doubt {
                let patience = self.config.patience;
                let ended = patience.ask(|| self.already_ended(scope, run, &finish));
                return ended.await?.ok_or(err);
            }
            in_doubt |= err.kind() == ErrorKind::Uncertain;
            trial.again(err).await?;
        }
    }

    async fn try_store_end(
        &self,
        scope: &Scope,
        channel: &Channel,
        run: &Run,
        finish: &Finish,
        drafts: &[Draft],
    ) -> Result<Finished> {
        let (now, thread) = (self.now(), run.thread_id);
        let store = |numbered| -> BoxFuture<'_, Result<Finished>> {
            let (inside, outside) = Slot::new();
            let finish = finish.clone();
            let decide = move |found: Option<&ThreadRuns>| {
                let (changes, finished) = machine::finish(found, finish, numbered, now)?;
                inside.put(finished);
                Ok(changes)
            };
            let threads = &self.backend.threads;
            let decided = threads.decide(scope, thread, Box::new(decide));
            Box::pin(async move { decided.await.and_then(|()| outside.take()) })
        };
        let log = (&*self.backend.events, thread);
        channel.append(log, drafts, now, store).await
    }

    /// The run as it ended, if it did so in the way of `finish`.
    async fn already_ended(
        &self,
        scope: &Scope,
        run: &Run,
        finish: &Finish,
    ) -> Result<Option<Finished>> {
        let found = self.backend.threads.run(scope, run.run_id).await?;
        let rolled_back = found.is_none();
        let ended = found.unwrap_or_else(|| Run {
            status: finish.status,
            error: finish.error.clone(),
            lease: None,
            ..run.clone()
        });
        Ok(ended.status.is_terminal().then_some(Finished {
            run: ended,
            rolled_back,
            more: true,
        }))
    }

    /// Says how the attempt ended; reads the state unless the graph came to its end.
    async fn report(&self, run: &Run, fence: Fence, end: End) -> Result<Report> {
        let mut finish = Finish {
            run_id: run.run_id,
            token: fence.token,
            status: RunStatus::Success,
            error: Value::Null,
            values: None,
            result: Value::Null,
            interrupts: IndexMap::new(),
            has_next: false,
        };
        let outcome = match end {
            End::Done(outcome) => Some(outcome),
            End::Cancelled | End::Released | End::Crashed(_) => {
                finish.status = RunStatus::Interrupted;
                None
            }
            End::TimedOut => {
                finish.status = RunStatus::Timeout;
                finish.error =
                    value!({"error": "TimeoutError", "message": "the run took too long"});
                None
            }
            End::Failed(err) => {
                log_failure(run, &err);
                finish.status = RunStatus::Error;
                finish.error = value!({"error": err.class_name(), "message": err.to_string()});
                None
            }
        };
        if self.asked_to_stop(run) == Some(CancelAction::Rollback) {
            // Nothing of it will stay.
            return reported(finish, None);
        }
        match outcome {
            Some(outcome) if outcome.next.is_empty() && outcome.interrupts.is_empty() => {
                reported(finish, Some(outcome))
            }
            outcome => {
                let snapshot = self.left_behind(run).await?;
                finish.has_next = snapshot.as_ref().is_some_and(|s| !s.next.is_empty());
                finish.interrupts = snapshot
                    .as_ref()
                    .map(interrupts_by_task)
                    .unwrap_or_default();
                let read = snapshot
                    .filter(|s| s.created_at.is_some())
                    .map(|s| RunOutcome {
                        values: s.values,
                        ..RunOutcome::default()
                    });
                reported(finish, outcome.or(read))
            }
        }
    }

    fn asked_to_stop(&self, run: &Run) -> Option<CancelAction> {
        self.local().running.get(&run.run_id)?.action
    }

    /// The state that the run left; `None` if it cannot be read, which must not keep the run from
    /// ending.
    ///
    /// # Errors
    /// If the database is away for too long: then the run is not over yet.
    async fn left_behind(&self, run: &Run) -> Result<Option<StateSnapshot>> {
        let Ok(Kwargs { graph_id, .. }) = Kwargs::of(run) else {
            return Ok(None);
        };
        let at = CheckpointRef {
            thread_id: run.thread_id.text(),
            ..CheckpointRef::default()
        };
        let Ok(host) = self.host(&graph_id) else {
            return Ok(None);
        };
        match host.state(&graph_id, &at, false).await {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(err) if is_unavailable(&err) => Err(err),
            Err(err) => {
                tracing::warn!(run_id = %run.run_id, error = %err, "the run's state is unreadable");
                Ok(None)
            }
        }
    }
}

fn reported(mut finish: Finish, outcome: Option<RunOutcome>) -> Result<Report> {
    let outcome = outcome.unwrap_or_default();
    finish.result = wait_result(&outcome.values, &outcome.interrupts)?;
    finish.values = (!outcome.values.is_null()).then_some(outcome.values);
    Ok(Report {
        finish,
        interrupts: outcome.interrupts,
    })
}

/// The last events of a run: `error` if it failed, then `end`.
fn last_words(run: &Run, finish: &Finish, interrupts: &[Interrupt]) -> Vec<Draft> {
    let over = Run {
        status: finish.status,
        error: finish.error.clone(),
        ..run.clone()
    };
    let mut drafts = Vec::with_capacity(2);
    if !finish.error.is_null() {
        drafts.push(Draft {
            run_id: run.run_id,
            kind: "error".into(),
            ns: vec![],
            data: finish.error.json_text().into(),
        });
    }
    drafts.push(end_draft(&over, interrupts));
    drafts
}

/// Failures that a user's graph or input caused are no news for the operator.
fn log_failure(run: &Run, err: &Error) {
    match err.kind() {
        ErrorKind::Bug | ErrorKind::Corrupt => {
            tracing::error!(run_id = %run.run_id, error = ?err, "run failed");
        }
        _ => tracing::info!(run_id = %run.run_id, error = %err, "run failed"),
    }
}
