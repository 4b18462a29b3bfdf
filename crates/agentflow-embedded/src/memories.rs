//! Memories, their versions, jobs and notes.
//!
//! The current version of a memory is in a table of its own, beside all versions: lists and the
//! index look at it, and what was yesterday does not slow them down.

mod work;

use agentflow_storage::{
    json,
    memories::{
        Change, Claimed, Job, JobQuery, Mark, Memories, Memory, MemoryQuery, Note, NoteQuery,
        OwnerKind, Owning, check, check_keys, decode, encode, stale,
    },
    page::{Page, PageQuery},
};
use agentflow_types::{JobId, MemoryId, Result, Scope, Timestamp};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params, params_from_iter, types::Value as Sql};
use serde::de::DeserializeOwned;

use crate::{
    Embedded,
    column::{self, all, bytes, execute, first, get, id, text, time},
    condition, outbox,
};

/// Memories up to which they are read on the thread of who asks.
const SHORT: usize = 32;

fn read<T: DeserializeOwned>(row: &Row<'_>) -> Result<T> {
    decode(bytes(row, 0)?)
}

fn changed(count: usize, what: &'static str) -> Result<()> {
    match count {
        0 => Err(stale(what)),
        _ => Ok(()),
    }
}

fn apply(db: &Connection, tenant: &str, change: &Change) -> Result<()> {
    match change {
        Change::Put(memory) => put(db, tenant, memory),
        Change::InsertJob(job) => work::insert(db, tenant, job),
        Change::PutJob(job) => work::put(db, tenant, job),
        Change::PutNote(note) => put_note(db, tenant, note),
        Change::Post(letter) => outbox::post(db, tenant, letter),
    }
}

fn put(db: &Connection, tenant: &str, memory: &Memory) -> Result<()> {
    let (body, payload) = (encode(memory)?, json::map_text(&memory.payload())?);
    let version = i64::try_from(memory.version).unwrap_or(i64::MAX);
    let id = memory.memory_id.text();
    let sql = "INSERT INTO agentflow_memories (memory_id, tenant, project, version, kind, deleted,
            user_id, agent_id, app_id, run_id, created_at, updated_at, happened_at, body, payload)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15
        WHERE ?4 = 1 OR EXISTS (SELECT 1 FROM agentflow_memories WHERE memory_id = ?1)
        ON CONFLICT (memory_id) DO UPDATE SET project = ?3, version = ?4, kind = ?5, deleted = ?6,
            user_id = ?7, agent_id = ?8, app_id = ?9, run_id = ?10, created_at = ?11,
            updated_at = ?12, happened_at = ?13, body = ?14, payload = ?15
        WHERE tenant = ?2 AND version = ?4 - 1";
    let owner = &memory.owner;
    let values = params![
        id,
        tenant,
        memory.project,
        version,
        memory.kind.as_str(),
        memory.is_deleted(),
        owner.user_id,
        owner.agent_id,
        owner.app_id,
        owner.run_id,
        memory.created_at.0,
        memory.updated_at.0,
        memory.happened_at.0,
        body,
        payload,
    ];
    changed(execute(db, sql, values)?, "memory")?;
    let sql = "INSERT INTO agentflow_memory_versions (memory_id, version, tenant, project, kind,
            deleted, created_at, updated_at, happened_at, body, payload)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let values = params![
        id,
        version,
        tenant,
        memory.project,
        memory.kind.as_str(),
        memory.is_deleted(),
        memory.created_at.0,
        memory.updated_at.0,
        memory.happened_at.0,
        body,
        payload,
    ];
    execute(db, sql, values).map(drop)
}

fn put_note(db: &Connection, tenant: &str, note: &Note) -> Result<()> {
    let version = i64::try_from(note.version).unwrap_or(i64::MAX);
    let sql = "INSERT INTO agentflow_memory_notes (tenant, project, kind, key, version, deleted,
            created_at, body)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
        WHERE ?5 = 1 OR EXISTS (SELECT 1 FROM agentflow_memory_notes
            WHERE tenant = ?1 AND project = ?2 AND kind = ?3 AND key = ?4)
        ON CONFLICT (tenant, project, kind, key) DO UPDATE
            SET version = ?5, deleted = ?6, created_at = ?7, body = ?8
        WHERE version = ?5 - 1";
    let values = params![
        tenant,
        note.project,
        note.kind,
        note.key,
        version,
        note.is_deleted,
        note.created_at.0,
        encode(note)?,
    ];
    changed(execute(db, sql, values)?, "note")
}

/// `FROM … WHERE …` of the memories that match.
fn matching(scope: &Scope, query: &MemoryQuery) -> Result<(String, Vec<Sql>)> {
    let mut values: Vec<Sql> = vec![];
    let mut sql = match query.as_of {
        None => "FROM agentflow_memories WHERE NOT deleted".to_owned(),
        Some(at) => {
            values.push(at.0.into());
            "FROM agentflow_memory_versions AS v WHERE NOT deleted AND version =
                (SELECT max(version) FROM agentflow_memory_versions AS w
                    WHERE w.memory_id = v.memory_id AND w.updated_at <= ?)"
                .to_owned()
        }
    };
    sql.push_str(" AND tenant = ? AND project = ?");
    values.push(scope.tenant().to_owned().into());
    values.push(query.project.clone().into());
    if !query.kinds.is_empty() {
        let marks = vec!["?"; query.kinds.len()].join(", ");
        sql.push_str(&format!(" AND kind IN ({marks})"));
        let kinds = query.kinds.iter().map(|kind| kind.as_str().to_owned());
        values.extend(kinds.map(Sql::Text));
    }
    if let Some(condition) = &query.condition {
        sql.push_str(" AND ");
        condition::add(
            &|field| query.column(field),
            condition,
            &mut sql,
            &mut values,
        )?;
    }
    Ok((sql, values))
}

fn read_owning(kind: OwnerKind, row: &Row<'_>) -> Result<Owning> {
    Ok(Owning {
        kind,
        name: get(row, 0)?,
        memories: get::<i64>(row, 1)?.unsigned_abs(),
        created_at: time(row, 2)?,
        updated_at: time(row, 3)?,
    })
}

fn limits(limit: u32, offset: u64) -> String {
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    format!(" LIMIT {limit} OFFSET {offset}")
}

#[async_trait]
impl Memories for Embedded {
    async fn apply(&self, scope: &Scope, changes: Vec<Change>) -> Result<()> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            changes
                .iter()
                .try_for_each(|change| apply(db, &tenant, change))
        })
        .await
    }

    async fn get(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
        as_of: Option<Timestamp>,
    ) -> Result<Vec<Memory>> {
        let (tenant, ids) = (scope.tenant().to_owned(), ids.to_vec());
        let is_short = ids.len() <= SHORT;
        let job = move |db: &Connection| {
            let now = "SELECT body FROM agentflow_memories
                WHERE memory_id = ?1 AND tenant = ?2 AND NOT deleted";
            let then = "SELECT body FROM agentflow_memory_versions
                WHERE memory_id = ?1 AND tenant = ?2 AND updated_at <= ?3
                ORDER BY version DESC LIMIT 1";
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                let memory: Option<Memory> = match as_of {
                    None => first(db, now, params![id.text(), tenant], read)?,
                    Some(at) => first(db, then, params![id.text(), tenant, at.0], read)?,
                };
                found.extend(memory.filter(|memory| !memory.is_deleted()));
            }
            Ok(found)
        };
        match is_short {
            true => self.read_short(job).await,
            false => self.read(job).await,
        }
    }

    async fn versions(&self, scope: &Scope, id: MemoryId) -> Result<Vec<Memory>> {
        let tenant = scope.tenant().to_owned();
        self.read(move |db| {
            let sql = "SELECT body FROM agentflow_memory_versions
                WHERE memory_id = ?1 AND tenant = ?2 ORDER BY version";
            all(db, sql, params![id.text(), tenant], read)
        })
        .await
    }

    async fn changes(
        &self,
        scope: &Scope,
        project: &str,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Memory>> {
        let from = "FROM agentflow_memory_versions WHERE tenant = ? AND project = ?";
        let values = [scope.tenant().to_owned().into(), project.to_owned().into()];
        let order = format!(
            " ORDER BY updated_at DESC, memory_id DESC, version DESC{}",
            limits(limit, offset)
        );
        self.read(move |db| column::page(db, "body", from, &order, &values, read))
            .await
    }

    async fn list(
        &self,
        scope: &Scope,
        query: &MemoryQuery,
        page: &PageQuery,
    ) -> Result<Page<Memory>> {
        check(query, page)?;
        let (from, values) = matching(scope, query)?;
        let order = column::order(page, "memory_id");
        let (offset, uncounted) = (page.offset, query.uncounted);
        self.read(move |db| match uncounted {
            false => column::page(db, "body", &from, &order, &values, read),
            true => {
                let sql = format!("SELECT body {from}{order}");
                let items = all(db, &sql, params_from_iter(&values), read)?;
                let total = offset + items.len() as u64;
                Ok(Page { items, total })
            }
        })
        .await
    }

    async fn owners(
        &self,
        scope: &Scope,
        project: &str,
        kind: Option<OwnerKind>,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Owning>> {
        let (tenant, project) = (scope.tenant().to_owned(), project.to_owned());
        self.read(move |db| {
            let mut found = Vec::new();
            for of in OwnerKind::ALL {
                if kind.is_some_and(|kind| kind != of) {
                    continue;
                }
                let field = of.field();
                let sql = format!(
                    "SELECT {field}, count(*), min(created_at), max(updated_at)
                    FROM agentflow_memories
                    WHERE NOT deleted AND tenant = ?1 AND project = ?2 AND {field} IS NOT NULL
                    GROUP BY {field} ORDER BY {field}"
                );
                let owners = all(db, &sql, params![tenant, project], |row| {
                    read_owning(of, row)
                })?;
                found.extend(owners);
            }
            let total = found.len() as u64;
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let items = found.into_iter().skip(offset).take(limit as usize);
            Ok(Page {
                items: items.collect(),
                total,
            })
        })
        .await
    }

    async fn marks(&self, after: Option<MemoryId>, limit: u32) -> Result<Vec<Mark>> {
        self.read(move |db| {
            let sql = "SELECT tenant, memory_id, version FROM agentflow_memories
                WHERE NOT deleted AND memory_id > ?1 ORDER BY memory_id LIMIT ?2";
            let after = after.map(|id| id.text()).unwrap_or_default();
            all(db, sql, params![after, limit], |row| {
                Ok(Mark {
                    tenant: text(row, 0)?.to_owned(),
                    memory_id: id(row, 1)?,
                    version: get::<i64>(row, 2)?.unsigned_abs(),
                })
            })
        })
        .await
    }

    async fn job(&self, scope: &Scope, id: JobId) -> Result<Option<Job>> {
        let tenant = scope.tenant().to_owned();
        self.read(move |db| {
            let sql = format!(
                "SELECT {} FROM agentflow_memory_jobs WHERE job_id = ?1 AND tenant = ?2",
                work::COLUMNS
            );
            first(db, &sql, params![id.text(), tenant], work::read)
        })
        .await
    }

    async fn jobs(&self, scope: &Scope, query: &JobQuery) -> Result<Page<Job>> {
        let (from, values) = work::matching(scope, query);
        let order = format!(
            " ORDER BY created_at DESC, job_id DESC{}",
            limits(query.limit, query.offset)
        );
        self.read(move |db| column::page(db, work::COLUMNS, &from, &order, &values, work::read))
            .await
    }

    async fn claim_jobs(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claimed>> {
        self.write(move |db| work::claim(db, now, until, limit))
            .await
    }

    async fn renew_job(&self, id: JobId, attempt: u32, until: Timestamp) -> Result<bool> {
        self.write(move |db| {
            let sql = "UPDATE agentflow_memory_jobs SET due_at = ?3
                WHERE job_id = ?1 AND attempt = ?2 AND status = 'RUNNING'";
            Ok(execute(db, sql, params![id.text(), attempt, until.0])? > 0)
        })
        .await
    }

    async fn note(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        key: &str,
    ) -> Result<Option<Note>> {
        let own = [scope.tenant(), project, kind, key].map(str::to_owned);
        self.read_short(move |db| {
            let sql = "SELECT body FROM agentflow_memory_notes
                WHERE tenant = ?1 AND project = ?2 AND kind = ?3 AND key = ?4 AND NOT deleted";
            first(db, sql, params_from_iter(own), read)
        })
        .await
    }

    async fn notes_of(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        keys: &[String],
    ) -> Result<Vec<Note>> {
        check_keys(keys.len())?;
        let [tenant, project, kind] = [scope.tenant(), project, kind].map(str::to_owned);
        let keys = keys.to_vec();
        self.read(move |db| {
            let sql = "SELECT body FROM agentflow_memory_notes
                WHERE tenant = ?1 AND project = ?2 AND kind = ?3 AND key = ?4 AND NOT deleted";
            let mut found = Vec::new();
            for key in keys {
                found.extend(first(db, sql, params![tenant, project, kind, key], read)?);
            }
            Ok(found)
        })
        .await
    }

    async fn notes(&self, scope: &Scope, query: &NoteQuery) -> Result<Page<Note>> {
        let from = "FROM agentflow_memory_notes
            WHERE tenant = ? AND project = ? AND kind = ? AND NOT deleted";
        let values =
            [scope.tenant(), &query.project, &query.kind].map(|text| text.to_owned().into());
        let order = format!(
            " ORDER BY created_at, key{}",
            limits(query.limit, query.offset)
        );
        self.read(move |db| column::page(db, "body", from, &order, &values, read))
            .await
    }
}
