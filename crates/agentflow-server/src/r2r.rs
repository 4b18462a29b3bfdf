//! Documents over HTTP, as R2R's clients speak: `/v3` on a port of its own.
//!
//! One result is `{"results": …}`, a list has `total_entries` beside it, an error is
//! `{"message": …, "error_type": "R2RException"}`.

mod chunks;
mod collections;
mod desk;
mod documents;
mod form;
mod retrieval;
mod show;
mod system;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value as Json, json};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    AppState, access, cors,
    error::{self, Misfit},
    metrics, secure,
};

/// Most bytes of an error's body.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// What R2R calls errors of its own.
const ERROR_TYPE: &str = "R2RException";

/// The document API.
pub fn document_router(state: AppState) -> Router {
    let (routes, _) = documented().split_for_parts();
    let inner = routes
        .method_not_allowed_fallback(error::method_not_allowed)
        .route_layer(middleware::from_fn_with_state(state.clone(), access::guard))
        .route_layer(middleware::from_fn_with_state(
            state.clone(),
            metrics::count,
        ))
        .fallback(error::not_found)
        // Uploads are bounded where they are read.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::map_response(errors))
        .with_state(state.clone());
    let service = ServiceBuilder::new()
        .layer(middleware::from_fn(access::name_request))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            secure::headers,
        ))
        .layer(cors::layer(&state.security.cors))
        .layer(CatchPanicLayer::custom(error::panicked))
        .service(inner);
    Router::new().fallback_service(service)
}

/// The routes with their description.
pub(crate) fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(crate::openapi::frame())
        .merge(documents::routes())
        .merge(chunks::routes())
        .merge(collections::routes())
        .merge(retrieval::routes())
        .merge(system::routes())
}

/// Errors as R2R's clients read them: a list of places for what does not fit, one sentence for
/// everything else.
async fn errors(response: Response) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = http_body_util::Limited::new(body, MAX_ERROR_BYTES)
        .collect()
        .await;
    let bytes = bytes.map(|body| body.to_bytes()).unwrap_or_default();
    let text = serde_json::from_slice::<Json>(&bytes)
        .ok()
        .and_then(|json| Some(json.get("detail")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
    let json = match parts.extensions.get::<Misfit>() {
        Some(misfit) => {
            let path = misfit.path.split('.').filter(|part| !part.is_empty());
            let loc: Vec<&str> = [misfit.part].into_iter().chain(path).collect();
            json!({"detail": [{"type": "value_error", "loc": loc, "msg": misfit.text}]})
        }
        // The frame of the server, not of the service.
        None if matches!(status, StatusCode::METHOD_NOT_ALLOWED) => json!({ "detail": text }),
        None => json!({ "message": text, "error_type": ERROR_TYPE }),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let json_type = HeaderValue::from_static("application/json");
    parts.headers.insert(header::CONTENT_TYPE, json_type);
    Response::from_parts(parts, axum::body::Body::from(json.to_string()))
}

/// One result.
fn one(result: Json) -> Response {
    axum::Json(json!({ "results": result })).into_response()
}

/// A list with the number of all.
fn list(results: Vec<Json>, total: u64) -> Response {
    axum::Json(json!({ "results": results, "total_entries": total })).into_response()
}

/// That something was done.
fn done() -> Response {
    one(json!({ "success": true }))
}
