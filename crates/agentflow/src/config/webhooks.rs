//! The section `[webhooks]`.

use std::path::{Path, PathBuf};

use agentflow_types::Result;
use serde::Deserialize;

use super::one_of;

/// Webhooks.
#[derive(Clone, Default, Deserialize)]
pub struct Webhooks {
    /// Keys that calls are signed with, one a line; empty for none.
    pub secret: String,
    /// File with these keys; empty for none.
    pub secret_file: PathBuf,
    /// Networks outside of the public internet that may be called.
    pub allow_networks: Vec<String>,
    /// Attempts before a call counts as dead.
    pub max_attempts: u32,
    /// Seconds before the second attempt; doubled each time, up to an hour.
    pub retry_seconds: u64,
    /// Longest time of one attempt in seconds.
    pub timeout_seconds: u64,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks")
            .field("is_signed", &!self.secret.is_empty())
            .field("secret_file", &self.secret_file)
            .field("allow_networks", &self.allow_networks)
            .field("max_attempts", &self.max_attempts)
            .field("retry_seconds", &self.retry_seconds)
            .field("timeout_seconds", &self.timeout_seconds)
            .finish()
    }
}

impl Webhooks {
    /// Checks it and makes its paths absolute.
    ///
    /// # Errors
    /// `Invalid` if the keys are given twice, themselves and as a file.
    pub(super) fn checked(mut self, base: &Path) -> Result<Self> {
        let is_given = !self.secret_file.as_os_str().is_empty();
        one_of(
            ("webhooks.secret", !self.secret.is_empty()),
            ("webhooks.secret_file", is_given),
        )?;
        if is_given {
            self.secret_file = base.join(&self.secret_file);
        }
        Ok(self)
    }
}
