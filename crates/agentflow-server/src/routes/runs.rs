//! Runs on threads.

use agentflow_runs::machine::Which;
use agentflow_storage::record::{CancelAction, RunQuery, RunStatus};
use agentflow_types::{Error, RunId, ThreadId};
use axum::{
    Json as Out,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    error::Reply,
    extract::{Asker, Id, Ids, Json, Params, Passed},
    page,
    wire::{
        run::{CancelStatus, Run, RunCreate, RunsCancel, cancel_action},
        system::Detail,
    },
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, delete))
        .routes(routes!(cancel))
        .routes(routes!(cancel_many))
}

/// Sets a header that holds a path of ours.
pub(crate) fn with_path(response: &mut Response, name: HeaderName, path: &str) {
    if let Ok(value) = HeaderValue::from_str(path) {
        response.headers_mut().insert(name, value);
    }
}

/// Start a run in the background.
#[utoipa::path(post, path = "/threads/{thread_id}/runs", tag = "runs",
    params(("thread_id" = String, Path, description = "Thread id.")), request_body = RunCreate,
    responses((status = 200, body = Run, headers(("content-location" = String, description = "Path of the run."))),
        (status = 404, body = Detail), (status = 409, body = Detail, description = "The thread is busy.")))]
async fn create(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(thread): Id<ThreadId>,
    Passed(headers): Passed,
    Json(body): Json<RunCreate>,
) -> Reply {
    let on = body.on_thread(thread);
    let run = app
        .service
        .create_run(&scope, body.into_domain(on, headers)?)
        .await?;
    let path = format!("/threads/{thread}/runs/{}", run.run_id);
    let mut response = Out(Run::from(run)).into_response();
    with_path(&mut response, header::CONTENT_LOCATION, &path);
    Ok(response)
}

/// Runs of a thread, newest first.
#[utoipa::path(get, path = "/threads/{thread_id}/runs", tag = "runs",
    params(("thread_id" = String, Path, description = "Thread id."),
        ("limit" = Option<u32>, Query, description = "Most runs; 10 if absent."),
        ("offset" = Option<u64>, Query, description = "Runs to skip."),
        ("status" = Option<String>, Query, description = "Only of this status."),
        ("select" = Option<String>, Query, description = "Only these fields.")),
    responses((status = 200, body = Vec<Run>), (status = 404, body = Detail)))]
async fn list(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(thread): Id<ThreadId>,
    params: Params,
) -> Reply {
    let query = RunQuery {
        thread_id: Some(thread),
        run_ids: vec![],
        status: params.get("status").map(status).transpose()?,
        limit: page::limit(params.number("limit")?, page::DEFAULT_LIMIT)?,
        offset: page::offset(params.number("offset")?)?,
    };
    let found = app.service.list_runs(&scope, &query).await?;
    let fields = params.words("select");
    let fields = (!fields.is_empty()).then_some(fields.as_slice());
    let rows = found
        .into_iter()
        .map(|run| page::select(Run::from(run), fields));
    Ok(Out(rows.collect::<Result<Vec<_>, Error>>()?).into_response())
}

fn status(word: &str) -> Result<RunStatus, Error> {
    serde_json::from_value(word.into())
        .map_err(|_| Error::unprocessable(format!("status: {word:?} is not a run status")))
}

/// Get a run.
#[utoipa::path(get, path = "/threads/{thread_id}/runs/{run_id}", tag = "runs",
    params(("thread_id" = String, Path, description = "Thread id."), ("run_id" = String, Path, description = "Run id.")),
    responses((status = 200, body = Run), (status = 404, body = Detail)))]
async fn get(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Ids(thread, run): Ids<ThreadId, RunId>,
) -> Reply<Out<Run>> {
    Ok(Out(app
        .service
        .get_run(&scope, Some(thread), run)
        .await?
        .into()))
}

/// Remove a run that is over.
#[utoipa::path(delete, path = "/threads/{thread_id}/runs/{run_id}", tag = "runs",
    params(("thread_id" = String, Path, description = "Thread id."), ("run_id" = String, Path, description = "Run id.")),
    responses((status = 204), (status = 404, body = Detail), (status = 409, body = Detail, description = "It is in flight.")))]
async fn delete(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Ids(thread, run): Ids<ThreadId, RunId>,
) -> Reply<StatusCode> {
    app.service.delete_run(&scope, thread, run).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stop a run.
#[utoipa::path(post, path = "/threads/{thread_id}/runs/{run_id}/cancel", tag = "runs",
    params(("thread_id" = String, Path, description = "Thread id."), ("run_id" = String, Path, description = "Run id."),
        ("wait" = Option<bool>, Query, description = "Whether to answer only when it has stopped."),
        ("action" = Option<String>, Query, description = "`interrupt` (default) or `rollback`.")),
    responses((status = 200, description = "It has stopped."), (status = 202, description = "It will stop."),
        (status = 404, body = Detail, description = "It is over, or does not exist.")))]
async fn cancel(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Ids(thread, run): Ids<ThreadId, RunId>,
    params: Params,
) -> Reply {
    let (wait, action) = (params.flag("wait")?, cancel_action(params.get("action"))?);
    app.service
        .cancel_runs(&scope, thread, Which::Ids(vec![run]), action)
        .await?;
    if !wait {
        return Ok((StatusCode::ACCEPTED, Out(serde_json::json!({}))).into_response());
    }
    match app.service.wait_end(&scope, thread, run).await {
        // After a rollback there is no run any more.
        Err(err) if err.kind() != agentflow_types::ErrorKind::NotFound => Err(err.into()),
        _ => Ok(Out(serde_json::json!({})).into_response()),
    }
}

/// Stop several runs.
#[utoipa::path(post, path = "/runs/cancel", tag = "runs", request_body = RunsCancel,
    params(("action" = Option<String>, Query, description = "`interrupt` (default) or `rollback`.")),
    responses((status = 204), (status = 404, body = Detail, description = "No run matches.")))]
async fn cancel_many(
    State(app): State<AppState>,
    Asker(scope): Asker,
    params: Params,
    Json(body): Json<RunsCancel>,
) -> Reply<StatusCode> {
    let action = cancel_action(params.get("action"))?;
    cancel_named(&app, &scope, body, action).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn cancel_named(
    app: &AppState,
    scope: &agentflow_types::Scope,
    body: RunsCancel,
    action: CancelAction,
) -> Result<(), Error> {
    match (body.status, body.thread_id, body.run_ids) {
        (Some(status), None, None) => {
            let status = match status {
                CancelStatus::Pending => Some(RunStatus::Pending),
                CancelStatus::Running => Some(RunStatus::Running),
                CancelStatus::All => None,
            };
            app.service.cancel_all(scope, status, action).await
        }
        (None, Some(thread), Some(ids)) => {
            let ids = ids
                .iter()
                .map(|id| id.parse())
                .collect::<Result<Vec<RunId>, _>>()?;
            app.service
                .cancel_runs(scope, thread.parse()?, Which::Ids(ids), action)
                .await
        }
        _ => Err(Error::unprocessable(
            "give either status, or thread_id with run_ids",
        )),
    }
}
