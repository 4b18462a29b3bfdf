//! What graph files are given by the program around them.

use std::{path::PathBuf, sync::Arc};

use agentflow_mcp::Pool;
use agentflow_models::{Registry, SharedChat, extractive};
use agentflow_types::Result;

use crate::{http::Http, memory::Memories, tool::Tools};

/// Finds chat models by name.
pub trait Models: Send + Sync {
    /// The chat model that `spec` means (`provider:model`), and the name by which its provider
    /// knows it.
    ///
    /// # Errors
    /// `Invalid` if there is no such model.
    fn chat(&self, spec: &str) -> Result<(SharedChat, String)>;
}

impl Models for Registry {
    fn chat(&self, spec: &str) -> Result<(SharedChat, String)> {
        self.resolve(spec)
    }
}

/// What graph files may use.
#[derive(Clone)]
pub struct Environment {
    /// Chat models.
    pub models: Arc<dyn Models>,
    /// Model of nodes that name none; without one they answer from their context, without a
    /// model, and say so.
    pub default_model: Option<String>,
    /// Tools, besides those that a file declares.
    pub tools: Tools,
    /// Sends requests.
    pub http: Http,
    /// Connections to MCP servers.
    pub mcp: Pool,
    /// Long-term memory; without it files with nodes that need it are refused.
    pub memory: Option<Arc<dyn Memories>>,
    /// Folder that files may name other files in; the file's own folder, or the current one for
    /// text, if `None`.
    pub base: Option<PathBuf>,
}

impl Default for Environment {
    /// No models, the tools of this crate.
    fn default() -> Self {
        Self {
            models: Arc::new(Registry::new()),
            default_model: None,
            tools: Tools::builtin(),
            http: Http::new(),
            mcp: Pool::new(),
            memory: None,
            base: None,
        }
    }
}

impl Environment {
    /// The default with these models.
    #[must_use]
    pub fn with_models(models: Arc<dyn Models>, default_model: Option<String>) -> Self {
        Self {
            models,
            default_model,
            ..Self::default()
        }
    }

    /// The model of a node.
    ///
    /// # Errors
    /// `Invalid` if there is no such model.
    pub(crate) fn chat(&self, spec: Option<&str>) -> Result<(SharedChat, String)> {
        match spec.or(self.default_model.as_deref()) {
            Some(spec) => self.models.chat(spec),
            None => {
                // Registries know it too, and watch its calls.
                let own = || (extractive::shared(), extractive::NAME.to_owned());
                Ok(self.models.chat(extractive::NAME).unwrap_or_else(|_| own()))
            }
        }
    }
}
