//! Event streaming protocol v2: commands and event streams of a thread.

use agentflow_types::ThreadId;
use axum::{
    Json as Out,
    extract::{State, WebSocketUpgrade},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    access::too_much,
    body::pipe,
    error::{Failure, Reply},
    extract::{Asker, Id, Json, Passed},
    stream,
    v2::{Filter, command, serve, socket},
    wire::system::Detail,
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(commands))
        .routes(routes!(events, events_socket))
        .routes(routes!(events_alias))
}

/// Send a command: `run.start`, `input.respond`, `agent.getTree`.
#[utoipa::path(post, path = "/threads/{thread_id}/commands", tag = "protocol v2",
    params(("thread_id" = String, Path, description = "Thread id; the thread is made if it does not exist.")),
    request_body = Object,
    responses((status = 200, body = Object, description = "`{type: success, id, result, meta}` or `{type: error, id, error, message}`."),
        (status = 400, body = Object, description = "Not a command.")))]
async fn commands(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(thread): Id<ThreadId>,
    Passed(headers): Passed,
    Json(body): Json<agentflow_types::Value>,
) -> Response {
    match command::Envelope::parse(&body) {
        Ok(envelope) => {
            let caller = command::Caller {
                scope,
                thread,
                headers,
            };
            Out(command::answer(&app, &caller, envelope).await).into_response()
        }
        Err(refusal) => (StatusCode::BAD_REQUEST, Out(refusal)).into_response(),
    }
}

/// Stream the events of a thread: all there were, then those that come.
#[utoipa::path(post, path = "/threads/{thread_id}/stream/events", tag = "protocol v2",
    params(("thread_id" = String, Path, description = "Thread id; need not exist yet.")),
    request_body = Filter,
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = 400, body = Detail, description = "Bad channels.")))]
async fn events(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(thread): Id<ThreadId>,
    Passed(headers): Passed,
    Json(filter): Json<Filter>,
) -> Reply {
    filter
        .check()
        .map_err(|text| Failure::Http(StatusCode::BAD_REQUEST, text))?;
    let (writer, body) = pipe(&app.limits);
    let state = app.clone();
    let watching = serve::Watching::of(&headers);
    app.tasks
        .spawn(async move { serve::sse(&state, &scope, thread, filter, watching, writer).await });
    Ok(stream::response(body))
}

/// Same as `/stream/events`, where the protocol's definition has it.
#[utoipa::path(post, path = "/threads/{thread_id}/stream", tag = "protocol v2",
    params(("thread_id" = String, Path, description = "Thread id; need not exist yet.")),
    request_body = Filter,
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = 400, body = Detail, description = "Bad channels.")))]
async fn events_alias(
    app: State<AppState>,
    asker: Asker,
    thread: Id<ThreadId>,
    headers: Passed,
    filter: Json<Filter>,
) -> Reply {
    events(app, asker, thread, headers, filter).await
}

/// The same over a WebSocket: commands in, answers and events out.
#[utoipa::path(get, path = "/threads/{thread_id}/stream/events", tag = "protocol v2",
    params(("thread_id" = String, Path, description = "Thread id; need not exist yet.")),
    responses((status = 101, description = "WebSocket.")))]
async fn events_socket(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(thread): Id<ThreadId>,
    Passed(headers): Passed,
    upgrade: WebSocketUpgrade,
) -> Response {
    let place = match app.stream_place(&scope) {
        Ok(place) => place,
        Err(limited) => return too_much(&limited),
    };
    let limit = app.limits.body_bytes;
    upgrade
        .max_message_size(limit)
        .max_frame_size(limit)
        .on_upgrade(move |ws| async move {
            let caller = command::Caller {
                scope,
                thread,
                headers,
            };
            let tasks = app.tasks.clone();
            tasks.track_future(socket::serve(app, caller, ws)).await;
            drop(place);
        })
}
