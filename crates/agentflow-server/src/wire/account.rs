//! Sessions, keys, users, tenants and the log of changes on the wire.

use agentflow_auth::{Caller, KeyMade, Means, NewKey, NewUser, UserPatch};
use agentflow_storage::{account, audit};
use agentflow_types::{Map, MemoryScope, Permissions, Result, Role, Scope, Timestamp, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

/// Who wants a session: a user with a password, or whoever has a key.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LoginBody {
    /// Tenant of the user; `default` if absent.
    pub(crate) tenant: Option<String>,
    /// Address of the user; the answer has tokens then, and sets no cookie.
    pub(crate) email: Option<String>,
    /// Login name.
    pub(crate) username: Option<String>,
    /// Password.
    pub(crate) password: Option<String>,
    /// An API key, in place of name and password.
    pub(crate) api_key: Option<String>,
}

/// Who asks, and what it may do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Me {
    /// Tenant.
    tenant: String,
    /// Principal.
    principal: String,
    /// Role.
    role: String,
    /// Permissions.
    permissions: Vec<&'static str>,
    /// Of a user: its id.
    id: Option<String>,
    /// Of a user: what people call it.
    name: Option<String>,
    /// Of a user: its login name.
    email: Option<String>,
    /// Of a user: creation.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    /// How it was let in: `key`, `bootstrap`, `token`, `access`, `session`, or `open` without
    /// authentication.
    means: &'static str,
    /// With a session: what changing requests must send as `x-csrf-token`.
    csrf_token: Option<String>,
    /// With a session: when it ends at the latest.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

impl Me {
    /// Of a server without authentication.
    pub(crate) fn anybody(scope: &Scope) -> Self {
        Self {
            tenant: scope.tenant().to_owned(),
            principal: scope.principal().to_owned(),
            role: Role::Operator.word().to_owned(),
            permissions: scope.permissions().words(),
            id: None,
            name: None,
            email: None,
            created_at: None,
            means: "open",
            csrf_token: None,
            expires_at: None,
        }
    }
}

impl Me {
    /// With what is known of its user.
    pub(crate) fn of_user(self, user: account::User) -> Self {
        Self {
            id: Some(user.user_id.text()),
            created_at: Some(user.created_at),
            name: Some(match user.title.is_empty() {
                true => user.name.clone(),
                false => user.title,
            }),
            email: Some(user.name),
            ..self
        }
    }
}

impl From<&Caller> for Me {
    fn from(caller: &Caller) -> Self {
        let (means, csrf_token, expires_at) = match &caller.means {
            Means::Key(_) => ("key", None, None),
            Means::Bootstrap => ("bootstrap", None, None),
            Means::Token => ("token", None, None),
            Means::Access { .. } => ("access", None, None),
            Means::Session { csrf, ends_at, .. } => ("session", Some(csrf.clone()), Some(*ends_at)),
        };
        Self {
            tenant: caller.scope.tenant().to_owned(),
            principal: caller.scope.principal().to_owned(),
            role: caller.role.word().to_owned(),
            permissions: caller.scope.permissions().words(),
            id: None,
            name: None,
            email: None,
            created_at: None,
            means,
            csrf_token,
            expires_at,
        }
    }
}

/// A new key.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct KeyCreate {
    /// What people call it.
    name: String,
    /// Who acts with it; the name if absent.
    principal: Option<String>,
    /// `viewer`, `user` (default), `admin` or `operator`.
    role: Option<String>,
    /// What of the role it may use, for example `["threads:read", "runs:*"]`; all if absent.
    scopes: Option<Vec<String>>,
    /// The memories that it is limited to, for example `{"user_id": "alice"}`; it opens nothing
    /// else then. All if absent.
    #[schema(value_type = Option<Object>)]
    memory_scope: Option<Map>,
    /// When it ends; never if absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// Tenant; the caller's if absent. Another one only for operators.
    tenant: Option<String>,
}

impl KeyCreate {
    /// # Errors
    /// `Unprocessable` for an unknown role or scope.
    pub(crate) fn into_domain(self) -> Result<NewKey> {
        let scopes = self.scopes.as_ref();
        let scopes = scopes.map(|words| Permissions::parse(words.iter().map(String::as_str)));
        Ok(NewKey {
            name: self.name,
            principal: self.principal,
            role: self.role.as_deref().unwrap_or("user").parse()?,
            scopes: scopes.transpose()?,
            memories: self
                .memory_scope
                .as_ref()
                .map(MemoryScope::new)
                .transpose()?,
            expires_at: self.expires_at,
            tenant: self.tenant,
        })
    }
}

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Key {
    /// UUID.
    #[schema(value_type = String, format = Uuid)]
    key_id: String,
    /// What people call it.
    name: String,
    /// Who acts with it.
    principal: String,
    /// How it begins.
    prefix: String,
    /// Role.
    role: String,
    /// What of the role it may use; null for all.
    scopes: Option<Vec<&'static str>>,
    /// The memories that it is limited to; null for all.
    #[schema(value_type = Option<Object>)]
    memory_scope: Option<Json>,
    /// Creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Who made it.
    created_by: String,
    /// When it ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
}

impl From<account::ApiKey> for Key {
    fn from(key: account::ApiKey) -> Self {
        Self {
            key_id: key.key_id.text(),
            name: key.name,
            principal: key.principal,
            prefix: key.prefix,
            role: key.role.word().to_owned(),
            scopes: key.scopes.map(Permissions::words),
            memory_scope: key
                .memories
                .map(|limit| Value::map(limit.as_map().clone()).to_json()),
            created_at: key.created_at,
            created_by: key.created_by,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            revoked_at: key.revoked_at,
        }
    }
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyCreated {
    /// The key. It is shown this once.
    key: String,
    /// Its tenant.
    tenant: String,
    /// What is stored of it.
    #[serde(flatten)]
    record: Key,
}

impl From<KeyMade> for KeyCreated {
    fn from(made: KeyMade) -> Self {
        Self {
            key: made.secret,
            tenant: made.tenant,
            record: made.key.into(),
        }
    }
}

/// A new user.
#[derive(Deserialize, ToSchema)]
pub(crate) struct UserCreate {
    /// Login name, unique within the tenant.
    name: String,
    /// What people call the user.
    title: Option<String>,
    /// Password.
    password: String,
    /// `viewer`, `user` (default), `admin` or `operator`.
    role: Option<String>,
    /// Tenant; the caller's if absent. Another one only for operators.
    tenant: Option<String>,
}

impl UserCreate {
    /// # Errors
    /// `Unprocessable` for an unknown role.
    pub(crate) fn into_domain(self) -> Result<NewUser> {
        Ok(NewUser {
            name: self.name,
            title: self.title.unwrap_or_default(),
            password: self.password,
            role: self.role.as_deref().unwrap_or("user").parse()?,
            tenant: self.tenant,
        })
    }
}

/// Changes of a user; absent ones stay.
#[derive(Deserialize, ToSchema)]
pub(crate) struct UserUpdate {
    /// What people call the user.
    title: Option<String>,
    /// Password. Sessions end when it changes.
    password: Option<String>,
    /// Role.
    role: Option<String>,
    /// Whether the user is let in.
    enabled: Option<bool>,
}

impl UserUpdate {
    /// # Errors
    /// `Unprocessable` for an unknown role.
    pub(crate) fn into_domain(self) -> Result<UserPatch> {
        Ok(UserPatch {
            title: self.title,
            password: self.password,
            role: self.role.as_deref().map(str::parse).transpose()?,
            enabled: self.enabled,
        })
    }
}

/// A user, without the password.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User {
    /// UUID.
    #[schema(value_type = String, format = Uuid)]
    user_id: String,
    /// Login name.
    name: String,
    /// What people call the user.
    title: String,
    /// Role.
    role: String,
    /// Whether the user is let in.
    enabled: bool,
    /// Creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<account::User> for User {
    fn from(user: account::User) -> Self {
        Self {
            user_id: user.user_id.text(),
            title: match user.title.is_empty() {
                true => user.name.clone(),
                false => user.title,
            },
            name: user.name,
            role: user.role.word().to_owned(),
            enabled: user.enabled,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

/// A new tenant.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TenantCreate {
    /// Name: lowercase letters, digits, `-`, `_`, `.`.
    pub(crate) tenant: String,
    /// What people call it.
    pub(crate) title: Option<String>,
}

/// Changes of a tenant; absent ones stay.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TenantUpdate {
    /// What people call it.
    pub(crate) title: Option<String>,
    /// Whether anybody of it is let in.
    pub(crate) enabled: Option<bool>,
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tenant {
    /// Name.
    tenant: String,
    /// What people call it.
    title: String,
    /// Whether anybody of it is let in.
    enabled: bool,
    /// Creation.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Last change.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<account::Tenant> for Tenant {
    fn from(tenant: account::Tenant) -> Self {
        Self {
            tenant: tenant.tenant,
            title: tenant.title,
            enabled: tenant.enabled,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
        }
    }
}

/// An entry of the log of changes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    /// UUID.
    #[schema(value_type = String, format = Uuid)]
    entry_id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who.
    principal: String,
    /// What, for example `keys.create`.
    action: String,
    /// To which thing.
    target: String,
    /// The request's `x-request-id`.
    request_id: String,
    /// `ok`, `denied`, or `failed` with the status.
    outcome: String,
}

impl From<audit::Entry> for AuditEntry {
    fn from(entry: audit::Entry) -> Self {
        Self {
            entry_id: entry.entry_id.to_string(),
            at: entry.at,
            principal: entry.principal,
            action: entry.action,
            target: entry.target,
            request_id: entry.request_id,
            outcome: entry.outcome,
        }
    }
}
