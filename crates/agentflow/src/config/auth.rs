//! Sections about who is let in, what is protected, and how much is allowed.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use agentflow_types::{Error, Result};
use serde::Deserialize;

/// Fewest characters of a bootstrap key.
const MIN_BOOTSTRAP_CHARS: usize = 32;

/// Pages of other origins.
#[derive(Clone, Debug, Deserialize)]
pub struct Cors {
    /// Origins; `*` for all.
    pub origins: Vec<String>,
    /// Whether pages on public addresses may reach a server on a private one.
    pub private_network: bool,
}

/// TLS of the listener.
#[derive(Clone, Debug, Deserialize)]
pub struct TlsSection {
    /// Certificate; empty for no TLS.
    pub cert_file: PathBuf,
    /// Key.
    pub key_file: PathBuf,
    /// Authority of clients; empty if clients need no certificate.
    pub client_ca_file: PathBuf,
}

impl TlsSection {
    /// Whether the listener speaks TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.cert_file.as_os_str().is_empty()
    }

    /// # Errors
    /// `Invalid` if only one of certificate and key is given, or an authority alone.
    pub(super) fn check(&self) -> Result<()> {
        let has = |path: &PathBuf| !path.as_os_str().is_empty();
        if has(&self.cert_file) != has(&self.key_file)
            || (has(&self.client_ca_file) && !has(&self.cert_file))
        {
            return Err(Error::invalid(
                "server.tls needs both cert_file and key_file; `agentflow certs` makes some for \
                 development",
            ));
        }
        Ok(())
    }
}

/// Whether callers must show credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They need not; only on a loopback address, and not in production.
    Off,
    /// They must.
    On,
}

/// Who is let in.
#[derive(Clone, Deserialize)]
pub struct AuthSection {
    /// Whether callers must show credentials.
    pub mode: Mode,
    /// A key that is in no database; empty for none.
    pub bootstrap_key: String,
    /// A file with it; empty for none.
    pub bootstrap_key_file: PathBuf,
    /// How long answers of the database are believed, in seconds.
    pub cache_seconds: u64,
    /// How long an unused session lives, in minutes.
    pub session_idle_minutes: u64,
    /// How long a session lives, in hours.
    pub session_hours: u64,
    /// Attempts to log in per minute and account.
    pub login_attempts_per_minute: u64,
    /// Fewest characters of a password.
    pub password_min_length: usize,
    /// Tokens of an identity provider.
    pub jwt: JwtSection,
}

impl fmt::Debug for AuthSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthSection")
            .field("mode", &self.mode)
            .field("bootstrap_key_file", &self.bootstrap_key_file)
            .field("jwt", &self.jwt)
            .finish_non_exhaustive()
    }
}

/// Tokens of an identity provider.
#[derive(Clone, Debug, Deserialize)]
pub struct JwtSection {
    /// Name of the provider; empty for no tokens.
    pub issuer: String,
    /// Where its keys are; empty for where its description says.
    pub jwks_url: String,
    /// A file with its keys, in place of an address.
    pub jwks_file: PathBuf,
    /// For whom tokens are made.
    pub audience: Vec<String>,
    /// How tokens may be signed.
    pub algorithms: Vec<String>,
    /// How far clocks may differ, in seconds.
    pub leeway_seconds: u64,
    /// How long keys are believed, in seconds.
    pub refresh_seconds: u64,
    /// Claim with the tenant; empty for the default one.
    pub tenant_claim: String,
    /// Claim with the principal.
    pub principal_claim: String,
    /// Claim with words that stand for roles; empty for none.
    pub role_claim: String,
    /// Role by word.
    pub roles: BTreeMap<String, String>,
    /// Role of who has none of the words; empty: not let in.
    pub default_role: String,
}

/// Limits of keys and tenants; 0 for none.
#[derive(Clone, Debug, Deserialize)]
pub struct LimitsSection {
    /// Requests per minute of one key, user or token's holder.
    pub requests_per_minute: u64,
    /// Requests per minute of one tenant.
    pub tenant_requests_per_minute: u64,
    /// Runs of one tenant that wait or execute.
    pub concurrent_runs: u64,
    /// Runs of one tenant per day.
    pub runs_per_day: u64,
    /// Open streams of one tenant on one server.
    pub open_streams: u64,
}

/// The log of changes.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditSection {
    /// How long entries are kept, in days.
    pub retention_days: u64,
    /// Most entries.
    pub max_entries: u64,
}

impl AuthSection {
    /// Whether callers must show credentials.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.mode == Mode::On
    }

    /// # Errors
    /// `Invalid` for a short bootstrap key.
    pub(super) fn check(&self) -> Result<()> {
        let key = &self.bootstrap_key;
        if !key.is_empty() && key.chars().count() < MIN_BOOTSTRAP_CHARS {
            return Err(Error::invalid(format!(
                "auth.bootstrap_key must have {MIN_BOOTSTRAP_CHARS} characters or more"
            )));
        }
        Ok(())
    }
}
