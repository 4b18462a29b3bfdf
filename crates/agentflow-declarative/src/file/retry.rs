//! Retries of nodes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Retries.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Retry {
    /// Attempts in all.
    Attempts(#[schemars(range(min = 1, max = 100))] u32),
    /// With details.
    Full(RetrySpec),
}

/// Details of retries.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
pub struct RetrySpec {
    /// Attempts in all.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// Wait before the first retry in seconds; 0.5 if absent.
    #[schemars(range(min = 0, max = 3600))]
    pub initial_seconds: Option<f64>,
    /// Growth of the wait per retry; 2 if absent.
    #[schemars(range(min = 1, max = 100))]
    pub factor: Option<f64>,
    /// Longest wait in seconds; 128 if absent.
    #[schemars(range(min = 0, max = 3600))]
    pub max_seconds: Option<f64>,
}
