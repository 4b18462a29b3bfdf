//! Mode `events`: LangChain's `astream_events`, version 2, derived from what graphs report.
//!
//! | seen | told |
//! |---|---|
//! | run starts, ends | `on_chain_start`, `on_chain_end` under the graph's name |
//! | task starts, ends | the same under the node's name, with its task id as `run_id` |
//! | values, updates, custom at the root | `on_chain_stream` under the graph's name |
//! | chunks of a message | `on_chat_model_start`, `on_chat_model_stream`, `on_chat_model_end` |
//! | tools | `on_tool_start`, `on_tool_end`, `on_tool_error` |
//!
//! Prompts of models and events of runnables inside a node are not reported by graphs, so they
//! are absent here.

use std::collections::HashMap;

use agentflow_storage::event::Event;
use serde_json::{Value, json};

use super::{RunFacts, name};
use crate::{
    accumulate::{add, finished, is_chunk, is_last, text_of},
    sse::Frame,
};

/// Names by id that are kept for ends; beyond it ends have no name.
const MAX_OPEN: usize = 1024;

/// What is going on in a run.
pub(super) struct Trace {
    run_id: String,
    graph_id: String,
    input: Value,
    last_values: Value,
    started: bool,
    /// Node names and inputs by task id.
    tasks: HashMap<String, (String, Value)>,
    /// Messages by id, as far as they came.
    models: HashMap<String, Value>,
    /// Tool names by call id.
    tools: HashMap<String, (String, Value)>,
}

impl Trace {
    pub(super) fn new(facts: &RunFacts) -> Self {
        Self {
            run_id: facts.run_id.clone(),
            graph_id: facts.graph_id.clone(),
            input: facts.input.clone(),
            last_values: Value::Null,
            started: false,
            tasks: HashMap::new(),
            models: HashMap::new(),
            tools: HashMap::new(),
        }
    }

    pub(super) fn encode(&mut self, event: &Event) -> Vec<Frame> {
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else {
            return vec![];
        };
        let told = match &*event.kind {
            "metadata" if !self.started => {
                self.started = true;
                let input = json!({ "input": self.input });
                vec![self.root("on_chain_start", input)]
            }
            "end" => vec![self.root("on_chain_end", json!({ "output": self.last_values }))],
            "tasks" => self.task(&data),
            "messages" => self.message(&data),
            "tools" => self.tool(&data).into_iter().collect(),
            "values" | "updates" | "custom" if event.ns.is_empty() => {
                if &*event.kind == "values" {
                    self.last_values = data.clone();
                }
                vec![self.root("on_chain_stream", json!({ "chunk": [&*event.kind, data] }))]
            }
            _ => vec![],
        };
        let event_name = name(event, "events");
        told.into_iter()
            .map(|told| Frame::new(event_name.clone(), told.to_string()))
            .collect()
    }

    fn root(&self, event: &str, data: Value) -> Value {
        told(
            event,
            &self.graph_id,
            &self.run_id,
            data,
            &Value::Null,
            vec![],
        )
    }

    fn under_root(&self, event: &str, name: &str, id: &str, data: Value, meta: &Value) -> Value {
        told(event, name, id, data, meta, vec![self.run_id.clone()])
    }

    fn task(&mut self, data: &Value) -> Vec<Value> {
        let id = text_of(data, "id").unwrap_or_default();
        let node = text_of(data, "name").unwrap_or_default();
        let meta = &data["metadata"];
        if data.get("result").is_none() && data.get("error").is_none() {
            let input = data.get("input").cloned().unwrap_or_default();
            if self.tasks.len() < MAX_OPEN {
                self.tasks
                    .insert(id.to_owned(), (node.to_owned(), input.clone()));
            }
            let data = json!({ "input": input });
            return vec![self.under_root("on_chain_start", node, id, data, meta)];
        }
        let input = self
            .tasks
            .remove(id)
            .map(|(_, input)| input)
            .unwrap_or_default();
        let output = data.get("result").cloned().unwrap_or_default();
        vec![
            self.under_root(
                "on_chain_stream",
                node,
                id,
                json!({ "chunk": output }),
                meta,
            ),
            self.under_root(
                "on_chain_end",
                node,
                id,
                json!({ "output": output, "input": input }),
                meta,
            ),
        ]
    }

    fn message(&mut self, data: &Value) -> Vec<Value> {
        let (Some(message), Some(meta)) = (data.get(0), data.get(1)) else {
            return vec![];
        };
        let id = text_of(message, "id").unwrap_or_default();
        if !is_chunk(message) {
            return vec![];
        }
        let model = text_of(meta, "ls_model_name").unwrap_or("ChatModel");
        let tell = |event: &str, data: Value| self.under_root(event, model, id, data, meta);
        let mut out = vec![];
        let known = self.models.get(id);
        if known.is_none() {
            out.push(tell(
                "on_chat_model_start",
                json!({ "input": { "messages": [[]] } }),
            ));
        }
        out.push(tell("on_chat_model_stream", json!({ "chunk": message })));
        let mut whole = known.cloned().unwrap_or_default();
        match whole.is_null() {
            true => whole = message.clone(),
            false => add(&mut whole, message),
        }
        if is_last(message) {
            out.push(tell(
                "on_chat_model_end",
                json!({ "output": finished(&whole) }),
            ));
            self.models.remove(id);
        } else if self.models.len() < MAX_OPEN {
            self.models.insert(id.to_owned(), whole);
        }
        out
    }

    fn tool(&mut self, data: &Value) -> Option<Value> {
        let id = text_of(data, "tool_call_id")?;
        match text_of(data, "event")? {
            "tool-started" => {
                let tool = text_of(data, "tool_name").unwrap_or_default();
                let input = data.get("input").cloned().unwrap_or_default();
                if self.tools.len() < MAX_OPEN {
                    self.tools
                        .insert(id.to_owned(), (tool.to_owned(), input.clone()));
                }
                let input = json!({ "input": input });
                Some(self.under_root("on_tool_start", tool, id, input, &Value::Null))
            }
            "tool-finished" => {
                let (tool, input) = self.tools.remove(id).unwrap_or_default();
                let data = json!({ "output": data.get("output"), "input": input });
                Some(self.under_root("on_tool_end", &tool, id, data, &Value::Null))
            }
            "tool-error" => {
                let (tool, input) = self.tools.remove(id).unwrap_or_default();
                let data = json!({ "error": data.get("message"), "input": input });
                Some(self.under_root("on_tool_error", &tool, id, data, &Value::Null))
            }
            _ => None,
        }
    }
}

fn told(
    event: &str,
    name: &str,
    run_id: &str,
    data: Value,
    metadata: &Value,
    parent_ids: Vec<String>,
) -> Value {
    let metadata = if metadata.is_object() {
        metadata.clone()
    } else {
        json!({})
    };
    let tags = match metadata.get("langgraph_step") {
        Some(step) if event.starts_with("on_chain") => vec![format!("graph:step:{step}")],
        _ => vec![],
    };
    json!({
        "event": event,
        "data": data,
        "name": name,
        "tags": tags,
        "run_id": run_id,
        "metadata": metadata,
        "parent_ids": parent_ids,
    })
}
