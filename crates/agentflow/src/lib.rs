//! AgentFlow as a library: wire graphs, backends and models into one server.
//!
//! The binary is a thin shell around [`app::App`]. A Rust program that brings its own graphs
//! does the same:
//!
//! ```no_run
//! # async fn demo(graph: std::sync::Arc<agentflow_graph::Graph>) -> agentflow_types::Result<()> {
//! use agentflow::{app::App, config};
//!
//! let config = config::embedded("./data".as_ref())?;
//! let server = App::new(config).graph("support", graph).start().await?;
//! println!("listening on {}", server.url());
//! server.until_signal().await
//! # }
//! ```
//!
//! A program whose server keeps documents calls [`reader`] first: files of strangers are read by
//! processes that are this program once more.

pub use documents::reader;

mod accounts;
pub mod app;
mod auth;
pub mod banner;
mod certs;
pub mod cli;
pub mod config;
mod database;
mod descriptors;
mod documents;
mod figures;
mod gate;
mod heap;
pub mod host;
pub mod logging;
mod mem0_config;
mod memory;
pub mod models;
pub mod project;
mod qdrant;
pub mod recollection;
mod redis;
mod remembered;
pub mod traces;
mod upkeep;
pub mod webhook;
pub mod workers;
