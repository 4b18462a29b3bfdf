//! Sessions.

use std::time::Duration;

use agentflow_storage::session::{Session, SessionKey, Sessions, taken};
use agentflow_types::{Result, Scope, Timestamp};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use crate::{
    Embedded,
    column::{execute, first, get, map, text, time},
};

fn read(row: &Row<'_>) -> Result<Session> {
    Ok(Session {
        scope: Scope::new(text(row, 0)?, text(row, 1)?),
        data: map(row, 2)?,
        created_at: time(row, 3)?,
        used_at: time(row, 4)?,
        idle: Duration::from_micros(get::<i64>(row, 5)?.unsigned_abs()),
        ends_at: time(row, 6)?,
    })
}

fn find(db: &Connection, key: &str, now: Timestamp) -> Result<Option<Session>> {
    const SQL: &str = "SELECT tenant, principal, data, created_at, used_at, idle_micros, ends_at
        FROM agentflow_sessions WHERE key = ?1 AND expires_at > ?2";
    first(db, SQL, params![key, now.0], read)
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Sessions for Embedded {
    async fn create(&self, key: SessionKey, session: Session) -> Result<()> {
        const SQL: &str = "INSERT INTO agentflow_sessions (key, tenant, principal, data,
                created_at, used_at, idle_micros, ends_at, expires_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
        let (key, data) = (key.text(), session.data_text()?);
        self.write(move |db| {
            let values = params![
                key,
                session.scope.tenant(),
                session.scope.principal(),
                data,
                session.created_at.0,
                session.used_at.0,
                micros(session.idle),
                session.ends_at.0,
                session.expires_at().0,
            ];
            match execute(db, SQL, values)? {
                0 => Err(taken()),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn get(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>> {
        let key = key.text();
        self.read_short(move |db| find(db, &key, now)).await
    }

    async fn touch(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>> {
        const SQL: &str =
            "UPDATE agentflow_sessions SET used_at = ?2, expires_at = ?3 WHERE key = ?1";
        let key = key.text();
        self.write(move |db| {
            let Some(mut session) = find(db, &key, now)? else {
                return Ok(None);
            };
            if session.used_at < now {
                session.used_at = now;
                execute(db, SQL, params![key, now.0, session.expires_at().0])?;
            }
            Ok(Some(session))
        })
        .await
    }

    async fn delete(&self, key: SessionKey) -> Result<bool> {
        const SQL: &str = "DELETE FROM agentflow_sessions WHERE key = ?1";
        let key = key.text();
        self.write(move |db| Ok(execute(db, SQL, [key])? > 0)).await
    }

    async fn delete_all(&self, scope: &Scope) -> Result<u64> {
        const SQL: &str = "DELETE FROM agentflow_sessions WHERE tenant = ?1 AND principal = ?2";
        let scope = scope.clone();
        self.write(move |db| Ok(execute(db, SQL, [scope.tenant(), scope.principal()])? as u64))
            .await
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        const SQL: &str = "DELETE FROM agentflow_sessions WHERE key IN (
            SELECT key FROM agentflow_sessions WHERE expires_at <= ?1 LIMIT ?2)";
        self.write(move |db| Ok(execute(db, SQL, params![now.0, limit])? as u64))
            .await
    }
}
