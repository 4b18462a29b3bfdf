//! A graph host that does what the input of a run says. It is no graph: it stands in for one, so
//! that a test decides when a run speaks, waits, asks, fails or ends.
//!
//! Input is `{"do": [step, …]}` with steps `["emit", mode, data]`, `["many", n]`, `["set", map]`,
//! `["wait", gate]`, `["last", data]` (waits for a stop and says something), `["ask", value]`,
//! `["fail", message]`. Its state lives in the checkpoints of
//! the backend, so that removing checkpoints changes it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use agentflow_runs::host::{
    EventSink, GraphHost, GraphInfo, HistoryQuery, RunInput, RunRequest, Superstep, UpdateRequest,
};
use agentflow_storage::{
    Backend,
    checkpoint::{Checkpoint, CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple},
};
use agentflow_types::{
    Error, Map, Result, Scope, Str, Value,
    graph::{
        CheckpointRef, Drawing, DrawnNode, GraphSchemas, Interrupt, RunConfig, RunOutcome,
        StateSnapshot, StreamEvent, TaskSnapshot,
    },
    to_value, value,
};
use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Id of the graph that is offered.
pub const GRAPH: &str = "scripted";

/// The host.
pub struct Scripted {
    backend: Backend,
    steps: AtomicU64,
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// Every request that came, in order.
    pub requests: Mutex<Vec<RunRequest>>,
    /// Whether reading the state fails.
    pub unreadable: std::sync::atomic::AtomicBool,
}

impl Scripted {
    pub fn new(backend: Backend) -> Arc<Self> {
        Arc::new(Self {
            backend,
            steps: AtomicU64::new(0),
            gates: Mutex::default(),
            requests: Mutex::default(),
            unreadable: false.into(),
        })
    }

    fn gate(&self, name: &str) -> Arc<Semaphore> {
        let mut gates = self.gates.lock().unwrap();
        gates
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(0)))
            .clone()
    }

    /// Lets one run through the gate.
    pub fn open(&self, gate: &str) {
        self.gate(gate).add_permits(1);
    }

    /// Waits until a run stands at the gate; each arrival counts once.
    pub async fn arrival(&self, gate: &str) {
        let gate = self.gate(&format!("{gate} reached"));
        gate.acquire().await.unwrap().forget();
    }

    /// Inputs of the runs that started, by their `name`.
    pub fn names(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let name = |request: &RunRequest| match &request.input {
            RunInput::Input(input) => input.get("name")?.as_str().map(str::to_owned),
            _ => None,
        };
        requests.iter().filter_map(name).collect()
    }

    async fn latest(&self, at: &CheckpointRef) -> Result<Option<CheckpointTuple>> {
        let key = CheckpointKey {
            thread_id: at.thread_id.clone(),
            checkpoint_ns: String::new(),
            checkpoint_id: at.checkpoint_id.clone(),
        };
        self.backend.checkpoints.get(&key).await
    }

    /// Stores a checkpoint with `values` merged in; `asks` is what the graph stops for.
    async fn save(
        &self,
        request: &RunRequest,
        thread: &str,
        values: &Map,
        asks: &[Interrupt],
    ) -> Result<CheckpointRef> {
        let at = CheckpointRef {
            thread_id: thread.to_owned(),
            ..CheckpointRef::default()
        };
        let before = self.latest(&at).await?;
        let mut channel_values = before
            .as_ref()
            .map(|tuple| tuple.checkpoint.channel_values.clone())
            .unwrap_or_default();
        channel_values.extend(values.clone());
        let mut metadata = request.config.metadata.clone();
        metadata.insert("run_id".into(), Value::str(request.run_id.text()));
        metadata.insert("asks".into(), to_value(asks)?);
        let id = format!("{:08}", self.steps.fetch_add(1, Ordering::SeqCst));
        let put = CheckpointOp::Put {
            thread_id: thread.to_owned(),
            checkpoint_ns: String::new(),
            parent_id: before.and_then(|tuple| tuple.key.checkpoint_id),
            checkpoint: Checkpoint {
                v: 4,
                id: id.clone(),
                channel_values,
                ..Default::default()
            },
            metadata,
            new_versions: vec![],
        };
        self.backend
            .checkpoints
            .commit(vec![put], request.fence)
            .await?;
        Ok(CheckpointRef {
            checkpoint_id: Some(id),
            ..at
        })
    }

    async fn outcome(&self, thread: &str, asks: Vec<Interrupt>) -> Result<RunOutcome> {
        let at = CheckpointRef {
            thread_id: thread.to_owned(),
            ..CheckpointRef::default()
        };
        let values = self
            .latest(&at)
            .await?
            .map(|tuple| tuple.checkpoint.channel_values);
        Ok(RunOutcome {
            values: Value::map(values.unwrap_or_default()),
            next: asks.iter().map(|_| Str::from("asker")).collect(),
            interrupts: asks,
        })
    }

    async fn play(
        &self,
        request: &RunRequest,
        sink: &EventSink,
        cancel: &CancellationToken,
    ) -> Result<RunOutcome> {
        let thread = request.config.configurable["thread_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let input = match &request.input {
            RunInput::Input(input) => input.clone(),
            RunInput::Command(command) => {
                value!({"do": [["set", {"answer": command.resume.clone().unwrap_or_default()}]]})
            }
            RunInput::Resume => Value::Null,
        };
        for step in input.get("do").and_then(Value::as_list).unwrap_or_default() {
            let step = step.as_list().unwrap();
            let text = |n: usize| step[n].as_str().unwrap();
            match text(0) {
                "emit" => emit(sink, text(1), step[2].clone()).await?,
                "many" => {
                    for n in 0..step[1].as_i64().unwrap() {
                        emit(sink, "custom", n.into()).await?;
                    }
                }
                "set" => {
                    self.save(request, &thread, step[1].as_map().unwrap(), &[])
                        .await?;
                }
                "wait" => {
                    self.gate(&format!("{} reached", text(1))).add_permits(1);
                    let gate = self.gate(text(1));
                    tokio::select! {
                        () = cancel.cancelled() => return Err(Error::cancelled("stopped")),
                        permit = gate.acquire() => permit.unwrap().forget(),
                    }
                }
                "last" => {
                    cancel.cancelled().await;
                    emit(sink, "custom", step[1].clone()).await?;
                    return Err(Error::cancelled("stopped"));
                }
                "ask" => {
                    let ask = Interrupt {
                        value: step[1].clone(),
                        id: "ask".into(),
                        response_schema: None,
                    };
                    self.save(request, &thread, &Map::new(), std::slice::from_ref(&ask))
                        .await?;
                    return self.outcome(&thread, vec![ask]).await;
                }
                "fail" => return Err(Error::failed(text(1).to_owned()).class("ScriptError")),
                other => panic!("unknown step {other}"),
            }
        }
        let outcome = self.outcome(&thread, vec![]).await?;
        emit(sink, "values", outcome.values.clone()).await?;
        Ok(outcome)
    }
}

async fn emit(sink: &EventSink, mode: &str, data: Value) -> Result<()> {
    let event = StreamEvent {
        ns: vec![],
        mode: mode.parse()?,
        data,
    };
    sink.send(event)
        .await
        .map_err(|_| Error::cancelled("nobody listens"))
}

fn snapshot(tuple: CheckpointTuple) -> StateSnapshot {
    let asks: Vec<Interrupt> =
        agentflow_types::from_value(tuple.metadata.get("asks").unwrap_or(&Value::list(vec![])))
            .unwrap();
    let task = |ask: &Interrupt| TaskSnapshot {
        id: "task".into(),
        name: "asker".into(),
        interrupts: vec![ask.clone()],
        ..TaskSnapshot::default()
    };
    StateSnapshot {
        values: Value::map(tuple.checkpoint.channel_values),
        next: asks.iter().map(|_| Str::from("asker")).collect(),
        tasks: asks.iter().map(task).collect(),
        interrupts: asks,
        metadata: Value::map(tuple.metadata),
        created_at: Some("2026-01-01T00:00:00+00:00".into()),
        checkpoint: CheckpointRef {
            thread_id: tuple.key.thread_id,
            checkpoint_ns: String::new(),
            checkpoint_id: tuple.key.checkpoint_id,
        },
        parent_checkpoint: None,
    }
}

#[async_trait]
impl GraphHost for Scripted {
    fn graphs(&self) -> Vec<GraphInfo> {
        vec![GraphInfo {
            graph_id: GRAPH.into(),
            name: "Scripted".into(),
            description: Some("does what its input says".into()),
        }]
    }

    async fn drawing(&self, _graph_id: &str, depth: u32) -> Result<Drawing> {
        let node = DrawnNode {
            id: format!("asker {depth}"),
            kind: None,
            data: None,
        };
        Ok(Drawing {
            nodes: vec![node],
            edges: vec![],
        })
    }

    async fn schemas(&self, _graph_id: &str) -> Result<GraphSchemas> {
        let input_schema = Some(serde_json::json!({"type": "object"}));
        Ok(GraphSchemas {
            input_schema,
            ..GraphSchemas::default()
        })
    }

    async fn subgraphs(
        &self,
        _graph_id: &str,
        namespace: Option<&str>,
        _recurse: bool,
    ) -> Result<Vec<(String, GraphSchemas)>> {
        let all = ["a", "b"]
            .into_iter()
            .filter(|ns| namespace.is_none_or(|wanted| wanted == *ns));
        Ok(all
            .map(|ns| (ns.to_owned(), GraphSchemas::default()))
            .collect())
    }

    async fn run(
        &self,
        request: RunRequest,
        sink: EventSink,
        cancel: CancellationToken,
    ) -> Result<RunOutcome> {
        self.requests.lock().unwrap().push(request.clone());
        self.play(&request, &sink, &cancel).await
    }

    async fn state(
        &self,
        _graph_id: &str,
        at: &CheckpointRef,
        _subgraphs: bool,
    ) -> Result<StateSnapshot> {
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(Error::corrupt("the state is unreadable"));
        }
        Ok(match self.latest(at).await? {
            Some(tuple) => snapshot(tuple),
            None => StateSnapshot {
                values: Value::map(Map::new()),
                checkpoint: at.clone(),
                ..StateSnapshot::default()
            },
        })
    }

    async fn history(&self, _graph_id: &str, query: &HistoryQuery) -> Result<Vec<StateSnapshot>> {
        let query = CheckpointQuery {
            thread_id: Some(query.checkpoint.thread_id.clone()),
            before: query.before.clone(),
            metadata: query.metadata.clone(),
            limit: Some(query.limit),
            ..CheckpointQuery::default()
        };
        Ok(self
            .backend
            .checkpoints
            .list(&query)
            .await?
            .into_iter()
            .map(snapshot)
            .collect())
    }

    async fn update_state(&self, request: UpdateRequest) -> Result<CheckpointRef> {
        let superstep = vec![(request.values, None, request.as_node)];
        self.bulk_update(
            &request.scope,
            &request.graph_id,
            &request.checkpoint,
            vec![superstep],
            request.config,
        )
        .await
    }

    async fn bulk_update(
        &self,
        scope: &Scope,
        graph_id: &str,
        at: &CheckpointRef,
        supersteps: Vec<Superstep>,
        config: RunConfig,
    ) -> Result<CheckpointRef> {
        let mut last = at.clone();
        let request = RunRequest {
            scope: scope.clone(),
            graph_id: graph_id.to_owned(),
            run_id: agentflow_types::RunId(uuid::Uuid::nil()),
            attempt: 1,
            input: RunInput::Resume,
            config,
            checkpoint: None,
            interrupt_before: Default::default(),
            interrupt_after: Default::default(),
            modes: vec![],
            subgraphs: false,
            durability: Default::default(),
            fence: None,
        };
        for (values, _, _) in supersteps.into_iter().flatten() {
            let values = values.as_map().cloned().unwrap_or_default();
            last = self.save(&request, &at.thread_id, &values, &[]).await?;
        }
        Ok(last)
    }
}
