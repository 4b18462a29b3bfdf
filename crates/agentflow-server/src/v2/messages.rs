//! Messages as content blocks: start, deltas, finish.
//!
//! Only what a model streamed, or answered in one piece, is told here. Messages that a node
//! merely returns are part of the state.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::accumulate::{is_blank, is_chunk, is_last, text_of, tool_call};

/// Messages that may be open at once in one run; beyond it further ones are told when complete
/// only.
const MAX_OPEN: usize = 256;

/// The messages of a run that are being streamed, by namespace and id.
#[derive(Default)]
pub(super) struct Streams(HashMap<(Vec<String>, String), Stream>);

/// One message that is being streamed.
#[derive(Default)]
struct Stream {
    /// Index of the next block.
    next: usize,
    open: Option<Block>,
    usage: Option<Value>,
}

/// The block that is being streamed.
struct Block {
    /// Index and type that the provider gave; a change of either starts a new block.
    key: (Option<Value>, &'static str),
    content: Map<String, Value>,
}

impl Streams {
    /// Takes `[message, metadata]`; returns the data of `messages` events.
    pub(super) fn take(&mut self, ns: &[String], message: &Value, meta: &Value) -> Vec<Value> {
        let id = text_of(message, "id").unwrap_or_default();
        let key = (ns.to_vec(), id.to_owned());
        let mut out = Vec::new();
        if !is_chunk(message) {
            match self.0.remove(&key) {
                // The whole after its parts.
                Some(mut stream) => stream.finish(&mut out),
                None if is_from_model(meta) => whole(message, meta, &mut out),
                None => {}
            }
            return out;
        }
        if !self.0.contains_key(&key) {
            if self.0.len() >= MAX_OPEN {
                return out;
            }
            out.push(start(message, meta));
        }
        let stream = self.0.entry(key.clone()).or_default();
        stream.chunk(message, &mut out);
        if is_last(message) {
            stream.finish(&mut out);
            self.0.remove(&key);
        }
        out
    }

    /// Finishes what the end of a run left open; returns namespaces with data.
    pub(super) fn close(&mut self) -> Vec<(Vec<String>, Value)> {
        let mut open: Vec<_> = self.0.drain().collect();
        open.sort_by(|a, b| a.0.cmp(&b.0));
        let mut out = Vec::new();
        for ((ns, _), mut stream) in open {
            let mut data = Vec::new();
            stream.finish(&mut data);
            out.extend(data.into_iter().map(|data| (ns.clone(), data)));
        }
        out
    }
}

/// Whether the metadata of a message names the model that made it.
fn is_from_model(meta: &Value) -> bool {
    meta.get("ls_model_type").is_some() || meta.get("ls_provider").is_some()
}

fn start(message: &Value, meta: &Value) -> Value {
    let role = match text_of(message, "type") {
        Some("human" | "HumanMessageChunk") => "human",
        Some("system" | "SystemMessageChunk") => "system",
        Some("tool" | "ToolMessageChunk") => "tool",
        _ => "ai",
    };
    let mut data = json!({ "event": "message-start", "role": role, "id": message.get("id") });
    let mut about = Map::new();
    for (from, to) in [
        ("ls_provider", "provider"),
        ("ls_model_name", "model"),
        ("ls_model_type", "model_type"),
        ("langgraph_node", "langgraph_node"),
        ("run_id", "run_id"),
        ("thread_id", "thread_id"),
    ] {
        if let Some(value) = meta.get(from).filter(|value| value.is_string()) {
            about.insert(to.into(), value.clone());
        }
    }
    if !about.is_empty() {
        data["metadata"] = Value::Object(about);
    }
    data
}

/// A message that came in one piece.
fn whole(message: &Value, meta: &Value, out: &mut Vec<Value>) {
    out.push(start(message, meta));
    let mut stream = Stream::default();
    stream.chunk(message, out);
    for call in message
        .get("tool_calls")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        stream.close_block(out);
        let mut content = Map::from_iter([("type".to_owned(), json!("tool_call"))]);
        content.extend(call.as_object().cloned().unwrap_or_default());
        stream.complete(Value::Object(content), out);
    }
    stream.finish(out);
}

impl Stream {
    fn chunk(&mut self, message: &Value, out: &mut Vec<Value>) {
        match message.get("content") {
            Some(Value::String(text)) if !text.is_empty() => {
                self.append("text", None, "text", text, "text-delta", out);
            }
            Some(Value::Array(blocks)) => {
                for block in blocks {
                    self.block(block, out);
                }
            }
            _ => {}
        }
        for call in message
            .get("tool_call_chunks")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            self.tool_chunk(call, out);
        }
        if let Some(usage) = message
            .get("usage_metadata")
            .filter(|usage| !is_blank(usage))
        {
            self.usage = Some(usage.clone());
        }
    }

    fn block(&mut self, block: &Value, out: &mut Vec<Value>) {
        let index = block.get("index").filter(|index| !index.is_null()).cloned();
        let field = |name: &str| text_of(block, name).unwrap_or_default();
        match text_of(block, "type") {
            Some("text" | "text_delta") => {
                self.append("text", index, "text", field("text"), "text-delta", out);
            }
            Some("reasoning") => {
                let text = field("reasoning");
                self.append(
                    "reasoning",
                    index,
                    "reasoning",
                    text,
                    "reasoning-delta",
                    out,
                );
            }
            Some("thinking") => {
                let text = field("thinking");
                self.append(
                    "reasoning",
                    index,
                    "reasoning",
                    text,
                    "reasoning-delta",
                    out,
                );
            }
            // Tool calls come again as `tool_call_chunks` or `tool_calls`.
            Some("tool_use" | "input_json_delta" | "tool_call" | "tool_call_chunk") => {}
            _ if block.is_object() => {
                self.close_block(out);
                self.complete(block.clone(), out);
            }
            _ => {}
        }
    }

    fn tool_chunk(&mut self, call: &Value, out: &mut Vec<Value>) {
        let index = call.get("index").filter(|index| !index.is_null()).cloned();
        let key = (index, "tool_call_chunk");
        let names_another = call.get("id").is_some_and(|id| !id.is_null())
            && self.open.as_ref().is_some_and(|open| {
                open.content
                    .get("id")
                    .is_some_and(|id| !id.is_null() && Some(id) != call.get("id"))
            });
        if self.open.as_ref().is_none_or(|open| open.key != key) || names_another {
            self.close_block(out);
            let content = Map::from_iter([
                ("type".to_owned(), json!("tool_call_chunk")),
                ("id".to_owned(), call.get("id").cloned().unwrap_or_default()),
                (
                    "name".to_owned(),
                    call.get("name").cloned().unwrap_or_default(),
                ),
                ("args".to_owned(), json!("")),
            ]);
            self.open_block(Block { key, content }, out);
        }
        let args = text_of(call, "args").unwrap_or_default();
        self.push(
            "args",
            args,
            json!({ "type": "tool-call-delta", "args": args }),
            out,
        );
    }

    /// Appends text to the open block if it is the same one, else to a new block.
    fn append(
        &mut self,
        kind: &'static str,
        index: Option<Value>,
        field: &str,
        text: &str,
        delta: &str,
        out: &mut Vec<Value>,
    ) {
        let key = (index, kind);
        if self.open.as_ref().is_none_or(|open| open.key != key) {
            self.close_block(out);
            let content = Map::from_iter([
                ("type".to_owned(), json!(kind)),
                (field.to_owned(), json!("")),
            ]);
            self.open_block(Block { key, content }, out);
        }
        self.push(field, text, json!({ "type": delta, field: text }), out);
    }

    fn open_block(&mut self, block: Block, out: &mut Vec<Value>) {
        out.push(json!({
            "event": "content-block-start", "index": self.next, "content": block.content,
        }));
        self.open = Some(block);
    }

    fn push(&mut self, field: &str, text: &str, delta: Value, out: &mut Vec<Value>) {
        let Some(open) = self.open.as_mut().filter(|_| !text.is_empty()) else {
            return;
        };
        if let Some(Value::String(known)) = open.content.get_mut(field) {
            known.push_str(text);
        }
        out.push(json!({ "event": "content-block-delta", "index": self.next, "delta": delta }));
    }

    /// A block that came in one piece.
    fn complete(&mut self, content: Value, out: &mut Vec<Value>) {
        for event in ["content-block-start", "content-block-finish"] {
            out.push(json!({ "event": event, "index": self.next, "content": content }));
        }
        self.next += 1;
    }

    fn close_block(&mut self, out: &mut Vec<Value>) {
        let Some(open) = self.open.take() else { return };
        let content = match open.key.1 {
            "tool_call_chunk" => finished_call(open.content),
            _ => Value::Object(open.content),
        };
        let event = "content-block-finish";
        out.push(json!({ "event": event, "index": self.next, "content": content }));
        self.next += 1;
    }

    fn finish(&mut self, out: &mut Vec<Value>) {
        self.close_block(out);
        let mut data = json!({ "event": "message-finish" });
        if let Some(usage) = self.usage.take() {
            data["usage"] = usage;
        }
        out.push(data);
    }
}

/// A complete tool call, or an invalid one if its arguments are not a JSON object.
fn finished_call(chunk: Map<String, Value>) -> Value {
    let chunk = Value::Object(chunk);
    let args = text_of(&chunk, "args").unwrap_or_default();
    let is_object =
        args.is_empty() || serde_json::from_str::<Value>(args).is_ok_and(|value| value.is_object());
    if !is_object {
        return json!({
            "type": "invalid_tool_call", "id": chunk["id"], "name": chunk["name"], "args": args,
            "error": "arguments are not a JSON object",
        });
    }
    let call = tool_call(&chunk);
    json!({ "type": "tool_call", "id": call["id"], "name": call["name"], "args": call["args"] })
}
