//! One attempt of a run: start, report, end.

use std::sync::Arc;

use agentflow_storage::{
    checkpoint::Fence,
    record::{CancelAction, Heartbeat, Run, RunStatus, ThreadRuns},
};
use agentflow_types::{
    Error, ErrorKind, Result, RunId, Scope, Value,
    graph::{CheckpointRef, RunOutcome, StateSnapshot, StreamEvent},
    value,
};
use indexmap::IndexMap;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Running, Service,
    runs::{Slot, end_draft, wait_result},
    threads::interrupts_by_task,
};
use crate::{
    config::{self, Kwargs},
    hub::{Channel, Draft},
    machine::{self, Finish, Finished},
};

/// Events of a graph that may wait to be stored; beyond it the graph waits.
const SINK: usize = 256;
/// Events stored in one transaction.
const BATCH: usize = 128;

/// How long a stateless run can still be joined or streamed after its end.
const TEMPORARY_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// Why an attempt ended.
enum End {
    Done(RunOutcome),
    Failed(Error),
    Cancelled,
    TimedOut,
    /// The worker shuts down; somebody else takes the run up.
    Released,
}

impl Service {
    /// Room for one more run in this process, if its worker works.
    pub(super) fn try_slot(&self) -> Option<OwnedSemaphorePermit> {
        if !self.working.load(std::sync::atomic::Ordering::Acquire) {
            return None;
        }
        self.slots.clone().try_acquire_owned().ok()
    }

    /// Executes a claimed run in the background. The permit is its place.
    pub(super) fn start(self: &Arc<Self>, scope: Scope, run: Run, permit: OwnedSemaphorePermit) {
        let stop = CancellationToken::new();
        let running = Running {
            stop: stop.clone(),
            action: None,
        };
        self.local().running.insert(run.run_id, running);
        let service = self.clone();
        self.tasks.spawn(async move {
            service.attempt(&scope, run, stop).await;
            drop(permit);
            // There may be a next run on the thread, or room for another thread's.
            service.bell.notify_one();
        });
    }

    async fn attempt(self: &Arc<Self>, scope: &Scope, run: Run, stop: CancellationToken) {
        let Some(lease) = run.lease.clone() else {
            return;
        };
        let fence = Fence {
            run_id: run.run_id,
            token: lease.token,
        };
        let channel = self.hub.channel(run.thread_id);
        let heart = self.beat(fence, stop.clone());
        let end = tokio::select! {
            end = self.execute(&run, fence, &channel, &stop) => end,
            () = tokio::time::sleep(self.config.run_timeout) => End::TimedOut,
            () = self.released.cancelled() => End::Released,
        };
        stop.cancel();
        heart.abort();
        if let Err(err) = self.conclude(scope, &run, fence, &channel, end).await {
            // The lease runs out by itself, and the run is taken up again.
            tracing::error!(run_id = %run.run_id, error = %err, "the end of a run was not stored");
        }
        self.local().running.remove(&run.run_id);
    }

    /// Renews the lease until aborted; stops the run when it was asked to, or the lease is lost.
    fn beat(
        self: &Arc<Self>,
        fence: Fence,
        stop: CancellationToken,
    ) -> tokio::task::JoinHandle<()> {
        let service = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(service.config.lease / 3).await;
                let until = service.now().plus(service.config.lease);
                let beat = service
                    .backend
                    .threads
                    .heartbeat(fence.run_id, fence.token, until);
                match beat.await {
                    Ok(Heartbeat {
                        cancel: Some(action),
                    }) => {
                        service.stop_here(fence.run_id, action);
                    }
                    Ok(_) => {}
                    Err(err) if err.kind() == ErrorKind::Conflict => stop.cancel(),
                    Err(err) => {
                        tracing::warn!(run_id = %fence.run_id, error = %err, "heartbeat failed");
                    }
                }
            }
        })
    }

    async fn execute(
        &self,
        run: &Run,
        fence: Fence,
        channel: &Channel,
        stop: &CancellationToken,
    ) -> End {
        let request = match config::request(run) {
            Ok(request) => request,
            Err(err) => return End::Failed(err),
        };
        let host = match self.host(&request.graph_id) {
            Ok(host) => host.clone(),
            Err(err) => return End::Failed(err),
        };
        let (tx, rx) = mpsc::channel(SINK);
        let first = metadata_draft(run);
        let graph = host.run(request, tx, stop.clone());
        let (outcome, stored) = tokio::join!(graph, async {
            let stored = self.store_events(run, fence, channel, first, rx).await;
            if stored.is_err() {
                // Without its log a run must not go on.
                stop.cancel();
            }
            stored
        });
        match (outcome, stored) {
            (_, Err(err)) => End::Failed(err),
            (Ok(outcome), Ok(())) => End::Done(outcome),
            (Err(err), Ok(())) if err.kind() == ErrorKind::Cancelled && stop.is_cancelled() => {
                End::Cancelled
            }
            (Err(err), Ok(())) => End::Failed(err),
        }
    }

    /// Stores events as they come, whatever is ready at once in one transaction.
    async fn store_events(
        &self,
        run: &Run,
        fence: Fence,
        channel: &Channel,
        first: Draft,
        mut rx: mpsc::Receiver<StreamEvent>,
    ) -> Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut drafts = vec![first];
        loop {
            drafts.extend(batch.drain(..).map(|event| draft(run.run_id, event)));
            self.append(run, Some(fence), channel, std::mem::take(&mut drafts))
                .await?;
            if rx.recv_many(&mut batch, BATCH).await == 0 {
                return Ok(());
            }
        }
    }

    async fn append(
        &self,
        run: &Run,
        fence: Option<Fence>,
        channel: &Channel,
        drafts: Vec<Draft>,
    ) -> Result<()> {
        let (events, thread) = (&self.backend.events, run.thread_id);
        channel
            .append(
                drafts,
                self.now(),
                events.last_seq(thread),
                async |numbered| events.append(thread, numbered, fence).await,
            )
            .await
    }

    /// Stores how the attempt ended: run, thread and last event in one transaction.
    async fn conclude(
        self: &Arc<Self>,
        scope: &Scope,
        run: &Run,
        fence: Fence,
        channel: &Channel,
        end: End,
    ) -> Result<()> {
        if matches!(end, End::Released) {
            return self.release(scope, run, fence).await;
        }
        let (finish, result, interrupts) = self.finish_of(scope, run, fence, end).await?;
        let mut over = run.clone();
        (over.status, over.error) = (finish.status, finish.error.clone());
        let mut drafts = Vec::with_capacity(2);
        if !finish.error.is_null() {
            drafts.push(Draft {
                run_id: run.run_id,
                kind: "error".into(),
                ns: vec![],
                data: finish.error.json_text().into(),
            });
        }
        drafts.push(end_draft(&over, &interrupts));
        let (inside, outside) = Slot::new();
        let (now, thread) = (self.now(), run.thread_id);
        let last = self.backend.events.last_seq(thread);
        channel
            .append(drafts, now, last, async move |numbered| {
                let decide = move |found: Option<&ThreadRuns>| {
                    let (changes, finished) = machine::finish(found, finish, numbered, now)?;
                    inside.put(finished);
                    Ok(changes)
                };
                self.backend
                    .threads
                    .decide(scope, thread, Box::new(decide))
                    .await
            })
            .await?;
        let Finished {
            run: over,
            rolled_back,
        } = outside.take()?;
        if rolled_back && !over.temporary_thread {
            self.refresh_thread(scope, thread).await?;
        }
        self.call_webhook(&over, &result);
        self.tell_waiters(&over, result);
        if over.temporary_thread {
            self.clone().remove_temporary(scope.clone(), thread);
        }
        Ok(())
    }

    /// Removes the thread of a stateless run once nobody reads it any more. If the process ends
    /// before, the thread's time to live does it.
    fn remove_temporary(self: Arc<Self>, scope: Scope, thread: agentflow_types::ThreadId) {
        tokio::spawn(async move {
            let channel = self.hub.channel(thread);
            loop {
                tokio::time::sleep(TEMPORARY_GRACE).await;
                if channel.listeners() == 0 {
                    break;
                }
            }
            if let Err(err) = self.delete_thread(&scope, thread).await {
                tracing::debug!(thread_id = %thread, error = %err, "temporary thread stays");
            }
        });
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
        self.end_without_worker(run.thread_id, ended).await
    }

    /// What to store about the end, what waiters get, and the interrupts.
    async fn finish_of(
        &self,
        scope: &Scope,
        run: &Run,
        fence: Fence,
        end: End,
    ) -> Result<(Finish, Value, Vec<agentflow_types::graph::Interrupt>)> {
        let asked = self
            .local()
            .running
            .get(&run.run_id)
            .and_then(|running| running.action);
        let mut finish = Finish {
            run_id: run.run_id,
            token: fence.token,
            status: RunStatus::Success,
            error: Value::Null,
            values: None,
            interrupts: IndexMap::new(),
            has_next: false,
        };
        let outcome = match end {
            End::Done(outcome) if outcome.next.is_empty() && outcome.interrupts.is_empty() => {
                let result = wait_result(&outcome.values, &[])?;
                finish.values = Some(outcome.values);
                return Ok((finish, result, vec![]));
            }
            End::Done(outcome) => Some(outcome),
            End::Cancelled => {
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
            End::Released => None,
        };
        if asked == Some(CancelAction::Rollback) {
            return Ok((finish, wait_result(&Value::Null, &[])?, vec![]));
        }
        let snapshot = self.snapshot(scope, run).await?;
        finish.interrupts = interrupts_by_task(&snapshot);
        finish.has_next = !snapshot.next.is_empty();
        let values = outcome
            .as_ref()
            .map_or(snapshot.values, |outcome| outcome.values.clone());
        let interrupts = outcome
            .map(|outcome| outcome.interrupts)
            .unwrap_or_default();
        let result = wait_result(&values, &interrupts)?;
        finish.values = Some(values);
        Ok((finish, result, interrupts))
    }

    /// The state that the run left behind.
    async fn snapshot(&self, _scope: &Scope, run: &Run) -> Result<StateSnapshot> {
        let graph_id = Kwargs::of(run)?.graph_id;
        let at = CheckpointRef {
            thread_id: run.thread_id.text(),
            ..CheckpointRef::default()
        };
        match self.host(&graph_id) {
            Ok(host) => host.state(&graph_id, &at, false).await,
            Err(_) => Ok(StateSnapshot::default()),
        }
    }

    fn call_webhook(self: &Arc<Self>, run: &Run, result: &Value) {
        let Ok(Some(url)) = Kwargs::of(run).map(|kwargs| kwargs.webhook) else {
            return;
        };
        let Some(webhook) = self.webhook.clone() else {
            return;
        };
        let body = Value::object([
            ("run_id", Value::str(run.run_id.text())),
            ("thread_id", Value::str(run.thread_id.text())),
            ("assistant_id", Value::str(run.assistant_id.text())),
            ("status", Value::str(run.status.as_str())),
            ("metadata", Value::map(run.metadata.clone())),
            ("values", result.clone()),
            ("error", run.error.clone()),
            ("webhook_sent_at", Value::str(self.now().to_string())),
        ]);
        let run_id = run.run_id;
        self.tasks.spawn(async move {
            if let Err(err) = webhook.deliver(&url, body).await {
                tracing::warn!(%run_id, error = %err, "webhook was not delivered");
            }
        });
    }
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

fn metadata_draft(run: &Run) -> Draft {
    let data = serde_json::json!({ "run_id": run.run_id, "attempt": run.attempt });
    Draft {
        run_id: run.run_id,
        kind: "metadata".into(),
        ns: vec![],
        data: data.to_string().into(),
    }
}

fn draft(run_id: RunId, event: StreamEvent) -> Draft {
    Draft {
        run_id,
        kind: event.mode.as_str().into(),
        ns: event.ns,
        data: event.data.json_text().into(),
    }
}
