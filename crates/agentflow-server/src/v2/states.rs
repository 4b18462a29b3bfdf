//! Commands about the state of a thread: read, list, fork, the tree of its graphs.

use agentflow_runs::host::HistoryQuery;
use agentflow_storage::record::{Thread, ThreadStatus};
use agentflow_types::{
    ErrorKind, Value,
    graph::{CheckpointRef, NS_SEPARATOR, StateSnapshot, TaskSnapshot},
};
use serde_json::{Value as Json, json};

use super::command::{Caller, Refusal, create, new_run, thread_of};
use crate::{AppState, page};

/// Levels of subgraphs that the tree shows.
const MAX_DEPTH: usize = 16;

fn wrong(text: impl Into<String>) -> Refusal {
    Refusal::new("invalid_argument", text)
}

async fn known(app: &AppState, caller: &Caller) -> Result<Thread, Refusal> {
    let none = || Refusal::new("no_such_run", "No run is bound to this thread.");
    thread_of(app, caller).await?.ok_or_else(none)
}

/// The namespace that a command names: a list of parts, or nothing for the root.
fn namespace(params: &Value) -> Result<String, Refusal> {
    let parts = match params.get("namespace").filter(|given| !given.is_null()) {
        None => return Ok(String::new()),
        Some(given) => given.as_list(),
    };
    let parts = parts.and_then(|parts| parts.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    let parts = parts.ok_or_else(|| wrong("namespace must be an array of strings"))?;
    Ok(parts.join(&NS_SEPARATOR.to_string()))
}

/// `state.get`: values, all or some.
pub(super) async fn get(app: &AppState, caller: &Caller, params: &Value) -> Result<Json, Refusal> {
    known(app, caller).await?;
    let keys = match params.get("keys").filter(|given| !given.is_null()) {
        None => None,
        Some(given) => {
            let keys = given.as_list().unwrap_or_default().iter();
            let keys: Option<Vec<&str>> = keys.map(Value::as_str).collect();
            Some(keys.ok_or_else(|| wrong("keys must be an array of strings"))?)
        }
    };
    let checkpoint_ns = namespace(params)?;
    let is_root = checkpoint_ns.is_empty();
    let at = CheckpointRef {
        checkpoint_ns,
        ..CheckpointRef::default()
    };
    let state = app
        .service
        .state(&caller.scope, caller.thread, Some(at), false)
        .await?;
    let Some(id) = &state.checkpoint.checkpoint_id else {
        return match is_root {
            true => Ok(json!({ "values": {} })),
            false => Err(Refusal::new(
                "no_such_namespace",
                "There is no such namespace.",
            )),
        };
    };
    let mut values = state.values.to_json();
    if let (Some(keys), Some(values)) = (keys, values.as_object_mut()) {
        values.retain(|key, _| keys.contains(&key.as_str()));
    }
    let place = json!({ "id": id, "ns": state.checkpoint.checkpoint_ns });
    Ok(json!({ "values": values, "checkpoint": place }))
}

/// `state.listCheckpoints`: newest first.
pub(super) async fn list(app: &AppState, caller: &Caller, params: &Value) -> Result<Json, Refusal> {
    known(app, caller).await?;
    let limit = params.get("limit").and_then(Value::as_i64);
    let query = HistoryQuery {
        checkpoint: CheckpointRef {
            checkpoint_ns: namespace(params)?,
            ..CheckpointRef::default()
        },
        before: params
            .get("before")
            .and_then(Value::as_str)
            .map(str::to_owned),
        limit: page::limit(limit, page::DEFAULT_LIMIT).map_err(|err| wrong(err.message()))?,
        ..HistoryQuery::default()
    };
    let states = app
        .service
        .history(&caller.scope, caller.thread, query)
        .await?;
    let summaries: Vec<Json> = states.iter().map(summary).collect();
    Ok(json!({ "checkpoints": summaries }))
}

fn summary(state: &StateSnapshot) -> Json {
    json!({
        "id": state.checkpoint.checkpoint_id,
        "timestamp": state.created_at,
        "step": state.metadata.get("step").map(Value::to_json),
        "metadata": state.metadata.to_json(),
    })
}

/// `state.fork`: a run that starts at an older checkpoint.
pub(super) async fn fork(app: &AppState, caller: &Caller, params: &Value) -> Result<Json, Refusal> {
    let thread = known(app, caller).await?;
    let id = params.get("checkpoint_id").and_then(Value::as_str);
    let id = id.ok_or_else(|| wrong("state.fork requires a string checkpoint_id."))?;
    let at = CheckpointRef {
        checkpoint_id: Some(id.to_owned()),
        ..CheckpointRef::default()
    };
    let found = app
        .service
        .state(&caller.scope, caller.thread, Some(at.clone()), false);
    found.await.map_err(|err| match err.kind() {
        ErrorKind::NotFound => Refusal::new("no_such_checkpoint", "There is no such checkpoint."),
        _ => err.into(),
    })?;
    let assistant = thread.metadata.get("assistant_id").and_then(Value::as_str);
    let none = || Refusal::new("no_such_run", "No run is bound to this thread.");
    let mut run = new_run(caller, assistant.ok_or_else(none)?, params)?;
    run.checkpoint = Some(at);
    run.input = params.get("input").cloned().unwrap_or_default();
    let run_id = create(app, caller, run).await?;
    Ok(json!({ "run_id": run_id, "thread_id": caller.thread }))
}

/// `agent.getTree`: the root with its status, and the subgraphs of tasks that are not over.
pub(super) async fn tree(app: &AppState, caller: &Caller) -> Result<Json, Refusal> {
    let thread = known(app, caller).await?;
    let none = || Refusal::new("no_such_run", "No run is bound to this thread.");
    let graph = thread.metadata.get("graph_id").and_then(Value::as_str);
    let graph = graph.ok_or_else(none)?;
    let status = match thread.status {
        ThreadStatus::Idle => "completed",
        ThreadStatus::Busy => "running",
        ThreadStatus::Interrupted => "interrupted",
        ThreadStatus::Error => "failed",
    };
    let state = app
        .service
        .state(&caller.scope, caller.thread, None, true)
        .await?;
    Ok(json!({ "tree": {
        "namespace": [], "status": status, "graph_name": graph,
        "children": children(&state, 1),
    } }))
}

fn children(state: &StateSnapshot, depth: usize) -> Vec<Json> {
    let below = state.tasks.iter().filter_map(|task| child(task, depth));
    below.collect()
}

/// The node of a task that runs a subgraph.
fn child(task: &TaskSnapshot, depth: usize) -> Option<Json> {
    let inner = task.state.as_deref();
    let place = inner
        .map(|state| &state.checkpoint)
        .or(task.checkpoint.as_ref())?;
    let status = match () {
        () if task.error.is_some() => "failed",
        () if !task.interrupts.is_empty() => "interrupted",
        () if task.result.is_some() => "completed",
        () => "running",
    };
    let parts: Vec<&str> = place.checkpoint_ns.split(NS_SEPARATOR).collect();
    let deeper = inner.filter(|_| depth < MAX_DEPTH);
    Some(json!({
        "namespace": parts, "status": status, "graph_name": &*task.name,
        "children": deeper.map_or_else(Vec::new, |state| children(state, depth + 1)),
    }))
}
