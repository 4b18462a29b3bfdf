//! The index of memories on a Qdrant server, if the configuration names one.

use std::{path::Path, sync::Arc, time::Duration};

use agentflow_qdrant::{Access, Identity, Qdrant, Secret};
use agentflow_server::{Part, Wellness};
use agentflow_storage::vector::Vectors;
use agentflow_types::{Error, Result};
use async_trait::async_trait;

use crate::{
    config::{Config, Profile},
    database::{file, secret},
};

/// How long `/health` waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The server's part in `/health`.
pub(crate) struct Health(Qdrant);

impl Health {
    /// The index of the configured server; `None` without one. A server that is away does not
    /// keep us from starting: the index is derived, and written when it is there again.
    ///
    /// # Errors
    /// `Invalid` if the configuration is wrong, or production forbids this server.
    pub(crate) async fn open(config: &Config) -> Result<Option<Self>> {
        if !config.qdrant.is_set() {
            return Ok(None);
        }
        let access = access(config)?;
        let qdrant = Qdrant::new(&access)?;
        match qdrant.check().await {
            Ok(()) => tracing::info!(url = access.url, "Qdrant is used"),
            Err(err) => {
                tracing::warn!(error = %err, url = access.url, "Qdrant cannot be used yet; memories are written to it later");
            }
        }
        Ok(Some(Self(qdrant)))
    }

    pub(crate) fn vectors(&self) -> Arc<dyn Vectors> {
        Arc::new(self.0.clone())
    }
}

fn access(config: &Config) -> Result<Access> {
    let section = &config.qdrant;
    let key = match file(&section.api_key_file) {
        Some(path) => secret(&path)?,
        None => section.api_key.clone(),
    };
    if config.profile == Profile::Production
        && (!section.url.starts_with("https://") || key.is_empty())
    {
        return Err(Error::invalid(
            "in production Qdrant is reached over https and with a key: set qdrant.url and \
            qdrant.api_key_file",
        ));
    }
    let identity = match (file(&section.cert_file), file(&section.key_file)) {
        (Some(cert), Some(key)) => Some(Identity {
            cert: pem(&cert)?,
            key: pem(&key)?,
        }),
        (None, None) => None,
        _ => {
            return Err(Error::invalid(
                "give qdrant.cert_file and qdrant.key_file, or neither",
            ));
        }
    };
    Ok(Access {
        api_key: (!key.is_empty()).then_some(Secret(key)),
        ca: file(&section.ca_file).map(|path| pem(&path)).transpose()?,
        identity,
        server_name: (!section.server_name.is_empty()).then(|| section.server_name.clone()),
        prefix: section.prefix.clone(),
        ..Access::new(&section.url)
    })
}

fn pem(path: &Path) -> Result<Vec<u8>> {
    secret(path).map(String::into_bytes)
}

#[async_trait]
impl Part for Health {
    fn name(&self) -> &'static str {
        "qdrant"
    }

    async fn wellness(&self) -> Wellness {
        match tokio::time::timeout(PATIENCE, self.0.check()).await {
            Ok(Ok(())) => Wellness::Ok("reachable".into()),
            Ok(Err(err)) => Wellness::Degraded(err.to_string()),
            Err(_) => Wellness::Degraded("it does not answer".into()),
        }
    }
}
