//! States of threads on the wire.

use agentflow_runs::{host::HistoryQuery, service::StateUpdate};
use agentflow_types::{
    Error, Map, Result, Str, Value,
    graph::{CheckpointRef, Interrupt, StateSnapshot, TaskSnapshot},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page;

/// Snapshots of a history when the client does not say, as LangGraph's server has it.
const DEFAULT_HISTORY: u32 = 1;

/// A checkpoint's place, as a client gets it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckpointPlace {
    /// The checkpoint; null if the thread has none.
    checkpoint_id: Option<String>,
    /// The thread.
    thread_id: String,
    /// Namespace; empty at the root.
    checkpoint_ns: String,
}

impl From<CheckpointRef> for CheckpointPlace {
    fn from(at: CheckpointRef) -> Self {
        Self {
            checkpoint_id: at.checkpoint_id,
            thread_id: at.thread_id,
            checkpoint_ns: at.checkpoint_ns,
        }
    }
}

/// The state of a graph at one checkpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ThreadState {
    /// Output channels; `{}` before the first run.
    #[schema(value_type = Object)]
    values: Value,
    /// Nodes that run next.
    #[schema(value_type = Vec<String>)]
    next: Vec<Str>,
    /// Tasks of the next superstep.
    #[schema(value_type = Vec<Object>)]
    tasks: Vec<Task>,
    /// Metadata of the checkpoint.
    #[schema(value_type = Option<Object>)]
    metadata: Value,
    /// When the checkpoint was made.
    created_at: Option<String>,
    /// Where this is.
    checkpoint: CheckpointPlace,
    /// Where it came from.
    parent_checkpoint: Option<CheckpointPlace>,
    /// Unanswered interrupts of all tasks.
    #[schema(value_type = Vec<Object>)]
    interrupts: Vec<Interrupt>,
    /// Same as `checkpoint.checkpoint_id`.
    checkpoint_id: Option<String>,
    /// Same as `parent_checkpoint.checkpoint_id`.
    parent_checkpoint_id: Option<String>,
}

/// A task of the next superstep.
#[derive(Debug, Serialize)]
struct Task {
    id: String,
    name: Str,
    path: Value,
    error: Option<String>,
    interrupts: Vec<Interrupt>,
    checkpoint: Option<CheckpointPlace>,
    state: Option<Box<ThreadState>>,
    result: Option<Value>,
}

impl From<TaskSnapshot> for Task {
    fn from(task: TaskSnapshot) -> Self {
        Self {
            id: task.id,
            name: task.name,
            path: task.path,
            error: task.error,
            interrupts: task.interrupts,
            checkpoint: task.checkpoint.map(Into::into),
            state: task.state.map(|state| Box::new((*state).into())),
            result: task.result,
        }
    }
}

impl From<StateSnapshot> for ThreadState {
    fn from(state: StateSnapshot) -> Self {
        let parent = state.parent_checkpoint;
        Self {
            values: match state.values {
                Value::Null => Value::map(Map::new()),
                values => values,
            },
            next: state.next,
            tasks: state.tasks.into_iter().map(Into::into).collect(),
            metadata: state.metadata,
            created_at: state.created_at,
            checkpoint_id: state.checkpoint.checkpoint_id.clone(),
            parent_checkpoint_id: parent.as_ref().and_then(|at| at.checkpoint_id.clone()),
            checkpoint: state.checkpoint.into(),
            parent_checkpoint: parent.map(Into::into),
            interrupts: state.interrupts,
        }
    }
}

/// A checkpoint's place, as a client names it.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct CheckpointChoice {
    /// The checkpoint; the latest if absent.
    pub(crate) checkpoint_id: Option<String>,
    /// Namespace; empty at the root.
    pub(crate) checkpoint_ns: Option<String>,
    /// The thread; the one in the path counts.
    #[expect(dead_code, reason = "clients send it, the path decides")]
    thread_id: Option<String>,
    /// Checkpoints of subgraphs by namespace.
    #[schema(value_type = Option<Object>)]
    pub(crate) checkpoint_map: Option<Map>,
}

impl From<CheckpointChoice> for CheckpointRef {
    fn from(choice: CheckpointChoice) -> Self {
        let ns = choice.checkpoint_ns.unwrap_or_default();
        let mapped = choice
            .checkpoint_map
            .as_ref()
            .and_then(|map| map.get(ns.as_str()));
        let mapped = mapped.and_then(Value::as_str).map(str::to_owned);
        Self {
            thread_id: String::new(),
            checkpoint_id: choice.checkpoint_id.or(mapped),
            checkpoint_ns: ns,
        }
    }
}

/// A change of the state.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct StateUpdateBody {
    /// New values: an object, a list of objects, or null.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    values: Value,
    /// Checkpoint to change; the latest if absent.
    checkpoint: Option<CheckpointChoice>,
    /// Older form of `checkpoint`.
    checkpoint_id: Option<String>,
    /// Node that is said to have written them.
    as_node: Option<String>,
}

impl From<StateUpdateBody> for StateUpdate {
    fn from(body: StateUpdateBody) -> Self {
        let mut checkpoint: Option<CheckpointRef> = body.checkpoint.map(Into::into);
        if let Some(id) = body.checkpoint_id {
            checkpoint
                .get_or_insert_default()
                .checkpoint_id
                .get_or_insert(id);
        }
        Self {
            values: body.values,
            as_node: body.as_node,
            checkpoint,
        }
    }
}

/// Where a change of the state went.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StateUpdated {
    /// The new checkpoint.
    checkpoint: CheckpointPlace,
}

impl From<CheckpointRef> for StateUpdated {
    fn from(at: CheckpointRef) -> Self {
        Self {
            checkpoint: at.into(),
        }
    }
}

/// Which state is wanted.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct StateChoice {
    /// The checkpoint.
    pub(crate) checkpoint: CheckpointChoice,
    /// Whether states of subgraphs are wanted too.
    pub(crate) subgraphs: Option<bool>,
}

/// Which history is wanted.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct HistorySearch {
    /// Most states, 1 to 1000; 1 if absent.
    limit: Option<i64>,
    /// Only states before this checkpoint: its id, or an object that names it.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    before: Value,
    /// Metadata must have these entries.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map>,
    /// Namespace to look in.
    checkpoint: Option<CheckpointChoice>,
}

impl HistorySearch {
    pub(crate) fn into_domain(self) -> Result<HistoryQuery> {
        Ok(HistoryQuery {
            checkpoint: self.checkpoint.map(Into::into).unwrap_or_default(),
            before: before(&self.before)?,
            metadata: self.metadata.unwrap_or_default(),
            limit: page::limit(self.limit, DEFAULT_HISTORY)?,
        })
    }
}

/// The id of the checkpoint that `before` names.
fn before(value: &Value) -> Result<Option<String>> {
    let named = match value {
        Value::Null => return Ok(None),
        Value::Str(_) => Some(value),
        other => other.get("checkpoint_id").or_else(|| {
            other
                .get("configurable")
                .and_then(|c| c.get("checkpoint_id"))
        }),
    };
    match named.and_then(Value::as_str) {
        Some(id) => Ok(Some(id.to_owned())),
        None => Err(Error::unprocessable(
            "before: must be a checkpoint id or name one",
        )),
    }
}

/// Parts of a state, as `values.messages` or a field name; no selection means all.
pub(crate) fn select(state: ThreadState, fields: &[String]) -> Result<serde_json::Value> {
    let whole = page::select(state, None)?;
    if fields.is_empty() {
        return Ok(whole);
    }
    let mut out = serde_json::Map::new();
    for field in fields {
        let (root, part) = match field.split_once('.') {
            Some((root, part)) => (root, Some(part)),
            None => (field.as_str(), None),
        };
        let Some(value) = whole.get(root) else {
            continue;
        };
        match part {
            None => {
                out.insert(root.to_owned(), value.clone());
            }
            Some(part) => {
                let known = out
                    .entry(root.to_owned())
                    .or_insert_with(|| serde_json::json!({}));
                if let (Some(known), Some(value)) = (known.as_object_mut(), value.get(part)) {
                    known.insert(part.to_owned(), value.clone());
                }
            }
        }
    }
    Ok(serde_json::Value::Object(out))
}
