//! A2A: other agents send messages to assistants.
//!
//! | A2A | here |
//! |---|---|
//! | context | thread |
//! | task | run; its id is the run's |
//! | `input-required` | the thread waits for an answer; a message to the task is the answer |
//! | message | input `messages`; data parts are further fields of the input |
//! | artifact | the last answer, the question, or the state of a graph without messages |
//!
//! An answer to a question is a run of its own; its metadata names the task that it belongs to.
//! Both dialects of the protocol are spoken: 0.3 (`message/send`, …) and 1.0 (`SendMessage`, …).

pub(crate) mod card;
mod input;
mod list;
mod method;
mod rpc;
mod serve;
mod stream;
mod task;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use rpc::Call;
pub(crate) use serve::answer;

use agentflow_types::{Map, Scope};

use crate::AppState;

/// Who asks which assistant.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) app: AppState,
    pub(crate) scope: Scope,
    /// Headers that runs may read.
    pub(crate) headers: Map,
    /// Base URL of this server, as the client sees it.
    pub(crate) base: String,
    /// Assistant id or graph id, from the path.
    pub(crate) assistant: String,
}
