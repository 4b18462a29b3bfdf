//! Streams of a task: the event log of its newest run, in the words of the protocol.

use agentflow_runs::service::{END, Topic};
use agentflow_storage::event::Event;
use agentflow_types::{Clock, Result, SystemClock, Value};
use axum::response::Response;
use bytes::Bytes;
use serde_json::Value as Json;

use super::{
    Call, Caller,
    input::Incoming,
    method::Dialect,
    rpc::{Refusal, code, failure, success},
    serve::submitted,
    task::{self, Extent, Runs},
    wire::{Part, Pen, Piece, Role, State, Task},
};
use crate::{
    accumulate::{is_chunk, text_of},
    body::pipe,
    sse::{Frame, bytes_of},
    stream::{self, Encode, pump},
};

/// Name of the events, as LangGraph's server has it.
const EVENT: &str = "message";

/// The stream of a task that was just made or continued.
pub(super) async fn of_new(
    caller: Caller,
    runs: Runs,
    said: Incoming,
    dialect: Dialect,
    call: Call,
) -> Result<Response, Refusal> {
    let first = submitted(&runs, &said);
    open(caller, runs, first, dialect, call).await
}

/// The stream of a task that goes on, from its beginning: what was sent before is sent again, and
/// replaces what the client has.
pub(super) async fn of_known(
    caller: Caller,
    runs: Runs,
    dialect: Dialect,
    call: Call,
) -> Result<Response, Refusal> {
    let first = task::load(&caller, &runs, Extent::with_history(None)).await?;
    if first.state.is_terminal() {
        let text = "the task is over; get it instead";
        return Err(Refusal::new(code::UNSUPPORTED, text));
    }
    open(caller, runs, first, dialect, call).await
}

async fn open(
    caller: Caller,
    runs: Runs,
    first: Task,
    dialect: Dialect,
    call: Call,
) -> Result<Response, Refusal> {
    let run = &runs.newest;
    let service = caller.app.service.clone();
    let topic = Topic::Run(run.run_id);
    let events = service
        .subscribe(&caller.scope, run.thread_id, topic, Some(0))
        .await?;
    let (writer, body) = pipe(&caller.app.limits);
    let app = caller.app.clone();
    let encoder = TaskStream {
        pen: Pen::of(&first, dialect),
        id: call.id,
        first: Some(first),
        sent: Sent::Nothing,
        caller,
        runs,
    };
    app.tasks
        .clone()
        .spawn(async move { pump(&app, events, encoder, writer).await });
    Ok(stream::response(body))
}

/// How much of the answer was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Nothing,
    Pieces,
}

struct TaskStream {
    caller: Caller,
    runs: Runs,
    pen: Pen,
    id: Json,
    /// The task as it was when the stream began; sent before anything else.
    first: Option<Task>,
    sent: Sent,
}

impl TaskStream {
    fn frame(&self, result: Json) -> Frame {
        Frame::new(EVENT, success(&self.id, result).to_string())
    }

    /// What one event of the log means.
    async fn translate(&mut self, event: &Event) -> Result<Vec<Json>> {
        let mut results = vec![];
        if let Some(first) = self.first.take() {
            results.push(self.pen.task_result(&first));
            let now = SystemClock.now();
            results.push(self.pen.status_update(State::Working, now, None));
        }
        match &*event.kind {
            "messages" if event.ns.is_empty() => results.extend(self.message(&event.data)),
            END => results.extend(self.end().await?),
            _ => {}
        }
        Ok(results)
    }

    /// A message of the graph, or a piece of one that a model is making.
    fn message(&mut self, data: &str) -> Option<Json> {
        let pair: Json = serde_json::from_str(data).ok()?;
        let said = pair.get(0)?;
        if is_chunk(said) {
            let text = agentflow_types::message::text(&Value::from_json(said));
            if text.is_empty() || !text_of(said, "type")?.starts_with("AI") {
                return None;
            }
            let piece = match std::mem::replace(&mut self.sent, Sent::Pieces) {
                Sent::Nothing => Piece::First,
                Sent::Pieces => Piece::More,
            };
            let artifact = task::response(&self.caller.assistant, vec![Part::Text(text)]);
            return Some(self.pen.artifact_update(&artifact, piece));
        }
        let said = task::spoken(&Value::from_json(said))?;
        (said.role == Role::Agent).then(|| {
            self.pen
                .status_update(State::Working, SystemClock.now(), Some(&said))
        })
    }

    /// The artifacts as they are in the end, and the last status.
    async fn end(&mut self) -> Result<Vec<Json>> {
        let service = &self.caller.app.service;
        let run = &self.runs.newest;
        let newest = service
            .get_run(&self.caller.scope, Some(run.thread_id), run.run_id)
            .await?;
        self.runs = Runs::just(self.runs.id, newest);
        let extent = Extent::with_history(Some(0));
        let task = task::load(&self.caller, &self.runs, extent).await?;
        let artifacts = task.artifacts.iter();
        let mut results: Vec<Json> = artifacts
            .map(|artifact| self.pen.artifact_update(artifact, Piece::Whole))
            .collect();
        results.push(
            self.pen
                .status_update(task.state, task.at, task.says.as_ref()),
        );
        Ok(results)
    }
}

impl Encode for TaskStream {
    async fn encode(&mut self, event: &Event) -> Result<Bytes> {
        let results = self.translate(event).await?;
        let frames: Vec<Frame> = results
            .into_iter()
            .map(|result| self.frame(result))
            .collect();
        Ok(bytes_of(&frames))
    }

    fn failed(&self, err: &agentflow_types::Error) -> Frame {
        let refusal = Refusal::new(code::INTERNAL, crate::error::detail_of(err));
        Frame::new(EVENT, failure(&self.id, &refusal).to_string())
    }
}
