//! Putting a streamed answer together. Pure.

use std::sync::Arc;

use agentflow_types::{Map, Rng, Value};

use crate::chat::{ChatEvent, ChatResponse, ToolCall, Usage};

/// A tool call of which pieces arrive.
#[derive(Clone, Debug, Default)]
struct Partial {
    id: String,
    name: String,
    args: String,
}

/// The answer so far. Each method returns the event that tells the reader what is new.
pub(crate) struct Assembly {
    rng: Arc<dyn Rng>,
    calls: Vec<Partial>,
    text: String,
    pub(crate) id: Option<String>,
    pub(crate) model: String,
    pub(crate) finish_reason: Option<String>,
    pub(crate) usage: Option<Usage>,
}

impl Assembly {
    /// An empty answer of `model`. `rng` makes ids for tool calls that come without one.
    pub(crate) fn new(model: &str, rng: Arc<dyn Rng>) -> Self {
        Self {
            rng,
            calls: Vec::new(),
            text: String::new(),
            id: None,
            model: model.to_owned(),
            finish_reason: None,
            usage: None,
        }
    }

    /// More text; nothing new if it is empty.
    pub(crate) fn text(&mut self, piece: &str) -> Option<ChatEvent> {
        if piece.is_empty() {
            return None;
        }
        self.text.push_str(piece);
        Some(ChatEvent::Text(piece.to_owned()))
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The id of a call, empty if there is none.
    pub(crate) fn call_id(&self, index: usize) -> &str {
        self.calls.get(index).map_or("", |call| &call.id)
    }

    /// A new call. Without an id it gets one.
    pub(crate) fn open_call(&mut self, id: Option<&str>, name: &str, args: &str) -> ChatEvent {
        let id = match id.filter(|id| !id.is_empty()) {
            Some(id) => id.to_owned(),
            None => format!("call_{:016x}", self.rng.next_u64()),
        };
        let index = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        self.calls.push(Partial {
            id: id.clone(),
            name: name.to_owned(),
            args: args.to_owned(),
        });
        ChatEvent::ToolCall {
            index,
            id: Some(id),
            name: Some(name.to_owned()),
            args: args.to_owned(),
        }
    }

    /// More of call `index`; nothing new if the piece is empty or the call was never opened.
    pub(crate) fn more_args(&mut self, index: usize, args: &str) -> Option<ChatEvent> {
        let call = self.calls.get_mut(index)?;
        if args.is_empty() {
            return None;
        }
        call.args.push_str(args);
        Some(ChatEvent::ToolCall {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            id: None,
            name: None,
            args: args.to_owned(),
        })
    }

    /// The whole answer; the assembly is empty afterwards.
    pub(crate) fn finish(&mut self) -> ChatResponse {
        let calls = std::mem::take(&mut self.calls);
        ChatResponse {
            id: self.id.take(),
            text: std::mem::take(&mut self.text),
            tool_calls: calls
                .into_iter()
                .map(|call| ToolCall {
                    id: call.id,
                    name: call.name,
                    args: parse_args(&call.args),
                })
                .collect(),
            finish_reason: self.finish_reason.take(),
            usage: self.usage.take(),
            model: std::mem::take(&mut self.model),
        }
    }
}

/// The arguments of a tool call: a map, or the text itself if it is not one.
///
/// Models write no text at all for a tool without parameters; that is an empty map.
pub(crate) fn parse_args(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::map(Map::new());
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.as_map().is_some() => value,
        _ => Value::str(text),
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::{SeededRng, value};
    use proptest::prelude::*;

    use super::*;

    fn assembly() -> Assembly {
        Assembly::new("m", Arc::new(SeededRng::new(1)))
    }

    #[test]
    fn arguments_never_fail() {
        assert_eq!(parse_args(""), value!({}));
        assert_eq!(parse_args(r#"{"a":1}"#), value!({"a": 1}));
        for broken in [r#"{"a":"#, "[1]", "null", "7", "{} {}"] {
            assert_eq!(parse_args(broken), value!(broken), "{broken}");
        }
    }

    #[test]
    fn a_call_without_an_id_gets_one_that_differs() {
        let mut answer = assembly();
        answer.open_call(None, "a", "");
        answer.open_call(Some(""), "b", "");
        let calls = answer.finish().tool_calls;
        assert!(calls[0].id.starts_with("call_"), "{calls:?}");
        assert_ne!(calls[0].id, calls[1].id);
        assert!(calls.iter().all(ToolCall::is_valid));
    }

    proptest! {
        #[test]
        fn any_text_as_arguments_is_kept(text in ".{0,80}") {
            let value = parse_args(&text);
            prop_assert!(value.as_map().is_some() || value.as_str() == Some(&text));
        }

        #[test]
        fn pieces_add_up(pieces in prop::collection::vec((0usize..3, "[a-z\"{}:]{0,6}"), 0..40)) {
            let mut answer = assembly();
            let mut want = vec![String::new(); 3];
            for name in ["x", "y", "z"] {
                answer.open_call(Some(name), name, "");
            }
            for (index, piece) in &pieces {
                let event = answer.more_args(*index, piece);
                prop_assert_eq!(event.is_none(), piece.is_empty());
                want[*index].push_str(piece);
            }
            let got: Vec<Value> = answer.finish().tool_calls.into_iter().map(|c| c.args).collect();
            prop_assert_eq!(got, want.iter().map(|text| parse_args(text)).collect::<Vec<_>>());
        }
    }
}
