//! The turns before a turn: an answer is found by the words of the question that it answers.
//!
//! A turn keeps the ids of the two turns before it, not their texts, so that what is removed is
//! gone everywhere. They are read again whenever its words are needed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use agentflow_storage::{
    Backend,
    condition::{Condition, Field},
    memories::{Kind, Memory, MemoryQuery, Owner, OwnerKind},
    page::PageQuery,
};
use agentflow_types::{MemoryId, Result, Scope, Value};

use super::Service;

/// Where a turn keeps the ids of the turns before it, the nearest first.
const BEFORE: &str = "before";
/// How many turns before a turn count.
const TURNS: usize = 2;
/// Conversations whose last turns are held; beyond it all are forgotten and read anew.
const MAX_CONVERSATIONS: usize = 10_000;

/// Tenant, project and owner.
type Conversation = (String, String, Owner);

/// The last turns of conversations that this process has seen, the newest first.
#[derive(Default)]
pub(super) struct Recent(Mutex<HashMap<Conversation, Vec<MemoryId>>>);

impl Recent {
    fn get(&self, key: &Conversation) -> Option<Vec<MemoryId>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(key).cloned()
    }

    fn put(&self, key: Conversation, ids: Vec<MemoryId>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= MAX_CONVERSATIONS && !held.contains_key(&key) {
            held.clear();
        }
        held.insert(key, ids);
    }
}

impl Service {
    /// Notes in new turns of one owner, in the order in which they were said, what was said
    /// before each.
    pub(super) async fn chain(&self, scope: &Scope, turns: &mut [Memory]) -> Result<()> {
        let Some(first) = turns.first() else {
            return Ok(());
        };
        let key = (
            scope.tenant().to_owned(),
            first.project.clone(),
            first.owner.clone(),
        );
        let mut last = match self.inner.recent.get(&key) {
            Some(known) => known,
            None => self.last_turns(scope, first).await?,
        };
        for turn in turns {
            if !last.is_empty() {
                let ids = last.iter().map(|id| Value::str(id.text()));
                turn.extra.insert(BEFORE.into(), Value::list(ids.collect()));
            }
            last.insert(0, turn.memory_id);
            last.truncate(TURNS);
        }
        self.inner.recent.put(key, last);
        Ok(())
    }

    async fn last_turns(&self, scope: &Scope, like: &Memory) -> Result<Vec<MemoryId>> {
        let same = OwnerKind::ALL.into_iter().map(|kind| {
            let field = Field::of(kind.field());
            match like.owner.get(kind) {
                Some(name) => Condition::Equals(field, Value::str(name)),
                None => Condition::Exists(field).negated(),
            }
        });
        let query = MemoryQuery {
            project: like.project.clone(),
            kinds: vec![Kind::Turn],
            condition: Some(Condition::All(same.collect())),
            as_of: None,
            uncounted: true,
        };
        let page = PageQuery {
            limit: TURNS as u32,
            ..PageQuery::default()
        };
        let found = self.backend().memories.list(scope, &query, &page).await?;
        Ok(found.items.iter().map(|turn| turn.memory_id).collect())
    }
}

/// The ids of the turns before a turn, the nearest first.
fn ids(memory: &Memory) -> Vec<MemoryId> {
    let ids = memory.extra.get(BEFORE).and_then(Value::as_list);
    let ids = ids.unwrap_or_default().iter().take(TURNS);
    ids.filter_map(|id| id.as_str()?.parse().ok()).collect()
}

/// Texts of the turns before memories.
#[derive(Default)]
pub(crate) struct Before(HashMap<MemoryId, String>);

impl Before {
    /// Reads what these memories need.
    ///
    /// # Errors
    /// Those of the records.
    pub(crate) async fn read(backend: &Backend, scope: &Scope, of: &[&Memory]) -> Result<Self> {
        let mut texts: HashMap<MemoryId, String> = of
            .iter()
            .map(|memory| (memory.memory_id, memory.text.clone()))
            .collect();
        let mut wanted: Vec<MemoryId> = of.iter().flat_map(|memory| ids(memory)).collect();
        wanted.retain(|id| !texts.contains_key(id));
        wanted.sort_unstable();
        wanted.dedup();
        if !wanted.is_empty() {
            let found = backend.memories.get(scope, &wanted, None).await?;
            texts.extend(found.into_iter().map(|turn| (turn.memory_id, turn.text)));
        }
        Ok(Self(texts))
    }

    /// The texts before a memory, the nearest first.
    pub(crate) fn of(&self, memory: &Memory) -> Vec<&str> {
        let ids = ids(memory).into_iter();
        ids.filter_map(|id| self.0.get(&id).map(String::as_str))
            .collect()
    }
}
