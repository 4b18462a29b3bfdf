//! The A2A endpoints: agent cards and JSON-RPC.

use axum::{
    Json as Out,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    a2a::{self, Call, Caller, card},
    error::Reply,
    extract::{Asker, Params, Passed, Text, body_of, check_nesting},
    wire::system::Detail,
};

pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(well_known))
        .routes(routes!(card_of))
        .routes(routes!(old_card_of))
        .routes(routes!(call))
}

/// The agent card of an assistant.
#[utoipa::path(get, path = "/.well-known/agent-card.json", tag = "a2a",
    params(("assistant_id" = Option<String>, Query, description = "Assistant id or graph id; may be left out if there is one graph.")),
    responses((status = 200, body = Object), (status = 400, body = Object), (status = 404, body = Detail)))]
async fn well_known(
    State(app): State<AppState>,
    Asker(scope): Asker,
    headers: HeaderMap,
    params: Params,
) -> Reply {
    let only = || match app.service.graphs().as_slice() {
        [one] => Some(one.graph_id.clone()),
        _ => None,
    };
    let Some(assistant) = params.get("assistant_id").map(str::to_owned).or_else(only) else {
        let text = "Missing required query parameter: assistant_id";
        let error = json!({ "error": { "code": -32602, "message": text } });
        return Ok((StatusCode::BAD_REQUEST, Out(error)).into_response());
    };
    let caller = caller(app, scope, Default::default(), &headers, assistant);
    Ok(Out(card::of(&caller).await?).into_response())
}

/// The agent card of the assistant in the path.
#[utoipa::path(get, path = "/a2a/{assistant_id}/.well-known/agent-card.json", tag = "a2a",
    params(("assistant_id" = String, Path, description = "Assistant id or graph id.")),
    responses((status = 200, body = Object), (status = 404, body = Detail)))]
async fn card_of(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Text(assistant): Text<String>,
    headers: HeaderMap,
) -> Reply {
    let caller = caller(app, scope, Default::default(), &headers, assistant);
    Ok(Out(card::of(&caller).await?).into_response())
}

/// Same, where clients before 0.3 look.
#[utoipa::path(get, path = "/a2a/{assistant_id}/.well-known/agent.json", tag = "a2a",
    params(("assistant_id" = String, Path, description = "Assistant id or graph id.")),
    responses((status = 200, body = Object), (status = 404, body = Detail)))]
async fn old_card_of(
    app: State<AppState>,
    asker: Asker,
    assistant: Text<String>,
    headers: HeaderMap,
) -> Reply {
    card_of(app, asker, assistant, headers).await
}

/// A2A over JSON-RPC: send a message, follow a task, answer a question.
#[utoipa::path(post, path = "/a2a/{assistant_id}", tag = "a2a", request_body = Object,
    params(("assistant_id" = String, Path, description = "Assistant id or graph id."),
        ("a2a-version" = Option<String>, Header, description = "0.3 or 1.0.")),
    responses((status = 200, body = Object, description = "A JSON-RPC response, or an event stream of them."),
        (status = 413, body = Detail, description = "The body is too large.")))]
async fn call(
    State(app): State<AppState>,
    Asker(scope): Asker,
    Passed(passed): Passed,
    Text(assistant): Text<String>,
    request: Request,
) -> Reply {
    let (parts, body) = request.into_parts();
    let bytes = body_of(&parts.headers, body, &app.limits).await?;
    check_nesting(&bytes, app.limits.depth)?;
    let response: Response = match Call::parse(&bytes) {
        Ok(call) => {
            let caller = caller(app, scope, passed, &parts.headers, assistant);
            a2a::answer(caller, &parts.headers, call).await
        }
        Err(answer) => Out(answer).into_response(),
    };
    Ok(response)
}

fn caller(
    app: AppState,
    scope: agentflow_types::Scope,
    passed: agentflow_types::Map,
    headers: &HeaderMap,
    assistant: String,
) -> Caller {
    Caller {
        base: base(headers),
        app,
        scope,
        headers: passed,
        assistant,
    }
}

/// The base URL of this server as the client, or the proxy before us, names it.
pub(crate) fn base(headers: &HeaderMap) -> String {
    let text = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        value
            .split(',')
            .next()
            .map(str::trim)
            .filter(|text| !text.is_empty())
    };
    let host = text("x-forwarded-host").or_else(|| text(header::HOST.as_str()));
    let scheme = match text("x-forwarded-proto") {
        Some("https") => "https",
        _ => "http",
    };
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}
