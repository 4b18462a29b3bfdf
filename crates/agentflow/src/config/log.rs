//! The sections `[log]` and `[traces]`.

use serde::Deserialize;

/// Traces.
#[derive(Clone, Debug, Deserialize)]
pub struct Traces {
    /// Address of a collector; empty for none.
    pub endpoint: String,
    /// Share of traces that are sent, 0 to 1.
    pub sample_ratio: f64,
}

/// Logging.
#[derive(Clone, Debug, Deserialize)]
pub struct Log {
    /// Filter.
    pub level: String,
    /// Format.
    pub format: LogFormat,
}

/// Log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// JSON.
    Json,
}
