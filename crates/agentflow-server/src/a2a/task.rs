//! Tasks out of runs and threads.

use agentflow_runs::host::HistoryQuery;
use agentflow_storage::record::{Run, RunQuery, RunStatus, ThreadStatus};
use agentflow_types::{
    Map, Result, RunId, Str, Value,
    graph::{CheckpointRef, Interrupt, StateSnapshot},
    message,
};

use super::{
    Caller,
    input::text_of,
    rpc::Refusal,
    wire::{Artifact, Message, Part, Role, State, Task},
};

/// Key of a run's metadata that names its task.
pub(super) const TASK: &str = "a2a_task_id";
/// Newest runs of a thread among which those of a task are looked for.
const LOOK_BACK: u32 = 100;
/// Id of the artifact that is the answer.
pub(super) const RESPONSE: &str = "response";

/// A task's first run, and the one that counts: the newest that belongs to it.
pub(super) struct Runs {
    pub(super) id: RunId,
    pub(super) newest: Run,
    /// Whether no other run of the thread is newer.
    is_last: bool,
}

impl Runs {
    /// A task that was just made or continued.
    pub(super) fn just(id: RunId, newest: Run) -> Self {
        Self {
            id,
            newest,
            is_last: true,
        }
    }
}

/// The runs of a task of this assistant.
pub(super) async fn find(caller: &Caller, text: &str) -> Result<Runs, Refusal> {
    let unknown = || Refusal::no_task(text);
    let id: RunId = text.parse().map_err(|_| unknown())?;
    let service = &caller.app.service;
    let assistant = service
        .resolve_assistant(&caller.scope, &caller.assistant)
        .await?;
    let first = match service.get_run(&caller.scope, None, id).await {
        Ok(run) if run.assistant_id == assistant.assistant_id => run,
        Ok(_) => return Err(unknown()),
        Err(err) if err.kind() == agentflow_types::ErrorKind::NotFound => return Err(unknown()),
        Err(err) => return Err(err.into()),
    };
    let query = RunQuery {
        thread_id: Some(first.thread_id),
        limit: LOOK_BACK,
        ..RunQuery::default()
    };
    let runs = service.list_runs(&caller.scope, &query).await?;
    let belongs = |run: &Run| run.run_id == id || task_of(run) == Some(text);
    let at = runs.iter().position(belongs);
    let is_last = at == Some(0);
    let newest = at.and_then(|at| runs.into_iter().nth(at)).unwrap_or(first);
    Ok(Runs {
        id,
        newest,
        is_last,
    })
}

/// The task that a run says it belongs to.
pub(super) fn task_of(run: &Run) -> Option<&str> {
    run.metadata.get(TASK).and_then(Value::as_str)
}

/// How much of a task is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Most messages of the history.
    pub(super) history: Option<usize>,
    pub(super) artifacts: Artifacts,
}

/// Whether artifacts are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Artifacts {
    Wanted,
    Unwanted,
}

impl Extent {
    pub(super) fn with_history(history: Option<usize>) -> Self {
        Self {
            history,
            artifacts: Artifacts::Wanted,
        }
    }
}

/// The task as it stands.
pub(super) async fn load(caller: &Caller, runs: &Runs, extent: Extent) -> Result<Task> {
    let run = &runs.newest;
    let asked = asked(caller, runs).await?;
    let state = state_of(run, &asked);
    let mut task = Task {
        id: runs.id.text(),
        context: run.thread_id.text(),
        state,
        at: run.updated_at,
        says: None,
        history: vec![],
        artifacts: vec![],
    };
    let is_over = !matches!(state, State::Submitted | State::Working);
    let values = values(caller, runs).await?;
    if extent.history != Some(0) {
        task.history = history(&values, extent.history);
    }
    match state {
        State::Failed => task.says = Some(failure(run)),
        State::InputRequired => task.says = asked.first().map(question),
        _ => {}
    }
    if is_over && extent.artifacts == Artifacts::Wanted {
        task.artifacts = artifacts(&caller.assistant, state, &values, &asked);
    }
    Ok(task)
}

/// The questions that a task waits for the answers of.
async fn asked(caller: &Caller, runs: &Runs) -> Result<Vec<Interrupt>> {
    let run = &runs.newest;
    if run.status != RunStatus::Success || !runs.is_last {
        return Ok(vec![]);
    }
    let service = &caller.app.service;
    let thread = service.get_thread(&caller.scope, run.thread_id).await?;
    Ok(match thread.status {
        ThreadStatus::Interrupted => thread.interrupts.into_values().flatten().collect(),
        _ => vec![],
    })
}

fn state_of(run: &Run, asked: &[Interrupt]) -> State {
    match run.status {
        RunStatus::Pending => State::Submitted,
        RunStatus::Running => State::Working,
        RunStatus::Success if asked.is_empty() => State::Completed,
        RunStatus::Success => State::InputRequired,
        RunStatus::Error | RunStatus::Timeout => State::Failed,
        RunStatus::Interrupted => State::Canceled,
    }
}

/// The state of the thread after the task's newest run.
async fn values(caller: &Caller, runs: &Runs) -> Result<Value> {
    let run = &runs.newest;
    let service = &caller.app.service;
    let found: Option<StateSnapshot> = if runs.is_last {
        Some(
            service
                .state(&caller.scope, run.thread_id, None, false)
                .await?,
        )
    } else {
        let query = HistoryQuery {
            checkpoint: CheckpointRef::default(),
            before: None,
            metadata: Map::from_iter([(Str::from("run_id"), Value::from(run.run_id.text()))]),
            limit: 1,
        };
        let states = service.history(&caller.scope, run.thread_id, query).await?;
        states.into_iter().next()
    };
    Ok(found.map(|state| state.values).unwrap_or_default())
}

fn messages(values: &Value) -> &[Value] {
    let list = values.get("messages").and_then(Value::as_list);
    list.unwrap_or_default()
}

/// The conversation: what people and the agent said.
fn history(values: &Value, most: Option<usize>) -> Vec<Message> {
    let said: Vec<Message> = messages(values).iter().filter_map(spoken).collect();
    let skipped = said.len().saturating_sub(most.unwrap_or(usize::MAX));
    said.into_iter().skip(skipped).collect()
}

/// A message of a graph, if it was said by one of both and has text.
pub(super) fn spoken(one: &Value) -> Option<Message> {
    let role = match message::kind(one)? {
        "human" => Role::User,
        "ai" => Role::Agent,
        _ => return None,
    };
    let text = text_of(one);
    let id = message::id(one).unwrap_or_default().to_owned();
    (!text.is_empty()).then(|| Message {
        id,
        role,
        parts: vec![Part::Text(text)],
    })
}

fn artifacts(assistant: &str, state: State, values: &Value, asked: &[Interrupt]) -> Vec<Artifact> {
    match state {
        State::InputRequired => asked.iter().map(interrupt).collect(),
        State::Completed => vec![response(assistant, answer_parts(values))],
        _ => vec![],
    }
}

/// The last answer, or the whole state of a graph that does not talk.
fn answer_parts(values: &Value) -> Vec<Part> {
    let last = messages(values).iter().rev().filter_map(spoken);
    let mut answers = last.filter(|one| one.role == Role::Agent);
    match answers.next() {
        Some(answer) => answer.parts,
        None => vec![Part::Data(values.to_json())],
    }
}

/// The artifact that is the answer, or a piece of it.
pub(super) fn response(assistant: &str, parts: Vec<Part>) -> Artifact {
    Artifact {
        id: RESPONSE.to_owned(),
        name: "Assistant Response",
        description: format!("Response from assistant {assistant}"),
        parts,
    }
}

fn interrupt(asked: &Interrupt) -> Artifact {
    Artifact {
        id: format!("interrupt-{}", asked.id),
        name: "Interrupt",
        description: "Agent requires input to continue".to_owned(),
        parts: vec![Part::Data(question_data(asked))],
    }
}

fn question_data(asked: &Interrupt) -> serde_json::Value {
    serde_json::json!({ "id": asked.id, "value": asked.value.to_json() })
}

/// The question as the agent's words.
fn question(asked: &Interrupt) -> Message {
    let text = match asked.value.as_str() {
        Some(text) => text.to_owned(),
        None => asked.value.json_text(),
    };
    Message {
        id: format!("question-{}", asked.id),
        role: Role::Agent,
        parts: vec![Part::Text(text), Part::Data(question_data(asked))],
    }
}

fn failure(run: &Run) -> Message {
    let text = |key: &str| {
        run.error
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let why = format!(
        "Error executing assistant: {}: {}",
        text("error"),
        text("message")
    );
    Message {
        id: format!("failure-{}", run.run_id),
        role: Role::Agent,
        parts: vec![Part::Text(why)],
    }
}
