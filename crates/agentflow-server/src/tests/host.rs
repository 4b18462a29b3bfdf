//! A graph host that does what the input of a run says.
//!
//! Input is `{"do": [step, …]}` with steps `["emit", mode, data, ns…]`, `["set", map]`,
//! `["ask", value]`, `["fail", message]`, `["panic"]`, `["hang"]`. An answer to a question
//! becomes the value `answer`. States live in memory, one per thread.

use std::{collections::BTreeMap, sync::Mutex};

use agentflow_runs::host::{
    EventSink, GraphHost, GraphInfo, HistoryQuery, RunInput, RunRequest, Superstep, UpdateRequest,
};
use agentflow_types::{
    Error, Map, Result, Scope, Str, Value,
    graph::{
        CheckpointRef, Drawing, DrawnEdge, DrawnNode, GraphSchemas, Interrupt, RunConfig,
        RunOutcome, StateSnapshot, StreamEvent, StreamMode, TaskSnapshot,
    },
    value,
};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// Id of every question.
pub(crate) const QUESTION: &str = "0123456789abcdef0123456789abcdef";

#[derive(Clone, Default)]
struct Line {
    /// Values after each step.
    states: Vec<Map>,
    asked: Option<Value>,
}

#[derive(Default)]
pub(crate) struct Scripted {
    lines: Mutex<BTreeMap<String, Line>>,
}

impl Scripted {
    fn change(&self, thread: &str, change: impl FnOnce(&mut Line)) -> Line {
        let mut lines = self.lines.lock().unwrap();
        let line = lines.entry(thread.to_owned()).or_default();
        change(line);
        line.clone()
    }

    fn set(&self, thread: &str, values: &Map) -> Map {
        let line = self.change(thread, |line| {
            let mut state = line.states.last().cloned().unwrap_or_default();
            state.extend(values.clone());
            line.states.push(state);
        });
        line.states.last().cloned().unwrap()
    }
}

fn question(value: &Value) -> Interrupt {
    Interrupt {
        value: value.clone(),
        id: QUESTION.into(),
        response_schema: None,
    }
}

fn at(thread: &str, index: Option<usize>) -> CheckpointRef {
    CheckpointRef {
        thread_id: thread.to_owned(),
        checkpoint_ns: String::new(),
        checkpoint_id: index.map(|n| format!("cp-{n}")),
    }
}

fn snapshot(thread: &str, line: &Line, index: usize) -> StateSnapshot {
    let is_last = index + 1 == line.states.len();
    let asked = line.asked.as_ref().filter(|_| is_last).map(question);
    let interrupts: Vec<Interrupt> = asked.into_iter().collect();
    let task = TaskSnapshot {
        id: "task-1".into(),
        name: "asker".into(),
        path: value!(["__pregel_pull", "asker"]),
        interrupts: interrupts.clone(),
        ..TaskSnapshot::default()
    };
    StateSnapshot {
        values: Value::map(line.states[index].clone()),
        next: interrupts.iter().map(|_| Str::from("asker")).collect(),
        tasks: if interrupts.is_empty() {
            vec![]
        } else {
            vec![task]
        },
        metadata: value!({"source": "loop", "step": index}),
        created_at: Some("2026-01-01T00:00:00.000000+00:00".into()),
        checkpoint: at(thread, Some(index)),
        parent_checkpoint: index.checked_sub(1).map(|n| at(thread, Some(n))),
        interrupts,
    }
}

#[async_trait]
impl GraphHost for Scripted {
    fn graphs(&self) -> Vec<GraphInfo> {
        ["agent", "other"]
            .map(|id| GraphInfo {
                graph_id: id.into(),
                name: id.into(),
                description: None,
            })
            .into()
    }

    async fn drawing(&self, _: &str, depth: u32) -> Result<Drawing> {
        let real = |id: &str| DrawnNode {
            id: id.into(),
            kind: Some("runnable"),
            data: Some(Value::object([("name", Value::str(id))])),
        };
        let mut nodes = vec![real("__start__"), real("a")];
        if depth > 0 {
            nodes.push(real("a:inner"));
        }
        nodes.push(DrawnNode {
            id: "__end__".into(),
            kind: None,
            data: None,
        });
        let edge = |source: &str, target: &str| DrawnEdge {
            source: source.into(),
            target: target.into(),
            conditional: None,
            data: None,
        };
        Ok(Drawing {
            nodes,
            edges: vec![edge("__start__", "a"), edge("a", "__end__")],
        })
    }

    async fn schemas(&self, _: &str) -> Result<GraphSchemas> {
        let input_schema = Some(serde_json::json!({"type": "object"}));
        Ok(GraphSchemas {
            input_schema,
            ..GraphSchemas::default()
        })
    }

    async fn subgraphs(
        &self,
        _: &str,
        namespace: Option<&str>,
        _: bool,
    ) -> Result<Vec<(String, GraphSchemas)>> {
        let all = ["a", "a|b"]
            .into_iter()
            .filter(|ns| namespace.is_none_or(|n| n == *ns));
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
        let thread = request.config.configurable["thread_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let send = async |mode: StreamMode, ns: Vec<Str>, data: Value| {
            if request.modes.contains(&mode) && (ns.is_empty() || request.subgraphs) {
                let _ = sink.send(StreamEvent { ns, mode, data }).await;
            }
        };
        let input = match request.input {
            RunInput::Input(input) => input,
            RunInput::Command(command) => {
                self.change(&thread, |line| line.asked = None);
                let answer = command.resume.unwrap_or_default();
                value!({"do": [["set", {"answer": answer.to_json()}]]})
            }
            RunInput::Resume => value!({"do": []}),
        };
        let mut values = self.set(&thread, &Map::new());
        for step in input.get("do").and_then(Value::as_list).unwrap_or_default() {
            let step = step.as_list().unwrap_or_default();
            let arg = step.get(1).cloned().unwrap_or_default();
            match step[0].as_str().unwrap_or_default() {
                "emit" => {
                    let ns = step
                        .iter()
                        .skip(3)
                        .filter_map(|s| s.as_str().map(Str::from));
                    send(
                        arg.as_str().unwrap().parse()?,
                        ns.collect(),
                        step[2].clone(),
                    )
                    .await;
                }
                "set" => {
                    values = self.set(&thread, arg.as_map().unwrap());
                    send(StreamMode::Updates, vec![], value!({"a": arg.to_json()})).await;
                    send(StreamMode::Values, vec![], Value::map(values.clone())).await;
                }
                "ask" => {
                    self.change(&thread, |line| line.asked = Some(arg.clone()));
                    let asked = vec![question(&arg)];
                    let data =
                        Value::object([("__interrupt__", agentflow_types::to_value(&asked)?)]);
                    send(StreamMode::Updates, vec![], data).await;
                    return Ok(RunOutcome {
                        values: Value::map(values),
                        interrupts: asked,
                        next: vec!["asker".into()],
                    });
                }
                "fail" => {
                    let text = arg.as_str().unwrap_or_default().to_owned();
                    return Err(Error::failed(text).class("ValueError"));
                }
                "hang" => {
                    cancel.cancelled().await;
                    return Err(Error::cancelled("stopped"));
                }
                other => panic!("unknown step {other}"),
            }
        }
        Ok(RunOutcome {
            values: Value::map(values),
            ..RunOutcome::default()
        })
    }

    async fn state(&self, _: &str, place: &CheckpointRef, _: bool) -> Result<StateSnapshot> {
        let line = self.change(&place.thread_id, |_| {});
        let index = match &place.checkpoint_id {
            Some(id) => id.strip_prefix("cp-").and_then(|n| n.parse().ok()),
            None => line.states.len().checked_sub(1),
        };
        Ok(match index.filter(|n| *n < line.states.len()) {
            Some(index) => snapshot(&place.thread_id, &line, index),
            None => StateSnapshot {
                checkpoint: place.clone(),
                ..StateSnapshot::default()
            },
        })
    }

    async fn history(&self, _: &str, query: &HistoryQuery) -> Result<Vec<StateSnapshot>> {
        let thread = &query.checkpoint.thread_id;
        let line = self.change(thread, |_| {});
        let before = query
            .before
            .as_ref()
            .and_then(|id| id.strip_prefix("cp-")?.parse().ok());
        let end: usize = before.unwrap_or(line.states.len());
        let newest_first = (0..end).rev().take(query.limit as usize);
        Ok(newest_first.map(|n| snapshot(thread, &line, n)).collect())
    }

    async fn update_state(&self, request: UpdateRequest) -> Result<CheckpointRef> {
        if request.as_node.as_deref() == Some("panic") {
            panic!("asked to");
        }
        let thread = request.checkpoint.thread_id;
        self.set(
            &thread,
            &request.values.as_map().cloned().unwrap_or_default(),
        );
        let line = self.change(&thread, |_| {});
        Ok(at(&thread, line.states.len().checked_sub(1)))
    }

    async fn bulk_update(
        &self,
        _: &Scope,
        _: &str,
        place: &CheckpointRef,
        supersteps: Vec<Superstep>,
        _: RunConfig,
    ) -> Result<CheckpointRef> {
        for (values, _, _) in supersteps.into_iter().flatten() {
            self.set(
                &place.thread_id,
                &values.as_map().cloned().unwrap_or_default(),
            );
        }
        Ok(place.clone())
    }
}
