//! Letters to the outside.

use agentflow_storage::{
    json,
    outbox::{Depth, Letter, Outbox, Posted, Settled},
    page::Page,
};
use agentflow_types::{LetterId, Result, Scope, Timestamp};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use crate::{
    Embedded,
    column::{all, count, execute, first, get, id, some_time, time, value},
};

const COLUMNS: &str = "letter_id, tenant, topic, created_at, due_at, attempt, dead, error, body";

fn read(row: &Row<'_>) -> Result<Posted> {
    Ok(Posted {
        letter: Letter {
            letter_id: id(row, 0)?,
            topic: get(row, 2)?,
            created_at: time(row, 3)?,
            body: value(row, 8)?,
        },
        tenant: get(row, 1)?,
        due_at: time(row, 4)?,
        attempt: get(row, 5)?,
        is_dead: get(row, 6)?,
        error: get(row, 7)?,
    })
}

/// Stores a letter within a decision, unless its id exists.
pub(crate) fn post(db: &Connection, tenant: &str, letter: &Letter) -> Result<()> {
    let sql = "INSERT INTO agentflow_outbox (letter_id, tenant, topic, created_at, due_at,
            attempt, dead, error, body)
        VALUES (?1, ?2, ?3, ?4, ?4, 0, 0, '', ?5) ON CONFLICT (letter_id) DO NOTHING";
    let values = params![
        letter.letter_id.text(),
        tenant,
        letter.topic,
        letter.created_at.0,
        json::text(&letter.body)?,
    ];
    execute(db, sql, values).map(drop)
}

#[async_trait]
impl Outbox for Embedded {
    async fn claim(
        &self,
        topic: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Posted>> {
        let topic = topic.to_owned();
        self.write(move |db| {
            let sql = format!(
                "UPDATE agentflow_outbox SET attempt = attempt + 1, due_at = ?3
                WHERE letter_id IN (SELECT letter_id FROM agentflow_outbox
                    WHERE topic = ?1 AND NOT dead AND due_at <= ?2
                    ORDER BY due_at, letter_id LIMIT ?4)
                RETURNING {COLUMNS}"
            );
            let mut found = all(db, &sql, params![topic, now.0, until.0, limit], read)?;
            // The order of returned rows is not defined; ids grow with time.
            found.sort_by_key(|posted| posted.letter.letter_id);
            Ok(found)
        })
        .await
    }

    async fn settle(&self, id: LetterId, attempt: u32, settled: Settled) -> Result<bool> {
        self.write(move |db| {
            let id = id.text();
            let changed = match settled {
                Settled::Delivered => {
                    let sql = "DELETE FROM agentflow_outbox
                        WHERE letter_id = ?1 AND attempt = ?2 AND NOT dead";
                    execute(db, sql, params![id, attempt])?
                }
                Settled::Again(at, error) => update(db, &id, attempt, false, at, &error)?,
                Settled::Dead(at, error) => update(db, &id, attempt, true, at, &error)?,
            };
            Ok(changed > 0)
        })
        .await
    }

    async fn dead(
        &self,
        scope: &Scope,
        topic: &str,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Posted>> {
        let (tenant, topic) = (scope.tenant().to_owned(), topic.to_owned());
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        self.read(move |db| {
            let from = "FROM agentflow_outbox WHERE tenant = ?1 AND topic = ?2 AND dead";
            let rows = format!(
                "SELECT {COLUMNS} {from} ORDER BY due_at DESC, letter_id DESC LIMIT ?3 OFFSET ?4"
            );
            let items = all(db, &rows, params![tenant, topic, limit, offset], read)?;
            let total = format!("SELECT count(*) {from}");
            let total = count(db, &total, params![tenant, topic])?;
            Ok(Page { items, total })
        })
        .await
    }

    async fn revive(&self, scope: &Scope, id: LetterId, now: Timestamp) -> Result<bool> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            let sql = "UPDATE agentflow_outbox SET dead = 0, due_at = ?3
                WHERE letter_id = ?1 AND tenant = ?2 AND dead";
            Ok(execute(db, sql, params![id.text(), tenant, now.0])? > 0)
        })
        .await
    }

    async fn discard(&self, scope: &Scope, id: LetterId) -> Result<bool> {
        let tenant = scope.tenant().to_owned();
        self.write(move |db| {
            let sql = "DELETE FROM agentflow_outbox WHERE letter_id = ?1 AND tenant = ?2 AND dead";
            Ok(execute(db, sql, params![id.text(), tenant])? > 0)
        })
        .await
    }

    async fn forget(&self, before: Timestamp, limit: u32) -> Result<u64> {
        self.write(move |db| {
            let sql = "DELETE FROM agentflow_outbox WHERE letter_id IN (
                SELECT letter_id FROM agentflow_outbox WHERE dead AND due_at < ?1 LIMIT ?2)";
            Ok(execute(db, sql, params![before.0, limit])? as u64)
        })
        .await
    }

    async fn depth(&self, topic: &str) -> Result<Depth> {
        let topic = topic.to_owned();
        self.read(move |db| {
            let sql = "SELECT count(*) FILTER (WHERE NOT dead), count(*) FILTER (WHERE dead),
                    min(created_at) FILTER (WHERE NOT dead)
                FROM agentflow_outbox WHERE topic = ?1";
            let depth = first(db, sql, [topic], |row| {
                Ok(Depth {
                    waiting: get::<i64>(row, 0)?.unsigned_abs(),
                    dead: get::<i64>(row, 1)?.unsigned_abs(),
                    oldest: some_time(row, 2)?,
                })
            })?;
            Ok(depth.unwrap_or_default())
        })
        .await
    }
}

/// Keeps a letter whose attempt failed, for another one or as a dead one.
fn update(
    db: &Connection,
    id: &str,
    attempt: u32,
    dead: bool,
    at: Timestamp,
    error: &str,
) -> Result<usize> {
    let sql = "UPDATE agentflow_outbox SET dead = ?3, due_at = ?4, error = ?5
        WHERE letter_id = ?1 AND attempt = ?2 AND NOT dead";
    execute(db, sql, params![id, attempt, dead, at.0, error])
}
