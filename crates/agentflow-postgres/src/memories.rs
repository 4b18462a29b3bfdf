//! Memories, their versions, jobs and notes.

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
use serde::de::DeserializeOwned;
use tokio_postgres::Row;

use crate::{
    Postgres,
    column::{Moment, count, get, id, order, time, unsigned},
    condition::{self, searchable_map, without_nul},
    outbox,
    statement::Statement,
};

fn read<T: DeserializeOwned>(row: &Row) -> Result<T> {
    decode(get::<&str>(row, 0)?.as_bytes())
}

/// Statements of a change; each must change a row, or the change is refused. A letter's may not.
fn statements(scope: &Scope, change: &Change) -> Result<Vec<Statement>> {
    Ok(match change {
        Change::Put(memory) => put(scope, memory)?.into(),
        Change::InsertJob(job) => vec![work::insert(scope, job)?],
        Change::PutJob(job) => vec![work::put(scope, job)?],
        Change::PutNote(note) => vec![put_note(scope, note)?],
        Change::Post(_) => vec![],
    })
}

fn put(scope: &Scope, memory: &Memory) -> Result<[Statement; 2]> {
    // A row is made only for a first version, and replaced only by the next one.
    const CURRENT: &str = "INSERT INTO agentflow.memories AS m (memory_id, version, tenant,
            project, kind, deleted, created_at, updated_at, happened_at, body, payload,
            user_id, agent_id, app_id, run_id)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::jsonb, $12, $13, $14, $15
        WHERE $2 = 1 OR EXISTS (SELECT 1 FROM agentflow.memories WHERE memory_id = $1)
        ON CONFLICT (memory_id) DO UPDATE SET version = $2, project = $4, kind = $5, deleted = $6,
            created_at = $7, updated_at = $8, happened_at = $9, body = $10, payload = $11::jsonb,
            user_id = $12, agent_id = $13, app_id = $14, run_id = $15
        WHERE m.tenant = $3 AND m.version = $2 - 1";
    const VERSION: &str = "INSERT INTO agentflow.memory_versions (memory_id, version, tenant,
            project, kind, deleted, created_at, updated_at, happened_at, body, payload)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::jsonb) ON CONFLICT DO NOTHING";
    let (body, payload) = (
        encode(memory)?,
        json::map_text(&searchable_map(&memory.payload()))?,
    );
    let bind = |sql: &'static str| {
        Statement::new(sql)
            .bind(memory.memory_id.0)
            .bind(count(memory.version))
            .bind(scope.tenant().to_owned())
            .bind(without_nul(&memory.project))
            .bind(memory.kind.as_str().to_owned())
            .bind(memory.is_deleted())
            .bind(Moment(memory.created_at))
            .bind(Moment(memory.updated_at))
            .bind(Moment(memory.happened_at))
            .bind(body.clone())
            .bind(payload.clone())
    };
    let name = |kind| memory.owner.get(kind).map(without_nul);
    let current = OwnerKind::ALL
        .into_iter()
        .fold(bind(CURRENT), |sql, kind| sql.bind(name(kind)));
    Ok([current, bind(VERSION)])
}

fn put_note(scope: &Scope, note: &Note) -> Result<Statement> {
    const SQL: &str =
        "INSERT INTO agentflow.memory_notes AS n (tenant, project, kind, key, version,
            deleted, created_at, body)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8
        WHERE $5 = 1 OR EXISTS (SELECT 1 FROM agentflow.memory_notes
            WHERE tenant = $1 AND project = $2 AND kind = $3 AND key = $4)
        ON CONFLICT (tenant, project, kind, key) DO UPDATE
            SET version = $5, deleted = $6, created_at = $7, body = $8
        WHERE n.version = $5 - 1";
    Ok(Statement::new(SQL)
        .bind(scope.tenant().to_owned())
        .bind(without_nul(&note.project))
        .bind(note.kind.clone())
        .bind(without_nul(&note.key))
        .bind(count(note.version))
        .bind(note.is_deleted)
        .bind(Moment(note.created_at))
        .bind(encode(note)?))
}

/// `FROM … WHERE …` of the memories that match.
fn matching(scope: &Scope, query: &MemoryQuery) -> Statement {
    let mut sql = match query.as_of {
        None => Statement::new("FROM agentflow.memories WHERE NOT deleted"),
        Some(at) => Statement::new(
            "FROM agentflow.memory_versions AS v WHERE NOT deleted AND version =
                (SELECT max(version) FROM agentflow.memory_versions AS w
                    WHERE w.memory_id = v.memory_id AND w.updated_at <= ",
        )
        .and("", Moment(at), ")"),
    };
    sql = sql.and(" AND tenant = ", scope.tenant().to_owned(), "");
    sql = sql.and(" AND project = ", without_nul(&query.project), "");
    if !query.kinds.is_empty() {
        let kinds = query.kinds.iter().map(|kind| kind.as_str().to_owned());
        sql = sql.and(" AND kind = ANY(", kinds.collect::<Vec<String>>(), ")");
    }
    if let Some(condition) = &query.condition {
        sql = condition::add(&|field| query.column(field), condition, sql.text(" AND "));
    }
    sql
}

/// Owners of some kinds: kind, name, how many, first, last.
fn owning(scope: &Scope, project: &str, kind: Option<OwnerKind>) -> Statement {
    let sql = OwnerKind::ALL
        .into_iter()
        .enumerate()
        .filter(|(_, of)| kind.is_none_or(|kind| kind == *of))
        .map(|(place, of)| {
            let field = of.field();
            format!(
                "SELECT {place}::bigint AS place, {field} AS name, count(*) AS many,
                    min(created_at) AS first, max(updated_at) AS last
                FROM agentflow.memories
                WHERE NOT deleted AND tenant = $1 AND project = $2 AND {field} IS NOT NULL
                GROUP BY {field}"
            )
        });
    let sql: Vec<String> = sql.collect();
    Statement::new(format!(
        "FROM ({}) AS o WHERE true",
        sql.join(" UNION ALL ")
    ))
    .bind(scope.tenant().to_owned())
    .bind(without_nul(project))
}

fn read_owning(row: &Row) -> Result<Owning> {
    let place = usize::try_from(get::<i64>(row, 0)?).unwrap_or_default();
    Ok(Owning {
        kind: OwnerKind::ALL[place.min(OwnerKind::ALL.len() - 1)],
        name: get(row, 1)?,
        memories: unsigned(row, 2)?,
        created_at: time(row, 3)?,
        updated_at: time(row, 4)?,
    })
}

/// A page, and the SQL of its order and limits.
fn paged(limit: u32, offset: u64, by: &str) -> (PageQuery, String) {
    let page = PageQuery {
        limit,
        offset,
        ..PageQuery::default()
    };
    let order = format!(" ORDER BY {by} LIMIT {limit} OFFSET {}", count(offset));
    (page, order)
}

#[async_trait]
impl Memories for Postgres {
    async fn apply(&self, scope: &Scope, changes: Vec<Change>) -> Result<()> {
        let (mut checked, mut letters) = (Vec::new(), Vec::new());
        for change in &changes {
            match change {
                Change::Post(letter) => letters.push(outbox::post(scope, letter)?),
                other => checked.extend(statements(scope, other)?),
            }
        }
        if checked.is_empty() && letters.is_empty() {
            return Ok(());
        }
        let transaction = self.begin(&checked).await?;
        if transaction.first.iter().any(|done| done.count == 0) {
            transaction.rollback().await;
            return Err(stale("memory"));
        }
        transaction.commit(&letters).await
    }

    async fn get(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
        as_of: Option<Timestamp>,
    ) -> Result<Vec<Memory>> {
        let all: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
        let sql = match as_of {
            None => Statement::new(
                "SELECT body FROM agentflow.memories
                WHERE memory_id = ANY($1) AND tenant = $2 AND NOT deleted",
            ),
            Some(_) => Statement::new(
                "SELECT DISTINCT ON (memory_id) body FROM agentflow.memory_versions
                WHERE memory_id = ANY($1) AND tenant = $2 AND updated_at <= $3
                ORDER BY memory_id, version DESC",
            ),
        };
        let sql = sql.bind(all).bind(scope.tenant().to_owned());
        let sql = match as_of {
            None => sql,
            Some(at) => sql.bind(Moment(at)),
        };
        let rows = self.read(&sql).await?;
        let found: Vec<Memory> = rows.iter().map(read).collect::<Result<_>>()?;
        let found: std::collections::HashMap<MemoryId, Memory> = found
            .into_iter()
            .filter(|memory| !memory.is_deleted())
            .map(|memory| (memory.memory_id, memory))
            .collect();
        Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect())
    }

    async fn versions(&self, scope: &Scope, id: MemoryId) -> Result<Vec<Memory>> {
        const SQL: &str = "SELECT body FROM agentflow.memory_versions
            WHERE memory_id = $1 AND tenant = $2 ORDER BY version";
        let sql = Statement::new(SQL)
            .bind(id.0)
            .bind(scope.tenant().to_owned());
        self.read(&sql).await?.iter().map(read).collect()
    }

    async fn changes(
        &self,
        scope: &Scope,
        project: &str,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Memory>> {
        let from = "FROM agentflow.memory_versions WHERE tenant = $1 AND project = $2";
        let from = Statement::new(from)
            .bind(scope.tenant().to_owned())
            .bind(without_nul(project));
        let by = "updated_at DESC, memory_id DESC, version DESC";
        let (page, order) = paged(limit, offset, by);
        self.page(&from, "body", &order, &page, read).await
    }

    async fn list(
        &self,
        scope: &Scope,
        query: &MemoryQuery,
        page: &PageQuery,
    ) -> Result<Page<Memory>> {
        check(query, page)?;
        let order = order(page, "memory_id", &[]);
        if query.uncounted {
            let sql = matching(scope, query).within("SELECT body ", &order);
            let items = self.read(&sql).await?;
            let items: Vec<Memory> = items.iter().map(read).collect::<Result<_>>()?;
            let total = page.offset + items.len() as u64;
            return Ok(Page { items, total });
        }
        self.page(&matching(scope, query), "body", &order, page, read)
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
        let (page, order) = paged(limit, offset, "place, name");
        let from = owning(scope, project, kind);
        let columns = "place, name, many, first, last";
        self.page(&from, columns, &order, &page, read_owning).await
    }

    async fn marks(&self, after: Option<MemoryId>, limit: u32) -> Result<Vec<Mark>> {
        const SQL: &str = "SELECT tenant, memory_id, version FROM agentflow.memories
            WHERE NOT deleted AND ($1::uuid IS NULL OR memory_id > $1)
            ORDER BY memory_id LIMIT $2";
        let sql = Statement::new(SQL)
            .bind(after.map(|id| id.0))
            .bind(i64::from(limit));
        let read = |row: &Row| {
            Ok(Mark {
                tenant: get(row, 0)?,
                memory_id: id(row, 1)?,
                version: unsigned(row, 2)?,
            })
        };
        self.read(&sql).await?.iter().map(read).collect()
    }

    async fn job(&self, scope: &Scope, id: JobId) -> Result<Option<Job>> {
        let sql = format!(
            "SELECT {} FROM agentflow.memory_jobs WHERE job_id = $1 AND tenant = $2",
            work::COLUMNS
        );
        let sql = Statement::new(sql)
            .bind(id.0)
            .bind(scope.tenant().to_owned());
        self.read(&sql).await?.first().map(work::read).transpose()
    }

    async fn jobs(&self, scope: &Scope, query: &JobQuery) -> Result<Page<Job>> {
        let by = "created_at DESC, job_id DESC";
        let (page, order) = paged(query.limit, query.offset, by);
        let from = work::matching(scope, query);
        self.page(&from, work::COLUMNS, &order, &page, work::read)
            .await
    }

    async fn claim_jobs(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claimed>> {
        let done = self.write(&work::claim(now, until, limit)).await?;
        work::read_claimed(&done.rows)
    }

    async fn renew_job(&self, id: JobId, attempt: u32, until: Timestamp) -> Result<bool> {
        const SQL: &str = "UPDATE agentflow.memory_jobs SET due_at = $3
            WHERE job_id = $1 AND attempt = $2 AND status = 'RUNNING'";
        let sql = Statement::new(SQL)
            .bind(id.0)
            .bind(i64::from(attempt))
            .bind(Moment(until));
        Ok(self.write(&sql).await?.count > 0)
    }

    async fn note(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        key: &str,
    ) -> Result<Option<Note>> {
        const SQL: &str = "SELECT body FROM agentflow.memory_notes
            WHERE tenant = $1 AND project = $2 AND kind = $3 AND key = $4 AND NOT deleted";
        let own = [scope.tenant(), project, kind, key];
        let sql = own
            .into_iter()
            .fold(Statement::new(SQL), |sql, text| sql.bind(without_nul(text)));
        self.read(&sql).await?.first().map(read).transpose()
    }

    async fn notes_of(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        keys: &[String],
    ) -> Result<Vec<Note>> {
        const SQL: &str = "SELECT body FROM agentflow.memory_notes
            WHERE tenant = $1 AND project = $2 AND kind = $3 AND NOT deleted AND key = ANY($4)";
        check_keys(keys.len())?;
        let own = [scope.tenant(), project, kind];
        let sql = own
            .into_iter()
            .fold(Statement::new(SQL), |sql, text| sql.bind(without_nul(text)));
        let keys: Vec<String> = keys.iter().map(|key| without_nul(key)).collect();
        let found = self.read(&sql.bind(keys)).await?;
        found.iter().map(read).collect()
    }

    async fn notes(&self, scope: &Scope, query: &NoteQuery) -> Result<Page<Note>> {
        let from = "FROM agentflow.memory_notes
            WHERE tenant = $1 AND project = $2 AND kind = $3 AND NOT deleted";
        let own = [scope.tenant(), &query.project, &query.kind];
        let from = own.into_iter().fold(Statement::new(from), |sql, text| {
            sql.bind(without_nul(text))
        });
        let (page, order) = paged(query.limit, query.offset, "created_at, key");
        self.page(&from, "body", &order, &page, read).await
    }
}
