//! Events of the log become protocol events.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use agentflow_storage::event::Event;
use serde_json::{Value, json};

use super::{EventParams, ProtocolEvent, SPREAD, messages::Streams, normal::normal};
use crate::accumulate::text_of;

/// Key under which interrupts travel in states.
const INTERRUPT: &str = "__interrupt__";
/// Subgraphs of one run that are tracked; events of further ones come without lifecycle.
const MAX_SUBGRAPHS: usize = 10_000;
/// What clients are told about a run that was stopped.
const CANCELLED: &str = "Run was cancelled";

/// What the log does not say about a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunFacts {
    /// Its graph.
    pub graph_id: String,
    /// Ids of the interrupts that it answers.
    pub answers: Vec<String>,
}

/// Encodes a thread's log from its beginning.
#[derive(Default)]
pub struct Encoder {
    runs: HashMap<uuid::Uuid, RunState>,
}

/// What a run has told so far.
#[derive(Default)]
struct RunState {
    started: bool,
    streams: Streams,
    /// Subgraphs that were started and not ended, with their depth-first order by name.
    subgraphs: BTreeMap<Vec<String>, String>,
    ended: BTreeSet<Vec<String>>,
    /// Tool calls that run, by namespace.
    tools: BTreeMap<Vec<String>, BTreeSet<String>>,
    /// Whether the last checkpoint at the root has nodes that would run next.
    has_next: bool,
    error: Option<String>,
}

/// Collects the protocol events of one event of the log.
struct Told<'a> {
    event: &'a Event,
    out: Vec<ProtocolEvent>,
}

impl Told<'_> {
    fn push(&mut self, method: &'static str, namespace: Vec<String>, data: Value) {
        let event_id = match self.out.len() {
            0 => format!("{}", self.event.seq),
            n => format!("{}.{n}", self.event.seq),
        };
        self.push_as(event_id, method, namespace, data);
    }

    fn push_as(
        &mut self,
        event_id: String,
        method: &'static str,
        namespace: Vec<String>,
        data: Value,
    ) {
        let place = (self.out.len() as u64).min(SPREAD - 1);
        self.out.push(ProtocolEvent {
            kind: "event",
            event_id,
            seq: self.event.seq * SPREAD + place,
            method,
            params: EventParams {
                namespace,
                timestamp: self.event.at.millis(),
                data,
                node: None,
            },
        });
    }

    fn lifecycle(&mut self, namespace: Vec<String>, data: Value) {
        let status = text_of(&data, "event").unwrap_or_default();
        let path = namespace.join("|");
        let id = format!("synth:{}:lc|{path}|{status}", self.event.run_id);
        self.push_as(id, "lifecycle", namespace, data);
    }
}

impl Encoder {
    /// An encoder at the beginning of a thread.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The protocol events of an event of the log.
    pub fn encode(&mut self, event: &Event, facts: &RunFacts) -> Vec<ProtocolEvent> {
        let mut told = Told {
            event,
            out: Vec::new(),
        };
        let run = self.runs.entry(event.run_id.0).or_default();
        let ns: Vec<String> = event.ns.iter().map(|part| part.to_string()).collect();
        if &*event.kind == "end" {
            let data = serde_json::from_str(&event.data).unwrap_or_default();
            run.end(&data, facts, &mut told);
            self.runs.remove(&event.run_id.0);
            return told.out;
        }
        run.begin(facts, &mut told);
        run.discover(&ns, &mut told);
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else {
            return told.out;
        };
        match &*event.kind {
            "values" => state("values", ns, data, &mut told),
            "updates" => state("updates", ns, data, &mut told),
            "messages" => run.messages(ns, &data, &mut told),
            "tools" => run.tools(ns, data, &mut told),
            "custom" => told.push("custom", ns, data),
            "tasks" => run.tasks(ns, data, &mut told),
            "checkpoints" => run.checkpoint(ns, &data, &mut told),
            "error" => run.error = Some(error_text(&data)),
            _ => {}
        }
        told.out
    }
}

/// A state or an update, without interrupts: those are asked for at the end of the run.
fn state(method: &'static str, ns: Vec<String>, mut data: Value, told: &mut Told<'_>) {
    if let Some(map) = data.as_object_mut()
        && map.shift_remove(INTERRUPT).is_some()
        && map.is_empty()
    {
        return;
    }
    told.push(method, ns, normal(data));
}

fn error_text(data: &Value) -> String {
    let message = text_of(data, "message").or_else(|| text_of(data, "error"));
    message.unwrap_or("An internal error occurred").to_owned()
}

impl RunState {
    fn begin(&mut self, facts: &RunFacts, told: &mut Told<'_>) {
        if self.started {
            return;
        }
        self.started = true;
        let data = json!({ "event": "running", "graph_name": facts.graph_id });
        told.lifecycle(vec![], data);
        if !facts.answers.is_empty() {
            let id = format!("synth:{}:answered", told.event.run_id);
            let data = json!({ "interrupt_ids": facts.answers });
            told.push_as(id, "input.answered", vec![], data);
        }
    }

    /// Tells the start of each (sub)graph on the way to `ns` that was not seen before.
    fn discover(&mut self, ns: &[String], told: &mut Told<'_>) {
        for depth in 1..=ns.len() {
            let path = &ns[..depth];
            let known = self.subgraphs.contains_key(path) || self.ended.contains(path);
            if known || self.subgraphs.len() + self.ended.len() >= MAX_SUBGRAPHS {
                continue;
            }
            let (name, task) = match path[depth - 1].split_once(':') {
                Some((name, task)) => (name, Some(task)),
                None => (path[depth - 1].as_str(), None),
            };
            let mut data = json!({
                "event": "started", "namespace": path, "graph_name": name,
            });
            if let Some(task) = task {
                data["trigger_call_id"] = json!(task);
            }
            // One running tool call around it can only be the one that started it.
            let around = self.tools.get(&path[..depth - 1]);
            if let Some(call) = around
                .filter(|calls| calls.len() == 1)
                .and_then(BTreeSet::first)
            {
                data["cause"] = json!({ "type": "toolCall", "tool_call_id": call });
            }
            self.subgraphs.insert(path.to_vec(), name.to_owned());
            told.lifecycle(path.to_vec(), data);
        }
    }

    fn messages(&mut self, ns: Vec<String>, data: &Value, told: &mut Told<'_>) {
        let (Some(message), Some(meta)) = (data.get(0), data.get(1)) else {
            return;
        };
        let node = text_of(meta, "langgraph_node").map(str::to_owned);
        for data in self.streams.take(&ns, message, meta) {
            told.push("messages", ns.clone(), data);
            if let Some(last) = told.out.last_mut() {
                last.params.node.clone_from(&node);
            }
        }
    }

    /// Tool events; the answer of a tool is told as a message under the call's own namespace too.
    fn tools(&mut self, ns: Vec<String>, data: Value, told: &mut Told<'_>) {
        let call = text_of(&data, "tool_call_id")
            .unwrap_or_default()
            .to_owned();
        let kind = text_of(&data, "event").unwrap_or_default().to_owned();
        let output = data.get("output").cloned().unwrap_or_default();
        told.push("tools", ns.clone(), data);
        match kind.as_str() {
            "tool-started" => {
                self.tools.entry(ns).or_default().insert(call);
            }
            "tool-finished" | "tool-error" => {
                if let Some(calls) = self.tools.get_mut(&ns) {
                    calls.remove(&call);
                }
                if kind == "tool-finished" {
                    tool_message(ns, &call, &output, told);
                }
            }
            _ => {}
        }
    }

    fn tasks(&mut self, ns: Vec<String>, data: Value, told: &mut Told<'_>) {
        let is_result = data.get("result").is_some() || data.get("error").is_some();
        let task = text_of(&data, "id").unwrap_or_default().to_owned();
        let interrupted = data.get("interrupts").and_then(Value::as_array);
        let interrupted = interrupted.is_some_and(|list| !list.is_empty());
        let error = data.get("error").filter(|error| !error.is_null()).cloned();
        if is_result {
            let child = self.subgraphs.keys().find(|path| {
                path.len() == ns.len() + 1
                    && path.starts_with(&ns)
                    && path[ns.len()]
                        .split_once(':')
                        .is_some_and(|(_, id)| id == task)
            });
            if let Some(child) = child.cloned() {
                let status = match (&error, interrupted) {
                    (Some(_), _) => "failed",
                    (None, true) => "interrupted",
                    (None, false) => "completed",
                };
                let error = error.map(|error| match error {
                    Value::String(text) => text,
                    other => other.to_string(),
                });
                self.finish_subgraphs(&child, status, error.as_deref(), told);
            }
        }
        told.push("tasks", ns, normal(data));
    }

    /// Tells the end of a subgraph and of those inside it, innermost first.
    fn finish_subgraphs(
        &mut self,
        under: &[String],
        status: &str,
        error: Option<&str>,
        told: &mut Told<'_>,
    ) {
        let mut paths: Vec<Vec<String>> = self
            .subgraphs
            .keys()
            .filter(|path| path.starts_with(under))
            .cloned()
            .collect();
        paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
        for path in paths {
            let name = self.subgraphs.remove(&path).unwrap_or_default();
            let mut data = json!({ "event": status, "graph_name": name });
            if let Some(error) = error {
                data["error"] = json!(error);
            }
            told.lifecycle(path.clone(), data);
            self.ended.insert(path);
        }
    }

    fn checkpoint(&mut self, ns: Vec<String>, data: &Value, told: &mut Told<'_>) {
        let id = |config: &str| data.pointer(&format!("/{config}/configurable/checkpoint_id"));
        if ns.is_empty() {
            let next = data.get("next").and_then(Value::as_array);
            self.has_next = next.is_some_and(|next| !next.is_empty());
        }
        let mut envelope = json!({ "id": id("config") });
        if let Some(parent) = id("parent_config").filter(|id| id.is_string()) {
            envelope["parent_id"] = parent.clone();
        }
        envelope["step"] = data.pointer("/metadata/step").cloned().unwrap_or_default();
        envelope["source"] = data
            .pointer("/metadata/source")
            .cloned()
            .unwrap_or_default();
        told.push("checkpoints", ns, envelope);
    }

    /// The end of the run. Its state is stored by now, so a client that reacts finds it.
    fn end(&mut self, data: &Value, facts: &RunFacts, told: &mut Told<'_>) {
        self.begin(facts, told);
        for (ns, data) in self.streams.close() {
            told.push("messages", ns, data);
        }
        let interrupts = data.get("interrupts").and_then(Value::as_array);
        let interrupts = interrupts.map(Vec::as_slice).unwrap_or_default();
        let waits = !interrupts.is_empty() || self.has_next;
        let (status, error) = match text_of(data, "status") {
            Some("success") if waits => ("interrupted", None),
            Some("success") => ("completed", None),
            Some("interrupted") => ("failed", Some(CANCELLED.to_owned())),
            _ => {
                let told = data.get("error").filter(|e| e.is_object()).map(error_text);
                let text = self.error.take().or(told);
                (
                    "failed",
                    Some(text.unwrap_or_else(|| error_text(&Value::Null))),
                )
            }
        };
        self.finish_subgraphs(&[], status, error.as_deref(), told);
        for interrupt in interrupts {
            let id = text_of(interrupt, "id").unwrap_or_default();
            let value = interrupt.get("value").cloned().unwrap_or_default();
            let event_id = format!("synth:{}:input||{id}", told.event.run_id);
            // The protocol calls it payload; the Python client reads it as value.
            let data = json!({ "interrupt_id": id, "payload": value, "value": value });
            told.push_as(event_id, "input.requested", vec![], data);
        }
        let mut data = json!({ "event": status, "graph_name": facts.graph_id });
        if let Some(error) = error {
            data["error"] = json!(error);
        }
        told.lifecycle(vec![], data);
    }
}

/// The answer of a tool as a message of its own.
fn tool_message(ns: Vec<String>, call: &str, output: &Value, told: &mut Told<'_>) {
    let id = text_of(output, "id").map_or_else(|| format!("tool-{call}"), str::to_owned);
    let text = match output.get("content").unwrap_or(output) {
        Value::String(text) => text.clone(),
        _ => String::new(),
    };
    let mut path = ns;
    path.push(format!("tools:{call}"));
    let block = |text: &str| json!({ "type": "text", "text": text });
    for data in [
        json!({ "event": "message-start", "role": "tool", "id": id, "tool_call_id": call }),
        json!({ "event": "content-block-start", "index": 0, "content": block("") }),
        json!({
            "event": "content-block-delta", "index": 0,
            "delta": { "type": "text-delta", "text": text },
        }),
        json!({ "event": "content-block-finish", "index": 0, "content": block(&text) }),
        json!({ "event": "message-finish", "metadata": {} }),
    ] {
        told.push("messages", path.clone(), data);
    }
}
