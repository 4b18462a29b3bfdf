//! Jobs. What a claim changes is in columns, everything else in the body.

use agentflow_storage::memories::{Claimed, Job, JobQuery, decode, encode};
use agentflow_types::{Result, Scope, Timestamp};
use rusqlite::{Connection, Row, params, types::Value as Sql};

use super::changed;
use crate::column::{all, bytes, execute, get, some_time, text, time, word};

pub(super) const COLUMNS: &str = "body, status, attempt, due_at, started_at, tenant";

pub(super) fn read(row: &Row<'_>) -> Result<Job> {
    let job: Job = decode(bytes(row, 0)?)?;
    Ok(Job {
        status: word(row, 1)?,
        attempt: get(row, 2)?,
        due_at: time(row, 3)?,
        started_at: some_time(row, 4)?,
        ..job
    })
}

pub(super) fn insert(db: &Connection, tenant: &str, job: &Job) -> Result<()> {
    let sql = "INSERT INTO agentflow_memory_jobs (job_id, tenant, project, kind, lane, status,
            attempt, due_at, created_at, started_at, body)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING";
    let values = params![
        job.job_id.text(),
        tenant,
        job.project,
        job.kind,
        job.lane,
        job.status.as_str(),
        job.attempt,
        job.due_at.0,
        job.created_at.0,
        job.started_at.map(|at| at.0),
        encode(job)?,
    ];
    changed(execute(db, sql, values)?, "job")
}

pub(super) fn put(db: &Connection, tenant: &str, job: &Job) -> Result<()> {
    let sql = "UPDATE agentflow_memory_jobs
        SET status = ?4, due_at = ?5, started_at = ?6, body = ?7
        WHERE job_id = ?1 AND tenant = ?2 AND attempt = ?3 AND status = 'RUNNING'";
    let values = params![
        job.job_id.text(),
        tenant,
        job.attempt,
        job.status.as_str(),
        job.due_at.0,
        job.started_at.map(|at| at.0),
        encode(job)?,
    ];
    changed(execute(db, sql, values)?, "job")
}

pub(super) fn claim(
    db: &Connection,
    now: Timestamp,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<Claimed>> {
    let sql = format!(
        "UPDATE agentflow_memory_jobs SET status = 'RUNNING', attempt = attempt + 1, due_at = ?2,
            started_at = coalesce(started_at, ?1)
        WHERE job_id IN (SELECT job_id FROM agentflow_memory_jobs AS j
            WHERE status IN ('PENDING', 'RUNNING') AND due_at <= ?1
            AND NOT EXISTS (SELECT 1 FROM agentflow_memory_jobs AS o
                WHERE o.tenant = j.tenant AND o.lane = j.lane
                AND o.status IN ('PENDING', 'RUNNING')
                AND (o.created_at, o.job_id) < (j.created_at, j.job_id))
            ORDER BY due_at, job_id LIMIT ?3)
        RETURNING {COLUMNS}"
    );
    let mut claimed = all(db, &sql, params![now.0, until.0, limit], |row| {
        Ok(Claimed {
            tenant: text(row, 5)?.to_owned(),
            job: read(row)?,
        })
    })?;
    // The order of returned rows is not defined.
    claimed.sort_by_key(|claimed| (claimed.job.created_at, claimed.job.job_id));
    Ok(claimed)
}

/// `FROM … WHERE …` of the jobs that match.
pub(super) fn matching(scope: &Scope, query: &JobQuery) -> (String, Vec<Sql>) {
    let mut sql = "FROM agentflow_memory_jobs WHERE tenant = ? AND project = ?".to_owned();
    let mut values: Vec<Sql> = vec![
        scope.tenant().to_owned().into(),
        query.project.clone().into(),
    ];
    if let Some(kind) = &query.kind {
        sql.push_str(" AND kind = ?");
        values.push(kind.clone().into());
    }
    if let Some(status) = query.status {
        sql.push_str(" AND status = ?");
        values.push(status.as_str().to_owned().into());
    }
    (sql, values)
}
