//! Webhooks that could not be delivered.

use agentflow_types::LetterId;
use axum::{extract::State, response::Response};
use http::StatusCode;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    error::Reply,
    extract::{Asker, Id, Params},
    page,
    wire::{system::Detail, webhook::DeadWebhook},
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(dead))
        .routes(routes!(retry))
        .routes(routes!(discard))
}

/// List webhooks that were given up, last first.
#[utoipa::path(get, path = "/webhooks/dead", tag = "webhooks",
    params(("limit" = Option<u32>, Query, description = "Most rows, 1 to 1000; 10 if absent."),
        ("offset" = Option<u64>, Query, description = "Rows to skip.")),
    responses((status = 200, body = Vec<DeadWebhook>, headers(
        ("x-pagination-total" = u64, description = "Rows that there are."),
        ("x-pagination-next" = Option<u64>, description = "Offset of the next page.")))))]
async fn dead(State(app): State<AppState>, Asker(scope): Asker, params: Params) -> Reply<Response> {
    let page = page::query(
        params.number("limit")?,
        params.number("offset")?,
        None,
        None,
        &[],
    )?;
    let found = app
        .service
        .dead_webhooks(&scope, page.limit, page.offset)
        .await?;
    Ok(page::reply(found, &page, |row| Ok(DeadWebhook::from(row)))?)
}

/// Try a webhook that was given up once more.
#[utoipa::path(post, path = "/webhooks/dead/{webhook_id}/retry", tag = "webhooks",
    params(("webhook_id" = String, Path, description = "Webhook id.")),
    responses((status = 202), (status = 404, body = Detail)))]
async fn retry(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<LetterId>,
) -> Reply<StatusCode> {
    app.service.retry_webhook(&scope, id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Remove a webhook that was given up.
#[utoipa::path(delete, path = "/webhooks/dead/{webhook_id}", tag = "webhooks",
    params(("webhook_id" = String, Path, description = "Webhook id.")),
    responses((status = 204), (status = 404, body = Detail)))]
async fn discard(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Id(id): Id<LetterId>,
) -> Reply<StatusCode> {
    app.service.discard_webhook(&scope, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
