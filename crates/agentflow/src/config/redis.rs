//! The section `[redis]`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use agentflow_types::Result;
use serde::Deserialize;

use super::{merge, one_of};

/// Redis, beside the database.
#[derive(Clone, Deserialize)]
pub struct Redis {
    /// Address; empty for none.
    pub url: String,
    /// File with the address; empty for none.
    pub url_file: PathBuf,
    /// User; empty for the one in the address.
    pub username: String,
    /// File with the password; empty for the one in the address.
    pub password_file: PathBuf,
    /// File with the authorities of the server's certificate; empty for the system's.
    pub ca_file: PathBuf,
    /// File with our certificate; empty for none.
    pub cert_file: PathBuf,
    /// File with its key; empty for none.
    pub key_file: PathBuf,
    /// What every key begins with.
    pub prefix: String,
}

/// What has the checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checkpointer {
    /// The database, as it has everything else.
    Database,
    /// Redis.
    Redis,
}

impl Redis {
    /// Whether there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.url.is_empty() || !self.url_file.as_os_str().is_empty()
    }

    /// Checks it and makes its paths absolute.
    pub(super) fn checked(mut self, base: &Path) -> Result<Self> {
        one_of(
            ("redis.url", !self.url.is_empty()),
            ("redis.url_file", !self.url_file.as_os_str().is_empty()),
        )?;
        for file in [
            &mut self.url_file,
            &mut self.password_file,
            &mut self.ca_file,
            &mut self.cert_file,
            &mut self.key_file,
        ] {
            if !file.as_os_str().is_empty() {
                *file = base.join(&*file);
            }
        }
        Ok(self)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("Redis")
            .field("url", &merge::masked(&self.url))
            .field("url_file", &self.url_file)
            .field("username", &self.username)
            .field("password_file", &self.password_file)
            .field("ca_file", &self.ca_file)
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .field("prefix", &self.prefix)
            .finish()
    }
}
