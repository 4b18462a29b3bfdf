//! Long-term items in memory.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use agentflow_types::{Map, Result, Scope, Timestamp};
use async_trait::async_trait;

use super::Memory;
use crate::{
    filter,
    store::{Item, ItemQuery, NamespaceQuery, PutItem, Refresh, Store, expiry},
};

/// Tenant, namespace, key.
pub(super) type ItemKey = (Arc<str>, Vec<String>, String);

#[derive(Clone)]
pub(super) struct ItemRow {
    value: Map,
    created_at: Timestamp,
    updated_at: Timestamp,
    ttl_minutes: Option<f64>,
    expires_at: Option<Timestamp>,
}

impl ItemRow {
    fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    fn refresh(&mut self, now: Timestamp, refresh: Refresh) {
        if refresh == Refresh::Yes {
            self.expires_at = expiry(now, self.ttl_minutes);
        }
    }

    fn item(&self, namespace: &[String], key: &str) -> Item {
        Item {
            namespace: namespace.to_vec(),
            key: key.to_owned(),
            value: self.value.clone(),
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

#[async_trait]
impl Store for Memory {
    async fn put(&self, scope: &Scope, now: Timestamp, items: Vec<PutItem>) -> Result<()> {
        for item in &items {
            filter::check_namespace(&item.namespace)?;
        }
        let tenant: Arc<str> = scope.tenant().into();
        let mut tables = self.lock();
        for put in items {
            let key = (tenant.clone(), put.namespace, put.key);
            let known = tables.items.get(&key).filter(|row| row.is_live(now));
            let row = ItemRow {
                value: filter::normal_map(&put.value),
                created_at: known.map_or(now, |row| row.created_at),
                updated_at: now,
                ttl_minutes: put.ttl_minutes,
                expires_at: expiry(now, put.ttl_minutes),
            };
            tables.items.insert(key, row);
        }
        Ok(())
    }

    async fn get(
        &self,
        scope: &Scope,
        now: Timestamp,
        namespace: &[String],
        key: &str,
        refresh: Refresh,
    ) -> Result<Option<Item>> {
        let at = (scope.tenant().into(), namespace.to_vec(), key.to_owned());
        let mut tables = self.lock();
        let row = tables.items.get_mut(&at).filter(|row| row.is_live(now));
        Ok(row.map(|row| {
            row.refresh(now, refresh);
            row.item(namespace, key)
        }))
    }

    async fn delete(&self, scope: &Scope, namespace: &[String], key: &str) -> Result<()> {
        let at = (scope.tenant().into(), namespace.to_vec(), key.to_owned());
        self.lock().items.remove(&at);
        Ok(())
    }

    async fn search(&self, scope: &Scope, now: Timestamp, query: &ItemQuery) -> Result<Vec<Item>> {
        filter::check_labels(&query.namespace_prefix)?;
        filter::check_item_filter(&query.filter)?;
        let conditions = filter::normal_map(&query.filter);
        let mut tables = self.lock();
        let mut found: Vec<(&ItemKey, &mut ItemRow)> = tables
            .items
            .iter_mut()
            .filter(|((tenant, namespace, _), row)| {
                &**tenant == scope.tenant()
                    && namespace.starts_with(&query.namespace_prefix)
                    && row.is_live(now)
                    && filter::item_matches(&row.value, &conditions)
            })
            .collect();
        found.sort_by_key(|(key, row)| (Reverse(row.updated_at), key.1.clone(), key.2.clone()));
        let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let hits = found.into_iter().skip(offset).take(query.limit as usize);
        Ok(hits
            .map(|((_, namespace, key), row)| {
                row.refresh(now, query.refresh);
                row.item(namespace, key)
            })
            .collect())
    }

    async fn namespaces(
        &self,
        scope: &Scope,
        now: Timestamp,
        query: &NamespaceQuery,
    ) -> Result<Vec<Vec<String>>> {
        filter::check_labels(&query.prefix)?;
        filter::check_labels(&query.suffix)?;
        let depth = query.max_depth.map_or(usize::MAX, |depth| depth as usize);
        let tables = self.lock();
        let distinct: BTreeSet<&[String]> = tables
            .items
            .iter()
            .filter(|((tenant, namespace, _), row)| {
                &**tenant == scope.tenant()
                    && row.is_live(now)
                    && filter::namespace_matches(namespace, &query.prefix, &query.suffix)
            })
            .map(|((_, namespace, _), _)| &namespace[..namespace.len().min(depth)])
            .collect();
        let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let page = distinct.into_iter().skip(offset).take(query.limit as usize);
        Ok(page.map(<[String]>::to_vec).collect())
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        let mut tables = self.lock();
        let dead = tables.items.iter().filter(|(_, row)| !row.is_live(now));
        let dead: Vec<ItemKey> = dead
            .map(|(key, _)| key.clone())
            .take(limit as usize)
            .collect();
        for key in &dead {
            tables.items.remove(key);
        }
        Ok(dead.len() as u64)
    }
}
