//! Headers that tell browsers what our answers are not for.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderName, HeaderValue, header};

use crate::{AppState, access::Secure};

/// Headers of every answer that does not bring its own.
const ALWAYS: [(HeaderName, HeaderValue); 4] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
];
/// Two years, as browsers' lists ask for.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000");
/// Paths whose answers hold secrets.
const PRIVATE: [&str; 2] = ["/auth/", "/admin/"];

/// Adds them.
pub(crate) async fn headers(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let is_private = PRIVATE
        .iter()
        .any(|start| request.uri().path().starts_with(start));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(value);
    }
    if app.security.secure == Secure::Yes {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    if is_private {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
