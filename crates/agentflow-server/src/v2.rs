//! Event streaming protocol v2: the thread-wide view of the event log.
//!
//! The encoder and the filter are pure. Facts come from the MIT-licensed protocol definition
//! (`@langchain/protocol`) and from frames observed on LangGraph's server.
//!
//! Numbers: one event of the log may become several protocol events. Their `seq` is the log's
//! number times [`SPREAD`] plus their place, so that it grows, survives restarts, and `since`
//! resumes between any two of them. `event_id` is as stable, for clients that drop duplicates.

pub(crate) mod command;
mod encoder;
mod filter;
mod messages;
mod normal;
pub(crate) mod serve;
pub(crate) mod socket;
mod states;
mod trunk;

use serde::Serialize;
use serde_json::Value;

pub use encoder::{Encoder, RunFacts};
pub use filter::Filter;

/// Distance between the numbers of two events of the log.
pub const SPREAD: u64 = 1000;

/// A protocol event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProtocolEvent {
    /// Always `event`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Stable identity.
    pub event_id: String,
    /// Grows within a thread.
    pub seq: u64,
    /// What happened: a channel's name, `input.requested` or `input.answered`.
    pub method: &'static str,
    /// Where, when, what.
    pub params: EventParams,
}

/// Where, when and what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventParams {
    /// Namespace of the (sub)graph; empty at the root.
    pub namespace: Vec<String>,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// The data of the method.
    pub data: Value,
    /// Graph node, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

#[cfg(test)]
mod tests;
