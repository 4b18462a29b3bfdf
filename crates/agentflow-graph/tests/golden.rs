//! The same graphs as `golden/generate.py`, the same operations, the same results: LangGraph's
//! events, snapshots and checkpoints, with ids replaced by names in order of appearance.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

#[path = "golden/features.rs"]
mod features;
#[path = "golden/graphs.rs"]
mod graphs;
#[path = "golden/names.rs"]
mod names;

use std::sync::Arc;

use agentflow_graph::{
    Graph, HistoryQuery, Input, InterruptAt, Invocation, MemoryCache, Runtime, StateUpdate, goto,
};
use agentflow_storage::{
    checkpoint::{Checkpoint, CheckpointOp, CheckpointQuery, CheckpointTuple, Version},
    memory::Memory,
};
use agentflow_types::{
    Error, Map, Value,
    graph::{CheckpointRef, Command, RunConfig, StateSnapshot},
};
use names::Names;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

const TRACES: &str = include_str!("golden/traces.json");
const FEATURES: &str = include_str!("golden/features.json");
const VECTORS: &str = include_str!("golden/vectors.json");
const PYTHON_THREAD: &str = include_str!("golden/python_thread.json");
const THREAD: &str = "t";

struct Stage {
    graph: Arc<Graph>,
    runtime: Runtime,
}

fn at(id: Option<String>) -> CheckpointRef {
    CheckpointRef {
        thread_id: THREAD.into(),
        checkpoint_ns: String::new(),
        checkpoint_id: id,
    }
}

fn error_json(error: &Error) -> Json {
    json!({"error": error.class_name(), "message": error.message()})
}

fn version(version: &Version) -> Json {
    match version {
        Version::Text(text) => json!(text.split('.').next().unwrap().parse::<u64>().unwrap()),
        other => panic!("{other:?}"),
    }
}

fn versions<'a>(all: impl IntoIterator<Item = (&'a agentflow_types::Str, &'a Version)>) -> Json {
    all.into_iter()
        .map(|(k, v)| (k.to_string(), version(v)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn checkpoint_json(saved: &CheckpointTuple) -> Json {
    let c = &saved.checkpoint;
    let seen: serde_json::Map<String, Json> = c
        .versions_seen
        .iter()
        .map(|(n, s)| (n.to_string(), versions(s)))
        .collect();
    json!({
        "ns": saved.key.checkpoint_ns,
        "id": c.id,
        "seq": &c.id[19..23],
        "parent": saved.parent_id,
        "values": Value::map(c.channel_values.clone()).to_json(),
        "versions": versions(&c.channel_versions),
        "seen": seen,
        "updated": c.updated_channels.as_ref().map(|u| u.iter().map(|s| s.to_string()).collect::<Vec<_>>()),
        "metadata": Value::map(saved.metadata.clone()).to_json(),
        "writes": saved.pending_writes.iter()
            .map(|w| json!([w.task_id, &*w.channel, w.value.to_json()])).collect::<Vec<_>>(),
    })
}

fn snapshot_json(s: &StateSnapshot) -> Json {
    let tasks: Vec<Json> = s
        .tasks
        .iter()
        .map(|t| {
            let state = match (&t.state, &t.checkpoint) {
                (Some(state), _) => snapshot_json(state),
                (None, Some(at)) => json!(at.checkpoint_ns),
                _ => Json::Null,
            };
            json!({
                "id": t.id,
                "name": &*t.name,
                "path": t.path.to_json(),
                "error": t.error,
                "interrupts": t.interrupts,
                "result": t.result.as_ref().map(Value::to_json),
                "state": state,
            })
        })
        .collect();
    json!({
        "values": s.values.to_json(),
        "next": s.next.iter().map(|n| n.to_string()).collect::<Vec<_>>(),
        "metadata": s.metadata.to_json(),
        "checkpoint": s.checkpoint.checkpoint_id,
        "parent": s.parent_checkpoint.as_ref().and_then(|p| p.checkpoint_id.clone()),
        "tasks": tasks,
        "interrupts": s.interrupts,
    })
}

fn interrupt_at(op: &Json, key: &str) -> InterruptAt {
    match &op[key] {
        Json::Null => InterruptAt::Never,
        Json::String(_) => InterruptAt::All,
        list => InterruptAt::Nodes(serde_json::from_value(list.clone()).unwrap()),
    }
}

fn map_of(json: &Json) -> Map {
    Value::from_json(json).as_map().cloned().unwrap_or_default()
}

impl Stage {
    async fn addressed(&self, op: &Json) -> CheckpointRef {
        let Some(index) = op["at"].as_u64() else {
            return at(None);
        };
        let query = HistoryQuery {
            checkpoint: at(None),
            ..HistoryQuery::default()
        };
        let history = self.graph.history(&self.runtime, &query).await.unwrap();
        history[index as usize].checkpoint.clone()
    }

    async fn perform(&self, op: &Json) -> Json {
        let address = self.addressed(op).await;
        let result = match op["op"].as_str().unwrap() {
            "run" => return self.run(op, address).await,
            "state" => {
                let subgraphs = op["subgraphs"].as_bool().unwrap_or(false);
                let state = self.graph.state(&self.runtime, &address, subgraphs).await;
                state.map(|s| snapshot_json(&s))
            }
            "history" => {
                let query = HistoryQuery {
                    checkpoint: at(None),
                    ..HistoryQuery::default()
                };
                let all = self.graph.history(&self.runtime, &query).await;
                all.map(|all| all.iter().map(snapshot_json).collect::<Vec<_>>().into())
            }
            "checkpoints" => Ok(self.checkpoints().await),
            "update" => {
                let update = StateUpdate {
                    values: Value::from_json(&op["values"]),
                    as_node: op["as_node"].as_str().map(str::to_owned),
                    ..StateUpdate::default()
                };
                let config = RunConfig::default();
                let done = self
                    .graph
                    .update_state(&self.runtime, &address, update, &config)
                    .await;
                done.map(|at| json!(at.checkpoint_id))
            }
            "bulk" => {
                let one = |pair: &Json| StateUpdate {
                    values: Value::from_json(&pair[0]),
                    as_node: pair[1].as_str().map(str::to_owned),
                    ..StateUpdate::default()
                };
                let steps = op["supersteps"].as_array().unwrap().iter();
                let steps = steps.map(|s| s.as_array().unwrap().iter().map(one).collect());
                let config = RunConfig::default();
                let done = self
                    .graph
                    .bulk_update(&self.runtime, &address, steps.collect(), &config)
                    .await;
                done.map(|at| json!(at.checkpoint_id))
            }
            other => panic!("unknown operation {other}"),
        };
        result.unwrap_or_else(|error| error_json(&error))
    }

    async fn checkpoints(&self) -> Json {
        let query = CheckpointQuery {
            thread_id: Some(THREAD.into()),
            ..CheckpointQuery::default()
        };
        let saver = self.runtime.saver.as_ref().unwrap();
        let mut all = saver.list(&query).await.unwrap();
        all.sort_by_key(|c| {
            (
                c.key.checkpoint_ns.matches('|').count(),
                c.checkpoint.id.clone(),
            )
        });
        all.iter().map(checkpoint_json).collect::<Vec<_>>().into()
    }

    async fn input(&self, op: &Json) -> Input {
        let has = |key: &str| op.get(key).is_some();
        if let Some(answers) = op["resume_map"].as_array() {
            let state = self
                .graph
                .state(&self.runtime, &at(None), false)
                .await
                .unwrap();
            let pairs = state.interrupts.iter().zip(answers);
            return Input::resume(Value::object(
                pairs.map(|(i, a)| (i.id.as_str(), Value::from_json(a))),
            ));
        }
        if has("resume") || has("goto") || has("update") {
            let nodes = op["goto"].as_array().cloned().unwrap_or_default();
            return Input::Command(Command {
                resume: op.get("resume").map(Value::from_json),
                update: op.get("update").map(Value::from_json),
                goto: nodes.iter().map(|n| goto(n.as_str().unwrap())).collect(),
                graph: None,
            });
        }
        Value::from_json(&op["input"]).into()
    }

    async fn run(&self, op: &Json, address: CheckpointRef) -> Json {
        let mut config = RunConfig {
            configurable: map_of(&op["config"]["configurable"]),
            metadata: map_of(&op["config"]["metadata"]),
            recursion_limit: op["recursion_limit"].as_u64(),
            ..RunConfig::default()
        };
        config
            .configurable
            .insert("thread_id".into(), Value::str(THREAD));
        let invocation = Invocation {
            input: self.input(op).await,
            config,
            checkpoint: Some(address),
            modes: serde_json::from_value(op["modes"].clone()).unwrap(),
            subgraphs: op["subgraphs"].as_bool().unwrap_or(false),
            durability: match op["durability"].as_str() {
                None => Default::default(),
                Some(_) => serde_json::from_value(op["durability"].clone()).unwrap(),
            },
            interrupt_before: interrupt_at(op, "interrupt_before"),
            interrupt_after: interrupt_at(op, "interrupt_after"),
            ..Invocation::default()
        };
        let (sink, mut events) = mpsc::channel(10_000);
        let result = self.graph.run(&self.runtime, invocation, Some(sink)).await;
        let mut all = Vec::new();
        while let Some(event) = events.recv().await {
            let ns: Vec<String> = event.ns.iter().map(|part| part.to_string()).collect();
            all.push(json!([ns, event.mode, event.data.to_json()]));
        }
        json!({"events": all, "error": result.err().map(|e| error_json(&e))})
    }
}

/// Sorts what has no order in Python (edges are a set there) and drops the answers of finished
/// tasks, of which savers keep either the first or the last list.
fn settle(value: &mut Json) {
    match value {
        Json::Object(map) => {
            if let Some(Json::Array(writes)) = map.get_mut("writes") {
                let finished: Vec<Json> = writes
                    .iter()
                    .filter(|w| !w[1].as_str().unwrap_or_default().starts_with("__"))
                    .map(|w| w[0].clone())
                    .collect();
                writes.retain(|w| w[1] != "__resume__" || !finished.contains(&w[0]));
                writes.sort_by_key(|w| w[1].to_string() + &w[0].to_string());
            }
            map.values_mut().for_each(settle);
        }
        Json::Array(items) => {
            // LangGraph repeats a functional task's question as its caller's in graphs inside tasks.
            if items
                .iter()
                .all(|item| item.get("response_schema").is_some())
            {
                items.dedup();
            }
            items.iter_mut().for_each(settle);
        }
        _ => {}
    }
}

/// Where two documents differ, as a path and both sides.
fn difference(path: &str, want: &Json, got: &Json) -> Option<String> {
    match (want, got) {
        (Json::Object(a), Json::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter()
                .find_map(|key| match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => difference(&format!("{path}.{key}"), a, b),
                    (a, b) => Some(format!("{path}.{key}: want {a:?}, got {b:?}")),
                })
        }
        (Json::Array(a), Json::Array(b)) => {
            let inner = a.iter().zip(b).enumerate();
            let first = inner
                .into_iter()
                .find_map(|(i, (a, b))| difference(&format!("{path}[{i}]"), a, b));
            first.or_else(|| {
                (a.len() != b.len()).then(|| {
                    let extra = if a.len() > b.len() {
                        a.get(b.len())
                    } else {
                        b.get(a.len())
                    };
                    format!(
                        "{path}: want {} items, got {}; first extra {extra:?}",
                        a.len(),
                        b.len()
                    )
                })
            })
        }
        (a, b) if a == b => None,
        (a, b) => Some(format!("{path}: want {a}, got {b}")),
    }
}

/// Performs one scenario; returns the first difference of each step that differs.
async fn check(scenario: &Json) -> Vec<String> {
    let stage = Stage {
        graph: graphs::build(scenario["graph"].as_str().unwrap()),
        runtime: Runtime {
            cache: Some(Arc::new(MemoryCache::default())),
            ..Runtime::with_saver(Memory::open().checkpoints)
        },
    };
    let mut names = Names::default();
    let mut differences = Vec::new();
    for (index, step) in scenario["steps"].as_array().unwrap().iter().enumerate() {
        let mut got = names.walk(&stage.perform(&step["op"]).await);
        let mut want = step["want"].clone();
        settle(&mut got);
        settle(&mut want);
        if let Some(difference) = difference("", &want, &got) {
            differences.push(format!("step {index} ({}) {difference}", step["op"]["op"]));
        }
    }
    differences
}

#[tokio::test]
async fn graphs_do_what_langgraph_does() {
    all_agree(TRACES).await;
}

#[tokio::test]
async fn newer_features_do_what_langgraphs_do() {
    all_agree(FEATURES).await;
}

async fn all_agree(traces: &str) {
    let traces: Json = serde_json::from_str(traces).unwrap();
    let only = std::env::var("AGENTFLOW_SCENARIO").ok();
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, scenario) in traces.as_object().unwrap() {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        match check(scenario).await {
            differences if differences.is_empty() => passed += 1,
            differences => failed.push(format!("{name}:\n  {}", differences.join("\n  "))),
        }
    }
    assert!(
        failed.is_empty(),
        "{passed} scenarios agree; these differ:\n{}",
        failed.join("\n")
    );
    assert!(passed > 0 || only.is_some(), "no scenario was run");
}

#[tokio::test]
async fn task_ids_are_those_of_python_for_the_same_checkpoint() {
    let vectors: Vec<Json> = serde_json::from_str(VECTORS).unwrap();
    for vector in &vectors {
        let path = vector["path"].as_array().unwrap();
        let graph = graphs::build(vector["graph"].as_str().unwrap());
        let checkpoint = vector["checkpoint"].as_str().unwrap();
        let node = vector["node"].as_str().unwrap();
        let step = vector["step"].as_i64().unwrap();
        let send = (path[0] == "__pregel_push").then(|| path[1].as_u64().unwrap() as usize);
        let id = graph.task_id(checkpoint, "", step, node, send).unwrap();
        assert_eq!(id, vector["task"].as_str().unwrap(), "{vector}");
    }
    assert!(vectors.len() >= 50);
}

/// The newest checkpoint that Python left, as the saver would have it.
fn python_checkpoint(thread: &Json) -> Checkpoint {
    let c = &thread["checkpoint"];
    let text = |json: &Json| json.as_str().unwrap().to_owned();
    let versions = |json: &Json| -> indexmap::IndexMap<agentflow_types::Str, Version> {
        let entries = json.as_object().unwrap().iter();
        entries
            .map(|(name, v)| {
                (
                    name.as_str().into(),
                    Version::Text(v.as_str().unwrap().into()),
                )
            })
            .collect()
    };
    let seen = c["versions_seen"].as_object().unwrap().iter();
    Checkpoint {
        v: c["v"].as_i64().unwrap(),
        ts: text(&c["ts"]),
        id: text(&c["id"]),
        channel_values: map_of(&c["channel_values"]),
        channel_versions: versions(&c["channel_versions"]),
        versions_seen: seen
            .map(|(node, s)| (node.as_str().into(), versions(s)))
            .collect(),
        updated_channels: c["updated_channels"]
            .as_array()
            .map(|names| names.iter().map(|n| n.as_str().unwrap().into()).collect()),
        extra: Map::new(),
    }
}

#[tokio::test]
async fn a_thread_that_python_left_waiting_goes_on() {
    let thread: Json = serde_json::from_str(PYTHON_THREAD).unwrap();
    let checkpoint = python_checkpoint(&thread);
    let writes = thread["writes"].as_array().unwrap();
    let mut ops = vec![CheckpointOp::Put {
        thread_id: THREAD.into(),
        checkpoint_ns: String::new(),
        parent_id: None,
        new_versions: checkpoint.channel_versions.keys().cloned().collect(),
        checkpoint: checkpoint.clone(),
        metadata: map_of(&thread["metadata"]),
    }];
    ops.extend(writes.iter().map(|w| CheckpointOp::Writes {
        thread_id: THREAD.into(),
        checkpoint_ns: String::new(),
        checkpoint_id: checkpoint.id.clone(),
        task_id: w[0].as_str().unwrap().to_owned(),
        task_path: String::new(),
        writes: vec![(w[1].as_str().unwrap().into(), Value::from_json(&w[2]))],
    }));
    let runtime = Runtime::with_saver(Memory::open().checkpoints);
    runtime
        .saver
        .as_ref()
        .unwrap()
        .commit(ops, None)
        .await
        .unwrap();
    let graph = graphs::build("ask");
    let state = graph.state(&runtime, &at(None), false).await.unwrap();
    assert_eq!(
        state.interrupts[0].id,
        thread["next_interrupt"].as_str().unwrap()
    );
    assert_eq!(
        state.interrupts[0].value,
        agentflow_types::value!({"question": "second"})
    );

    let invocation = Invocation::new(Input::resume("from rust")).thread(THREAD);
    let outcome = graph.run(&runtime, invocation, None).await.unwrap();
    let items = outcome.values.get("items").cloned();
    assert_eq!(
        items,
        Some(agentflow_types::value!(["from python", "from rust"]))
    );
    // Channels that did not change keep the version text that Python gave them, bit for bit.
    let saver = runtime.saver.unwrap();
    let query = CheckpointQuery {
        thread_id: Some(THREAD.into()),
        ..CheckpointQuery::default()
    };
    let newest = saver.list(&query).await.unwrap().remove(0).checkpoint;
    for channel in ["__start__", "value", "n", "branch:to:prepare"] {
        assert!(
            checkpoint.channel_versions.contains_key(channel),
            "{channel}"
        );
        assert_eq!(
            newest.channel_versions.get(channel),
            checkpoint.channel_versions.get(channel),
            "{channel}"
        );
    }
}
