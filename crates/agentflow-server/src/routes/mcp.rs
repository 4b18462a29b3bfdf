//! The MCP endpoint.

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::Full;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    error::{Failure, Reply},
    extract::{Asker, Passed, body_of, check_nesting},
    mcp::{self, Caller},
    wire::system::Detail,
};

/// What the SDK demands that clients accept; answers are always JSON.
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// Longest text of a refusal, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;

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
    in_our_words(mcp::answer(&app, request).await.map(Body::new)).await
}

/// Lets refusals that the SDK writes as plain text look like all others of the API.
async fn in_our_words(response: Response) -> Reply {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !response.status().is_client_error() || is_json {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_REFUSAL).await.unwrap_or_default();
    let text = match text.is_empty() {
        true => parts.status.canonical_reason().unwrap_or("refused").into(),
        false => String::from_utf8_lossy(&text).into_owned(),
    };
    Err(Failure::Http(parts.status, text))
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
