//! Commands: start a run, answer an interrupt; about states see [`super::states`].

use agentflow_runs::config::{CreateRun, RunThread};
use agentflow_storage::record::{MultitaskStrategy, Thread, ThreadStatus};
use agentflow_types::{
    Error, ErrorKind, Map, Permission, RunId, Scope, Str, ThreadId, Value, from_value,
    graph::StreamMode,
};
use serde_json::{Value as Json, json};

use super::states;
use crate::{
    AppState,
    error::{detail_of, status_of},
    wire::run::{check_config, checkpoint_of},
};

/// Modes that runs of this protocol report, as a client of the run's own stream would name them.
const WORDS: [&str; 6] = [
    "values",
    "updates",
    "messages-tuple",
    "custom",
    "tasks",
    "checkpoints",
];
/// Modes that runs of this protocol report.
const MODES: [StreamMode; 7] = [
    StreamMode::Values,
    StreamMode::Updates,
    StreamMode::Messages,
    StreamMode::Tools,
    StreamMode::Custom,
    StreamMode::Tasks,
    StreamMode::Checkpoints,
];
/// Most answers of one command.
const MAX_ANSWERS: usize = 1000;

/// Who sends commands, and to which thread.
pub(crate) struct Caller {
    pub(crate) scope: Scope,
    pub(crate) thread: ThreadId,
    /// Request headers for runs.
    pub(crate) headers: Map,
}

/// A command.
pub(crate) struct Envelope {
    pub(crate) id: i64,
    pub(crate) method: String,
    pub(crate) params: Value,
}

/// Why a command is refused.
pub(crate) struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<Error> for Refusal {
    fn from(err: Error) -> Self {
        let code = match err.kind() {
            ErrorKind::Denied => "permission_denied",
            _ => "unknown_error",
        };
        let status = status_of(err.kind());
        Self::new(code, format!("{}: {}", status.as_u16(), detail_of(&err)))
    }
}

impl Envelope {
    /// Reads a command; the error is the answer for what is none.
    pub(crate) fn parse(body: &Value) -> Result<Self, Json> {
        let id = body.get("id").and_then(Value::as_i64).filter(|id| *id >= 0);
        let method = body.get("method").and_then(Value::as_str);
        match (id, method) {
            (Some(id), Some(method)) => Ok(Self {
                id,
                method: method.to_owned(),
                params: body.get("params").cloned().unwrap_or_default(),
            }),
            _ => Err(json!({
                "type": "error",
                "id": null,
                "error": "invalid_argument",
                "message": "Protocol commands must include an integer id and string method.",
            })),
        }
    }
}

/// The answer to a command: success or error, never an HTTP error.
pub(crate) async fn answer(app: &AppState, caller: &Caller, command: Envelope) -> Json {
    let params = &command.params;
    let writes = ["run.start", "input.respond"].contains(&command.method.as_str());
    if writes && !caller.scope.may(Permission::RunsWrite) {
        let text = format!("Missing permission: {}", Permission::RunsWrite);
        return encode(command.id, Err(Refusal::new("permission_denied", text)));
    }
    let result = match command.method.as_str() {
        "run.start" => start(app, caller, params).await,
        "input.respond" => respond(app, caller, params).await,
        "agent.getTree" => states::tree(app, caller).await,
        "state.get" => states::get(app, caller, params).await,
        "state.listCheckpoints" => states::list(app, caller, params).await,
        "state.fork" => states::fork(app, caller, params).await,
        "input.inject" => Err(Refusal::new(
            "not_supported",
            "A run takes no messages while it executes; start a run with multitaskStrategy.",
        )),
        other => Err(Refusal::new(
            "unknown_command",
            format!("Unknown protocol command: {other}"),
        )),
    };
    encode(command.id, result)
}

/// Encodes a result.
pub(crate) fn encode(id: i64, result: Result<Json, Refusal>) -> Json {
    match result {
        Ok(result) => json!({
            // Zero: everything a client has not seen is still to come.
            "type": "success", "id": id, "result": result, "meta": { "applied_through_seq": 0 },
        }),
        Err(refusal) => json!({
            "type": "error", "id": id, "error": refusal.code, "message": refusal.message,
        }),
    }
}

fn map_of(params: &Value, key: &str) -> Result<Map, Refusal> {
    match params.get(key) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(value) => value
            .as_map()
            .cloned()
            .ok_or_else(|| Refusal::new("invalid_argument", format!("{key} must be an object"))),
    }
}

pub(super) async fn thread_of(app: &AppState, caller: &Caller) -> Result<Option<Thread>, Refusal> {
    match app.service.get_thread(&caller.scope, caller.thread).await {
        Ok(thread) => Ok(Some(thread)),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// A run with everything that this protocol's listeners may want.
pub(super) fn new_run(
    caller: &Caller,
    assistant: &str,
    params: &Value,
) -> Result<CreateRun, Refusal> {
    let mut run = CreateRun::new(assistant, RunThread::CreateIfMissing(caller.thread));
    run.config = map_of(params, "config")?;
    check_config(&run.config)?;
    run.metadata = map_of(params, "metadata")?;
    run.checkpoint = checkpoint_of(None, None, &run.config);
    run.stream_mode = WORDS.iter().map(|&word| word.to_owned()).collect();
    run.modes = MODES.to_vec();
    run.subgraphs = true;
    run.resumable = true;
    run.headers = caller.headers.clone();
    Ok(run)
}

pub(super) async fn create(
    app: &AppState,
    caller: &Caller,
    run: CreateRun,
) -> Result<RunId, Refusal> {
    let run = app.service.create_run(&caller.scope, run).await?;
    app.started.send_modify(|count| *count += 1);
    Ok(run.run_id)
}

/// Starts a run; on an interrupted thread, input answers the interrupt.
async fn start(app: &AppState, caller: &Caller, params: &Value) -> Result<Json, Refusal> {
    let assistant = params
        .get("assistant_id")
        .and_then(Value::as_str)
        .ok_or_else(|| {
            Refusal::new(
                "invalid_argument",
                "run.start requires a string assistant_id.",
            )
        })?;
    let mut run = new_run(caller, assistant, params)?;
    let strategy = params
        .get("multitaskStrategy")
        .or_else(|| params.get("multitask_strategy"));
    if let Some(strategy) = strategy.filter(|strategy| !strategy.is_null()) {
        run.multitask = from_value::<MultitaskStrategy>(strategy).map_err(|_| {
            Refusal::new(
                "invalid_argument",
                format!("unknown multitaskStrategy: {strategy}"),
            )
        })?;
    }
    let input = params.get("input").cloned().unwrap_or_default();
    let waits = match run.checkpoint {
        // A fork starts where the client says, whatever the thread waits for.
        Some(_) => false,
        None => thread_of(app, caller).await?.is_some_and(|thread| {
            thread.status == ThreadStatus::Interrupted && !thread.interrupts.is_empty()
        }),
    };
    if waits && !input.is_null() {
        run.command = Value::object([("resume", input)]);
    } else {
        run.input = input;
    }
    let run_id = create(app, caller, run).await?;
    Ok(json!({ "run_id": run_id }))
}

/// Answers one or several interrupts.
async fn respond(app: &AppState, caller: &Caller, params: &Value) -> Result<Json, Refusal> {
    let none = || Refusal::new("no_such_run", "No interrupted run is bound to this thread.");
    let thread = thread_of(app, caller).await?.ok_or_else(none)?;
    let answers = answers(params)?;
    let open: Vec<&str> = thread
        .interrupts
        .values()
        .flatten()
        .map(|interrupt| interrupt.id.as_str())
        .collect();
    if let Some(unknown) = answers.keys().find(|id| !open.contains(&&***id)) {
        let text = format!("Unknown or already-consumed interrupt: {unknown}");
        return Err(Refusal::new("no_such_interrupt", text));
    }
    let assistant = thread.metadata.get("assistant_id").and_then(Value::as_str);
    let mut run = new_run(caller, assistant.ok_or_else(none)?, params)?;
    let part = |key: &str| params.get(key).cloned().unwrap_or_default();
    run.command = Value::object([
        ("resume", Value::map(answers)),
        ("update", part("update")),
        ("goto", part("goto")),
    ]);
    let run_id = create(app, caller, run).await?;
    Ok(json!({ "run_id": run_id }))
}

/// Answers by interrupt id.
fn answers(params: &Value) -> Result<Map, Refusal> {
    let wrong = |text: &str| Refusal::new("invalid_argument", text);
    let one = |entry: &Value| {
        let id = entry
            .get("interrupt_id")
            .and_then(Value::as_str)
            .ok_or_else(|| {
                wrong("input.respond requires interrupt_id and response, or responses.")
            })?;
        Ok((
            Str::from(id),
            entry.get("response").cloned().unwrap_or_default(),
        ))
    };
    match params.get("responses").filter(|list| !list.is_null()) {
        None => Ok(Map::from_iter([one(params)?])),
        Some(list) => {
            let entries = list.as_list().filter(|list| !list.is_empty());
            let entries = entries.ok_or_else(|| wrong("responses must be a non-empty array."))?;
            if entries.len() > MAX_ANSWERS {
                return Err(wrong("too many responses"));
            }
            entries.iter().map(one).collect()
        }
    }
}
