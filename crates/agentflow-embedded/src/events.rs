//! The numbered event log.

use agentflow_storage::{
    checkpoint::Fence,
    event::{Event, Events},
};
use agentflow_types::{Error, Result, RunId, Str, ThreadId, Timestamp};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use crate::{
    Embedded,
    checkpoints::check_fence,
    column::{all, bytes, execute, first, get, id, text, time},
};

/// Appends events to a thread whose last number is `last`; returns the new last number.
pub(crate) fn append(
    db: &Connection,
    thread: ThreadId,
    last: u64,
    events: &[Event],
) -> Result<u64> {
    let sql = "INSERT INTO agentflow_events (thread_id, seq, run_id, at, kind, ns, data)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let thread = thread.text();
    let mut newest = last;
    for event in events {
        if event.seq <= newest {
            return Err(Error::conflict("event number is taken")
                .with("seq", event.seq)
                .with("last", newest));
        }
        let ns = ns_text(&event.ns)?;
        let row = params![
            thread,
            number(event.seq)?,
            event.run_id.text(),
            event.at.0,
            &*event.kind,
            ns,
            &*event.data,
        ];
        execute(db, sql, row)?;
        newest = event.seq;
    }
    if newest > last {
        let sql = "UPDATE agentflow_threads SET last_seq = ?2 WHERE thread_id = ?1";
        execute(db, sql, params![thread, number(newest)?])?;
    }
    Ok(newest)
}

fn number(seq: u64) -> Result<i64> {
    i64::try_from(seq).map_err(|_| Error::invalid("event number is too large").with("seq", seq))
}

fn ns_text(ns: &[Str]) -> Result<String> {
    if ns.is_empty() {
        return Ok(String::new());
    }
    serde_json::to_string(ns).map_err(|err| Error::bug("namespace is not JSON").source_err(err))
}

fn parse_ns(text: &[u8]) -> Result<Vec<Str>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(text)
        .map_err(|err| Error::corrupt("stored namespace is not JSON").source_err(err))
}

fn read(row: &Row<'_>) -> Result<Event> {
    Ok(Event {
        seq: get::<i64>(row, 0)? as u64,
        run_id: id(row, 1)?,
        at: time(row, 2)?,
        kind: text(row, 3)?.into(),
        ns: parse_ns(bytes(row, 4)?)?,
        data: text(row, 5)?.into(),
    })
}

/// The last number of a thread; `None` if there is no such thread.
pub(crate) fn last_seq(db: &Connection, thread: ThreadId) -> Result<Option<u64>> {
    let sql = "SELECT last_seq FROM agentflow_threads WHERE thread_id = ?1";
    first(db, sql, [thread.text()], |row| {
        Ok(get::<i64>(row, 0)? as u64)
    })
}

#[async_trait]
impl Events for Embedded {
    async fn append(
        &self,
        thread_id: ThreadId,
        events: Vec<Event>,
        fence: Option<Fence>,
    ) -> Result<()> {
        self.write(move |db| {
            check_fence(db, fence)?;
            let last = last_seq(db, thread_id)?
                .ok_or_else(|| Error::not_found("thread not found").with("thread_id", thread_id))?;
            append(db, thread_id, last, &events).map(drop)
        })
        .await
    }

    async fn read(
        &self,
        thread_id: ThreadId,
        run: Option<RunId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>> {
        const OF_THREAD: &str = "SELECT seq, run_id, at, kind, ns, data FROM agentflow_events
            WHERE thread_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
        const OF_RUN: &str = "SELECT seq, run_id, at, kind, ns, data FROM agentflow_events
            WHERE run_id = ?4 AND thread_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        self.read_short(move |db| match run {
            None => all(db, OF_THREAD, params![thread_id.text(), after, limit], read),
            Some(run) => all(
                db,
                OF_RUN,
                params![thread_id.text(), after, limit, run.text()],
                read,
            ),
        })
        .await
    }

    async fn last_seq(&self, thread_id: ThreadId) -> Result<u64> {
        self.read_short(move |db| Ok(last_seq(db, thread_id)?.unwrap_or(0)))
            .await
    }

    async fn expire(&self, before: Timestamp, limit: u32) -> Result<u64> {
        self.write(move |db| {
            let sql = "DELETE FROM agentflow_events WHERE (thread_id, seq) IN (
                SELECT e.thread_id, e.seq FROM agentflow_events AS e
                LEFT JOIN agentflow_runs AS r ON r.run_id = e.run_id
                WHERE r.run_id IS NULL
                    OR (r.status NOT IN ('pending', 'running') AND r.updated_at < ?1)
                LIMIT ?2)";
            Ok(execute(db, sql, params![before.0, limit])? as u64)
        })
        .await
    }
}
