//! States of threads: now, at a checkpoint, through time.

use agentflow_runs::{host::HistoryQuery, service::PatchThread};
use agentflow_types::{Error, ThreadId, Value, graph::CheckpointRef};
use axum::{Json as Out, extract::State, response::IntoResponse};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    error::Reply,
    extract::{Asker, Id, Json, Params, Text},
    page,
    wire::{
        state::{HistorySearch, StateChoice, StateUpdateBody, StateUpdated, ThreadState, select},
        system::Detail,
        thread::ThreadPatch,
    },
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(get, update, patch))
        .routes(routes!(at_checkpoint))
        .routes(routes!(at))
        .routes(routes!(history, search_history))
}

/// State of a thread.
#[utoipa::path(get, path = "/threads/{thread_id}/state", tag = "states",
    params(("thread_id" = String, Path, description = "Thread id."),
        ("subgraphs" = Option<bool>, Query, description = "Whether states of subgraphs are wanted too."),
        ("select" = Option<String>, Query, description = "Fields, or parts as `values.messages`.")),
    responses((status = 200, body = ThreadState), (status = 404, body = Detail)))]
async fn get(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<ThreadId>,
    params: Params,
) -> Reply {
    let state = app
        .service
        .state(&scope, id, None, params.flag("subgraphs")?)
        .await?;
    match params.words("select") {
        fields if fields.is_empty() => Ok(Out(ThreadState::from(state)).into_response()),
        fields => Ok(Out(select(state.into(), &fields)?).into_response()),
    }
}

/// State of a thread at a checkpoint.
#[utoipa::path(get, path = "/threads/{thread_id}/state/{checkpoint_id}", tag = "states",
    params(("thread_id" = String, Path, description = "Thread id."),
        ("checkpoint_id" = String, Path, description = "Checkpoint id."),
        ("subgraphs" = Option<bool>, Query, description = "Whether states of subgraphs are wanted too.")),
    responses((status = 200, body = ThreadState), (status = 404, body = Detail)))]
async fn at(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text((thread, checkpoint)): Text<(String, String)>,
    params: Params,
) -> Reply<Out<ThreadState>> {
    let id: ThreadId = thread.parse()?;
    let at = CheckpointRef {
        checkpoint_id: Some(checkpoint),
        ..CheckpointRef::default()
    };
    let state = app
        .service
        .state(&scope, id, Some(at), params.flag("subgraphs")?)
        .await?;
    Ok(Out(state.into()))
}

/// State of a thread at a checkpoint, which the body names.
#[utoipa::path(post, path = "/threads/{thread_id}/state/checkpoint", tag = "states",
    params(("thread_id" = String, Path, description = "Thread id.")), request_body = StateChoice,
    responses((status = 200, body = ThreadState), (status = 404, body = Detail)))]
async fn at_checkpoint(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<ThreadId>,
    Json(body): Json<StateChoice>,
) -> Reply<Out<ThreadState>> {
    let subgraphs = body.subgraphs.unwrap_or(false);
    let at = Some(body.checkpoint.into());
    Ok(Out(app
        .service
        .state(&scope, id, at, subgraphs)
        .await?
        .into()))
}

/// Change the state of a thread.
#[utoipa::path(post, path = "/threads/{thread_id}/state", tag = "states",
    params(("thread_id" = String, Path, description = "Thread id.")), request_body = StateUpdateBody,
    responses((status = 200, body = StateUpdated), (status = 404, body = Detail),
        (status = 409, body = Detail, description = "A run is in flight.")))]
async fn update(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<ThreadId>,
    Json(body): Json<StateUpdateBody>,
) -> Reply<Out<StateUpdated>> {
    Ok(Out(app
        .service
        .update_state(&scope, id, body.into())
        .await?
        .into()))
}

/// Change the metadata of a thread, as an older client does it.
#[utoipa::path(patch, path = "/threads/{thread_id}/state", tag = "states",
    params(("thread_id" = String, Path, description = "Thread id.")), request_body = ThreadPatch,
    responses((status = 200, body = StateUpdated), (status = 404, body = Detail)))]
async fn patch(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<ThreadId>,
    Json(body): Json<ThreadPatch>,
) -> Reply<Out<StateUpdated>> {
    let patch: PatchThread = body.into_domain()?;
    app.service.patch_thread(&scope, id, patch).await?;
    let state = app.service.state(&scope, id, None, false).await?;
    Ok(Out(state.checkpoint.into()))
}

/// States of a thread, newest first.
#[utoipa::path(get, path = "/threads/{thread_id}/history", tag = "states",
    params(("thread_id" = String, Path, description = "Thread id."),
        ("limit" = Option<u32>, Query, description = "Most states; 10 if absent."),
        ("before" = Option<String>, Query, description = "Only states before this checkpoint.")),
    responses((status = 200, body = Vec<ThreadState>), (status = 404, body = Detail)))]
async fn history(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<ThreadId>,
    params: Params,
) -> Reply<Out<Vec<ThreadState>>> {
    let query = HistoryQuery {
        before: params
            .get("before")
            .filter(|text| !text.is_empty())
            .map(named)
            .transpose()?,
        limit: page::limit(params.number("limit")?, page::DEFAULT_LIMIT)?,
        ..HistoryQuery::default()
    };
    let found = app.service.history(&scope, id, query).await?;
    Ok(Out(found.into_iter().map(Into::into).collect()))
}

/// Find states of a thread, newest first.
#[utoipa::path(post, path = "/threads/{thread_id}/history", tag = "states",
    params(("thread_id" = String, Path, description = "Thread id.")), request_body = HistorySearch,
    responses((status = 200, body = Vec<ThreadState>), (status = 404, body = Detail)))]
async fn search_history(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<ThreadId>,
    Json(body): Json<HistorySearch>,
) -> Reply<Out<Vec<ThreadState>>> {
    let found = app.service.history(&scope, id, body.into_domain()?).await?;
    Ok(Out(found.into_iter().map(Into::into).collect()))
}

/// The checkpoint that `before` names: an id, or JSON that holds one.
fn named(text: &str) -> Result<String, Error> {
    if !text.starts_with('{') {
        return Ok(text.to_owned());
    }
    let value: Value = serde_json::from_str(text)
        .map_err(|_| Error::unprocessable("before: must be a checkpoint id"))?;
    let inner = value.get("configurable").unwrap_or(&value);
    let id = inner
        .get("checkpoint_id")
        .and_then(Value::as_str)
        .map(str::to_owned);
    id.ok_or_else(|| Error::unprocessable("before: must name a checkpoint_id"))
}
