//! Letters in memory.

use std::cmp::Reverse;

use agentflow_types::{LetterId, Result, Scope, Timestamp};
use async_trait::async_trait;

use super::{Memory, Tables};
use crate::{
    filter,
    outbox::{Depth, Letter, Outbox, Posted, Settled},
    page::Page,
};

impl Tables {
    /// Stores a letter, unless its id exists.
    pub(super) fn post(&mut self, scope: &Scope, letter: Letter) {
        self.letters
            .entry(letter.letter_id)
            .or_insert_with(|| Posted {
                tenant: scope.tenant().to_owned(),
                attempt: 0,
                is_dead: false,
                due_at: letter.created_at,
                error: String::new(),
                letter: Letter {
                    body: filter::normal(&letter.body),
                    ..letter
                },
            });
    }

    /// A dead letter of the tenant.
    fn dead_letter(&mut self, scope: &Scope, id: LetterId) -> Option<&mut Posted> {
        let posted = self.letters.get_mut(&id);
        posted.filter(|posted| posted.is_dead && posted.tenant == scope.tenant())
    }
}

#[async_trait]
impl Outbox for Memory {
    async fn claim(
        &self,
        topic: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Posted>> {
        let mut tables = self.lock();
        let mut due: Vec<&mut Posted> = tables
            .letters
            .values_mut()
            .filter(|posted| posted.letter.topic == topic && !posted.is_dead)
            .filter(|posted| posted.due_at <= now)
            .collect();
        due.sort_by_key(|posted| (posted.due_at, posted.letter.letter_id));
        let claimed = due.into_iter().take(limit as usize).map(|posted| {
            posted.attempt += 1;
            posted.due_at = until;
            posted.clone()
        });
        Ok(claimed.collect())
    }

    async fn settle(&self, id: LetterId, attempt: u32, settled: Settled) -> Result<bool> {
        let mut tables = self.lock();
        let posted = tables.letters.get_mut(&id);
        let Some(posted) = posted.filter(|posted| posted.attempt == attempt && !posted.is_dead)
        else {
            return Ok(false);
        };
        match settled {
            Settled::Delivered => {
                tables.letters.remove(&id);
            }
            Settled::Again(at, error) => (posted.due_at, posted.error) = (at, error),
            Settled::Dead(at, error) => {
                (posted.is_dead, posted.due_at, posted.error) = (true, at, error);
            }
        }
        Ok(true)
    }

    async fn dead(
        &self,
        scope: &Scope,
        topic: &str,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Posted>> {
        let tables = self.lock();
        let mut found: Vec<&Posted> = tables
            .letters
            .values()
            .filter(|posted| posted.is_dead && posted.tenant == scope.tenant())
            .filter(|posted| posted.letter.topic == topic)
            .collect();
        found.sort_by_key(|posted| Reverse((posted.due_at, posted.letter.letter_id)));
        let total = found.len() as u64;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let items = found.into_iter().skip(offset).take(limit as usize);
        Ok(Page {
            items: items.cloned().collect(),
            total,
        })
    }

    async fn revive(&self, scope: &Scope, id: LetterId, now: Timestamp) -> Result<bool> {
        let mut tables = self.lock();
        let found = tables.dead_letter(scope, id).map(|posted| {
            (posted.is_dead, posted.due_at) = (false, now);
        });
        Ok(found.is_some())
    }

    async fn discard(&self, scope: &Scope, id: LetterId) -> Result<bool> {
        let mut tables = self.lock();
        let found = tables.dead_letter(scope, id).is_some();
        Ok(found && tables.letters.remove(&id).is_some())
    }

    async fn forget(&self, before: Timestamp, limit: u32) -> Result<u64> {
        let mut tables = self.lock();
        let old = tables
            .letters
            .iter()
            .filter(|(_, posted)| posted.is_dead && posted.due_at < before);
        let old: Vec<LetterId> = old.map(|(id, _)| *id).take(limit as usize).collect();
        for id in &old {
            tables.letters.remove(id);
        }
        Ok(old.len() as u64)
    }

    async fn depth(&self, topic: &str) -> Result<Depth> {
        let tables = self.lock();
        let mut depth = Depth::default();
        for posted in tables.letters.values().filter(|p| p.letter.topic == topic) {
            if posted.is_dead {
                depth.dead += 1;
                continue;
            }
            let created = posted.letter.created_at;
            depth.waiting += 1;
            depth.oldest = Some(depth.oldest.map_or(created, |oldest| oldest.min(created)));
        }
        Ok(depth)
    }
}
