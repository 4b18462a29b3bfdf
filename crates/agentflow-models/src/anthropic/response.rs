//! Reading Messages answers, in pieces or whole. Pure.

use std::{collections::VecDeque, sync::Arc};

use agentflow_types::{Result, Rng};
use serde_json::Value as Json;

use crate::{
    assembly::Assembly,
    chat::{ChatEvent, ChatResponse, Usage},
    frames::Frame,
    transport::{self, Failure},
};

/// What a content block turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// Text.
    Text,
    /// A tool call.
    Call(usize),
    /// The call that carries the structured answer; its arguments are the text.
    Answer,
    /// Thoughts and others that are not part of the answer.
    Skipped,
}

/// Reads the frames of one answer.
pub(crate) struct Decoder {
    answer: Assembly,
    schema_tool: Option<String>,
    blocks: Vec<(u64, Block)>,
    answered: bool,
}

impl Decoder {
    /// `schema_tool`: the tool that stands for the response schema, if there is one.
    pub(crate) fn new(model: &str, schema_tool: Option<String>, rng: Arc<dyn Rng>) -> Self {
        let answer = Assembly::new(model, rng);
        Self {
            answer,
            schema_tool,
            blocks: Vec::new(),
            answered: false,
        }
    }

    /// Reads an answer that came at once.
    ///
    /// # Errors
    /// `Failed` if it holds no answer, or what the server reports instead.
    pub(crate) fn whole(mut self, answer: &Json) -> Result<ChatResponse> {
        if answer.get("type").and_then(Json::as_str) == Some("error") {
            return Err(Failure::reported(answer).error);
        }
        let Some(content) = answer.get("content").and_then(Json::as_array) else {
            return Err(Failure::malformed("the answer holds no content", "no content").error);
        };
        let mut out = VecDeque::new();
        self.head(answer);
        for (index, block) in content.iter().enumerate() {
            self.open(index as u64, block, &mut out);
        }
        self.stop_reason(answer.get("stop_reason"));
        Ok(self.answer.finish())
    }

    fn head(&mut self, message: &Json) {
        let text = |key: &str| message.get(key).and_then(Json::as_str).map(str::to_owned);
        self.answer.id = text("id").or(self.answer.id.take());
        if let Some(model) = text("model") {
            self.answer.model = model;
        }
        self.usage(message.get("usage"));
    }

    /// Counts are running totals: a later one replaces an earlier one. What came from or went to
    /// the cache is part of the prompt.
    fn usage(&mut self, usage: Option<&Json>) {
        let Some(usage) = usage.filter(|usage| usage.is_object()) else {
            return;
        };
        let count = |key: &str| usage.get(key).and_then(Json::as_u64);
        let known = self.answer.usage.unwrap_or_default();
        let input = count("input_tokens").map(|tokens| {
            tokens
                + count("cache_creation_input_tokens").unwrap_or(0)
                + count("cache_read_input_tokens").unwrap_or(0)
        });
        self.answer.usage = Some(Usage {
            input_tokens: input.unwrap_or(known.input_tokens),
            output_tokens: count("output_tokens").unwrap_or(known.output_tokens),
        });
    }

    fn open(&mut self, index: u64, block: &Json, out: &mut VecDeque<ChatEvent>) {
        let text = |key: &str| block.get(key).and_then(Json::as_str).unwrap_or_default();
        let kind = match text("type") {
            "text" => {
                out.extend(self.answer.text(text("text")));
                Block::Text
            }
            "tool_use" => {
                // In a stream the input begins empty and arrives in pieces.
                let input = match block.get("input") {
                    Some(Json::Object(map)) if map.is_empty() => String::new(),
                    Some(input) => input.to_string(),
                    None => String::new(),
                };
                if self.schema_tool.as_deref() == Some(text("name")) {
                    self.answered = true;
                    out.extend(self.answer.text(&input));
                    Block::Answer
                } else {
                    let at = self.answer.calls();
                    out.push_back(
                        self.answer
                            .open_call(Some(text("id")), text("name"), &input),
                    );
                    Block::Call(at)
                }
            }
            _ => Block::Skipped,
        };
        self.blocks.push((index, kind));
    }

    fn delta(&mut self, index: u64, delta: &Json, out: &mut VecDeque<ChatEvent>) {
        let text = |key: &str| delta.get(key).and_then(Json::as_str).unwrap_or_default();
        let block = self
            .blocks
            .iter()
            .rev()
            .find(|(i, _)| *i == index)
            .map(|(_, kind)| *kind);
        match (block, text("type")) {
            (Some(Block::Text), "text_delta") => out.extend(self.answer.text(text("text"))),
            (Some(Block::Answer), "input_json_delta") => {
                out.extend(self.answer.text(text("partial_json")));
            }
            (Some(Block::Call(at)), "input_json_delta") => {
                out.extend(self.answer.more_args(at, text("partial_json")));
            }
            _ => {}
        }
    }

    /// Words of the chat port for Anthropic's.
    fn stop_reason(&mut self, reason: Option<&Json>) {
        let Some(reason) = reason.and_then(Json::as_str) else {
            return;
        };
        let word = match reason {
            "end_turn" | "stop_sequence" => "stop",
            "tool_use" if self.answered && self.answer.calls() == 0 => "stop",
            "tool_use" => "tool_calls",
            "max_tokens" => "length",
            "refusal" => "content_filter",
            other => other,
        };
        self.answer.finish_reason = Some(word.to_owned());
    }
}

impl transport::Decoder for Decoder {
    fn frame(&mut self, frame: &Frame, out: &mut VecDeque<ChatEvent>) -> Result<(), Failure> {
        let data: Json = serde_json::from_str(&frame.data)
            .map_err(|error| Failure::malformed("a piece of the answer is not JSON", error))?;
        let null = Json::Null;
        let part = |key: &str| data.get(key).unwrap_or(&null);
        let index = part("index").as_u64().unwrap_or(0);
        match part("type").as_str().unwrap_or(&frame.event) {
            "message_start" => self.head(part("message")),
            "content_block_start" => self.open(index, part("content_block"), out),
            "content_block_delta" => self.delta(index, part("delta"), out),
            "message_delta" => {
                self.usage(data.get("usage"));
                self.stop_reason(part("delta").get("stop_reason"));
            }
            "message_stop" => out.push_back(ChatEvent::Done(self.answer.finish())),
            "error" => return Err(Failure::reported(&data)),
            // Pings, and events that later versions may add.
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, out: &mut VecDeque<ChatEvent>) {
        if self.answer.finish_reason.is_some() {
            out.push_back(ChatEvent::Done(self.answer.finish()));
        }
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::{SeededRng, value};
    use serde_json::json;

    use super::*;
    use crate::transport::Decoder as _;

    fn read(schema_tool: Option<&str>, frames: &[Json]) -> Vec<ChatEvent> {
        let rng = Arc::new(SeededRng::new(1));
        let mut decoder = Decoder::new("asked", schema_tool.map(str::to_owned), rng);
        let mut out = VecDeque::new();
        for frame in frames {
            let frame = Frame {
                event: String::new(),
                data: frame.to_string(),
            };
            decoder.frame(&frame, &mut out).unwrap();
        }
        out.into()
    }

    fn tool_frames(name: &str) -> Vec<Json> {
        vec![
            json!({"type": "message_start", "message": {"id": "msg", "model": "claude-x",
                "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 1}}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
            json!({"type": "content_block_start", "index": 1,
                "content_block": {"type": "tool_use", "id": "t", "name": name, "input": {}}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"a\""}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ":1}"}}),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
            json!({"type": "message_stop"}),
        ]
    }

    fn done(events: &[ChatEvent]) -> ChatResponse {
        match events.last() {
            Some(ChatEvent::Done(answer)) => answer.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tool_call_arrives_in_pieces() {
        let answer = done(&read(None, &tool_frames("f")));
        assert_eq!(answer.tool_calls[0].args, value!({"a": 1}));
        assert_eq!(answer.finish_reason.as_deref(), Some("tool_calls"));
        assert_eq!(
            answer.usage,
            Some(Usage {
                input_tokens: 7,
                output_tokens: 9
            })
        );
        assert_eq!(
            (answer.id.as_deref(), answer.model.as_str()),
            (Some("msg"), "claude-x")
        );
    }

    #[test]
    fn the_call_that_stands_for_a_schema_is_text() {
        let events = read(Some("out"), &tool_frames("out"));
        assert_eq!(events[0], ChatEvent::Text("{\"a\"".into()));
        let answer = done(&events);
        assert_eq!(
            (answer.text.as_str(), answer.tool_calls.len()),
            (r#"{"a":1}"#, 0)
        );
        assert_eq!(answer.finish_reason.as_deref(), Some("stop"));
    }

    #[test]
    fn an_overload_in_the_stream_is_busy() {
        let mut decoder = Decoder::new("m", None, Arc::new(SeededRng::new(1)));
        let data = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
        let frame = Frame {
            event: "error".into(),
            data: data.to_string(),
        };
        let failure = decoder.frame(&frame, &mut VecDeque::new()).unwrap_err();
        assert_eq!(failure.error.kind(), agentflow_types::ErrorKind::Busy);
        assert!(failure.may_retry());
    }
}
