//! Managing tenants, users and keys. Nobody gives away more than he has.

use std::time::Duration;

use agentflow_storage::{
    account::{ApiKey, KeyHash, Tenant, User},
    audit::{AuditQuery, Entry},
    page::{MAX_LIMIT, Page, PageQuery},
};
use agentflow_types::{
    DEFAULT_TENANT, Error, KeyId, MemoryScope, Permission, Permissions, Result, Role, Scope,
    Timestamp, UserId,
};
use uuid::Uuid;

use crate::{Auth, password, secret};

/// Most bytes of a name, a title or a principal.
const MAX_NAME_BYTES: usize = 200;
/// Most bytes of a tenant's name.
const MAX_TENANT_BYTES: usize = 64;
/// Most pages of keys that are looked through for those that somebody made.
const MAX_PAGES: usize = 100;
/// Most times that a change of a user is tried anew because somebody else changed it meanwhile.
const MAX_TRIES: usize = 10;
/// Most bytes of a text of the log of changes.
const MAX_AUDIT_BYTES: usize = 500;

/// A new key.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What people call it.
    pub name: String,
    /// Who acts with it; the name if absent.
    pub principal: Option<String>,
    /// Role.
    pub role: Role,
    /// What of the role it may use; `None` for all.
    pub scopes: Option<Permissions>,
    /// The memories that it is limited to; `None` for all. It opens nothing else then.
    pub memories: Option<MemoryScope>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Its tenant; the maker's if absent.
    pub tenant: Option<String>,
}

/// A key that was made. Its text is nowhere else.
#[derive(Debug)]
pub struct KeyMade {
    /// The record.
    pub key: ApiKey,
    /// The key itself.
    pub secret: String,
    /// Its tenant.
    pub tenant: String,
}

/// A new user.
pub struct NewUser {
    /// Login name.
    pub name: String,
    /// What people call the user; empty for the login name.
    pub title: String,
    /// Password.
    pub password: String,
    /// Role.
    pub role: Role,
    /// Tenant; the maker's if absent.
    pub tenant: Option<String>,
}

/// Changes of a user; absent ones stay.
#[derive(Default)]
pub struct UserPatch {
    /// What people call the user.
    pub title: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// Role.
    pub role: Option<Role>,
    /// Whether the user is let in.
    pub enabled: Option<bool>,
}

/// Checks the name of a tenant.
///
/// # Errors
/// `Unprocessable` unless it is 1 to 64 lowercase letters, digits, `-`, `_` or `.`.
pub fn check_tenant(name: &str) -> Result<()> {
    let known =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    match !name.is_empty() && name.len() <= MAX_TENANT_BYTES && name.bytes().all(known) {
        true => Ok(()),
        false => Err(Error::unprocessable(
            "tenant: must be 1 to 64 lowercase letters, digits, '-', '_' or '.'",
        )),
    }
}

fn check_name(what: &str, text: &str) -> Result<()> {
    let is_fine = !text.trim().is_empty()
        && text.len() <= MAX_NAME_BYTES
        && !text.chars().any(char::is_control);
    match is_fine {
        true => Ok(()),
        false => Err(Error::unprocessable(format!(
            "{what}: must be 1 to {MAX_NAME_BYTES} bytes without control characters"
        ))),
    }
}

/// What people call a user; it may be empty.
fn check_title(title: &str) -> Result<()> {
    match title.is_empty() {
        true => Ok(()),
        false => check_name("title", title),
    }
}

/// Refuses to hand out rights that the giver lacks.
fn check_rights(scope: &Scope, wanted: Permissions) -> Result<()> {
    match wanted.within(scope.permissions()) {
        true => Ok(()),
        false => Err(Error::denied("you cannot give more rights than you have")),
    }
}

impl Auth {
    /// The scope in which something is made: the caller's, or the one of another tenant.
    async fn target(&self, scope: &Scope, tenant: Option<&str>) -> Result<Scope> {
        let tenant = tenant.unwrap_or(scope.tenant());
        if tenant == scope.tenant() {
            return Ok(scope.clone());
        }
        if !scope.may(Permission::TenantsWrite) {
            return Err(Error::denied("you cannot act for another tenant"));
        }
        check_tenant(tenant)?;
        if tenant != DEFAULT_TENANT && self.backend.tenants.get(tenant).await?.is_none() {
            return Err(Error::not_found("tenant not found").with("tenant", tenant));
        }
        Ok(Scope::new(tenant, scope.principal()))
    }

    /// Makes a key.
    ///
    /// # Errors
    /// `Denied` for more rights than the maker has, `Unprocessable` for a bad name or a time
    /// that is past, `NotFound` for an unknown tenant.
    pub async fn create_key(&self, scope: &Scope, new: NewKey) -> Result<KeyMade> {
        let target = self.target(scope, new.tenant.as_deref()).await?;
        check_name("name", &new.name)?;
        let principal = new.principal.unwrap_or_else(|| new.name.clone());
        check_name("principal", &principal)?;
        let now = self.now();
        if new.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::unprocessable("expires_at: is past"));
        }
        let text = secret::mint_key()?;
        let key = ApiKey {
            key_id: KeyId::mint(),
            name: new.name,
            principal,
            prefix: secret::shown(&text),
            hash: KeyHash::of(&text),
            role: new.role,
            scopes: new.scopes,
            memories: new.memories,
            created_at: now,
            created_by: scope.principal().to_owned(),
            expires_at: new.expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        check_rights(scope, key.permissions())?;
        if scope.memories().is_some() && scope.memories() != key.memories.as_ref() {
            return Err(Error::denied("you cannot give more memories than you have"));
        }
        self.backend.keys.insert(&target, key.clone()).await?;
        Ok(KeyMade {
            key,
            secret: text,
            tenant: target.tenant().to_owned(),
        })
    }

    /// One page of keys.
    ///
    /// # Errors
    /// `Invalid` for a bad page.
    pub async fn keys(&self, scope: &Scope, page: &PageQuery) -> Result<Page<ApiKey>> {
        self.backend.keys.search(scope, page).await
    }

    /// A key.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn key(&self, scope: &Scope, id: KeyId) -> Result<ApiKey> {
        let found = self.backend.keys.get(scope, id).await?;
        found.ok_or_else(|| Error::not_found(format!("Key with ID {id} not found")))
    }

    /// Revokes a key, here at once, on other servers within the time that answers are believed.
    ///
    /// # Errors
    /// `NotFound`; `Denied` for a key with more rights than the caller has.
    pub async fn revoke_key(&self, scope: &Scope, id: KeyId) -> Result<()> {
        let key = self.key(scope, id).await?;
        check_rights(scope, key.permissions())?;
        self.backend.keys.revoke(scope, id, self.now()).await?;
        self.recent.clear();
        Ok(())
    }

    /// Keys that the caller made and that are not revoked, the newest first.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn keys_made(&self, scope: &Scope) -> Result<Vec<ApiKey>> {
        let mut page = PageQuery {
            limit: MAX_LIMIT,
            sort_by: "created_at".into(),
            ..PageQuery::default()
        };
        let mut made = Vec::new();
        for _ in 0..MAX_PAGES {
            let found = self.keys(scope, &page).await?;
            page.offset += u64::from(MAX_LIMIT);
            let is_last = page.offset >= found.total;
            let own =
                |key: &ApiKey| key.created_by == scope.principal() && key.revoked_at.is_none();
            made.extend(found.items.into_iter().filter(own));
            if is_last {
                break;
            }
        }
        Ok(made)
    }

    /// Revokes a key that the caller made.
    ///
    /// # Errors
    /// `NotFound` for another one, `Invalid` for one that was revoked before.
    pub async fn revoke_made(&self, scope: &Scope, id: &str) -> Result<()> {
        let none = || Error::not_found("API key not found.");
        let id: KeyId = id.parse().map_err(|_| none())?;
        let key = self.backend.keys.get(scope, id).await?;
        let key = key.filter(|key| key.created_by == scope.principal());
        match key.ok_or_else(none)?.revoked_at {
            Some(_) => Err(Error::invalid("API key is already revoked.")),
            None => self.revoke_key(scope, id).await,
        }
    }

    /// Makes a user.
    ///
    /// # Errors
    /// As [`Self::create_key`]; `Conflict` if the name is taken.
    pub async fn create_user(&self, scope: &Scope, new: NewUser) -> Result<User> {
        self.insert_user(scope, UserId::mint(), new).await
    }

    /// Makes a user with this id; `Conflict` also if there is one.
    pub(crate) async fn insert_user(
        &self,
        scope: &Scope,
        user_id: UserId,
        new: NewUser,
    ) -> Result<User> {
        let target = self.target(scope, new.tenant.as_deref()).await?;
        check_name("name", &new.name)?;
        check_title(&new.title)?;
        check_rights(scope, new.role.permissions())?;
        let now = self.now();
        let user = User {
            user_id,
            name: new.name,
            title: new.title,
            password: Some(self.hash(new.password).await?),
            role: new.role,
            enabled: true,
            created_at: now,
            updated_at: now,
        };
        self.backend.users.insert(&target, user.clone()).await?;
        Ok(user)
    }

    async fn hash(&self, text: String) -> Result<String> {
        let fewest = self.config.password_length;
        if text.chars().count() < fewest || text.len() > password::MAX_BYTES {
            return Err(Error::unprocessable(format!(
                "password: must have {fewest} characters or more, and {} bytes or fewer",
                password::MAX_BYTES
            )));
        }
        self.passwords.hash(text).await
    }

    /// One page of users.
    ///
    /// # Errors
    /// `Invalid` for a bad page.
    pub async fn users(&self, scope: &Scope, page: &PageQuery) -> Result<Page<User>> {
        self.backend.users.search(scope, page).await
    }

    /// A user.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn user(&self, scope: &Scope, id: UserId) -> Result<User> {
        let found = self.backend.users.get(scope, id).await?;
        found.ok_or_else(|| Error::not_found(format!("User with ID {id} not found")))
    }

    /// The user of a name.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn user_named(&self, scope: &Scope, name: &str) -> Result<User> {
        let found = self.backend.users.named(scope, name).await?;
        found.ok_or_else(|| Error::not_found("user not found").with("name", name))
    }

    /// Changes a user, and ends its sessions if the password changed or it is shut out.
    ///
    /// # Errors
    /// `NotFound`; `Denied` for rights that the caller lacks, before or after.
    pub async fn update_user(&self, scope: &Scope, id: UserId, patch: UserPatch) -> Result<User> {
        let mut before = self.user(scope, id).await?;
        let patch = self.hashed(scope, &before, patch).await?;
        for _ in 0..MAX_TRIES {
            if let Some(user) = self.replace_user(scope, before, &patch).await? {
                return Ok(user);
            }
            before = self.user(scope, id).await?;
        }
        Err(Error::conflict("others change the user all the time"))
    }

    /// Changes the password of a user as it was seen; false if it was changed since.
    pub(crate) async fn replace_password(
        &self,
        scope: &Scope,
        seen: User,
        password: String,
    ) -> Result<bool> {
        let patch = UserPatch {
            password: Some(password),
            ..UserPatch::default()
        };
        let patch = self.hashed(scope, &seen, patch).await?;
        Ok(self.replace_user(scope, seen, &patch).await?.is_some())
    }

    /// The changes with the hash in the password's place, after all that can be checked at once.
    async fn hashed(&self, scope: &Scope, before: &User, patch: UserPatch) -> Result<UserPatch> {
        check_rights(scope, before.role.permissions())?;
        check_rights(scope, patch.role.unwrap_or(before.role).permissions())?;
        check_title(patch.title.as_deref().unwrap_or_default())?;
        let password = match patch.password {
            Some(text) => Some(self.hash(text).await?),
            None => None,
        };
        Ok(UserPatch { password, ..patch })
    }

    /// Stores changes, the password's hash among them; `None` if the user was changed since it
    /// was seen. Otherwise who is shut out could undo it with a change of its own.
    async fn replace_user(
        &self,
        scope: &Scope,
        seen: User,
        patch: &UserPatch,
    ) -> Result<Option<User>> {
        let role = patch.role.unwrap_or(seen.role);
        check_rights(scope, seen.role.permissions())?;
        check_rights(scope, role.permissions())?;
        let ends_sessions = patch.password.is_some() || patch.enabled == Some(false);
        let before = seen.updated_at;
        let user = User {
            title: patch.title.clone().unwrap_or(seen.title),
            password: patch.password.clone().or(seen.password),
            role,
            enabled: patch.enabled.unwrap_or(seen.enabled),
            // Two changes never have the same time.
            updated_at: self.now().max(before.plus(Duration::from_micros(1))),
            ..seen
        };
        if !self
            .backend
            .users
            .update(scope, user.clone(), before)
            .await?
        {
            return Ok(None);
        }
        if ends_sessions {
            self.end_sessions(scope, &user.name).await?;
        }
        self.recent.clear();
        Ok(Some(user))
    }

    /// Removes a user with its sessions.
    ///
    /// # Errors
    /// `NotFound`; `Denied` for a user with more rights than the caller has.
    pub async fn delete_user(&self, scope: &Scope, id: UserId) -> Result<()> {
        let user = self.user(scope, id).await?;
        check_rights(scope, user.role.permissions())?;
        self.backend.users.delete(scope, id).await?;
        self.end_sessions(scope, &user.name).await?;
        self.recent.clear();
        Ok(())
    }

    async fn end_sessions(&self, scope: &Scope, name: &str) -> Result<()> {
        let owner = Scope::new(scope.tenant(), name);
        self.backend.sessions.delete_all(&owner).await.map(drop)
    }

    /// Makes a tenant.
    ///
    /// # Errors
    /// `Conflict` if it exists, `Unprocessable` for a bad name.
    pub async fn create_tenant(&self, name: String, title: Option<String>) -> Result<Tenant> {
        check_tenant(&name)?;
        let title = title.unwrap_or_else(|| name.clone());
        check_name("title", &title)?;
        let now = self.now();
        let tenant = Tenant {
            tenant: name,
            title,
            enabled: true,
            created_at: now,
            updated_at: now,
        };
        self.backend.tenants.insert(tenant.clone()).await?;
        Ok(tenant)
    }

    /// One page of tenants.
    ///
    /// # Errors
    /// `Invalid` for a bad page.
    pub async fn tenants(&self, page: &PageQuery) -> Result<Page<Tenant>> {
        self.backend.tenants.search(page).await
    }

    /// Changes a tenant. Who belongs to one that is shut is let in no more.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn update_tenant(
        &self,
        name: &str,
        title: Option<String>,
        enabled: Option<bool>,
    ) -> Result<Tenant> {
        let before = self.backend.tenants.get(name).await?;
        let before =
            before.ok_or_else(|| Error::not_found("tenant not found").with("tenant", name))?;
        if let Some(title) = &title {
            check_name("title", title)?;
        }
        let tenant = Tenant {
            title: title.unwrap_or(before.title),
            enabled: enabled.unwrap_or(before.enabled),
            updated_at: self.now(),
            ..before
        };
        self.backend.tenants.update(tenant.clone()).await?;
        self.recent.clear();
        Ok(tenant)
    }

    /// One page of the log of changes.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn audit(&self, scope: &Scope, query: &AuditQuery) -> Result<Page<Entry>> {
        self.backend.audit.search(scope, query).await
    }

    /// Adds to the log of changes.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn record(
        &self,
        scope: &Scope,
        action: &str,
        target: &str,
        request_id: &str,
        outcome: &str,
    ) -> Result<()> {
        let entry = Entry {
            entry_id: Uuid::now_v7(),
            at: self.now(),
            principal: short(scope.principal()),
            action: short(action),
            target: short(target),
            request_id: short(request_id),
            outcome: short(outcome),
        };
        self.backend.audit.append(scope, entry).await
    }
}

/// Text as the log of changes takes it: short and without NUL.
fn short(text: &str) -> String {
    let mut end = text.len().min(MAX_AUDIT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "\u{fffd}")
}
