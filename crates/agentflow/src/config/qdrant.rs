//! The section `[qdrant]`.

use std::path::{Path, PathBuf};

use agentflow_types::Result;
use serde::Deserialize;

use super::one_of;

/// A Qdrant server with the index of memories.
#[derive(Clone, Deserialize)]
pub struct Qdrant {
    /// Address of its gRPC port; empty for none.
    pub url: String,
    /// Key; empty for none.
    pub api_key: String,
    /// File with the key; empty for none.
    pub api_key_file: PathBuf,
    /// File with the authorities of the server's certificate; empty for the system's.
    pub ca_file: PathBuf,
    /// File with our certificate; empty for none.
    pub cert_file: PathBuf,
    /// File with its key; empty for none.
    pub key_file: PathBuf,
    /// Name in the server's certificate; empty for the one in the address.
    pub server_name: String,
    /// What the names of our collections begin with.
    pub prefix: String,
}

impl Qdrant {
    /// Whether there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.url.is_empty()
    }

    /// Checks it and makes its paths absolute.
    ///
    /// # Errors
    /// `Invalid` if the key is given twice, itself and as a file.
    pub(super) fn checked(mut self, base: &Path) -> Result<Self> {
        let is_given = |file: &Path| !file.as_os_str().is_empty();
        one_of(
            ("qdrant.api_key", !self.api_key.is_empty()),
            ("qdrant.api_key_file", is_given(&self.api_key_file)),
        )?;
        for file in [
            &mut self.api_key_file,
            &mut self.ca_file,
            &mut self.cert_file,
            &mut self.key_file,
        ] {
            if is_given(file) {
                *file = base.join(&*file);
            }
        }
        Ok(self)
    }
}

impl std::fmt::Debug for Qdrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qdrant")
            .field("url", &self.url)
            .field("has_key", &!self.api_key.is_empty())
            .field("api_key_file", &self.api_key_file)
            .field("ca_file", &self.ca_file)
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .field("server_name", &self.server_name)
            .field("prefix", &self.prefix)
            .finish()
    }
}
