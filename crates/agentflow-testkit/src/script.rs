//! What the model server answers. Pure; the types are the format of script files.
//!
//! ```
//! use agentflow_testkit::Script;
//!
//! let script: Script = serde_json::from_str(r#"{
//!   "rules": [
//!     {"when": {"text": "weather", "tools": true},
//!      "replies": [
//!        {"status": 429, "retry_after": "0", "times": 2},
//!        {"calls": [{"name": "get_weather", "args": {"city": "Bern"}}]},
//!        {"text": "Sunny.", "faults": [{"kind": "between", "ms": 5}]}]}
//!   ]}"#).unwrap();
//! assert_eq!(script.rules[0].replies.len(), 3);
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Dimension of embeddings if the script does not say.
pub const EMBEDDING_DIM: usize = 64;

/// How a server behaves. Requests that no rule matches are echoed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Tried in order; the first that matches and has a reply left answers.
    pub rules: Vec<Rule>,
    /// Models that the server lists.
    pub models: Vec<String>,
    /// Dimension of embeddings.
    pub embedding_dim: usize,
    /// Credential that requests must carry; none is asked for if absent.
    pub api_key: Option<String>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            models: vec!["test-model".to_owned()],
            embedding_dim: EMBEDDING_DIM,
            api_key: None,
        }
    }
}

impl Script {
    /// A script that answers every chat request with `replies`, one after the other; the last
    /// one again and again.
    #[must_use]
    pub fn replies(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::default().rule(When::default(), replies)
    }

    /// The script with one more rule.
    #[must_use]
    pub fn rule(mut self, when: When, replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies = replies.into_iter().collect();
        self.rules.push(Rule {
            when,
            replies,
            then: Then::Repeat,
        });
        self
    }
}

/// Replies to the requests that match.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests.
    #[serde(default)]
    pub when: When,
    /// One per request, in order.
    pub replies: Vec<Reply>,
    /// What happens after the last reply.
    #[serde(default)]
    pub then: Then,
}

/// What a rule does when its replies are used up.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The last reply again.
    #[default]
    Repeat,
    /// Later rules decide.
    Next,
}

/// A condition; each field that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// The text of the last user message contains this.
    pub text: Option<String>,
    /// Any message contains this.
    pub anywhere: Option<String>,
    /// The last answer of a tool contains this.
    pub tool_result: Option<String>,
    /// The model is this one.
    pub model: Option<String>,
    /// Whether tools are offered.
    pub tools: Option<bool>,
    /// Role of the last message: `user`, `tool`, `assistant`, `system`.
    pub last_role: Option<String>,
    /// The path begins with this. Without it only chat requests match.
    pub path: Option<String>,
}

impl When {
    /// Requests whose last user message contains `text`.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self {
            text: Some(text.to_owned()),
            ..Self::default()
        }
    }

    /// Requests whose path begins with `path`.
    #[must_use]
    pub fn path(path: &str) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..Self::default()
        }
    }

    /// Requests whose last message has this role.
    #[must_use]
    pub fn last_role(role: &str) -> Self {
        Self {
            last_role: Some(role.to_owned()),
            ..Self::default()
        }
    }

    fn holds(&self, ask: &Ask) -> bool {
        let contains = |wanted: &Option<String>, text: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| text.contains(wanted.as_str()))
        };
        let equals =
            |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|w| w == text);
        let path = match &self.path {
            Some(path) => ask.path.starts_with(path.as_str()),
            None => ask.is_chat,
        };
        path && contains(&self.text, &ask.text)
            && contains(&self.anywhere, &ask.all_text)
            && contains(&self.tool_result, &ask.tool_result)
            && equals(&self.model, &ask.model)
            && equals(&self.last_role, &ask.last_role)
            && self.tools.is_none_or(|tools| tools == ask.has_tools)
    }
}

/// One answer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reply {
    /// Text; streamed word by word unless `pieces` is given.
    pub text: Option<String>,
    /// Text in the pieces in which it is streamed.
    pub pieces: Vec<String>,
    /// Tool calls, after the text.
    pub calls: Vec<Call>,
    /// Reason to finish in OpenAI's words, if not the usual one.
    pub finish_reason: Option<String>,
    /// Tokens `[prompt, generated]`; words are counted if absent.
    pub usage: Option<[u64; 2]>,
    /// An error answer with this status instead.
    pub status: Option<u16>,
    /// Message of the error answer.
    pub error: Option<String>,
    /// `Retry-After` of the error answer.
    pub retry_after: Option<String>,
    /// Further headers of the answer.
    pub headers: BTreeMap<String, String>,
    /// How many requests get this reply before the next one; 0 counts as 1.
    pub times: u32,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

impl Reply {
    /// A reply with text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self {
            text: Some(text.to_owned()),
            ..Self::default()
        }
    }

    /// A reply with one tool call.
    #[must_use]
    pub fn call(name: &str, args: Json) -> Self {
        Self {
            calls: vec![Call::new(name, args)],
            ..Self::default()
        }
    }

    /// An error answer.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    /// The same reply for this many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// The same reply with `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, value: &str) -> Self {
        self.retry_after = Some(value.to_owned());
        self
    }

    /// The same reply with one more fault.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }
}

/// A tool call of the model.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Tool.
    pub name: String,
    /// Arguments; text is sent as it is, whether it is JSON or not.
    #[serde(default)]
    pub args: Json,
    /// Id; made up if absent.
    #[serde(default)]
    pub id: Option<String>,
}

impl Call {
    /// A call with a made-up id.
    #[must_use]
    pub fn new(name: &str, args: Json) -> Self {
        Self {
            name: name.to_owned(),
            args,
            id: None,
        }
    }

    /// The arguments as text.
    pub(crate) fn args_text(&self) -> String {
        match &self.args {
            Json::String(text) => text.clone(),
            Json::Null => "{}".to_owned(),
            args => args.to_string(),
        }
    }
}

/// Something that goes wrong. `after` counts frames of the answer; a whole answer is one frame,
/// of which the first half is sent before it breaks.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The answer begins late.
    FirstByte {
        /// Milliseconds.
        ms: u64,
    },
    /// Each further frame is late.
    Between {
        /// Milliseconds.
        ms: u64,
    },
    /// The connection is closed in the middle, without an end of the body.
    Break {
        /// Frames before.
        after: usize,
    },
    /// The body ends in order but too early.
    End {
        /// Frames before.
        after: usize,
    },
    /// The connection is reset; without `after`, before the head of the answer.
    Reset {
        /// Frames before.
        #[serde(default)]
        after: Option<usize>,
    },
    /// Nothing comes any more; without `after`, not even the head of the answer.
    Hang {
        /// Frames before.
        #[serde(default)]
        after: Option<usize>,
    },
    /// A frame that is not JSON.
    Malformed {
        /// Frames before.
        after: usize,
    },
    /// Half of the bytes, in order.
    Truncated,
    /// So much text in addition.
    Huge {
        /// Bytes.
        bytes: usize,
    },
    /// The body is sent in pieces of this size, wherever that cuts it.
    Split {
        /// Bytes.
        bytes: usize,
    },
}

/// A request as rules see it, whatever API it came through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    pub path: String,
    pub is_chat: bool,
    pub model: String,
    /// Text of the last user message.
    pub text: String,
    /// Text of all messages, one per line.
    pub all_text: String,
    /// Text of the last answer of a tool.
    pub tool_result: String,
    pub last_role: String,
    pub has_tools: bool,
}

/// A script and how far it has come.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    pub script: Script,
    /// Requests that each rule has answered.
    used: Vec<u32>,
}

impl Engine {
    pub(crate) fn new(script: Script) -> Self {
        let used = vec![0; script.rules.len()];
        Self { script, used }
    }

    /// The reply to a request. Uses one up; without a rule it echoes.
    pub(crate) fn reply(&mut self, ask: &Ask) -> Reply {
        for (rule, used) in self.script.rules.iter().zip(&mut self.used) {
            if rule.when.holds(ask)
                && let Some(reply) = rule.nth(*used)
            {
                *used += 1;
                return reply.clone();
            }
        }
        Reply::text(&ask.text)
    }
}

impl Rule {
    /// The reply to the `n`th request that matches, counted from 0.
    fn nth(&self, n: u32) -> Option<&Reply> {
        let mut before = 0u32;
        for reply in &self.replies {
            before = before.saturating_add(reply.times.max(1));
            if n < before {
                return Some(reply);
            }
        }
        match self.then {
            Then::Repeat => self.replies.last(),
            Then::Next => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(text: &str) -> Ask {
        Ask {
            is_chat: true,
            text: text.to_owned(),
            ..Ask::default()
        }
    }

    #[test]
    fn replies_come_in_order_and_the_last_one_stays() {
        let script = Script::replies([
            Reply::status(429).times(2),
            Reply::text("a"),
            Reply::text("b"),
        ]);
        let mut engine = Engine::new(script);
        let got: Vec<_> = (0..6).map(|_| engine.reply(&chat("x")).text).collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            got,
            [None, None, text("a"), text("b"), text("b"), text("b")]
        );
    }

    #[test]
    fn a_rule_that_is_used_up_may_pass_on() {
        let mut script = Script::default().rule(When::text("hi"), [Reply::text("once")]);
        script.rules[0].then = Then::Next;
        let mut engine = Engine::new(script);
        let got: Vec<_> = ["hi you", "hi you", "else"]
            .map(|text| engine.reply(&chat(text)).text.unwrap())
            .into();
        assert_eq!(got, ["once", "hi you", "else"]);
    }

    #[test]
    fn rules_without_a_path_are_for_chat() {
        let script = Script::replies([Reply::text("chat")])
            .rule(When::path("/v1/embeddings"), [Reply::status(500)]);
        let mut engine = Engine::new(script);
        let ask = Ask {
            path: "/v1/embeddings".into(),
            ..Ask::default()
        };
        assert_eq!(engine.reply(&ask).status, Some(500));
        assert_eq!(engine.reply(&chat("x")).text.as_deref(), Some("chat"));
    }

    #[test]
    fn misspelt_keys_are_errors() {
        let script = serde_json::from_str::<Script>(r#"{"rules":[{"replys":[]}]}"#);
        assert!(script.unwrap_err().to_string().contains("replys"));
    }
}
