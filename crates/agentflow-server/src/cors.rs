//! Requests from web pages of other origins.

use http::{HeaderName, HeaderValue, Method, header};
use std::time::Duration;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use crate::state::Cors;

/// How long browsers may remember the answer to a preflight.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Lets pages of other origins in, and lets them read the headers that clients need to find and
/// resume a run. Any origin may come without cookies; those that are named, with them. Pages on
/// public addresses may reach a server on a private one: that is how a hosted page works with a
/// server on the same machine.
pub(crate) fn layer(cors: &Cors) -> CorsLayer {
    let any = cors.origins.iter().any(|origin| origin == "*");
    let named = cors
        .origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok());
    let origins = match any {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(named),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_credentials(!any && !cors.origins.is_empty())
        .allow_methods(AllowMethods::list([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ]))
        .allow_headers(AllowHeaders::mirror_request())
        .allow_private_network(cors.private_network)
        .max_age(MAX_AGE)
        .expose_headers([
            header::LOCATION,
            header::CONTENT_LOCATION,
            HeaderName::from_static("x-pagination-total"),
            HeaderName::from_static("x-pagination-next"),
            HeaderName::from_static("x-request-id"),
            header::RETRY_AFTER,
        ])
}
