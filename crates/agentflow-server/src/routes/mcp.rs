//! The MCP endpoint.

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::Full;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    error::Reply,
    extract::{Asker, Passed, body_of, check_nesting},
    mcp::{self, Caller},
    wire::system::Detail,
};

/// What the SDK demands that clients accept; answers are always JSON.
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(post))
}

/// Model Context Protocol, streamable HTTP without sessions: each assistant is a tool.
#[utoipa::path(post, path = "/mcp", tag = "mcp", request_body = Object,
    responses((status = 200, body = Object, description = "A JSON-RPC response."),
        (status = 202, description = "A notification was taken."),
        (status = 400, body = Object, description = "Not a message of the protocol."),
        (status = 406, description = "The client accepts neither JSON nor event streams."),
        (status = 413, body = Detail, description = "The body is too large.")))]
async fn post(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Passed(headers): Passed,
    request: Request,
) -> Reply {
    let (mut parts, body) = request.into_parts();
    let bytes = body_of(&parts.headers, body, &app.limits).await?;
    check_nesting(&bytes, app.limits.depth)?;
    if accepts_one(&parts.headers) {
        parts.headers.insert(header::ACCEPT, BOTH);
    }
    parts.extensions.insert(Caller {
        app: app.clone(),
        scope,
        headers,
    });
    let request = http::Request::from_parts(parts, Full::new(bytes));
    let response: Response = mcp::answer(&app, request).await.map(Body::new);
    Ok(response)
}

/// Whether a client accepts one of the two kinds, as LangGraph's server is content with.
fn accepts_one(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|text| {
            ["application/json", "text/event-stream", "*/*"]
                .iter()
                .any(|kind| text.contains(kind))
        })
}
