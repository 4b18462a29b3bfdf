//! Crons.

use agentflow_storage::{
    cron::{Cron, CronQuery, Crons},
    filter, json,
    page::{Page, PageQuery},
};
use agentflow_types::{CronId, Error, Result, Rights, Scope, Timestamp};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params, types::Value as Sql};

use crate::{
    Embedded,
    column::{self, all, execute, first, get, id, map, order, some_id, some_time, text, time},
};

const COLUMNS: &str = "cron_id, assistant_id, thread_id, on_run_completed, end_time, schedule, \
    timezone, created_at, updated_at, user_id, payload, next_run_date, metadata, enabled, rights";

fn read(row: &Row<'_>) -> Result<Cron> {
    Ok(Cron {
        cron_id: id(row, 0)?,
        assistant_id: id(row, 1)?,
        thread_id: some_id(row, 2)?,
        on_run_completed: get(row, 3)?,
        end_time: some_time(row, 4)?,
        schedule: get(row, 5)?,
        timezone: get(row, 6)?,
        created_at: time(row, 7)?,
        updated_at: time(row, 8)?,
        user_id: get(row, 9)?,
        payload: map(row, 10)?,
        next_run_date: some_time(row, 11)?,
        metadata: map(row, 12)?,
        enabled: get(row, 13)?,
        rights: Rights::parse(text(row, 14)?),
    })
}

fn conditions(tenant: &str, query: &CronQuery) -> Result<(String, Vec<Sql>)> {
    let mut sql = "tenant = ?".to_owned();
    let mut values: Vec<Sql> = vec![tenant.to_owned().into()];
    if let Some(id) = query.assistant_id {
        sql.push_str(" AND assistant_id = ?");
        values.push(id.text().into());
    }
    if let Some(id) = query.thread_id {
        sql.push_str(" AND thread_id = ?");
        values.push(id.text().into());
    }
    if let Some(enabled) = query.enabled {
        sql.push_str(" AND enabled = ?");
        values.push(enabled.into());
    }
    if !query.metadata.is_empty() {
        sql.push_str(" AND agentflow_contains(metadata, ?)");
        values.push(json::map_text(&query.metadata)?.into());
    }
    Ok((sql, values))
}

#[async_trait]
impl Crons for Embedded {
    async fn put(&self, scope: &Scope, cron: Cron) -> Result<()> {
        let scope = scope.clone();
        let (payload, metadata) = (
            json::map_text(&cron.payload)?,
            json::map_text(&cron.metadata)?,
        );
        self.write(move |db| {
            let sql = "INSERT INTO agentflow_crons (cron_id, tenant, principal, assistant_id,
                    thread_id, on_run_completed, end_time, schedule, timezone, created_at,
                    updated_at, user_id, payload, next_run_date, metadata, enabled, rights)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
                    ?17)
                ON CONFLICT (cron_id) DO UPDATE SET (principal, assistant_id, thread_id,
                    on_run_completed, end_time, schedule, timezone, created_at, updated_at,
                    user_id, payload, next_run_date, metadata, enabled, rights) = (excluded.principal,
                    excluded.assistant_id, excluded.thread_id, excluded.on_run_completed,
                    excluded.end_time, excluded.schedule, excluded.timezone, excluded.created_at,
                    excluded.updated_at, excluded.user_id, excluded.payload,
                    excluded.next_run_date, excluded.metadata, excluded.enabled,
                    excluded.rights)
                WHERE tenant = excluded.tenant";
            let values = params![
                cron.cron_id.text(),
                scope.tenant(),
                scope.principal(),
                cron.assistant_id.text(),
                cron.thread_id.map(|id| id.text()),
                cron.on_run_completed,
                cron.end_time.map(|end| end.0),
                cron.schedule,
                cron.timezone,
                cron.created_at.0,
                cron.updated_at.0,
                cron.user_id,
                payload,
                cron.next_run_date.map(|next| next.0),
                metadata,
                cron.enabled,
                cron.rights.text(),
            ];
            if execute(db, sql, values)? == 0 {
                return Err(Error::conflict("cron id is taken").with("cron_id", cron.cron_id));
            }
            Ok(())
        })
        .await
    }

    async fn get(&self, scope: &Scope, id: CronId) -> Result<Option<Cron>> {
        let tenant = scope.tenant().to_owned();
        self.read(move |db| {
            let sql =
                format!("SELECT {COLUMNS} FROM agentflow_crons WHERE cron_id = ?1 AND tenant = ?2");
            first(db, &sql, [&id.text(), &tenant], read)
        })
        .await
    }

    async fn delete(&self, scope: &Scope, id: CronId) -> Result<bool> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            let sql = "DELETE FROM agentflow_crons WHERE cron_id = ?1 AND tenant = ?2";
            Ok(execute(db, sql, [&id.text(), &tenant])? > 0)
        })
        .await
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &CronQuery,
        page: &PageQuery,
    ) -> Result<Page<Cron>> {
        filter::check_page(page, filter::CRON_COLUMNS)?;
        let (conditions, values) = conditions(scope.tenant(), query)?;
        let order = order(page, "cron_id");
        self.read(move |db| {
            let from = format!("FROM agentflow_crons WHERE {conditions}");
            column::page(db, COLUMNS, &from, &order, &values, read)
        })
        .await
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<(Scope, Cron)>> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS}, tenant, principal FROM agentflow_crons
                WHERE enabled AND next_run_date IS NOT NULL AND next_run_date <= ?1
                    AND (end_time IS NULL OR next_run_date <= end_time)
                ORDER BY next_run_date, cron_id LIMIT ?2"
            );
            all(db, &sql, params![now.0, limit], |row| {
                Ok((Scope::new(text(row, 15)?, text(row, 16)?), read(row)?))
            })
        })
        .await
    }

    async fn advance(
        &self,
        id: CronId,
        expected: Timestamp,
        next: Option<Timestamp>,
    ) -> Result<bool> {
        self.write(move |db| advance(db, id, expected, next)).await
    }
}

/// Moves the next firing; false if it is not the expected one.
pub(crate) fn advance(
    db: &Connection,
    id: CronId,
    expected: Timestamp,
    next: Option<Timestamp>,
) -> Result<bool> {
    let sql = "UPDATE agentflow_crons SET next_run_date = ?3
        WHERE cron_id = ?1 AND next_run_date = ?2";
    let values = params![id.text(), expected.0, next.map(|next| next.0)];
    Ok(execute(db, sql, values)? > 0)
}

/// Moves the next firing of a tenant's cron; false if it is not the expected one.
pub(crate) fn advance_of(
    db: &Connection,
    tenant: &str,
    id: CronId,
    expected: Timestamp,
    next: Option<Timestamp>,
) -> Result<bool> {
    let sql = "UPDATE agentflow_crons SET next_run_date = ?3
        WHERE cron_id = ?1 AND next_run_date = ?2 AND tenant = ?4";
    let values = params![id.text(), expected.0, next.map(|next| next.0), tenant];
    Ok(execute(db, sql, values)? > 0)
}
