//! Durable graphs: channels, supersteps, interrupts, streaming, checkpoints.
//!
//! A [`Graph`] is built by name with [`GraphBuilder`], or from a struct with [`TypedGraph`]. It runs in supersteps: all nodes
//! whose channels were written run side by side, then their writes are combined. With a saver in
//! the [`Runtime`] every superstep is stored in LangGraph's format, so that a run can stop for a
//! question, survive a crash, be looked at, forked, and go on in Python.

// The derive macro names this crate by its published name, also in this crate's own tests.
extern crate self as agentflow_graph;

pub mod builder;
pub mod channel;
mod compile;
pub mod context;
mod core;
mod draw;
pub mod graph;
mod inspect;
pub mod invocation;
mod layout;
pub mod output;
pub mod policy;
mod shell;
mod signal;
pub mod typed;
mod update;

pub use crate::core::{ids::CheckpointIds, machine::DEFAULT_RECURSION_LIMIT};
pub use agentflow_graph_macros::GraphState;
pub use agentflow_types::graph::{END, START};
pub use builder::{BranchTargets, GraphBuilder, NodeOptions, Persistence};
pub use channel::Channel;
pub use context::NodeContext;
pub use graph::{Graph, HistoryQuery, StateUpdate};
pub use invocation::{EventSink, Input, InterruptAt, Invocation, Runtime};
pub use output::{NodeOutput, goto, send};
pub use policy::RetryPolicy;
pub use typed::{TypedBuilder, TypedGraph};
