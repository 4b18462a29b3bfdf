//! What a tool answered.

use agentflow_types::{Error, Result, Value};
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

/// Stands for content that this program does not know.
const UNKNOWN: &str = "[content of an unknown kind]";

/// What a tool answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// For a model: the texts. What is not text is described in brackets.
    pub text: String,
    /// The structured content; without one, the list of all blocks if one of them is not text;
    /// else `None`.
    pub structured: Option<Value>,
}

impl Answer {
    /// For a graph: the structured content, else the text.
    #[must_use]
    pub fn value(self) -> Value {
        self.structured.unwrap_or_else(|| Value::from(self.text))
    }

    /// Reads a result.
    ///
    /// # Errors
    /// `Failed` with the tool's words if it reports an error; `Invalid` if it is too large.
    pub(crate) fn of(result: &CallToolResult, max_bytes: usize) -> Result<Self> {
        let text: Vec<String> = result.content.iter().map(shown).collect();
        let text = text.join("\n");
        let only_text = result
            .content
            .iter()
            .all(|block| matches!(block, ContentBlock::Text(_)));
        let structured = match &result.structured_content {
            Some(value) => Some(Value::from_json(value)),
            None if only_text => None,
            None => {
                let blocks = serde_json::to_value(&result.content).unwrap_or_default();
                Some(Value::from_json(&blocks))
            }
        };
        let bytes = text.len() + structured.as_ref().map_or(0, Value::size_bytes);
        if bytes > max_bytes {
            return Err(Error::invalid("the result of the tool is too large")
                .with("bytes", bytes)
                .with("limit", max_bytes));
        }
        if result.is_error == Some(true) {
            let text = match (text.is_empty(), structured) {
                (true, Some(value)) => value.json_text(),
                (true, None) => "the tool failed and did not say why".to_owned(),
                (false, _) => text,
            };
            return Err(Error::failed(text));
        }
        let text = match (&structured, text.is_empty()) {
            (Some(value), true) => value.json_text(),
            _ => text,
        };
        Ok(Self { text, structured })
    }
}

/// A block as a model reads it.
fn shown(block: &ContentBlock) -> String {
    let binary = |kind: &str, mime: &str, base64: &str| {
        format!("[{kind} {mime}, {} bytes]", base64.len() / 4 * 3)
    };
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => binary("image", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => binary("audio", &audio.mime_type, &audio.data),
        ContentBlock::Resource(embedded) => match &embedded.resource {
            ResourceContents::TextResourceContents { text, .. } => text.clone(),
            ResourceContents::BlobResourceContents {
                uri,
                mime_type,
                blob,
                ..
            } => {
                let mime = mime_type.as_deref().unwrap_or("application/octet-stream");
                binary(&format!("resource {uri}"), mime, blob)
            }
            _ => UNKNOWN.to_owned(),
        },
        ContentBlock::ResourceLink(link) => format!("[link {} {}]", link.name, link.uri),
        _ => UNKNOWN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;
    use serde_json::json;

    use super::*;

    fn read(json: serde_json::Value) -> Result<Answer> {
        Answer::of(&serde_json::from_value(json).unwrap(), 200)
    }

    #[test]
    fn texts_are_joined_and_structure_is_kept() {
        let answer = read(json!({"content": [{"type": "text", "text": "3"}],
            "structuredContent": {"result": 3}}));
        let answer = answer.unwrap();
        assert_eq!(answer.text, "3");
        assert_eq!(answer.value(), value!({"result": 3}));
        let only = read(json!({"content": [], "structuredContent": {"n": 1}}));
        assert_eq!(only.unwrap().text, r#"{"n":1}"#);
        let plain =
            json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
        assert_eq!(read(plain).unwrap().value(), value!("a\nb"));
    }

    #[test]
    fn what_is_not_text_is_described_and_kept() {
        let image = json!({"type": "image", "data": "eHh4", "mimeType": "image/png"});
        let answer = read(json!({"content": [image]})).unwrap();
        assert_eq!(answer.text, "[image image/png, 3 bytes]");
        let first = answer.value().as_list().unwrap()[0].clone();
        assert_eq!(first.get("data"), Some(&value!("eHh4")));
    }

    #[test]
    fn errors_and_excess_are_errors() {
        let text = |text: &str| json!([{"type": "text", "text": text}]);
        let err = read(json!({"content": text("no such file"), "isError": true}));
        assert_eq!(err.unwrap_err().message(), "no such file");
        let err = read(json!({"content": text(&"x".repeat(201))}));
        assert!(err.unwrap_err().message().contains("too large"));
    }
}
