//! Assistants, threads, runs: queue, leases, multitask strategies, event log, crons.
//!
//! [`machine`] decides, [`service`] acts. The service is what the HTTP server calls; the graphs
//! are behind [`host::GraphHost`], the data behind `agentflow_storage`.

pub mod at_rest;
pub mod config;
pub mod host;
pub mod hub;
pub mod letter;
pub mod machine;
pub mod measure;
pub mod patience;
pub mod service;
