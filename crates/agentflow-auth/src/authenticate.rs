//! From what a request shows to who asks.

use std::sync::PoisonError;

use agentflow_storage::{
    account::{ApiKey, KeyHash},
    session::{Session, SessionKey, Token},
};
use agentflow_types::{DEFAULT_TENANT, KeyId, Map, Permissions, Role, Scope, Timestamp, Value};
use subtle::ConstantTimeEq;

use crate::{Auth, Refusal, login, pairs, secret};

/// Uses of keys that may wait to be noted; further ones are not noted.
const MAX_USED: usize = 10_000;

/// What a request shows.
#[derive(Clone, Copy, Debug)]
pub enum Credentials<'a> {
    /// An API key.
    Key(&'a str),
    /// An API key, or a token: of the identity provider, or of [`Auth::sign_in`].
    Bearer(&'a str),
    /// A session's token.
    Session {
        /// The token of the cookie.
        token: &'a str,
        /// The second token, which only a page of ours knows. A request that changes something
        /// must show it; others need not.
        csrf: Option<&'a str>,
        /// Whether the request may change something.
        changes: bool,
    },
}

/// How somebody was let in.
#[derive(Clone, Debug, PartialEq)]
pub enum Means {
    /// With a key.
    Key(KeyId),
    /// With the key of the configuration.
    Bootstrap,
    /// With a token of the identity provider.
    Token,
    /// With a token of [`Auth::sign_in`].
    Access {
        /// The token's session.
        key: SessionKey,
        /// The session of the token for the next pair.
        next: Option<SessionKey>,
    },
    /// With a session.
    Session {
        /// The session.
        key: SessionKey,
        /// Its second token.
        csrf: String,
        /// When it ends at the latest.
        ends_at: Timestamp,
    },
}

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// What domain calls take.
    pub scope: Scope,
    /// Role.
    pub role: Role,
    /// How it was let in.
    pub means: Means,
    /// What its requests are counted under.
    pub meter: String,
}

impl Auth {
    /// Who shows these credentials.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Caller, Refusal> {
        match credentials {
            Credentials::Key(text) => self.by_key(text).await,
            Credentials::Bearer(text) if secret::is_key(text) || self.is_bootstrap(text) => {
                self.by_key(text).await
            }
            Credentials::Bearer(text) if text.starts_with(pairs::ACCESS_PREFIX) => {
                self.by_access(text).await
            }
            Credentials::Bearer(text) => self.by_token(text).await,
            Credentials::Session {
                token,
                csrf,
                changes,
            } => self.by_session(token, csrf, changes).await,
        }
    }

    pub(crate) fn is_bootstrap(&self, text: &str) -> bool {
        self.bootstrap
            .is_some_and(|known| known.bytes().ct_eq(KeyHash::of(text).bytes()).into())
    }

    async fn by_key(&self, text: &str) -> Result<Caller, Refusal> {
        if self.is_bootstrap(text) {
            return Ok(bootstrap());
        }
        if !secret::is_key(text) {
            return Err(Refusal::Unknown("Invalid API key."));
        }
        let (tenant, key) = self.key_of(KeyHash::of(text)).await?;
        self.note_use(key.key_id);
        Ok(caller_of_key(&tenant, &key))
    }

    /// The live key of a hash, and its tenant.
    pub(crate) async fn key_of(&self, hash: KeyHash) -> Result<(String, ApiKey), Refusal> {
        let found = match self.recent.key(hash) {
            Some(found) => Some(found),
            None => self.backend.keys.find(hash).await?,
        };
        let invalid = Refusal::Unknown("Invalid API key.");
        let Some((tenant, key)) = found else {
            return Err(invalid);
        };
        // The index found it; that it is the same is not left to how a database compares.
        if !bool::from(key.hash.bytes().ct_eq(hash.bytes())) {
            return Err(invalid);
        }
        if key.revoked_at.is_some() {
            return Err(Refusal::Unknown("The API key was revoked."));
        }
        if !key.is_live(self.now()) {
            return Err(Refusal::Unknown("The API key has expired."));
        }
        self.admit_tenant(&tenant).await?;
        self.recent.put_key(&tenant, &key);
        Ok((tenant, key))
    }

    async fn by_token(&self, text: &str) -> Result<Caller, Refusal> {
        let Some(tokens) = &self.tokens else {
            return Err(Refusal::Unknown("Invalid API key."));
        };
        let claims = tokens.read(text).await?;
        self.admit_tenant(&claims.tenant).await?;
        let mut user = claims.all;
        user.extend(about(claims.role, "token"));
        Ok(Caller {
            meter: format!("token:{}:{}", claims.tenant, claims.principal),
            scope: Scope::authenticated(
                &claims.tenant,
                &claims.principal,
                claims.role.permissions(),
                user,
            ),
            role: claims.role,
            means: Means::Token,
        })
    }

    async fn by_session(
        &self,
        token: &str,
        csrf: Option<&str>,
        changes: bool,
    ) -> Result<Caller, Refusal> {
        let over = Refusal::Unknown("The session is over.");
        let (key, now) = (Token::from_client(token).key(), self.now());
        let sessions = &self.backend.sessions;
        let Some(mut session) = sessions.get(key, now).await? else {
            return Err(over);
        };
        let known = text_of(&session, login::CSRF).to_owned();
        let is_ours = csrf.is_some_and(|shown| shown.as_bytes().ct_eq(known.as_bytes()).into());
        if known.is_empty() || (changes && !is_ours) {
            let text = "A request with a session needs its x-csrf-token header.";
            return Err(Refusal::Denied(text.into()));
        }
        if session.wants_touch(now) {
            match sessions.touch(key, now).await? {
                Some(touched) => session = touched,
                None => return Err(over),
            }
        }
        let means = Means::Session {
            key,
            csrf: known,
            ends_at: session.ends_at,
        };
        let caller = self.owner_of(&session).await?;
        Ok(Caller { means, ..caller })
    }

    /// Whose a session is, with the rights of this moment.
    async fn owner_of(&self, session: &Session) -> Result<Caller, Refusal> {
        let over = || Refusal::Unknown("The session is over.");
        let hash = text_of(session, login::KEY);
        if !hash.is_empty() {
            let hash = KeyHash::parse(hash).ok_or_else(over)?;
            if self.bootstrap == Some(hash) {
                return Ok(bootstrap());
            }
            let (tenant, key) = self.key_of(hash).await?;
            return Ok(caller_of_key(&tenant, &key));
        }
        let tenant = session.scope.tenant();
        let id = text_of(session, login::USER).parse().map_err(|_| over())?;
        let user = match self.recent.user(tenant, id) {
            Some(user) => Some(user),
            None => self.backend.users.get(&session.scope, id).await?,
        };
        let user = user.filter(|user| user.enabled).ok_or_else(over)?;
        self.admit_tenant(tenant).await?;
        self.recent.put_user(tenant, &user);
        Ok(login::caller_of_user(tenant, &user))
    }

    /// Refuses tenants that do not exist or are shut.
    pub(crate) async fn admit_tenant(&self, tenant: &str) -> Result<(), Refusal> {
        if self.recent.tenant(tenant) {
            return Ok(());
        }
        match self.backend.tenants.get(tenant).await? {
            Some(found) if !found.enabled => Err(Refusal::Denied("The tenant is shut.".into())),
            None if tenant != DEFAULT_TENANT => {
                Err(Refusal::Denied("The tenant is not known here.".into()))
            }
            _ => {
                self.recent.put_tenant(tenant);
                Ok(())
            }
        }
    }

    fn note_use(&self, id: KeyId) {
        let now = self.now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() < MAX_USED || used.contains_key(&id) {
            used.insert(id, now);
        }
    }
}

fn text_of<'a>(session: &'a Session, name: &str) -> &'a str {
    session
        .data
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// What graphs may know of a principal.
pub(crate) fn about(role: Role, kind: &str) -> Map {
    let mut map = Map::new();
    map.insert("role".into(), Value::str(role.word()));
    map.insert(login::KIND.into(), Value::str(kind));
    map
}

/// Who shows the key of the configuration.
pub(crate) fn bootstrap() -> Caller {
    let user = about(Role::Operator, "key");
    Caller {
        scope: Scope::authenticated(DEFAULT_TENANT, "bootstrap", Permissions::ALL, user),
        role: Role::Operator,
        means: Means::Bootstrap,
        meter: "bootstrap".into(),
    }
}

pub(crate) fn caller_of_key(tenant: &str, key: &ApiKey) -> Caller {
    let mut user = about(key.role, "key");
    user.insert("key_id".into(), Value::str(key.key_id.text()));
    let scope = Scope::authenticated(tenant, &key.principal, key.permissions(), user);
    Caller {
        scope: match &key.memories {
            Some(memories) => scope.within(memories.clone()),
            None => scope,
        },
        role: key.role,
        means: Means::Key(key.key_id),
        meter: format!("key:{}", key.key_id),
    }
}
