//! Tenants, users and keys in memory.

use std::cmp::Ordering;

use agentflow_types::{Error, KeyId, Result, Scope, Timestamp, UserId};
use async_trait::async_trait;

use super::{Memory, Tables, records::paged};
use crate::{
    account::{ApiKey, KeyHash, Keys, Tenant, Tenants, User, Users},
    filter,
    page::{Page, PageQuery},
};

/// A row with its owner.
#[derive(Clone)]
pub(super) struct Owned<T> {
    tenant: String,
    row: T,
}

impl<T> Owned<T> {
    fn new(scope: &Scope, row: T) -> Self {
        Self {
            tenant: scope.tenant().to_owned(),
            row,
        }
    }

    fn of(&self, scope: &Scope) -> bool {
        self.tenant == scope.tenant()
    }
}

#[async_trait]
impl Tenants for Memory {
    async fn insert(&self, tenant: Tenant) -> Result<()> {
        let mut tables = self.lock();
        if tables.tenants.contains_key(&tenant.tenant) {
            return Err(Error::conflict("tenant exists").with("tenant", &tenant.tenant));
        }
        tables.tenants.insert(tenant.tenant.clone(), tenant);
        Ok(())
    }

    async fn update(&self, tenant: Tenant) -> Result<bool> {
        let mut tables = self.lock();
        Ok(tables.tenants.get_mut(&tenant.tenant).is_some_and(|row| {
            *row = Tenant {
                created_at: row.created_at,
                ..tenant
            };
            true
        }))
    }

    async fn get(&self, tenant: &str) -> Result<Option<Tenant>> {
        Ok(self.lock().tenants.get(tenant).cloned())
    }

    async fn search(&self, page: &PageQuery) -> Result<Page<Tenant>> {
        filter::check_page(page, filter::TENANT_COLUMNS)?;
        let tables = self.lock();
        Ok(paged(tables.tenants.values().collect(), page, |a, b| {
            let by_column = match page.sort_by.as_str() {
                "created_at" => a.created_at.cmp(&b.created_at),
                _ => Ordering::Equal,
            };
            by_column.then_with(|| a.tenant.cmp(&b.tenant))
        }))
    }
}

#[async_trait]
impl Users for Memory {
    async fn insert(&self, scope: &Scope, user: User) -> Result<()> {
        let mut tables = self.lock();
        let named = |owned: &Owned<User>| owned.of(scope) && owned.row.name == user.name;
        if tables.users.contains_key(&user.user_id) || tables.users.values().any(named) {
            return Err(Error::conflict("user exists").with("name", &user.name));
        }
        tables.users.insert(user.user_id, Owned::new(scope, user));
        Ok(())
    }

    async fn update(&self, scope: &Scope, user: User, seen: Timestamp) -> Result<bool> {
        let mut tables = self.lock();
        let row = tables.users.get_mut(&user.user_id);
        let row = row.filter(|owned| owned.of(scope) && owned.row.updated_at == seen);
        Ok(row.is_some_and(|owned| {
            owned.row = User {
                name: owned.row.name.clone(),
                created_at: owned.row.created_at,
                ..user
            };
            true
        }))
    }

    async fn get(&self, scope: &Scope, id: UserId) -> Result<Option<User>> {
        let tables = self.lock();
        let row = tables.users.get(&id).filter(|owned| owned.of(scope));
        Ok(row.map(|owned| owned.row.clone()))
    }

    async fn named(&self, scope: &Scope, name: &str) -> Result<Option<User>> {
        let tables = self.lock();
        let mut rows = tables.users.values().filter(|owned| owned.of(scope));
        Ok(rows
            .find(|owned| owned.row.name == name)
            .map(|owned| owned.row.clone()))
    }

    async fn search(&self, scope: &Scope, page: &PageQuery) -> Result<Page<User>> {
        filter::check_page(page, filter::ACCOUNT_COLUMNS)?;
        let tables = self.lock();
        let rows = tables.users.values().filter(|owned| owned.of(scope));
        Ok(paged(
            rows.map(|owned| &owned.row).collect(),
            page,
            |a, b| {
                let by_column = match page.sort_by.as_str() {
                    "name" => a.name.cmp(&b.name),
                    _ => a.created_at.cmp(&b.created_at),
                };
                by_column.then_with(|| a.user_id.cmp(&b.user_id))
            },
        ))
    }

    async fn delete(&self, scope: &Scope, id: UserId) -> Result<bool> {
        let mut tables = self.lock();
        let owned = tables.users.get(&id).is_some_and(|owned| owned.of(scope));
        Ok(owned && tables.users.remove(&id).is_some())
    }
}

impl Tables {
    fn key_of(&self, hash: KeyHash) -> Option<&Owned<ApiKey>> {
        self.keys.values().find(|owned| owned.row.hash == hash)
    }
}

#[async_trait]
impl Keys for Memory {
    async fn insert(&self, scope: &Scope, key: ApiKey) -> Result<()> {
        let mut tables = self.lock();
        if tables.keys.contains_key(&key.key_id) || tables.key_of(key.hash).is_some() {
            return Err(Error::conflict("key exists").with("key_id", key.key_id));
        }
        tables.keys.insert(key.key_id, Owned::new(scope, key));
        Ok(())
    }

    async fn find(&self, hash: KeyHash) -> Result<Option<(String, ApiKey)>> {
        let tables = self.lock();
        let found = tables.key_of(hash);
        Ok(found.map(|owned| (owned.tenant.clone(), owned.row.clone())))
    }

    async fn get(&self, scope: &Scope, id: KeyId) -> Result<Option<ApiKey>> {
        let tables = self.lock();
        let row = tables.keys.get(&id).filter(|owned| owned.of(scope));
        Ok(row.map(|owned| owned.row.clone()))
    }

    async fn search(&self, scope: &Scope, page: &PageQuery) -> Result<Page<ApiKey>> {
        filter::check_page(page, filter::ACCOUNT_COLUMNS)?;
        let tables = self.lock();
        let rows = tables.keys.values().filter(|owned| owned.of(scope));
        Ok(paged(
            rows.map(|owned| &owned.row).collect(),
            page,
            |a, b| {
                let by_column = match page.sort_by.as_str() {
                    "name" => a.name.cmp(&b.name),
                    _ => a.created_at.cmp(&b.created_at),
                };
                by_column.then_with(|| a.key_id.cmp(&b.key_id))
            },
        ))
    }

    async fn revoke(&self, scope: &Scope, id: KeyId, at: Timestamp) -> Result<bool> {
        let mut tables = self.lock();
        let row = tables.keys.get_mut(&id).filter(|owned| owned.of(scope));
        Ok(row.is_some_and(|owned| {
            owned.row.revoked_at.get_or_insert(at);
            true
        }))
    }

    async fn used(&self, keys: &[(KeyId, Timestamp)]) -> Result<()> {
        let mut tables = self.lock();
        for (id, at) in keys {
            if let Some(owned) = tables.keys.get_mut(id) {
                owned.row.last_used_at = owned.row.last_used_at.max(Some(*at));
            }
        }
        Ok(())
    }
}
