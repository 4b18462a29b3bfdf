//! Tools of MCP servers: connections that are shared, bounded and restarted.
//!
//! A [`Source`] says where a server is: a program that is started and talks over its standard
//! input and output, or a URL (streamable HTTP). A [`Pool`] has one [`Client`] for each source.
//! A client connects at its first use, keeps the list of tools until the server says that it
//! changed, and connects again, with growing pauses, when the connection is lost. The protocol
//! is spoken by `rmcp`, the official Rust SDK.
//!
//! Graph files reach servers through `kind: mcp`; a node written in Rust does it like this:
//!
//! ```no_run
//! use agentflow_mcp::{Pool, Source, Transport};
//! use agentflow_types::{Map, Result, Value};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example(pool: Pool) -> Result<Value> {
//! let files = pool.client(Source::new(Transport::program("npx", [
//!     "-y", "@modelcontextprotocol/server-filesystem", "/srv/data",
//! ])));
//! let args = Map::from_iter([("path".into(), Value::str("/srv/data/a.txt"))]);
//! let answer = files.call("read_file", args, &CancellationToken::new()).await?;
//! # Ok(
//! answer.value()
//! # )
//! # }
//! ```

mod answer;
mod client;
mod connect;
mod failure;
mod pool;
pub mod secret;
mod source;
mod tail;

pub use answer::Answer;
pub use client::{Client, ToolInfo};
pub use pool::Pool;
pub use source::{Limits, Source, Transport};
