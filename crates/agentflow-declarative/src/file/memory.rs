//! Nodes that look memories up and add them.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use super::{Fields, Options};

/// Whose memories: dynamic values; at least one, and what is named must not be empty when the
/// node runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct Owners {
    /// The user.
    pub user_id: Option<String>,
    /// The agent.
    pub agent_id: Option<String>,
    /// The app.
    pub app_id: Option<String>,
    /// The run, also called a session.
    pub run_id: Option<String>,
}

/// Looks memories up.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct RecallNode {
    /// Options of every node.
    #[serde(flatten)]
    pub options: Options,
    /// Whose memories; all that are named must be met.
    #[serde(flatten)]
    pub owners: Owners,
    /// What is asked: a dynamic value; the last message of a person if absent.
    pub query: Option<String>,
    /// Field of messages whose last question is asked; by default the only one.
    pub messages: Option<String>,
    /// Further conditions, as Mem0's filters: a dynamic value.
    pub filters: Option<Fields<Json>>,
    /// Only memories with one of these categories.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Most memories; 10 if absent.
    #[schemars(range(min = 1, max = 1000))]
    pub top_k: Option<usize>,
    /// Least score; 0.1 if absent.
    #[schemars(range(min = 0, max = 1))]
    pub threshold: Option<f64>,
    /// Whether the reranker judges them, if there is one.
    #[serde(default)]
    pub rerank: bool,
    /// Field that gets the memories, best first: a list of `{id, memory, score}`.
    pub output: String,
    /// Field that gets them as text, one per line.
    pub text: Option<String>,
}

/// Adds memories. A step that is repeated adds them once.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct RememberNode {
    /// Options of every node.
    #[serde(flatten)]
    pub options: Options,
    /// Whose memories.
    #[serde(flatten)]
    pub owners: Owners,
    /// What is remembered, as said by a user: a dynamic value. Without it, messages.
    pub text: Option<String>,
    /// Field of messages; by default the only one.
    pub messages: Option<String>,
    /// Number of messages, from the end; those from the last question on if absent.
    #[schemars(range(min = 1, max = 1000))]
    pub last: Option<usize>,
    /// Whether facts are read out of it in the background; true if absent. False keeps it as it
    /// was said.
    pub infer: Option<bool>,
    /// What is kept with it: a dynamic value.
    pub metadata: Option<Fields<Json>>,
    /// Categories of the facts, and what belongs there; those of the project if absent.
    #[serde(default)]
    pub categories: Fields<String>,
    /// Field that gets `{event_id, status, results}`.
    pub output: Option<String>,
}
