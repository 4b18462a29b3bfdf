//! Reading chat completions, in pieces or whole. Pure.

use std::{collections::VecDeque, sync::Arc};

use agentflow_types::{Result, Rng};
use serde_json::Value as Json;

use crate::{
    assembly::Assembly,
    chat::{ChatEvent, ChatResponse, Usage},
    frames::Frame,
    transport::{self, Failure},
};

/// Reads the frames of one answer.
pub(crate) struct Decoder {
    answer: Assembly,
    /// Call of each `index` that the server used, with its latest call.
    slots: Vec<(u64, usize)>,
}

impl Decoder {
    pub(crate) fn new(model: &str, rng: Arc<dyn Rng>) -> Self {
        Self {
            answer: Assembly::new(model, rng),
            slots: Vec::new(),
        }
    }

    /// Reads an answer that came at once.
    ///
    /// # Errors
    /// `Failed` if it holds no answer, or what the server reports instead.
    pub(crate) fn whole(mut self, answer: &Json) -> Result<ChatResponse> {
        if is_error(answer) {
            return Err(Failure::reported(answer).error);
        }
        let Some(message) = answer.pointer("/choices/0/message") else {
            return Err(Failure::malformed("the answer holds no message", "no choices").error);
        };
        let mut events = VecDeque::new();
        self.head(answer);
        self.delta(message, &mut events);
        self.finish_reason(answer.pointer("/choices/0/finish_reason"));
        Ok(self.answer.finish())
    }

    /// Fields that every frame repeats.
    fn head(&mut self, frame: &Json) {
        let text = |key: &str| {
            frame
                .get(key)
                .and_then(Json::as_str)
                .filter(|text| !text.is_empty())
        };
        if let Some(id) = text("id") {
            self.answer.id = Some(id.to_owned());
        }
        if let Some(model) = text("model") {
            self.answer.model = model.to_owned();
        }
        if let Some(usage) = frame.get("usage").filter(|usage| usage.is_object()) {
            let count = |key: &str| usage.get(key).and_then(Json::as_u64).unwrap_or(0);
            self.answer.usage = Some(Usage {
                input_tokens: count("prompt_tokens"),
                output_tokens: count("completion_tokens"),
            });
        }
    }

    fn finish_reason(&mut self, reason: Option<&Json>) {
        if let Some(reason) = reason.and_then(Json::as_str) {
            // Servers differ on whether calls end with `stop`; readers should not have to care.
            let reason = match reason {
                "stop" | "function_call" if self.answer.calls() > 0 => "tool_calls",
                other => other,
            };
            self.answer.finish_reason = Some(reason.to_owned());
        }
    }

    fn delta(&mut self, delta: &Json, out: &mut VecDeque<ChatEvent>) {
        // A refusal is the model's answer in place of the content.
        for key in ["content", "refusal"] {
            if let Some(text) = delta.get(key).and_then(Json::as_str) {
                out.extend(self.answer.text(text));
            }
        }
        let calls = delta
            .get("tool_calls")
            .and_then(Json::as_array)
            .map(Vec::as_slice);
        for (position, call) in calls.unwrap_or_default().iter().enumerate() {
            self.call(call, position, out);
        }
    }

    /// A piece of a call. It continues the call of the same `index`, unless it brings another
    /// id: some servers give all calls the index 0, and some give none.
    fn call(&mut self, call: &Json, position: usize, out: &mut VecDeque<ChatEvent>) {
        let id = call
            .get("id")
            .and_then(Json::as_str)
            .filter(|id| !id.is_empty());
        let function = call.get("function");
        let name = function
            .and_then(|f| f.get("name"))
            .and_then(Json::as_str)
            .unwrap_or_default();
        let args = match function.and_then(|f| f.get("arguments")) {
            Some(Json::String(text)) => text.clone(),
            Some(Json::Null) | None => String::new(),
            Some(object) => object.to_string(),
        };
        let index = call
            .get("index")
            .and_then(Json::as_u64)
            .unwrap_or(position as u64);
        let open = self
            .slots
            .iter()
            .rev()
            .find(|(i, _)| *i == index)
            .map(|(_, slot)| *slot);
        match open {
            Some(slot) if id.is_none_or(|id| id == self.answer.call_id(slot)) => {
                out.extend(self.answer.more_args(slot, &args));
            }
            _ => {
                self.slots.push((index, self.answer.calls()));
                out.push_back(self.answer.open_call(id, name, &args));
            }
        }
    }

    fn done(&mut self, out: &mut VecDeque<ChatEvent>) {
        out.push_back(ChatEvent::Done(self.answer.finish()));
    }
}

impl transport::Decoder for Decoder {
    fn frame(&mut self, frame: &Frame, out: &mut VecDeque<ChatEvent>) -> Result<(), Failure> {
        if frame.data.trim() == "[DONE]" {
            self.done(out);
            return Ok(());
        }
        let chunk: Json = serde_json::from_str(&frame.data)
            .map_err(|error| Failure::malformed("a piece of the answer is not JSON", error))?;
        if is_error(&chunk) {
            return Err(Failure::reported(&chunk));
        }
        self.head(&chunk);
        if let Some(delta) = chunk.pointer("/choices/0/delta") {
            self.delta(delta, out);
        }
        self.finish_reason(chunk.pointer("/choices/0/finish_reason"));
        Ok(())
    }

    fn end(&mut self, out: &mut VecDeque<ChatEvent>) {
        // Some servers leave `[DONE]` out; a reason to finish is as good.
        if self.answer.finish_reason.is_some() {
            self.done(out);
        }
    }
}

fn is_error(document: &Json) -> bool {
    document.get("error").is_some_and(|error| !error.is_null())
}

#[cfg(test)]
mod tests {
    use agentflow_types::{SeededRng, value};
    use serde_json::json;

    use super::*;
    use crate::transport::Decoder as _;

    fn read(frames: &[Json]) -> ChatResponse {
        let mut decoder = Decoder::new("asked", Arc::new(SeededRng::new(1)));
        let mut out = VecDeque::new();
        for frame in frames {
            let frame = Frame {
                event: "message".into(),
                data: frame.to_string(),
            };
            decoder.frame(&frame, &mut out).unwrap();
        }
        decoder.end(&mut out);
        match out.pop_back() {
            Some(ChatEvent::Done(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn call(call: Json) -> Json {
        json!({"choices": [{"delta": {"tool_calls": [call]}}]})
    }

    #[test]
    fn calls_come_together_whatever_the_index_says() {
        let end = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
        let names = |frames: &[Json]| -> Vec<(String, String)> {
            let answer = read(frames);
            assert_eq!(answer.finish_reason.as_deref(), Some("tool_calls"));
            answer
                .tool_calls
                .into_iter()
                .map(|c| (c.name, c.args.to_string()))
                .collect()
        };
        let want = vec![
            ("f".to_owned(), r#"{"a":1}"#.to_owned()),
            ("g".to_owned(), "{}".to_owned()),
        ];
        // As OpenAI writes it.
        assert_eq!(
            want,
            names(&[
                call(
                    json!({"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}})
                ),
                call(json!({"index": 0, "function": {"arguments": "{\"a\""}})),
                call(json!({"index": 1, "id": "2", "function": {"name": "g", "arguments": "{}"}})),
                call(json!({"index": 0, "function": {"arguments": ":1}"}})),
                end.clone(),
            ])
        );
        // Whole calls that all have the index 0, or none.
        for index in [json!(0), json!(null)] {
            assert_eq!(
                want,
                names(&[
                    call(
                        json!({"index": index, "id": "1", "function": {"name": "f", "arguments": "{\"a\":1}"}})
                    ),
                    call(
                        json!({"index": index, "id": "2", "function": {"name": "g", "arguments": "{}"}})
                    ),
                    end.clone(),
                ])
            );
        }
        // Arguments as an object, the id repeated.
        assert_eq!(
            want,
            names(&[
                call(
                    json!({"index": 0, "id": "1", "function": {"name": "f", "arguments": {"a": 1}}})
                ),
                call(json!({"index": 0, "id": "1", "function": {}})),
                call(json!({"index": 1, "id": "2", "function": {"name": "g"}})),
                end,
            ])
        );
    }

    #[test]
    fn usage_after_the_end_counts() {
        let answer = read(&[
            json!({"id": "x", "model": "told", "choices": [{"delta": {"content": "hi"}}], "usage": null}),
            json!({"choices": [{"delta": {}, "finish_reason": "length"}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}),
        ]);
        assert_eq!(
            answer.usage,
            Some(Usage {
                input_tokens: 3,
                output_tokens: 4
            })
        );
        assert_eq!(answer.model, "told");
        assert_eq!(answer.finish_reason.as_deref(), Some("length"));
    }

    #[test]
    fn a_whole_answer_with_broken_arguments_is_kept() {
        let decoder = Decoder::new("m", Arc::new(SeededRng::new(1)));
        let answer = decoder
            .whole(&json!({"choices": [{"message": {"content": null, "tool_calls": [
                {"id": "1", "function": {"name": "f", "arguments": "{oops"}}]}, "finish_reason": "tool_calls"}]}))
            .unwrap();
        assert_eq!(answer.tool_calls[0].args, value!("{oops"));
        assert!(!answer.tool_calls[0].is_valid());
    }

    #[test]
    fn an_error_inside_an_answer_is_reported() {
        let mut decoder = Decoder::new("m", Arc::new(SeededRng::new(1)));
        let data = json!({"error": {"message": "too busy", "type": "server_error"}}).to_string();
        let frame = Frame {
            event: "message".into(),
            data,
        };
        let failure = decoder.frame(&frame, &mut VecDeque::new()).unwrap_err();
        assert!(failure.may_retry());
        assert!(failure.error.to_string().contains("too busy"));
    }
}
