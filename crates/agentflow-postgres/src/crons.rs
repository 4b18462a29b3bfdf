//! Crons.

use agentflow_storage::{
    cron::{Cron, CronQuery, Crons},
    filter, json,
    page::{Page, PageQuery},
};
use agentflow_types::{CronId, Error, Result, Rights, Scope, Timestamp};
use async_trait::async_trait;
use tokio_postgres::Row;

use crate::{
    Postgres,
    column::{Moment, get, id, map, order, some_id, some_time, time},
    searchable,
    statement::Statement,
};

const COLUMNS: &str = "cron_id, assistant_id, thread_id, on_run_completed, end_time, schedule, \
    timezone, created_at, updated_at, user_id, payload, next_run_date, metadata, enabled, rights";
/// Sort columns that may be absent.
const NULLABLE: &[&str] = &["thread_id", "next_run_date", "end_time"];

fn read(row: &Row) -> Result<Cron> {
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
        rights: Rights::parse(get(row, 14)?),
    })
}

fn matching(scope: &Scope, query: &CronQuery) -> Result<Statement> {
    let mut sql =
        Statement::new("FROM agentflow.crons WHERE tenant = $1").bind(scope.tenant().to_owned());
    if let Some(id) = query.assistant_id {
        sql = sql.and(" AND assistant_id = ", id.0, "");
    }
    if let Some(id) = query.thread_id {
        sql = sql.and(" AND thread_id = ", id.0, "");
    }
    if let Some(enabled) = query.enabled {
        sql = sql.and(" AND enabled = ", enabled, "");
    }
    if !query.metadata.is_empty() {
        let metadata = searchable::map_text(&query.metadata)?;
        sql = sql.and(" AND metadata_search @> ", metadata, "::jsonb");
    }
    Ok(sql)
}

#[async_trait]
impl Crons for Postgres {
    async fn put(&self, scope: &Scope, cron: Cron) -> Result<()> {
        const SQL: &str = "INSERT INTO agentflow.crons AS c (cron_id, tenant, principal,
                assistant_id, thread_id, on_run_completed, end_time, schedule, timezone,
                created_at, updated_at, user_id, payload, next_run_date, metadata,
                metadata_search, enabled, rights)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                $16::jsonb, $17, $18)
            ON CONFLICT (cron_id) DO UPDATE SET (principal, assistant_id, thread_id,
                on_run_completed, end_time, schedule, timezone, created_at, updated_at, user_id,
                payload, next_run_date, metadata, metadata_search, enabled, rights) =
                (excluded.principal, excluded.assistant_id, excluded.thread_id,
                excluded.on_run_completed, excluded.end_time, excluded.schedule,
                excluded.timezone, excluded.created_at, excluded.updated_at, excluded.user_id,
                excluded.payload, excluded.next_run_date, excluded.metadata,
                excluded.metadata_search, excluded.enabled, excluded.rights)
            WHERE c.tenant = excluded.tenant";
        let sql = Statement::new(SQL)
            .bind(cron.cron_id.0)
            .bind(scope.tenant().to_owned())
            .bind(scope.principal().to_owned())
            .bind(cron.assistant_id.0)
            .bind(cron.thread_id.map(|id| id.0))
            .bind(cron.on_run_completed)
            .bind(cron.end_time.map(Moment))
            .bind(cron.schedule)
            .bind(cron.timezone)
            .bind(Moment(cron.created_at))
            .bind(Moment(cron.updated_at))
            .bind(cron.user_id)
            .bind(json::map_text(&cron.payload)?)
            .bind(cron.next_run_date.map(Moment))
            .bind(json::map_text(&cron.metadata)?)
            .bind(searchable::map_text(&cron.metadata)?)
            .bind(cron.enabled)
            .bind(cron.rights.text());
        if self.write(&sql).await?.count == 0 {
            return Err(Error::conflict("cron id is taken").with("cron_id", cron.cron_id));
        }
        Ok(())
    }

    async fn get(&self, scope: &Scope, id: CronId) -> Result<Option<Cron>> {
        let sql =
            format!("SELECT {COLUMNS} FROM agentflow.crons WHERE cron_id = $1 AND tenant = $2");
        let sql = Statement::new(sql)
            .bind(id.0)
            .bind(scope.tenant().to_owned());
        self.read(&sql).await?.first().map(read).transpose()
    }

    async fn delete(&self, scope: &Scope, id: CronId) -> Result<bool> {
        const SQL: &str = "DELETE FROM agentflow.crons WHERE cron_id = $1 AND tenant = $2";
        let sql = Statement::new(SQL)
            .bind(id.0)
            .bind(scope.tenant().to_owned());
        Ok(self.write(&sql).await?.count > 0)
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &CronQuery,
        page: &PageQuery,
    ) -> Result<Page<Cron>> {
        filter::check_page(page, filter::CRON_COLUMNS)?;
        let order = order(page, "cron_id", NULLABLE);
        self.page(&matching(scope, query)?, COLUMNS, &order, page, read)
            .await
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<(Scope, Cron)>> {
        let sql = format!(
            "SELECT {COLUMNS}, tenant, principal FROM agentflow.crons
            WHERE enabled AND next_run_date IS NOT NULL AND next_run_date <= $1
                AND (end_time IS NULL OR next_run_date <= end_time)
            ORDER BY next_run_date, cron_id LIMIT $2"
        );
        let sql = Statement::new(sql).bind(Moment(now)).bind(i64::from(limit));
        let due = |row: &Row| Ok((Scope::new(get(row, 15)?, get(row, 16)?), read(row)?));
        self.read(&sql).await?.iter().map(due).collect()
    }

    async fn advance(
        &self,
        id: CronId,
        expected: Timestamp,
        next: Option<Timestamp>,
    ) -> Result<bool> {
        const SQL: &str = "UPDATE agentflow.crons SET next_run_date = $3
            WHERE cron_id = $1 AND next_run_date = $2";
        let sql = Statement::new(SQL)
            .bind(id.0)
            .bind(Moment(expected))
            .bind(next.map(Moment));
        Ok(self.write(&sql).await?.count > 0)
    }
}

/// Moves the next firing of a tenant's cron; a statement that fails, by a division by zero, if it is not the
/// expected one.
pub(crate) fn must_advance(
    scope: &Scope,
    id: CronId,
    expected: Timestamp,
    next: Option<Timestamp>,
) -> Statement {
    const SQL: &str = "WITH moved AS (UPDATE agentflow.crons SET next_run_date = $3
            WHERE cron_id = $1 AND next_run_date = $2 AND tenant = $4 RETURNING cron_id)
        SELECT 1 / (SELECT count(*) FROM moved)";
    Statement::new(SQL)
        .bind(id.0)
        .bind(Moment(expected))
        .bind(next.map(Moment))
        .bind(scope.tenant().to_owned())
}
