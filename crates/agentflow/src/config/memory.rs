//! The section `[memory]`.

use std::path::{Path, PathBuf};

use agentflow_memory::text::Language;
use agentflow_types::{Error, Result};
use serde::Deserialize;

use super::Models;

/// Says that a model is not wanted.
pub const OFF: &str = "off";
/// Says that a model runs in this process.
pub const LOCAL: &str = "local";

/// What begins to embed memories anew when the model is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reembedding {
    /// The start of a server that has the database for itself.
    Auto,
    /// `agentflow memory reembed`.
    Ask,
}

/// Memory.
#[derive(Clone, Debug, Deserialize)]
pub struct MemorySection {
    /// Whether memories are kept and served.
    pub enabled: bool,
    /// What reads facts: empty for the default model, `off`, or `provider:model`.
    pub model: String,
    /// What makes vectors: empty for the local model if its files are there, `off`, `local`, or
    /// `provider:model`.
    pub embedding: String,
    /// Folder of the local embedding model; empty for the Hugging Face cache.
    pub embedding_folder: PathBuf,
    /// What begins to embed memories anew when `embedding` is another one.
    pub reembed: Reembedding,
    /// What judges hits once more: empty for nothing, `local`, `llm`, or `provider:model` of a
    /// server with Cohere's protocol.
    pub reranker: String,
    /// Folder of the local reranker.
    pub reranker_folder: PathBuf,
    /// Code of the language of texts that do not show another, for example `en`.
    pub language: String,
}

impl MemorySection {
    /// Checks it and makes its paths absolute.
    ///
    /// # Errors
    /// `Invalid` for a language without rules, a local reranker without its folder, or a misspelt
    /// word or provider.
    pub(super) fn checked(mut self, base: &Path, models: &Models) -> Result<Self> {
        self.language()?;
        models.meant("memory.model", &self.model, &[OFF])?;
        models.meant("memory.embedding", &self.embedding, &[OFF, LOCAL])?;
        models.meant("memory.reranker", &self.reranker, &[OFF, LOCAL, "llm"])?;
        let is_given = |folder: &Path| !folder.as_os_str().is_empty();
        if self.reranker == LOCAL && !is_given(&self.reranker_folder) {
            return Err(Error::invalid(
                "memory.reranker = \"local\" needs memory.reranker_folder, a folder with a \
                cross-encoder as Hugging Face lays it out",
            ));
        }
        for folder in [&mut self.embedding_folder, &mut self.reranker_folder] {
            if is_given(folder) {
                *folder = base.join(&*folder);
            }
        }
        Ok(self)
    }

    /// The usual language.
    ///
    /// # Errors
    /// `Invalid` for one without rules.
    pub fn language(&self) -> Result<Language> {
        Language::of_code(&self.language).ok_or_else(|| {
            Error::invalid("memory.language must be one of the known codes")
                .with("known", Language::codes().collect::<Vec<_>>().join(", "))
                .with("found", &self.language)
        })
    }
}
