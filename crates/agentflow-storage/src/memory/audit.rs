//! The log of changes in memory.

use agentflow_types::{Error, Result, Scope, Timestamp};
use async_trait::async_trait;

use super::Memory;
use crate::{
    audit::{Audit, AuditQuery, Entry},
    page::Page,
};

/// An entry with its owner.
#[derive(Clone)]
pub(super) struct Logged {
    tenant: String,
    entry: Entry,
}

fn matches(query: &AuditQuery, entry: &Entry) -> bool {
    let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|w| w == found);
    is(&query.principal, &entry.principal)
        && is(&query.action, &entry.action)
        && is(&query.target, &entry.target)
        && query.since.is_none_or(|since| entry.at >= since)
        && query.until.is_none_or(|until| entry.at < until)
}

#[async_trait]
impl Audit for Memory {
    async fn append(&self, scope: &Scope, entry: Entry) -> Result<()> {
        let mut tables = self.lock();
        let key = (entry.at, entry.entry_id);
        let is_taken = |logged: &Logged| logged.entry.entry_id == entry.entry_id;
        if tables.audit.values().any(is_taken) {
            return Err(Error::conflict("audit entry exists").with("entry_id", entry.entry_id));
        }
        let tenant = scope.tenant().to_owned();
        tables.audit.insert(key, Logged { tenant, entry });
        Ok(())
    }

    async fn search(&self, scope: &Scope, query: &AuditQuery) -> Result<Page<Entry>> {
        let tables = self.lock();
        let found: Vec<&Entry> = tables
            .audit
            .values()
            .rev()
            .filter(|logged| logged.tenant == scope.tenant())
            .map(|logged| &logged.entry)
            .filter(|entry| matches(query, entry))
            .collect();
        let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
        Ok(Page {
            total: found.len() as u64,
            items: found
                .into_iter()
                .skip(offset)
                .take(query.limit as usize)
                .cloned()
                .collect(),
        })
    }

    async fn sweep(&self, before: Timestamp, keep: u64, limit: u32) -> Result<u64> {
        let mut tables = self.lock();
        let old = tables.audit.keys().take_while(|(at, _)| *at < before);
        let beyond = (tables.audit.len() as u64).saturating_sub(keep);
        let many = (old.count() as u64).max(beyond).min(limit.into());
        for _ in 0..many {
            tables.audit.pop_first();
        }
        Ok(many)
    }
}
