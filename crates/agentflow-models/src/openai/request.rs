//! Writing chat completion requests. Pure.

use agentflow_types::Result;
use serde_json::{Map, Value as Json, json};

use crate::{
    chat::{ChatRequest, ToolChoice},
    schema,
    turns::{self, Part, Turn},
};

/// What the server calls the limit on generated tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitName {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

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
/// # Errors
/// `Invalid` if a message cannot be sent.
pub(crate) fn encode(request: &ChatRequest, limit: LimitName, delivery: Delivery) -> Result<Json> {
    let turns = turns::read(&request.messages)?;
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    body.insert("messages".into(), turns.iter().map(message).collect());
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
        if let Some(choice) = tool_choice(&request.tool_choice) {
            body.insert("tool_choice".into(), choice);
        }
    }
    if let Some((name, schema)) = &request.response_schema {
        let schema = schema.to_json();
        let strict = schema::is_strict(&schema);
        let format = json!({"name": name, "schema": schema, "strict": strict});
        let format = json!({"type": "json_schema", "json_schema": format});
        body.insert("response_format".into(), format);
    }
    if let Some(temperature) = request.temperature {
        body.insert("temperature".into(), json!(temperature));
    }
    if let Some(tokens) = request.max_tokens {
        let name = match limit {
            LimitName::MaxTokens => "max_tokens",
            LimitName::MaxCompletionTokens => "max_completion_tokens",
        };
        body.insert(name.into(), json!(tokens));
    }
    if !request.stop.is_empty() {
        body.insert("stop".into(), json!(request.stop));
    }
    if delivery == Delivery::Stream {
        body.insert("stream".into(), json!(true));
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
    for (name, value) in &request.extra {
        body.insert(name.to_string(), value.to_json());
    }
    Ok(Json::Object(body))
}

fn message(turn: &Turn) -> Json {
    match turn {
        Turn::System(parts) => json!({"role": "system", "content": content(parts)}),
        Turn::User(parts) => json!({"role": "user", "content": content(parts)}),
        Turn::Tool { id, parts, .. } => {
            json!({"role": "tool", "tool_call_id": id, "content": turns::text(parts)})
        }
        Turn::Assistant { parts, calls } if calls.is_empty() => {
            json!({"role": "assistant", "content": turns::text(parts)})
        }
        Turn::Assistant { parts, calls } => {
            let text = turns::text(parts);
            let content = if text.is_empty() {
                Json::Null
            } else {
                Json::String(text)
            };
            let calls: Vec<Json> = calls
                .iter()
                .map(|call| {
                    let function = json!({"name": call.name, "arguments": call.args});
                    json!({"id": call.id, "type": "function", "function": function})
                })
                .collect();
            json!({"role": "assistant", "content": content, "tool_calls": calls})
        }
    }
}

/// Plain text where that is enough: small servers know nothing else.
fn content(parts: &[Part]) -> Json {
    if parts.iter().all(|part| matches!(part, Part::Text(_))) {
        return Json::String(turns::text(parts));
    }
    parts.iter().map(block).collect()
}

fn block(part: &Part) -> Json {
    match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::ImageUrl(url) => json!({"type": "image_url", "image_url": {"url": url}}),
        Part::ImageData { media_type, data } => {
            let url = format!("data:{media_type};base64,{data}");
            json!({"type": "image_url", "image_url": {"url": url}})
        }
        Part::Other(block) => block.clone(),
    }
}

fn tool(tool: &crate::chat::ToolSpec) -> Json {
    json!({"type": "function", "function": {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters.to_json(),
    }})
}

fn tool_choice(choice: &ToolChoice) -> Option<Json> {
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::Required => Some(json!("required")),
        ToolChoice::None => Some(json!("none")),
        ToolChoice::Tool(name) => Some(json!({"type": "function", "function": {"name": name}})),
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
            model: "m".into(),
            messages: vec![
                message::system("be brief"),
                value!({"role": "user", "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image", "base64": "QQ==", "mime_type": "image/png"},
                ]}),
                message::ai_with_tool_calls(
                    "",
                    vec![value!({"name": "f", "args": {"a": 1}, "id": "c1"})],
                ),
                message::tool("42", "c1", "f"),
            ],
            tools: vec![ToolSpec {
                name: "f".into(),
                description: "d".into(),
                parameters: value!({"type": "object"}),
            }],
            tool_choice: ToolChoice::Tool("f".into()),
            response_schema: Some(("out".into(), value!({"type": "object"}))),
            temperature: Some(0.5),
            max_tokens: Some(9),
            stop: vec!["x".into()],
            extra: [("seed".into(), value!(7))].into_iter().collect(),
        };
        let body = encode(&request, LimitName::MaxTokens, Delivery::Stream).unwrap();
        let want = json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}},
                ]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                ]},
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
            ],
            "tools": [{"type": "function", "function": {
                "name": "f", "description": "d", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {
                "name": "out", "schema": {"type": "object"}, "strict": false}},
            "temperature": 0.5,
            "max_tokens": 9,
            "stop": ["x"],
            "stream": true,
            "stream_options": {"include_usage": true},
            "seed": 7,
        });
        assert_eq!(body, want);
    }
}
