//! What a run was asked for, how it is stored, and how the layers of configuration combine.

use agentflow_storage::{
    checkpoint::Fence,
    record::{Assistant, MultitaskStrategy, Run, Thread},
};
use agentflow_types::{
    AssistantId, Error, Map, Result, Rights, RunId, Scope, Str, ThreadId, Timestamp, Value,
    from_value,
    graph::{CheckpointRef, Command, Durability, Goto, RunConfig, StreamMode},
    to_value,
};
use serde::{Deserialize, Serialize};

use crate::host::{InterruptAt, RunInput, RunRequest};

/// Which thread a new run belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunThread {
    /// An existing one.
    Existing(ThreadId),
    /// This one, made when it does not exist.
    CreateIfMissing(ThreadId),
    /// A new one that goes when the run ends.
    Temporary,
    /// A new one that stays.
    Kept,
}

/// A new run, as a client asks for it.
#[derive(Clone, Debug)]
pub struct CreateRun {
    /// Assistant id or graph id.
    pub assistant: String,
    /// Thread.
    pub thread: RunThread,
    /// Id; minted if absent.
    pub run_id: Option<RunId>,
    /// Input; null for none.
    pub input: Value,
    /// `{update, resume, goto}`; null for none. Wins over `input`.
    pub command: Value,
    /// `{tags, recursion_limit, configurable, metadata}`.
    pub config: Map,
    /// Static context.
    pub context: Map,
    /// Metadata.
    pub metadata: Map,
    /// Checkpoint to fork from.
    pub checkpoint: Option<CheckpointRef>,
    /// Static interrupts before nodes: null, `"*"`, or a list.
    pub interrupt_before: Value,
    /// Static interrupts after nodes: null, `"*"`, or a list.
    pub interrupt_after: Value,
    /// Modes as the client named them (`messages-tuple`, `events` included).
    pub stream_mode: Vec<String>,
    /// Modes that the graph must report.
    pub modes: Vec<StreamMode>,
    /// Whether subgraphs report too.
    pub subgraphs: bool,
    /// Whether frames carry ids, so that clients can resume.
    pub resumable: bool,
    /// Strategy on a busy thread.
    pub multitask: MultitaskStrategy,
    /// Delay before the run may start.
    pub after_seconds: Option<f64>,
    /// When checkpoints are written.
    pub durability: Durability,
    /// Where to report the end.
    pub webhook: Option<String>,
    /// Request headers for `configurable` (`x-…`), already filtered.
    pub headers: Map,
}

impl CreateRun {
    /// A run of `assistant` on `thread` with nothing else said.
    #[must_use]
    pub fn new(assistant: &str, thread: RunThread) -> Self {
        Self {
            assistant: assistant.to_owned(),
            thread,
            run_id: None,
            input: Value::Null,
            command: Value::Null,
            config: Map::new(),
            context: Map::new(),
            metadata: Map::new(),
            checkpoint: None,
            interrupt_before: Value::Null,
            interrupt_after: Value::Null,
            stream_mode: vec!["values".into()],
            modes: vec![StreamMode::Values],
            subgraphs: false,
            resumable: false,
            multitask: MultitaskStrategy::Enqueue,
            after_seconds: None,
            durability: Durability::Async,
            webhook: None,
            headers: Map::new(),
        }
    }
}

/// What a graph must report so that these modes, as clients name them, can be served. Updates are
/// always among them, because interrupts travel there. Words that name no mode are passed over.
#[must_use]
pub fn reported<'a>(words: impl Iterator<Item = &'a str>) -> Vec<StreamMode> {
    const EVENTS: [StreamMode; 5] = [
        StreamMode::Values,
        StreamMode::Messages,
        StreamMode::Tasks,
        StreamMode::Tools,
        StreamMode::Custom,
    ];
    let mut wanted = vec![];
    for word in words {
        match word {
            "messages-tuple" => wanted.push(StreamMode::Messages),
            "events" => wanted.extend(EVENTS),
            word => wanted.extend(from_value::<StreamMode>(&Value::str(word))),
        }
    }
    wanted.push(StreamMode::Updates);
    let mut seen = std::collections::BTreeSet::new();
    wanted.retain(|mode| seen.insert(*mode));
    wanted
}

/// What is stored with a run, besides its columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kwargs {
    /// Graph.
    pub graph_id: String,
    /// Input.
    pub input: Value,
    /// Command as given.
    pub command: Value,
    /// Merged configuration `{tags, recursion_limit, configurable, metadata}`.
    pub config: Value,
    /// Merged context.
    pub context: Value,
    /// Checkpoint to fork from.
    pub checkpoint: Option<CheckpointRef>,
    /// As given.
    pub interrupt_before: Value,
    /// As given.
    pub interrupt_after: Value,
    /// Modes as the client named them.
    pub stream_mode: Vec<String>,
    /// Modes that the graph reports.
    pub modes: Vec<StreamMode>,
    /// Whether subgraphs report.
    pub subgraphs: bool,
    /// Whether frames carry ids.
    pub resumable: bool,
    /// When checkpoints are written.
    pub durability: Durability,
    /// Where to report the end.
    pub webhook: Option<String>,
    /// What the run may do, as [`Rights::to_value`] stores it: what its creator may. It is no
    /// part of the configuration, so that nothing a client sends gets here, and it is not shown.
    pub rights: Value,
}

/// Where [`Kwargs::rights`] is.
const RIGHTS: &str = "rights";

/// The arguments of a run as clients see them.
#[must_use]
pub fn shown(mut kwargs: Map) -> Map {
    kwargs.shift_remove(RIGHTS);
    kwargs
}

impl Kwargs {
    /// The kwargs of a run.
    ///
    /// # Errors
    /// `Corrupt` if they are not what this version writes.
    pub fn of(run: &Run) -> Result<Self> {
        from_value(&Value::map(run.kwargs.clone())).map_err(|err| {
            Error::corrupt("the run's arguments cannot be read")
                .with("run_id", run.run_id)
                .source_err(err)
        })
    }

    fn into_map(self) -> Result<Map> {
        Ok(to_value(&self)?.as_map().cloned().unwrap_or_default())
    }
}

/// Everything about a new run but its thread row.
pub(crate) struct Planned {
    pub(crate) run: Run,
    pub(crate) graph_id: String,
}

/// Combines assistant, thread and request into the run to store.
///
/// Later layers win key by key: assistant, thread, request.
///
/// # Errors
/// `Invalid` for a command, a configuration or an interrupt list that is not well formed.
pub(crate) fn plan(
    scope: &Scope,
    request: CreateRun,
    assistant: &Assistant,
    thread: Option<&Thread>,
    thread_id: ThreadId,
    now: Timestamp,
) -> Result<Planned> {
    parse_command(&request.command)?;
    interrupt_at(&request.interrupt_before)?;
    interrupt_at(&request.interrupt_after)?;
    let run_id = request.run_id.unwrap_or_else(RunId::mint);
    let metadata = layered_metadata(&request, assistant, thread);
    let (mut configurable, context) = layered_configuration(&request, assistant, thread)?;
    inject(&mut configurable, run_id, thread_id, assistant);
    inject_user(&mut configurable, scope);
    let delay_s = request.after_seconds.unwrap_or(0.0);
    configurable.insert("__request_start_time_ms__".into(), Value::Int(now.millis()));
    configurable.insert("__after_seconds__".into(), Value::Float(delay_s));
    let layers = [&assistant.config, &request.config];
    let config = Value::object([
        ("configurable", Value::map(configurable)),
        ("metadata", Value::map(metadata.clone())),
        ("tags", last_of(&layers, "tags")),
        ("recursion_limit", last_of(&layers, "recursion_limit")),
    ]);
    let delay = std::time::Duration::try_from_secs_f64(delay_s)
        .map_err(|_| Error::unprocessable("after_seconds must be zero or more"))?;
    let kwargs = Kwargs {
        graph_id: assistant.graph_id.clone(),
        input: request.input,
        command: request.command,
        config,
        context: Value::map(context),
        checkpoint: request.checkpoint,
        interrupt_before: request.interrupt_before,
        interrupt_after: request.interrupt_after,
        stream_mode: request.stream_mode,
        modes: request.modes,
        subgraphs: request.subgraphs,
        resumable: request.resumable,
        durability: request.durability,
        webhook: request.webhook,
        rights: Rights::of(scope).to_value(),
    };
    let run = Run {
        run_id,
        thread_id,
        assistant_id: assistant.assistant_id,
        created_at: now.plus(delay),
        updated_at: now,
        status: agentflow_storage::record::RunStatus::Pending,
        metadata,
        kwargs: kwargs.into_map()?,
        multitask_strategy: request.multitask,
        attempt: 0,
        cancel: None,
        lease: None,
        error: Value::Null,
        temporary_thread: request.thread == RunThread::Temporary,
    };
    Ok(Planned {
        run,
        graph_id: assistant.graph_id.clone(),
    })
}

/// Metadata of the run and of its checkpoints.
fn layered_metadata(request: &CreateRun, assistant: &Assistant, thread: Option<&Thread>) -> Map {
    let mut metadata = assistant.metadata.clone();
    if let Some(thread) = thread {
        merge(&mut metadata, &thread.metadata);
    }
    if let Some(own) = request.config.get("metadata").and_then(Value::as_map) {
        merge(&mut metadata, own);
    }
    merge(&mut metadata, &request.metadata);
    metadata.insert("graph_id".into(), Value::str(assistant.graph_id.as_str()));
    let id = Value::str(assistant.assistant_id.text());
    metadata.insert("assistant_id".into(), id);
    metadata
}

/// `configurable` and context. What is said in one of them holds for both, so that graphs may
/// read either.
fn layered_configuration(
    request: &CreateRun,
    assistant: &Assistant,
    thread: Option<&Thread>,
) -> Result<(Map, Map)> {
    let own: Map = settings(&request.config).cloned().unwrap_or_default();
    let said: Map = own
        .iter()
        .filter(|(key, _)| !POSITION_KEYS.contains(&&***key) && !key.starts_with("__"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if !said.is_empty() && !request.context.is_empty() {
        return Err(Error::invalid(
            "Cannot specify both configurable and context. Prefer setting context alone.",
        ));
    }
    let mut configurable = assistant.context.clone();
    for layer in [Some(&assistant.config), thread.map(|thread| &thread.config)] {
        merge(
            &mut configurable,
            layer.and_then(settings).unwrap_or(&Map::new()),
        );
    }
    merge(&mut configurable, &own);
    merge(&mut configurable, &request.context);
    merge(&mut configurable, &request.headers);
    let mut context = assistant.context.clone();
    merge(&mut context, &said);
    merge(&mut context, &request.context);
    Ok((configurable, context))
}

/// `configurable` of a configuration.
fn settings(config: &Map) -> Option<&Map> {
    config.get("configurable").and_then(Value::as_map)
}

/// Keys of `configurable` that say where a run is, not how it is configured.
const POSITION_KEYS: [&str; 4] = [
    "thread_id",
    "checkpoint_id",
    "checkpoint_ns",
    "checkpoint_map",
];

fn merge(into: &mut Map, from: &Map) {
    for (key, value) in from {
        into.insert(key.clone(), value.clone());
    }
}

fn last_of(layers: &[&Map], key: &str) -> Value {
    layers
        .iter()
        .rev()
        .find_map(|layer| layer.get(key))
        .cloned()
        .unwrap_or_default()
}

/// Adds what the server knows, as LangGraph's server names it.
fn inject(configurable: &mut Map, run_id: RunId, thread_id: ThreadId, assistant: &Assistant) {
    let mut set = |key: &str, value: Value| {
        configurable.insert(Str::from(key), value);
    };
    set("run_id", Value::str(run_id.text()));
    set("thread_id", Value::str(thread_id.text()));
    set("graph_id", Value::str(assistant.graph_id.as_str()));
    set("assistant_id", Value::str(assistant.assistant_id.text()));
}

/// Adds who asks, as LangGraph's server names it; nobody without authentication.
fn inject_user(configurable: &mut Map, scope: &Scope) {
    let id = match scope.is_anonymous() {
        true => Value::str(""),
        false => Value::str(scope.principal()),
    };
    let permissions: Vec<Value> = match scope.is_anonymous() {
        true => vec![],
        false => scope
            .permissions()
            .words()
            .into_iter()
            .map(Value::str)
            .collect(),
    };
    let permissions = Value::list(permissions);
    let user = match (scope.is_anonymous(), scope.user()) {
        (true, _) => Value::Null,
        (false, known) => {
            let mut user = known.cloned().unwrap_or_default();
            user.insert("identity".into(), id.clone());
            user.insert("is_authenticated".into(), Value::Bool(true));
            user.entry("display_name".into())
                .or_insert_with(|| id.clone());
            user.insert("permissions".into(), permissions.clone());
            Value::map(user)
        }
    };
    let mut set = |key: &str, value: Value| {
        configurable.insert(Str::from(key), value);
    };
    set("user_id", id.clone());
    set("langgraph_auth_user", user);
    set("langgraph_auth_user_id", id);
    set("langgraph_auth_permissions", permissions);
}

/// The request for a graph host.
///
/// # Errors
/// As [`plan`]; `Corrupt` for a stored run that cannot be read.
pub(crate) fn request(scope: &Scope, run: &Run) -> Result<RunRequest> {
    let kwargs = Kwargs::of(run)?;
    let part = |key: &str| kwargs.config.get(key).cloned().unwrap_or_default();
    let command = parse_command(&kwargs.command)?;
    let input = match command {
        Some(command) => RunInput::Command(command),
        None if kwargs.input.is_null() => RunInput::Resume,
        None => RunInput::Input(kwargs.input),
    };
    let thread_id = run.thread_id.text();
    Ok(RunRequest {
        scope: scope.clone().with_rights(&Rights::of_value(&kwargs.rights)),
        graph_id: kwargs.graph_id,
        run_id: run.run_id,
        attempt: run.attempt,
        input,
        config: RunConfig {
            configurable: part("configurable").as_map().cloned().unwrap_or_default(),
            metadata: {
                let mut metadata = part("metadata").as_map().cloned().unwrap_or_default();
                metadata.insert("run_attempt".into(), Value::Int(run.attempt.into()));
                metadata
            },
            tags: part("tags")
                .as_list()
                .unwrap_or_default()
                .iter()
                .filter_map(|tag| tag.as_str().map(str::to_owned))
                .collect(),
            recursion_limit: part("recursion_limit")
                .as_i64()
                .and_then(|n| u64::try_from(n).ok()),
            context: kwargs.context,
        },
        checkpoint: kwargs.checkpoint.map(|mut at| {
            // A client names the checkpoint; the thread is the run's.
            at.thread_id = thread_id;
            at
        }),
        interrupt_before: interrupt_at(&kwargs.interrupt_before)?,
        interrupt_after: interrupt_at(&kwargs.interrupt_after)?,
        modes: kwargs.modes,
        subgraphs: kwargs.subgraphs,
        durability: kwargs.durability,
        fence: run.lease.as_ref().map(|lease| Fence {
            run_id: run.run_id,
            token: lease.token,
        }),
    })
}

/// Reads `"*"` or a list of node names.
fn interrupt_at(value: &Value) -> Result<InterruptAt> {
    let wrong = || {
        Error::unprocessable(
            "interrupt_before and interrupt_after take \"*\" or a list of node names",
        )
    };
    match value {
        Value::Null => Ok(InterruptAt::Never),
        Value::Str(text) if &**text == "*" => Ok(InterruptAt::All),
        Value::List(items) if items.is_empty() => Ok(InterruptAt::Never),
        Value::List(items) => {
            let names = items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong));
            Ok(InterruptAt::Nodes(names.collect::<Result<_>>()?))
        }
        _ => Err(wrong()),
    }
}

/// Reads a command as clients send it; null is none.
///
/// # Errors
/// `Unprocessable` if it has another shape.
pub fn parse_command(value: &Value) -> Result<Option<Command>> {
    if value.is_null() {
        return Ok(None);
    }
    let wrong = |what: &str| Error::unprocessable(format!("command: {what}"));
    let map = value
        .as_map()
        .ok_or_else(|| wrong("must be an object with update, resume, goto"))?;
    let goto = match map.get("goto").filter(|goto| !goto.is_null()) {
        None => vec![],
        Some(Value::List(items)) => items.iter().map(parse_goto).collect::<Result<_>>()?,
        Some(one) => vec![parse_goto(one)?],
    };
    let given = |key: &str| map.get(key).filter(|value| !value.is_null()).cloned();
    Ok(Some(Command {
        graph: None,
        update: given("update"),
        resume: given("resume"),
        goto,
    }))
}

fn parse_goto(value: &Value) -> Result<Goto> {
    if let Some(node) = value.as_str() {
        return Ok(Goto::Node(node.into()));
    }
    let node = value
        .get("node")
        .and_then(Value::as_str)
        .ok_or_else(|| Error::unprocessable("command: goto takes a node name or {node, input}"))?;
    let arg = value
        .get("input")
        .or_else(|| value.get("arg"))
        .cloned()
        .unwrap_or_default();
    Ok(Goto::Send {
        node: node.into(),
        arg,
    })
}

/// The id of the assistant that `text` names, if it is a UUID.
#[must_use]
pub(crate) fn assistant_id(text: &str) -> Option<AssistantId> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    #[test]
    fn commands_have_many_shapes() {
        let command = parse_command(&value!({
            "resume": 1, "goto": [{"node": "a", "input": 2}, "b"],
        }));
        let command = command.unwrap().unwrap();
        assert_eq!(command.resume, Some(value!(1)));
        assert_eq!(
            command.goto,
            [
                Goto::Send {
                    node: "a".into(),
                    arg: value!(2)
                },
                Goto::Node("b".into())
            ]
        );
        assert!(parse_command(&value!(3)).is_err());
        assert!(parse_command(&value!({"goto": 3})).is_err());
        assert_eq!(parse_command(&Value::Null).unwrap(), None);
    }
}
