//! Crons in memory.

use std::cmp::Ordering;

use agentflow_types::{CronId, Error, Result, Scope, Timestamp};
use async_trait::async_trait;

use super::{CronRow, Memory, Tables, records::paged};
use crate::{
    cron::{Cron, CronQuery, Crons},
    filter,
    page::{Page, PageQuery},
};

fn matches(query: &CronQuery, cron: &Cron) -> bool {
    query.assistant_id.is_none_or(|id| id == cron.assistant_id)
        && query.thread_id.is_none_or(|id| Some(id) == cron.thread_id)
        && query.enabled.is_none_or(|enabled| enabled == cron.enabled)
        && filter::contains_map(&cron.metadata, &query.metadata)
}

impl Tables {
    /// Checks that the next firing of a cron of the tenant is `expected`.
    pub(super) fn check_cron(&self, scope: &Scope, id: CronId, expected: Timestamp) -> Result<()> {
        let row = self.crons.get(&id);
        match row.filter(|row| &*row.tenant == scope.tenant()) {
            Some(row) if row.cron.next_run_date == Some(expected) => Ok(()),
            _ => Err(crate::cron::moved(id)),
        }
    }
}

#[async_trait]
impl Crons for Memory {
    async fn put(&self, scope: &Scope, cron: Cron) -> Result<()> {
        let mut tables = self.lock();
        let id = cron.cron_id;
        if tables
            .crons
            .get(&id)
            .is_some_and(|row| &*row.tenant != scope.tenant())
        {
            return Err(Error::conflict("cron id is taken").with("cron_id", id));
        }
        let cron = Cron {
            payload: filter::normal_map(&cron.payload),
            metadata: filter::normal_map(&cron.metadata),
            ..cron
        };
        let (tenant, principal) = (scope.tenant().into(), scope.principal().into());
        tables.crons.insert(
            id,
            CronRow {
                tenant,
                principal,
                cron,
            },
        );
        Ok(())
    }

    async fn get(&self, scope: &Scope, id: CronId) -> Result<Option<Cron>> {
        let tables = self.lock();
        let row = tables
            .crons
            .get(&id)
            .filter(|row| &*row.tenant == scope.tenant());
        Ok(row.map(|row| row.cron.clone()))
    }

    async fn delete(&self, scope: &Scope, id: CronId) -> Result<bool> {
        let mut tables = self.lock();
        let owned = tables
            .crons
            .get(&id)
            .is_some_and(|row| &*row.tenant == scope.tenant());
        Ok(owned && tables.crons.remove(&id).is_some())
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &CronQuery,
        page: &PageQuery,
    ) -> Result<Page<Cron>> {
        filter::check_page(page, filter::CRON_COLUMNS)?;
        let query = CronQuery {
            metadata: filter::normal_map(&query.metadata),
            ..query.clone()
        };
        let tables = self.lock();
        let rows = tables
            .crons
            .values()
            .filter(|row| &*row.tenant == scope.tenant());
        let rows = rows
            .map(|row| &row.cron)
            .filter(|cron| matches(&query, cron))
            .collect();
        Ok(paged(rows, page, |a, b| {
            let by_column = match page.sort_by.as_str() {
                "assistant_id" => a.assistant_id.cmp(&b.assistant_id),
                "thread_id" => a.thread_id.cmp(&b.thread_id),
                "next_run_date" => a.next_run_date.cmp(&b.next_run_date),
                "end_time" => a.end_time.cmp(&b.end_time),
                "created_at" => a.created_at.cmp(&b.created_at),
                "updated_at" => a.updated_at.cmp(&b.updated_at),
                _ => Ordering::Equal,
            };
            by_column.then_with(|| a.cron_id.cmp(&b.cron_id))
        }))
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<(Scope, Cron)>> {
        let tables = self.lock();
        let mut due: Vec<(Timestamp, &CronRow)> = tables
            .crons
            .values()
            .filter(|row| row.cron.enabled)
            .filter_map(|row| Some((row.cron.next_run_date?, row)))
            .filter(|(next, row)| *next <= now && row.cron.end_time.is_none_or(|end| *next <= end))
            .collect();
        due.sort_by_key(|(next, row)| (*next, row.cron.cron_id));
        let found = due.into_iter().take(limit as usize);
        Ok(found
            .map(|(_, row)| (Scope::new(&row.tenant, &row.principal), row.cron.clone()))
            .collect())
    }

    async fn advance(
        &self,
        id: CronId,
        expected: Timestamp,
        next: Option<Timestamp>,
    ) -> Result<bool> {
        let mut tables = self.lock();
        let row = tables.crons.get_mut(&id);
        let Some(row) = row.filter(|row| row.cron.next_run_date == Some(expected)) else {
            return Ok(false);
        };
        row.cron.next_run_date = next;
        Ok(true)
    }
}
