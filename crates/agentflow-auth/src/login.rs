//! Sessions of people in a browser.

use std::net::IpAddr;

use agentflow_storage::{
    account::{KeyHash, User},
    counter::{Rate, Taken},
    session::{Session, Token},
};
use agentflow_types::{DEFAULT_TENANT, Map, Scope, Timestamp, Value};

use crate::{
    Auth, Caller, Means, Refusal,
    authenticate::{about, bootstrap, caller_of_key},
    password, secret,
};

/// Field of a session's data: its second token.
pub(crate) const CSRF: &str = "csrf";
/// Field of a session's data: the user's id.
pub(crate) const USER: &str = "user_id";
/// Field of what is known of a caller: what it is.
pub(crate) const KIND: &str = "kind";
/// The kind of callers that are users.
pub(crate) const OF_USER: &str = "user";
/// Field of a session's data: the hash of the key.
pub(crate) const KEY: &str = "key_hash";
/// Characters of the second token.
const CSRF_CHARS: usize = 32;
/// Attempts from one address for each one of an account.
const PER_ADDRESS: u64 = 6;
/// Over which time attempts are counted.
const PERIOD: std::time::Duration = std::time::Duration::from_secs(60);

/// What somebody shows who wants a session.
#[derive(Debug)]
pub enum LoginRequest<'a> {
    /// A user of a tenant, and a password.
    Password {
        /// Tenant; the default one if absent.
        tenant: Option<&'a str>,
        /// Login name.
        user: &'a str,
        /// Password.
        password: &'a str,
    },
    /// An API key.
    Key(&'a str),
}

/// An attempt to log in.
#[derive(Debug)]
pub struct Login<'a> {
    /// What is shown.
    pub request: LoginRequest<'a>,
    /// From where, if that is known.
    pub peer: Option<IpAddr>,
}

/// A session that began.
#[derive(Debug)]
pub struct Signed {
    /// For the cookie.
    pub token: Token,
    /// Second token, for the page.
    pub csrf: String,
    /// When it ends at the latest.
    pub ends_at: Timestamp,
    /// Whose it is.
    pub caller: Caller,
}

impl Auth {
    /// Begins a session.
    ///
    /// # Errors
    /// [`Refusal`]; the same text for a wrong name and a wrong password.
    pub async fn login(&self, login: Login<'_>) -> Result<Signed, Refusal> {
        self.meter_login(&login).await?;
        let (caller, mut data) = match login.request {
            LoginRequest::Password {
                tenant,
                user,
                password,
            } => {
                let tenant = tenant.unwrap_or(DEFAULT_TENANT);
                let user = self.check_password(tenant, user, password).await?;
                let mut data = Map::new();
                data.insert(USER.into(), Value::str(user.user_id.text()));
                (caller_of_user(tenant, &user), data)
            }
            LoginRequest::Key(text) => {
                let hash = KeyHash::of(text);
                let caller = if self.is_bootstrap(text) {
                    bootstrap()
                } else if secret::is_key(text) {
                    let (tenant, key) = self.key_of(hash).await?;
                    caller_of_key(&tenant, &key)
                } else {
                    return Err(Refusal::Unknown("Invalid API key."));
                };
                let mut data = Map::new();
                data.insert(KEY.into(), Value::str(hash.text()));
                (caller, data)
            }
        };
        let (token, csrf) = (Token::mint()?, secret::random_text(CSRF_CHARS)?);
        data.insert(CSRF.into(), Value::str(csrf.as_str()));
        let owner = Scope::new(caller.scope.tenant(), caller.scope.principal());
        let config = &self.config;
        let (idle, life) = (config.session_idle, config.session_life);
        let session = Session::begin(owner, data, self.now(), idle, life);
        let ends_at = session.ends_at;
        self.backend.sessions.create(token.key(), session).await?;
        let means = Means::Session {
            key: token.key(),
            csrf: csrf.clone(),
            ends_at,
        };
        Ok(Signed {
            token,
            csrf,
            ends_at,
            caller: Caller { means, ..caller },
        })
    }

    /// Ends the caller's session, or its pair of tokens; nothing for who has neither.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn logout(&self, caller: &Caller) -> agentflow_types::Result<()> {
        let keys = match &caller.means {
            Means::Session { key, .. } => [Some(*key), None],
            // The one that gets others goes first.
            Means::Access { key, next } => [*next, Some(*key)],
            _ => return Ok(()),
        };
        for key in keys.into_iter().flatten() {
            self.backend.sessions.delete(key).await?;
        }
        Ok(())
    }

    pub(crate) async fn check_password(
        &self,
        tenant: &str,
        name: &str,
        text: &str,
    ) -> Result<User, Refusal> {
        let wrong = Refusal::Unknown("Wrong user or password.");
        if text.len() > password::MAX_BYTES || name.is_empty() || name.contains('\0') {
            return Err(wrong);
        }
        let found = match tenant.contains('\0') {
            true => None,
            false => {
                let scope = Scope::new(tenant, name);
                self.backend.users.named(&scope, name).await?
            }
        };
        let hash = found.as_ref().and_then(|user| user.password.clone());
        let same = self.passwords.check(text.to_owned(), hash).await?;
        match found.filter(|user| same && user.enabled) {
            Some(user) => {
                self.admit_tenant(tenant).await?;
                Ok(user)
            }
            None => Err(wrong),
        }
    }

    /// Counts an attempt against its account and its address.
    pub(crate) async fn meter_login(&self, login: &Login<'_>) -> Result<(), Refusal> {
        let limit = self.config.login_attempts;
        if limit == 0 {
            return Ok(());
        }
        let account = match &login.request {
            LoginRequest::Password { tenant, user, .. } => {
                let tenant = tenant.unwrap_or(DEFAULT_TENANT);
                // Names may be longer than the key of a counter.
                let account = KeyHash::of(&format!("{tenant}\n{user}"));
                Some((format!("login:{}", account.text()), limit))
            }
            LoginRequest::Key(_) => None,
        };
        let address = login.peer.map(|peer| {
            let key = format!("login:from:{peer}");
            (key, limit.saturating_mul(PER_ADDRESS))
        });
        for (key, limit) in [account, address].into_iter().flatten() {
            let rate = Rate {
                limit,
                period: PERIOD,
            };
            let taken = self
                .backend
                .counters
                .take(&key, 1, rate, self.now())
                .await?;
            if let Taken::Refused { retry_after, .. } = taken {
                let text = "Too many attempts to log in.".to_owned();
                return Err(Refusal::Later(retry_after.unwrap_or(PERIOD), text));
            }
        }
        Ok(())
    }
}

pub(crate) fn caller_of_user(tenant: &str, user: &User) -> Caller {
    let mut known = about(user.role, OF_USER);
    known.insert(USER.into(), Value::str(user.user_id.text()));
    Caller {
        scope: Scope::authenticated(tenant, &user.name, user.role.permissions(), known),
        role: user.role,
        means: Means::Token,
        meter: format!("user:{}", user.user_id),
    }
}
