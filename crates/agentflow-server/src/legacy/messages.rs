//! Mode `messages`: each message with its metadata once, then growing, then complete.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::accumulate::{add, finished, is_chunk, text_of};

/// Messages of one run that one reader is told about; beyond it the oldest are forgotten.
const MAX_MESSAGES: usize = 1024;

/// The messages of a run so far.
#[derive(Default)]
pub(super) struct Partials {
    known: HashMap<String, Value>,
    order: std::collections::VecDeque<String>,
}

impl Partials {
    /// Takes `[message, metadata]` and returns event names with their data.
    pub(super) fn take(&mut self, data: &str) -> Vec<(&'static str, Value)> {
        let Ok(Value::Array(pair)) = serde_json::from_str::<Value>(data) else {
            return vec![];
        };
        let [message, metadata] = pair.as_slice() else {
            return vec![];
        };
        let id = text_of(message, "id").unwrap_or_default().to_owned();
        let mut out = Vec::with_capacity(2);
        let is_new = !self.known.contains_key(&id);
        if is_new {
            out.push((
                "messages/metadata",
                json!({ &id: { "metadata": metadata } }),
            ));
            self.remember(&id);
        }
        if is_chunk(message) {
            let whole = self.known.entry(id).or_default();
            match whole.is_null() {
                true => *whole = message.clone(),
                false => add(whole, message),
            }
            out.push(("messages/partial", json!([finished(whole)])));
        } else {
            self.known.insert(id, message.clone());
            out.push(("messages/complete", json!([message])));
        }
        out
    }

    fn remember(&mut self, id: &str) {
        self.known.insert(id.to_owned(), Value::Null);
        self.order.push_back(id.to_owned());
        if self.order.len() > MAX_MESSAGES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
