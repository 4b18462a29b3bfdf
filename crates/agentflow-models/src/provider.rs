//! How a provider is reached.

use std::str::FromStr;

use agentflow_types::{Error, Result};

use crate::{chat::Limits, secret::Secret};

/// The wire format of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// OpenAI and every server that speaks its chat completions.
    OpenAi,
    /// Anthropic's Messages API.
    Anthropic,
    /// Ollama's own API.
    Ollama,
}

impl Kind {
    /// The word in configuration files, and the name OpenTelemetry knows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Ollama => "ollama",
        }
    }

    /// The address of the public service, or of a local server on its usual port.
    #[must_use]
    pub fn base_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com",
            Self::Ollama => "http://127.0.0.1:11434",
        }
    }
}

impl FromStr for Kind {
    type Err = Error;

    /// # Errors
    /// `Invalid` if no such kind exists.
    fn from_str(word: &str) -> Result<Self> {
        [Self::OpenAi, Self::Anthropic, Self::Ollama]
            .into_iter()
            .find(|kind| kind.word() == word)
            .ok_or_else(|| {
                Error::invalid("unknown kind of provider")
                    .with("found", word)
                    .with("known", "openai, anthropic, ollama")
            })
    }
}

/// A provider under a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// The word before the colon in `provider:model`.
    pub name: String,
    /// Wire format.
    pub kind: Kind,
    /// Where the API starts; for OpenAI with its `/v1`.
    pub base_url: String,
    /// Credential, if the server wants one.
    pub api_key: Option<Secret>,
    /// Further headers for every request; their values are masked in logs.
    pub headers: Vec<(String, Secret)>,
    /// Limits.
    pub limits: Limits,
}

impl Provider {
    /// A provider of `kind` under its usual name and address, without a credential.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            name: kind.word().to_owned(),
            kind,
            base_url: kind.base_url().to_owned(),
            api_key: None,
            headers: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// The same provider under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same provider at another address.
    #[must_use]
    pub fn at(mut self, base_url: impl Into<String>) -> Self {
        self.base_url = base_url.into();
        self
    }

    /// The same provider with a credential; an empty one counts as none.
    #[must_use]
    pub fn key(mut self, key: Secret) -> Self {
        self.api_key = (!key.is_empty()).then_some(key);
        self
    }

    /// The same provider with other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}
