//! One attempt of a run: start, report, end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use agentflow_storage::{
    checkpoint::Fence,
    record::{Heartbeat, Run},
};
use agentflow_types::{
    Error, ErrorKind, Result, RunId, Scope, Value,
    graph::{RunOutcome, StreamEvent},
};
use tokio::{
    sync::{
        Notify, OwnedSemaphorePermit,
        mpsc::{self, error::TryRecvError},
    },
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{Running, Service};
use crate::{
    config,
    host::is_crash,
    hub::{Channel, Draft},
    patience::is_unavailable,
};

/// Events of a graph that may wait to be stored; beyond it the graph waits.
const SINK: usize = 256;
/// Events stored in one transaction.
const BATCH: usize = 128;

/// How much longer than the drain the end of a run may take to be stored.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long a graph that must stop may take to do so, its events being stored meanwhile.
const PUT_DOWN: Duration = Duration::from_secs(2);

/// Why an attempt ended.
pub(super) enum End {
    Done(RunOutcome),
    Failed(Error),
    Cancelled,
    TimedOut,
    /// What executed the graph was lost.
    Crashed(Error),
    /// The worker shuts down, its lease is over, or the database was away for too long; somebody
    /// else takes the run up.
    Released,
}

impl End {
    /// The end by an error of the graph or of the log.
    fn by(err: Error) -> Self {
        match () {
            () if is_unavailable(&err) => Self::Released,
            () if is_crash(&err) => Self::Crashed(err),
            () => Self::Failed(err),
        }
    }
}

impl Service {
    /// Room for one more run in this process, if its worker works.
    pub(super) fn try_slot(&self) -> Option<OwnedSemaphorePermit> {
        if !self.working.load(Ordering::Acquire) {
            return None;
        }
        self.slots.clone().try_acquire_owned().ok()
    }

    /// Executes a claimed run in the background. The permit is its place.
    pub(super) fn start(self: &Arc<Self>, scope: Scope, run: Run, permit: OwnedSemaphorePermit) {
        let stop = CancellationToken::new();
        let nudge = Arc::<Notify>::default();
        {
            let mut local = self.local();
            // Whoever asked for a stop since the claim found nothing to stop.
            let action = local.early_stops.shift_remove(&run.run_id);
            if action.is_some() {
                stop.cancel();
            }
            let running = Running {
                stop: stop.clone(),
                action,
                nudge: nudge.clone(),
            };
            local.running.insert(run.run_id, running);
        }
        let service = self.clone();
        self.meter.started(&run);
        let span = run_span(&run);
        let executing = async move {
            let more = service.attempt(&scope, run, stop, nudge).await;
            drop(permit);
            // Otherwise there is nothing that could start now and could not before.
            if service.starved.swap(false, Ordering::SeqCst) || more {
                service.bell.notify_one();
            }
        };
        self.tasks.spawn(executing.instrument(span));
    }

    /// Executes one attempt to its end; true if the thread may have more to do.
    async fn attempt(
        self: &Arc<Self>,
        scope: &Scope,
        run: Run,
        stop: CancellationToken,
        nudge: Arc<Notify>,
    ) -> bool {
        let Some(lease) = run.lease.clone() else {
            return true;
        };
        let fence = Fence {
            run_id: run.run_id,
            token: lease.token,
        };
        let channel = self.hub.channel(run.thread_id);
        let lost = CancellationToken::new();
        let left = lease.expires_at.since(self.now());
        let heart = self.beat(fence, left, lost.clone(), nudge);
        let executing = self.execute(scope, &run, fence, &channel, &stop);
        tokio::pin!(executing);
        let (end, unsaid) = tokio::select! {
            ended = &mut executing => ended,
            () = tokio::time::sleep(self.config.run_timeout) => {
                put_down(executing, &stop, End::TimedOut).await
            }
            () = self.released.cancelled() => put_down(executing, &stop, End::Released).await,
            // Nothing that belongs to this attempt can be stored any more.
            () = lost.cancelled() => (End::Released, vec![]),
        };
        stop.cancel();
        let too_late = async {
            self.released.cancelled().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        let concluded = tokio::select! {
            concluded = self.conclude(scope, &run, fence, &channel, end, unsaid) => concluded,
            () = too_late => Err(Error::busy("the worker stops and the database is away")),
        };
        // Reading the state that the run left may take longer than what is left of the lease.
        heart.abort();
        let more = match concluded {
            Ok(more) => more,
            Err(err) if err.kind() == ErrorKind::Conflict => {
                tracing::warn!(run_id = %run.run_id, error = %err, "a run was taken over");
                true
            }
            Err(err) => {
                // The lease runs out by itself, and the run is taken up again.
                tracing::error!(run_id = %run.run_id, error = %err, "a run's end was not stored");
                true
            }
        };
        self.local().running.remove(&run.run_id);
        more
    }

    /// Renews the lease, which lasts for `left`, until aborted; stops the run when it was asked to. `lost` fires when
    /// somebody else may have the run: the lease is gone, or could not be renewed in time.
    fn beat(
        self: &Arc<Self>,
        fence: Fence,
        left: Duration,
        lost: CancellationToken,
        nudge: Arc<Notify>,
    ) -> tokio::task::JoinHandle<()> {
        let service = self.clone();
        let beating = async move {
            let lease = service.config.lease;
            let mut ends = Instant::now() + left;
            let mut pause = lease / 3;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = nudge.notified() => {}
                }
                let (from, until) = (Instant::now(), service.now().plus(lease));
                let threads = &service.backend.threads;
                let beat = threads.heartbeat(fence.run_id, fence.token, until);
                pause = lease / 3;
                match tokio::time::timeout_at(ends, beat).await {
                    Ok(Ok(Heartbeat { cancel })) => {
                        ends = from + lease;
                        if let Some(action) = cancel {
                            service.stop_here(fence.run_id, action);
                        }
                    }
                    Ok(Err(err)) if err.kind() == ErrorKind::Conflict => return lost.cancel(),
                    Ok(Err(err)) if Instant::now() < ends => {
                        tracing::warn!(run_id = %fence.run_id, error = %err, "heartbeat failed");
                        pause = (lease / 10).min(ends.saturating_duration_since(Instant::now()));
                    }
                    Ok(Err(_)) | Err(_) => {
                        tracing::warn!(run_id = %fence.run_id, "a lease was not renewed in time");
                        return lost.cancel();
                    }
                }
            }
        };
        tokio::spawn(beating.in_current_span())
    }

    /// Runs the graph; how it ended, and its last events, which are not stored yet.
    async fn execute(
        &self,
        scope: &Scope,
        run: &Run,
        fence: Fence,
        channel: &Channel,
        stop: &CancellationToken,
    ) -> (End, Vec<Draft>) {
        let request = match config::request(scope, run) {
            Ok(request) => request,
            Err(err) => return (End::Failed(err), vec![]),
        };
        let host = match self.host(&request.graph_id) {
            Ok(host) => host.clone(),
            Err(err) => return (End::Failed(err), vec![]),
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
            (_, Err(err)) => (End::by(err), vec![]),
            (Ok(outcome), Ok(unsaid)) => (End::Done(outcome), unsaid),
            (Err(err), Ok(unsaid)) if err.kind() == ErrorKind::Cancelled && stop.is_cancelled() => {
                (End::Cancelled, unsaid)
            }
            (Err(err), Ok(unsaid)) => (End::by(err), unsaid),
        }
    }

    /// Stores events as they come, whatever is ready at once in one transaction. Returns the last
    /// ones, which share a transaction with the end of the run.
    async fn store_events(
        &self,
        run: &Run,
        fence: Fence,
        channel: &Channel,
        first: Draft,
        mut rx: mpsc::Receiver<StreamEvent>,
    ) -> Result<Vec<Draft>> {
        let mut drafts = vec![first];
        loop {
            while drafts.len() < BATCH {
                match rx.try_recv() {
                    Ok(event) => drafts.push(draft(run.run_id, event)),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(drafts),
                }
            }
            self.append(run, fence, channel, &drafts).await?;
            drafts.clear();
            match rx.recv().await {
                Some(event) => drafts.push(draft(run.run_id, event)),
                None => return Ok(drafts),
            }
        }
    }

    /// Stores events of an attempt; waits for a database that is away.
    pub(super) async fn append(
        &self,
        run: &Run,
        fence: Fence,
        channel: &Channel,
        drafts: &[Draft],
    ) -> Result<()> {
        let log = (&*self.backend.events, run.thread_id);
        let patience = self.config.patience;
        channel
            .append_patiently(log, drafts, self.now(), fence, patience)
            .await
    }
}

/// Stops an execution for the reason `end` and has what it did until then told: a step that is
/// stored is not executed again, so that nobody else could tell of it. If it ends by itself
/// meanwhile, that is its end.
async fn put_down(
    executing: impl Future<Output = (End, Vec<Draft>)>,
    stop: &CancellationToken,
    end: End,
) -> (End, Vec<Draft>) {
    stop.cancel();
    match tokio::time::timeout(PUT_DOWN, executing).await {
        Ok((End::Cancelled, unsaid)) => (end, unsaid),
        Ok(ended) => ended,
        Err(_) => (end, vec![]),
    }
}

/// The span of one attempt, by OpenTelemetry's names for generative AI. What is logged within
/// carries its fields, at every level.
fn run_span(run: &Run) -> tracing::Span {
    let text = |key: &str| {
        run.kwargs
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    tracing::error_span!(
        "run",
        otel.name = format!("invoke_agent {}", text("graph_id")),
        thread_id = %run.thread_id,
        run_id = %run.run_id,
        attempt = run.attempt,
        gen_ai.operation.name = "invoke_agent",
        gen_ai.agent.name = text("graph_id"),
        gen_ai.agent.id = %run.assistant_id,
        gen_ai.conversation.id = %run.thread_id,
    )
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
