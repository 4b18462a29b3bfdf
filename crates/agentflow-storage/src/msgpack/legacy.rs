//! JSON with constructors: what LangGraph wrote before MessagePack, and JavaScript still writes.
//!
//! `{"lc": 1 or 2, "type": "constructor", "id": […module, name], "args": […], "kwargs": {…}}`
//! stands for an object. JavaScript adds `Set`, `Map`, `Uint8Array`, `undefined` and
//! `{"lg_name": "Send", "node": …, "args": …}`.

use std::sync::Arc;

use agentflow_types::{Map, Result, Str, Typed, Value};

/// Method by which Python rebuilds a pydantic object, as its serializer names it.
const VALIDATE: &str = "model_validate_json";

pub(super) fn decode(bytes: &[u8]) -> Result<Value> {
    Ok(revive(crate::json::parse(bytes)?))
}

/// Replaces constructors, innermost first. The depth is bounded by the JSON parser.
fn revive(value: Value) -> Value {
    match value {
        Value::List(items) => Value::list(
            Arc::unwrap_or_clone(items)
                .into_iter()
                .map(revive)
                .collect(),
        ),
        Value::Map(map) => {
            let entries = Arc::unwrap_or_clone(map)
                .into_iter()
                .map(|(k, v)| (k, revive(v)));
            let map: Map = entries.collect();
            match object(&map) {
                Some(value) => value,
                None => Value::map(map),
            }
        }
        other => other,
    }
}

fn object(map: &Map) -> Option<Value> {
    if map.get("lg_name").and_then(Value::as_str) == Some("Send") {
        let args = vec![
            map.get("node")?.clone(),
            map.get("args").cloned().unwrap_or_default(),
        ];
        return Some(typed(1, "langgraph.types", "Send", Value::list(args), None));
    }
    let lc = map.get("lc")?.as_i64()?;
    match map.get("type")?.as_str()? {
        "undefined" if lc == 2 => Some(Value::Null),
        "constructor" => constructor(lc, map),
        _ => None,
    }
}

fn constructor(lc: i64, map: &Map) -> Option<Value> {
    let id: Vec<&str> = map
        .get("id")?
        .as_list()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let (name, module) = id.split_last()?;
    let kwargs = map
        .get("kwargs")
        .and_then(Value::as_map)
        .filter(|kwargs| !kwargs.is_empty());
    let args = map
        .get("args")
        .and_then(Value::as_list)
        .filter(|args| !args.is_empty());
    if let (Some((module, kind)), Some(kwargs)) = (message_module(name), kwargs) {
        return Some(message(module, name, kind, kwargs));
    }
    if lc != 2 {
        return None;
    }
    match (module, args, kwargs) {
        ([], Some([items]), None) => javascript(name, items),
        ([], _, _) => None,
        (module, Some(args), None) => Some(typed(
            1,
            &module.join("."),
            name,
            Value::list(args.to_vec()),
            None,
        )),
        (module, None, Some(kwargs)) => Some(typed(
            2,
            &module.join("."),
            name,
            Value::map(kwargs.clone()),
            None,
        )),
        _ => None,
    }
}

fn javascript(name: &str, items: &Value) -> Option<Value> {
    let items = items.as_list()?;
    match name {
        "Set" => Some(typed(
            0,
            "builtins",
            "set",
            Value::list(items.to_vec()),
            None,
        )),
        "Uint8Array" => {
            let byte = |item: &Value| item.as_i64().and_then(|n| u8::try_from(n).ok());
            items
                .iter()
                .map(byte)
                .collect::<Option<Vec<u8>>>()
                .map(|b| Value::Bytes(b.into()))
        }
        "Map" => {
            let pair = |item: &Value| match item.as_list() {
                Some([key, value]) => Some((key.clone(), value.clone())),
                _ => None,
            };
            let pairs = items.iter().map(pair).collect::<Option<Vec<_>>>()?;
            Some(map_or_pairs(pairs))
        }
        _ => None,
    }
}

/// A map, if all keys are text.
fn map_or_pairs(pairs: Vec<(Value, Value)>) -> Value {
    if pairs.iter().all(|(key, _)| matches!(key, Value::Str(_))) {
        let text = |(key, value): (Value, Value)| Some((Str::from(key.as_str()?), value));
        return Value::map(pairs.into_iter().filter_map(text).collect());
    }
    Value::Pairs(Arc::new(pairs))
}

/// The Python module of a LangChain message class, and its `type`.
fn message_module(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "HumanMessage" => ("human", "human"),
        "HumanMessageChunk" => ("human", "HumanMessageChunk"),
        "AIMessage" => ("ai", "ai"),
        "AIMessageChunk" => ("ai", "AIMessageChunk"),
        "SystemMessage" => ("system", "system"),
        "ToolMessage" => ("tool", "tool"),
        "FunctionMessage" => ("function", "function"),
        "ChatMessage" => ("chat", "chat"),
        "RemoveMessage" => ("modifier", "remove"),
        _ => return None,
    })
}

/// A message as Python's serializer stores it: the fields every message has come first.
fn message(module: &str, name: &str, kind: &str, kwargs: &Map) -> Value {
    let empty = || Value::map(Map::new());
    let field = |key: &str| kwargs.get(key).filter(|value| !value.is_null()).cloned();
    let mut fields = Map::new();
    fields.insert(
        "content".into(),
        field("content").unwrap_or_else(|| "".into()),
    );
    for key in ["additional_kwargs", "response_metadata"] {
        fields.insert(key.into(), field(key).unwrap_or_else(empty));
    }
    fields.insert("type".into(), kind.into());
    for key in ["name", "id"] {
        fields.insert(key.into(), field(key).unwrap_or_default());
    }
    for (key, value) in kwargs {
        if !fields.contains_key(key) {
            fields.insert(key.clone(), value.clone());
        }
    }
    let module = format!("langchain_core.messages.{module}");
    typed(5, &module, name, Value::map(fields), Some(VALIDATE))
}

fn typed(code: i8, module: &str, name: &str, value: Value, method: Option<&str>) -> Value {
    Value::Typed(Arc::new(Typed {
        code,
        module: module.into(),
        name: name.into(),
        value,
        method: method.map(Str::from),
    }))
}
