//! Sessions: a hash each, which Redis removes in time, and a sorted set of each principal's.

use std::time::Duration;

use agentflow_storage::{
    json,
    session::{Session, SessionKey, Sessions, taken},
};
use agentflow_types::{Error, Result, Scope, Timestamp};
use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::cmd;

use crate::{Redis, link::Repeat, scripts, ttl_ms};

/// Sessions of a principal that are removed at once.
const PAGE: isize = 500;

/// Fields of a session as the scripts return them.
type Fields = (String, String, Vec<u8>, i64, i64, i64, i64);

fn session(fields: Fields) -> Result<Session> {
    let (tenant, principal, data, created, used, idle, ends) = fields;
    Ok(Session {
        scope: Scope::new(&tenant, &principal),
        data: json::parse_map(&data)?,
        created_at: Timestamp(created),
        used_at: Timestamp(used),
        idle: Duration::from_micros(idle.unsigned_abs()),
        ends_at: Timestamp(ends),
    })
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

impl Redis {
    /// Notes a session of its principal, and forgets those that must have ended.
    async fn note(&self, key: &str, session: &Session) -> Result<()> {
        let of = self.inner.keys.sessions_of(&session.scope);
        let mut all = redis::pipe();
        all.cmd("ZREMRANGEBYSCORE")
            .arg(&of)
            .arg("-inf")
            .arg(session.used_at.millis())
            .ignore();
        all.cmd("ZADD")
            .arg(&of)
            .arg(session.ends_at.millis())
            .arg(key)
            .ignore();
        let left = ttl_ms(session.ends_at.since(session.used_at));
        // The set outlives its longest session; `GT` leaves a later end alone, and does nothing
        // to a key that has none yet.
        let expire = |how: &str| {
            let mut command = cmd("PEXPIRE");
            command.arg(&of).arg(left).arg(how);
            command
        };
        all.add_command(expire("NX")).ignore();
        all.add_command(expire("GT")).ignore();
        self.inner.link.run_all(&all, Repeat::Yes).await
    }

    async fn forget(&self, of: &str, keys: &[String]) -> Result<()> {
        let mut command = cmd("ZREM");
        command.arg(of).arg(keys);
        self.inner.link.run(&command, Repeat::Yes).await
    }
}

#[async_trait]
impl Sessions for Redis {
    async fn create(&self, key: SessionKey, session: Session) -> Result<()> {
        let (key, data) = (key.text(), session.data_text()?);
        let ttl = ttl_ms(session.expires_at().since(session.used_at)).to_string();
        let number = |moment: i64| moment.to_string();
        let created = number(session.created_at.0);
        let used = number(session.used_at.0);
        let idle = number(micros(session.idle));
        let ends = number(session.ends_at.0);
        let fields = [
            ttl.as_str(),
            "tenant",
            session.scope.tenant(),
            "principal",
            session.scope.principal(),
            "data",
            &data,
            "created",
            &created,
            "used",
            &used,
            "idle",
            &idle,
            "ends",
            &ends,
        ];
        let fields = fields.map(str::as_bytes);
        // Noted first: one that is not noted could not be signed out with the others.
        self.note(&key, &session).await?;
        let names = [self.inner.keys.session(&key)];
        let script = &scripts::CREATE_SESSION;
        let is_new = self.inner.link.script(script, &names, &fields, Repeat::Yes);
        match is_new.await? {
            true => Ok(()),
            false => Err(taken()),
        }
    }

    async fn get(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>> {
        let mut command = cmd("HMGET");
        command.arg(self.inner.keys.session(&key.text()));
        command.arg(&[
            "tenant",
            "principal",
            "data",
            "created",
            "used",
            "idle",
            "ends",
        ]);
        let fields: Vec<redis::Value> = self.inner.link.run(&command, Repeat::Yes).await?;
        if fields
            .first()
            .is_none_or(|tenant| *tenant == redis::Value::Nil)
        {
            return Ok(None);
        }
        let fields = redis::from_redis_value::<Fields>(redis::Value::Array(fields));
        let found = session(fields.map_err(unexpected)?)?;
        Ok(Some(found).filter(|session| session.is_live(now)))
    }

    async fn touch(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>> {
        let names = [self.inner.keys.session(&key.text())];
        let (now, longest) = (now.0.to_string(), ttl_ms(Duration::MAX).to_string());
        let values = [now.as_bytes(), longest.as_bytes()];
        let script = &scripts::TOUCH_SESSION;
        let touched = self.inner.link.script(script, &names, &values, Repeat::Yes);
        let fields: Option<Fields> = touched.await?;
        fields.map(session).transpose()
    }

    async fn delete(&self, key: SessionKey) -> Result<bool> {
        let key = key.text();
        let names = [self.inner.keys.session(&key)];
        let script = &scripts::DELETE_SESSION;
        let deleted = self.inner.link.script(script, &names, &[], Repeat::Yes);
        let whose: Option<(String, String)> = deleted.await?;
        let Some((tenant, principal)) = whose else {
            return Ok(false);
        };
        let of = self
            .inner
            .keys
            .sessions_of(&Scope::new(&tenant, &principal));
        self.forget(&of, &[key]).await?;
        Ok(true)
    }

    async fn delete_all(&self, scope: &Scope) -> Result<u64> {
        let of = self.inner.keys.sessions_of(scope);
        let mut removed = 0;
        loop {
            let mut command = cmd("ZRANGE");
            command.arg(&of).arg(0).arg(PAGE - 1);
            let keys: Vec<String> = self.inner.link.run(&command, Repeat::Yes).await?;
            if keys.is_empty() {
                return Ok(removed);
            }
            let removals = keys.iter().map(|key| async move {
                let mut command = cmd("DEL");
                command.arg(self.inner.keys.session(key));
                self.inner.link.run::<u64>(&command, Repeat::Yes).await
            });
            removed += try_join_all(removals).await?.iter().sum::<u64>();
            self.forget(&of, &keys).await?;
        }
    }

    async fn sweep(&self, _: Timestamp, _: u32) -> Result<u64> {
        Ok(0)
    }
}

fn unexpected(err: redis::ParsingError) -> Error {
    Error::corrupt("a session in Redis has an unexpected content").source_err(err)
}
