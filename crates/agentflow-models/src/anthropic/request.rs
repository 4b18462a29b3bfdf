//! Writing Messages requests. Pure.

use agentflow_types::{Result, Value};
use serde_json::{Map, Value as Json, json};

use crate::{
    anthropic::DEFAULT_MAX_TOKENS,
    chat::{ChatRequest, ToolChoice},
    schema,
    turns::{self, Part, Turn},
};

/// How the answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// In pieces.
    Stream,
    /// At once.
    Whole,
}

/// The body of a request.
///
/// A strict response schema is sent as the output's format. The API refuses others there; such a
/// schema becomes a tool that the model must call, and the reader turns the call back into text.
///
/// # Errors
/// `Invalid` if a message cannot be sent.
pub(crate) fn encode(request: &ChatRequest, delivery: Delivery) -> Result<Json> {
    let turns = turns::read(&request.messages)?;
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    body.insert(
        "max_tokens".into(),
        json!(request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)),
    );
    let system = system(&turns);
    if !system.is_empty() {
        body.insert("system".into(), json!(system));
    }
    body.insert("messages".into(), messages(&turns));
    let mut tools: Vec<Json> = request.tools.iter().map(tool).collect();
    let schema_tool = schema_tool(request);
    if let Some((name, schema)) = schema_tool {
        let description = "Call this with the answer.";
        let schema = schema.to_json();
        tools.push(json!({"name": name, "description": description, "input_schema": schema}));
    }
    if !tools.is_empty() {
        body.insert("tools".into(), Json::Array(tools));
        if let Some(choice) = tool_choice(request, schema_tool.map(|(name, _)| name.as_str())) {
            body.insert("tool_choice".into(), choice);
        }
    }
    if let Some(temperature) = request.temperature {
        body.insert("temperature".into(), json!(temperature));
    }
    if !request.stop.is_empty() {
        body.insert("stop_sequences".into(), json!(request.stop));
    }
    if delivery == Delivery::Stream {
        body.insert("stream".into(), json!(true));
    }
    let format = match (&request.response_schema, schema_tool) {
        (Some((_, schema)), None) => {
            let format = json!({"type": "json_schema", "schema": schema.to_json()});
            body.insert("output_config".into(), json!({"format": format}));
            Some(format)
        }
        _ => None,
    };
    for (name, value) in &request.extra {
        body.insert(name.to_string(), value.to_json());
    }
    // Other settings of the output are welcome, but the format is the request's.
    if let (Some(format), Some(Json::Object(config))) = (format, body.get_mut("output_config")) {
        config.insert("format".into(), format);
    }
    Ok(Json::Object(body))
}

/// Name and schema of the tool that stands for the response schema, if it needs one.
pub(crate) fn schema_tool(request: &ChatRequest) -> Option<&(String, Value)> {
    request
        .response_schema
        .as_ref()
        .filter(|(_, schema)| !schema::is_strict(&schema.to_json()))
}

/// All instructions, wherever they stand in the conversation: the API has one place for them.
fn system(turns: &[Turn]) -> String {
    let texts: Vec<String> = turns
        .iter()
        .filter_map(|turn| match turn {
            Turn::System(parts) => Some(turns::text(parts)),
            _ => None,
        })
        .filter(|text| !text.is_empty())
        .collect();
    texts.join("\n\n")
}

/// Turns become messages that alternate between user and assistant; answers of tools are
/// content of the user, and come first there, as the API demands.
fn messages(turns: &[Turn]) -> Json {
    let mut messages: Vec<(&'static str, Vec<Json>)> = Vec::new();
    for turn in turns {
        let (role, blocks) = match turn {
            Turn::System(_) => continue,
            Turn::User(parts) => ("user", parts.iter().map(block).collect()),
            Turn::Tool {
                id, parts, failed, ..
            } => ("user", vec![result(id, parts, *failed)]),
            Turn::Assistant { parts, calls } => {
                let mut blocks: Vec<Json> = parts.iter().map(block).collect();
                blocks.extend(calls.iter().map(|call| {
                    json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.object()})
                }));
                ("assistant", blocks)
            }
        };
        match messages.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, content)) if *last == role => content.extend(blocks),
            _ => messages.push((role, blocks)),
        }
    }
    messages
        .into_iter()
        .map(|(role, mut blocks)| {
            blocks.sort_by_key(|block| block.get("type") != Some(&json!("tool_result")));
            if role == "assistant" {
                json!({"role": role, "content": blocks})
            } else {
                json!({"role": role, "content": plain(blocks)})
            }
        })
        .collect()
}

/// A single text needs no block.
fn plain(blocks: Vec<Json>) -> Json {
    match blocks.as_slice() {
        [only] if only.get("type") == Some(&json!("text")) => only["text"].clone(),
        _ => Json::Array(blocks),
    }
}

fn result(id: &str, parts: &[Part], failed: bool) -> Json {
    let content = plain(parts.iter().map(block).collect());
    let mut result = json!({"type": "tool_result", "tool_use_id": id, "content": content});
    if failed {
        result["is_error"] = json!(true);
    }
    result
}

fn block(part: &Part) -> Json {
    match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::ImageUrl(url) => json!({"type": "image", "source": {"type": "url", "url": url}}),
        Part::ImageData { media_type, data } => {
            let source = json!({"type": "base64", "media_type": media_type, "data": data});
            json!({"type": "image", "source": source})
        }
        Part::Other(block) => block.clone(),
    }
}

fn tool(tool: &crate::chat::ToolSpec) -> Json {
    json!({
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.parameters.to_json(),
    })
}

fn tool_choice(request: &ChatRequest, schema_tool: Option<&str>) -> Option<Json> {
    match (schema_tool, &request.tool_choice) {
        (Some(_), ToolChoice::Auto | ToolChoice::Required) if !request.tools.is_empty() => {
            Some(json!({"type": "any"}))
        }
        (_, ToolChoice::Tool(name)) => Some(json!({"type": "tool", "name": name})),
        (Some(name), _) => Some(json!({"type": "tool", "name": name})),
        (None, ToolChoice::Auto) => None,
        (None, ToolChoice::Required) => Some(json!({"type": "any"})),
        (None, ToolChoice::None) => Some(json!({"type": "none"})),
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::{message, value};

    use super::*;
    use crate::chat::ToolSpec;

    #[test]
    fn a_conversation_with_tools_is_written_as_the_api_wants_it() {
        let request = ChatRequest {
            model: "claude".into(),
            messages: vec![
                message::system("be brief"),
                message::human("add"),
                message::ai_with_tool_calls(
                    "sure",
                    vec![
                        value!({"name": "f", "args": {"a": 1}, "id": "c1"}),
                        value!({"name": "g", "args": {}, "id": "c2"}),
                    ],
                ),
                message::tool("1", "c1", "f"),
                value!({"type": "tool", "content": "bad", "tool_call_id": "c2", "status": "error"}),
                message::human("and?"),
                message::system("in English"),
            ],
            tools: vec![ToolSpec {
                name: "f".into(),
                description: "d".into(),
                parameters: value!({"type": "object"}),
            }],
            tool_choice: ToolChoice::Required,
            stop: vec!["x".into()],
            ..ChatRequest::default()
        };
        let want = json!({
            "model": "claude",
            "max_tokens": DEFAULT_MAX_TOKENS,
            "system": "be brief\n\nin English",
            "messages": [
                {"role": "user", "content": "add"},
                {"role": "assistant", "content": [
                    {"type": "text", "text": "sure"},
                    {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                    {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "1"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "bad", "is_error": true},
                    {"type": "text", "text": "and?"},
                ]},
            ],
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any"},
            "stop_sequences": ["x"],
            "stream": true,
        });
        assert_eq!(encode(&request, Delivery::Stream).unwrap(), want);
    }

    #[test]
    fn a_strict_schema_is_a_format_and_another_one_a_tool() {
        let strict = json!({"type": "object", "properties": {"a": {"type": "string"}},
            "required": ["a"], "additionalProperties": false});
        let encoded = |schema: &Json| {
            let request = ChatRequest {
                messages: vec![message::human("x")],
                response_schema: Some(("out".into(), schema.clone().into())),
                extra: [("output_config".into(), value!({"effort": "low"}))]
                    .into_iter()
                    .collect(),
                ..ChatRequest::default()
            };
            encode(&request, Delivery::Whole).unwrap()
        };
        let body = encoded(&strict);
        let format = json!({"type": "json_schema", "schema": strict});
        assert_eq!(
            body["output_config"],
            json!({"effort": "low", "format": format})
        );
        assert_eq!(body.get("tools"), None);

        let body = encoded(&json!({"type": "object"}));
        assert_eq!(body["tool_choice"], json!({"type": "tool", "name": "out"}));
        assert_eq!(body["tools"][0]["input_schema"], json!({"type": "object"}));
        assert_eq!(body["output_config"], json!({"effort": "low"}));
    }
}
