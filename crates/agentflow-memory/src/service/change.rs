//! Changing and removing memories.

use std::collections::HashSet;

use agentflow_storage::{
    filter::normal_map,
    memories::{Change, Event, Memory, MemoryQuery, OwnerKind},
    page::{Order, PageQuery},
};
use agentflow_types::{Error, Map, MemoryId, Result, Scope, Timestamp, Value};

use super::{
    Service,
    add::{MAX_BYTES, check_day},
    hash, not_found, was_late,
};
use crate::{filter, text::entities};

/// Most memories of one batch.
const MAX_BATCH: usize = 1_000;
/// Memories that one transaction removes.
const PAGE: u32 = 500;
/// Most memories that are removed along with one.
const MAX_LINKED: usize = 1_000;

/// What changes; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edit {
    /// What it says.
    pub text: Option<String>,
    /// Entries of the metadata that are set.
    pub metadata: Option<Map>,
    /// When it happened.
    pub happened_at: Option<Timestamp>,
    /// The last day on which it counts, or that there is none.
    pub expires_on: Option<Option<String>>,
}

impl Edit {
    /// # Errors
    /// `Invalid` for a text or a day that is none.
    fn check(&self) -> Result<()> {
        if let Some(Some(day)) = &self.expires_on {
            check_day(day)?;
        }
        match &self.text {
            Some(text) if text.trim().is_empty() => Err(Error::invalid("text must not be empty")),
            Some(text) if text.len() > MAX_BYTES => {
                Err(Error::invalid("text is too long").with("most_bytes", MAX_BYTES))
            }
            _ => Ok(()),
        }
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// How many memories.
    pub memories: u64,
}

impl Service {
    /// Changes a memory, and returns it.
    ///
    /// # Errors
    /// `NotFound` without it; `Invalid` if it may not be changed, or nothing would.
    pub async fn update(
        &self,
        scope: &Scope,
        project: &str,
        id: MemoryId,
        edit: &Edit,
    ) -> Result<Memory> {
        edit.check()?;
        for tries in 0.. {
            let memory = self.memory(scope, project, id).await?;
            if memory.immutable {
                return Err(immutable(id));
            }
            let next = self.edited(memory, edit);
            let mut changes = vec![Change::Put(Box::new(next.clone()))];
            changes.extend(self.told(scope, std::slice::from_ref(&next)).await?);
            match self.commit(scope, changes).await {
                Err(err) if was_late(&err, tries) => {}
                Err(err) => return Err(err),
                Ok(()) => return Ok(next),
            }
        }
        Err(Error::bug("decisions end"))
    }

    fn edited(&self, memory: Memory, edit: &Edit) -> Memory {
        let mut next = self.next(memory, Event::Update);
        if let Some(text) = &edit.text {
            let found = entities(text, self.inner.usual);
            next.entities = found.into_iter().map(|entity| entity.key).collect();
            next.hash = hash(text);
            next.text.clone_from(text);
        }
        for (key, value) in normal_map(&edit.metadata.clone().unwrap_or_default()) {
            next.metadata.insert(key, value);
        }
        if let Some(moment) = edit.happened_at {
            (next.happened_at, next.created_at) = (moment, moment);
        }
        if let Some(day) = &edit.expires_on {
            next.expires_on.clone_from(day);
        }
        next
    }

    /// The next version of a memory; its moment is after the one before it, so that each moment
    /// has one version.
    pub(super) fn next(&self, memory: Memory, event: Event) -> Memory {
        let least = memory.updated_at.plus(std::time::Duration::from_micros(1));
        Memory {
            version: memory.version + 1,
            event,
            updated_at: self.now().max(least),
            ..memory
        }
    }

    /// Removes a memory, and what it replaced or belongs together with if that is wanted.
    ///
    /// # Errors
    /// `NotFound` without it.
    pub async fn delete(
        &self,
        scope: &Scope,
        project: &str,
        id: MemoryId,
        with_linked: bool,
    ) -> Result<Deleted> {
        for tries in 0.. {
            let mut all = vec![self.memory(scope, project, id).await?];
            if with_linked {
                self.gather_linked(scope, project, &mut all).await?;
            }
            match self.remove(scope, all).await {
                Err(err) if was_late(&err, tries) => {}
                other => return other,
            }
        }
        Err(Error::bug("decisions end"))
    }

    async fn gather_linked(
        &self,
        scope: &Scope,
        project: &str,
        all: &mut Vec<Memory>,
    ) -> Result<()> {
        let mut at = 0;
        while at < all.len() && all.len() < MAX_LINKED {
            let known: Vec<MemoryId> = all.iter().map(|memory| memory.memory_id).collect();
            let more = all[at].linked.iter().chain(&all[at].replaced_by);
            let more: Vec<MemoryId> = more.filter(|id| !known.contains(id)).copied().collect();
            let found = self.backend().memories.get(scope, &more, None).await?;
            all.extend(found.into_iter().filter(|memory| memory.project == project));
            at += 1;
        }
        Ok(())
    }

    async fn remove(&self, scope: &Scope, memories: Vec<Memory>) -> Result<Deleted> {
        let gone: Vec<Memory> = memories
            .into_iter()
            .map(|memory| self.next(memory, Event::Delete))
            .collect();
        let mut changes = self.told(scope, &gone).await?;
        if let Some(first) = gone.first() {
            changes.extend(self.unused(scope, &first.project, &gone).await?);
        }
        let deleted = Deleted {
            memories: gone.len() as u64,
        };
        changes.extend(gone.into_iter().map(|memory| Change::Put(Box::new(memory))));
        self.commit(scope, changes).await?;
        Ok(deleted)
    }

    /// Removes all memories, turns included, that a filter matches; all of the project if each
    /// of the four owners is `*`. What is added meanwhile may stay, so that it comes to an end.
    ///
    /// # Errors
    /// `Invalid` if the filter names no owner, or is none.
    pub async fn delete_all(&self, scope: &Scope, project: &str, by: &Map) -> Result<Deleted> {
        check_owned(by)?;
        let is_any = |kind: &OwnerKind| by.get(kind.field()).and_then(Value::as_str) == Some("*");
        let nothing = Map::new();
        let by = match OwnerKind::ALL.iter().all(is_any) {
            true => &nothing,
            false => by,
        };
        let mut query = MemoryQuery {
            project: project.to_owned(),
            condition: Some(filter::read(by)?),
            ..MemoryQuery::default()
        };
        let page = PageQuery {
            limit: PAGE,
            order: Order::Ascending,
            ..PageQuery::default()
        };
        let began = self.now();
        let (mut deleted, mut late, mut at_first) = (Deleted::default(), 0, None);
        loop {
            let found = self.backend().memories.list(scope, &query, &page).await?;
            query.uncounted = true;
            let left = at_first
                .get_or_insert(found.total)
                .saturating_sub(deleted.memories);
            let doomed = doomed(found.items, |memory| memory.created_at < began, left);
            if doomed.is_empty() {
                self.drop_derived(scope, project, by).await?;
                return Ok(deleted);
            }
            match self.remove(scope, doomed).await {
                Ok(more) => (deleted.memories, late) = (deleted.memories + more.memories, 0),
                Err(err) if was_late(&err, late) => late += 1,
                Err(err) => return Err(err),
            }
        }
    }

    /// Changes several memories in one transaction; how many.
    ///
    /// # Errors
    /// `Invalid` if there are too many, one is named twice or may not be changed; `NotFound`
    /// without one of them. Nothing is changed then.
    pub async fn update_batch(
        &self,
        scope: &Scope,
        project: &str,
        edits: &[(MemoryId, Edit)],
    ) -> Result<usize> {
        check_batch(edits.iter().map(|(id, _)| *id), "updated")?;
        edits.iter().try_for_each(|(_, edit)| edit.check())?;
        let ids: Vec<MemoryId> = edits.iter().map(|(id, _)| *id).collect();
        for tries in 0.. {
            let memories = self.all_of(scope, project, &ids).await?;
            if let Some(fixed) = memories.iter().find(|memory| memory.immutable) {
                return Err(immutable(fixed.memory_id));
            }
            let parts = memories.into_iter().zip(edits);
            let next: Vec<Memory> = parts
                .map(|(memory, (_, edit))| self.edited(memory, edit))
                .collect();
            let mut changes = self.told(scope, &next).await?;
            changes.extend(next.into_iter().map(|memory| Change::Put(Box::new(memory))));
            match self.commit(scope, changes).await {
                Err(err) if was_late(&err, tries) => {}
                Err(err) => return Err(err),
                Ok(()) => return Ok(edits.len()),
            }
        }
        Err(Error::bug("decisions end"))
    }

    /// Removes several memories in one transaction; how many.
    ///
    /// # Errors
    /// As [`Service::update_batch`].
    pub async fn delete_batch(
        &self,
        scope: &Scope,
        project: &str,
        ids: &[MemoryId],
    ) -> Result<usize> {
        check_batch(ids.iter().copied(), "deleted")?;
        for tries in 0.. {
            let memories = self.all_of(scope, project, ids).await?;
            match self.remove(scope, memories).await {
                Err(err) if was_late(&err, tries) => {}
                Err(err) => return Err(err),
                Ok(_) => return Ok(ids.len()),
            }
        }
        Err(Error::bug("decisions end"))
    }

    /// The memories of these ids, in their order.
    async fn all_of(&self, scope: &Scope, project: &str, ids: &[MemoryId]) -> Result<Vec<Memory>> {
        let mut found = self.backend().memories.get(scope, ids, None).await?;
        found.retain(|memory| memory.project == project);
        let has = |id: &&MemoryId| !found.iter().any(|memory| memory.memory_id == **id);
        match ids.iter().find(has) {
            Some(missing) => Err(not_found().with("memory_id", missing)),
            None => Ok(found),
        }
    }
}

/// # Errors
/// `Invalid` if a filter names no owner, or is none.
pub(super) fn check_owned(by: &Map) -> Result<()> {
    filter::read(by)?;
    match filter::owners(by).is_empty() {
        true => Err(Error::invalid(
            "At least one of the filters: user_id, agent_id, app_id, run_id is required!",
        )),
        false => Ok(()),
    }
}

fn immutable(id: MemoryId) -> Error {
    Error::invalid("the memory is immutable").with("memory_id", id)
}

/// # Errors
/// `Invalid` for none, too many, or one twice.
fn check_batch(ids: impl ExactSizeIterator<Item = MemoryId>, what: &str) -> Result<()> {
    let many = ids.len();
    let distinct: HashSet<MemoryId> = ids.collect();
    match many {
        0 => Err(Error::invalid("memories must not be empty")),
        _ if many > MAX_BATCH => Err(Error::invalid(format!(
            "Maximum of {MAX_BATCH} memories can be {what} in a single request"
        ))),
        _ if distinct.len() < many => Err(Error::invalid("a memory is named twice")),
        _ => Ok(()),
    }
}

/// What a removal takes of the oldest memories: those from before it began; then, because clocks
/// of servers differ, as many others as are `left` of those that it found at first.
fn doomed<T>(found: Vec<T>, is_before: impl Fn(&T) -> bool, left: u64) -> Vec<T> {
    let (before, mut others): (Vec<T>, Vec<T>) = found.into_iter().partition(is_before);
    if !before.is_empty() {
        return before;
    }
    others.truncate(usize::try_from(left).unwrap_or(usize::MAX));
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_ends_however_much_is_added() {
        let before = |at: &u32| *at < 10;
        // Old ones first, and alone.
        assert_eq!(doomed(vec![1, 2, 10, 11], before, 9), [1, 2]);
        assert_eq!(doomed(vec![9], before, 0), [9]);
        // A clock that goes before ours: as many as there were.
        assert_eq!(doomed(vec![10, 11, 12], before, 2), [10, 11]);
        assert!(doomed(vec![10, 11], before, 0).is_empty());
        assert!(doomed(vec![], before, 7).is_empty());
    }
}
