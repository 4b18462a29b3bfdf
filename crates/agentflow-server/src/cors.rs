//! Requests from web pages of other origins.

use http::{HeaderName, Method, header};
use std::time::Duration;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

/// How long browsers may remember the answer to a preflight.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Lets any origin in, without credentials, and lets pages read the headers that clients need to
/// find and resume a run. Pages on public addresses may reach a server on a private one: that is
/// how a hosted page works with a server on the same machine.
pub(crate) fn layer() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::any())
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
        .allow_private_network(true)
        .max_age(MAX_AGE)
        .expose_headers([
            header::LOCATION,
            header::CONTENT_LOCATION,
            HeaderName::from_static("x-pagination-total"),
            HeaderName::from_static("x-pagination-next"),
        ])
}
