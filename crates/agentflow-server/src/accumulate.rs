//! Joining the chunks of a streamed message, as LangChain adds them up.

use serde_json::{Map, Value, json};

/// Whether a message object is a chunk of a longer one.
pub(crate) fn is_chunk(message: &Value) -> bool {
    text_of(message, "type").is_some_and(|kind| kind.ends_with("Chunk"))
}

/// Whether a chunk is the last of its message.
pub(crate) fn is_last(message: &Value) -> bool {
    text_of(message, "chunk_position") == Some("last")
}

/// A text field of an object.
pub(crate) fn text_of<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

/// Whether JSON says nothing: null, or an empty text, list or object.
pub(crate) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Adds a chunk to what came before it.
pub(crate) fn add(whole: &mut Value, chunk: &Value) {
    let (Some(whole), Some(chunk)) = (whole.as_object_mut(), chunk.as_object()) else {
        return;
    };
    for (key, part) in chunk {
        let known = whole.entry(key.clone()).or_insert(Value::Null);
        match key.as_str() {
            "content" => add_content(known, part),
            "tool_call_chunks" => add_indexed(known, part),
            "additional_kwargs" | "response_metadata" => merge(known, part),
            "usage_metadata" => add_usage(known, part),
            _ if is_blank(part) => {}
            _ => *known = part.clone(),
        }
    }
}

/// The message that the chunks so far stand for: type without `Chunk`, tool calls parsed as far
/// as they are complete, chunk fields gone.
pub(crate) fn finished(whole: &Value) -> Value {
    let Some(map) = whole.as_object() else {
        return whole.clone();
    };
    let mut map = map.clone();
    let kind = map.get("type").and_then(Value::as_str).unwrap_or("ai");
    let kind = match kind.strip_suffix("MessageChunk") {
        Some(word) => word.to_ascii_lowercase(),
        None => kind.to_owned(),
    };
    map.insert("type".into(), json!(kind));
    map.shift_remove("chunk_position");
    if let Some(Value::Array(chunks)) = map.shift_remove("tool_call_chunks")
        && !chunks.is_empty()
    {
        map.insert("tool_calls".into(), chunks.iter().map(tool_call).collect());
    }
    Value::Object(map)
}

/// A tool call out of its joined chunks. Arguments that are not complete JSON yet are empty.
pub(crate) fn tool_call(chunk: &Value) -> Value {
    let args = text_of(chunk, "args").unwrap_or_default();
    let args = serde_json::from_str::<Value>(args)
        .ok()
        .filter(Value::is_object);
    json!({
        "name": chunk.get("name").filter(|n| !n.is_null()).unwrap_or(&json!("")),
        "args": args.unwrap_or_else(|| json!({})),
        "id": chunk.get("id"),
        "type": "tool_call",
    })
}

fn add_content(known: &mut Value, part: &Value) {
    if is_blank(part) && !known.is_null() {
        return;
    }
    match (&mut *known, part) {
        (Value::String(text), Value::String(more)) => text.push_str(more),
        (Value::Array(_), Value::Array(_)) => add_indexed(known, part),
        (Value::Array(blocks), Value::String(more)) => {
            blocks.push(json!({"type": "text", "text": more}));
        }
        (Value::String(text), Value::Array(_)) => {
            let mut blocks = json!([]);
            if !text.is_empty() {
                blocks = json!([{"type": "text", "text": text}]);
            }
            add_indexed(&mut blocks, part);
            *known = blocks;
        }
        (known, part) => *known = part.clone(),
    }
}

/// Adds list items: those with an `index` that is known are joined, others are appended.
fn add_indexed(known: &mut Value, part: &Value) {
    let Value::Array(parts) = part else { return };
    if !known.is_array() {
        *known = json!([]);
    }
    let Value::Array(items) = known else { return };
    for part in parts {
        let index = part.get("index").filter(|index| !index.is_null());
        let same = items
            .iter_mut()
            .find(|item| index.is_some() && item.get("index") == index);
        match same {
            Some(item) => join(item, part),
            None => items.push(part.clone()),
        }
    }
}

/// Joins two pieces of one block: texts are appended, except those that name something.
fn join(item: &mut Value, part: &Value) {
    let (Some(item), Some(part)) = (item.as_object_mut(), part.as_object()) else {
        return;
    };
    for (key, value) in part {
        match (item.get_mut(key), value) {
            (Some(Value::String(text)), Value::String(more))
                if !matches!(key.as_str(), "type" | "id" | "name") =>
            {
                text.push_str(more);
            }
            (Some(known), value) if !known.is_null() && is_blank(value) => {}
            _ => {
                item.insert(key.clone(), value.clone());
            }
        }
    }
}

fn merge(known: &mut Value, part: &Value) {
    match (known, part) {
        (_, Value::Null) => {}
        (Value::Object(known), Value::Object(part)) => {
            known.extend(part.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        (known, part) => *known = part.clone(),
    }
}

/// Adds token counts.
fn add_usage(known: &mut Value, part: &Value) {
    let Value::Object(part) = part else { return };
    if !known.is_object() {
        *known = Value::Object(Map::new());
    }
    let Value::Object(known) = known else { return };
    for (key, value) in part {
        match (known.get_mut(key), value) {
            (Some(sum), Value::Number(more)) => {
                *sum = json!(sum.as_u64().unwrap_or(0) + more.as_u64().unwrap_or(0));
            }
            (Some(inner), Value::Object(_)) => add_usage(inner, value),
            _ => {
                known.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_add_up_to_the_message() {
        let chunk = |content: Value, calls: Value, usage: Value| {
            json!({"type": "AIMessageChunk", "id": "m", "content": content,
                   "tool_call_chunks": calls, "usage_metadata": usage})
        };
        let mut whole = chunk(json!("He"), json!([]), json!(null));
        add(
            &mut whole,
            &chunk(json!("llo"), json!([]), json!({"input_tokens": 1})),
        );
        let call = |name: Value, id: Value, args: &str| json!([{"name": name, "id": id, "args": args, "index": 0}]);
        let start = call(json!("search"), json!("c1"), "{\"q\":");
        add(
            &mut whole,
            &chunk(json!(""), start, json!({"input_tokens": 2})),
        );
        assert_eq!(finished(&whole)["tool_calls"][0]["args"], json!({}));
        let rest = call(json!(null), json!(null), "1}");
        add(&mut whole, &chunk(json!(""), rest, json!(null)));
        assert_eq!(
            finished(&whole),
            json!({
                "type": "ai", "id": "m", "content": "Hello",
                "usage_metadata": {"input_tokens": 3},
                "tool_calls":
                    [{"name": "search", "args": {"q": 1}, "id": "c1", "type": "tool_call"}],
            })
        );
    }

    #[test]
    fn blocks_join_by_index() {
        let mut whole = json!({"content": ""});
        let block =
            |n: u32, text: &str| json!({"content": [{"type": "text", "text": text, "index": n}]});
        add(&mut whole, &block(0, "a"));
        add(&mut whole, &block(0, "b"));
        add(&mut whole, &block(1, "c"));
        assert_eq!(whole["content"][0]["text"], "ab");
        assert_eq!(whole["content"][1]["text"], "c");
    }
}
