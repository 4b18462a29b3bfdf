//! Runs without a thread of their own.

use agentflow_storage::record::Run as RunRecord;
use agentflow_types::{Error, RunId};
use axum::{Json as Out, extract::State, response::IntoResponse};
use http::{HeaderMap, header};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    runs::with_path,
    streams::{Listen, Places, created_result, created_stream, result_of, run_stream},
};
use crate::{
    AppState,
    error::Reply,
    extract::{Asker, Id, Json, Params, Passed},
    wire::{
        run::{MAX_BATCH, OnDisconnect, Run, RunCreate},
        system::Detail,
    },
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(create_stream))
        .routes(routes!(create_wait))
        .routes(routes!(create_batch))
        .routes(routes!(get))
        .routes(routes!(join))
        .routes(routes!(join_stream))
}

fn places(run: &RunRecord) -> Places {
    let content = format!("/runs/{}", run.run_id);
    Places {
        location: format!("{content}/stream"),
        content,
    }
}

/// Start a stateless run in the background.
#[utoipa::path(post, path = "/runs", tag = "stateless runs", request_body = RunCreate,
    responses((status = 200, body = Run), (status = 404, body = Detail)))]
async fn create(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Passed(headers): Passed,
    Json(body): Json<RunCreate>,
) -> Reply {
    let thread = body.stateless();
    let run = app
        .service
        .create_run(&scope, body.into_domain(thread, headers)?)
        .await?;
    let content = places(&run).content;
    let mut response = Out(Run::from(run)).into_response();
    with_path(&mut response, header::CONTENT_LOCATION, &content);
    Ok(response)
}

/// Start a stateless run and stream its events.
#[utoipa::path(post, path = "/runs/stream", tag = "stateless runs", request_body = RunCreate,
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 404, body = Detail)))]
async fn create_stream(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Passed(headers): Passed,
    Json(body): Json<RunCreate>,
) -> Reply {
    let (thread, on_disconnect) = (body.stateless(), body.on_disconnect());
    let request = body.into_domain(thread, headers)?;
    let (run, mut response) = created_stream(&app, scope, request, on_disconnect).await?;
    places(&run).set(&mut response);
    Ok(response)
}

/// Start a stateless run and wait for its result.
#[utoipa::path(post, path = "/runs/wait", tag = "stateless runs", request_body = RunCreate,
    responses((status = 200, body = Object), (status = 404, body = Detail)))]
async fn create_wait(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Passed(headers): Passed,
    Json(body): Json<RunCreate>,
) -> Reply {
    let (thread, on_disconnect) = (body.stateless(), body.on_disconnect());
    let request = body.into_domain(thread, headers)?;
    let (run, mut response) = created_result(&app, scope, request, on_disconnect).await?;
    let content = format!("/threads/{}/runs/{}", run.thread_id, run.run_id);
    Places {
        location: format!("{content}/join"),
        content,
    }
    .set(&mut response);
    Ok(response)
}

/// Start several stateless runs in the background.
#[utoipa::path(post, path = "/runs/batch", tag = "stateless runs", request_body = Vec<RunCreate>,
    responses((status = 200, body = Vec<Run>), (status = 404, body = Detail)))]
async fn create_batch(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Passed(headers): Passed,
    Json(body): Json<Vec<RunCreate>>,
) -> Reply<Out<Vec<Run>>> {
    if body.len() > MAX_BATCH {
        let text = format!("a batch may have at most {MAX_BATCH} runs");
        return Err(Error::unprocessable(text).into());
    }
    let requests = body.into_iter().map(|run| {
        let thread = run.stateless();
        run.into_domain(thread, headers.clone())
    });
    let requests = requests.collect::<Result<Vec<_>, Error>>()?;
    let runs = app.service.create_batch(&scope, requests).await?;
    Ok(Out(runs.into_iter().map(Into::into).collect()))
}

/// Get a run by its id alone.
#[utoipa::path(get, path = "/runs/{run_id}", tag = "stateless runs",
    params(("run_id" = String, Path, description = "Run id.")),
    responses((status = 200, body = Run), (status = 404, body = Detail)))]
async fn get(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(run): Id<RunId>,
) -> Reply<Out<Run>> {
    Ok(Out(app.service.get_run(&scope, None, run).await?.into()))
}

/// Wait for the result of a run by its id alone.
#[utoipa::path(get, path = "/runs/{run_id}/join", tag = "stateless runs",
    params(("run_id" = String, Path, description = "Run id.")),
    responses((status = 200, body = Object), (status = 404, body = Detail)))]
async fn join(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(run): Id<RunId>,
    params: Params,
) -> Reply {
    let on_disconnect = match params.flag("cancel_on_disconnect")? {
        true => OnDisconnect::Cancel,
        false => OnDisconnect::Continue,
    };
    let run = app.service.get_run(&scope, None, run).await?;
    Ok(result_of(&app, scope, &run, on_disconnect))
}

/// Stream the events of a run by its id alone, from where the client left off.
#[utoipa::path(get, path = "/runs/{run_id}/stream", tag = "stateless runs",
    params(("run_id" = String, Path, description = "Run id."),
        ("last-event-id" = Option<String>, Header, description = "Last event seen; -1 for all."),
        ("stream_mode" = Option<String>, Query, description = "Only these modes.")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 404, body = Detail)))]
async fn join_stream(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(run): Id<RunId>,
    headers: HeaderMap,
    params: Params,
) -> Reply {
    let listen = Listen::joining(&headers, &params)?;
    let run = app.service.get_run(&scope, None, run).await?;
    let mut response = run_stream(&app, scope, &run, listen).await?;
    places(&run).set(&mut response);
    Ok(response)
}
