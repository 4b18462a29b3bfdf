//! What is remembered of nodes.

use schemars::JsonSchema;
use serde::Deserialize;

/// How long what a node wrote is remembered.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Cache {
    /// So many seconds.
    Seconds(#[schemars(range(min = 0.001, max = 2592000))] f64),
    /// With details.
    Full(CacheSpec),
}

/// Details of what is remembered.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct CacheSpec {
    /// For how many seconds; as long as there is room if absent.
    #[schemars(range(min = 0.001, max = 2592000))]
    pub ttl_seconds: Option<f64>,
    /// Fields of the state that make inputs differ; all if absent.
    pub fields: Option<Vec<String>>,
}
