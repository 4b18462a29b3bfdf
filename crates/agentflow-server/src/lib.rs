//! The HTTP server: wire types, streaming, OpenAPI.
//!
//! The agent API is compatible with LangGraph's server, as observed: the same paths, status
//! codes, headers, error bodies and event frames. A handler decodes, makes one call of
//! [`agentflow_runs::service::Service`], and encodes. Streams are views of the event log: the
//! encoders in [`legacy`] and [`v2`] are pure.

mod a2a;
mod access;
mod accumulate;
mod body;
mod cors;
mod error;
mod exposition;
mod extract;
mod health;
pub mod legacy;
mod listen;
mod mcp;
mod mem0;
mod metrics;
mod openapi;
mod page;
mod queue;
mod r2r;
mod router;
mod routes;
mod secure;
pub mod sse;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
pub mod v2;
mod wire;

pub use access::{Doors, Secure};
pub use error::Failure;
pub use exposition::{Kind, Sample};
pub use health::{Part, Wellness};
pub use listen::serve;
pub use openapi::document;
pub use r2r::document_router;
pub use router::router;
pub use state::{AppState, Cors, Info, Limits, Samples, Security};
pub use tls::{Tls, TlsFiles};
