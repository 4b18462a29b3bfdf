//! Ollama's API.

use serde_json::{Value as Json, json};

use crate::{
    embedding,
    wire::{Answer, openai},
};

/// The whole answer, in one line.
pub(crate) fn whole(answer: &Answer) -> String {
    let mut line = last(answer);
    line["message"] = json!({"role": "assistant", "content": answer.text()});
    if !answer.calls.is_empty() {
        line["message"]["tool_calls"] = calls(answer);
    }
    line.to_string()
}

/// The answer as lines. Calls come whole, as Ollama sends them.
pub(crate) fn frames(answer: &Answer) -> Vec<String> {
    let line = |message: Json| json!({"model": answer.model, "message": message, "done": false});
    let mut lines: Vec<Json> = answer
        .pieces
        .iter()
        .map(|piece| line(json!({"role": "assistant", "content": piece})))
        .collect();
    if !answer.calls.is_empty() {
        let calls = calls(answer);
        lines.push(line(
            json!({"role": "assistant", "content": "", "tool_calls": calls}),
        ));
    }
    let mut end = last(answer);
    end["message"] = json!({"role": "assistant", "content": ""});
    lines.push(end);
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn calls(answer: &Answer) -> Json {
    let calls = answer.calls.iter();
    calls
        .map(|call| json!({"function": {"name": call.name, "arguments": call.json()}}))
        .collect()
}

fn last(answer: &Answer) -> Json {
    let [prompt, generated] = answer.usage;
    // Ollama knows no reason of its own for calls.
    let reason = match answer.finish_reason.as_str() {
        "tool_calls" => "stop",
        other => other,
    };
    json!({
        "model": answer.model,
        "message": null,
        "done": true,
        "done_reason": reason,
        "prompt_eval_count": prompt,
        "eval_count": generated,
    })
}

/// The answer to `/api/embed`.
pub(crate) fn embeddings(body: &Json, dim: usize) -> Json {
    let rows: Vec<Vec<f32>> = openai::inputs(&body["input"])
        .iter()
        .map(|text| embedding::embed(text, dim))
        .collect();
    json!({"model": body["model"], "embeddings": rows})
}

/// The body of an error answer.
pub(crate) fn error(message: &str) -> Json {
    json!({"error": message})
}
