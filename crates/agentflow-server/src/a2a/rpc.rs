//! JSON-RPC: calls, answers, errors.

use agentflow_types::{Error, ErrorKind};
use serde_json::{Value as Json, json};

use crate::error::detail_of;

/// A call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Echoed in the answer: text, number or null.
    pub(crate) id: Json,
    pub(crate) method: String,
    pub(crate) params: Json,
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(super) code: i64,
    pub(super) message: String,
}

/// Codes of JSON-RPC and of A2A.
pub(super) mod code {
    pub(crate) const PARSE: i64 = -32700;
    pub(crate) const INVALID_REQUEST: i64 = -32600;
    pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
    pub(crate) const INVALID_PARAMS: i64 = -32602;
    pub(crate) const INTERNAL: i64 = -32603;
    pub(crate) const TASK_NOT_FOUND: i64 = -32001;
    pub(crate) const NOT_CANCELABLE: i64 = -32002;
    pub(crate) const NO_PUSH: i64 = -32003;
    pub(crate) const UNSUPPORTED: i64 = -32004;
    pub(crate) const VERSION: i64 = -32009;
}

impl Refusal {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(super) fn params(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_PARAMS, message)
    }

    pub(super) fn no_task(id: &str) -> Self {
        Self::new(code::TASK_NOT_FOUND, format!("Task not found: {id}"))
    }
}

impl From<Error> for Refusal {
    fn from(err: Error) -> Self {
        let code = match err.kind() {
            ErrorKind::Invalid
            | ErrorKind::Unprocessable
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Denied => code::INVALID_PARAMS,
            _ => {
                tracing::error!(error = ?err, "an a2a call failed");
                code::INTERNAL
            }
        };
        Self::new(code, detail_of(&err))
    }
}

impl Call {
    /// Reads a body.
    ///
    /// # Errors
    /// The answer to give.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Json> {
        let refuse = |id: &Json, code, text: &str| Err(failure(id, &Refusal::new(code, text)));
        let Ok(json) = serde_json::from_slice::<Json>(body) else {
            return refuse(&Json::Null, code::PARSE, "Invalid JSON payload");
        };
        let id = json.get("id").cloned().unwrap_or_default();
        let id_fits = id.is_null() || id.is_string() || id.is_i64() || id.is_u64();
        let method = json.get("method").and_then(Json::as_str);
        match (json.get("jsonrpc").and_then(Json::as_str), method) {
            (Some("2.0"), Some(method)) if id_fits => Ok(Self {
                method: method.to_owned(),
                params: json.get("params").cloned().unwrap_or_default(),
                id,
            }),
            _ => {
                let id = if id_fits { id } else { Json::Null };
                let text = "a call has `jsonrpc` \"2.0\", an `id` and a `method`";
                refuse(&id, code::INVALID_REQUEST, text)
            }
        }
    }
}

pub(super) fn success(id: &Json, result: Json) -> Json {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

pub(super) fn failure(id: &Json, refusal: &Refusal) -> Json {
    let error = json!({ "code": refusal.code, "message": refusal.message });
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}
