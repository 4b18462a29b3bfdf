//! The three APIs: reading requests, writing answers. Pure.

pub(crate) mod anthropic;
pub(crate) mod ollama;
pub(crate) mod openai;

use serde_json::Value as Json;

use crate::script::{Ask, Fault, Reply};

/// Bytes of one piece of filler text.
const FILLER_BYTES: usize = 8 << 10;

/// Most bytes of filler text that a script may ask for.
const MOST_FILLER_BYTES: usize = 256 << 20;

/// Characters of one piece of a tool call's arguments.
const ARGS_CHARS: usize = 8;

/// Which API a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    OpenAi,
    Anthropic,
    Ollama,
}

/// A reply with everything filled in.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub id: String,
    pub model: String,
    pub pieces: Vec<String>,
    pub calls: Vec<Called>,
    pub finish_reason: String,
    pub usage: [u64; 2],
}

/// A tool call with its id.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    pub id: String,
    pub name: String,
    pub args: String,
}

impl Called {
    /// The arguments as JSON; the text itself if it is none.
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.args).unwrap_or_else(|_| Json::String(self.args.clone()))
    }

    /// The arguments' text in pieces.
    pub(crate) fn pieces(&self) -> Vec<String> {
        let chars: Vec<char> = self.args.chars().collect();
        chars
            .chunks(ARGS_CHARS)
            .map(|piece| piece.iter().collect())
            .collect()
    }
}

impl Answer {
    /// `number`: of the request, makes ids unique.
    pub(crate) fn new(ask: &Ask, reply: &Reply, number: usize) -> Self {
        let mut pieces = match (&reply.text, reply.pieces.is_empty()) {
            (_, false) => reply.pieces.clone(),
            (Some(text), true) => text.split_inclusive(' ').map(str::to_owned).collect(),
            (None, true) => Vec::new(),
        };
        for fault in &reply.faults {
            if let Fault::Huge { bytes } = fault {
                let count = (*bytes).min(MOST_FILLER_BYTES).div_ceil(FILLER_BYTES);
                pieces.extend(std::iter::repeat_n("x".repeat(FILLER_BYTES), count));
            }
        }
        let calls: Vec<Called> = reply
            .calls
            .iter()
            .enumerate()
            .map(|(at, call)| Called {
                id: call
                    .id
                    .clone()
                    .unwrap_or_else(|| format!("call_{number}_{at}")),
                name: call.name.clone(),
                args: call.args_text(),
            })
            .collect();
        let usual = if calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        };
        let words = |text: &str| text.split_whitespace().count() as u64;
        let usage = reply
            .usage
            .unwrap_or_else(|| [words(&ask.all_text), words(&pieces.concat())]);
        Self {
            id: format!("answer-{number}"),
            model: ask.model.clone(),
            pieces,
            calls,
            finish_reason: reply
                .finish_reason
                .clone()
                .unwrap_or_else(|| usual.to_owned()),
            usage,
        }
    }

    pub(crate) fn text(&self) -> String {
        self.pieces.concat()
    }
}

/// The text of a message: its string, or the text of its blocks and of results inside them.
pub(crate) fn text_of(content: &Json) -> String {
    match content {
        Json::String(text) => text.clone(),
        Json::Array(blocks) => blocks
            .iter()
            .map(|block| match block {
                Json::String(text) => text.clone(),
                block if block["type"] == "text" => text_of(&block["text"]),
                block => text_of(&block["content"]),
            })
            .collect(),
        _ => String::new(),
    }
}

/// What rules need to know of a chat request.
pub(crate) fn ask(path: &str, body: &Json) -> Ask {
    let mut ask = Ask {
        path: path.to_owned(),
        is_chat: true,
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        has_tools: body["tools"]
            .as_array()
            .is_some_and(|tools| !tools.is_empty()),
        ..Ask::default()
    };
    ask.all_text = text_of(&body["system"]);
    for message in body["messages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
    {
        let text = text_of(&message["content"]);
        let role = match message["role"].as_str().unwrap_or_default() {
            // Anthropic sends answers of tools in the name of the user.
            "user" if has_result(&message["content"]) => "tool",
            "developer" => "system",
            role => role,
        };
        match role {
            "user" => ask.text.clone_from(&text),
            "tool" => ask.tool_result.clone_from(&text),
            _ => {}
        }
        ask.last_role = role.to_owned();
        ask.all_text.push('\n');
        ask.all_text.push_str(&text);
    }
    ask
}

fn has_result(content: &Json) -> bool {
    let blocks = content.as_array().map(Vec::as_slice).unwrap_or_default();
    blocks.iter().any(|block| block["type"] == "tool_result")
}

/// Bytes of one server-sent event.
pub(crate) fn event(name: Option<&str>, data: &str) -> String {
    match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}
