//! What the server says about itself, and its reference pages.

use std::time::Duration;

use agentflow_runs::patience::Patience;
use axum::{
    Json as Out, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, header};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState, error::Reply, extract::Params, health, metrics::Scrape, openapi,
    wire::system::Ok as Fine,
};

/// How long a look at the figures waits for a busy database: less than who collects them waits.
const SCRAPE: Duration = Duration::from_secs(5);

/// The reference page; it loads nothing but `/openapi.json`.
const DOCS: &str = include_str!("../docs.html");

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(ok))
        .routes(routes!(health))
        .routes(routes!(info))
        .routes(routes!(metrics))
}

/// Routes that are not part of the API's description.
pub(crate) fn pages() -> Router<AppState> {
    Router::new()
        .route("/", get(root))
        .route("/openapi.json", get(openapi_json))
        .route("/docs", get(docs))
}

fn fine() -> Fine {
    Fine {
        ok: true,
        services: serde_json::Map::new(),
    }
}

/// Whether the server is there; with `check_db=1`, whether its database answers.
#[utoipa::path(get, path = "/ok", tag = "system",
    params(("check_db" = Option<bool>, Query, description = "Whether to ask the database.")),
    responses((status = 200, body = Fine), (status = 503, description = "The database does not answer.")))]
async fn ok(State(app): State<AppState>, params: Params) -> Reply<Out<Fine>> {
    if params.flag("check_db")? {
        app.service.counts().await?;
    }
    Ok(Out(fine()))
}

/// How the server's parts are. 503 if one that it cannot do without is not well: the server is
/// then not ready for requests. Whether it lives at all, `/ok` tells without asking anything.
#[utoipa::path(get, path = "/health", tag = "system",
    responses((status = 200, body = Object, description = "`{status, version, parts: {name: {status, …}}, runs}`; `status` is `ok`, `degraded` or `failed`."),
        (status = 503, body = Object, description = "A part that is needed is not well.")))]
async fn health(State(app): State<AppState>) -> Response {
    let mut report = health::Report::new(&app.info.version);
    report.database(&app.service).await;
    report.queue(&app.service, &app.closing);
    for part in &app.parts {
        report.part(&**part).await;
    }
    report.into_response()
}

/// Version and abilities of the server.
#[utoipa::path(get, path = "/info", tag = "system", responses((status = 200, body = Object)))]
async fn info(State(app): State<AppState>) -> Response {
    Out(serde_json::json!({
        "version": app.info.version,
        "server": "agentflow",
        "flags": { "assistants": true, "crons": true, "langsmith": false },
        "host": { "kind": app.info.host_kind },
        "graphs": app.service.graphs().into_iter().map(|g| g.graph_id).collect::<Vec<_>>(),
    }))
    .into_response()
}

/// Counters, as Prometheus text or JSON.
#[utoipa::path(get, path = "/metrics", tag = "system",
    params(("format" = Option<String>, Query, description = "`prometheus` (default) or `json`.")),
    responses((status = 200, content_type = "text/plain", body = String)))]
async fn metrics(State(app): State<AppState>, params: Params) -> Reply {
    let patience = Patience(SCRAPE);
    let counts = patience.ask(|| app.service.counts()).await?;
    let webhooks = patience.ask(|| app.service.webhook_depth()).await?;
    let figures: Vec<_> = app.figures.iter().flat_map(|of| of.figures()).collect();
    if params.get("format") == Some("json") {
        return Ok(Out(app.metrics.json(&counts, &webhooks, &figures)).into_response());
    }
    let version = &app.info.version;
    let mut text = app.metrics.prometheus(&counts, &figures, version);
    text.push_str(&app.metrics.more(&Scrape {
        counts,
        webhooks,
        runs: app.service.measured(),
        streams: app.tasks.len(),
        samples: app.samples.iter().flat_map(|told| told()).collect(),
    }));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn root() -> Out<Fine> {
    Out(fine())
}

async fn openapi_json() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], openapi::text()).into_response()
}

async fn docs() -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                 connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
        ),
    ];
    (headers, DOCS).into_response()
}
