//! Runs that a client waits for or listens to, and threads that it listens to.

use agentflow_runs::{
    config::CreateRun,
    service::{Subscription, Topic},
};
use agentflow_storage::{event::Event, record::Run as RunRecord};
use agentflow_types::{Result, RunId, Scope, ThreadId, Value};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::runs::with_path;
use crate::{
    AppState,
    body::{json_later, pipe},
    error::Reply,
    extract::{Asker, Id, Ids, Json, Params, Passed, last_event_id},
    legacy::{Encoder, Mode, parse_modes},
    sse::{Frame, bytes_of},
    stream::{self, Encode, Reader, RunStream, facts, pump},
    wire::{
        run::{OnDisconnect, RunCreate},
        system::Detail,
    },
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create_stream))
        .routes(routes!(create_wait))
        .routes(routes!(join))
        .routes(routes!(join_stream))
        .routes(routes!(thread_stream))
}

/// Where a client finds a run again.
pub(crate) struct Places {
    /// `Location`: where to reconnect or join.
    pub(crate) location: String,
    /// `Content-Location`: the run.
    pub(crate) content: String,
}

impl Places {
    fn on_thread(run: &RunRecord, suffix: &str) -> Self {
        let content = format!("/threads/{}/runs/{}", run.thread_id, run.run_id);
        Self {
            location: format!("{content}/{suffix}"),
            content,
        }
    }

    pub(crate) fn set(&self, response: &mut Response) {
        with_path(response, header::LOCATION, &self.location);
        with_path(response, header::CONTENT_LOCATION, &self.content);
    }
}

/// Start a run and stream its events.
#[utoipa::path(post, path = "/threads/{thread_id}/runs/stream", tag = "runs",
    params(("thread_id" = String, Path, description = "Thread id.")), request_body = RunCreate,
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = 404, body = Detail), (status = 409, body = Detail, description = "The thread is busy.")))]
async fn create_stream(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(thread): Id<ThreadId>,
    Passed(headers): Passed,
    Json(body): Json<RunCreate>,
) -> Reply {
    let (on, on_disconnect) = (body.on_thread(thread), body.on_disconnect());
    let request = body.into_domain(on, headers)?;
    let (run, mut response) = created_stream(&app, scope, request, on_disconnect).await?;
    Places::on_thread(&run, "stream").set(&mut response);
    Ok(response)
}

/// How a run is listened to.
pub(crate) struct Listen {
    /// The last event that the client saw; `None` for what comes from now on.
    pub(crate) after: Option<u64>,
    /// Modes that pass; all if empty.
    pub(crate) filter: Vec<Mode>,
    /// What to do when the client goes away.
    pub(crate) on_disconnect: OnDisconnect,
}

impl Listen {
    /// Reads how a client wants to join.
    pub(crate) fn joining(headers: &HeaderMap, params: &Params) -> Reply<Self> {
        let mut words = params.words("stream_mode");
        words.extend(params.words("stream_modes"));
        Ok(Self {
            after: last_event_id(headers),
            filter: parse_modes(&words)?,
            on_disconnect: on_disconnect(params)?,
        })
    }
}

fn on_disconnect(params: &Params) -> Reply<OnDisconnect> {
    Ok(match params.flag("cancel_on_disconnect")? {
        true => OnDisconnect::Cancel,
        false => OnDisconnect::Continue,
    })
}

/// The stream of a run's events.
pub(crate) async fn run_stream(
    app: &AppState,
    scope: Scope,
    run: &RunRecord,
    listen: Listen,
) -> Result<Response> {
    let facts = facts(run)?;
    // An encoder that accumulates must see the run from its beginning.
    let after = match listen.after {
        Some(_) if Encoder::is_stateful(&facts.modes) => Some(0),
        after => after,
    };
    let topic = Topic::Run(run.run_id);
    let events = app
        .service
        .subscribe(&scope, run.thread_id, topic, after)
        .await?;
    let encoder = RunStream::new(facts, listen.filter, listen.after.unwrap_or(0));
    let reader = Reader::of(scope, run, listen.on_disconnect);
    Ok(streamed(app, events, encoder, reader))
}

/// Creates a run; with the stream of all its events.
pub(crate) async fn created_stream(
    app: &AppState,
    scope: Scope,
    request: CreateRun,
    on_disconnect: OnDisconnect,
) -> Result<(RunRecord, Response)> {
    let (run, events) = app.service.create_followed(&scope, request).await?;
    let encoder = RunStream::new(facts(&run)?, vec![], 0);
    let reader = Reader::of(scope, &run, on_disconnect);
    let response = streamed(app, events, encoder, reader);
    Ok((run, response))
}

fn streamed(app: &AppState, events: Subscription, encoder: RunStream, reader: Reader) -> Response {
    let (writer, body) = pipe(&app.limits);
    let state = app.clone();
    app.tasks.spawn(async move {
        let ending = pump(&state, events, encoder, writer).await;
        reader.ended(&state, ending).await;
    });
    stream::response(body)
}

/// Start a run and wait for its result.
#[utoipa::path(post, path = "/threads/{thread_id}/runs/wait", tag = "runs",
    params(("thread_id" = String, Path, description = "Thread id.")), request_body = RunCreate,
    responses((status = 200, body = Object, description = "The values; with `__interrupt__` or `__error__` where it applies."),
        (status = 404, body = Detail), (status = 409, body = Detail, description = "The thread is busy.")))]
async fn create_wait(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(thread): Id<ThreadId>,
    Passed(headers): Passed,
    Json(body): Json<RunCreate>,
) -> Reply {
    let (on, on_disconnect) = (body.on_thread(thread), body.on_disconnect());
    let request = body.into_domain(on, headers)?;
    let (run, mut response) = created_result(&app, scope, request, on_disconnect).await?;
    Places::on_thread(&run, "join").set(&mut response);
    Ok(response)
}

/// The result of a run, as soon as it is known.
pub(crate) fn result_of(
    app: &AppState,
    scope: Scope,
    run: &RunRecord,
    on_disconnect: OnDisconnect,
) -> Response {
    let reader = Reader::of(scope.clone(), run, on_disconnect);
    let (service, thread, run) = (app.service.clone(), run.thread_id, run.run_id);
    let result = async move { service.join(&scope, Some(thread), run).await };
    later(app, result, reader)
}

/// Creates a run; with its result, as soon as it is known.
pub(crate) async fn created_result(
    app: &AppState,
    scope: Scope,
    request: CreateRun,
    on_disconnect: OnDisconnect,
) -> Result<(RunRecord, Response)> {
    let (run, awaited) = app.service.create_awaited(&scope, request).await?;
    let reader = Reader::of(scope.clone(), &run, on_disconnect);
    let service = app.service.clone();
    let result = async move { service.result(&scope, awaited).await };
    let response = later(app, result, reader);
    Ok((run, response))
}

fn later(
    app: &AppState,
    result: impl Future<Output = Result<Value>> + Send + 'static,
    reader: Reader,
) -> Response {
    let (writer, body) = pipe(&app.limits);
    let state = app.clone();
    app.tasks.spawn(async move {
        let ending = json_later(&state, writer, result).await;
        reader.ended(&state, ending).await;
    });
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], body).into_response()
}

/// Wait for the result of a run.
#[utoipa::path(get, path = "/threads/{thread_id}/runs/{run_id}/join", tag = "runs",
    params(("thread_id" = String, Path, description = "Thread id."), ("run_id" = String, Path, description = "Run id."),
        ("cancel_on_disconnect" = Option<bool>, Query, description = "Whether the run stops when this client goes away.")),
    responses((status = 200, body = Object), (status = 404, body = Detail)))]
async fn join(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Ids(thread, run): Ids<ThreadId, RunId>,
    params: Params,
) -> Reply {
    let on_disconnect = on_disconnect(&params)?;
    let run = app.service.get_run(&scope, Some(thread), run).await?;
    let mut response = result_of(&app, scope, &run, on_disconnect);
    Places::on_thread(&run, "join").set(&mut response);
    Ok(response)
}

/// Stream the events of a run from where the client left off.
#[utoipa::path(get, path = "/threads/{thread_id}/runs/{run_id}/stream", tag = "runs",
    params(("thread_id" = String, Path, description = "Thread id."), ("run_id" = String, Path, description = "Run id."),
        ("last-event-id" = Option<String>, Header, description = "Last event seen; -1 for all. Without it, events from now on."),
        ("stream_mode" = Option<String>, Query, description = "Only these modes."),
        ("cancel_on_disconnect" = Option<bool>, Query, description = "Whether the run stops when this client goes away.")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 404, body = Detail)))]
async fn join_stream(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Ids(thread, run): Ids<ThreadId, RunId>,
    headers: HeaderMap,
    params: Params,
) -> Reply {
    let listen = Listen::joining(&headers, &params)?;
    let run = app.service.get_run(&scope, Some(thread), run).await?;
    let mut response = run_stream(&app, scope, &run, listen).await?;
    Places::on_thread(&run, "stream").set(&mut response);
    Ok(response)
}

/// Stream the events of all runs of a thread. Stays open.
#[utoipa::path(get, path = "/threads/{thread_id}/stream", tag = "threads",
    params(("thread_id" = String, Path, description = "Thread id."),
        ("last-event-id" = Option<String>, Header, description = "Last event seen; -1 for all. Without it, events from now on."),
        ("stream_modes" = Option<String>, Query, description = "`run_modes` (default): everything; `lifecycle`: starts and ends; `state_update`: states.")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 404, body = Detail)))]
async fn thread_stream(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(thread): Id<ThreadId>,
    headers: HeaderMap,
    params: Params,
) -> Reply {
    let wanted = ThreadModes::parse(&params)?;
    let after = last_event_id(&headers);
    let events = app
        .service
        .subscribe(&scope, thread, Topic::Thread, after)
        .await?;
    let (writer, body) = pipe(&app.limits);
    let encoder = ThreadStream {
        app: app.clone(),
        scope,
        wanted,
        current: None,
    };
    let state = app.clone();
    app.tasks
        .spawn(async move { pump(&state, events, encoder, writer).await });
    Ok(stream::response(body))
}

/// What a listener of a thread wants.
#[derive(Clone, Copy, Default)]
struct ThreadModes {
    runs: bool,
    lifecycle: bool,
    states: bool,
}

impl ThreadModes {
    fn parse(params: &Params) -> Result<Self> {
        let mut words = params.words("stream_modes");
        words.extend(params.words("stream_mode"));
        if words.is_empty() {
            return Ok(Self {
                runs: true,
                ..Self::default()
            });
        }
        let mut wanted = Self::default();
        for word in words {
            match word.as_str() {
                "run_modes" => wanted.runs = true,
                "lifecycle" => wanted.lifecycle = true,
                "state_update" => wanted.states = true,
                other => {
                    return Err(agentflow_types::Error::unprocessable(format!(
                        "stream_modes: {other:?} is not one of run_modes, lifecycle, state_update"
                    )));
                }
            }
        }
        Ok(wanted)
    }

    fn wants(self, event: &str) -> bool {
        self.runs
            || (self.lifecycle && matches!(event, "metadata" | "error"))
            || (self.states && event == "values")
    }
}

/// All runs of a thread, one after the other.
struct ThreadStream {
    app: AppState,
    scope: Scope,
    wanted: ThreadModes,
    current: Option<(RunId, Encoder)>,
}

impl Encode for ThreadStream {
    async fn encode(&mut self, event: &Event) -> Result<Bytes> {
        if self
            .current
            .as_ref()
            .is_none_or(|(run, _)| *run != event.run_id)
        {
            // A run that is gone has nothing to say.
            let Ok(run) = self
                .app
                .service
                .get_run(&self.scope, None, event.run_id)
                .await
            else {
                return Ok(Bytes::new());
            };
            let facts = crate::legacy::RunFacts {
                resumable: true,
                ..facts(&run)?
            };
            self.current = Some((event.run_id, Encoder::new(facts)));
        }
        let mut frames = match &mut self.current {
            Some((_, encoder)) => encoder.encode(event),
            None => vec![],
        };
        if &*event.kind == "end" {
            let data = serde_json::json!({ "status": "run_done", "run_id": event.run_id });
            frames.push(Frame {
                id: Some(event.seq),
                ..Frame::new("metadata", data.to_string())
            });
        }
        frames.retain(|frame| self.wanted.wants(&frame.event));
        Ok(bytes_of(&frames))
    }
}
