//! Letters to the outside.

use agentflow_storage::{
    json,
    outbox::{Depth, Letter, Outbox, Posted, Settled},
    page::{Order, Page, PageQuery},
};
use agentflow_types::{LetterId, Result, Scope, Timestamp};
use async_trait::async_trait;
use tokio_postgres::Row;

use crate::{
    Postgres,
    column::{Moment, get, id, order, some_time, time, unsigned, value},
    statement::Statement,
};

const COLUMNS: &str = "letter_id, tenant, topic, created_at, due_at, attempt, dead, error, body";

fn read(row: &Row) -> Result<Posted> {
    Ok(Posted {
        letter: Letter {
            letter_id: id(row, 0)?,
            topic: get(row, 2)?,
            created_at: time(row, 3)?,
            body: value(row, 8)?,
        },
        tenant: get(row, 1)?,
        due_at: time(row, 4)?,
        attempt: u32::try_from(unsigned(row, 5)?).unwrap_or(u32::MAX),
        is_dead: get(row, 6)?,
        error: get(row, 7)?,
    })
}

/// Stores a letter within a decision, unless its id exists.
pub(crate) fn post(scope: &Scope, letter: &Letter) -> Result<Statement> {
    const SQL: &str = "INSERT INTO agentflow.outbox (letter_id, tenant, topic, created_at, due_at,
            attempt, dead, error, body)
        VALUES ($1, $2, $3, $4, $4, 0, false, '', $5) ON CONFLICT (letter_id) DO NOTHING";
    Ok(Statement::new(SQL)
        .bind(letter.letter_id.0)
        .bind(scope.tenant().to_owned())
        .bind(letter.topic.clone())
        .bind(Moment(letter.created_at))
        .bind(json::text(&letter.body)?))
}

/// A statement about the attempt `$2` of the letter `$1`.
fn of_attempt(sql: &'static str, id: LetterId, attempt: u32) -> Statement {
    Statement::new(sql).bind(id.0).bind(i64::from(attempt))
}

#[async_trait]
impl Outbox for Postgres {
    async fn claim(
        &self,
        topic: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Posted>> {
        let sql = format!(
            "UPDATE agentflow.outbox SET attempt = attempt + 1, due_at = $3
            WHERE letter_id IN (SELECT letter_id FROM agentflow.outbox
                WHERE topic = $1 AND NOT dead AND due_at <= $2
                ORDER BY due_at, letter_id LIMIT $4 FOR UPDATE SKIP LOCKED)
            RETURNING {COLUMNS}"
        );
        let sql = Statement::new(sql)
            .bind(topic.to_owned())
            .bind(Moment(now))
            .bind(Moment(until))
            .bind(i64::from(limit));
        let done = self.write(&sql).await?;
        let mut found: Vec<Posted> = done.rows.iter().map(read).collect::<Result<_>>()?;
        // The order of returned rows is not defined; ids grow with time.
        found.sort_by_key(|posted| posted.letter.letter_id);
        Ok(found)
    }

    async fn settle(&self, id: LetterId, attempt: u32, settled: Settled) -> Result<bool> {
        const DELIVERED: &str =
            "DELETE FROM agentflow.outbox WHERE letter_id = $1 AND attempt = $2 AND NOT dead";
        const FAILED: &str = "UPDATE agentflow.outbox SET dead = $3, due_at = $4, error = $5
            WHERE letter_id = $1 AND attempt = $2 AND NOT dead";
        let failed = |dead: bool, at: Timestamp, error: String| {
            let sql = of_attempt(FAILED, id, attempt).bind(dead).bind(Moment(at));
            // Text of the server cannot hold NUL.
            sql.bind(error.replace('\0', "\u{fffd}"))
        };
        let sql = match settled {
            Settled::Delivered => of_attempt(DELIVERED, id, attempt),
            Settled::Again(at, error) => failed(false, at, error),
            Settled::Dead(at, error) => failed(true, at, error),
        };
        Ok(self.write(&sql).await?.count > 0)
    }

    async fn dead(
        &self,
        scope: &Scope,
        topic: &str,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Posted>> {
        let from = "FROM agentflow.outbox WHERE tenant = $1 AND topic = $2 AND dead";
        let from = Statement::new(from)
            .bind(scope.tenant().to_owned())
            .bind(topic.to_owned());
        let page = PageQuery {
            limit,
            offset,
            sort_by: "due_at".into(),
            order: Order::Descending,
        };
        let order = order(&page, "letter_id", &[]);
        self.page(&from, COLUMNS, &order, &page, read).await
    }

    async fn revive(&self, scope: &Scope, id: LetterId, now: Timestamp) -> Result<bool> {
        const SQL: &str = "UPDATE agentflow.outbox SET dead = false, due_at = $3
            WHERE letter_id = $1 AND tenant = $2 AND dead";
        let sql = Statement::new(SQL)
            .bind(id.0)
            .bind(scope.tenant().to_owned())
            .bind(Moment(now));
        Ok(self.write(&sql).await?.count > 0)
    }

    async fn discard(&self, scope: &Scope, id: LetterId) -> Result<bool> {
        const SQL: &str =
            "DELETE FROM agentflow.outbox WHERE letter_id = $1 AND tenant = $2 AND dead";
        let sql = Statement::new(SQL)
            .bind(id.0)
            .bind(scope.tenant().to_owned());
        Ok(self.write(&sql).await?.count > 0)
    }

    async fn forget(&self, before: Timestamp, limit: u32) -> Result<u64> {
        const SQL: &str = "DELETE FROM agentflow.outbox WHERE letter_id IN (
            SELECT letter_id FROM agentflow.outbox WHERE dead AND due_at < $1 LIMIT $2)";
        let sql = Statement::new(SQL)
            .bind(Moment(before))
            .bind(i64::from(limit));
        Ok(self.write(&sql).await?.count)
    }

    async fn depth(&self, topic: &str) -> Result<Depth> {
        const SQL: &str = "SELECT count(*) FILTER (WHERE NOT dead), count(*) FILTER (WHERE dead),
                min(created_at) FILTER (WHERE NOT dead)
            FROM agentflow.outbox WHERE topic = $1";
        let rows = self
            .read(&Statement::new(SQL).bind(topic.to_owned()))
            .await?;
        let Some(row) = rows.first() else {
            return Ok(Depth::default());
        };
        Ok(Depth {
            waiting: unsigned(row, 0)?,
            dead: unsigned(row, 1)?,
            oldest: some_time(row, 2)?,
        })
    }
}
