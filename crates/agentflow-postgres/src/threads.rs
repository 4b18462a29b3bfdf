//! Rows of threads, and the queue's view of them.

use agentflow_storage::{
    checkpoint::{Fence, Rest, fenced},
    filter, json,
    page::{Page, PageQuery},
    record::{
        Ages, Candidate, Decide, Heartbeat, QUEUE_PRINCIPAL, Run, RunQuery, RunStatus, Standing,
        Thread, ThreadQuery, ThreadTtl, Threads,
    },
};
use agentflow_types::{Error, Result, RunId, Scope, ThreadId, Timestamp, Value};
use async_trait::async_trait;
use tokio_postgres::Row;

use crate::{
    Postgres,
    column::{Moment, get, id, map, order, time, unsigned, value, word},
    runs, searchable,
    statement::Statement,
};

/// Most candidates of one call, whatever is asked: each costs a place in the server's table of
/// locks for the length of the call.
const MAX_CANDIDATES: u32 = 512;
/// Candidates that are looked at beyond the limit, in place of those that somebody decides about.
const SPARE_CANDIDATES: u32 = 64;
/// Threads, and runs, that one statement asks about.
const WATCHED: usize = 8192;
/// Most scalars of a state that its index holds one by one.
const MAX_INDEXED_LEAVES: usize = 4096;
/// What the index over values holds: a state, or for a large one a key that no state has.
const INDEXED: &str =
    "(CASE WHEN state_large THEN '{\"\\ue0af\": 1}'::jsonb ELSE state_search END)";
/// Keeps the locks of threads apart from other advisory locks in the database; an arbitrary seed.
pub(crate) const LOCK_SEED: &str = "7021784619053";

/// Columns of [`read`], of a thread `t` with its values `v`.
pub(crate) const COLUMNS: &str = "t.thread_id, t.created_at, t.updated_at, t.state_updated_at, \
    t.status, t.metadata, t.config, t.interrupts, t.error, t.ttl_strategy, t.ttl_minutes";

/// A thread from [`COLUMNS`]; its values come from elsewhere.
pub(crate) fn read(row: &Row, values: Value) -> Result<Thread> {
    let ttl = match (get::<Option<String>>(row, 9)?, get::<Option<f64>>(row, 10)?) {
        (Some(strategy), Some(ttl_minutes)) => Some(ThreadTtl {
            strategy,
            ttl_minutes,
        }),
        _ => None,
    };
    let interrupts = serde_json::from_str(get(row, 7)?)
        .map_err(|err| Error::corrupt("stored interrupts are not JSON").source_err(err))?;
    Ok(Thread {
        thread_id: id(row, 0)?,
        created_at: time(row, 1)?,
        updated_at: time(row, 2)?,
        state_updated_at: time(row, 3)?,
        status: word(row, 4)?,
        metadata: map(row, 5)?,
        config: map(row, 6)?,
        values,
        interrupts,
        error: value(row, 8)?,
        ttl,
    })
}

fn read_joined(row: &Row) -> Result<Thread> {
    read(row, value(row, 11)?)
}

/// Stores the row of a thread, new or known, without its values. Another tenant's thread of this
/// id makes the server refuse a null in `tenant`.
pub(crate) fn put(scope: &Scope, thread: &Thread) -> Result<Statement> {
    const SQL: &str = "INSERT INTO agentflow.threads AS t (thread_id, tenant, created_at,
            updated_at, state_updated_at, status, metadata, metadata_search, config, interrupts,
            error, ttl_strategy, ttl_minutes, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9, $10, $11, $12, $13, $14)
        ON CONFLICT (thread_id) DO UPDATE SET (tenant, created_at, updated_at, state_updated_at,
            status, metadata, metadata_search, config, interrupts, error, ttl_strategy,
            ttl_minutes, expires_at) =
            (CASE WHEN t.tenant = excluded.tenant THEN t.tenant END,
            excluded.created_at, excluded.updated_at, excluded.state_updated_at,
            excluded.status, excluded.metadata, excluded.metadata_search, excluded.config,
            excluded.interrupts, excluded.error, excluded.ttl_strategy, excluded.ttl_minutes,
            excluded.expires_at)";
    let interrupts = serde_json::to_string(&thread.interrupts)
        .map_err(|err| Error::bug("interrupts are not JSON").source_err(err))?;
    Ok(Statement::new(SQL)
        .bind(thread.thread_id.0)
        .bind(scope.tenant().to_owned())
        .bind(Moment(thread.created_at))
        .bind(Moment(thread.updated_at))
        .bind(Moment(thread.state_updated_at))
        .bind(thread.status.as_str().to_owned())
        .bind(json::map_text(&thread.metadata)?)
        .bind(searchable::map_text(&thread.metadata)?)
        .bind(json::map_text(&thread.config)?)
        .bind(interrupts)
        .bind(json::text(&thread.error)?)
        .bind(thread.ttl.as_ref().map(|ttl| ttl.strategy.clone()))
        .bind(thread.ttl.as_ref().map(|ttl| ttl.ttl_minutes))
        .bind(thread.expires_at().map(Moment)))
}

/// Stores the values of a thread; null is the absence of a row.
pub(crate) fn put_values(thread: ThreadId, values: &Value) -> Result<Statement> {
    const PUT: &str = "INSERT INTO agentflow.thread_values (thread_id, state, state_search,
            state_large)
        VALUES ($1, $2, $3::jsonb, $4)
        ON CONFLICT (thread_id) DO UPDATE SET (state, state_search, state_large) =
            (excluded.state, excluded.state_search, excluded.state_large)";
    if values.is_null() {
        return Ok(remove_values(thread));
    }
    Ok(Statement::new(PUT)
        .bind(thread.0)
        .bind(json::text(values)?)
        .bind(searchable::text(values)?)
        .bind(searchable::leaves(values) > MAX_INDEXED_LEAVES))
}

fn remove_values(thread: ThreadId) -> Statement {
    Statement::new("DELETE FROM agentflow.thread_values WHERE thread_id = $1").bind(thread.0)
}

/// Removes a thread with its runs and events.
pub(crate) fn remove(thread: ThreadId) -> [Statement; 4] {
    let of = |sql: &'static str| Statement::new(sql).bind(thread.0);
    [
        of("DELETE FROM agentflow.events WHERE thread_id = $1"),
        of("DELETE FROM agentflow.runs WHERE thread_id = $1"),
        remove_values(thread),
        of("DELETE FROM agentflow.threads WHERE thread_id = $1"),
    ]
}

fn matching(scope: &Scope, query: &ThreadQuery) -> Result<Statement> {
    let mut sql = Statement::new(
        "FROM agentflow.threads AS t
        LEFT JOIN agentflow.thread_values AS v USING (thread_id) WHERE tenant = $1",
    )
    .bind(scope.tenant().to_owned());
    if !query.ids.is_empty() {
        let ids: Vec<uuid::Uuid> = query.ids.iter().map(|id| id.0).collect();
        sql = sql.and(" AND thread_id = ANY(", ids, ")");
    }
    if let Some(status) = query.status {
        sql = sql.and(" AND status = ", status.as_str().to_owned(), "");
    }
    if !query.metadata.is_empty() {
        let metadata = searchable::map_text(&query.metadata)?;
        sql = sql.and(" AND metadata_search @> ", metadata, "::jsonb");
    }
    if !query.values.is_empty() {
        let values = searchable::map_text(&query.values)?;
        sql = sql
            .and(" AND state_search @> ", values.clone(), "::jsonb AND (")
            .text(INDEXED)
            .and(" @> ", values, "::jsonb OR ")
            .text(INDEXED)
            .text(" @> '{\"\\ue0af\": 1}'::jsonb)");
    }
    Ok(sql)
}

fn candidate(row: &Row) -> Result<Candidate> {
    // Work found in the queue is done in the tenant's name, not a person's.
    Ok(Candidate {
        scope: Scope::new(get(row, 0)?, QUEUE_PRINCIPAL),
        thread_id: id(row, 1)?,
    })
}

/// The ids that one statement asks about.
fn part_of<T>(ids: &[T], part: usize) -> &[T] {
    ids.chunks(WATCHED).nth(part).unwrap_or_default()
}

#[async_trait]
impl Threads for Postgres {
    async fn get(&self, scope: &Scope, id: ThreadId) -> Result<Option<Thread>> {
        let sql = format!(
            "SELECT {COLUMNS}, v.state FROM agentflow.threads AS t
            LEFT JOIN agentflow.thread_values AS v USING (thread_id)
            WHERE thread_id = $1 AND tenant = $2"
        );
        let sql = Statement::new(sql)
            .bind(id.0)
            .bind(scope.tenant().to_owned());
        self.read(&sql).await?.first().map(read_joined).transpose()
    }

    async fn decide(&self, scope: &Scope, id: ThreadId, decide: Decide) -> Result<()> {
        crate::decide::run(self, scope, id, decide).await
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &ThreadQuery,
        page: &PageQuery,
    ) -> Result<Page<Thread>> {
        filter::check_page(page, filter::THREAD_COLUMNS)?;
        let columns = format!("{COLUMNS}, v.state");
        let order = order(page, "thread_id", &[]);
        let matching = matching(scope, query)?;
        self.page(&matching, &columns, &order, page, read_joined)
            .await
    }

    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>> {
        let rows = self.read(&runs::load(scope, id)).await?;
        rows.first().map(runs::read).transpose()
    }

    async fn runs(&self, scope: &Scope, query: &RunQuery) -> Result<Vec<Run>> {
        let rows = self.read(&runs::search(scope, query)).await?;
        rows.iter().map(runs::read).collect()
    }

    async fn candidates(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        // The first part walks the index of pending runs in order and stops at the limit. A
        // thread that somebody decides about at the moment is skipped, as `SKIP LOCKED` would:
        // the decision holds its advisory lock, and trying that writes nothing, while a lock on
        // the row would make each look at the queue a write that waits for the disk.
        const SQL: &str = "WITH due AS MATERIALIZED (
                (SELECT r.tenant, r.thread_id, r.created_at AS since FROM agentflow.runs AS r
                WHERE r.status = 'pending' AND r.created_at <= $1 AND NOT EXISTS (
                    SELECT FROM agentflow.runs AS o WHERE o.thread_id = r.thread_id
                        AND o.status IN ('pending', 'running') AND (o.status = 'running'
                            OR (o.created_at, o.run_id) < (r.created_at, r.run_id)))
                ORDER BY r.created_at, r.thread_id LIMIT $2)
                UNION ALL
                (SELECT min(tenant), thread_id, min(coalesce(lease_expires_at, created_at))
                FROM agentflow.runs
                WHERE status = 'running' AND coalesce(lease_expires_at, created_at) < $1
                GROUP BY thread_id ORDER BY 3, thread_id LIMIT $2)
                ORDER BY since, thread_id LIMIT $2)
            SELECT tenant, thread_id FROM due
            WHERE pg_try_advisory_xact_lock_shared(uuid_hash_extended(thread_id, ";
        let limit = limit.min(MAX_CANDIDATES);
        let sql = Statement::new(SQL)
            .bind(Moment(now))
            .bind(i64::from(limit + SPARE_CANDIDATES))
            .text(LOCK_SEED)
            .and(")) ORDER BY since, thread_id LIMIT ", i64::from(limit), "");
        self.read(&sql).await?.iter().map(candidate).collect()
    }

    async fn heartbeat(&self, run_id: RunId, token: i64, until: Timestamp) -> Result<Heartbeat> {
        let fence = Fence { run_id, token };
        let done = self.write(&runs::heartbeat(fence, until)).await?;
        runs::read_heartbeat(done.rows.first().ok_or_else(|| fenced(fence))?)
    }

    async fn rests(&self, rest: Rest) -> Result<bool> {
        Ok(!self.read(&runs::rests(rest)).await?.is_empty())
    }

    async fn holds(&self, fence: Fence) -> Result<bool> {
        Ok(!self.read(&runs::holds(fence)).await?.is_empty())
    }

    async fn standing(&self, threads: &[ThreadId], runs: &[RunId]) -> Result<Standing> {
        // A number for a thread, none for a run.
        const SQL: &str = "SELECT thread_id, last_seq FROM agentflow.threads
            WHERE thread_id = ANY($1::uuid[])
            UNION ALL
            SELECT run_id, NULL FROM agentflow.runs
            WHERE run_id = ANY($2::uuid[]) AND status IN ('pending', 'running')";
        let mut standing = Standing::default();
        let asked = threads.len().max(runs.len()).div_ceil(WATCHED);
        for part in 0..asked {
            let threads = part_of(threads, part).iter().map(|id| id.0);
            let runs = part_of(runs, part).iter().map(|id| id.0);
            let sql = Statement::new(SQL)
                .bind(threads.collect::<Vec<_>>())
                .bind(runs.collect::<Vec<_>>());
            for row in &self.read(&sql).await? {
                match get::<Option<i64>>(row, 1)? {
                    Some(_) => standing.logs.push((id(row, 0)?, unsigned(row, 1)?)),
                    None => standing.live.push(id(row, 0)?),
                }
            }
        }
        Ok(standing)
    }

    async fn ages(&self) -> Result<Ages> {
        let rows = self.read(&runs::ages()).await?;
        rows.first().map_or(Ok(Ages::default()), runs::read_ages)
    }

    async fn counts(&self) -> Result<Vec<(RunStatus, u64)>> {
        let rows = self.read(&runs::counts()).await?;
        rows.iter().map(runs::read_count).collect()
    }

    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        const SQL: &str = "SELECT tenant, thread_id FROM agentflow.threads
            WHERE expires_at IS NOT NULL AND expires_at < $1
            ORDER BY expires_at, thread_id LIMIT $2";
        let sql = Statement::new(SQL).bind(Moment(now)).bind(i64::from(limit));
        self.read(&sql).await?.iter().map(candidate).collect()
    }
}
