//! Callers against the in-memory backend.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod accounts;
mod keys;
mod limits;
mod pairs;
mod provider;
mod sessions;
mod tokens;

use std::{sync::Arc, time::Duration};

use agentflow_auth::{
    Auth, AuthConfig, Caller, Credentials, KeyMade, NewKey, NewUser, Refusal, Tokens,
};
use agentflow_storage::{Backend, memory::Memory};
use agentflow_types::{ManualClock, Map, Permissions, Role, Scope, Timestamp};

/// Whom the tests act as where rights do not matter.
pub(crate) fn operator() -> Scope {
    Scope::authenticated("default", "root", Permissions::ALL, Map::new())
}

/// An `Auth` over an empty database, with a clock that stands still.
pub(crate) struct World {
    pub(crate) auth: Arc<Auth>,
    pub(crate) backend: Backend,
    pub(crate) clock: Arc<ManualClock>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(AuthConfig::default(), None)
    }

    pub(crate) fn with(config: AuthConfig, tokens: Option<Tokens>) -> Self {
        let backend = Memory::open();
        let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000_000)));
        let auth = Auth::new(backend.clone(), clock.clone(), config, tokens);
        Self {
            auth,
            backend,
            clock,
        }
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) async fn key(&self, role: Role) -> KeyMade {
        let new = NewKey {
            memories: None,
            name: "a key".into(),
            principal: Some("ada".into()),
            role,
            scopes: None,
            expires_at: None,
            tenant: None,
        };
        self.auth.create_key(&operator(), new).await.unwrap()
    }

    pub(crate) async fn user(&self, name: &str, password: &str, role: Role) {
        let new = NewUser {
            title: String::new(),
            name: name.into(),
            password: password.into(),
            role,
            tenant: None,
        };
        self.auth.create_user(&operator(), new).await.unwrap();
    }

    /// The caller, or why not.
    pub(crate) async fn ask(&self, credentials: Credentials<'_>) -> Result<Caller, String> {
        self.auth.authenticate(credentials).await.map_err(why)
    }
}

pub(crate) fn why(refusal: Refusal) -> String {
    match refusal {
        Refusal::Unknown(text) => format!("401 {text}"),
        Refusal::Denied(text) => format!("403 {text}"),
        Refusal::Later(after, text) => format!("429 {text} {}", after.as_secs()),
        Refusal::Failed(err) => format!("failed {err}"),
    }
}
