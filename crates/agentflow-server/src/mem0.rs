//! Memory over HTTP, in both dialects of Mem0: the hosted platform's (`/v1`, `/v2`, `/v3`,
//! `/api/v1`), which its official clients speak, and that of its self-hosted server.

pub(crate) mod accounts;
mod entities;
mod insight;
mod legacy;
mod memories;
mod misfits;
mod organizations;
mod place;
pub(crate) mod read;
mod self_hosted;
mod show;
mod webhooks;

use axum::{middleware, response::Response};
use http::{StatusCode, header};
use http_body_util::BodyExt;
use utoipa_axum::router::OpenApiRouter;

pub(crate) use show::{added, found, job, memory};

use crate::AppState;

/// Most bytes of an error's body.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// The routes of both dialects.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    let platform = OpenApiRouter::new()
        .merge(memories::routes())
        .merge(entities::routes())
        .merge(insight::routes())
        .merge(organizations::routes())
        .merge(webhooks::routes())
        .merge(legacy::routes())
        .layer(middleware::map_response(platform_errors));
    let self_hosted = self_hosted::routes()
        .merge(accounts::routes())
        .layer(middleware::map_response(misfits::listed));
    platform.merge(self_hosted)
}

/// Errors as the platform's clients read them: one looks for `detail`, one for `error`, one for
/// `message`. What LangGraph's dialect answers with 422 is 400 there.
async fn platform_errors(response: Response) -> Response {
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = http_body_util::Limited::new(body, MAX_ERROR_BYTES)
        .collect()
        .await;
    let bytes = bytes.map(|body| body.to_bytes()).unwrap_or_default();
    let text = serde_json::from_slice::<serde_json::Value>(&bytes)
        .ok()
        .and_then(|json| Some(json.get("detail")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
    if parts.status == StatusCode::UNPROCESSABLE_ENTITY {
        parts.status = StatusCode::BAD_REQUEST;
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    let json = serde_json::json!({ "error": text, "detail": text, "message": text });
    let json_type = http::HeaderValue::from_static("application/json");
    parts.headers.insert(header::CONTENT_TYPE, json_type);
    Response::from_parts(parts, axum::body::Body::from(json.to_string()))
}
