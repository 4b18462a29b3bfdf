//! Messages that come in: what they say, and what a graph gets.

use agentflow_types::{Value, message};
use serde_json::{Map, Value as Json, json};

use super::rpc::Refusal;

/// Most parts of one message.
const MAX_PARTS: usize = 256;

/// A message that came in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Incoming {
    id: String,
    /// Thread.
    pub(super) context: Option<String>,
    /// Task that it answers.
    pub(super) task: Option<String>,
    text: Option<String>,
    /// Data parts in order.
    data: Vec<Json>,
    /// Files as content blocks of LangChain.
    files: Vec<Json>,
}

/// How the caller wants the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// When the task is over or asks.
    ToTheEnd,
    /// At once.
    NotAtAll,
}

fn text<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    json.get(key)
        .and_then(Json::as_str)
        .filter(|text| !text.is_empty())
}

impl Incoming {
    /// Reads `params.message` of either dialect.
    ///
    /// # Errors
    /// Invalid params, in the words of LangGraph's server where it has some.
    pub(super) fn parse(params: &Json) -> Result<Self, Refusal> {
        let Some(message) = params.get("message").filter(|message| message.is_object()) else {
            return Err(Refusal::params("Missing or invalid 'message' in params"));
        };
        let parts = message.get("parts").and_then(Json::as_array);
        let parts = parts.filter(|parts| !parts.is_empty());
        let Some(parts) = parts else {
            return Err(Refusal::params("Message must contain at least one part"));
        };
        if parts.len() > MAX_PARTS {
            let text = format!("Message has more than {MAX_PARTS} parts");
            return Err(Refusal::params(text));
        }
        let own = |key: &str| text(message, key).map(str::to_owned);
        let mut read = Self {
            id: own("messageId").unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
            context: own("contextId"),
            task: own("taskId"),
            text: None,
            data: vec![],
            files: vec![],
        };
        for part in parts {
            read.take(part)?;
        }
        Ok(read)
    }

    fn take(&mut self, part: &Json) -> Result<(), Refusal> {
        if let Some(said) = part.get("text").and_then(Json::as_str) {
            match &mut self.text {
                Some(text) => {
                    text.push('\n');
                    text.push_str(said);
                }
                none => *none = Some(said.to_owned()),
            }
            return Ok(());
        }
        if let Some(data) = part.get("data") {
            self.data.push(data.clone());
            return Ok(());
        }
        // 0.3 has the file in an object of its own.
        let file = part.get("file").unwrap_or(part);
        let mime = text(file, "mimeType").or_else(|| text(file, "mediaType"));
        let bytes = text(file, "bytes").or_else(|| text(file, "raw"));
        let place = match (bytes, text(file, "uri").or_else(|| text(file, "url"))) {
            (Some(bytes), _) => ("base64", bytes),
            (None, Some(url)) => ("url", url),
            (None, None) => {
                return Err(Refusal::params("a part has neither text, data nor a file"));
            }
        };
        let kind = mime
            .and_then(|mime| mime.split('/').next())
            .unwrap_or("file");
        let mut block = json!({ "type": kind, place.0: place.1 });
        if let Some(mime) = mime {
            block["mime_type"] = json!(mime);
        }
        self.files.push(block);
        Ok(())
    }

    /// The input of a graph: the message, and the data as further fields.
    ///
    /// # Errors
    /// Invalid params if the graph takes no messages but the message has text or files.
    pub(super) fn input(&self, graph: &GraphInput<'_>) -> Result<Value, Refusal> {
        let mut fields = Map::new();
        for data in &self.data {
            let Json::Object(map) = data else {
                return Err(Refusal::params(
                    "a data part must be an object of input fields",
                ));
            };
            fields.extend(map.clone());
        }
        if self.text.is_some() || !self.files.is_empty() {
            if !graph.takes_messages() {
                return Err(graph.refusal());
            }
            let content = match self.files.is_empty() {
                true => json!(self.text.as_deref().unwrap_or_default()),
                false => {
                    let said = self
                        .text
                        .iter()
                        .map(|text| json!({ "type": "text", "text": text }));
                    said.chain(self.files.iter().cloned()).collect()
                }
            };
            let said = json!({ "type": "human", "content": content, "id": self.id });
            let list = fields.entry("messages").or_insert_with(|| json!([]));
            match list {
                Json::Array(list) => list.push(said),
                other => *other = json!([said]),
            }
        }
        Ok(Value::from_json(&Json::Object(fields)))
    }

    /// The answer to a question: the data if there is any, else the text.
    pub(super) fn answer(&self) -> Value {
        match (self.data.as_slice(), &self.text) {
            ([], text) => Value::from(text.clone().unwrap_or_default()),
            ([one], _) => Value::from_json(one),
            (several, _) => Value::from_json(&Json::Array(several.to_vec())),
        }
    }

    /// As history shows it until the graph has it.
    pub(super) fn as_message(&self) -> super::wire::Message {
        use super::wire::{Part, Role};
        let said = self.text.iter().map(|text| Part::Text(text.clone()));
        super::wire::Message {
            id: self.id.clone(),
            role: Role::User,
            parts: said
                .chain(self.data.iter().cloned().map(Part::Data))
                .collect(),
        }
    }
}

/// What a graph takes.
pub(super) struct GraphInput<'a> {
    pub(super) assistant: &'a str,
    pub(super) graph: &'a str,
    /// Names of the fields; `None` if the graph does not say.
    pub(super) fields: Option<Vec<String>>,
}

impl GraphInput<'_> {
    fn takes_messages(&self) -> bool {
        let fields = self.fields.as_ref();
        fields.is_none_or(|fields| fields.iter().any(|field| field == "messages"))
    }

    fn refusal(&self) -> Refusal {
        Refusal::params(format!(
            "Assistant '{}' (graph '{}') does not support A2A conversational messages. Graph \
             input schema must include a 'messages' field to accept text or file parts. Available \
             input fields: {:?}",
            self.assistant,
            self.graph,
            self.fields.as_deref().unwrap_or_default()
        ))
    }
}

/// How the caller wants the answer, from `params.configuration` of either dialect.
pub(super) fn wait_of(params: &Json) -> Wait {
    let configuration = params.get("configuration");
    let flag = |key: &str| {
        configuration
            .and_then(|c| c.get(key))
            .and_then(Json::as_bool)
    };
    match (flag("returnImmediately"), flag("blocking")) {
        (Some(true), _) | (None, Some(false)) => Wait::NotAtAll,
        _ => Wait::ToTheEnd,
    }
}

/// Most messages of the history that the caller wants; all if it does not say.
pub(super) fn history_of(params: &Json) -> Option<usize> {
    let own = params.get("historyLength");
    let configured = params
        .get("configuration")
        .and_then(|c| c.get("historyLength"));
    own.or(configured)
        .and_then(Json::as_u64)
        .map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// The text of a message of a graph, without blocks that are not text.
pub(super) fn text_of(said: &Value) -> String {
    message::text(said)
}
