//! Durable graphs: channels, supersteps, interrupts, streaming, checkpoints.
//!
//! A [`Graph`] is built by name with [`GraphBuilder`], or from a struct with [`TypedGraph`]. It
//! runs in supersteps: all nodes whose channels were written run side by side, then their writes
//! are combined. With a saver in the [`Runtime`] every superstep is stored in LangGraph's format, so
//! that a run can stop for a question, survive a crash, be looked at, forked, and go on in Python.
//!
//! ```
//! use agentflow_graph::{Channel, GraphBuilder, Input, Invocation, NodeContext, Runtime, START};
//! use agentflow_storage::memory::Memory;
//! use agentflow_types::{Value, value};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let mut builder = GraphBuilder::new("deploy");
//! builder
//!     .channel("log", Channel::append())
//!     .node("build", |_, _| async { Ok(value!({"log": ["built"]}).into()) })
//!     .node("deploy", |_, ctx: NodeContext| async move {
//!         // Stops here the first time; with the answer the node starts again and goes on.
//!         let answer = ctx.interrupt("deploy now?")?;
//!         Ok(value!({"log": [format!("deployed: {answer}")]}).into())
//!     })
//!     .edge(START, "build")
//!     .edge("build", "deploy");
//! let graph = builder.compile()?;
//! let runtime = Runtime::with_saver(Memory::open().checkpoints);
//!
//! let start = Invocation::new(value!({"log": ["started"]})).thread("release-7");
//! let waiting = graph.run(&runtime, start, None).await?;
//! assert_eq!(waiting.interrupts[0].value, value!("deploy now?"));
//!
//! // Later, perhaps in another process:
//! let answer = Invocation::new(Input::resume(true)).thread("release-7");
//! let done = graph.run(&runtime, answer, None).await?;
//! assert_eq!(done.values, value!({"log": ["started", "built", "deployed: true"]}));
//! # Ok::<(), agentflow_types::Error>(())
//! # }).unwrap();
//! ```
//!
//! # Where to find what
//!
//! Functions instead of graphs: [`entrypoint`] and [`Task`]. Long conversations:
//! [`Channel::delta_messages`]. Graphs inside graphs: [`GraphBuilder::subgraph`] and
//! [`Persistence`]. Failure: [`RetryPolicy`], [`NodeOptions::timeout`],
//! [`GraphBuilder::error_handler`]. Repeated work: [`CachePolicy`]. Stopping in order:
//! [`Invocation::drain`]. Computed keys: [`Managed`]. Long-term items: [`NodeContext::store`].
//!
//! # What differs from LangGraph
//!
//! - Messages get their ids, and their full form, when a node returns them, not when the channel
//!   combines them: the `updates` mode, stored writes and state show the same message.
//! - Edges are followed in the order in which they were added; Python's order is random.
//! - A run that is tried again ([`Invocation::attempt`] above 1) repeats neither the input nor the
//!   command that its earlier attempt stored.
//! - An unknown checkpoint id is an error instead of an empty thread.
//! - Tasks that do not end at once run on all threads of the async runtime. A node that computes
//!   for long should use a blocking task; nothing preempts it.
//! - A retried function or node gets the results of functional tasks that already ended; in
//!   LangGraph they run again.
//! - A question that a functional task asks, and its caller with it, is reported once, also from a
//!   graph inside a task.
//! - The default key of a cached node is its input as MessagePack, not pickled.

// The derive macro names this crate by its published name, also in this crate's own tests.
extern crate self as agentflow_graph;

pub mod builder;
pub mod cache;
pub mod channel;
mod compile;
pub mod context;
mod core;
mod draw;
pub mod func;
pub mod graph;
mod inspect;
pub mod invocation;
mod layout;
pub mod managed;
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
pub use cache::{Cache, CacheKey, CachePolicy, CachedWrites, MemoryCache};
pub use channel::Channel;
pub use context::{NodeContext, NodeFailure};
pub use func::{Entrypoint, Final, Task, TaskOptions, entrypoint};
pub use graph::{Graph, HistoryQuery, StateUpdate};
pub use invocation::{EventSink, Input, InterruptAt, Invocation, Meter, Runtime};
pub use managed::Managed;
pub use output::{NodeOutput, goto, send};
pub use policy::{Refresh, RetryPolicy};
pub use typed::{TypedBuilder, TypedGraph};
