//! The graph host whose graphs are in other processes.

use std::sync::Arc;

use agentflow_runs::host::{
    EventSink, GraphHost, GraphInfo, HistoryQuery, RunRequest, Superstep, UpdateRequest,
};
use agentflow_types::{
    Error, ErrorKind, Result, Scope, Value,
    graph::{CheckpointRef, Drawing, GraphSchemas, RunConfig, RunOutcome, StateSnapshot},
};
use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Workers,
    frame::counted,
    link::Answer,
    pool::{Lease, Need, Pool},
    session::{EVENT_COST, Priced, Rights, Session},
    wire,
};

/// Bytes of events that one run may have on the way.
const CREDIT: u64 = 1 << 20;

/// A request that a worker works on. Dropped before it was answered, it is cancelled.
struct Open {
    pool: Arc<Pool>,
    lease: Option<Lease>,
    id: u64,
    answer: Option<Answer>,
}

impl Open {
    /// The worker's answer.
    async fn answered(&mut self) -> Result<Value> {
        let Some(answer) = &mut self.answer else {
            return Err(Error::bug("an answer is waited for twice"));
        };
        let answered = answer.await;
        self.answer = None;
        let Some(lease) = &self.lease else {
            return Err(Error::bug("a request without a worker"));
        };
        lease.peer.close(self.id);
        match answered {
            Ok(result) => result,
            Err(_) => Err(lease.peer.crash().await),
        }
    }

    async fn notify(&self, method: &str, params: Value) {
        if let Some(lease) = &self.lease {
            lease.peer.link.notify(method, params).await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let (Some(lease), Some(answer)) = (self.lease.take(), self.answer.take()) else {
            return;
        };
        lease.peer.close(self.id);
        let (grace, id) = (self.pool.config.cancel_grace, self.id);
        self.pool.tasks.spawn(async move {
            tell_to_stop(&lease, id, "lost").await;
            match tokio::time::timeout(grace, answer).await {
                Ok(Ok(answer)) => give_up_unless(&lease, Some(&answer)),
                // The worker died, which is an end as well.
                Ok(Err(_)) => {}
                Err(_) => give_up_unless(&lease, None),
            }
        });
    }
}

async fn tell_to_stop(lease: &Lease, id: u64, reason: &str) {
    let params = Value::object([("for", counted(id)), ("reason", Value::str(reason))]);
    lease.peer.link.notify("cancel", params).await;
}

/// Has the process replaced if what it was told to stop goes on: `None` if there was no answer.
fn give_up_unless(lease: &Lease, answered: Option<&Result<Value>>) {
    let is_stuck = |err: &Error| {
        err.context()
            .iter()
            .any(|(key, _)| *key == crate::fault::STUCK)
    };
    let goes_on = match answered {
        None => true,
        Some(Err(err)) => is_stuck(err),
        Some(Ok(_)) => false,
    };
    if goes_on {
        tracing::warn!("a worker goes on with what was cancelled; it is replaced");
        lease.peer.retire();
        lease.peer.replace.notify_one();
    }
}

impl Workers {
    /// Sends a request to a worker.
    ///
    /// # Errors
    /// If there is no worker, or the graph was not loaded.
    async fn begin(
        &self,
        need: Need,
        graph_id: &str,
        method: &str,
        params: Value,
        session: impl FnOnce(&Lease) -> Session,
    ) -> Result<Open> {
        self.check(graph_id)?;
        let lease = self.pool.pick(need).await?;
        lease.peer.check_graph(graph_id)?;
        let id = lease.peer.link.next_id();
        lease.peer.open(id, session(&lease));
        match lease.peer.link.request(id, method, params).await {
            Ok(answer) => Ok(Open {
                pool: self.pool.clone(),
                lease: Some(lease),
                id,
                answer: Some(answer),
            }),
            Err(err) => {
                lease.peer.close(id);
                match err.kind() {
                    ErrorKind::Busy => Err(lease.peer.crash().await),
                    _ => Err(err),
                }
            }
        }
    }

    /// Asks a question that changes nothing; once more if the worker died of something else.
    async fn ask(
        &self,
        graph_id: &str,
        thread_id: &str,
        method: &str,
        params: Value,
    ) -> Result<Value> {
        let mut last = None;
        for _ in 0..2 {
            let session = |lease: &Lease| {
                let scope = Scope::new("", "");
                let (link, thread) = (&lease.peer.link, thread_id.to_owned());
                Session::open(&self.services, link, scope, thread, Rights::Read, None)
            };
            let begun = self.begin(Need::Answer, graph_id, method, params.clone(), session);
            let answered = match begun.await {
                Ok(mut open) => open.answered().await,
                Err(err) => Err(err),
            };
            match answered {
                Err(err) if agentflow_runs::host::is_crash(&err) => last = Some(err),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| Error::bug("a question was not asked")))
    }

    fn check(&self, graph_id: &str) -> Result<()> {
        match self.graphs.iter().any(|graph| graph.graph_id == graph_id) {
            true => Ok(()),
            false => {
                let known: Vec<&str> = self.graphs.iter().map(|g| &*g.graph_id).collect();
                Err(Error::not_found(format!(
                    "Graph '{graph_id}' not found. Expected one of: {known:?}"
                )))
            }
        }
    }

    async fn update(
        &self,
        scope: &Scope,
        graph_id: &str,
        at: &CheckpointRef,
        supersteps: &[Superstep],
        config: &RunConfig,
        rights: Rights,
    ) -> Result<CheckpointRef> {
        let params = wire::update(graph_id, at, supersteps, config);
        let session = |lease: &Lease| {
            let (link, thread) = (&lease.peer.link, at.thread_id.clone());
            Session::open(&self.services, link, scope.clone(), thread, rights, None)
        };
        let method = "state.update";
        let begun = self.begin(Need::Answer, graph_id, method, params, session);
        let answer = begun.await?.answered().await?;
        wire::read_place(Some(&answer)).ok_or_else(|| wire::wrong("checkpoint"))
    }
}

/// The events of a run on their way to the log.
struct Flow<'a> {
    open: &'a mut Open,
    events: mpsc::Receiver<Priced>,
    sink: EventSink,
    /// Price of what was passed on and not given back yet.
    owed: u64,
}

impl Flow<'_> {
    /// Passes events on and gives their price back, until the run is answered.
    async fn run(&mut self) -> Result<Value> {
        let id = self.open.id;
        loop {
            let (event, price) = tokio::select! {
                biased;
                Some(event) = self.events.recv() => event,
                answer = self.open.answered() => {
                    // What was sent before the answer is here already.
                    while let Ok((event, _)) = self.events.try_recv() {
                        let _ = self.sink.send(event).await;
                    }
                    return answer;
                }
            };
            // Who dropped the receiver stops the run as well.
            let _ = self.sink.send(event).await;
            self.owed += price;
            // A worker that waits has far more than this on the way.
            if self.owed >= CREDIT / 8 {
                let bytes = counted(std::mem::take(&mut self.owed));
                let params = Value::object([("for", counted(id)), ("bytes", bytes)]);
                self.open.notify("run.credit", params).await;
            }
        }
    }
}

#[async_trait]
impl GraphHost for Workers {
    fn graphs(&self) -> Vec<GraphInfo> {
        self.graphs.clone()
    }

    async fn drawing(&self, graph_id: &str, depth: u32) -> Result<Drawing> {
        let params = Value::object([
            ("graph_id", Value::str(graph_id)),
            ("depth", Value::Int(depth.into())),
        ]);
        wire::read_drawing(&self.ask(graph_id, "", "graph.drawing", params).await?)
    }

    async fn schemas(&self, graph_id: &str) -> Result<GraphSchemas> {
        let params = Value::object([("graph_id", Value::str(graph_id))]);
        wire::read_schemas(&self.ask(graph_id, "", "graph.schemas", params).await?)
    }

    async fn subgraphs(
        &self,
        graph_id: &str,
        namespace: Option<&str>,
        recurse: bool,
    ) -> Result<Vec<(String, GraphSchemas)>> {
        let params = Value::object([
            ("graph_id", Value::str(graph_id)),
            ("namespace", namespace.map_or(Value::Null, Value::str)),
            ("recurse", recurse.into()),
        ]);
        wire::read_subgraphs(&self.ask(graph_id, "", "graph.subgraphs", params).await?)
    }

    async fn run(
        &self,
        request: RunRequest,
        sink: EventSink,
        cancel: CancellationToken,
    ) -> Result<RunOutcome> {
        let thread_id = request.config.configurable.get("thread_id");
        let thread_id = thread_id
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if let Some(fence) = request.fence {
            self.services
                .checkpoints
                .take_over(&thread_id, fence)
                .await?;
        }
        // The smallest event costs this much, so that what the credit allows finds room.
        let room = usize::try_from(CREDIT / EVENT_COST).unwrap_or(usize::MAX);
        let (tx, events) = mpsc::channel(room + 1);
        let params = wire::run(&request, &thread_id, CREDIT);
        let session = |lease: &Lease| {
            let rights = Rights::Write(request.fence);
            let (link, scope) = (&lease.peer.link, request.scope.clone());
            Session::open(&self.services, link, scope, thread_id, rights, Some(tx))
        };
        let cancelled = || Error::cancelled("the run was cancelled");
        let mut open = tokio::select! {
            begun = self.begin(Need::Place, &request.graph_id, "run", params, session) => begun?,
            () = cancel.cancelled() => return Err(cancelled()),
        };
        let mut flow = Flow {
            open: &mut open,
            events,
            sink,
            owed: 0,
        };
        let answer = tokio::select! {
            answer = flow.run() => answer,
            () = cancel.cancelled() => {
                let Some(lease) = &flow.open.lease else {
                    return Err(cancelled());
                };
                tell_to_stop(lease, flow.open.id, "cancel").await;
                let grace = self.pool.config.cancel_grace;
                match tokio::time::timeout(grace, flow.run()).await {
                    Ok(answer) => {
                        if let Some(lease) = &flow.open.lease {
                            give_up_unless(lease, Some(&answer));
                        }
                        answer
                    }
                    // Dropping the request has the process replaced.
                    Err(_) => Err(cancelled()),
                }
            }
        };
        wire::read_outcome(&answer?)
    }

    async fn state(
        &self,
        graph_id: &str,
        checkpoint: &CheckpointRef,
        subgraphs: bool,
    ) -> Result<StateSnapshot> {
        let params = wire::state(graph_id, checkpoint, subgraphs);
        let thread_id = &checkpoint.thread_id;
        wire::read_state(&self.ask(graph_id, thread_id, "state.get", params).await?)
    }

    async fn history(&self, graph_id: &str, query: &HistoryQuery) -> Result<Vec<StateSnapshot>> {
        let params = wire::history(graph_id, query);
        let thread_id = &query.checkpoint.thread_id;
        wire::read_history(
            &self
                .ask(graph_id, thread_id, "state.history", params)
                .await?,
        )
    }

    async fn update_state(&self, request: UpdateRequest) -> Result<CheckpointRef> {
        let UpdateRequest {
            scope,
            graph_id,
            checkpoint,
            values,
            as_node,
            config,
            rest,
        } = request;
        let rights = Rights::AtRest(rest);
        let superstep = vec![vec![(values, None, as_node)]];
        self.update(&scope, &graph_id, &checkpoint, &superstep, &config, rights)
            .await
    }

    async fn bulk_update(
        &self,
        scope: &Scope,
        graph_id: &str,
        checkpoint: &CheckpointRef,
        supersteps: Vec<Superstep>,
        config: RunConfig,
    ) -> Result<CheckpointRef> {
        self.update(
            scope,
            graph_id,
            checkpoint,
            &supersteps,
            &config,
            Rights::Write(None),
        )
        .await
    }
}
