//! Answering calls.

use agentflow_runs::{
    config::{CreateRun, RunThread},
    machine::Which,
    service::{CreateThread, IfExists},
};
use agentflow_storage::record::{CancelAction, Run, RunStatus};
use agentflow_types::{RunId, ThreadId, Value};
use axum::{
    Json as Out,
    response::{IntoResponse, Response},
};
use http::HeaderMap;
use serde_json::Value as Json;

use super::{
    Call, Caller, card,
    input::{GraphInput, Incoming, Wait, history_of, wait_of},
    list,
    method::{self, Dialect, Method},
    rpc::{Refusal, code, failure, success},
    stream,
    task::{self, Extent, Runs, TASK},
    wire::{Pen, State, Task},
};
use crate::{
    body::{json_later, pipe},
    legacy::{Mode, graph_modes},
};

/// Header with the version of the protocol that a client speaks.
const VERSION: &str = "a2a-version";

/// Answers a call.
pub(crate) async fn answer(caller: Caller, headers: &HeaderMap, call: Call) -> Response {
    let id = call.id.clone();
    match dispatch(caller, headers, call).await {
        Ok(response) => response,
        Err(refusal) => Out(failure(&id, &refusal)).into_response(),
    }
}

async fn dispatch(caller: Caller, headers: &HeaderMap, call: Call) -> Result<Response, Refusal> {
    check_version(headers)?;
    let Some((method, dialect)) = method::find(&call.method) else {
        let text = format!("Method not found: {}", call.method);
        return Err(Refusal::new(code::METHOD_NOT_FOUND, text));
    };
    let result = match method {
        Method::Send => return send(caller, dialect, call).await,
        Method::Stream => {
            let (runs, said) = start(&caller, &call.params).await?;
            return stream::of_new(caller, runs, said, dialect, call).await;
        }
        Method::Resubscribe => {
            let runs = task::find(&caller, task_id(&call.params)?).await?;
            return stream::of_known(caller, runs, dialect, call).await;
        }
        Method::Get => get(&caller, dialect, &call.params).await?,
        Method::List => list::page(&caller, &call.params, dialect).await?,
        Method::Cancel => cancel(&caller, dialect, &call.params).await?,
        Method::Card => card::of(&caller).await?,
        Method::Push => {
            let text = "Push notifications are not supported";
            return Err(Refusal::new(code::NO_PUSH, text));
        }
    };
    Ok(Out(success(&call.id, result)).into_response())
}

fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers.get(VERSION).and_then(|value| value.to_str().ok());
    match given.map(|text| text.trim().split('.').next().unwrap_or_default()) {
        None | Some("" | "0" | "1") => Ok(()),
        Some(_) => {
            let text = "Unsupported protocol version; supported: 0.3, 1.0";
            Err(Refusal::new(code::VERSION, text))
        }
    }
}

fn task_id(params: &Json) -> Result<&str, Refusal> {
    let id = params.get("id").and_then(Json::as_str);
    id.ok_or_else(|| Refusal::params("Missing required parameter: id"))
}

/// Starts a task with a message, or continues one that waits for an answer.
async fn start(caller: &Caller, params: &Json) -> Result<(Runs, Incoming), Refusal> {
    let said = Incoming::parse(params)?;
    let runs = match &said.task {
        Some(task) => resume(caller, &said, task).await?,
        None => begin(caller, &said).await?,
    };
    Ok((runs, said))
}

async fn begin(caller: &Caller, said: &Incoming) -> Result<Runs, Refusal> {
    let service = &caller.app.service;
    let (graph, schemas) = service.schemas(&caller.scope, &caller.assistant).await?;
    let properties = schemas
        .input_schema
        .as_ref()
        .and_then(|schema| schema.get("properties"));
    let input = said.input(&GraphInput {
        assistant: &caller.assistant,
        graph: &graph,
        fields: properties
            .and_then(Json::as_object)
            .map(|map| map.keys().cloned().collect()),
    })?;
    let thread: ThreadId = match &said.context {
        Some(id) => id
            .parse()
            .map_err(|_| Refusal::params("contextId is not a UUID"))?,
        None => ThreadId::mint(),
    };
    // Made apart from the run, because metadata of a run that makes its thread becomes the
    // thread's, and then that of all its runs.
    let create = CreateThread {
        thread_id: Some(thread),
        if_exists: IfExists::DoNothing,
        ..CreateThread::default()
    };
    service.create_thread(&caller.scope, create).await?;
    let id = RunId::mint();
    let mut create = create_run(caller, thread, id);
    create.run_id = Some(id);
    create.input = input;
    let run = service.create_run(&caller.scope, create).await?;
    Ok(Runs::just(id, run))
}

async fn resume(caller: &Caller, said: &Incoming, task: &str) -> Result<Runs, Refusal> {
    let runs = task::find(caller, task).await?;
    let thread = runs.newest.thread_id;
    if said
        .context
        .as_ref()
        .is_some_and(|context| *context != thread.text())
    {
        return Err(Refusal::params("the task belongs to another context"));
    }
    let nothing = Extent::with_history(Some(0));
    let known = task::load(caller, &runs, nothing).await?;
    if known.state != State::InputRequired {
        let text = match known.state.is_terminal() {
            true => "the task is over; start another one in its context",
            false => "the task is still working",
        };
        return Err(Refusal::new(code::UNSUPPORTED, text));
    }
    let mut create = create_run(caller, thread, runs.id);
    create.command = Value::object([("resume", said.answer())]);
    let run = caller.app.service.create_run(&caller.scope, create).await?;
    Ok(Runs::just(runs.id, run))
}

fn create_run(caller: &Caller, thread: ThreadId, task: RunId) -> CreateRun {
    let modes = [Mode::Values, Mode::MessagesTuple];
    let mut create = CreateRun::new(&caller.assistant, RunThread::Existing(thread));
    create
        .metadata
        .insert(TASK.into(), Value::from(task.text()));
    create.stream_mode = modes.iter().map(|mode| mode.as_str().to_owned()).collect();
    create.modes = graph_modes(&modes);
    create.headers = caller.headers.clone();
    create
}

async fn send(caller: Caller, dialect: Dialect, call: Call) -> Result<Response, Refusal> {
    let extent = Extent::with_history(history_of(&call.params));
    let wait = wait_of(&call.params);
    let (runs, said) = start(&caller, &call.params).await?;
    if wait == Wait::NotAtAll {
        let task = submitted(&runs, &said);
        let result = Pen::of(&task, dialect).task_result(&task);
        return Ok(Out(success(&call.id, result)).into_response());
    }
    // The answer may take long; line ends before it keep the connection alive.
    let (writer, body) = pipe(&caller.app.limits);
    let app = caller.app.clone();
    app.tasks.clone().spawn(async move {
        let answer = async {
            let done = finished(&caller, runs, extent).await;
            let answer = match done {
                Ok(task) => success(&call.id, Pen::of(&task, dialect).task_result(&task)),
                Err(refusal) => failure(&call.id, &refusal),
            };
            Ok(Value::from_json(&answer))
        };
        json_later(&app, writer, answer).await
    });
    let json = http::HeaderValue::from_static("application/json");
    Ok(([(http::header::CONTENT_TYPE, json)], body).into_response())
}

/// The task when its newest run is over.
async fn finished(caller: &Caller, mut runs: Runs, extent: Extent) -> Result<Task, Refusal> {
    let service = &caller.app.service;
    let (thread, id) = (runs.newest.thread_id, runs.newest.run_id);
    service.wait_end(&caller.scope, thread, id).await?;
    runs.newest = service.get_run(&caller.scope, Some(thread), id).await?;
    Ok(task::load(caller, &runs, extent).await?)
}

/// A task whose run was just made.
pub(super) fn submitted(runs: &Runs, said: &Incoming) -> Task {
    Task {
        id: runs.id.text(),
        context: runs.newest.thread_id.text(),
        state: State::Submitted,
        at: runs.newest.updated_at,
        says: None,
        history: vec![said.as_message()],
        artifacts: vec![],
    }
}

async fn get(caller: &Caller, dialect: Dialect, params: &Json) -> Result<Json, Refusal> {
    let runs = task::find(caller, task_id(params)?).await?;
    let extent = Extent::with_history(history_of(params));
    let task = task::load(caller, &runs, extent).await?;
    Ok(Pen::of(&task, dialect).task(&task))
}

fn is_live(run: &Run) -> bool {
    matches!(run.status, RunStatus::Pending | RunStatus::Running)
}

async fn cancel(caller: &Caller, dialect: Dialect, params: &Json) -> Result<Json, Refusal> {
    let mut runs = task::find(caller, task_id(params)?).await?;
    let not_cancelable = || {
        let text = "Task is not cancelable in its current state";
        Refusal::new(code::NOT_CANCELABLE, text)
    };
    if !is_live(&runs.newest) {
        return Err(not_cancelable());
    }
    let service = &caller.app.service;
    let (thread, id) = (runs.newest.thread_id, runs.newest.run_id);
    let which = Which::Ids(vec![id]);
    match service
        .cancel_runs(&caller.scope, thread, which, CancelAction::Interrupt)
        .await
    {
        Err(err) if err.kind() == agentflow_types::ErrorKind::NotFound => {
            return Err(not_cancelable());
        }
        stopped => stopped?,
    }
    service.wait_end(&caller.scope, thread, id).await?;
    runs.newest = service.get_run(&caller.scope, Some(thread), id).await?;
    let task = task::load(caller, &runs, Extent::with_history(None)).await?;
    Ok(Pen::of(&task, dialect).task(&task))
}
