//! A conversation as the wire formats need it, read from LangChain-shaped messages. Pure.

use agentflow_types::{Error, Result, Value, message};
use serde_json::Value as Json;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Turn {
    /// Instructions.
    System(Vec<Part>),
    /// What the user says.
    User(Vec<Part>),
    /// What the model said.
    Assistant {
        /// Content.
        parts: Vec<Part>,
        /// Tool calls, valid or not.
        calls: Vec<Call>,
    },
    /// What a tool answered.
    Tool {
        /// Call that it answers.
        id: String,
        /// Tool.
        name: String,
        /// Content.
        parts: Vec<Part>,
        /// Whether the tool failed.
        failed: bool,
    },
}

/// A tool call that a model made before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// Id.
    pub id: String,
    /// Tool.
    pub name: String,
    /// Arguments as JSON text; what the model wrote if it was not JSON.
    pub args: String,
}

impl Call {
    /// The arguments as an object; an empty one if the model wrote something else.
    pub(crate) fn object(&self) -> Json {
        match serde_json::from_str(&self.args) {
            Ok(Json::Object(map)) => Json::Object(map),
            _ => Json::Object(serde_json::Map::new()),
        }
    }
}

/// A piece of content.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// Text, never empty.
    Text(String),
    /// An image by address.
    ImageUrl(String),
    /// An image by content.
    ImageData {
        /// For example `image/png`.
        media_type: String,
        /// Base64.
        data: String,
    },
    /// A block that only its provider understands; passed on as it is.
    Other(Json),
}

/// Reads messages in any form that LangChain accepts.
///
/// # Errors
/// `Invalid` if a value is not a message or cannot be sent to a model.
pub(crate) fn read(messages: &[Value]) -> Result<Vec<Turn>> {
    messages
        .iter()
        .map(|message| turn(&message::coerce(message)?))
        .collect()
}

fn turn(message: &Value) -> Result<Turn> {
    let parts = parts(message.get("content").unwrap_or(&Value::Null));
    let text_of = |key: &str| {
        message
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    match message::kind(message).unwrap_or_default() {
        "human" | "HumanMessageChunk" => Ok(Turn::User(parts)),
        "system" | "SystemMessageChunk" => Ok(Turn::System(parts)),
        "ai" | "AIMessageChunk" => Ok(Turn::Assistant {
            parts,
            calls: calls(message),
        }),
        "tool" | "ToolMessageChunk" | "function" | "FunctionMessageChunk" => Ok(Turn::Tool {
            id: text_of("tool_call_id"),
            name: text_of("name"),
            parts,
            failed: message.get("status").and_then(Value::as_str) == Some("error"),
        }),
        "chat" => Ok(match text_of("role").as_str() {
            "assistant" | "ai" => Turn::Assistant {
                parts,
                calls: Vec::new(),
            },
            "system" | "developer" => Turn::System(parts),
            _ => Turn::User(parts),
        }),
        other => Err(
            Error::invalid("this kind of message cannot be sent to a model").with("type", other),
        ),
    }
}

/// Valid calls, then the invalid ones: the tool messages that answer them refer to both.
fn calls(message: &Value) -> Vec<Call> {
    let list = |key: &str| {
        message
            .get(key)
            .and_then(Value::as_list)
            .unwrap_or_default()
            .iter()
    };
    list("tool_calls")
        .chain(list("invalid_tool_calls"))
        .map(|call| {
            let text = |key: &str| {
                call.get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let args = match call.get("args").map(Value::untyped) {
                None | Some(Value::Null) => "{}".to_owned(),
                Some(Value::Str(text)) => text.to_string(),
                Some(args) => args.json_text(),
            };
            Call {
                id: text("id"),
                name: text("name"),
                args,
            }
        })
        .collect()
}

fn parts(content: &Value) -> Vec<Part> {
    match content.untyped() {
        Value::Str(text) => text_part(text).into_iter().collect(),
        Value::List(blocks) => blocks.iter().filter_map(part).collect(),
        Value::Null => Vec::new(),
        other => vec![Part::Text(other.json_text())],
    }
}

fn text_part(text: &str) -> Option<Part> {
    (!text.is_empty()).then(|| Part::Text(text.to_owned()))
}

fn part(block: &Value) -> Option<Part> {
    if let Some(text) = block.as_str() {
        return text_part(text);
    }
    let text = |key: &str| block.get(key).and_then(Value::as_str);
    match text("type").unwrap_or_default() {
        "text" | "input_text" | "output_text" => text_part(text("text")?),
        "image_url" => {
            let url = block.get("image_url")?;
            image(url.as_str().or_else(|| url.get("url")?.as_str())?)
        }
        "image" => image_block(block),
        // Tool calls are read from `tool_calls`; thoughts are not sent back.
        "tool_use" | "tool_call" | "tool_call_chunk" | "invalid_tool_call" | "thinking"
        | "redacted_thinking" | "reasoning" => None,
        _ => Some(Part::Other(block.to_json())),
    }
}

/// LangChain's standard image block (`url`, or `base64`/`data` with `mime_type`) and Anthropic's
/// (`source`).
fn image_block(block: &Value) -> Option<Part> {
    let source = block.get("source").unwrap_or(block);
    let text = |key: &str| source.get(key).and_then(Value::as_str);
    if let Some(url) = text("url") {
        return image(url);
    }
    let media_type = text("mime_type")
        .or_else(|| text("media_type"))
        .unwrap_or("image/png");
    let data = text("base64").or_else(|| text("data"))?;
    Some(Part::ImageData {
        media_type: media_type.to_owned(),
        data: data.to_owned(),
    })
}

fn image(url: &str) -> Option<Part> {
    let inline = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(";base64,"));
    Some(match inline {
        Some((media_type, data)) => Part::ImageData {
            media_type: media_type.to_owned(),
            data: data.to_owned(),
        },
        None => Part::ImageUrl(url.to_owned()),
    })
}

/// The text among `parts`, joined.
pub(crate) fn text(parts: &[Part]) -> String {
    let texts = parts.iter().map(|part| match part {
        Part::Text(text) => text.as_str(),
        _ => "",
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    #[test]
    fn blocks_of_every_kind_are_read() {
        let turns = read(&[value!({"type": "human", "content": [
            "a",
            {"type": "text", "text": "b"},
            {"type": "text", "text": ""},
            {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            {"type": "image_url", "image_url": "data:image/png;base64,QQ=="},
            {"type": "image", "source_type": "base64", "data": "QQ==", "mime_type": "image/jpeg"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "Qg=="}},
            {"type": "file", "file": {"file_id": "f"}},
            {"type": "thinking", "thinking": "hm"},
        ]})])
        .unwrap();
        let data = |media_type: &str, data: &str| Part::ImageData {
            media_type: media_type.into(),
            data: data.into(),
        };
        assert_eq!(
            turns,
            [Turn::User(vec![
                Part::Text("a".into()),
                Part::Text("b".into()),
                Part::ImageUrl("https://x/y.png".into()),
                data("image/png", "QQ=="),
                data("image/jpeg", "QQ=="),
                data("image/gif", "Qg=="),
                Part::Other(serde_json::json!({"type": "file", "file": {"file_id": "f"}})),
            ])]
        );
    }

    #[test]
    fn calls_keep_their_text_even_when_it_does_not_parse() {
        let turns = read(&[
            value!({"role": "assistant", "content": null,
                "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "1"}],
                "invalid_tool_calls": [{"name": "g", "args": "{oops", "id": "2", "error": "x"}]}),
            value!({"type": "tool", "content": "no", "tool_call_id": "2", "name": "g", "status": "error"}),
        ])
        .unwrap();
        let Turn::Assistant { calls, parts } = &turns[0] else {
            panic!("{turns:?}")
        };
        assert!(parts.is_empty());
        assert_eq!(calls[0].args, r#"{"a":1}"#);
        assert_eq!(calls[1].args, "{oops");
        assert_eq!(calls[1].object(), serde_json::json!({}));
        assert!(matches!(&turns[1], Turn::Tool { failed: true, id, .. } if id == "2"));
    }

    #[test]
    fn a_remove_message_cannot_be_sent() {
        let error = read(&[value!({"type": "remove", "id": "1", "content": ""})]).unwrap_err();
        assert_eq!(error.kind(), agentflow_types::ErrorKind::Invalid);
    }
}
