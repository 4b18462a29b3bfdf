//! Writing Ollama chat requests. Pure.

use agentflow_types::{Error, Result};
use serde_json::{Map, Value as Json, json};

use crate::{
    chat::{ChatRequest, ToolChoice, ToolSpec},
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
/// Ollama cannot be forced to call a tool; the choice of one tool offers only that one, and the
/// choice of none offers none.
///
/// # Errors
/// `Invalid` if a message cannot be sent, for example an image by address.
pub(crate) fn encode(request: &ChatRequest, delivery: Delivery) -> Result<Json> {
    let turns = turns::read(&request.messages)?;
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    body.insert(
        "messages".into(),
        turns.iter().map(message).collect::<Result<Json>>()?,
    );
    let tools: Vec<Json> = request
        .tools
        .iter()
        .filter(|t| is_offered(t, request))
        .map(tool)
        .collect();
    if !tools.is_empty() {
        body.insert("tools".into(), Json::Array(tools));
    }
    if let Some((_, schema)) = &request.response_schema {
        body.insert("format".into(), schema.to_json());
    }
    body.insert("stream".into(), json!(delivery == Delivery::Stream));
    let mut options = Map::new();
    if let Some(temperature) = request.temperature {
        options.insert("temperature".into(), json!(temperature));
    }
    if let Some(tokens) = request.max_tokens {
        options.insert("num_predict".into(), json!(tokens));
    }
    if !request.stop.is_empty() {
        options.insert("stop".into(), json!(request.stop));
    }
    for (name, value) in &request.extra {
        match value.to_json() {
            Json::Object(more) if name.as_ref() == "options" => options.extend(more),
            value => {
                body.insert(name.to_string(), value);
            }
        }
    }
    if !options.is_empty() {
        body.insert("options".into(), Json::Object(options));
    }
    Ok(Json::Object(body))
}

fn is_offered(tool: &ToolSpec, request: &ChatRequest) -> bool {
    match &request.tool_choice {
        ToolChoice::Auto | ToolChoice::Required => true,
        ToolChoice::None => false,
        ToolChoice::Tool(name) => *name == tool.name,
    }
}

fn message(turn: &Turn) -> Result<Json> {
    let (role, parts) = match turn {
        Turn::System(parts) => ("system", parts),
        Turn::User(parts) => ("user", parts),
        Turn::Assistant { parts, .. } => ("assistant", parts),
        Turn::Tool { parts, .. } => ("tool", parts),
    };
    let mut message = json!({"role": role, "content": turns::text(parts)});
    let images = images(parts)?;
    if !images.is_empty() {
        message["images"] = Json::Array(images);
    }
    match turn {
        Turn::Assistant { calls, .. } if !calls.is_empty() => {
            message["tool_calls"] = calls
                .iter()
                .map(|call| json!({"function": {"name": call.name, "arguments": call.object()}}))
                .collect();
        }
        Turn::Tool { name, .. } if !name.is_empty() => message["tool_name"] = json!(name),
        _ => {}
    }
    Ok(message)
}

fn images(parts: &[Part]) -> Result<Vec<Json>> {
    let mut images = Vec::new();
    for part in parts {
        match part {
            Part::Text(_) => {}
            Part::ImageData { data, .. } => images.push(json!(data)),
            Part::ImageUrl(_) => {
                return Err(Error::invalid("ollama takes images as data urls only"));
            }
            Part::Other(block) => {
                let kind = block
                    .get("type")
                    .and_then(Json::as_str)
                    .unwrap_or("unknown");
                return Err(
                    Error::invalid("ollama does not understand this content").with("type", kind)
                );
            }
        }
    }
    Ok(images)
}

fn tool(tool: &ToolSpec) -> Json {
    json!({"type": "function", "function": {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters.to_json(),
    }})
}

#[cfg(test)]
mod tests {
    use agentflow_types::{ErrorKind, message, value};

    use super::*;

    #[test]
    fn a_conversation_with_tools_is_written_as_the_api_wants_it() {
        let spec = |name: &str| ToolSpec {
            name: name.into(),
            description: "d".into(),
            parameters: value!({"type": "object"}),
        };
        let request = ChatRequest {
            model: "llama".into(),
            messages: vec![
                message::system("s"),
                value!({"role": "user", "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}]}),
                message::ai_with_tool_calls(
                    "",
                    vec![value!({"name": "f", "args": {"a": 1}, "id": "c"})],
                ),
                message::tool("42", "c", "f"),
            ],
            tools: vec![spec("f"), spec("g")],
            tool_choice: ToolChoice::Tool("g".into()),
            response_schema: Some(("o".into(), value!({"type": "object"}))),
            temperature: Some(0.0),
            max_tokens: Some(5),
            extra: [
                ("options".into(), value!({"num_ctx": 8})),
                ("keep_alive".into(), value!("5m")),
            ]
            .into_iter()
            .collect(),
            ..ChatRequest::default()
        };
        let want = json!({
            "model": "llama",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": "see", "images": ["QQ=="]},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"function": {"name": "f", "arguments": {"a": 1}}}]},
                {"role": "tool", "content": "42", "tool_name": "f"},
            ],
            "tools": [{"type": "function", "function": {
                "name": "g", "description": "d", "parameters": {"type": "object"}}}],
            "format": {"type": "object"},
            "stream": false,
            "keep_alive": "5m",
            "options": {"temperature": 0.0, "num_predict": 5, "num_ctx": 8},
        });
        assert_eq!(encode(&request, Delivery::Whole).unwrap(), want);
    }

    #[test]
    fn an_image_by_address_is_refused() {
        let request = ChatRequest {
            messages: vec![value!({"role": "user", "content": [
                {"type": "image_url", "image_url": "https://x/y.png"}]})],
            ..ChatRequest::default()
        };
        let error = encode(&request, Delivery::Whole).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
