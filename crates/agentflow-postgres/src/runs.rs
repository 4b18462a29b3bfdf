//! Rows of runs.

use agentflow_storage::{
    checkpoint::{Fence, Rest},
    json,
    record::{Ages, Heartbeat, Lease, Run, RunQuery, RunStatus},
};
use agentflow_types::{Result, RunId, Scope, ThreadId, Timestamp};
use tokio_postgres::Row;

use crate::{
    column::{
        Moment, count, get, id, map, some_time, some_word, time, to_word, unsigned, value, word,
    },
    statement::Statement,
};

const COLUMNS: &str = "run_id, thread_id, assistant_id, created_at, updated_at, status, metadata, \
    kwargs, multitask_strategy, attempt, cancel, lease_worker, lease_token, lease_expires_at, \
    error, temporary_thread";

/// A run from a row of [`live`], [`load`] or [`search`].
pub(crate) fn read(row: &Row) -> Result<Run> {
    let lease = match get::<Option<i64>>(row, 12)? {
        None => None,
        Some(token) => Some(Lease {
            worker: get(row, 11)?,
            token,
            expires_at: time(row, 13)?,
        }),
    };
    Ok(Run {
        run_id: id(row, 0)?,
        thread_id: id(row, 1)?,
        assistant_id: id(row, 2)?,
        created_at: time(row, 3)?,
        updated_at: time(row, 4)?,
        status: word(row, 5)?,
        metadata: map(row, 6)?,
        kwargs: map(row, 7)?,
        multitask_strategy: word(row, 8)?,
        attempt: u32::try_from(unsigned(row, 9)?).unwrap_or(u32::MAX),
        cancel: some_word(row, 10)?,
        lease,
        error: value(row, 14)?,
        temporary_thread: get(row, 15)?,
    })
}

/// The run, if it is the tenant's.
pub(crate) fn load(scope: &Scope, id: RunId) -> Statement {
    let sql = format!("SELECT {COLUMNS} FROM agentflow.runs WHERE run_id = $1 AND tenant = $2");
    Statement::new(sql)
        .bind(id.0)
        .bind(scope.tenant().to_owned())
}

/// Runs of the tenant's thread that are not terminal, oldest first.
pub(crate) fn live(scope: &Scope, thread: ThreadId) -> Statement {
    let sql = format!(
        "SELECT {COLUMNS} FROM agentflow.runs
        WHERE thread_id = $1 AND tenant = $2 AND status IN ('pending', 'running')
        ORDER BY created_at, run_id"
    );
    Statement::new(sql)
        .bind(thread.0)
        .bind(scope.tenant().to_owned())
}

const INSERT: &str = "INSERT INTO agentflow.runs AS r (run_id, thread_id, assistant_id,
        created_at, updated_at, status, multitask_strategy, attempt, cancel, lease_worker,
        lease_token, lease_expires_at, error, temporary_thread, tenant, metadata, kwargs)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";

/// Stores a new run; the server refuses one whose id is taken.
pub(crate) fn insert(scope: &Scope, run: &Run) -> Result<Statement> {
    all(changing(INSERT, run)?, scope, run)
}

/// Stores a run whole, new or known. Another thread's run of this id makes the server refuse a
/// null in `thread_id`.
pub(crate) fn put(scope: &Scope, run: &Run) -> Result<Statement> {
    const KNOWN: &str = " ON CONFLICT (run_id) DO UPDATE SET (thread_id, assistant_id, created_at,
            updated_at, status, multitask_strategy, attempt, cancel, lease_worker, lease_token,
            lease_expires_at, error, temporary_thread, metadata, kwargs) =
            (CASE WHEN r.thread_id = excluded.thread_id AND r.tenant = excluded.tenant
                THEN r.thread_id END,
            excluded.assistant_id, excluded.created_at, excluded.updated_at, excluded.status,
            excluded.multitask_strategy, excluded.attempt, excluded.cancel,
            excluded.lease_worker, excluded.lease_token, excluded.lease_expires_at,
            excluded.error, excluded.temporary_thread, excluded.metadata, excluded.kwargs)";
    all(changing(INSERT, run)?, scope, run).map(|insert| insert.text(KNOWN))
}

/// Binds what [`changing`] does not.
fn all(sql: Statement, scope: &Scope, run: &Run) -> Result<Statement> {
    Ok(sql
        .bind(scope.tenant().to_owned())
        .bind(json::map_text(&run.metadata)?)
        .bind(json::map_text(&run.kwargs)?))
}

/// Stores a run that exists with this metadata and these arguments, which are not sent again: a
/// claim need not copy the input of the run.
pub(crate) fn touch(run: &Run) -> Result<Statement> {
    const SQL: &str = "UPDATE agentflow.runs SET (assistant_id, created_at, updated_at, status,
            multitask_strategy, attempt, cancel, lease_worker, lease_token, lease_expires_at,
            error, temporary_thread) = ($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        WHERE run_id = $1 AND thread_id = $2";
    changing(SQL, run)
}

/// Binds everything but tenant, metadata and arguments as `$1` to `$14`.
fn changing(sql: &'static str, run: &Run) -> Result<Statement> {
    let lease = run.lease.as_ref();
    Ok(Statement::new(sql)
        .bind(run.run_id.0)
        .bind(run.thread_id.0)
        .bind(run.assistant_id.0)
        .bind(Moment(run.created_at))
        .bind(Moment(run.updated_at))
        .bind(run.status.as_str().to_owned())
        .bind(to_word(&run.multitask_strategy)?)
        .bind(i64::from(run.attempt))
        .bind(run.cancel.map(|action| to_word(&action)).transpose()?)
        .bind(lease.map(|lease| lease.worker.clone()))
        .bind(lease.map(|lease| lease.token))
        .bind(lease.map(|lease| Moment(lease.expires_at)))
        .bind(json::text(&run.error)?)
        .bind(run.temporary_thread))
}

/// Removes a run of a thread with its events; one that does not exist is fine.
pub(crate) fn remove(thread: ThreadId, run: RunId) -> [Statement; 2] {
    const EVENTS: &str = "DELETE FROM agentflow.events WHERE run_id = $2 AND thread_id = $1";
    const RUN: &str = "DELETE FROM agentflow.runs WHERE run_id = $2 AND thread_id = $1";
    [EVENTS, RUN].map(|sql| Statement::new(sql).bind(thread.0).bind(run.0))
}

/// Runs that match, newest first.
pub(crate) fn search(scope: &Scope, query: &RunQuery) -> Statement {
    let sql = format!("SELECT {COLUMNS} FROM agentflow.runs WHERE tenant = $1");
    let mut sql = Statement::new(sql).bind(scope.tenant().to_owned());
    if let Some(thread) = query.thread_id {
        sql = sql.and(" AND thread_id = ", thread.0, "");
    }
    if let Some(status) = query.status {
        sql = sql.and(" AND status = ", status.as_str().to_owned(), "");
    }
    if !query.run_ids.is_empty() {
        let ids: Vec<uuid::Uuid> = query.run_ids.iter().map(|id| id.0).collect();
        sql = sql.and(" AND run_id = ANY(", ids, ")");
    }
    sql.and(
        " ORDER BY created_at DESC, run_id DESC LIMIT ",
        i64::from(query.limit),
        "",
    )
    .and(" OFFSET ", count(query.offset), "")
}

/// Extends a lease; returns one row if it is held.
pub(crate) fn heartbeat(fence: Fence, until: Timestamp) -> Statement {
    const SQL: &str = "UPDATE agentflow.runs SET lease_expires_at = $3
        WHERE run_id = $1 AND status = 'running' AND lease_token = $2 RETURNING cancel";
    Statement::new(SQL)
        .bind(fence.run_id.0)
        .bind(fence.token)
        .bind(Moment(until))
}

/// One row if a lease is held.
pub(crate) fn holds(fence: Fence) -> Statement {
    const SQL: &str = "SELECT 1 FROM agentflow.runs
        WHERE run_id = $1 AND status = 'running' AND lease_token = $2";
    Statement::new(SQL).bind(fence.run_id.0).bind(fence.token)
}

/// One row if no run of the thread is running and its row is as it was seen.
pub(crate) fn rests(rest: Rest) -> Statement {
    const SQL: &str = "SELECT 1 FROM agentflow.threads AS t
        WHERE thread_id = $1 AND updated_at = $2 AND NOT EXISTS (SELECT 1 FROM agentflow.runs AS r
            WHERE r.thread_id = t.thread_id AND r.status = 'running')";
    Statement::new(SQL)
        .bind(rest.thread_id.0)
        .bind(Moment(rest.updated_at))
}

/// The row of [`heartbeat`].
pub(crate) fn read_heartbeat(row: &Row) -> Result<Heartbeat> {
    Ok(Heartbeat {
        cancel: some_word(row, 0)?,
    })
}

/// How long runs wait and execute, of all tenants.
pub(crate) fn ages() -> Statement {
    Statement::new(
        "SELECT min(created_at) FILTER (WHERE status = 'pending'),
            min(updated_at) FILTER (WHERE status = 'running')
        FROM agentflow.runs WHERE status IN ('pending', 'running')",
    )
}

/// The row of [`ages`].
pub(crate) fn read_ages(row: &Row) -> Result<Ages> {
    Ok(Ages {
        pending_since: some_time(row, 0)?,
        running_since: some_time(row, 1)?,
    })
}

/// Runs by status, of all tenants.
pub(crate) fn counts() -> Statement {
    Statement::new("SELECT status, count(*) FROM agentflow.runs GROUP BY status ORDER BY status")
}

/// A row of [`counts`].
pub(crate) fn read_count(row: &Row) -> Result<(RunStatus, u64)> {
    Ok((word(row, 0)?, unsigned(row, 1)?))
}
