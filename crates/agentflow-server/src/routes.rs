//! Handlers: decode, one call of the domain, encode.

pub(crate) mod a2a;
pub(crate) mod admin;
pub(crate) mod assistants;
pub(crate) mod auth;
pub(crate) mod crons;
pub(crate) mod mcp;
pub(crate) mod protocol;
pub(crate) mod runs;
pub(crate) mod stateless;
pub(crate) mod states;
pub(crate) mod store;
pub(crate) mod streams;
pub(crate) mod system;
pub(crate) mod threads;
pub(crate) mod webhooks;
