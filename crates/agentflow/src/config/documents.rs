//! The section `[documents]`.

use std::num::NonZeroUsize;

use agentflow_memory::text::Language;
use agentflow_types::{Error, Result};
use serde::Deserialize;

use super::{
    Models,
    memory::{LOCAL, OFF},
};

/// Documents.
#[derive(Clone, Debug, Deserialize)]
pub struct DocumentsSection {
    /// Whether documents are kept and served.
    pub enabled: bool,
    /// Port of their listener.
    pub port: u16,
    /// What makes vectors: empty for what memories use, `off`, `local`, or `provider:model`.
    pub embedding: String,
    /// Largest document, in bytes.
    pub upload_limit_bytes: usize,
    /// Processes that read files.
    pub readers: NonZeroUsize,
    /// Code of the language of texts that do not show another, for example `en`.
    pub language: String,
}

impl DocumentsSection {
    /// Checks it.
    ///
    /// # Errors
    /// `Invalid` for a language without rules, a misspelt word or provider, or no bytes.
    pub(super) fn checked(self, models: &Models) -> Result<Self> {
        self.language()?;
        models.meant("documents.embedding", &self.embedding, &[OFF, LOCAL])?;
        match self.upload_limit_bytes {
            0 => {
                Err(Error::invalid("must be at least 1")
                    .with("key", "documents.upload_limit_bytes"))
            }
            _ => Ok(self),
        }
    }

    /// The usual language.
    ///
    /// # Errors
    /// `Invalid` for one without rules.
    pub fn language(&self) -> Result<Language> {
        Language::of_code(&self.language).ok_or_else(|| {
            Error::invalid("documents.language must be one of the known codes")
                .with("known", Language::codes().collect::<Vec<_>>().join(", "))
                .with("found", &self.language)
        })
    }
}
