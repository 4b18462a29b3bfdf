//! The MCP server: assistants as tools, and tools of the platform itself.
//!
//! The protocol is spoken by `rmcp`, the official SDK, without sessions: any server of a
//! deployment answers any request. What a request needs travels with it as a [`Caller`].

mod assistants;
mod memories;
mod platform;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc, time::Duration};

use agentflow_types::{Error, ErrorKind, Map, Permission, Result, Scope, Value};
use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::{Full, combinators::BoxBody};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorCode,
        Implementation, JsonObject, ListToolsResult, PaginatedRequestParams, ServerCapabilities,
        ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};
use tokio_util::sync::CancellationToken;

use crate::{AppState, error::detail_of};

/// Tools on one page of the list.
const PAGE: usize = 200;

/// What hosts are told about this server.
const INSTRUCTIONS: &str = "Each assistant is a tool: its arguments are the input of the \
    assistant's graph, its result is the state at the end. An assistant that asks a question ends \
    with `__interrupt__`; to be able to answer, use runs_start with a thread, runs_wait, and \
    runs_start again with `resume`.";

/// Who asks, and what for.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) app: AppState,
    pub(crate) scope: Scope,
    /// Headers that runs may read.
    pub(crate) headers: Map,
}

/// Answers one request whose extensions hold its [`Caller`].
pub(crate) async fn answer(
    app: &AppState,
    request: Request<Full<Bytes>>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        // The whole API decides about hosts and origins in one place; see crate::cors.
        .disable_allowed_hosts()
        .with_max_request_body_bytes(app.limits.body_bytes)
        .with_cancellation_token(app.closing.clone());
    let sessions = Arc::new(NeverSessionManager::default());
    StreamableHttpService::new(|| Ok(Tools), sessions, config)
        .handle(request)
        .await
}

/// The handler of the protocol; has no state of its own.
struct Tools;

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("AgentFlow", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> std::result::Result<ListToolsResult, ErrorData> {
        let caller = caller(&context)?;
        let cursor = request.and_then(|request| request.cursor);
        let start: usize = match &cursor {
            None => 0,
            Some(cursor) => cursor
                .parse()
                .map_err(|_| ErrorData::invalid_params("unknown cursor", None))?,
        };
        let mut tools: Vec<Tool> = platform::tools()
            .map(platform::PlatformTool::described)
            .collect();
        tools.extend(
            assistants::tools(caller)
                .await
                .map_err(|err| protocol_error(&err))?,
        );
        let mut page = ListToolsResult::default();
        if start + PAGE < tools.len() {
            page.next_cursor = Some((start + PAGE).to_string());
        }
        page.tools = tools.into_iter().skip(start).take(PAGE).collect();
        Ok(page)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> std::result::Result<CallToolResponse, ErrorData> {
        let caller = caller(&context)?;
        let Ok(_place) = caller.app.tool_calls.try_acquire() else {
            let busy = Error::busy("too many tool calls at once; try again later");
            return Ok(failed(&busy).into());
        };
        let args = request.arguments.unwrap_or_default();
        let called = match platform::find(&request.name) {
            Some(tool) => tool.call(caller, args, &context.ct).await,
            None => match assistants::find(caller, &request.name).await {
                Ok(Some(id)) => match platform::permitted(caller, Permission::RunsWrite) {
                    Ok(()) => assistants::call(caller, &id, args, &context.ct).await,
                    Err(err) => Err(err),
                },
                Ok(None) => {
                    let text = format!("Unknown tool: {}", request.name);
                    return Err(ErrorData::invalid_params(text, None));
                }
                Err(err) => Err(err),
            },
        };
        let result = called.and_then(|value| encoded(&value, caller.app.limits.tool_result_bytes));
        Ok(result.unwrap_or_else(|err| failed(&err)).into())
    }
}

fn caller(context: &RequestContext<RoleServer>) -> std::result::Result<&Caller, ErrorData> {
    let parts = context.extensions.get::<Parts>();
    parts
        .and_then(|parts| parts.extensions.get::<Caller>())
        .ok_or_else(|| ErrorData::internal_error("the request lost its caller", None))
}

/// A result: JSON text, and the same as a structure.
///
/// # Errors
/// `Invalid` if it is too large.
fn encoded(value: &Value, limit: usize) -> Result<CallToolResult> {
    let text = value.json_text();
    if text.len() > limit {
        return Err(Error::invalid("the result is too large")
            .with("bytes", text.len())
            .with("limit", limit));
    }
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(value.to_json());
    Ok(result)
}

/// A failure that the model may read and act upon.
fn failed(err: &Error) -> CallToolResult {
    if matches!(err.kind(), ErrorKind::Corrupt | ErrorKind::Bug) {
        tracing::error!(error = ?err, "a tool call failed");
    }
    CallToolResult::error(vec![ContentBlock::text(detail_of(err))])
}

fn protocol_error(err: &Error) -> ErrorData {
    tracing::error!(error = ?err, "tools could not be listed");
    ErrorData::new(ErrorCode::INTERNAL_ERROR, detail_of(err), None)
}

/// Why somebody no longer waits for a call.
enum Left {
    /// The client went away.
    Gone,
    /// It took too long.
    Late(Duration),
}

impl From<Left> for Error {
    fn from(left: Left) -> Self {
        match left {
            Left::Gone => Self::cancelled("the client went away"),
            Left::Late(time) => {
                Self::uncertain("the call took too long").with("seconds", time.as_secs_f64())
            }
        }
    }
}

/// Waits for work, as long as the client does and the limit allows.
async fn attended<T>(
    work: impl Future<Output = T>,
    gone: &CancellationToken,
    limit: Duration,
) -> std::result::Result<T, Left> {
    tokio::select! {
        done = work => Ok(done),
        () = gone.cancelled() => Err(Left::Gone),
        () = tokio::time::sleep(limit) => Err(Left::Late(limit)),
    }
}

/// A JSON Schema as the SDK wants it; what is not an object becomes one that allows everything.
fn schema_of(json: serde_json::Value) -> Arc<JsonObject> {
    let serde_json::Value::Object(mut schema) = json else {
        return schema_of(serde_json::json!({ "type": "object" }));
    };
    schema
        .entry("type")
        .or_insert_with(|| serde_json::json!("object"));
    Arc::new(schema)
}
