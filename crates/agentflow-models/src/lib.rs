//! Chat and embedding ports with the provider clients.
//!
//! [`chat`] holds the ports. [`openai`], [`anthropic`] and [`ollama`] are clients over HTTP,
//! [`extractive`] answers when no model is configured, [`registry`] turns `provider:model` into
//! one of them, [`pieces`] turns a streamed answer into LangChain messages. [`rerank`] is the
//! reranking port, [`embedding`] what is known of embedding models, [`hub`] finds and fetches the
//! files of local ones.

pub mod anthropic;
mod assembly;
pub mod chat;
pub mod embedding;
pub mod extractive;
mod frames;
pub mod hub;
mod observed;
pub mod ollama;
pub mod openai;
pub mod pieces;
pub mod provider;
pub mod registry;
pub mod rerank;
mod schema;
pub mod secret;
mod transport;
mod turns;

pub use chat::{
    Chat, ChatEvent, ChatRequest, ChatResponse, ChatStream, Embed, Limits, SharedChat, SharedEmbed,
    ToolCall, ToolChoice, ToolSpec, Usage,
};
pub use observed::Tokens;
pub use provider::{Kind, Provider};
pub use registry::Registry;
pub use rerank::{Rerank, SharedRerank};
pub use secret::Secret;
