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
use tokio_postgres::Row;

use crate::{
    Postgres,
    column::{Moment, get, id, order, some_time, time},
    statement::Statement,
};

const TENANT: &str = "tenant, title, enabled, created_at, updated_at";
const USER: &str = "user_id, name, password, role, enabled, created_at, updated_at, title";
const KEY: &str = "key_id, name, principal, prefix, hash, role, scopes, created_at, created_by, \
    expires_at, last_used_at, revoked_at, memories";

fn read_tenant(row: &Row) -> Result<Tenant> {
    Ok(Tenant {
        tenant: get(row, 0)?,
        title: get(row, 1)?,
        enabled: get(row, 2)?,
        created_at: time(row, 3)?,
        updated_at: time(row, 4)?,
    })
}

fn read_user(row: &Row) -> Result<User> {
    Ok(User {
        user_id: id(row, 0)?,
        name: get(row, 1)?,
        password: get(row, 2)?,
        role: role(get(row, 3)?)?,
        enabled: get(row, 4)?,
        created_at: time(row, 5)?,
        updated_at: time(row, 6)?,
        title: get(row, 7)?,
    })
}

fn read_key(row: &Row) -> Result<ApiKey> {
    let hash = KeyHash::parse(get(row, 4)?);
    let scopes: Option<&str> = get(row, 6)?;
    let memories: Option<&str> = get(row, 12)?;
    Ok(ApiKey {
        key_id: id(row, 0)?,
        name: get(row, 1)?,
        principal: get(row, 2)?,
        prefix: get(row, 3)?,
        hash: hash.ok_or_else(|| Error::corrupt("a stored hash is not one"))?,
        role: role(get(row, 5)?)?,
        scopes: scopes.map(permissions).transpose()?,
        created_at: time(row, 7)?,
        created_by: get(row, 8)?,
        expires_at: some_time(row, 9)?,
        last_used_at: some_time(row, 10)?,
        revoked_at: some_time(row, 11)?,
        memories: memories.map(limit).transpose()?,
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

fn owner(scope: &Scope) -> String {
    scope.tenant().to_owned()
}

#[async_trait]
impl Tenants for Postgres {
    async fn insert(&self, tenant: Tenant) -> Result<()> {
        const SQL: &str = "INSERT INTO agentflow.tenants (tenant, title, enabled, created_at,
            updated_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        let taken = Error::conflict("tenant exists").with("tenant", &tenant.tenant);
        let sql = Statement::new(SQL)
            .bind(tenant.tenant)
            .bind(tenant.title)
            .bind(tenant.enabled)
            .bind(Moment(tenant.created_at))
            .bind(Moment(tenant.updated_at));
        match self.write(&sql).await?.count {
            0 => Err(taken),
            _ => Ok(()),
        }
    }

    async fn update(&self, tenant: Tenant) -> Result<bool> {
        const SQL: &str = "UPDATE agentflow.tenants SET title = $2, enabled = $3, updated_at = $4
            WHERE tenant = $1";
        let sql = Statement::new(SQL)
            .bind(tenant.tenant)
            .bind(tenant.title)
            .bind(tenant.enabled)
            .bind(Moment(tenant.updated_at));
        Ok(self.write(&sql).await?.count > 0)
    }

    async fn get(&self, tenant: &str) -> Result<Option<Tenant>> {
        let sql = format!("SELECT {TENANT} FROM agentflow.tenants WHERE tenant = $1");
        let sql = Statement::new(sql).bind(tenant.to_owned());
        let rows = self.read(&sql).await?;
        rows.first().map(read_tenant).transpose()
    }

    async fn search(&self, page: &PageQuery) -> Result<Page<Tenant>> {
        filter::check_page(page, filter::TENANT_COLUMNS)?;
        let from = Statement::new("FROM agentflow.tenants");
        let order = order(page, "tenant", &[]);
        self.page(&from, TENANT, &order, page, read_tenant).await
    }
}

#[async_trait]
impl Users for Postgres {
    async fn insert(&self, scope: &Scope, user: User) -> Result<()> {
        const SQL: &str = "INSERT INTO agentflow.users (user_id, tenant, name, password, role,
                enabled, created_at, updated_at, title)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
        let taken = Error::conflict("user exists").with("name", &user.name);
        let sql = Statement::new(SQL)
            .bind(user.user_id.0)
            .bind(owner(scope))
            .bind(user.name)
            .bind(user.password)
            .bind(user.role.word().to_owned())
            .bind(user.enabled)
            .bind(Moment(user.created_at))
            .bind(Moment(user.updated_at))
            .bind(user.title);
        match self.write(&sql).await?.count {
            0 => Err(taken),
            _ => Ok(()),
        }
    }

    async fn update(&self, scope: &Scope, user: User, seen: Timestamp) -> Result<bool> {
        const SQL: &str = "UPDATE agentflow.users SET password = $3, role = $4, enabled = $5,
            updated_at = $6, title = $7
            WHERE user_id = $1 AND tenant = $2 AND updated_at = $8";
        let sql = Statement::new(SQL)
            .bind(user.user_id.0)
            .bind(owner(scope))
            .bind(user.password)
            .bind(user.role.word().to_owned())
            .bind(user.enabled)
            .bind(Moment(user.updated_at))
            .bind(user.title)
            .bind(Moment(seen));
        Ok(self.write(&sql).await?.count > 0)
    }

    async fn get(&self, scope: &Scope, id: UserId) -> Result<Option<User>> {
        let sql = format!("SELECT {USER} FROM agentflow.users WHERE user_id = $1 AND tenant = $2");
        let sql = Statement::new(sql).bind(id.0).bind(owner(scope));
        self.read(&sql).await?.first().map(read_user).transpose()
    }

    async fn named(&self, scope: &Scope, name: &str) -> Result<Option<User>> {
        let sql = format!("SELECT {USER} FROM agentflow.users WHERE tenant = $1 AND name = $2");
        let sql = Statement::new(sql).bind(owner(scope)).bind(name.to_owned());
        self.read(&sql).await?.first().map(read_user).transpose()
    }

    async fn search(&self, scope: &Scope, page: &PageQuery) -> Result<Page<User>> {
        filter::check_page(page, filter::ACCOUNT_COLUMNS)?;
        let from = Statement::new("FROM agentflow.users WHERE tenant = $1").bind(owner(scope));
        let order = order(page, "user_id", &[]);
        self.page(&from, USER, &order, page, read_user).await
    }

    async fn delete(&self, scope: &Scope, id: UserId) -> Result<bool> {
        const SQL: &str = "DELETE FROM agentflow.users WHERE user_id = $1 AND tenant = $2";
        let sql = Statement::new(SQL).bind(id.0).bind(owner(scope));
        Ok(self.write(&sql).await?.count > 0)
    }
}

#[async_trait]
impl Keys for Postgres {
    async fn insert(&self, scope: &Scope, key: ApiKey) -> Result<()> {
        const SQL: &str = "INSERT INTO agentflow.keys (key_id, tenant, name, principal, prefix,
                hash, role, scopes, created_at, created_by, expires_at, last_used_at, revoked_at,
                memories)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
            ON CONFLICT DO NOTHING";
        let sql = Statement::new(SQL)
            .bind(key.key_id.0)
            .bind(owner(scope))
            .bind(key.name)
            .bind(key.principal)
            .bind(key.prefix)
            .bind(key.hash.text())
            .bind(key.role.word().to_owned())
            .bind(key.scopes.map(|scopes| scopes.words().join(" ")))
            .bind(Moment(key.created_at))
            .bind(key.created_by)
            .bind(key.expires_at.map(Moment))
            .bind(key.last_used_at.map(Moment))
            .bind(key.revoked_at.map(Moment))
            .bind(key.memories.map(|limit| limit.text()));
        match self.write(&sql).await?.count {
            0 => Err(Error::conflict("key exists").with("key_id", key.key_id)),
            _ => Ok(()),
        }
    }

    async fn find(&self, hash: KeyHash) -> Result<Option<(String, ApiKey)>> {
        let sql = format!("SELECT {KEY}, tenant FROM agentflow.keys WHERE hash = $1");
        let rows = self.read(&Statement::new(sql).bind(hash.text())).await?;
        let found = rows.first();
        found
            .map(|row| Ok((get(row, 13)?, read_key(row)?)))
            .transpose()
    }

    async fn get(&self, scope: &Scope, id: KeyId) -> Result<Option<ApiKey>> {
        let sql = format!("SELECT {KEY} FROM agentflow.keys WHERE key_id = $1 AND tenant = $2");
        let sql = Statement::new(sql).bind(id.0).bind(owner(scope));
        self.read(&sql).await?.first().map(read_key).transpose()
    }

    async fn search(&self, scope: &Scope, page: &PageQuery) -> Result<Page<ApiKey>> {
        filter::check_page(page, filter::ACCOUNT_COLUMNS)?;
        let from = Statement::new("FROM agentflow.keys WHERE tenant = $1").bind(owner(scope));
        let order = order(page, "key_id", &[]);
        self.page(&from, KEY, &order, page, read_key).await
    }

    async fn revoke(&self, scope: &Scope, id: KeyId, at: Timestamp) -> Result<bool> {
        const SQL: &str = "UPDATE agentflow.keys SET revoked_at = coalesce(revoked_at, $3)
            WHERE key_id = $1 AND tenant = $2";
        let sql = Statement::new(SQL)
            .bind(id.0)
            .bind(owner(scope))
            .bind(Moment(at));
        Ok(self.write(&sql).await?.count > 0)
    }

    async fn used(&self, keys: &[(KeyId, Timestamp)]) -> Result<()> {
        const SQL: &str = "UPDATE agentflow.keys AS k SET last_used_at = u.at
            FROM (SELECT id, max(at) AS at FROM unnest($1, $2) AS t (id, at) GROUP BY id) AS u
            WHERE k.key_id = u.id AND coalesce(k.last_used_at, u.at) <= u.at";
        if keys.is_empty() {
            return Ok(());
        }
        let sql = Statement::new(SQL)
            .bind(keys.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
            .bind(keys.iter().map(|(_, at)| Moment(*at)).collect::<Vec<_>>());
        self.write(&sql).await.map(drop)
    }
}
