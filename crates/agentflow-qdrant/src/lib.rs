//! The index of vectors on a Qdrant server, 1.16 or later, over gRPC.
//!
//! [`Qdrant`] implements [`Vectors`](agentflow_storage::vector::Vectors). Qdrant's own messages and
//! stubs go over a channel of ours, which takes a private authority and a client certificate.
//!
//! - A point's payload is `{tenant, version, payload}`: what a condition names is below `payload`,
//!   so that none reaches the tenant, which stands at the root of every filter.
//! - An upsert replaces a point only under its tenant and a version that is not newer; the server
//!   decides that in one step, so that a change which comes late undoes nothing.
//! - Conditions become filters. Where Qdrant cannot say the same, the filter finds too much, and
//!   what it finds is judged by the condition itself; how much is looked at has a limit.
//! - Reads and upserts are tried again when the server is away. Removals are not: a repeated one
//!   could take what somebody has stored anew.

mod batch;
mod compile;
mod connect;
mod index;
mod link;
mod payload;
mod refusal;
mod scan;
mod search;
mod shape;

pub use connect::{Access, Identity, Limits, Secret};
pub use index::Qdrant;
