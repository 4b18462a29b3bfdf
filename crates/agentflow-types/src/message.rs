//! Messages in LangChain's shape.
//!
//! In state a message is a [`Typed`] value of extension code 5, so that Python reads the object
//! back that it would have written; clients see the map inside.

use std::sync::{Arc, LazyLock};

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

/// Place of `id` among the fields that LangChain's classes begin with.
const ID_AT: usize = 5;

/// The id of a message, if it has one.
#[must_use]
pub fn id(message: &Value) -> Option<&str> {
    let map = message.as_map()?;
    // Histories are searched by id: most messages have it in one place.
    match map.get_index(ID_AT) {
        Some((key, id)) if &**key == "id" => id.as_str(),
        _ => message.get("id")?.as_str(),
    }
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
    let with = |map: &Map| {
        let mut map = map.clone();
        set(&mut map, "id", Value::str(id));
        Value::map(map)
    };
    match message {
        Value::Typed(typed) => {
            let mut typed = (**typed).clone();
            if let Value::Map(map) = &typed.value {
                typed.value = with(map);
            }
            Value::Typed(Arc::new(typed))
        }
        Value::Map(map) => with(map),
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

/// The messages of each kind without content, in the order of [`CLASSES`]: their names and
/// defaults are shared by all messages.
static BLANKS: LazyLock<Vec<Typed>> = LazyLock::new(|| {
    let blank = |(kind, module, name): &(&str, &str, &str)| Typed {
        code: 5,
        module: (*module).into(),
        name: (*name).into(),
        value: Value::map(defaults(kind)),
        method: Some("model_validate_json".into()),
    };
    CLASSES.iter().map(blank).collect()
});

/// The fields that LangChain's class of this kind has, in its order.
fn defaults(kind: &str) -> Map {
    let none = || Value::list(vec![]);
    let mut map = Map::with_capacity(11);
    let mut put = |name: &str, value: Value| {
        map.insert(Str::from(name), value);
    };
    put("content", Value::str(""));
    put("additional_kwargs", Value::map(Map::new()));
    put("response_metadata", Value::map(Map::new()));
    put("type", Value::str(kind));
    put("name", Value::Null);
    put("id", Value::Null);
    match kind {
        "ai" | "AIMessageChunk" => {
            put("tool_calls", none());
            put("invalid_tool_calls", none());
            put("usage_metadata", Value::Null);
            if kind == "AIMessageChunk" {
                put("tool_call_chunks", none());
                put("chunk_position", Value::Null);
            }
        }
        "tool" => {
            put("tool_call_id", Value::str(""));
            put("artifact", Value::Null);
            put("status", Value::str("success"));
        }
        _ => {}
    }
    map
}

/// Builds the message of `kind` with the fields LangChain's class has, in its order; other
/// fields follow.
fn build(kind: &str, content: Value, fields: Map) -> Value {
    let known = CLASSES.iter().position(|(k, ..)| *k == kind);
    let chat = || CLASSES.iter().position(|(k, ..)| *k == "chat");
    let at = known.or_else(chat).unwrap_or_default();
    let mut typed = BLANKS[at].clone();
    let Value::Map(map) = &mut typed.value else {
        return Value::Typed(Arc::new(typed));
    };
    let map = Arc::make_mut(map);
    set(map, "content", content);
    if known.is_none() {
        set(map, "type", Value::str(kind));
    }
    for (name, value) in fields {
        map.insert(name, value);
    }
    Value::Typed(Arc::new(typed))
}

/// Sets a field; the name of one that is there is not made anew.
fn set(map: &mut Map, name: &str, value: Value) {
    match map.iter_mut().find(|(key, _)| &***key == name) {
        Some((_, old)) => *old = value,
        None => {
            map.insert(name.into(), value);
        }
    }
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
