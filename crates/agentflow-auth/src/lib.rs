//! Who may do what: API keys, tokens of an identity provider, sessions, users, limits.
//!
//! [`Auth`] turns what a request shows into a [`Caller`], whose scope every domain call takes.
//! It stores no secret: passwords and keys are hashed, sessions too. What a route needs is the
//! server's business.

mod accounts;
mod authenticate;
mod jwks;
mod jwt;
mod limits;
mod login;
mod pairs;
mod password;
mod provider;
mod recent;
mod refusal;
mod secret;
mod upkeep;

use std::{sync::Arc, time::Duration};

use agentflow_storage::Backend;
use agentflow_types::{Clock, Timestamp};

pub use accounts::{KeyMade, NewKey, NewUser, UserPatch, check_tenant};
pub use authenticate::{Caller, Credentials, Means};
pub use jwks::{KeySet, KeySource};
pub use jwt::{Algorithm, Claims, JwtConfig, Tokens, parse_algorithm};
pub use limits::{Limited, Limits, StreamPlace};
pub use login::{Login, LoginRequest, Signed};
pub use pairs::{Pair, Registration};
pub use refusal::Refusal;
pub use secret::{KEY_PREFIX, mint_key};

/// Settings.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// A key that is an operator of the default tenant and is in no database.
    pub bootstrap_key: Option<String>,
    /// Whether a stranger may make the first account where nobody can be let in yet. Otherwise
    /// whoever makes it shows a key.
    pub open_registration: bool,
    /// How long an answer about a key, a user or a tenant is believed. A revoked key may be let
    /// in for as long by another process.
    pub cache: Duration,
    /// How long a session lives unused.
    pub session_idle: Duration,
    /// How long a session lives.
    pub session_life: Duration,
    /// Attempts to log in per minute and account; from one address, six times as many.
    pub login_attempts: u64,
    /// Fewest characters of a password.
    pub password_length: usize,
    /// How long the log of changes is kept.
    pub audit_retention: Duration,
    /// Most entries of the log of changes.
    pub audit_entries: u64,
    /// Limits of each key and tenant.
    pub limits: Limits,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            bootstrap_key: None,
            open_registration: true,
            cache: Duration::from_secs(5),
            session_idle: Duration::from_secs(8 * 3600),
            session_life: Duration::from_secs(7 * 86_400),
            login_attempts: 10,
            password_length: 12,
            audit_retention: Duration::from_secs(90 * 86_400),
            audit_entries: 1_000_000,
            limits: Limits::default(),
        }
    }
}

/// Lets callers in, and looks after their records. Shared by all requests.
pub struct Auth {
    backend: Backend,
    clock: Arc<dyn Clock>,
    config: AuthConfig,
    tokens: Option<Tokens>,
    passwords: password::Passwords,
    recent: recent::Recent,
    /// Keys that were used since the last note.
    used: std::sync::Mutex<std::collections::HashMap<agentflow_types::KeyId, Timestamp>>,
    bootstrap: Option<agentflow_storage::account::KeyHash>,
    streams: Arc<limits::Open>,
}

impl Auth {
    /// Over a backend; `tokens` lets in who shows a token of an identity provider.
    #[must_use]
    pub fn new(
        backend: Backend,
        clock: Arc<dyn Clock>,
        config: AuthConfig,
        tokens: Option<Tokens>,
    ) -> Arc<Self> {
        let bootstrap = config.bootstrap_key.as_deref();
        Arc::new(Self {
            bootstrap: bootstrap.map(agentflow_storage::account::KeyHash::of),
            recent: recent::Recent::new(config.cache),
            passwords: password::Passwords::default(),
            used: std::sync::Mutex::default(),
            streams: Arc::default(),
            backend,
            clock,
            config,
            tokens,
        })
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Settings.
    #[must_use]
    pub fn config(&self) -> &AuthConfig {
        &self.config
    }

    /// Whether anybody could be let in: a key, a user, a bootstrap key, an identity provider.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn anybody(&self) -> agentflow_types::Result<bool> {
        if self.bootstrap.is_some() || self.tokens.is_some() {
            return Ok(true);
        }
        let scope = agentflow_types::Scope::local();
        let one = agentflow_storage::page::PageQuery {
            limit: 1,
            ..Default::default()
        };
        let keys = self.backend.keys.search(&scope, &one).await?.total;
        Ok(keys > 0 || self.backend.users.search(&scope, &one).await?.total > 0)
    }
}
