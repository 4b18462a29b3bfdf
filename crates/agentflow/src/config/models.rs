//! The section `[models]`.

use std::{collections::BTreeMap, path::PathBuf};

use agentflow_types::{Error, Result};
use serde::Deserialize;

use super::merge::suggestion;

/// Kinds of providers.
const KINDS: [&str; 3] = ["openai", "anthropic", "ollama"];

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

impl Models {
    /// Checks the kinds of the providers, and that the default model's provider is no misspelt one.
    ///
    /// # Errors
    /// `Invalid` with a suggestion.
    pub(super) fn checked(self) -> Result<Self> {
        for (name, provider) in &self.providers {
            let kind = provider.kind.as_str();
            if !KINDS.contains(&kind) {
                let hint = suggestion(kind, KINDS.into_iter());
                return Err(Error::invalid(format!(
                    "models.providers.{name}.kind: `{kind}` is none of {}{hint}",
                    KINDS.join(", ")
                )));
            }
        }
        self.meant("models.default", &self.default, &[])?;
        Ok(self)
    }

    /// Checks that a setting, `provider:model` or a word of its own, is no misspelt one. Whether
    /// the provider exists shows when the model is looked for.
    ///
    /// # Errors
    /// `Invalid` with the name that was probably meant.
    pub(super) fn meant(&self, key: &str, spec: &str, words: &[&str]) -> Result<()> {
        let own = self.providers.keys().map(String::as_str);
        let known: Vec<&str> = match spec.split_once(':') {
            Some(_) => own.chain(KINDS).collect(),
            None => words.to_vec(),
        };
        let name = spec.split(':').next().unwrap_or(spec);
        let hint = suggestion(name, known.iter().copied());
        match name.is_empty() || known.contains(&name) || hint.is_empty() {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "{key}: `{name}` is not known{hint}"
            ))),
        }
    }
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
