//! Tenants, users and API keys.

use agentflow_storage::{
    account::{ApiKey, KeyHash, Keys, Tenant, Tenants, User, Users},
    filter,
    page::{Page, PageQuery},
};
use agentflow_types::{
    Error, KeyId, MemoryScope, Permissions, Result, Role, Scope, Timestamp, UserId,
};
use async_trait::async_trait;
use rusqlite::{Row, params};

use crate::{
    Embedded,
    column::{self, execute, first, get, id, order, some_time, text, time},
};

const TENANT: &str = "tenant, title, enabled, created_at, updated_at";
const USER: &str = "user_id, name, password, role, enabled, created_at, updated_at, title";
const KEY: &str = "key_id, name, principal, prefix, hash, role, scopes, created_at, created_by, \
    expires_at, last_used_at, revoked_at, memories";

fn read_tenant(row: &Row<'_>) -> Result<Tenant> {
    Ok(Tenant {
        tenant: get(row, 0)?,
        title: get(row, 1)?,
        enabled: get(row, 2)?,
        created_at: time(row, 3)?,
        updated_at: time(row, 4)?,
    })
}

fn read_user(row: &Row<'_>) -> Result<User> {
    Ok(User {
        user_id: id(row, 0)?,
        name: get(row, 1)?,
        password: get(row, 2)?,
        role: role(text(row, 3)?)?,
        enabled: get(row, 4)?,
        created_at: time(row, 5)?,
        updated_at: time(row, 6)?,
        title: get(row, 7)?,
    })
}

fn read_key(row: &Row<'_>) -> Result<ApiKey> {
    let hash = KeyHash::parse(text(row, 4)?);
    let scopes: Option<String> = get(row, 6)?;
    let memories: Option<String> = get(row, 12)?;
    Ok(ApiKey {
        key_id: id(row, 0)?,
        name: get(row, 1)?,
        principal: get(row, 2)?,
        prefix: get(row, 3)?,
        hash: hash.ok_or_else(|| Error::corrupt("a stored hash is not one"))?,
        role: role(text(row, 5)?)?,
        scopes: scopes.as_deref().map(permissions).transpose()?,
        created_at: time(row, 7)?,
        created_by: get(row, 8)?,
        expires_at: some_time(row, 9)?,
        last_used_at: some_time(row, 10)?,
        revoked_at: some_time(row, 11)?,
        memories: memories.as_deref().map(limit).transpose()?,
    })
}

fn role(word: &str) -> Result<Role> {
    word.parse()
        .map_err(|err: Error| Error::corrupt("a stored role is unknown").source_err(err))
}

fn limit(text: &str) -> Result<MemoryScope> {
    MemoryScope::parse(text)
        .map_err(|err| Error::corrupt("a stored limit of a key is none").source_err(err))
}

fn permissions(words: &str) -> Result<Permissions> {
    Permissions::parse(words.split_whitespace())
        .map_err(|err| Error::corrupt("a stored permission is unknown").source_err(err))
}

fn words(scopes: Option<Permissions>) -> Option<String> {
    scopes.map(|scopes| scopes.words().join(" "))
}

#[async_trait]
impl Tenants for Embedded {
    async fn insert(&self, tenant: Tenant) -> Result<()> {
        self.write(move |db| {
            let sql = "INSERT INTO agentflow_tenants (tenant, title, enabled, created_at,
                updated_at) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
            let values = params![
                tenant.tenant,
                tenant.title,
                tenant.enabled,
                tenant.created_at.0,
                tenant.updated_at.0,
            ];
            match execute(db, sql, values)? {
                0 => Err(Error::conflict("tenant exists").with("tenant", &tenant.tenant)),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn update(&self, tenant: Tenant) -> Result<bool> {
        self.write(move |db| {
            let sql = "UPDATE agentflow_tenants SET title = ?2, enabled = ?3, updated_at = ?4
                WHERE tenant = ?1";
            let values = params![
                tenant.tenant,
                tenant.title,
                tenant.enabled,
                tenant.updated_at.0
            ];
            Ok(execute(db, sql, values)? > 0)
        })
        .await
    }

    async fn get(&self, tenant: &str) -> Result<Option<Tenant>> {
        let tenant = tenant.to_owned();
        self.read_short(move |db| {
            let sql = format!("SELECT {TENANT} FROM agentflow_tenants WHERE tenant = ?1");
            first(db, &sql, [&tenant], read_tenant)
        })
        .await
    }

    async fn search(&self, page: &PageQuery) -> Result<Page<Tenant>> {
        filter::check_page(page, filter::TENANT_COLUMNS)?;
        let order = order(page, "tenant");
        self.read(move |db| {
            let from = "FROM agentflow_tenants";
            column::page(db, TENANT, from, &order, &[], read_tenant)
        })
        .await
    }
}

#[async_trait]
impl Users for Embedded {
    async fn insert(&self, scope: &Scope, user: User) -> Result<()> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            let sql = "INSERT INTO agentflow_users (user_id, tenant, name, password, role,
                    enabled, created_at, updated_at, title)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
            let values = params![
                user.user_id.text(),
                tenant,
                user.name,
                user.password,
                user.role.word(),
                user.enabled,
                user.created_at.0,
                user.updated_at.0,
                user.title,
            ];
            match execute(db, sql, values)? {
                0 => Err(Error::conflict("user exists").with("name", &user.name)),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn update(&self, scope: &Scope, user: User, seen: Timestamp) -> Result<bool> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            let sql = "UPDATE agentflow_users SET password = ?3, role = ?4, enabled = ?5,
                updated_at = ?6, title = ?7
                WHERE user_id = ?1 AND tenant = ?2 AND updated_at = ?8";
            let values = params![
                user.user_id.text(),
                tenant,
                user.password,
                user.role.word(),
                user.enabled,
                user.updated_at.0,
                user.title,
                seen.0,
            ];
            Ok(execute(db, sql, values)? > 0)
        })
        .await
    }

    async fn get(&self, scope: &Scope, id: UserId) -> Result<Option<User>> {
        let tenant = scope.tenant().to_owned();
        self.read_short(move |db| {
            let sql =
                format!("SELECT {USER} FROM agentflow_users WHERE user_id = ?1 AND tenant = ?2");
            first(db, &sql, [&id.text(), &tenant], read_user)
        })
        .await
    }

    async fn named(&self, scope: &Scope, name: &str) -> Result<Option<User>> {
        let (tenant, name) = (scope.tenant().to_owned(), name.to_owned());
        self.read_short(move |db| {
            let sql = format!("SELECT {USER} FROM agentflow_users WHERE tenant = ?1 AND name = ?2");
            first(db, &sql, [&tenant, &name], read_user)
        })
        .await
    }

    async fn search(&self, scope: &Scope, page: &PageQuery) -> Result<Page<User>> {
        filter::check_page(page, filter::ACCOUNT_COLUMNS)?;
        let order = order(page, "user_id");
        let tenant = scope.tenant().to_owned();
        self.read(move |db| {
            let from = "FROM agentflow_users WHERE tenant = ?";
            column::page(db, USER, from, &order, &[tenant.into()], read_user)
        })
        .await
    }

    async fn delete(&self, scope: &Scope, id: UserId) -> Result<bool> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            let sql = "DELETE FROM agentflow_users WHERE user_id = ?1 AND tenant = ?2";
            Ok(execute(db, sql, [&id.text(), &tenant])? > 0)
        })
        .await
    }
}

#[async_trait]
impl Keys for Embedded {
    async fn insert(&self, scope: &Scope, key: ApiKey) -> Result<()> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            let sql = "INSERT INTO agentflow_keys (key_id, tenant, name, principal, prefix, hash,
                    role, scopes, created_at, created_by, expires_at, last_used_at, revoked_at,
                    memories)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
                ON CONFLICT DO NOTHING";
            let values = params![
                key.key_id.text(),
                tenant,
                key.name,
                key.principal,
                key.prefix,
                key.hash.text(),
                key.role.word(),
                words(key.scopes),
                key.created_at.0,
                key.created_by,
                key.expires_at.map(|at| at.0),
                key.last_used_at.map(|at| at.0),
                key.revoked_at.map(|at| at.0),
                key.memories.map(|limit| limit.text()),
            ];
            match execute(db, sql, values)? {
                0 => Err(Error::conflict("key exists").with("key_id", key.key_id)),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn find(&self, hash: KeyHash) -> Result<Option<(String, ApiKey)>> {
        self.read_short(move |db| {
            let sql = format!("SELECT {KEY}, tenant FROM agentflow_keys WHERE hash = ?1");
            first(db, &sql, [hash.text()], |row| {
                Ok((get(row, 13)?, read_key(row)?))
            })
        })
        .await
    }

    async fn get(&self, scope: &Scope, id: KeyId) -> Result<Option<ApiKey>> {
        let tenant = scope.tenant().to_owned();
        self.read_short(move |db| {
            let sql = format!("SELECT {KEY} FROM agentflow_keys WHERE key_id = ?1 AND tenant = ?2");
            first(db, &sql, [&id.text(), &tenant], read_key)
        })
        .await
    }

    async fn search(&self, scope: &Scope, page: &PageQuery) -> Result<Page<ApiKey>> {
        filter::check_page(page, filter::ACCOUNT_COLUMNS)?;
        let order = order(page, "key_id");
        let tenant = scope.tenant().to_owned();
        self.read(move |db| {
            let from = "FROM agentflow_keys WHERE tenant = ?";
            column::page(db, KEY, from, &order, &[tenant.into()], read_key)
        })
        .await
    }

    async fn revoke(&self, scope: &Scope, id: KeyId, at: Timestamp) -> Result<bool> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            let sql = "UPDATE agentflow_keys SET revoked_at = coalesce(revoked_at, ?3)
                WHERE key_id = ?1 AND tenant = ?2";
            Ok(execute(db, sql, params![id.text(), tenant, at.0])? > 0)
        })
        .await
    }

    async fn used(&self, keys: &[(KeyId, Timestamp)]) -> Result<()> {
        let keys = keys.to_vec();
        self.write(move |db| {
            let sql = "UPDATE agentflow_keys SET last_used_at = ?2
                WHERE key_id = ?1 AND coalesce(last_used_at, ?2) <= ?2";
            for (id, at) in keys {
                execute(db, sql, params![id.text(), at.0])?;
            }
            Ok(())
        })
        .await
    }
}
