//! A streamed answer as LangChain messages: chunks while it grows, then the whole message.
//!
//! What stands in which field was observed on `langchain-core` 1.7.

use std::collections::VecDeque;

use agentflow_types::{
    Map, Result, Value,
    message::{self, Last},
};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};

use crate::chat::{ChatEvent, ChatResponse, ChatStream, ToolCall, Usage};

/// Most characters that are dropped from the end of unfinished JSON in search of a part that can
/// be read. Keys and literals that break off are shorter.
const REPAIR_CHARS: usize = 64;

/// A part of a streamed message.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// An `AIMessageChunk`.
    Chunk(Value),
    /// The whole `AIMessage`; always the last, unless an error ends the stream.
    Message(Value),
}

/// Turns an answer into messages that all carry `id`.
///
/// Each chunk holds only what is new; the last one holds usage, finish reason and model. An
/// error of the stream is passed on and ends it.
#[must_use]
pub fn pieces(stream: ChatStream, id: &str) -> BoxStream<'static, Result<Piece>> {
    let state = (stream, id.to_owned(), VecDeque::new());
    stream::unfold(Some(state), |state| async move {
        let (mut stream, id, mut pending) = state?;
        if let Some(piece) = pending.pop_front() {
            return Some((Ok(piece), Some((stream, id, pending))));
        }
        match stream.next().await? {
            Err(error) => Some((Err(error), None)),
            Ok(ChatEvent::Done(answer)) => {
                pending.push_back(Piece::Message(whole(&answer, &id)));
                Some((
                    Ok(Piece::Chunk(last_chunk(&answer, &id))),
                    Some((stream, id, pending)),
                ))
            }
            Ok(event) => Some((
                Ok(Piece::Chunk(chunk(&event, &id))),
                Some((stream, id, pending)),
            )),
        }
    })
    .boxed()
}

/// Reads an answer to its end: gives each chunk to `on_chunk` and returns the whole message.
///
/// # Errors
/// The error that ended the stream; chunks that came before it were given.
pub async fn collect(
    stream: ChatStream,
    id: &str,
    mut on_chunk: impl FnMut(Value) + Send,
) -> Result<Value> {
    let mut pieces = pieces(stream, id);
    while let Some(piece) = pieces.next().await {
        match piece? {
            Piece::Chunk(chunk) => on_chunk(chunk),
            Piece::Message(message) => return Ok(message),
        }
    }
    Err(agentflow_types::Error::failed(
        "the answer ended before it was complete",
    ))
}

/// The `AIMessage` of a whole answer.
///
/// Calls whose arguments did not parse are in `invalid_tool_calls`, with the text that the model
/// wrote.
#[must_use]
pub fn whole(answer: &ChatResponse, id: &str) -> Value {
    let (valid, invalid): (Vec<&ToolCall>, Vec<&ToolCall>) =
        answer.tool_calls.iter().partition(|call| call.is_valid());
    let calls = valid
        .into_iter()
        .map(|call| tool_call(&call.name, &call.id, call.args.clone()));
    let invalid = invalid.into_iter().map(|call| {
        let error = Value::str("the arguments are not a JSON object");
        let text = |text: &str| Value::str(text);
        invalid_call(text(&call.name), call.args.clone(), text(&call.id), error)
    });
    let mut fields = Map::new();
    fields.insert("type".into(), Value::str("ai"));
    fields.insert("content".into(), Value::str(answer.text.as_str()));
    fields.insert("id".into(), Value::str(id));
    fields.insert("tool_calls".into(), Value::list(calls.collect()));
    fields.insert("invalid_tool_calls".into(), Value::list(invalid.collect()));
    fields.insert("usage_metadata".into(), usage(answer.usage));
    fields.insert("response_metadata".into(), metadata(answer));
    let map = Value::map(fields);
    message::coerce(&map).expect("a map of type ai is a message")
}

/// The chunk of one event; [`ChatEvent::Done`] is the caller's business.
fn chunk(event: &ChatEvent, id: &str) -> Value {
    let mut fields = Map::new();
    let content = match event {
        ChatEvent::Text(text) => text.as_str(),
        ChatEvent::ToolCall {
            index,
            id,
            name,
            args,
        } => {
            let text = |text: &Option<String>| match text {
                Some(text) => Value::str(text.as_str()),
                None => Value::Null,
            };
            let piece = Value::object([
                ("name", text(name)),
                ("args", Value::str(args.as_str())),
                ("id", text(id)),
                ("index", Value::Int(i64::from(*index))),
                ("type", Value::str("tool_call_chunk")),
            ]);
            fields.insert("tool_call_chunks".into(), Value::list(vec![piece]));
            match partial(args) {
                Some(args) => {
                    let id = id.as_deref().map_or(Value::Null, Value::str);
                    let call = Value::object([
                        ("name", Value::str(name.as_deref().unwrap_or_default())),
                        ("args", args),
                        ("id", id),
                        ("type", Value::str("tool_call")),
                    ]);
                    fields.insert("tool_calls".into(), Value::list(vec![call]));
                }
                None => {
                    let args = Value::str(args.as_str());
                    let call = invalid_call(text(name), args, text(id), Value::Null);
                    fields.insert("invalid_tool_calls".into(), Value::list(vec![call]));
                }
            }
            ""
        }
        ChatEvent::Done(_) => "",
    };
    message::ai_chunk(id, Value::str(content), fields, Last::No)
}

fn last_chunk(answer: &ChatResponse, id: &str) -> Value {
    let mut fields = Map::new();
    fields.insert("usage_metadata".into(), usage(answer.usage));
    fields.insert("response_metadata".into(), metadata(answer));
    message::ai_chunk(id, Value::str(""), fields, Last::Yes)
}

fn tool_call(name: &str, id: &str, args: Value) -> Value {
    Value::object([
        ("name", Value::str(name)),
        ("args", args),
        ("id", Value::str(id)),
        ("type", Value::str("tool_call")),
    ])
}

fn invalid_call(name: Value, args: Value, id: Value, error: Value) -> Value {
    Value::object([
        ("name", name),
        ("args", args),
        ("id", id),
        ("error", error),
        ("type", Value::str("invalid_tool_call")),
    ])
}

fn usage(usage: Option<Usage>) -> Value {
    let Some(usage) = usage else {
        return Value::Null;
    };
    let int = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    Value::object([
        ("input_tokens", int(usage.input_tokens)),
        ("output_tokens", int(usage.output_tokens)),
        (
            "total_tokens",
            int(usage.input_tokens.saturating_add(usage.output_tokens)),
        ),
    ])
}

fn metadata(answer: &ChatResponse) -> Value {
    let mut map = Map::new();
    if let Some(reason) = &answer.finish_reason {
        map.insert("finish_reason".into(), Value::str(reason.as_str()));
    }
    if !answer.model.is_empty() {
        map.insert("model_name".into(), Value::str(answer.model.as_str()));
    }
    if let Some(id) = &answer.id {
        map.insert("id".into(), Value::str(id.as_str()));
    }
    Value::map(map)
}

/// The map that unfinished JSON text begins to be: open strings and brackets are closed, and
/// what still cannot be read is dropped from the end. `None` if it does not begin a map.
fn partial(text: &str) -> Option<Value> {
    if text.is_empty() {
        return Some(Value::map(Map::new()));
    }
    let is_map = |text: &str| {
        serde_json::from_str::<Value>(text)
            .ok()
            .filter(|value| value.as_map().is_some())
    };
    if let Some(map) = is_map(text) {
        return Some(map);
    }
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut end = text.len();
    for _ in 0..=REPAIR_CHARS {
        if let Some(map) = closed(&text[..end]).and_then(|text| is_map(&text)) {
            return Some(map);
        }
        end = text[..end].char_indices().next_back()?.0;
    }
    None
}

/// `text` with its open strings and brackets closed; `None` if brackets do not match.
fn closed(text: &str) -> Option<String> {
    let (mut open, mut in_string, mut escaped) = (Vec::new(), false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' => open.push('}'),
            b'[' => open.push(']'),
            b'}' | b']' if open.pop() != Some(char::from(byte)) => return None,
            _ => {}
        }
    }
    let mut text = text.to_owned();
    if escaped {
        text.pop();
    }
    if in_string {
        text.push('"');
    }
    text.extend(open.into_iter().rev());
    Some(text)
}

#[cfg(test)]
mod tests {
    use agentflow_types::{Error, value};
    use futures_util::FutureExt;

    use super::*;

    fn run(events: Vec<Result<ChatEvent>>) -> Vec<Result<Piece>> {
        pieces(stream::iter(events).boxed(), "run-1")
            .collect()
            .now_or_never()
            .unwrap()
    }

    fn call(id: Option<&str>, name: Option<&str>, args: &str) -> Result<ChatEvent> {
        let (id, name) = (id.map(str::to_owned), name.map(str::to_owned));
        Ok(ChatEvent::ToolCall {
            index: 0,
            id,
            name,
            args: args.to_owned(),
        })
    }

    #[test]
    fn chunks_look_as_langchain_makes_them() {
        let answer = ChatResponse {
            text: "hi".into(),
            tool_calls: vec![
                ToolCall {
                    id: "c1".into(),
                    name: "f".into(),
                    args: value!({"a": 1}),
                },
                ToolCall {
                    id: "c2".into(),
                    name: "g".into(),
                    args: value!("{oops"),
                },
            ],
            finish_reason: Some("tool_calls".into()),
            usage: Some(Usage {
                input_tokens: 1,
                output_tokens: 2,
            }),
            model: "gpt".into(),
            id: None,
        };
        let got: Vec<String> = run(vec![
            Ok(ChatEvent::Text("hi".into())),
            call(Some("c1"), Some("f"), "{\"a"),
            call(None, None, "\": 1}"),
            Ok(ChatEvent::Done(answer)),
        ])
        .into_iter()
        .map(|piece| match piece.unwrap() {
            Piece::Chunk(message) | Piece::Message(message) => message.json_text(),
        })
        .collect();
        // The first three and the last chunk: `model_dump_json` of langchain-core 1.7.2.
        let want = [
            r#"{"content":"hi","additional_kwargs":{},"response_metadata":{},"type":"AIMessageChunk","name":null,"id":"run-1","tool_calls":[],"invalid_tool_calls":[],"usage_metadata":null,"tool_call_chunks":[],"chunk_position":null}"#,
            r#"{"content":"","additional_kwargs":{},"response_metadata":{},"type":"AIMessageChunk","name":null,"id":"run-1","tool_calls":[{"name":"f","args":{},"id":"c1","type":"tool_call"}],"invalid_tool_calls":[],"usage_metadata":null,"tool_call_chunks":[{"name":"f","args":"{\"a","id":"c1","index":0,"type":"tool_call_chunk"}],"chunk_position":null}"#,
            r#"{"content":"","additional_kwargs":{},"response_metadata":{},"type":"AIMessageChunk","name":null,"id":"run-1","tool_calls":[],"invalid_tool_calls":[{"name":null,"args":"\": 1}","id":null,"error":null,"type":"invalid_tool_call"}],"usage_metadata":null,"tool_call_chunks":[{"name":null,"args":"\": 1}","id":null,"index":0,"type":"tool_call_chunk"}],"chunk_position":null}"#,
            r#"{"content":"","additional_kwargs":{},"response_metadata":{"finish_reason":"tool_calls","model_name":"gpt"},"type":"AIMessageChunk","name":null,"id":"run-1","tool_calls":[],"invalid_tool_calls":[],"usage_metadata":{"input_tokens":1,"output_tokens":2,"total_tokens":3},"tool_call_chunks":[],"chunk_position":"last"}"#,
            r#"{"content":"hi","additional_kwargs":{},"response_metadata":{"finish_reason":"tool_calls","model_name":"gpt"},"type":"ai","name":null,"id":"run-1","tool_calls":[{"name":"f","args":{"a":1},"id":"c1","type":"tool_call"}],"invalid_tool_calls":[{"name":"g","args":"{oops","id":"c2","error":"the arguments are not a JSON object","type":"invalid_tool_call"}],"usage_metadata":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}"#,
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn an_error_ends_the_pieces() {
        let got = run(vec![
            Ok(ChatEvent::Text("a".into())),
            Err(Error::failed("broken")),
            Ok(ChatEvent::Text("b".into())),
        ]);
        assert_eq!(got.len(), 2);
        assert!(got[1].is_err());
    }

    #[test]
    fn unfinished_json_is_read_as_far_as_it_goes() {
        for (text, want) in [
            ("", Some(value!({}))),
            (r#"{"a": 1}"#, Some(value!({"a": 1}))),
            (
                r#"{"a": [1, {"b": "x"#,
                Some(value!({"a": [1, {"b": "x"}]})),
            ),
            (r#"{"a": 1, "b"#, Some(value!({"a": 1}))),
            (r#"{"a": tr"#, Some(value!({}))),
            (r#"{"a": "x\"#, Some(value!({"a": "x"}))),
            (r#"{"a": 1]"#, Some(value!({"a": 1}))),
            (r#"": 1}"#, None),
            ("[1]", None),
            ("text", None),
        ] {
            assert_eq!(partial(text), want, "{text}");
        }
    }
}
