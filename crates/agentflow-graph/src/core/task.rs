//! Tasks and what they write.

use agentflow_storage::checkpoint::special;
use agentflow_types::{
    Error, Str, Value,
    graph::{END, Goto, Interrupt, START},
};
use std::sync::Arc;

use super::ids::{PULL, PUSH, TaskId};
use crate::layout::{ChanId, Layout, NodeId};

/// Marks that a task ended without writing anything.
pub(crate) const NO_WRITES: &str = "__no_writes__";
/// Name under which input is applied.
pub(crate) const INPUT: &str = "__input__";
/// Result of a functional task.
pub(crate) const RETURN: &str = "__return__";
/// Marks that a handler gets the error of a task.
pub(crate) const ERROR_SOURCE: &str = "__error_source_node__";

/// Where a write goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// A channel of the graph.
    Channel(ChanId),
    /// Nowhere: the task ended without a write.
    NoWrites,
    /// A question.
    Interrupt,
    /// Answers.
    Resume,
    /// An error.
    Error,
    /// A channel that the graph does not have, or a mark of Python's.
    Other(Str),
}

impl Target {
    /// The target of a stored name.
    pub(crate) fn parse(layout: &Layout, name: &Str) -> Self {
        match &**name {
            NO_WRITES => Self::NoWrites,
            special::INTERRUPT => Self::Interrupt,
            special::RESUME => Self::Resume,
            special::ERROR => Self::Error,
            _ => layout
                .channel(name)
                .map_or_else(|| Self::Other(name.clone()), Self::Channel),
        }
    }

    /// The stored name.
    pub(crate) fn name(&self, layout: &Layout) -> Str {
        match self {
            Self::Channel(id) => layout.channels[*id].name.clone(),
            Self::NoWrites => NO_WRITES.into(),
            Self::Interrupt => special::INTERRUPT.into(),
            Self::Resume => special::RESUME.into(),
            Self::Error => special::ERROR.into(),
            Self::Other(name) => name.clone(),
        }
    }

    /// Whether it tells what happened to a task instead of what it produced.
    pub(crate) fn is_control(&self) -> bool {
        matches!(self, Self::Interrupt | Self::Resume | Self::Error)
            || matches!(self, Self::Other(name) if &**name == ERROR_SOURCE)
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    pub(crate) target: Target,
    pub(crate) value: Value,
}

impl Write {
    pub(crate) fn new(target: Target, value: Value) -> Self {
        Self { target, value }
    }

    pub(crate) fn to(channel: ChanId, value: Value) -> Self {
        Self {
            target: Target::Channel(channel),
            value,
        }
    }
}

/// A write that is stored beside a checkpoint until the superstep ends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    pub(crate) task: TaskId,
    pub(crate) write: Write,
}

/// Path word of tasks that handle an error.
pub(crate) const HANDLER: &str = "node_error_handler";

/// Where a task, or a set of writes, comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Input, or writes of a command.
    Input,
    /// The `i`-th update from outside.
    Update(usize),
    /// A trigger; the number is the node's rank by name.
    Pull(usize),
    /// The `i`-th `Send`.
    Push(usize),
    /// The error of a task that a trigger made.
    PullHandler(usize),
    /// The error of a task that the `i`-th `Send` made.
    PushHandler(usize),
}

impl Path {
    /// Writes are applied in this order: a handler's where its task's would be.
    pub(crate) fn order(self) -> (u8, usize, u8) {
        match self {
            Self::Input => (0, 0, 0),
            Self::Update(i) => (1, i, 0),
            Self::Pull(rank) => (2, rank, 0),
            Self::PullHandler(rank) => (2, rank, 1),
            Self::Push(i) => (3, i, 0),
            Self::PushHandler(i) => (3, i, 1),
        }
    }

    /// The path of the handler of a task with this path.
    pub(crate) fn handler(self) -> Self {
        match self {
            Self::Push(i) | Self::PushHandler(i) => Self::PushHandler(i),
            Self::Pull(rank) | Self::PullHandler(rank) => Self::PullHandler(rank),
            Self::Input | Self::Update(_) => Self::PullHandler(0),
        }
    }

    /// Whether a task with this path is there because of a packet or an error, not of a trigger.
    pub(crate) fn is_push(self) -> bool {
        !matches!(self, Self::Pull(_))
    }

    /// The path as LangGraph shows it. `node`: the node, of a handler the one that failed.
    pub(crate) fn value(self, node: &Str) -> Value {
        let end = || [Value::str(HANDLER), Value::Bool(false)];
        Value::list(match self {
            Self::PullHandler(rank) => {
                let of = Self::Pull(rank).value(node);
                [of.as_list().unwrap_or_default(), &end()].concat()
            }
            Self::PushHandler(i) => {
                let of = Self::Push(i).value(node);
                [of.as_list().unwrap_or_default(), &end()].concat()
            }
            Self::Input => Vec::new(),
            Self::Update(i) => vec![Value::str(special::INTERRUPT), Value::Int(i as i64)],
            Self::Pull(_) => vec![Value::str(PULL), Value::Str(node.clone())],
            Self::Push(i) => vec![Value::str(PUSH), Value::Int(i as i64), Value::Bool(false)],
        })
    }

    /// The path as LangGraph stores it with writes; `node` as in [`value`](Self::value).
    pub(crate) fn text(self, node: &str) -> String {
        let handler = |of: Self| format!("{}, {HANDLER}, {:010}", of.text(node), 0);
        match self {
            Self::PullHandler(rank) => handler(Self::Pull(rank)),
            Self::PushHandler(i) => handler(Self::Push(i)),
            Self::Input => String::new(),
            Self::Update(i) => format!("~{}, {i:010}", special::INTERRUPT),
            Self::Pull(_) => format!("~{PULL}, {node}"),
            Self::Push(i) => format!("~{PUSH}, {i:010}, {:010}", 0),
        }
    }
}

/// A node that is to run in this superstep.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) node: NodeId,
    pub(crate) path: Path,
    /// Of a handler: the task whose error it gets.
    pub(crate) failed: Option<Failed>,
    pub(crate) input: Value,
    /// Answers that the task already has.
    pub(crate) resume: Vec<Value>,
    /// What it wrote; not empty once it ended.
    pub(crate) writes: Vec<Write>,
}

/// The task that a handler is for.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) node: NodeId,
    /// Its namespace.
    pub(crate) ns: String,
    pub(crate) error: Arc<Error>,
}

impl Task {
    /// The path as LangGraph stores it.
    pub(crate) fn path_text(&self, layout: &Layout) -> String {
        self.path.text(&layout.nodes[self.path_node()].name)
    }

    /// The node that the path names.
    pub(crate) fn path_node(&self) -> NodeId {
        self.failed.as_ref().map_or(self.node, |failed| failed.node)
    }

    /// Whether it has already run.
    pub(crate) fn is_done(&self) -> bool {
        !self.writes.is_empty()
    }
}

/// What the writes stored for a task tell about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// Its output; empty while it has not ended.
    pub(crate) output: Vec<Write>,
    /// Its last questions.
    pub(crate) interrupts: Vec<Value>,
    /// Its error.
    pub(crate) error: Option<Value>,
}

impl Status {
    /// The status of `task`, from the pending writes; `None` if it has none.
    pub(crate) fn read(pending: &[Pending], task: TaskId) -> Option<Self> {
        let mut status = Self::default();
        let mut found = false;
        for Pending { write, .. } in pending.iter().filter(|p| p.task == task) {
            found = true;
            match &write.target {
                Target::Interrupt => match &write.value {
                    Value::List(items) => status.interrupts.extend(items.iter().cloned()),
                    one => status.interrupts.push(one.clone()),
                },
                Target::Error => status.error = status.error.or(Some(write.value.clone())),
                target if target.is_control() => {}
                _ => status.output.push(write.clone()),
            }
        }
        found.then_some(status)
    }

    /// Whether the task ended.
    pub(crate) fn is_finished(&self) -> bool {
        !self.output.is_empty()
    }
}

/// Tasks that have pending writes, in order, each once.
pub(crate) fn tasks_of(pending: &[Pending]) -> Vec<TaskId> {
    let mut tasks: Vec<TaskId> = Vec::new();
    for Pending { task, .. } in pending.iter().filter(|p| p.task != TaskId::NULL) {
        if tasks.last() != Some(task) && !tasks.contains(task) {
            tasks.push(*task);
        }
    }
    tasks
}

/// Questions that still wait for an answer.
pub(crate) fn open_interrupts(pending: &[Pending]) -> Vec<Value> {
    let open = |task: TaskId| {
        let status = Status::read(pending, task)?;
        (!status.is_finished()).then_some(status.interrupts)
    };
    let mut found: Vec<Value> = Vec::new();
    for question in tasks_of(pending).into_iter().filter_map(open).flatten() {
        // A task and its caller have the same question.
        if !found
            .iter()
            .any(|known| known.get("id") == question.get("id"))
        {
            found.push(question);
        }
    }
    found
}

/// LangGraph's object for a `Send`.
pub(crate) fn send_value(node: &Str, arg: Value) -> Value {
    Value::Typed(Arc::new(agentflow_types::Typed {
        code: 1,
        module: SEND_MODULE.with(Clone::clone),
        name: SEND_NAME.with(Clone::clone),
        value: Value::list(vec![Value::Str(node.clone()), arg]),
        method: None,
    }))
}

thread_local! {
    static SEND_MODULE: Str = "langgraph.types".into();
    static SEND_NAME: Str = "Send".into();
}

/// Node and input of a `Send` object.
pub(crate) fn read_send(value: &Value) -> Option<(&Str, &Value)> {
    let Value::Typed(typed) = value else {
        return None;
    };
    if &*typed.name != "Send" || !typed.module.starts_with("langgraph") {
        return None;
    }
    match typed.value.as_list()? {
        [Value::Str(node), arg, ..] => Some((node, arg)),
        _ => None,
    }
}

/// LangGraph's object for a question.
pub(crate) fn interrupt_value(interrupt: &Interrupt) -> Value {
    Value::Typed(Arc::new(agentflow_types::Typed {
        code: 2,
        module: "langgraph.types".into(),
        name: "Interrupt".into(),
        value: Value::object([
            ("value", interrupt.value.clone()),
            ("id", Value::str(interrupt.id.as_str())),
            (
                "response_schema",
                interrupt.response_schema.clone().unwrap_or_default(),
            ),
        ]),
        method: None,
    }))
}

/// The question of a stored object.
pub(crate) fn read_interrupt(value: &Value) -> Interrupt {
    Interrupt {
        value: value.get("value").cloned().unwrap_or_default(),
        id: value
            .get("id")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        response_schema: value
            .get("response_schema")
            .filter(|s| !s.is_null())
            .cloned(),
    }
}

/// Whether a `goto` leads to a node (and not to the end).
pub(crate) fn leads_somewhere(goto: &Goto) -> bool {
    !matches!(goto, Goto::Node(node) if matches!(&**node, END | START))
}
