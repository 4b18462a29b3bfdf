//! Agent cards.

use agentflow_types::Result;
use serde_json::{Value as Json, json};

use super::Caller;

/// Kinds of content that assistants take and give.
const MODES: [&str; 2] = ["application/json", "text/plain"];

/// The card of the caller's assistant, readable by clients of both dialects.
///
/// # Errors
/// `NotFound`.
pub(crate) async fn of(caller: &Caller) -> Result<Json> {
    let service = &caller.app.service;
    let assistant = service
        .resolve_assistant(&caller.scope, &caller.assistant)
        .await?;
    let id = assistant.assistant_id.text();
    let url = format!("{}/a2a/{id}", caller.base);
    let description = assistant
        .description
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| format!("{} assistant", assistant.name));
    let interface = |version: &str| json!({ "url": url, "protocolBinding": "JSONRPC", "protocolVersion": version });
    let skill = json!({
        "id": format!("{id}-main"), "name": format!("{} Capabilities", assistant.name),
        "description": description, "tags": ["assistant", "langgraph"], "examples": [],
        "inputModes": MODES, "outputModes": MODES,
    });
    Ok(json!({
        "name": assistant.name,
        "description": description,
        "version": caller.app.info.version,
        "url": url,
        "preferredTransport": "JSONRPC",
        "protocolVersion": "0.3.0",
        "supportedInterfaces": [interface("1.0"), interface("0.3")],
        "capabilities": {
            "streaming": true, "pushNotifications": false, "stateTransitionHistory": false,
        },
        "defaultInputModes": MODES,
        "defaultOutputModes": MODES,
        "skills": [skill],
    }))
}
