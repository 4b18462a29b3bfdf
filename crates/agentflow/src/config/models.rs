//! The section `[models]`.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

/// Models.
#[derive(Clone, Debug, Deserialize)]
pub struct Models {
    /// Default model, `provider:model`; empty for what the environment offers.
    pub default: String,
    /// Whether to look for an Ollama server at start.
    pub detect_ollama: bool,
    /// Providers by name.
    pub providers: BTreeMap<String, Provider>,
}

/// A model provider.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// `openai`, `anthropic` or `ollama`.
    pub kind: String,
    /// Base URL; the provider's own if absent.
    pub base_url: Option<String>,
    /// Key.
    pub api_key: Option<String>,
    /// File that holds the key.
    pub api_key_file: Option<PathBuf>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider")
            .field("kind", &self.kind)
            .field("base_url", &self.base_url)
            .field("api_key", &self.api_key.as_ref().map(|_| "***"))
            .field("api_key_file", &self.api_key_file)
            .finish()
    }
}
