//! Reading Ollama's answers, line by line or whole. Pure.

use std::{collections::VecDeque, sync::Arc};

use agentflow_types::{Result, Rng};
use serde_json::Value as Json;

use crate::{
    assembly::Assembly,
    chat::{ChatEvent, ChatResponse, Usage},
    frames::Frame,
    transport::{self, Failure},
};

/// Reads the lines of one answer. A whole answer is a stream of one line.
pub(crate) struct Decoder {
    answer: Assembly,
}

impl Decoder {
    pub(crate) fn new(model: &str, rng: Arc<dyn Rng>) -> Self {
        Self {
            answer: Assembly::new(model, rng),
        }
    }

    /// Reads an answer that came at once.
    ///
    /// # Errors
    /// `Failed` if it holds no answer, or what the server reports instead.
    pub(crate) fn whole(mut self, answer: &Json) -> Result<ChatResponse> {
        let mut out = VecDeque::new();
        self.line(answer, &mut out)
            .map_err(|failure| failure.error)?;
        match out.pop_back() {
            Some(ChatEvent::Done(answer)) => Ok(answer),
            _ => Err(Failure::malformed("the answer holds no message", "not done").error),
        }
    }

    fn line(&mut self, line: &Json, out: &mut VecDeque<ChatEvent>) -> Result<(), Failure> {
        if line.get("error").is_some_and(|error| !error.is_null()) {
            return Err(Failure::reported(line));
        }
        if let Some(model) = line.get("model").and_then(Json::as_str) {
            self.answer.model = model.to_owned();
        }
        let message = line.get("message");
        if let Some(text) = message
            .and_then(|m| m.get("content"))
            .and_then(Json::as_str)
        {
            out.extend(self.answer.text(text));
        }
        let calls = message
            .and_then(|m| m.get("tool_calls"))
            .and_then(Json::as_array);
        for call in calls.map(Vec::as_slice).unwrap_or_default() {
            let function = call.get("function");
            let name = function.and_then(|f| f.get("name")).and_then(Json::as_str);
            let args = match function.and_then(|f| f.get("arguments")) {
                Some(Json::String(text)) => text.clone(),
                Some(Json::Null) | None => String::new(),
                Some(object) => object.to_string(),
            };
            let id = call.get("id").and_then(Json::as_str);
            out.push_back(self.answer.open_call(id, name.unwrap_or_default(), &args));
        }
        if line.get("done").and_then(Json::as_bool) == Some(true) {
            self.done(line, out);
        }
        Ok(())
    }

    fn done(&mut self, line: &Json, out: &mut VecDeque<ChatEvent>) {
        let count = |key: &str| line.get(key).and_then(Json::as_u64);
        if count("prompt_eval_count").or(count("eval_count")).is_some() {
            self.answer.usage = Some(Usage {
                // Ollama leaves the count out when the whole prompt was cached.
                input_tokens: count("prompt_eval_count").unwrap_or(0),
                output_tokens: count("eval_count").unwrap_or(0),
            });
        }
        let reason = line
            .get("done_reason")
            .and_then(Json::as_str)
            .unwrap_or("stop");
        let reason = if self.answer.calls() > 0 {
            "tool_calls"
        } else {
            reason
        };
        self.answer.finish_reason = Some(reason.to_owned());
        out.push_back(ChatEvent::Done(self.answer.finish()));
    }
}

impl transport::Decoder for Decoder {
    fn frame(&mut self, frame: &Frame, out: &mut VecDeque<ChatEvent>) -> Result<(), Failure> {
        let line: Json = serde_json::from_str(&frame.data)
            .map_err(|error| Failure::malformed("a piece of the answer is not JSON", error))?;
        self.line(&line, out)
    }

    fn end(&mut self, _out: &mut VecDeque<ChatEvent>) {
        // Only a line that says `done` completes an answer.
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::{SeededRng, value};
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_get_ids_and_the_end_brings_counts() {
        let decoder = Decoder::new("m", Arc::new(SeededRng::new(1)));
        let answer = decoder
            .whole(
                &json!({"model": "llama", "done": true, "done_reason": "stop",
                "prompt_eval_count": 3, "eval_count": 4,
                "message": {"role": "assistant", "content": "", "tool_calls": [
                    {"function": {"name": "f", "arguments": {"a": 1}}},
                    {"function": {"name": "f", "arguments": {}}}]}}),
            )
            .unwrap();
        assert_eq!(answer.tool_calls[0].args, value!({"a": 1}));
        assert_ne!(answer.tool_calls[0].id, answer.tool_calls[1].id);
        assert_eq!(answer.finish_reason.as_deref(), Some("tool_calls"));
        assert_eq!(
            answer.usage,
            Some(Usage {
                input_tokens: 3,
                output_tokens: 4
            })
        );
    }

    #[test]
    fn an_error_line_is_reported() {
        let decoder = Decoder::new("m", Arc::new(SeededRng::new(1)));
        let error = decoder
            .whole(&json!({"error": "model runner has stopped"}))
            .unwrap_err();
        assert!(
            error.to_string().contains("model runner has stopped"),
            "{error}"
        );
    }
}
