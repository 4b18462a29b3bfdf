//! Anthropic's Messages API.

use serde_json::{Value as Json, json};

use crate::wire::{Answer, event};

/// Checks what the real server checks and clients get wrong.
///
/// # Errors
/// The message of a 400.
pub(crate) fn check(body: &Json) -> Result<(), String> {
    if body["max_tokens"].as_u64().is_none() {
        return Err("max_tokens: Field required".to_owned());
    }
    let messages = body["messages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    match messages.first() {
        None => return Err("messages: at least one message is required".to_owned()),
        Some(first) if first["role"] != "user" => {
            return Err("messages: first message must use the \"user\" role".to_owned());
        }
        Some(_) => {}
    }
    let mut open: Vec<&str> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        if !matches!(message["role"].as_str(), Some("user" | "assistant")) {
            return Err(format!("messages.{at}.role: must be user or assistant"));
        }
        let blocks = message["content"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let ids = |kind: &'static str, key: &'static str| {
            blocks
                .iter()
                .filter(move |b| b["type"] == kind)
                .filter_map(move |b| b[key].as_str())
        };
        for id in ids("tool_result", "tool_use_id") {
            match open.iter().position(|known| *known == id) {
                Some(at) => open.remove(at),
                None => return Err(format!("messages.{at}: unexpected `tool_use_id` {id}")),
            };
        }
        if !open.is_empty() {
            return Err(format!(
                "messages.{at}: `tool_use` without `tool_result`: {open:?}"
            ));
        }
        if blocks
            .iter()
            .any(|block| block["type"] == "text" && block["text"] == "")
        {
            return Err(format!(
                "messages.{at}: text content blocks must be non-empty"
            ));
        }
        open.extend(ids("tool_use", "id"));
    }
    Ok(())
}

/// The whole answer.
pub(crate) fn whole(answer: &Answer) -> String {
    let mut content = Vec::new();
    if !answer.pieces.is_empty() {
        content.push(json!({"type": "text", "text": answer.text()}));
    }
    for call in &answer.calls {
        content.push(json!({
            "type": "tool_use", "id": call.id, "name": call.name, "input": call.json()}));
    }
    let [input, output] = answer.usage;
    json!({
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": stop_reason(answer),
        "stop_sequence": null,
        "usage": {"input_tokens": input, "output_tokens": output},
    })
    .to_string()
}

/// The answer as server-sent events.
pub(crate) fn frames(answer: &Answer) -> Vec<String> {
    let [input, output] = answer.usage;
    let mut events = vec![json!({"type": "message_start", "message": {
        "id": answer.id, "type": "message", "role": "assistant", "model": answer.model,
        "content": [], "stop_reason": null,
        "usage": {"input_tokens": input, "output_tokens": 1}}})];
    events.push(json!({"type": "ping"}));
    let mut index = 0;
    let mut block = |start: Json, deltas: Vec<Json>| {
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        for delta in deltas {
            events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        events.push(json!({"type": "content_block_stop", "index": index}));
        index += 1;
    };
    if !answer.pieces.is_empty() {
        let delta = |text: &String| json!({"type": "text_delta", "text": text});
        block(
            json!({"type": "text", "text": ""}),
            answer.pieces.iter().map(delta).collect(),
        );
    }
    for call in &answer.calls {
        let delta = |text: &String| json!({"type": "input_json_delta", "partial_json": text});
        let start = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
        block(start, call.pieces().iter().map(delta).collect());
    }
    events.push(json!({"type": "message_delta",
        "delta": {"stop_reason": stop_reason(answer), "stop_sequence": null},
        "usage": {"output_tokens": output}}));
    events.push(json!({"type": "message_stop"}));
    events
        .iter()
        .map(|data| event(data["type"].as_str(), &data.to_string()))
        .collect()
}

fn stop_reason(answer: &Answer) -> &str {
    match answer.finish_reason.as_str() {
        "stop" => "end_turn",
        "tool_calls" => "tool_use",
        "length" => "max_tokens",
        other => other,
    }
}

/// The body of an error answer.
pub(crate) fn error(status: u16, message: &str) -> Json {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}})
}
