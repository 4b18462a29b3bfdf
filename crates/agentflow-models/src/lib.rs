//! Chat and embedding ports with the provider clients.

pub mod chat;
