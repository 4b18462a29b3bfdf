//! Crons.

use agentflow_types::{CronId, ThreadId};
use axum::{Json as Out, extract::State};
use http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    error::Reply,
    extract::{Asker, Id, Json},
    page,
    wire::{
        cron::{Cron, CronCreate, CronPatch, CronSearch},
        system::Detail,
    },
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(create_on_thread))
        .routes(routes!(search))
        .routes(routes!(count))
        .routes(routes!(get, patch, delete))
}

/// Create a cron whose runs each get a new thread.
#[utoipa::path(post, path = "/runs/crons", tag = "crons", request_body = CronCreate,
    responses((status = 200, body = Cron), (status = 422, body = Detail, description = "Bad schedule.")))]
async fn create(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(body): Json<CronCreate>,
) -> Reply<Out<Cron>> {
    Ok(Out(app
        .service
        .create_cron(&scope, body.into_domain(None))
        .await?
        .into()))
}

/// Create a cron whose runs share a thread.
#[utoipa::path(post, path = "/threads/{thread_id}/runs/crons", tag = "crons",
    params(("thread_id" = String, Path, description = "Thread id.")), request_body = CronCreate,
    responses((status = 200, body = Cron), (status = 404, body = Detail)))]
async fn create_on_thread(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<ThreadId>,
    Json(body): Json<CronCreate>,
) -> Reply<Out<Cron>> {
    Ok(Out(app
        .service
        .create_cron(&scope, body.into_domain(Some(id)))
        .await?
        .into()))
}

/// Find crons.
#[utoipa::path(post, path = "/runs/crons/search", tag = "crons", request_body = CronSearch,
    responses((status = 200, body = Vec<Cron>)))]
async fn search(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(mut body): Json<CronSearch>,
) -> Reply {
    let (query, page) = (body.query()?, body.page()?);
    let found = app.service.search_crons(&scope, &query, &page).await?;
    let fields = body.select.as_deref();
    Ok(page::reply(found, &page, |row| {
        page::select(Cron::from(row), fields)
    })?)
}

/// Count crons.
#[utoipa::path(post, path = "/runs/crons/count", tag = "crons", request_body = CronSearch,
    responses((status = 200, body = u64)))]
async fn count(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Json(mut body): Json<CronSearch>,
) -> Reply<Out<u64>> {
    let page = agentflow_storage::page::PageQuery {
        limit: 1,
        ..Default::default()
    };
    Ok(Out(app
        .service
        .search_crons(&scope, &body.query()?, &page)
        .await?
        .total))
}

/// Get a cron.
#[utoipa::path(get, path = "/runs/crons/{cron_id}", tag = "crons",
    params(("cron_id" = String, Path, description = "Cron id.")),
    responses((status = 200, body = Cron), (status = 404, body = Detail)))]
async fn get(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<CronId>,
) -> Reply<Out<Cron>> {
    Ok(Out(app.service.get_cron(&scope, id).await?.into()))
}

/// Change a cron.
#[utoipa::path(patch, path = "/runs/crons/{cron_id}", tag = "crons",
    params(("cron_id" = String, Path, description = "Cron id.")), request_body = CronPatch,
    responses((status = 200, body = Cron), (status = 404, body = Detail)))]
async fn patch(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<CronId>,
    Json(body): Json<CronPatch>,
) -> Reply<Out<Cron>> {
    Ok(Out(app
        .service
        .update_cron(&scope, id, body.into())
        .await?
        .into()))
}

/// Remove a cron.
#[utoipa::path(delete, path = "/runs/crons/{cron_id}", tag = "crons",
    params(("cron_id" = String, Path, description = "Cron id.")),
    responses((status = 204), (status = 404, body = Detail)))]
async fn delete(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<CronId>,
) -> Reply<StatusCode> {
    app.service.delete_cron(&scope, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
