//! The chat port.

use std::{sync::Arc, time::Duration};

use agentflow_types::{Map, Result, Value};
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;

/// A tool as a model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Name.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of the arguments.
    pub parameters: Value,
}

/// Whether and which tool the model must call.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// It must call one.
    Required,
    /// It must call none.
    None,
    /// It must call this one.
    Tool(String),
}

/// One request to a chat model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatRequest {
    /// Model name as the provider knows it.
    pub model: String,
    /// Messages in LangChain's shape (see `agentflow_types::message`).
    pub messages: Vec<Value>,
    /// Tools offered.
    pub tools: Vec<ToolSpec>,
    /// Tool choice.
    pub tool_choice: ToolChoice,
    /// JSON Schema `(name, schema)` that the answer must satisfy.
    pub response_schema: Option<(String, Value)>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Most tokens to generate.
    pub max_tokens: Option<u64>,
    /// Stop sequences.
    pub stop: Vec<String>,
    /// Further provider parameters, sent as they are.
    pub extra: Map,
}

/// Tokens that a request cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Generated tokens.
    pub output_tokens: u64,
}

/// A complete tool call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// Id that the tool message refers to.
    pub id: String,
    /// Tool.
    pub name: String,
    /// Arguments; a map if they parsed, otherwise the text the model wrote.
    pub args: Value,
}

impl ToolCall {
    /// Whether the arguments are a map, as every tool expects; otherwise they are the text that
    /// the model wrote and that did not parse.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.args.as_map().is_some()
    }
}

/// A complete answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatResponse {
    /// Provider's id of the message, if any.
    pub id: Option<String>,
    /// Text.
    pub text: String,
    /// Tool calls.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended: `stop`, `tool_calls`, `length`, …
    pub finish_reason: Option<String>,
    /// Tokens, if the provider told.
    pub usage: Option<Usage>,
    /// Model that answered.
    pub model: String,
}

/// A piece of a streamed answer.
#[derive(Clone, Debug, PartialEq)]
pub enum ChatEvent {
    /// More text.
    Text(String),
    /// More of a tool call; `id` and `name` come with its first piece.
    ToolCall {
        /// Which call.
        index: u32,
        /// Id.
        id: Option<String>,
        /// Name.
        name: Option<String>,
        /// More of the arguments' JSON text.
        args: String,
    },
    /// The whole answer; always the last event, unless an error ends the stream.
    Done(ChatResponse),
}

/// A stream of pieces. Dropping it closes the connection to the provider.
pub type ChatStream = BoxStream<'static, Result<ChatEvent>>;

/// A chat model.
#[async_trait]
pub trait Chat: Send + Sync {
    /// Name of the provider, as in OpenTelemetry's `gen_ai.provider.name`.
    fn provider(&self) -> &str;

    /// Streams an answer. Errors before the first piece are retried as the client is configured;
    /// later ones end the stream.
    ///
    /// # Errors
    /// `Invalid` if the provider refuses the request (4xx), `Denied` for credentials, `Busy` for
    /// rate limits and overload after all retries, `Uncertain` for timeouts, `Cancelled` when
    /// `cancel` fired, `Failed` for anything else.
    async fn stream(&self, request: ChatRequest, cancel: CancellationToken) -> Result<ChatStream>;

    /// The whole answer at once.
    ///
    /// # Errors
    /// As [`Chat::stream`].
    async fn complete(
        &self,
        request: ChatRequest,
        cancel: CancellationToken,
    ) -> Result<ChatResponse>;
}

/// Turns texts into vectors.
#[async_trait]
pub trait Embed: Send + Sync {
    /// One vector per text, in order, all of the same dimension: `[texts, dim] f32`.
    ///
    /// # Errors
    /// As [`Chat::stream`].
    async fn embed(&self, model: &str, texts: &[String]) -> Result<Vec<Vec<f32>>>;
}

/// Limits of a provider client.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Most time for connecting.
    pub connect: Duration,
    /// Most time until the first byte of an answer.
    pub first_byte: Duration,
    /// Most time between two pieces of a stream.
    pub idle: Duration,
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// First wait before a retry; doubles each time, with jitter, unless `Retry-After` says more.
    pub backoff: Duration,
    /// Longest wait before a retry.
    pub backoff_max: Duration,
    /// Most bytes of an answer.
    pub response_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            attempts: 3,
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(20),
            response_bytes: 32 << 20,
        }
    }
}

/// A chat model that can be shared.
pub type SharedChat = Arc<dyn Chat>;

/// An embedder that can be shared.
pub type SharedEmbed = Arc<dyn Embed>;
