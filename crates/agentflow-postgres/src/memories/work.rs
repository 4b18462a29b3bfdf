//! Jobs. What a claim changes is in columns, everything else in the body.

use agentflow_storage::memories::{Claimed, Job, JobQuery, decode, encode};
use agentflow_types::{Result, Scope, Timestamp};
use tokio_postgres::Row;

use crate::{
    column::{Moment, get, some_time, time, unsigned, word},
    statement::Statement,
};

pub(super) const COLUMNS: &str = "body, status, attempt, due_at, started_at, tenant";

pub(super) fn read(row: &Row) -> Result<Job> {
    let job: Job = decode(get::<&str>(row, 0)?.as_bytes())?;
    Ok(Job {
        status: word(row, 1)?,
        attempt: u32::try_from(unsigned(row, 2)?).unwrap_or(u32::MAX),
        due_at: time(row, 3)?,
        started_at: some_time(row, 4)?,
        ..job
    })
}

pub(super) fn insert(scope: &Scope, job: &Job) -> Result<Statement> {
    const SQL: &str = "INSERT INTO agentflow.memory_jobs (job_id, tenant, project, kind, lane,
            status, attempt, due_at, created_at, started_at, body)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING";
    Ok(Statement::new(SQL)
        .bind(job.job_id.0)
        .bind(scope.tenant().to_owned())
        .bind(job.project.clone())
        .bind(job.kind.clone())
        .bind(job.lane.clone())
        .bind(job.status.as_str().to_owned())
        .bind(i64::from(job.attempt))
        .bind(Moment(job.due_at))
        .bind(Moment(job.created_at))
        .bind(job.started_at.map(Moment))
        .bind(encode(job)?))
}

pub(super) fn put(scope: &Scope, job: &Job) -> Result<Statement> {
    const SQL: &str = "UPDATE agentflow.memory_jobs
        SET status = $4, due_at = $5, started_at = $6, body = $7
        WHERE job_id = $1 AND tenant = $2 AND attempt = $3 AND status = 'RUNNING'";
    Ok(Statement::new(SQL)
        .bind(job.job_id.0)
        .bind(scope.tenant().to_owned())
        .bind(i64::from(job.attempt))
        .bind(job.status.as_str().to_owned())
        .bind(Moment(job.due_at))
        .bind(job.started_at.map(Moment))
        .bind(encode(job)?))
}

pub(super) fn claim(now: Timestamp, until: Timestamp, limit: u32) -> Statement {
    let sql = format!(
        "UPDATE agentflow.memory_jobs SET status = 'RUNNING', attempt = attempt + 1, due_at = $2,
            started_at = coalesce(started_at, $1)
        WHERE job_id IN (SELECT job_id FROM agentflow.memory_jobs AS j
            WHERE status IN ('PENDING', 'RUNNING') AND due_at <= $1
            AND NOT EXISTS (SELECT 1 FROM agentflow.memory_jobs AS o
                WHERE o.tenant = j.tenant AND o.lane = j.lane
                AND o.status IN ('PENDING', 'RUNNING')
                AND (o.created_at, o.job_id) < (j.created_at, j.job_id))
            ORDER BY due_at, job_id LIMIT $3 FOR UPDATE SKIP LOCKED)
        RETURNING {COLUMNS}"
    );
    Statement::new(sql)
        .bind(Moment(now))
        .bind(Moment(until))
        .bind(i64::from(limit))
}

pub(super) fn read_claimed(rows: &[Row]) -> Result<Vec<Claimed>> {
    let read = |row: &Row| {
        Ok(Claimed {
            tenant: get(row, 5)?,
            job: read(row)?,
        })
    };
    let mut claimed: Vec<Claimed> = rows.iter().map(read).collect::<Result<_>>()?;
    // The order of returned rows is not defined.
    claimed.sort_by_key(|claimed| (claimed.job.created_at, claimed.job.job_id));
    Ok(claimed)
}

/// `FROM … WHERE …` of the jobs that match.
pub(super) fn matching(scope: &Scope, query: &JobQuery) -> Statement {
    let mut sql = Statement::new("FROM agentflow.memory_jobs WHERE tenant = $1 AND project = $2")
        .bind(scope.tenant().to_owned())
        .bind(query.project.clone());
    if let Some(kind) = &query.kind {
        sql = sql.and(" AND kind = ", kind.clone(), "");
    }
    if let Some(status) = query.status {
        sql = sql.and(" AND status = ", status.as_str().to_owned(), "");
    }
    sql
}
