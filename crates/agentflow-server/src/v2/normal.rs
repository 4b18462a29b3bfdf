//! Messages inside states, without the fields that say nothing.

use serde_json::{Map, Value, json};

use crate::accumulate::{finished, is_blank, is_chunk};

/// Types of messages.
const TYPES: [&str; 6] = [
    "human",
    "ai",
    "system",
    "tool",
    "function",
    "AIMessageChunk",
];

/// Fields that are left out when they are blank.
const OPTIONAL: [&str; 6] = [
    "name",
    "tool_calls",
    "invalid_tool_calls",
    "usage_metadata",
    "additional_kwargs",
    "response_metadata",
];

/// The value with each message in it reduced to what it says. Depth is bounded by the parser
/// that made the value.
pub(super) fn normal(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(normal).collect(),
        Value::Object(map) if is_message(&map) => message(&Value::Object(map)),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (key, normal(value)))
                .collect(),
        ),
        plain => plain,
    }
}

fn is_message(map: &Map<String, Value>) -> bool {
    map.contains_key("content")
        && map.contains_key("additional_kwargs")
        && map
            .get("type")
            .and_then(Value::as_str)
            .is_some_and(|kind| TYPES.contains(&kind))
}

/// Reduces one message: type, content and id first, then what is not blank.
fn message(whole: &Value) -> Value {
    let whole = if is_chunk(whole) {
        finished(whole)
    } else {
        whole.clone()
    };
    let mut out = Map::new();
    for key in ["type", "content", "id"] {
        match whole.get(key) {
            Some(value) if key != "id" || !value.is_null() => {
                out.insert(key.into(), value.clone());
            }
            _ => {}
        }
    }
    if let Some(name) = whole.get("name").filter(|name| !is_blank(name)) {
        out.insert("name".into(), name.clone());
    }
    let is_tool = whole.get("type") == Some(&json!("tool"));
    if is_tool {
        for key in ["tool_call_id", "status", "artifact"] {
            if let Some(value) = whole.get(key) {
                out.insert(key.into(), value.clone());
            }
        }
    }
    let Value::Object(rest) = whole else {
        return Value::Object(out);
    };
    for (key, value) in rest {
        let silent = OPTIONAL.contains(&key.as_str()) && is_blank(&value);
        if silent || out.contains_key(&key) || key == "id" || key == "type" {
            continue;
        }
        let value = if key == "tool_calls" {
            calls(value)
        } else {
            value
        };
        out.insert(key, value);
    }
    Value::Object(out)
}

/// Tool calls with their type first.
fn calls(calls: Value) -> Value {
    let Value::Array(calls) = calls else {
        return calls;
    };
    let typed = calls.into_iter().map(|call| match call {
        Value::Object(mut call) => {
            let mut out = Map::new();
            let kind = call
                .shift_remove("type")
                .unwrap_or_else(|| json!("tool_call"));
            out.insert("type".into(), kind);
            out.extend(call);
            Value::Object(out)
        }
        other => other,
    });
    typed.collect()
}
