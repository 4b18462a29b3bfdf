//! Words of the graph protocol, shared by the graph library, the graph hosts, the run service
//! and the wire types.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Map, Result, Str, Value};

/// Name of the virtual first node.
pub const START: &str = "__start__";
/// Name of the virtual last node.
pub const END: &str = "__end__";
/// Key under which interrupts travel in `values` and `updates` data.
pub const INTERRUPT: &str = "__interrupt__";
/// Separates the parts of a checkpoint namespace.
pub const NS_SEPARATOR: char = '|';
/// Separates node name and task id in one part of a checkpoint namespace.
pub const NS_END: char = ':';

/// What a running graph reports, as LangGraph names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamMode {
    /// The whole state after each superstep.
    Values,
    /// What each task wrote.
    Updates,
    /// `[message or chunk, metadata]` from models and node outputs.
    Messages,
    /// Whatever a node sends with its stream writer.
    Custom,
    /// Task starts and results.
    Tasks,
    /// Each checkpoint as it is made.
    Checkpoints,
    /// Tasks and checkpoints wrapped with step and time.
    Debug,
    /// Tool calls: started, output delta, finished, error.
    Tools,
}

impl StreamMode {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Updates => "updates",
            Self::Messages => "messages",
            Self::Custom => "custom",
            Self::Tasks => "tasks",
            Self::Checkpoints => "checkpoints",
            Self::Debug => "debug",
            Self::Tools => "tools",
        }
    }
}

impl fmt::Display for StreamMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StreamMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "values" => Self::Values,
            "updates" => Self::Updates,
            "messages" => Self::Messages,
            "custom" => Self::Custom,
            "tasks" => Self::Tasks,
            "checkpoints" => Self::Checkpoints,
            "debug" => Self::Debug,
            "tools" => Self::Tools,
            _ => return Err(Error::unprocessable("unknown stream mode").with("mode", text)),
        })
    }
}

/// One thing a running graph reported.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamEvent {
    /// Namespace of the (sub)graph that speaks: `node:task_id` parts, outermost first; empty at
    /// the root.
    pub ns: Vec<Str>,
    /// Which mode it belongs to.
    pub mode: StreamMode,
    /// The data, in the shape LangGraph documents for the mode.
    pub data: Value,
}

/// A question that a node asks from inside; the run stops until somebody answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interrupt {
    /// What the node asks.
    pub value: Value,
    /// Deterministic id; the key of a resume map.
    pub id: String,
    /// JSON Schema that the answer must satisfy, if the node gave one.
    #[serde(default)]
    pub response_schema: Option<Value>,
}

/// Where control goes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Goto {
    /// To a node, with the state.
    Node(Str),
    /// To a node, with its own input, whatever the state.
    Send {
        /// The node.
        node: Str,
        /// Its input.
        arg: Value,
    },
}

/// What a node may return, or a client may send, to steer a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Command {
    /// Which graph it is for: `None` this one, `"__parent__"` the one above.
    pub graph: Option<Str>,
    /// State update: a map, or pairs of channel and value.
    pub update: Option<Value>,
    /// Answer to interrupts: one value, or a map from interrupt id to value.
    pub resume: Option<Value>,
    /// Nodes to run next.
    pub goto: Vec<Goto>,
}

/// When checkpoints are written, relative to the next superstep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Before the next superstep starts.
    Sync,
    /// While the next superstep runs.
    #[default]
    Async,
    /// Only when the run ends.
    Exit,
}

/// Configuration of one run of a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunConfig {
    /// `configurable`: thread id, checkpoint ids, and whatever the graph reads.
    pub configurable: Map,
    /// Metadata for checkpoints and traces.
    pub metadata: Map,
    /// Tags for traces.
    pub tags: Vec<String>,
    /// Most supersteps; `None` means the library's default.
    pub recursion_limit: Option<u64>,
    /// Static context for nodes.
    pub context: Value,
}

/// Names one checkpoint of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// The thread.
    #[serde(default)]
    pub thread_id: String,
    /// Namespace of the (sub)graph; empty at the root.
    #[serde(default)]
    pub checkpoint_ns: String,
    /// The checkpoint; `None` means the latest.
    #[serde(default)]
    pub checkpoint_id: Option<String>,
}

/// The state of a graph at one checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateSnapshot {
    /// Output channels by name; an empty map before the first run.
    pub values: Value,
    /// Nodes that run next.
    pub next: Vec<Str>,
    /// Tasks of the next superstep, with their results or interrupts.
    pub tasks: Vec<TaskSnapshot>,
    /// Metadata of the checkpoint; null if there is none.
    pub metadata: Value,
    /// ISO 8601; `None` if there is no checkpoint.
    pub created_at: Option<String>,
    /// Where this is; `checkpoint_id` is `None` if there is no checkpoint.
    pub checkpoint: CheckpointRef,
    /// Where it came from.
    pub parent_checkpoint: Option<CheckpointRef>,
    /// Interrupts of all tasks.
    pub interrupts: Vec<Interrupt>,
}

/// A task of the next superstep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskSnapshot {
    /// Deterministic task id.
    pub id: String,
    /// The node.
    pub name: Str,
    /// Path as LangGraph writes it, for example `["__pregel_pull", "node"]`.
    pub path: Value,
    /// Text of the error, if the task failed.
    pub error: Option<String>,
    /// Unanswered interrupts.
    pub interrupts: Vec<Interrupt>,
    /// Checkpoint of the subgraph that the task runs, if any.
    pub checkpoint: Option<CheckpointRef>,
    /// State of that subgraph, when asked for.
    pub state: Option<Box<StateSnapshot>>,
    /// What the task wrote, if it finished.
    pub result: Option<Value>,
}

/// How a run of a graph ended without an error.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunOutcome {
    /// The output channels.
    pub values: Value,
    /// Unanswered interrupts; empty if the graph came to its end.
    pub interrupts: Vec<Interrupt>,
    /// Nodes that would run next; empty if the graph came to its end.
    pub next: Vec<Str>,
}

/// A picture of a graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Drawing {
    /// Nodes, the virtual first and last ones included.
    pub nodes: Vec<DrawnNode>,
    /// Edges.
    pub edges: Vec<DrawnEdge>,
}

/// A node of a [`Drawing`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrawnNode {
    /// Node name; `sub:inner` inside a subgraph.
    pub id: String,
    /// `runnable` for real nodes, absent for virtual ones.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// `{name}` for real nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// An edge of a [`Drawing`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrawnEdge {
    /// From.
    pub source: String,
    /// To.
    pub target: String,
    /// Whether a condition decides about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditional: Option<bool>,
    /// Label of the condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// JSON Schemas of a graph; a missing one is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GraphSchemas {
    /// What a run takes.
    pub input_schema: Option<serde_json::Value>,
    /// What a run gives.
    pub output_schema: Option<serde_json::Value>,
    /// The state.
    pub state_schema: Option<serde_json::Value>,
    /// `configurable`.
    pub config_schema: Option<serde_json::Value>,
    /// Static context.
    pub context_schema: Option<serde_json::Value>,
}
