//! Chat models from the configuration and the environment.

use std::{str::FromStr, sync::Arc};

use agentflow_models::{Kind, Provider, Registry, Secret, extractive};
use agentflow_types::{Error, Result};

use crate::config;

/// The models that graphs may use.
pub struct Models {
    /// Providers by name.
    pub registry: Arc<Registry>,
    /// Model of graphs that name none; `None` if answers are extractive.
    pub default: Option<String>,
}

/// Providers of the configuration, over those that the environment offers.
///
/// # Errors
/// `Invalid` for an unknown kind of provider, an unreadable key file, or a default model whose
/// provider does not exist.
pub async fn from_config(models: &config::Models) -> Result<Models> {
    let mut registry = Registry::from_env(|name| std::env::var(name).ok())?;
    for (name, given) in &models.providers {
        registry.add(provider(name, given)?);
    }
    if models.detect_ollama {
        registry.detect_ollama().await;
    }
    let default = match models.default.as_str() {
        "" => registry.default_spec().await,
        spec => {
            registry.resolve(spec)?;
            spec.to_owned()
        }
    };
    let default = (default != extractive::NAME).then_some(default);
    Ok(Models {
        registry: Arc::new(registry),
        default,
    })
}

fn provider(name: &str, given: &config::Provider) -> Result<Provider> {
    let mut provider = Provider::new(Kind::from_str(&given.kind)?).named(name);
    if let Some(url) = &given.base_url {
        provider = provider.at(url);
    }
    let key = match (&given.api_key, &given.api_key_file) {
        (Some(_), Some(_)) => {
            return Err(
                Error::invalid("give api_key or api_key_file, not both").with("provider", name)
            );
        }
        (Some(key), None) => key.clone(),
        (None, Some(path)) => std::fs::read_to_string(path).map_err(|err| {
            Error::invalid("api_key_file cannot be read")
                .with("provider", name)
                .with("path", path.display())
                .source_err(err)
        })?,
        (None, None) => return Ok(provider),
    };
    Ok(provider.key(Secret::new(key.trim())))
}
