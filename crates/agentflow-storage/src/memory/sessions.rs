//! Sessions in memory.

use agentflow_types::{Result, Scope, Timestamp};
use async_trait::async_trait;

use super::Memory;
use crate::{
    filter,
    session::{Session, SessionKey, Sessions, taken},
};

#[async_trait]
impl Sessions for Memory {
    async fn create(&self, key: SessionKey, session: Session) -> Result<()> {
        session.data_text()?;
        let mut tables = self.lock();
        if tables.sessions.contains_key(&key) {
            return Err(taken());
        }
        let data = filter::normal_map(&session.data);
        tables.sessions.insert(key, Session { data, ..session });
        Ok(())
    }

    async fn get(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>> {
        let tables = self.lock();
        let found = tables.sessions.get(&key);
        Ok(found.filter(|session| session.is_live(now)).cloned())
    }

    async fn touch(&self, key: SessionKey, now: Timestamp) -> Result<Option<Session>> {
        let mut tables = self.lock();
        let found = tables.sessions.get_mut(&key);
        Ok(found.filter(|session| session.is_live(now)).map(|session| {
            session.used_at = session.used_at.max(now);
            session.clone()
        }))
    }

    async fn delete(&self, key: SessionKey) -> Result<bool> {
        Ok(self.lock().sessions.remove(&key).is_some())
    }

    async fn delete_all(&self, scope: &Scope) -> Result<u64> {
        let mut tables = self.lock();
        let before = tables.sessions.len();
        tables.sessions.retain(|_, session| session.scope != *scope);
        Ok((before - tables.sessions.len()) as u64)
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64> {
        let mut tables = self.lock();
        let ended = tables.sessions.iter().filter(|(_, s)| !s.is_live(now));
        let ended: Vec<SessionKey> = ended.map(|(key, _)| *key).take(limit as usize).collect();
        for key in &ended {
            tables.sessions.remove(key);
        }
        Ok(ended.len() as u64)
    }
}
