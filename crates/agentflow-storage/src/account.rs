//! Who may use a server: tenants, users, API keys.
//!
//! No secret is stored: of a password there is a slow hash with its salt, of an API key a fast
//! hash, because a key is random. What the words of these records mean, and who may change them,
//! is decided above.

use std::fmt;

use agentflow_types::{KeyId, MemoryScope, Permissions, Result, Role, Scope, Timestamp, UserId};
use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use crate::page::{Page, PageQuery};

/// A tenant: owner of everything that a scope with its name may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its name, also in scopes. It never changes.
    pub tenant: String,
    /// What people call it.
    pub title: String,
    /// Whether anybody of it is let in.
    pub enabled: bool,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// Somebody who logs in with a password.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Id.
    pub user_id: UserId,
    /// Login name, unique within the tenant. It never changes.
    pub name: String,
    /// What people call the user; empty for the login name.
    pub title: String,
    /// Hash of the password in PHC form; `None` for nobody who can log in with one.
    pub password: Option<String>,
    /// Role.
    pub role: Role,
    /// Whether the user is let in.
    pub enabled: bool,
    /// Creation.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("user_id", &self.user_id)
            .field("name", &self.name)
            .field("role", &self.role)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// SHA-256 of an API key, as backends know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key's text.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As lowercase hexadecimal text, the form in which backends store it.
    #[must_use]
    pub fn text(&self) -> String {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            write!(text, "{byte:02x}").expect("a string takes all text");
        }
        text
    }

    /// Reads [`Self::text`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(hash))
    }
}

/// An API key.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKey {
    /// Id.
    pub key_id: KeyId,
    /// What people call it.
    pub name: String,
    /// Who acts with it.
    pub principal: String,
    /// How it begins, so that its holder recognises it.
    pub prefix: String,
    /// Its hash; unique.
    pub hash: KeyHash,
    /// Role.
    pub role: Role,
    /// What of the role it may use; `None` for all.
    pub scopes: Option<Permissions>,
    /// The memories that it is limited to; `None` for all. It opens nothing else then.
    pub memories: Option<MemoryScope>,
    /// Creation.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it ends; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// What it permits.
    #[must_use]
    pub fn permissions(&self) -> Permissions {
        let role = self.role.permissions();
        let all = self.scopes.map_or(role, |scopes| role.and(scopes));
        match self.memories {
            Some(_) => all.and(Permissions::OF_MEMORIES),
            None => all,
        }
    }

    /// Whether it is neither revoked nor over.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// Stores tenants.
///
/// Sort columns: `tenant`, `created_at`.
#[async_trait]
pub trait Tenants: Send + Sync {
    /// Stores a new tenant.
    ///
    /// # Errors
    /// `Conflict` if the name is taken.
    async fn insert(&self, tenant: Tenant) -> Result<()>;

    /// Replaces title, state and the time of change; false if there is no such tenant.
    async fn update(&self, tenant: Tenant) -> Result<bool>;

    /// The tenant.
    async fn get(&self, tenant: &str) -> Result<Option<Tenant>>;

    /// One page of all tenants.
    async fn search(&self, page: &PageQuery) -> Result<Page<Tenant>>;
}

/// Stores users.
///
/// Sort columns: `name`, `created_at`.
#[async_trait]
pub trait Users: Send + Sync {
    /// Stores a new user.
    ///
    /// # Errors
    /// `Conflict` if the id, or the name within the tenant, is taken.
    async fn insert(&self, scope: &Scope, user: User) -> Result<()>;

    /// Replaces title, password, role, state and the time of change of the user as it was last
    /// changed at `seen`; false if there is no such user, or it was changed since.
    async fn update(&self, scope: &Scope, user: User, seen: Timestamp) -> Result<bool>;

    /// The user.
    async fn get(&self, scope: &Scope, id: UserId) -> Result<Option<User>>;

    /// The user of a name.
    async fn named(&self, scope: &Scope, name: &str) -> Result<Option<User>>;

    /// One page of the tenant's users.
    async fn search(&self, scope: &Scope, page: &PageQuery) -> Result<Page<User>>;

    /// Removes the user; false if there was none.
    async fn delete(&self, scope: &Scope, id: UserId) -> Result<bool>;
}

/// Stores API keys. They are never removed, so that the log of changes can be read years later.
///
/// Sort columns: `name`, `created_at`.
#[async_trait]
pub trait Keys: Send + Sync {
    /// Stores a new key.
    ///
    /// # Errors
    /// `Conflict` if the id or the hash is taken.
    async fn insert(&self, scope: &Scope, key: ApiKey) -> Result<()>;

    /// The key of a hash, of any tenant, and the tenant.
    async fn find(&self, hash: KeyHash) -> Result<Option<(String, ApiKey)>>;

    /// The key.
    async fn get(&self, scope: &Scope, id: KeyId) -> Result<Option<ApiKey>>;

    /// One page of the tenant's keys.
    async fn search(&self, scope: &Scope, page: &PageQuery) -> Result<Page<ApiKey>>;

    /// Revokes the key; one that was revoked before keeps its time. False if there is no such
    /// key.
    async fn revoke(&self, scope: &Scope, id: KeyId, at: Timestamp) -> Result<bool>;

    /// Notes when keys of any tenant were used; an earlier time than the one known changes
    /// nothing.
    async fn used(&self, keys: &[(KeyId, Timestamp)]) -> Result<()>;
}
