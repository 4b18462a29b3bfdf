//! Rows of runs.

use agentflow_storage::{
    json,
    record::{Ages, Lease, Run, RunQuery, RunStatus},
};
use agentflow_types::{Error, Result, RunId, ThreadId};
use rusqlite::{Connection, Row, params, types::Value as Sql};

use crate::column::{
    all, execute, first, get, id, map, some_time, some_word, time, to_word, value, word,
};

const COLUMNS: &str = "run_id, thread_id, assistant_id, created_at, updated_at, status, metadata, \
    kwargs, multitask_strategy, attempt, cancel, lease_worker, lease_token, lease_expires_at, \
    error, temporary_thread";

fn read(row: &Row<'_>) -> Result<Run> {
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
        attempt: get(row, 9)?,
        cancel: some_word(row, 10)?,
        lease,
        error: value(row, 14)?,
        temporary_thread: get(row, 15)?,
    })
}

/// The run, if it is the tenant's.
pub(crate) fn load(db: &Connection, tenant: &str, id: RunId) -> Result<Option<Run>> {
    let sql = format!("SELECT {COLUMNS} FROM agentflow_runs WHERE run_id = ?1 AND tenant = ?2");
    first(db, &sql, [&id.text(), tenant], read)
}

/// Runs of a thread that are not terminal, oldest first.
pub(crate) fn live(db: &Connection, thread: ThreadId) -> Result<Vec<Run>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM agentflow_runs
        WHERE thread_id = ?1 AND status IN ('pending', 'running') ORDER BY created_at, run_id"
    );
    all(db, &sql, [thread.text()], read)
}

/// Stores a new run. Nobody else writes meanwhile.
///
/// # Errors
/// `Conflict` if there is a run of this id, whoever owns it.
pub(crate) fn insert(db: &Connection, tenant: &str, run: &Run) -> Result<()> {
    let sql = "SELECT 1 FROM agentflow_runs WHERE run_id = ?1";
    if first(db, sql, [run.run_id.text()], |_| Ok(()))?.is_some() {
        return Err(Error::conflict("run id is taken").with("run_id", run.run_id));
    }
    put(db, tenant, run)
}

/// Stores a run, new or known.
///
/// # Errors
/// `Conflict` if another thread has a run of this id.
pub(crate) fn put(db: &Connection, tenant: &str, run: &Run) -> Result<()> {
    let sql = "INSERT INTO agentflow_runs (run_id, thread_id, tenant, assistant_id, created_at,
            updated_at, status, metadata, kwargs, multitask_strategy, attempt, cancel,
            lease_worker, lease_token, lease_expires_at, error, temporary_thread)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
        ON CONFLICT (run_id) DO UPDATE SET (assistant_id, created_at, updated_at, status,
            metadata, kwargs, multitask_strategy, attempt, cancel, lease_worker, lease_token,
            lease_expires_at, error, temporary_thread) = (excluded.assistant_id,
            excluded.created_at, excluded.updated_at, excluded.status, excluded.metadata,
            excluded.kwargs, excluded.multitask_strategy, excluded.attempt, excluded.cancel,
            excluded.lease_worker, excluded.lease_token, excluded.lease_expires_at,
            excluded.error, excluded.temporary_thread)
        WHERE thread_id = excluded.thread_id";
    let lease = run.lease.as_ref();
    let values = params![
        run.run_id.text(),
        run.thread_id.text(),
        tenant,
        run.assistant_id.text(),
        run.created_at.0,
        run.updated_at.0,
        run.status.as_str(),
        json::map_text(&run.metadata)?,
        json::map_text(&run.kwargs)?,
        to_word(&run.multitask_strategy)?,
        run.attempt,
        run.cancel.map(|action| to_word(&action)).transpose()?,
        lease.map(|lease| &lease.worker),
        lease.map(|lease| lease.token),
        lease.map(|lease| lease.expires_at.0),
        json::text(&run.error)?,
        run.temporary_thread,
    ];
    if execute(db, sql, values)? == 0 {
        return Err(Error::conflict("run id is taken").with("run_id", run.run_id));
    }
    Ok(())
}

/// Stores what changes in the life of a run that is stored: everything but what it was asked for.
pub(crate) fn update(db: &Connection, run: &Run) -> Result<()> {
    let sql = "UPDATE agentflow_runs SET updated_at = ?2, status = ?3, attempt = ?4, cancel = ?5,
            lease_worker = ?6, lease_token = ?7, lease_expires_at = ?8, error = ?9
        WHERE run_id = ?1";
    let lease = run.lease.as_ref();
    let values = params![
        run.run_id.text(),
        run.updated_at.0,
        run.status.as_str(),
        run.attempt,
        run.cancel.map(|action| to_word(&action)).transpose()?,
        lease.map(|lease| &lease.worker),
        lease.map(|lease| lease.token),
        lease.map(|lease| lease.expires_at.0),
        json::text(&run.error)?,
    ];
    execute(db, sql, values)?;
    Ok(())
}

/// Whether two states of a run differ at most in what [`update`] stores.
pub(crate) fn asks_the_same(a: &Run, b: &Run) -> bool {
    (a.run_id, a.thread_id, a.assistant_id, a.created_at)
        == (b.run_id, b.thread_id, b.assistant_id, b.created_at)
        && (a.multitask_strategy, a.temporary_thread) == (b.multitask_strategy, b.temporary_thread)
        && a.metadata == b.metadata
        && a.kwargs == b.kwargs
}

/// Removes a run of a thread with its events; one that does not exist is fine.
pub(crate) fn remove(db: &Connection, thread: ThreadId, run: RunId) -> Result<()> {
    let (thread, run) = (thread.text(), run.text());
    let events = "DELETE FROM agentflow_events WHERE run_id = ?2 AND thread_id = ?1";
    execute(db, events, [&thread, &run])?;
    execute(
        db,
        "DELETE FROM agentflow_runs WHERE run_id = ?2 AND thread_id = ?1",
        [&thread, &run],
    )?;
    Ok(())
}

/// Runs that match, newest first.
pub(crate) fn search(db: &Connection, tenant: &str, query: &RunQuery) -> Result<Vec<Run>> {
    let mut sql = format!("SELECT {COLUMNS} FROM agentflow_runs WHERE tenant = ?");
    let mut values: Vec<Sql> = vec![tenant.to_owned().into()];
    if let Some(thread) = query.thread_id {
        sql.push_str(" AND thread_id = ?");
        values.push(thread.text().into());
    }
    if let Some(status) = query.status {
        sql.push_str(" AND status = ?");
        values.push(status.as_str().to_owned().into());
    }
    if !query.run_ids.is_empty() {
        sql.push_str(" AND run_id IN (SELECT value FROM json_each(?))");
        let ids: Vec<String> = query.run_ids.iter().map(RunId::text).collect();
        values.push(serde_json::Value::from(ids).to_string().into());
    }
    sql.push_str(" ORDER BY created_at DESC, run_id DESC LIMIT ? OFFSET ?");
    values.push(i64::from(query.limit).into());
    values.push(i64::try_from(query.offset).unwrap_or(i64::MAX).into());
    all(db, &sql, rusqlite::params_from_iter(values), read)
}

/// How long runs wait and execute, of all tenants.
pub(crate) fn ages(db: &Connection) -> Result<Ages> {
    let sql = "SELECT min(created_at) FILTER (WHERE status = 'pending'),
            min(updated_at) FILTER (WHERE status = 'running')
        FROM agentflow_runs WHERE status IN ('pending', 'running')";
    let ages = first(db, sql, [], |row| {
        Ok(Ages {
            pending_since: some_time(row, 0)?,
            running_since: some_time(row, 1)?,
        })
    })?;
    Ok(ages.unwrap_or_default())
}

/// Runs by status, of all tenants.
pub(crate) fn counts(db: &Connection) -> Result<Vec<(RunStatus, u64)>> {
    let sql = "SELECT status, count(*) FROM agentflow_runs GROUP BY status ORDER BY status";
    all(db, sql, [], |row| {
        Ok((word(row, 0)?, get::<i64>(row, 1)?.unsigned_abs()))
    })
}
