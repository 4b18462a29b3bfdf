//! Documents, and the bytes of uploads.

use agentflow_storage::{
    documents::{
        Blob, Change, Documents, Entry, EntryKind, EntryQuery, Mark, Totals, check, check_changes,
        check_ids, check_part, check_query, stale, taken,
    },
    json,
    memories::{decode, encode},
    page::{Page, PageQuery},
};
use agentflow_types::{Error, Result, Scope, Timestamp};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params, params_from_iter, types::Value as Sql};
use uuid::Uuid;

use crate::{
    Embedded,
    column::{self, all, bytes, execute, first, get, text, time},
    condition, outbox,
};

/// Entries up to which they are read on the thread of who asks.
const SHORT: usize = 32;

fn read(row: &Row<'_>) -> Result<Entry> {
    decode(bytes(row, 0)?)
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn uuid(row: &Row<'_>, index: usize) -> Result<Uuid> {
    let parsed = text(row, index)?.parse();
    parsed.map_err(|err: uuid::Error| Error::corrupt("a stored id is not one").source_err(err))
}

fn apply(db: &Connection, tenant: &str, change: &Change) -> Result<()> {
    match change {
        Change::Put(entry) => put(db, tenant, entry),
        Change::Remove {
            kind,
            entry_id,
            version,
        } => {
            let sql = "DELETE FROM agentflow_document_entries
                WHERE kind = ?1 AND tenant = ?2 AND entry_id = ?3 AND version = ?4";
            let id = entry_id.to_string();
            let gone = execute(
                db,
                sql,
                params![kind.as_str(), tenant, id, number(*version)],
            )?;
            changed(gone, "entry")
        }
        Change::RemoveBelow { kind, parent } => {
            let sql = "DELETE FROM agentflow_document_entries
                WHERE kind = ?1 AND tenant = ?2 AND parent = ?3 AND parent IS NOT NULL";
            execute(db, sql, params![kind.as_str(), tenant, parent.to_string()]).map(drop)
        }
        Change::KeepBlob(id) => {
            let sql = "UPDATE agentflow_document_blobs SET kept = 1
                WHERE blob_id = ?1 AND tenant = ?2 AND NOT kept";
            changed(execute(db, sql, params![id.to_string(), tenant])?, "blob")
        }
        Change::DropBlob(id) => {
            let id = id.to_string();
            let sql = "DELETE FROM agentflow_document_blobs WHERE blob_id = ?1 AND tenant = ?2";
            match execute(db, sql, params![id, tenant])? {
                0 => Ok(()),
                _ => remove_parts(db, &id),
            }
        }
        Change::Post(letter) => outbox::post(db, tenant, letter),
    }
}

fn changed(count: usize, what: &'static str) -> Result<()> {
    match count {
        0 => Err(stale(what)),
        _ => Ok(()),
    }
}

fn remove_parts(db: &Connection, blob: &str) -> Result<()> {
    let sql = "DELETE FROM agentflow_document_blob_parts WHERE blob_id = ?1";
    execute(db, sql, [blob]).map(drop)
}

fn put(db: &Connection, tenant: &str, entry: &Entry) -> Result<()> {
    let (kind, id) = (entry.kind.as_str(), entry.entry_id.to_string());
    if let Some(key) = &entry.key {
        let sql = "SELECT 1 FROM agentflow_document_entries
            WHERE kind = ?1 AND tenant = ?2 AND key = ?3 AND key IS NOT NULL AND entry_id <> ?4";
        if first(db, sql, params![kind, tenant, key, id], |_| Ok(()))?.is_some() {
            return Err(taken(entry.kind));
        }
    }
    let sql = "INSERT INTO agentflow_document_entries (kind, tenant, entry_id, version, parent,
            owner, key, position, size, created_at, updated_at, body, payload)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13
        WHERE ?4 = 1 OR EXISTS (SELECT 1 FROM agentflow_document_entries
            WHERE kind = ?1 AND tenant = ?2 AND entry_id = ?3)
        ON CONFLICT (kind, tenant, entry_id) DO UPDATE SET version = ?4, parent = ?5, owner = ?6,
            key = ?7, position = ?8, size = ?9, created_at = ?10, updated_at = ?11, body = ?12,
            payload = ?13
        WHERE version = ?4 - 1";
    let text = |id: Option<Uuid>| id.map(|id| id.to_string());
    let values = params![
        kind,
        tenant,
        id,
        number(entry.version),
        text(entry.parent),
        text(entry.owner),
        entry.key,
        number(entry.position),
        number(entry.size),
        entry.created_at.0,
        entry.updated_at.0,
        encode(entry)?,
        json::map_text(&entry.payload())?,
    ];
    changed(execute(db, sql, values)?, "entry")
}

/// `FROM … WHERE …` of the entries that match.
fn matching(scope: &Scope, query: &EntryQuery) -> Result<(String, Vec<Sql>)> {
    let mut sql = "FROM agentflow_document_entries WHERE kind = ? AND tenant = ?".to_owned();
    let mut values: Vec<Sql> = vec![
        query.kind.as_str().to_owned().into(),
        scope.tenant().to_owned().into(),
    ];
    for (column, id) in [("parent", query.parent), ("owner", query.owner)] {
        if let Some(id) = id {
            sql.push_str(&format!(" AND {column} IS NOT NULL AND {column} = ?"));
            values.push(id.to_string().into());
        }
    }
    if let Some(condition) = &query.condition {
        sql.push_str(" AND ");
        condition::add(&EntryQuery::column, condition, &mut sql, &mut values)?;
    }
    Ok((sql, values))
}

#[async_trait]
impl Documents for Embedded {
    async fn apply(&self, scope: &Scope, changes: Vec<Change>) -> Result<()> {
        check_changes(&changes)?;
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            changes
                .iter()
                .try_for_each(|change| apply(db, &tenant, change))
        })
        .await
    }

    async fn get(&self, scope: &Scope, kind: EntryKind, ids: &[Uuid]) -> Result<Vec<Entry>> {
        check_ids(ids)?;
        let (tenant, ids) = (scope.tenant().to_owned(), ids.to_vec());
        let is_short = ids.len() <= SHORT;
        let job = move |db: &Connection| {
            let sql = "SELECT body FROM agentflow_document_entries
                WHERE kind = ?1 AND tenant = ?2 AND entry_id = ?3";
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                let values = params![kind.as_str(), tenant, id.to_string()];
                found.extend(first(db, sql, values, read)?);
            }
            Ok(found)
        };
        match is_short {
            true => self.read_short(job).await,
            false => self.read(job).await,
        }
    }

    async fn by_key(&self, scope: &Scope, kind: EntryKind, key: &str) -> Result<Option<Entry>> {
        let own = [kind.as_str(), scope.tenant(), key].map(str::to_owned);
        self.read_short(move |db| {
            let sql = "SELECT body FROM agentflow_document_entries
                WHERE kind = ?1 AND tenant = ?2 AND key = ?3 AND key IS NOT NULL";
            first(db, sql, params_from_iter(own), read)
        })
        .await
    }

    async fn list(
        &self,
        scope: &Scope,
        query: &EntryQuery,
        page: &PageQuery,
    ) -> Result<Page<Entry>> {
        check(query, page)?;
        let (from, values) = matching(scope, query)?;
        let order = column::order(page, "entry_id");
        self.read(move |db| column::page(db, "body", &from, &order, &values, read))
            .await
    }

    async fn totals(&self, scope: &Scope, query: &EntryQuery) -> Result<Totals> {
        check_query(query)?;
        let (from, values) = matching(scope, query)?;
        self.read(move |db| {
            let sql = format!("SELECT count(*), coalesce(sum(size), 0) {from}");
            let totals = first(db, &sql, params_from_iter(&values), |row| {
                Ok(Totals {
                    entries: get::<i64>(row, 0)?.unsigned_abs(),
                    size: get::<i64>(row, 1)?.unsigned_abs(),
                })
            })?;
            Ok(totals.unwrap_or_default())
        })
        .await
    }

    async fn marks(&self, kind: EntryKind, after: Option<&Mark>, limit: u32) -> Result<Vec<Mark>> {
        let (tenant, id) = after.map_or_else(Default::default, |mark| {
            (mark.tenant.clone(), mark.entry_id.to_string())
        });
        self.read(move |db| {
            let sql = "SELECT tenant, entry_id, version FROM agentflow_document_entries
                WHERE kind = ?1 AND (tenant, entry_id) > (?2, ?3)
                ORDER BY tenant, entry_id LIMIT ?4";
            all(db, sql, params![kind.as_str(), tenant, id, limit], |row| {
                Ok(Mark {
                    tenant: text(row, 0)?.to_owned(),
                    entry_id: uuid(row, 1)?,
                    version: get::<i64>(row, 2)?.unsigned_abs(),
                })
            })
        })
        .await
    }

    async fn write_part(
        &self,
        scope: &Scope,
        blob_id: Uuid,
        part: u32,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<()> {
        check_part(&bytes)?;
        let (tenant, id) = (scope.tenant().to_owned(), blob_id.to_string());
        self.write(move |db| {
            let sql = "INSERT INTO agentflow_document_blobs (blob_id, tenant, kept, created_at)
                VALUES (?1, ?2, 0, ?3) ON CONFLICT (blob_id) DO UPDATE SET kept = kept
                WHERE tenant = ?2 AND NOT kept";
            changed(execute(db, sql, params![id, tenant, now.0])?, "blob")?;
            let sql = "INSERT INTO agentflow_document_blob_parts (blob_id, part, bytes)
                VALUES (?1, ?2, ?3) ON CONFLICT (blob_id, part) DO UPDATE SET bytes = ?3";
            execute(db, sql, params![id, part, bytes]).map(drop)
        })
        .await
    }

    async fn read_part(&self, scope: &Scope, blob_id: Uuid, part: u32) -> Result<Option<Vec<u8>>> {
        let (tenant, id) = (scope.tenant().to_owned(), blob_id.to_string());
        self.read(move |db| {
            let sql = "SELECT p.bytes FROM agentflow_document_blob_parts AS p
                JOIN agentflow_document_blobs AS b ON b.blob_id = p.blob_id
                WHERE p.blob_id = ?1 AND b.tenant = ?2 AND p.part = ?3";
            first(db, sql, params![id, tenant, part], |row| {
                Ok(bytes(row, 0)?.to_owned())
            })
        })
        .await
    }

    async fn blobs(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Blob>> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        self.read(move |db| {
            let sql = "SELECT b.tenant, b.blob_id, b.kept, b.created_at,
                    (SELECT coalesce(sum(length(p.bytes)), 0)
                        FROM agentflow_document_blob_parts AS p WHERE p.blob_id = b.blob_id)
                FROM agentflow_document_blobs AS b
                WHERE b.blob_id > ?1 ORDER BY b.blob_id LIMIT ?2";
            all(db, sql, params![after, limit], |row| {
                Ok(Blob {
                    tenant: text(row, 0)?.to_owned(),
                    blob_id: uuid(row, 1)?,
                    is_kept: get(row, 2)?,
                    created_at: time(row, 3)?,
                    bytes: get::<i64>(row, 4)?.unsigned_abs(),
                })
            })
        })
        .await
    }

    async fn sweep_blobs(&self, before: Timestamp, limit: u32) -> Result<u64> {
        self.write(move |db| {
            let sql = "SELECT blob_id FROM agentflow_document_blobs
                WHERE NOT kept AND created_at < ?1 ORDER BY created_at LIMIT ?2";
            let old = all(db, sql, params![before.0, limit], |row| {
                Ok(text(row, 0)?.to_owned())
            })?;
            for id in &old {
                let sql = "DELETE FROM agentflow_document_blobs WHERE blob_id = ?1";
                execute(db, sql, [id])?;
                remove_parts(db, id)?;
            }
            Ok(old.len() as u64)
        })
        .await
    }
}
