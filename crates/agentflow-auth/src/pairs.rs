//! Tokens of people who use no cookie: a short-lived one to ask with, and one that gets the next
//! pair, once. The first account is made here too.
//!
//! Both are sessions under the hash of the token, so that they end with the user's password.

use std::{net::IpAddr, time::Duration};

use agentflow_storage::{
    account::{KeyHash, User},
    counter::{Rate, Taken},
    page::PageQuery,
    session::{Session, SessionKey, Token},
};
use agentflow_types::{
    DEFAULT_TENANT, Error, ErrorKind, Map, Permission, Permissions, Result, Role, Scope, UserId,
    Value,
};
use uuid::Uuid;

use crate::{Auth, Caller, Login, LoginRequest, Means, NewUser, Refusal, login};

/// How a token to ask with begins.
pub(crate) const ACCESS_PREFIX: &str = "afa_";
/// How a token that gets the next pair begins.
const REFRESH_PREFIX: &str = "afr_";
/// How long one may ask with a token.
const ACCESS_LIFE: Duration = Duration::from_secs(30 * 60);
/// How long the next pair may be asked for.
const REFRESH_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Field of a session's data: which token it is.
const KIND: &str = "kind";
/// Field of a session's data: the hash of the password's hash. A token that was given while the
/// password changed is none of those that end then, and is not believed for this.
const MARK: &str = "password";
/// Field of a session's data: the session of the token for the next pair.
const NEXT: &str = "next";
/// Registrations per minute from one address.
const REGISTRATIONS: u64 = 5;
/// Pairs per minute that one address may get with tokens.
const REFRESHES: u64 = 20;
/// Over which time they are counted.
const MINUTE: Duration = Duration::from_secs(60);
/// Id of who registers first. Of several who do at once, one is stored.
const FIRST: UserId = UserId(Uuid::from_u128(0xaf00_0000_0000_8000_8000_0000_0000_0001));
/// What who comes second is told.
const CLOSED: &str = "Registration is closed. An admin account already exists.";

/// What somebody gets who signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// To ask with, as a bearer.
    pub access: String,
    /// For the next pair.
    pub refresh: String,
}

/// A first account.
pub struct Registration {
    /// What people call its user.
    pub title: String,
    /// Its address, which is the login name.
    pub email: String,
    /// Its password.
    pub password: String,
}

impl Auth {
    /// Signs somebody in with a password.
    ///
    /// # Errors
    /// [`Refusal`], as [`Auth::login`].
    pub async fn sign_in(
        &self,
        tenant: Option<&str>,
        email: &str,
        password: &str,
        peer: Option<IpAddr>,
    ) -> Result<(Pair, Caller), Refusal> {
        let request = LoginRequest::Password {
            tenant,
            user: email,
            password,
        };
        self.meter_login(&Login { request, peer }).await?;
        let tenant = tenant.unwrap_or(DEFAULT_TENANT);
        let user = self.check_password(tenant, email, password).await;
        let user = user.map_err(|refusal| match refusal {
            Refusal::Unknown(_) => Refusal::Unknown("Invalid email or password."),
            other => other,
        })?;
        let pair = self.pair(tenant, &user).await?;
        Ok((pair, login::caller_of_user(tenant, &user)))
    }

    /// Gives the next pair for a token; the token is used up.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn refresh(&self, token: &str, peer: Option<IpAddr>) -> Result<Pair, Refusal> {
        let over = || Refusal::Unknown("Refresh token is no longer valid.");
        self.meter_address("refresh", peer, REFRESHES).await?;
        if !token.starts_with(REFRESH_PREFIX) {
            return Err(Refusal::Unknown("Invalid token type."));
        }
        let key = Token::from_client(token).key();
        let session = self.session_of(token, REFRESH_PREFIX).await?;
        let session = session.ok_or_else(over)?;
        // Of several who show it at once one removes it.
        if !self.backend.sessions.delete(key).await? {
            return Err(over());
        }
        let user = self.holder(&session).await?.ok_or_else(over)?;
        Ok(self.pair(session.scope.tenant(), &user).await?)
    }

    /// Whether nobody has an account yet.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn needs_setup(&self) -> Result<bool> {
        let one = PageQuery {
            limit: 1,
            ..PageQuery::default()
        };
        let users = &self.backend.users;
        Ok(users.search(&Scope::local(), &one).await?.total == 0)
    }

    /// Makes the first account, an administrator of the default tenant, and signs it in. Where
    /// somebody has a key or a token already, or registration is not open, the asker must show that
    /// it may make users.
    ///
    /// # Errors
    /// [`Refusal::Denied`] if there is an account, or the asker may not.
    pub async fn register(
        &self,
        asker: Option<&Caller>,
        new: Registration,
        peer: Option<IpAddr>,
    ) -> Result<(Pair, Caller), Refusal> {
        let closed = || Refusal::Denied(CLOSED.into());
        self.meter_address("register", peer, REGISTRATIONS).await?;
        if !self.needs_setup().await? {
            return Err(closed());
        }
        let may = |caller: &Caller| {
            caller.scope.tenant() == DEFAULT_TENANT && caller.scope.may(Permission::UsersWrite)
        };
        if !asker.is_some_and(may) {
            if !self.config.open_registration {
                let text = "The first account is made with a key that may make users: \
                    `agentflow keys create NAME --role operator`.";
                return Err(Refusal::Denied(text.into()));
            }
            if self.is_claimed().await? {
                let text = "This server has keys already: register with one that may make users.";
                return Err(Refusal::Denied(text.into()));
            }
        }
        self.check_password_length(&new.password)?;
        let made = self.make_first(asker, new).await;
        let user = made.map_err(|err| match err.kind() {
            ErrorKind::Conflict => closed(),
            _ => Refusal::Failed(err),
        })?;
        let pair = self.pair(DEFAULT_TENANT, &user).await?;
        Ok((pair, login::caller_of_user(DEFAULT_TENANT, &user)))
    }

    /// Whether the server is somebody's already, who could let others in.
    async fn is_claimed(&self) -> Result<bool> {
        let one = PageQuery {
            limit: 1,
            ..PageQuery::default()
        };
        Ok(self.anybody().await? || self.backend.tenants.search(&one).await?.total > 0)
    }

    async fn make_first(&self, asker: Option<&Caller>, new: Registration) -> Result<User> {
        let itself = Scope::authenticated(DEFAULT_TENANT, &new.email, Permissions::ALL, Map::new());
        let scope = asker.map_or(&itself, |caller| &caller.scope);
        let user = NewUser {
            name: new.email,
            title: new.title,
            password: new.password,
            role: Role::Admin,
            tenant: None,
        };
        self.insert_user(scope, FIRST, user).await
    }

    /// The user that a caller is; `None` for keys and tokens of others.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn user_of(&self, caller: &Caller) -> Result<Option<User>> {
        let known = caller.scope.user();
        let text = |name: &str| known.and_then(|known| known.get(name)?.as_str());
        // An identity provider may say any id in its tokens.
        let is_user = text(login::KIND) == Some(login::OF_USER);
        let id = text(login::USER).filter(|_| is_user);
        match id.and_then(|id| id.parse().ok()) {
            Some(id) => self.backend.users.get(&caller.scope, id).await,
            None => Ok(None),
        }
    }

    /// Changes the caller's own password; its sessions and tokens end.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] if the current one is wrong.
    pub async fn change_password(
        &self,
        caller: &Caller,
        current: &str,
        new: String,
        peer: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let user = self.user_of(caller).await?;
        let user = user.ok_or(Refusal::Unknown("Authentication required."))?;
        let request = LoginRequest::Password {
            tenant: Some(caller.scope.tenant()),
            user: &user.name,
            password: current,
        };
        self.meter_login(&Login { request, peer }).await?;
        let checked = self.check_password(caller.scope.tenant(), &user.name, current);
        let seen = checked.await.map_err(|refusal| match refusal {
            Refusal::Unknown(_) => Refusal::Unknown("Current password is incorrect."),
            other => other,
        })?;
        self.check_password_length(&new)?;
        match self.replace_password(&caller.scope, seen, new).await? {
            true => Ok(()),
            false => Err(Error::conflict("the account was changed meanwhile").into()),
        }
    }

    fn check_password_length(&self, password: &str) -> Result<()> {
        let fewest = self.config.password_length;
        match password.chars().count() < fewest {
            true => Err(Error::invalid(format!(
                "Password must be at least {fewest} characters."
            ))),
            false => Ok(()),
        }
    }

    /// Who shows a token to ask with.
    pub(crate) async fn by_access(&self, token: &str) -> Result<Caller, Refusal> {
        let over = || Refusal::Unknown("Invalid or expired token.");
        let session = self.session_of(token, ACCESS_PREFIX).await?;
        let session = session.ok_or_else(over)?;
        let user = self.holder(&session).await?.ok_or_else(over)?;
        let caller = login::caller_of_user(session.scope.tenant(), &user);
        let next = session.data.get(NEXT).and_then(Value::as_str);
        let means = Means::Access {
            key: Token::from_client(token).key(),
            next: next.and_then(SessionKey::parse),
        };
        Ok(Caller { means, ..caller })
    }

    /// The session of a token that begins so.
    async fn session_of(&self, token: &str, prefix: &str) -> Result<Option<Session>> {
        let key = Token::from_client(token).key();
        let found = self.backend.sessions.get(key, self.now()).await?;
        let kind =
            |session: &Session| session.data.get(KIND).and_then(Value::as_str) == Some(prefix);
        Ok(found.filter(kind))
    }

    /// Whose token it is, if that user is still let in.
    async fn holder(&self, session: &Session) -> Result<Option<User>, Refusal> {
        let tenant = session.scope.tenant();
        let id = session.data.get(login::USER).and_then(Value::as_str);
        let Some(id) = id.and_then(|id| id.parse().ok()) else {
            return Ok(None);
        };
        let known = session.data.get(MARK).and_then(Value::as_str);
        let is_let_in = |user: &User| user.enabled && Some(&*mark(user)) == known;
        // What is remembered may be older than the token.
        let user = match self.recent.user(tenant, id).filter(is_let_in) {
            Some(user) => Some(user),
            None => self.backend.users.get(&session.scope, id).await?,
        };
        let Some(user) = user.filter(is_let_in) else {
            return Ok(None);
        };
        self.admit_tenant(tenant).await?;
        self.recent.put_user(tenant, &user);
        Ok(Some(user))
    }

    async fn pair(&self, tenant: &str, user: &User) -> Result<Pair> {
        let refresh = (REFRESH_PREFIX, REFRESH_LIFE);
        let refresh = self.token(tenant, user, refresh, None).await?;
        let next = Token::from_client(&refresh).key();
        let access = (ACCESS_PREFIX, ACCESS_LIFE);
        let access = self.token(tenant, user, access, Some(next)).await?;
        Ok(Pair { access, refresh })
    }

    async fn token(
        &self,
        tenant: &str,
        user: &User,
        (prefix, life): (&str, Duration),
        next: Option<SessionKey>,
    ) -> Result<String> {
        let text = format!("{prefix}{}", Token::mint()?.secret());
        let mut data = Map::new();
        data.insert(KIND.into(), Value::str(prefix));
        data.insert(login::USER.into(), Value::str(user.user_id.text()));
        data.insert(MARK.into(), Value::str(mark(user)));
        if let Some(next) = next {
            data.insert(NEXT.into(), Value::str(next.text()));
        }
        let owner = Scope::new(tenant, &user.name);
        let session = Session::begin(owner, data, self.now(), life, life);
        let key = Token::from_client(&text).key();
        self.backend.sessions.create(key, session).await?;
        Ok(text)
    }

    /// Counts what one address does.
    async fn meter_address(
        &self,
        what: &str,
        peer: Option<IpAddr>,
        limit: u64,
    ) -> Result<(), Refusal> {
        let Some(peer) = peer else { return Ok(()) };
        let rate = Rate {
            limit,
            period: MINUTE,
        };
        let key = format!("{what}:from:{peer}");
        let taken = self.backend.counters.take(&key, 1, rate, self.now());
        match taken.await? {
            Taken::Granted { .. } => Ok(()),
            Taken::Refused { retry_after, .. } => {
                let text = format!("Rate limit exceeded: {limit} per 1 minute");
                Err(Refusal::Later(retry_after.unwrap_or(MINUTE), text))
            }
        }
    }
}

/// What tells a user's passwords apart.
fn mark(user: &User) -> String {
    KeyHash::of(user.password.as_deref().unwrap_or_default()).text()
}
