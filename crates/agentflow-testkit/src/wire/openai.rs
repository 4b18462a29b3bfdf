//! OpenAI's chat completions and embeddings.

use std::collections::HashSet;

use serde_json::{Value as Json, json};

use crate::{
    embedding,
    wire::{Answer, event},
};

/// Checks what the real server checks and clients get wrong: every answer of a tool follows a
/// call with its id.
///
/// # Errors
/// The message of a 400.
pub(crate) fn check(body: &Json) -> Result<(), String> {
    if body["model"].as_str().is_none_or(str::is_empty) {
        return Err("you must provide a model parameter".to_owned());
    }
    let Some(messages) = body["messages"]
        .as_array()
        .filter(|messages| !messages.is_empty())
    else {
        return Err("[] is too short - 'messages'".to_owned());
    };
    let mut open: HashSet<&str> = HashSet::new();
    for (at, message) in messages.iter().enumerate() {
        match message["role"].as_str() {
            Some("tool") => {
                let id = message["tool_call_id"].as_str().unwrap_or_default();
                if !open.remove(id) {
                    return Err(format!(
                        "Invalid parameter: messages[{at}] with role 'tool' must be a response to a preceding message with 'tool_calls'."
                    ));
                }
            }
            Some("system" | "developer" | "user" | "assistant") => {
                if !open.is_empty() {
                    return Err(format!(
                        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id' (before messages[{at}])."
                    ));
                }
                let calls = message["tool_calls"].as_array().map(Vec::as_slice);
                open.extend(
                    calls
                        .unwrap_or_default()
                        .iter()
                        .filter_map(|c| c["id"].as_str()),
                );
            }
            role => return Err(format!("Invalid value: {role:?} in messages[{at}].role")),
        }
    }
    Ok(())
}

/// The whole answer.
pub(crate) fn whole(answer: &Answer) -> String {
    let content = if answer.pieces.is_empty() {
        Json::Null
    } else {
        json!(answer.text())
    };
    let mut message = json!({"role": "assistant", "content": content});
    if !answer.calls.is_empty() {
        message["tool_calls"] = answer
            .calls
            .iter()
            .map(|call| {
                let function = json!({"name": call.name, "arguments": call.args});
                json!({"id": call.id, "type": "function", "function": function})
            })
            .collect();
    }
    let choice = json!({"index": 0, "message": message, "finish_reason": answer.finish_reason});
    json!({
        "id": answer.id,
        "object": "chat.completion",
        "model": answer.model,
        "choices": [choice],
        "usage": usage(answer),
    })
    .to_string()
}

/// The answer as server-sent events.
pub(crate) fn frames(answer: &Answer, body: &Json) -> Vec<String> {
    let chunk = |delta: Json, finish: Json| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        head(answer, json!([choice]))
    };
    let mut chunks = vec![chunk(
        json!({"role": "assistant", "content": ""}),
        Json::Null,
    )];
    for piece in &answer.pieces {
        chunks.push(chunk(json!({"content": piece}), Json::Null));
    }
    for (index, call) in answer.calls.iter().enumerate() {
        let function = json!({"name": call.name, "arguments": ""});
        let first =
            json!({"index": index, "id": call.id, "type": "function", "function": function});
        chunks.push(chunk(json!({"tool_calls": [first]}), Json::Null));
        for piece in call.pieces() {
            let more = json!({"index": index, "function": {"arguments": piece}});
            chunks.push(chunk(json!({"tool_calls": [more]}), Json::Null));
        }
    }
    chunks.push(chunk(json!({}), json!(answer.finish_reason)));
    if body["stream_options"]["include_usage"] == true {
        let mut last = head(answer, json!([]));
        last["usage"] = usage(answer);
        chunks.push(last);
    }
    let mut frames: Vec<String> = chunks
        .iter()
        .map(|chunk| event(None, &chunk.to_string()))
        .collect();
    frames.push(event(None, "[DONE]"));
    frames
}

fn head(answer: &Answer, choices: Json) -> Json {
    json!({
        "id": answer.id,
        "object": "chat.completion.chunk",
        "model": answer.model,
        "choices": choices,
    })
}

fn usage(answer: &Answer) -> Json {
    let [prompt, generated] = answer.usage;
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
    })
}

/// The answer to an embeddings request; `dimensions` of the request wins over `dim`.
pub(crate) fn embeddings(body: &Json, dim: usize) -> Json {
    let dim = body["dimensions"].as_u64().map_or(dim, |dim| dim as usize);
    let data: Vec<Json> = inputs(&body["input"])
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({"object": "embedding", "index": index, "embedding": embedding::embed(text, dim)})
        })
        .collect();
    json!({
        "object": "list",
        "data": data,
        "model": body["model"],
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    })
}

/// Texts of an embeddings request: one, or a list.
pub(crate) fn inputs(input: &Json) -> Vec<String> {
    match input {
        Json::Array(texts) => texts
            .iter()
            .map(|text| text.as_str().unwrap_or_default().to_owned())
            .collect(),
        Json::String(text) => vec![text.clone()],
        _ => Vec::new(),
    }
}

/// The body of an error answer.
pub(crate) fn error(status: u16, message: &str) -> Json {
    let kind = match status {
        401 => "authentication_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
}
