//! Messages in LangChain's shape.
//!
//! In state a message is a [`Typed`] value of extension code 5, so that Python reads the object
//! back that it would have written; clients see the map inside.

use std::sync::Arc;

use crate::{Error, Map, Result, Rng, Str, Typed, Value};

/// Roles with the Python module and class that stand for them, and the `type` word.
const CLASSES: [(&str, &str, &str); 12] = [
    ("human", "langchain_core.messages.human", "HumanMessage"),
    ("ai", "langchain_core.messages.ai", "AIMessage"),
    ("system", "langchain_core.messages.system", "SystemMessage"),
    ("tool", "langchain_core.messages.tool", "ToolMessage"),
    (
        "function",
        "langchain_core.messages.function",
        "FunctionMessage",
    ),
    ("chat", "langchain_core.messages.chat", "ChatMessage"),
    (
        "remove",
        "langchain_core.messages.modifier",
        "RemoveMessage",
    ),
    (
        "AIMessageChunk",
        "langchain_core.messages.ai",
        "AIMessageChunk",
    ),
    (
        "HumanMessageChunk",
        "langchain_core.messages.human",
        "HumanMessageChunk",
    ),
    (
        "SystemMessageChunk",
        "langchain_core.messages.system",
        "SystemMessageChunk",
    ),
    (
        "ToolMessageChunk",
        "langchain_core.messages.tool",
        "ToolMessageChunk",
    ),
    (
        "FunctionMessageChunk",
        "langchain_core.messages.function",
        "FunctionMessageChunk",
    ),
];

/// Id of a `remove` message that empties the list before it.
pub const REMOVE_ALL: &str = "__remove_all__";

/// Whether the value is a message object (typed), as the `add_messages` reducer makes them.
#[must_use]
pub fn is_message(value: &Value) -> bool {
    matches!(value, Value::Typed(t) if t.code == 5 && t.module.starts_with("langchain_core.messages"))
}

/// The `type` word of a message: `human`, `ai`, `system`, `tool`, `remove`, …
#[must_use]
pub fn kind(message: &Value) -> Option<&str> {
    message.get("type").and_then(Value::as_str)
}

/// The id of a message, if it has one.
#[must_use]
pub fn id(message: &Value) -> Option<&str> {
    message.get("id").and_then(Value::as_str)
}

/// The text of a message: its string content, or its text blocks joined.
#[must_use]
pub fn text(message: &Value) -> String {
    match message.get("content").map(Value::untyped) {
        Some(Value::Str(text)) => text.to_string(),
        Some(Value::List(blocks)) => blocks
            .iter()
            .filter_map(|block| block.as_str().or_else(|| block.get("text")?.as_str()))
            .collect(),
        _ => String::new(),
    }
}

/// A copy of `message` with `id` set.
#[must_use]
pub fn with_id(message: &Value, id: &str) -> Value {
    let set = |map: &Map| {
        let mut map = map.clone();
        map.insert("id".into(), Value::str(id));
        Value::map(map)
    };
    match message {
        Value::Typed(typed) => {
            let mut typed = (**typed).clone();
            if let Value::Map(map) = &typed.value {
                typed.value = set(map);
            }
            Value::Typed(Arc::new(typed))
        }
        Value::Map(map) => set(map),
        other => other.clone(),
    }
}

/// A random message id (UUID version 4).
pub fn fresh_id(rng: &dyn Rng) -> String {
    let bits = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
    uuid::Builder::from_random_bytes(bits.to_be_bytes())
        .into_uuid()
        .to_string()
}

/// A human message.
pub fn human(content: impl Into<Value>) -> Value {
    build("human", content.into(), Map::new())
}

/// A system message.
pub fn system(content: impl Into<Value>) -> Value {
    build("system", content.into(), Map::new())
}

/// An AI message without tool calls.
pub fn ai(content: impl Into<Value>) -> Value {
    build("ai", content.into(), Map::new())
}

/// An AI message with tool calls; each call is `{name, args, id}`.
pub fn ai_with_tool_calls(content: impl Into<Value>, tool_calls: Vec<Value>) -> Value {
    let mut fields = Map::new();
    fields.insert("tool_calls".into(), Value::list(tool_calls));
    build("ai", content.into(), fields)
}

/// The answer of a tool to one call.
pub fn tool(content: impl Into<Value>, tool_call_id: &str, name: &str) -> Value {
    let mut fields = Map::new();
    fields.insert("name".into(), Value::str(name));
    fields.insert("tool_call_id".into(), Value::str(tool_call_id));
    build("tool", content.into(), fields)
}

/// Makes a message object out of what clients and nodes give: a message, text (human), a pair of
/// role and content, or a map with `type` or `role`.
///
/// Missing fields get LangChain's defaults in LangChain's order. OpenAI roles are understood.
///
/// # Errors
/// `Invalid` if the value is none of these, class `ValueError`.
pub fn coerce(value: &Value) -> Result<Value> {
    match value {
        Value::Typed(_) if is_message(value) => Ok(value.clone()),
        Value::Typed(typed) => coerce(&typed.value),
        Value::Str(text) => Ok(human(Value::Str(text.clone()))),
        Value::List(pair) if pair.len() == 2 && pair[0].as_str().is_some() => {
            let kind = kind_of_role(pair[0].as_str().unwrap_or_default());
            Ok(build(kind, pair[1].clone(), Map::new()))
        }
        Value::Map(map) => coerce_map(map),
        other => Err(unsupported(other)),
    }
}

fn unsupported(value: &Value) -> Error {
    Error::invalid(format!("Unsupported message type: {value}")).class("NotImplementedError")
}

fn kind_of_role(role: &str) -> &str {
    match role {
        "user" => "human",
        "assistant" => "ai",
        "developer" => "system",
        other => other,
    }
}

fn coerce_map(map: &Map) -> Result<Value> {
    // A message in LangChain's own serialization: {"lc":1,"type":"constructor","kwargs":{…}}.
    if let (Some(kwargs), Some("constructor")) = (
        map.get("kwargs").and_then(Value::as_map),
        map.get("type").and_then(Value::as_str),
    ) {
        return coerce_map(kwargs);
    }
    let word = map
        .get("role")
        .or_else(|| map.get("type"))
        .and_then(Value::as_str);
    let Some(word) = word else {
        return Err(
            Error::invalid("message must have a 'role' or a 'type', and 'content'")
                .with("message", Value::map(map.clone())),
        );
    };
    let kind = kind_of_role(word);
    if !CLASSES.iter().any(|(k, ..)| *k == kind) {
        return Err(Error::invalid(format!(
            "Unexpected message type: '{kind}'. Use one of 'human', 'user', 'ai', 'assistant', 'function', 'tool', 'system', or 'developer'."
        )));
    }
    let mut fields = map.clone();
    fields.shift_remove("role");
    fields.shift_remove("type");
    if let Some(openai_calls) = fields.get("tool_calls").and_then(Value::as_list) {
        let calls = openai_calls.iter().map(normalize_tool_call).collect();
        fields.insert("tool_calls".into(), Value::list(calls));
    }
    let content = fields
        .shift_remove("content")
        .unwrap_or_else(|| Value::str(""));
    let content = if content.is_null() {
        Value::str("")
    } else {
        content
    };
    Ok(build(kind, content, fields))
}

/// `{id, type:"function", function:{name, arguments}}` becomes `{name, args, id, type}`.
fn normalize_tool_call(call: &Value) -> Value {
    let Some(function) = call.get("function") else {
        let mut map = call.as_map().cloned().unwrap_or_default();
        map.entry("type".into())
            .or_insert_with(|| Value::str("tool_call"));
        return Value::map(map);
    };
    let args = function
        .get("arguments")
        .and_then(Value::as_str)
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        .unwrap_or_else(|| Value::map(Map::new()));
    Value::object([
        ("name", function.get("name").cloned().unwrap_or_default()),
        ("args", args),
        ("id", call.get("id").cloned().unwrap_or_default()),
        ("type", Value::str("tool_call")),
    ])
}

/// Builds the message of `kind` with the fields LangChain's class has, in its order; other
/// fields follow.
fn build(kind: &str, content: Value, mut fields: Map) -> Value {
    let empty = || Value::map(Map::new());
    let mut map = Map::with_capacity(9);
    let mut take = |map: &mut Map, name: &str, default: Value| {
        let value = fields.shift_remove(name).unwrap_or(default);
        map.insert(Str::from(name), value);
    };
    map.insert("content".into(), content);
    take(&mut map, "additional_kwargs", empty());
    take(&mut map, "response_metadata", empty());
    map.insert("type".into(), Value::str(kind));
    take(&mut map, "name", Value::Null);
    take(&mut map, "id", Value::Null);
    match kind {
        "ai" | "AIMessageChunk" => {
            take(&mut map, "tool_calls", Value::list(vec![]));
            take(&mut map, "invalid_tool_calls", Value::list(vec![]));
            take(&mut map, "usage_metadata", Value::Null);
            if kind == "AIMessageChunk" {
                take(&mut map, "tool_call_chunks", Value::list(vec![]));
                take(&mut map, "chunk_position", Value::Null);
            }
        }
        "tool" => {
            take(&mut map, "tool_call_id", Value::str(""));
            take(&mut map, "artifact", Value::Null);
            take(&mut map, "status", Value::str("success"));
        }
        _ => {}
    }
    map.extend(fields);
    let (module, name) = CLASSES.iter().find(|(k, ..)| *k == kind).map_or(
        ("langchain_core.messages.chat", "ChatMessage"),
        |(_, m, n)| (*m, *n),
    );
    Value::Typed(Arc::new(Typed {
        code: 5,
        module: module.into(),
        name: name.into(),
        value: Value::map(map),
        method: Some("model_validate_json".into()),
    }))
}

/// A chunk of a streamed AI message.
///
/// `fields` may hold `tool_call_chunks`, `usage_metadata`, `response_metadata`; `last` marks the
/// final chunk.
#[must_use]
pub fn ai_chunk(id: &str, content: Value, mut fields: Map, last: Last) -> Value {
    fields.insert("id".into(), Value::str(id));
    if last == Last::Yes {
        fields.insert("chunk_position".into(), Value::str("last"));
    }
    build("AIMessageChunk", content, fields)
}

/// Whether a chunk is the final one of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// It is.
    Yes,
    /// More follow.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value;

    #[test]
    fn clients_may_write_messages_in_many_ways() {
        let want = r#"{"content":"hi","additional_kwargs":{},"response_metadata":{},"type":"human","name":null,"id":null}"#;
        for given in [
            value!("hi"),
            value!(["user", "hi"]),
            value!({"role": "user", "content": "hi"}),
            value!({"type": "human", "content": "hi"}),
            value!({"lc": 1, "type": "constructor", "kwargs": {"type": "human", "content": "hi"}}),
        ] {
            assert_eq!(coerce(&given).unwrap().json_text(), want, "{given}");
        }
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        for given in [
            value!(1),
            value!({"content": "x"}),
            value!({"role": "king", "content": ""}),
        ] {
            assert!(coerce(&given).is_err(), "{given}");
        }
    }
}
