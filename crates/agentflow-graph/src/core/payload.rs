//! The data of stream events, in the shapes that LangGraph documents.

use agentflow_types::{
    Map, Str, Value,
    graph::{RunConfig, StreamMode},
};

use super::{
    ids::{TaskId, checkpoint_text, task_ns},
    task::{Pending, RETURN, Status, Target, Task, Write},
};
use crate::layout::{ChanId, Layout};

/// Metadata that events and checkpoints do not repeat, because it is in the event anyway.
pub(crate) const INTERNAL_METADATA: [&str; 9] = [
    "thread_id",
    "checkpoint_id",
    "checkpoint_ns",
    "checkpoint_map",
    "langgraph_step",
    "langgraph_node",
    "langgraph_triggers",
    "langgraph_path",
    "langgraph_checkpoint_ns",
];

/// Whether a write is the result of a functional task.
pub(crate) fn is_return(target: &Target) -> bool {
    matches!(target, Target::Other(name) if &**name == RETURN)
}

/// A set of stream modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Modes(u16);

impl Modes {
    /// No mode.
    pub(crate) const NONE: Self = Self(0);

    /// The set of these modes.
    pub(crate) fn of(modes: &[StreamMode]) -> Self {
        Self(
            modes
                .iter()
                .fold(0, |bits, mode| bits | 1 << (*mode as u16)),
        )
    }

    /// Whether the mode is in the set.
    pub(crate) fn has(self, mode: StreamMode) -> bool {
        self.0 & (1 << (mode as u16)) != 0
    }

    /// Whether one of the modes is in the set.
    pub(crate) fn any(self, modes: &[StreamMode]) -> bool {
        modes.iter().any(|mode| self.has(*mode))
    }

    /// Modes in both sets.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// Metadata that a run's configuration gives to events: its metadata and the plain values of
/// `configurable`.
pub(crate) fn config_metadata(config: &RunConfig) -> Map {
    let mut map = config.metadata.clone();
    for (key, value) in &config.configurable {
        let plain = matches!(
            value,
            Value::Str(_) | Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_)
        );
        if plain && !key.starts_with("__") && !map.contains_key(key) {
            map.insert(key.clone(), value.clone());
        }
    }
    map
}

/// Entries of `configurable` that every event's metadata carries.
const PROPAGATED: [&str; 6] = [
    "thread_id",
    "checkpoint_id",
    "task_id",
    "run_id",
    "assistant_id",
    "graph_id",
];

/// The configured metadata and the identities of the run.
fn propagated_metadata(config: &RunConfig) -> Map {
    let mut map = config.metadata.clone();
    for key in PROPAGATED {
        if let Some(value) = config.configurable.get(key)
            && value.truthy()
            && !map.contains_key(key)
        {
            map.insert(key.into(), value.clone());
        }
    }
    map
}

/// Data of a task that is about to run.
pub(crate) fn task_start(layout: &Layout, task: &Task, config: &RunConfig) -> Value {
    let node = &layout.nodes[task.node];
    let triggers: Vec<Value> = if task.path.is_push() {
        vec![Value::str(super::ids::PUSH)]
    } else {
        let names = node.trigger_names.iter();
        names.map(|n| Value::Str(n.clone())).collect()
    };
    let mut map = Map::with_capacity(5);
    map.insert("id".into(), Value::from(task.id.to_string()));
    map.insert("name".into(), Value::Str(node.name.clone()));
    map.insert("input".into(), task.input.clone());
    map.insert("triggers".into(), Value::list(triggers));
    let mut metadata = propagated_metadata(config);
    metadata.extend(
        node.options
            .metadata
            .iter()
            .map(|(k, v)| (k.clone(), v.clone())),
    );
    metadata.retain(|key, _| !INTERNAL_METADATA.contains(&&**key));
    let tags: Vec<Value> = config
        .tags
        .iter()
        .chain(&node.options.tags)
        .filter(|tag| !tag.starts_with("langsmith:"))
        .map(|tag| Value::str(tag.as_str()))
        .collect();
    if !tags.is_empty() {
        metadata.insert("tags".into(), Value::list(tags));
    }
    if !metadata.is_empty() {
        map.insert("metadata".into(), Value::map(metadata));
    }
    Value::map(map)
}

/// A task's writes to these channels as a map; several writes to one are wrapped in `$writes`.
fn folded(layout: &Layout, writes: &[Write], wanted: impl Fn(&Target) -> bool) -> Map {
    let mut result: Map = Map::new();
    let mut counts: std::collections::HashMap<Str, Vec<Value>> = std::collections::HashMap::new();
    for write in writes.iter().filter(|w| wanted(&w.target)) {
        let name = write.target.name(layout);
        let all = counts.entry(name.clone()).or_default();
        all.push(write.value.clone());
        let value = if all.len() == 1 {
            write.value.clone()
        } else {
            Value::object([("$writes", Value::list(all.clone()))])
        };
        result.insert(name, value);
    }
    result
}

fn is_output(layout: &Layout) -> impl Fn(&Target) -> bool {
    |target| match target {
        Target::Channel(id) => layout.channels[*id].is_output,
        other @ Target::Other(_) => is_return(other),
        _ => false,
    }
}

fn is_state(layout: &Layout) -> impl Fn(&Target) -> bool {
    |target| match target {
        Target::Channel(id) => layout.channels[*id].is_state,
        other @ Target::Other(_) => is_return(other),
        _ => false,
    }
}

/// A task, as events name it.
#[derive(Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) id: TaskId,
    pub(crate) name: &'a Str,
}

/// Data of a functional task that is about to run.
pub(crate) fn call_start(who: Who<'_>, input: Value, config: &RunConfig) -> Value {
    let mut map = Map::with_capacity(5);
    map.insert("id".into(), Value::from(who.id.to_string()));
    map.insert("name".into(), Value::Str(who.name.clone()));
    // As Python calls it: positional arguments and named ones.
    let arguments = vec![Value::list(vec![input]), Value::map(Map::new())];
    map.insert("input".into(), Value::list(arguments));
    let triggers = vec![Value::str(super::ids::PUSH)];
    map.insert("triggers".into(), Value::list(triggers));
    let mut metadata = propagated_metadata(config);
    metadata.retain(|key, _| !INTERNAL_METADATA.contains(&&**key));
    if !metadata.is_empty() {
        map.insert("metadata".into(), Value::map(metadata));
    }
    Value::map(map)
}

/// Data of a task that ended.
pub(crate) fn task_result(layout: &Layout, who: Who<'_>, writes: &[Write]) -> Value {
    let error = writes
        .iter()
        .find(|w| w.target == Target::Error)
        .map(|w| w.value.clone());
    let interrupts = interrupt_list(writes);
    Value::object([
        ("id", Value::from(who.id.to_string())),
        ("name", Value::Str(who.name.clone())),
        ("error", error.unwrap_or_default()),
        (
            "result",
            Value::map(folded(layout, writes, is_state(layout))),
        ),
        (
            "interrupts",
            Value::list(interrupts.iter().map(|i| i.untyped().clone()).collect()),
        ),
    ])
}

/// The questions among writes.
pub(crate) fn interrupt_list(writes: &[Write]) -> Vec<Value> {
    let asked = writes.iter().filter(|w| w.target == Target::Interrupt);
    asked
        .flat_map(|w| w.value.as_list().unwrap_or_default().iter().cloned())
        .collect()
}

/// Data of the `updates` mode for one task; `None` if the mode does not show it.
pub(crate) fn update(layout: &Layout, who: Who<'_>, writes: &[Write], cached: Cached) -> Value {
    let shows = is_output(layout);
    let visible: Vec<&Write> = writes.iter().filter(|w| shows(&w.target)).collect();
    let returned = visible.iter().find(|w| is_return(&w.target));
    let repeated = visible.iter().enumerate().any(|(at, write)| {
        visible[..at]
            .iter()
            .any(|earlier| earlier.target == write.target)
    });
    let entry = |write: &Write| (write.target.name(layout), write.value.clone());
    let data = if let Some(returned) = returned {
        returned.value.clone()
    } else if let (Some(_), Some(result)) = (layout.function, visible.first()) {
        result.value.clone()
    } else if visible.is_empty() {
        Value::Null
    } else if repeated {
        Value::list(visible.iter().map(|w| Value::object([entry(w)])).collect())
    } else {
        Value::object(visible.iter().map(|w| entry(w)))
    };
    let mut map = Map::with_capacity(2);
    map.insert(who.name.clone(), data);
    if cached == Cached::Yes {
        map.insert(
            "__metadata__".into(),
            Value::object([("cached", Value::Bool(true))]),
        );
    }
    Value::map(map)
}

/// Whether an update comes from an earlier attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cached {
    Yes,
    No,
}

/// Where a checkpoint is, as `config` shows it.
pub(crate) struct At<'a> {
    pub(crate) config: &'a RunConfig,
    pub(crate) thread_id: Option<&'a str>,
    pub(crate) ns: &'a str,
    pub(crate) parents: Option<&'a Map>,
}

impl At<'_> {
    /// `{"configurable": {…}}` for a checkpoint id.
    pub(crate) fn config(&self, id: &str) -> Value {
        let mut map = self.config.configurable.clone();
        map.retain(|key, _| !key.starts_with("__pregel_"));
        map.insert("checkpoint_ns".into(), Value::str(self.ns));
        if let Some(thread) = self.thread_id {
            map.insert("thread_id".into(), Value::str(thread));
        }
        map.insert("checkpoint_id".into(), Value::str(id));
        if let Some(parents) = self.parents.filter(|p| !p.is_empty()) {
            let mut all = parents.clone();
            all.insert(self.ns.into(), Value::str(id));
            map.insert("checkpoint_map".into(), Value::map(all));
        }
        Value::object([("configurable", Value::map(map))])
    }
}

/// What the `checkpoints` mode shows of one checkpoint.
pub(crate) struct CheckpointView<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) at: At<'a>,
    pub(crate) id: u128,
    pub(crate) parent: Option<&'a str>,
    pub(crate) values: Value,
    pub(crate) metadata: Map,
    pub(crate) tasks: &'a [Task],
    pub(crate) pending: &'a [Pending],
}

impl CheckpointView<'_> {
    /// The data.
    pub(crate) fn data(self) -> Value {
        let tasks = self.tasks.iter().map(|task| self.task(task)).collect();
        let next = self
            .tasks
            .iter()
            .map(|t| Value::Str(self.layout.nodes[t.node].name.clone()));
        Value::object([
            ("config", self.at.config(&checkpoint_text(self.id))),
            (
                "parent_config",
                self.parent.map(|id| self.at.config(id)).unwrap_or_default(),
            ),
            ("values", self.values.clone()),
            ("metadata", Value::map(self.metadata.clone())),
            ("next", Value::list(next.collect())),
            ("tasks", Value::list(tasks)),
        ])
    }

    fn task(&self, task: &Task) -> Value {
        let status = Status::read(self.pending, task.id).unwrap_or_default();
        let mut map = Map::with_capacity(5);
        map.insert("id".into(), Value::from(task.id.to_string()));
        map.insert(
            "name".into(),
            Value::Str(self.layout.nodes[task.node].name.clone()),
        );
        if let Some(error) = status.error.clone().filter(Value::truthy) {
            map.insert("error".into(), error);
        } else {
            if let Some(result) = result(self.layout, &status, Wanted::Output)
                && result.truthy()
            {
                map.insert("result".into(), result);
            }
            let interrupts = status
                .interrupts
                .iter()
                .map(|i| i.untyped().clone())
                .collect();
            map.insert("interrupts".into(), Value::list(interrupts));
        }
        map.insert("state".into(), self.state(task));
        Value::map(map)
    }

    fn state(&self, task: &Task) -> Value {
        if self.layout.stored_subgraph(task.node).is_none() {
            return Value::Null;
        }
        let ns = task_ns(self.at.ns, &self.layout.nodes[task.node].name, task.id);
        let thread = self.at.thread_id.map(Value::str).unwrap_or_default();
        let inner = Value::object([("thread_id", thread), ("checkpoint_ns", Value::from(ns))]);
        Value::object([("configurable", inner)])
    }
}

/// Which channels a result shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those of the output.
    Output,
    /// Those of the state.
    State,
}

/// What a finished task wrote; `None` if it did not finish.
pub(crate) fn result(layout: &Layout, status: &Status, wanted: Wanted) -> Option<Value> {
    if !status.is_finished() {
        return None;
    }
    let returned = |w: &&Write| is_return(&w.target);
    if let Some(write) = status.output.iter().find(returned) {
        return Some(write.value.clone());
    }
    if let Some(function) = layout.function {
        let result = Target::Channel(function.result);
        let write = status.output.iter().find(|w| w.target == result);
        return Some(write.map(|w| w.value.clone()).unwrap_or_default());
    }
    Some(Value::map(match wanted {
        Wanted::Output => folded(layout, &status.output, is_output(layout)),
        Wanted::State => folded(layout, &status.output, is_state(layout)),
    }))
}

/// Wraps data for the `debug` mode.
pub(crate) fn debug(step: i64, timestamp: String, kind: &str, payload: Value) -> Value {
    Value::object([
        ("step", Value::Int(step)),
        ("timestamp", Value::from(timestamp)),
        ("type", Value::str(kind)),
        ("payload", payload),
    ])
}

/// Who sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// Something called inside a node, while it runs: its metadata has the whole configuration.
    Model,
    /// The node, with its output.
    Node,
}

/// Metadata of a message that a task sends.
pub(crate) struct MessageSource<'a> {
    pub(crate) speaker: Speaker,
    pub(crate) config: &'a RunConfig,
    pub(crate) node: &'a str,
    pub(crate) step: i64,
    pub(crate) triggers: Vec<Value>,
    pub(crate) path: Value,
    pub(crate) ns: &'a str,
    pub(crate) extra: &'a Map,
}

impl MessageSource<'_> {
    /// The map.
    pub(crate) fn metadata(self) -> Value {
        let mut map = match self.speaker {
            Speaker::Model => config_metadata(self.config),
            Speaker::Node => propagated_metadata(self.config),
        };
        if self.speaker == Speaker::Model {
            map.insert("checkpoint_ns".into(), Value::str(self.ns));
        }
        map.insert("langgraph_step".into(), Value::Int(self.step));
        map.insert("langgraph_node".into(), Value::str(self.node));
        map.insert("langgraph_triggers".into(), Value::list(self.triggers));
        map.insert("langgraph_path".into(), self.path);
        map.insert("langgraph_checkpoint_ns".into(), Value::str(self.ns));
        map.extend(self.extra.iter().map(|(k, v)| (k.clone(), v.clone())));
        Value::map(map)
    }
}

/// The output channels named by a set of changed channels.
pub(crate) fn touches_output(layout: &Layout, updated: &[ChanId]) -> bool {
    updated.iter().any(|id| layout.channels[*id].is_output)
}
