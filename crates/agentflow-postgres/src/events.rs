//! The numbered event log.

use agentflow_storage::{
    checkpoint::{Fence, fenced},
    event::{Event, Events},
};
use agentflow_types::{Error, Result, RunId, Str, ThreadId, Timestamp};
use async_trait::async_trait;
use tokio_postgres::Row;

use crate::{
    Postgres,
    column::{Moment, count, get, id, time, unsigned},
    statement::Statement,
};

/// The number of the last of the events; `last` if there are none.
///
/// # Errors
/// `Conflict` if a number is not greater than the one before it, beginning with `last`.
pub(crate) fn continued(last: u64, events: &[Event]) -> Result<u64> {
    events.iter().try_fold(last, |last, event| {
        if event.seq <= last {
            return Err(taken(event.seq, last));
        }
        if i64::try_from(event.seq).is_err() {
            return Err(Error::invalid("event number is too large").with("seq", event.seq));
        }
        Ok(event.seq)
    })
}

fn taken(seq: u64, last: u64) -> Error {
    Error::conflict("event number is taken")
        .with("seq", seq)
        .with("last", last)
}

/// Binds the columns of events as lists: number, run, time, kind, namespace, content.
pub(crate) fn bind(sql: Statement, events: &[Event]) -> Result<Statement> {
    let ns: Vec<String> = events
        .iter()
        .map(|event| ns_text(&event.ns))
        .collect::<Result<_>>()?;
    let list = |of: fn(&Event) -> String| events.iter().map(of).collect::<Vec<_>>();
    let at = events.iter().map(|event| Moment(event.at));
    Ok(sql
        .bind(
            events
                .iter()
                .map(|event| count(event.seq))
                .collect::<Vec<_>>(),
        )
        .bind(
            events
                .iter()
                .map(|event| event.run_id.0)
                .collect::<Vec<_>>(),
        )
        .bind(at.collect::<Vec<_>>())
        .bind(list(|event| event.kind.to_string()))
        .bind(ns)
        .bind(list(|event| event.data.to_string())))
}

fn ns_text(ns: &[Str]) -> Result<String> {
    if ns.is_empty() {
        return Ok(String::new());
    }
    serde_json::to_string(ns).map_err(|err| Error::bug("namespace is not JSON").source_err(err))
}

fn parse_ns(text: &str) -> Result<Vec<Str>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(text)
        .map_err(|err| Error::corrupt("stored namespace is not JSON").source_err(err))
}

fn read(row: &Row) -> Result<Event> {
    Ok(Event {
        seq: unsigned(row, 0)?,
        run_id: id(row, 1)?,
        at: time(row, 2)?,
        kind: get::<&str>(row, 3)?.into(),
        ns: parse_ns(get(row, 4)?)?,
        data: get::<&str>(row, 5)?.into(),
    })
}

#[async_trait]
impl Events for Postgres {
    async fn append(
        &self,
        thread_id: ThreadId,
        events: Vec<Event>,
        fence: Option<Fence>,
    ) -> Result<()> {
        // The thread's row is what appends and decisions wait for. It is locked by a statement of
        // its own, so that the next one sees a lease that was lost in the meantime.
        const LOCK: &str =
            "SELECT last_seq FROM agentflow.threads WHERE thread_id = $1 FOR NO KEY UPDATE";
        const APPEND: &str = "WITH lease AS (
                SELECT $4::uuid IS NULL OR EXISTS (SELECT FROM agentflow.runs
                    WHERE run_id = $4 AND status = 'running' AND lease_token = $5) AS held),
            grown AS (
                UPDATE agentflow.threads SET last_seq = $3
                WHERE thread_id = $1 AND last_seq < $2 AND (SELECT held FROM lease)
                RETURNING thread_id),
            added AS (
                INSERT INTO agentflow.events (thread_id, seq, run_id, at, kind, ns, data)
                SELECT g.thread_id, e.* FROM grown AS g, unnest($6::bigint[], $7::uuid[],
                    $8::timestamptz[], $9::text[], $10::text[], $11::text[]) AS e)
            SELECT held FROM lease";
        let last = continued(0, &events)?;
        let first = events.first().map_or(u64::MAX, |event| event.seq);
        let append = Statement::new(APPEND)
            .bind(thread_id.0)
            .bind(count(if events.is_empty() { 0 } else { first }))
            .bind(count(last))
            .bind(fence.map(|fence| fence.run_id.0))
            .bind(fence.map(|fence| fence.token));
        let lock = Statement::new(LOCK).bind(thread_id.0);
        let done = self.atomic(vec![lock, bind(append, &events)?]).await?;
        let row = |index: usize| done.get(index).and_then(|done| done.rows.first());
        let held: bool = row(1).map_or(Ok(false), |row| get(row, 0))?;
        if let (false, Some(fence)) = (held, fence) {
            return Err(fenced(fence));
        }
        let found = row(0)
            .ok_or_else(|| Error::not_found("thread not found").with("thread_id", thread_id))?;
        let stored = unsigned(found, 0)?;
        if first <= stored {
            return Err(taken(first, stored));
        }
        Ok(())
    }

    async fn read(
        &self,
        thread_id: ThreadId,
        run: Option<RunId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>> {
        let mut sql = Statement::new(
            "SELECT seq, run_id, at, kind, ns, data FROM agentflow.events
            WHERE thread_id = $1 AND seq > $2",
        )
        .bind(thread_id.0)
        .bind(count(after));
        if let Some(run) = run {
            sql = sql.and(" AND run_id = ", run.0, "");
        }
        sql = sql.and(" ORDER BY seq LIMIT ", i64::from(limit), "");
        self.read(&sql).await?.iter().map(read).collect()
    }

    async fn last_seq(&self, thread_id: ThreadId) -> Result<u64> {
        let sql = Statement::new("SELECT last_seq FROM agentflow.threads WHERE thread_id = $1")
            .bind(thread_id.0);
        let rows = self.read(&sql).await?;
        rows.first().map_or(Ok(0), |row| unsigned(row, 0))
    }

    async fn expire(&self, before: Timestamp, limit: u32) -> Result<u64> {
        // Events are older than the end of their run, so their own time finds those to look at;
        // rows that another server removes at the moment are left to it.
        const SQL: &str = "DELETE FROM agentflow.events WHERE (thread_id, seq) IN (
            SELECT e.thread_id, e.seq FROM agentflow.events AS e
            LEFT JOIN agentflow.runs AS r ON r.run_id = e.run_id
            WHERE e.at < $1 AND (r.run_id IS NULL
                OR (r.status NOT IN ('pending', 'running') AND r.updated_at < $1))
            ORDER BY e.at LIMIT $2 FOR UPDATE OF e SKIP LOCKED)";
        let sql = Statement::new(SQL)
            .bind(Moment(before))
            .bind(i64::from(limit));
        Ok(self.write(&sql).await?.count)
    }
}
