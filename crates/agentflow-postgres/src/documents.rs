//! Documents, and the bytes of uploads.

use std::collections::HashMap;

use agentflow_storage::{
    documents::{
        Blob, Change, Documents, Entry, EntryKind, EntryQuery, Mark, Totals, check, check_changes,
        check_ids, check_part, check_query, stale,
    },
    json,
    memories::{decode, encode},
    page::{Page, PageQuery},
};
use agentflow_types::{Result, Scope, Timestamp};
use async_trait::async_trait;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    Postgres,
    column::{Moment, count, get, order, time, unsigned},
    condition::{self, searchable_map, without_nul},
    outbox, statement,
    statement::Statement,
};

fn read(row: &Row) -> Result<Entry> {
    decode(get::<&str>(row, 0)?.as_bytes())
}

/// Whether a statement must change a row, or the decision is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Must {
    Change,
    Nothing,
}

/// The statements of a change, in order.
fn statements(scope: &Scope, change: &Change) -> Result<Vec<(Statement, Must)>> {
    let tenant = scope.tenant().to_owned();
    Ok(match change {
        Change::Put(entry) => vec![(put(tenant, entry)?, Must::Change)],
        Change::Remove {
            kind,
            entry_id,
            version,
        } => {
            let sql = "DELETE FROM agentflow.document_entries
                WHERE kind = $1 AND tenant = $2 AND entry_id = $3 AND version = $4";
            let sql = of_kind(sql, *kind, tenant)
                .bind(*entry_id)
                .bind(count(*version));
            vec![(sql, Must::Change)]
        }
        Change::RemoveBelow { kind, parent } => {
            let sql = "DELETE FROM agentflow.document_entries
                WHERE kind = $1 AND tenant = $2 AND parent = $3";
            let sql = of_kind(sql, *kind, tenant).bind(parent.to_string());
            vec![(sql, Must::Nothing)]
        }
        Change::KeepBlob(id) => {
            let sql = "UPDATE agentflow.document_blobs SET kept = true
                WHERE blob_id = $1 AND tenant = $2 AND NOT kept";
            let sql = Statement::new(sql).bind(*id).bind(tenant);
            vec![(sql, Must::Change)]
        }
        Change::DropBlob(id) => {
            let sql = "WITH gone AS (DELETE FROM agentflow.document_blobs
                    WHERE blob_id = $1 AND tenant = $2 RETURNING blob_id)
                DELETE FROM agentflow.document_blob_parts AS p USING gone
                WHERE p.blob_id = gone.blob_id";
            let sql = Statement::new(sql).bind(*id).bind(tenant);
            vec![(sql, Must::Nothing)]
        }
        Change::Post(letter) => vec![(outbox::post(scope, letter)?, Must::Nothing)],
    })
}

fn of_kind(sql: &'static str, kind: EntryKind, tenant: String) -> Statement {
    Statement::new(sql)
        .bind(kind.as_str().to_owned())
        .bind(tenant)
}

fn put(tenant: String, entry: &Entry) -> Result<Statement> {
    // A row is made only for a first version, and replaced only by the next one.
    const SQL: &str = "INSERT INTO agentflow.document_entries AS e (kind, tenant, entry_id,
            version, parent, owner, key, position, size, created_at, updated_at, body, payload)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb
        WHERE $4 = 1 OR EXISTS (SELECT 1 FROM agentflow.document_entries
            WHERE kind = $1 AND tenant = $2 AND entry_id = $3)
        ON CONFLICT (kind, tenant, entry_id) DO UPDATE SET version = $4, parent = $5, owner = $6,
            key = $7, position = $8, size = $9, created_at = $10, updated_at = $11, body = $12,
            payload = $13::jsonb
        WHERE e.version = $4 - 1";
    let text = |id: Option<Uuid>| id.map(|id| id.to_string());
    Ok(of_kind(SQL, entry.kind, tenant)
        .bind(entry.entry_id)
        .bind(count(entry.version))
        .bind(text(entry.parent))
        .bind(text(entry.owner))
        .bind(entry.key.as_deref().map(without_nul))
        .bind(count(entry.position))
        .bind(count(entry.size))
        .bind(Moment(entry.created_at))
        .bind(Moment(entry.updated_at))
        .bind(encode(entry)?)
        .bind(json::map_text(&searchable_map(&entry.payload()))?))
}

/// `FROM … WHERE …` of the entries that match.
fn matching(scope: &Scope, query: &EntryQuery) -> Statement {
    let from = "FROM agentflow.document_entries WHERE kind = $1 AND tenant = $2";
    let mut sql = of_kind(from, query.kind, scope.tenant().to_owned());
    for (column, id) in [("parent", query.parent), ("owner", query.owner)] {
        if let Some(id) = id {
            sql = sql.and(&format!(" AND {column} = "), id.to_string(), "");
        }
    }
    match &query.condition {
        Some(condition) => condition::add(&EntryQuery::column, condition, sql.text(" AND ")),
        None => sql,
    }
}

#[async_trait]
impl Documents for Postgres {
    async fn apply(&self, scope: &Scope, changes: Vec<Change>) -> Result<()> {
        check_changes(&changes)?;
        let (mut all, mut must) = (Vec::new(), Vec::new());
        for change in &changes {
            for (statement, needed) in statements(scope, change)? {
                all.push(statement);
                must.push(needed);
            }
        }
        if all.is_empty() {
            return Ok(());
        }
        let transaction = self.begin(&all).await?;
        let mut done = transaction.first.iter().zip(&must);
        if done.any(|(done, must)| *must == Must::Change && done.count == 0) {
            transaction.rollback().await;
            return Err(stale("entry"));
        }
        transaction.commit(&[]).await
    }

    async fn get(&self, scope: &Scope, kind: EntryKind, ids: &[Uuid]) -> Result<Vec<Entry>> {
        const SQL: &str = "SELECT body FROM agentflow.document_entries
            WHERE kind = $1 AND tenant = $2 AND entry_id = ANY($3)";
        check_ids(ids)?;
        let sql = of_kind(SQL, kind, scope.tenant().to_owned()).bind(ids.to_vec());
        let rows = self.read(&sql).await?;
        let found: Vec<Entry> = rows.iter().map(read).collect::<Result<_>>()?;
        let found: HashMap<Uuid, Entry> = found
            .into_iter()
            .map(|entry| (entry.entry_id, entry))
            .collect();
        Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect())
    }

    async fn by_key(&self, scope: &Scope, kind: EntryKind, key: &str) -> Result<Option<Entry>> {
        const SQL: &str = "SELECT body FROM agentflow.document_entries
            WHERE kind = $1 AND tenant = $2 AND key = $3";
        let sql = of_kind(SQL, kind, scope.tenant().to_owned()).bind(without_nul(key));
        self.read(&sql).await?.first().map(read).transpose()
    }

    async fn list(
        &self,
        scope: &Scope,
        query: &EntryQuery,
        page: &PageQuery,
    ) -> Result<Page<Entry>> {
        check(query, page)?;
        let order = order(page, "entry_id", &[]);
        self.page(&matching(scope, query), "body", &order, page, read)
            .await
    }

    async fn totals(&self, scope: &Scope, query: &EntryQuery) -> Result<Totals> {
        check_query(query)?;
        let columns = "SELECT count(*), coalesce(sum(size), 0)::bigint ";
        let sql = matching(scope, query).within(columns, "");
        let rows = self.read(&sql).await?;
        let totals = rows.first().map(|row| {
            Ok(Totals {
                entries: unsigned(row, 0)?,
                size: unsigned(row, 1)?,
            })
        });
        totals.unwrap_or_else(|| Ok(Totals::default()))
    }

    async fn marks(&self, kind: EntryKind, after: Option<&Mark>, limit: u32) -> Result<Vec<Mark>> {
        const SQL: &str = "SELECT tenant, entry_id, version FROM agentflow.document_entries
            WHERE kind = $1 AND (tenant, entry_id) > ($2, $3)
            ORDER BY tenant, entry_id LIMIT $4";
        // No tenant has an empty name.
        let (tenant, id) = after.map_or((String::new(), Uuid::nil()), |mark| {
            (mark.tenant.clone(), mark.entry_id)
        });
        let sql = of_kind(SQL, kind, tenant).bind(id).bind(i64::from(limit));
        let read = |row: &Row| {
            Ok(Mark {
                tenant: get(row, 0)?,
                entry_id: get(row, 1)?,
                version: unsigned(row, 2)?,
            })
        };
        self.read(&sql).await?.iter().map(read).collect()
    }

    async fn write_part(
        &self,
        scope: &Scope,
        blob_id: Uuid,
        part: u32,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<()> {
        const SQL: &str = "WITH blob AS (
                INSERT INTO agentflow.document_blobs AS b (blob_id, tenant, kept, created_at)
                VALUES ($1, $2, false, $3) ON CONFLICT (blob_id) DO UPDATE SET kept = b.kept
                WHERE b.tenant = $2 AND NOT b.kept RETURNING blob_id)
            INSERT INTO agentflow.document_blob_parts (blob_id, part, bytes)
            SELECT blob_id, $4, $5 FROM blob
            ON CONFLICT (blob_id, part) DO UPDATE SET bytes = EXCLUDED.bytes";
        check_part(&bytes)?;
        let sql = Statement::new(SQL)
            .bind(blob_id)
            .bind(scope.tenant().to_owned())
            .bind(Moment(now))
            .bind(i64::from(part))
            .bind(statement::Blob(bytes));
        match self.write(&sql).await?.count {
            0 => Err(stale("blob")),
            _ => Ok(()),
        }
    }

    async fn read_part(&self, scope: &Scope, blob_id: Uuid, part: u32) -> Result<Option<Vec<u8>>> {
        const SQL: &str = "SELECT p.bytes FROM agentflow.document_blob_parts AS p
            JOIN agentflow.document_blobs AS b ON b.blob_id = p.blob_id
            WHERE p.blob_id = $1 AND b.tenant = $2 AND p.part = $3";
        let sql = Statement::new(SQL)
            .bind(blob_id)
            .bind(scope.tenant().to_owned())
            .bind(i64::from(part));
        let rows = self.read(&sql).await?;
        rows.first().map(|row| get(row, 0)).transpose()
    }

    async fn blobs(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Blob>> {
        const SQL: &str = "SELECT b.tenant, b.blob_id, b.kept, b.created_at,
                (SELECT coalesce(sum(length(p.bytes)), 0)::bigint
                    FROM agentflow.document_blob_parts AS p WHERE p.blob_id = b.blob_id)
            FROM agentflow.document_blobs AS b
            WHERE $1::uuid IS NULL OR b.blob_id > $1 ORDER BY b.blob_id LIMIT $2";
        let sql = Statement::new(SQL).bind(after).bind(i64::from(limit));
        let read = |row: &Row| {
            Ok(Blob {
                tenant: get(row, 0)?,
                blob_id: get(row, 1)?,
                is_kept: get(row, 2)?,
                created_at: time(row, 3)?,
                bytes: unsigned(row, 4)?,
            })
        };
        self.read(&sql).await?.iter().map(read).collect()
    }

    async fn sweep_blobs(&self, before: Timestamp, limit: u32) -> Result<u64> {
        const SQL: &str = "WITH old AS (
                DELETE FROM agentflow.document_blobs WHERE blob_id IN (
                    SELECT blob_id FROM agentflow.document_blobs
                    WHERE NOT kept AND created_at < $1
                    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)
                RETURNING blob_id),
            parts AS (DELETE FROM agentflow.document_blob_parts AS p USING old
                WHERE p.blob_id = old.blob_id)
            SELECT count(*) FROM old";
        let sql = Statement::new(SQL)
            .bind(Moment(before))
            .bind(i64::from(limit));
        let done = self.write(&sql).await?;
        done.rows.first().map_or(Ok(0), |row| unsigned(row, 0))
    }
}
