//! What the server says about itself.

use serde::Serialize;
use utoipa::ToSchema;

/// The server is there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ok {
    /// Always true.
    pub(crate) ok: bool,
    /// Named services behind it, when asked for.
    #[schema(value_type = Object)]
    pub(crate) services: serde_json::Map<String, serde_json::Value>,
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Detail {
    /// What is wrong.
    detail: String,
}

/// How many threads were pruned.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pruned {
    /// Unknown and busy ones are not counted.
    pub(crate) pruned_count: u64,
}
