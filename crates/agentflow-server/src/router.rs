//! All routes, and what wraps them.

use axum::{Router, extract::Request, middleware};
use http::{Uri, uri::PathAndQuery};
use tower::{ServiceBuilder, util::MapRequestLayer};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::{AppState, access, cors, error, mem0, metrics, openapi, routes, secure};

/// The agent API.
pub fn router(state: AppState) -> Router {
    let (routes, _) = documented().split_for_parts();
    let inner = routes
        .merge(routes::system::pages())
        .method_not_allowed_fallback(error::method_not_allowed)
        .route_layer(middleware::from_fn_with_state(state.clone(), access::guard))
        .route_layer(middleware::from_fn_with_state(
            state.clone(),
            metrics::count,
        ))
        .fallback(error::not_found)
        .with_state(state.clone());
    // Paths are rewritten before they are matched, so the router that matches sits inside.
    let service = ServiceBuilder::new()
        .layer(middleware::from_fn(access::name_request))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            secure::headers,
        ))
        .layer(cors::layer(&state.security.cors))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(MapRequestLayer::new(without_trailing_slash))
        .service(inner);
    Router::new().fallback_service(service)
}

/// The routes with their description.
pub(crate) fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::frame())
        .merge(routes::assistants::routes())
        .merge(routes::threads::routes())
        .merge(routes::states::routes())
        .merge(routes::runs::routes())
        .merge(routes::stateless::routes())
        .merge(routes::streams::routes())
        .merge(routes::crons::routes())
        .merge(routes::store::routes())
        .merge(mem0::routes())
        .merge(routes::protocol::routes())
        .merge(routes::auth::routes())
        .merge(routes::admin::routes())
        .merge(routes::mcp::routes())
        .merge(routes::a2a::routes())
        .merge(routes::webhooks::routes())
        .merge(routes::system::routes())
}

/// Lets `/threads/` mean `/threads`.
fn without_trailing_slash(mut request: Request) -> Request {
    let path = request.uri().path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.len() == path.len() || trimmed.is_empty() {
        return request;
    }
    let wanted = match request.uri().query() {
        Some(query) => format!("{trimmed}?{query}"),
        None => trimmed.to_owned(),
    };
    let mut parts = request.uri().clone().into_parts();
    if let Ok(path) = PathAndQuery::try_from(wanted) {
        parts.path_and_query = Some(path);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}
