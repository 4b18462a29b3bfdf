//! The log of changes.

use agentflow_storage::{
    audit::{Audit, AuditQuery, Entry},
    page::{Page, PageQuery},
};
use agentflow_types::{Error, Result, Scope, Timestamp};
use async_trait::async_trait;
use tokio_postgres::Row;

use crate::{
    Postgres,
    column::{Moment, count, get, time},
    statement::Statement,
};

const COLUMNS: &str = "entry_id, at, principal, action, target, request_id, outcome";

fn read(row: &Row) -> Result<Entry> {
    Ok(Entry {
        entry_id: get(row, 0)?,
        at: time(row, 1)?,
        principal: get(row, 2)?,
        action: get(row, 3)?,
        target: get(row, 4)?,
        request_id: get(row, 5)?,
        outcome: get(row, 6)?,
    })
}

fn matching(scope: &Scope, query: &AuditQuery) -> Statement {
    let mut sql = Statement::new("FROM agentflow.audit WHERE tenant = $1");
    sql = sql.bind(scope.tenant().to_owned());
    let texts = [
        (" AND principal = ", &query.principal),
        (" AND action = ", &query.action),
        (" AND target = ", &query.target),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            sql = sql.and(condition, text.clone(), "");
        }
    }
    for (condition, at) in [(" AND at >= ", query.since), (" AND at < ", query.until)] {
        if let Some(at) = at {
            sql = sql.and(condition, Moment(at), "");
        }
    }
    sql
}

#[async_trait]
impl Audit for Postgres {
    async fn append(&self, scope: &Scope, entry: Entry) -> Result<()> {
        const SQL: &str = "INSERT INTO agentflow.audit (entry_id, tenant, at, principal, action,
                target, request_id, outcome)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
        let sql = Statement::new(SQL)
            .bind(entry.entry_id)
            .bind(scope.tenant().to_owned())
            .bind(Moment(entry.at))
            .bind(entry.principal)
            .bind(entry.action)
            .bind(entry.target)
            .bind(entry.request_id)
            .bind(entry.outcome);
        match self.write(&sql).await?.count {
            0 => Err(Error::conflict("audit entry exists").with("entry_id", entry.entry_id)),
            _ => Ok(()),
        }
    }

    async fn search(&self, scope: &Scope, query: &AuditQuery) -> Result<Page<Entry>> {
        let page = PageQuery {
            limit: query.limit,
            offset: query.offset,
            sort_by: "at".into(),
            ..PageQuery::default()
        };
        let order = format!(
            " ORDER BY at DESC, entry_id DESC LIMIT {} OFFSET {}",
            query.limit,
            count(query.offset)
        );
        self.page(&matching(scope, query), COLUMNS, &order, &page, read)
            .await
    }

    async fn sweep(&self, before: Timestamp, keep: u64, limit: u32) -> Result<u64> {
        const SQL: &str = "DELETE FROM agentflow.audit WHERE entry_id IN (
            SELECT entry_id FROM agentflow.audit ORDER BY at, entry_id
            LIMIT least($3, greatest(
                (SELECT count(*) FROM agentflow.audit WHERE at < $1),
                (SELECT count(*) FROM agentflow.audit) - $2)))";
        // The limit must not be negative: more may be kept than there is.
        let sql = Statement::new(SQL)
            .bind(Moment(before))
            .bind(count(keep))
            .bind(i64::from(limit));
        Ok(self.write(&sql).await?.count)
    }
}
