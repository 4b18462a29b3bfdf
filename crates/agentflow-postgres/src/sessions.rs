//! Sessions.

use std::time::Duration;

use agentflow_storage::session::{Session, SessionKey, Sessions, taken};
use agentflow_types::{Result, Scope, Timestamp};
use async_trait::async_trait;
use tokio_postgres::Row;

use crate::{
    Postgres,
    column::{Moment, get, map, time},
    statement::Statement,
};

const COLUMNS: &str = "tenant, principal, data, created_at, used_at, idle_micros, ends_at";

fn read(row: &Row) -> Result<Session> {
    Ok(Session {
        scope: Scope::new(get(row, 0)?, get(row, 1)?),
        data: map(row, 2)?,
        created_at: time(row, 3)?,
        used_at: time(row, 4)?,
        idle: Duration::from_micros(get::<i64>(row, 5)?.unsigned_abs()),
        ends_at: time(row, 6)?,
    })
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Sessions for Postgres {
    async fn create(&self, key: SessionKey, session: Session) -> Result<()> {
        const SQL: &str = "INSERT INTO agentflow.sessions (key, tenant, principal, data,
                created_at, used_at, idle_micros, ends_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
        let sql = Statement::new(SQL)
            .bind(key.text())
            .bind(session.scope.tenant().to_owned())
            .bind(session.scope.principal().to_owned())
            .bind(session.data_text()?)
            .bind(Moment(session.created_at))
            .bind(Moment(session.used_at))
            .bind(micros(session.idle))
            .bind(Moment(session.ends_at))
            .bind(Moment(session.expires_at()));
        match self.write(&sql).await?.count {
            0 => Err(taken()),
            _ => Ok(()),
        }
    }

    async fn get(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>> {
        let sql =
            format!("SELECT {COLUMNS} FROM agentflow.sessions WHERE key = $1 AND expires_at > $2");
        let sql = Statement::new(sql).bind(key.text()).bind(Moment(now));
        self.read(&sql).await?.first().map(read).transpose()
    }

    async fn touch(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>> {
        // The idle time is added by the database, which alone knows the row as it is.
        let sql = format!(
            "UPDATE agentflow.sessions SET used_at = GREATEST(used_at, $2),
                expires_at = LEAST(ends_at,
                    GREATEST(used_at, $2) + idle_micros * interval '1 microsecond')
            WHERE key = $1 AND expires_at > $2 RETURNING {COLUMNS}"
        );
        let sql = Statement::new(sql).bind(key.text()).bind(Moment(now));
        self.write(&sql).await?.rows.first().map(read).transpose()
    }

    async fn delete(&self, key: SessionKey) -> Result<bool> {
        const SQL: &str = "DELETE FROM agentflow.sessions WHERE key = $1";
        let sql = Statement::new(SQL).bind(key.text());
        Ok(self.write(&sql).await?.count > 0)
    }

    async fn delete_all(&self, scope: &Scope) -> Result<u64> {
        const SQL: &str = "DELETE FROM agentflow.sessions WHERE tenant = $1 AND principal = $2";
        let sql = Statement::new(SQL)
            .bind(scope.tenant().to_owned())
            .bind(scope.principal().to_owned());
        Ok(self.write(&sql).await?.count)
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        const SQL: &str = "DELETE FROM agentflow.sessions WHERE key IN (
            SELECT key FROM agentflow.sessions WHERE expires_at <= $1
            LIMIT $2 FOR UPDATE SKIP LOCKED)";
        let sql = Statement::new(SQL).bind(Moment(now)).bind(i64::from(limit));
        Ok(self.write(&sql).await?.count)
    }
}
