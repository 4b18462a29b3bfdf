//! The log of changes.

use agentflow_storage::{
    audit::{Audit, AuditQuery, Entry},
    page::Page,
};
use agentflow_types::{Error, Result, Scope, Timestamp};
use async_trait::async_trait;
use rusqlite::{Row, params, types::Value as Sql};
use uuid::Uuid;

use crate::{
    Embedded,
    column::{self, count, execute, get, text, time},
};

const COLUMNS: &str = "entry_id, at, principal, action, target, request_id, outcome";

fn read(row: &Row<'_>) -> Result<Entry> {
    Ok(Entry {
        entry_id: Uuid::parse_str(text(row, 0)?)
            .map_err(|err| Error::corrupt("a stored id is not one").source_err(err))?,
        at: time(row, 1)?,
        principal: get(row, 2)?,
        action: get(row, 3)?,
        target: get(row, 4)?,
        request_id: get(row, 5)?,
        outcome: get(row, 6)?,
    })
}

fn conditions(scope: &Scope, query: &AuditQuery) -> (String, Vec<Sql>) {
    let mut sql = "FROM agentflow_audit WHERE tenant = ?".to_owned();
    let mut values: Vec<Sql> = vec![scope.tenant().to_owned().into()];
    let texts = [
        (" AND principal = ?", &query.principal),
        (" AND action = ?", &query.action),
        (" AND target = ?", &query.target),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            sql.push_str(condition);
            values.push(text.clone().into());
        }
    }
    for (condition, at) in [(" AND at >= ?", query.since), (" AND at < ?", query.until)] {
        if let Some(at) = at {
            sql.push_str(condition);
            values.push(at.0.into());
        }
    }
    (sql, values)
}

#[async_trait]
impl Audit for Embedded {
    async fn append(&self, scope: &Scope, entry: Entry) -> Result<()> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            let sql = "INSERT INTO agentflow_audit (entry_id, tenant, at, principal, action,
                    target, request_id, outcome)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING";
            let values = params![
                entry.entry_id.to_string(),
                tenant,
                entry.at.0,
                entry.principal,
                entry.action,
                entry.target,
                entry.request_id,
                entry.outcome,
            ];
            match execute(db, sql, values)? {
                0 => Err(Error::conflict("audit entry exists").with("entry_id", entry.entry_id)),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn search(&self, scope: &Scope, query: &AuditQuery) -> Result<Page<Entry>> {
        let (from, values) = conditions(scope, query);
        let offset = i64::try_from(query.offset).unwrap_or(i64::MAX);
        let order = format!(
            " ORDER BY at DESC, entry_id DESC LIMIT {} OFFSET {offset}",
            query.limit
        );
        self.read(move |db| column::page(db, COLUMNS, &from, &order, &values, read))
            .await
    }

    async fn sweep(&self, before: Timestamp, keep: u64, limit: u32) -> Result<u64> {
        self.write(move |db| {
            let old = count(
                db,
                "SELECT count(*) FROM agentflow_audit WHERE at < ?1",
                [before.0],
            )?;
            let all = count(db, "SELECT count(*) FROM agentflow_audit", [])?;
            let many = old.max(all.saturating_sub(keep)).min(limit.into());
            if many == 0 {
                return Ok(0);
            }
            let sql = "DELETE FROM agentflow_audit WHERE entry_id IN
                (SELECT entry_id FROM agentflow_audit ORDER BY at, entry_id LIMIT ?1)";
            let many = i64::try_from(many).unwrap_or(i64::MAX);
            Ok(execute(db, sql, [many])? as u64)
        })
        .await
    }
}
