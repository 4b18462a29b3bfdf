//! What was found lately comes first, in projects that want it: every memory that a search returns
//! notes when, and its score is multiplied by a factor that falls with the time since.

use std::{collections::HashMap, sync::OnceLock, time::Duration};

use agentflow_storage::memories::{Change, Memory, Note};
use agentflow_types::{Map, MemoryId, Result, Scope, Timestamp, Value};
use quick_cache::sync::Cache;

use super::{Service, cards::Card};
use crate::retrieval::{MOST_ACCESSES, decay};

/// Kind of notes about the use of a memory; the key is its id.
const USED: &str = "used";
/// Where the note keeps the moments, the newest first.
const AT: &str = "at";
/// How long it is known whether a project wants decay.
const KNOWN_FOR: Duration = Duration::from_secs(2);
/// Projects of which that is known.
const MAX_KNOWN: usize = 4_096;

/// Tenant and project.
type Key = (String, String);

/// Which projects want decay, and until when that is taken for true.
#[derive(Default)]
pub(super) struct Wanting(OnceLock<Cache<Key, (bool, Timestamp)>>);

impl Wanting {
    fn held(&self) -> &Cache<Key, (bool, Timestamp)> {
        self.0.get_or_init(|| Cache::new(MAX_KNOWN))
    }

    /// Forgets what a project wants, because that changes.
    pub(super) fn forget(&self, scope: &Scope, project: &str) {
        self.held().remove(&key(scope, project));
    }
}

fn key(scope: &Scope, project: &str) -> Key {
    (scope.tenant().to_owned(), project.to_owned())
}

impl Service {
    /// Whether a project wants decay; a change by another server is seen a little later.
    pub(super) async fn decays(&self, scope: &Scope, project: &str) -> Result<bool> {
        let (held, now) = (self.inner.wanting.held(), self.now());
        if let Some((wants, until)) = held.get(&key(scope, project))
            && now < until
        {
            return Ok(wants);
        }
        let wants = self.project(scope, project).await?.decay;
        held.insert(key(scope, project), (wants, now.plus(KNOWN_FOR)));
        Ok(wants)
    }

    /// The factors of memories. One that no search returned yet counts from when it happened.
    pub(super) async fn factors<'a>(
        &self,
        scope: &Scope,
        project: &str,
        cards: impl Iterator<Item = &'a Card> + Clone,
    ) -> Result<HashMap<MemoryId, f32>> {
        let ids: Vec<String> = cards.clone().map(|card| card.memory_id.text()).collect();
        let memories = &self.backend().memories;
        let notes = memories.notes_of(scope, project, USED, &ids).await?;
        let used: HashMap<String, Vec<Timestamp>> = notes
            .into_iter()
            .map(|note| (note.key.clone(), moments(&note)))
            .collect();
        let now = self.now();
        let factor = |card: &Card| {
            let happened = [card.happened_at];
            let used = used.get(&card.memory_id.text());
            let at = used.map_or(&happened[..], Vec::as_slice);
            let age = |at: &Timestamp| now.0.saturating_sub(at.0).max(0).unsigned_abs();
            let ages: Vec<Duration> = at.iter().map(age).map(Duration::from_micros).collect();
            (card.memory_id, decay(&ages))
        };
        Ok(cards.map(factor).collect())
    }

    /// Notes that memories were found. If somebody else notes it at the same time, once is enough.
    pub(super) async fn note_used<'a>(
        &self,
        scope: &Scope,
        project: &str,
        found: impl Iterator<Item = &'a Memory>,
    ) {
        let ids: Vec<String> = found.map(|memory| memory.memory_id.text()).collect();
        let noted = async {
            let memories = &self.backend().memories;
            let notes = memories.notes_of(scope, project, USED, &ids).await?;
            let mut notes: HashMap<String, Note> = notes
                .into_iter()
                .map(|note| (note.key.clone(), note))
                .collect();
            let now = self.now();
            let changes = ids.iter().map(|id| {
                let old = notes.remove(id);
                let mut at = vec![now];
                at.extend(old.as_ref().map(moments).unwrap_or_default());
                at.truncate(MOST_ACCESSES);
                let at = at.into_iter().map(|at| Value::Int(at.0)).collect();
                Change::PutNote(Box::new(Note {
                    project: project.to_owned(),
                    kind: USED.into(),
                    key: id.clone(),
                    version: old.as_ref().map_or(0, |old| old.version) + 1,
                    created_at: old.map_or(now, |old| old.created_at),
                    updated_at: now,
                    is_deleted: false,
                    body: Map::from([(AT.into(), Value::list(at))]),
                }))
            });
            let changes: Vec<Change> = changes.collect();
            match changes.is_empty() {
                true => Ok(()),
                false => memories.apply(scope, changes).await,
            }
        };
        if let Err(err) = noted.await {
            tracing::debug!(error = %err, "what was found was not noted");
        }
    }

    /// Changes that remove the notes about these memories, which go.
    pub(super) async fn unused(
        &self,
        scope: &Scope,
        project: &str,
        gone: &[Memory],
    ) -> Result<Vec<Change>> {
        let ids: Vec<String> = gone.iter().map(|memory| memory.memory_id.text()).collect();
        let memories = &self.backend().memories;
        let notes = memories.notes_of(scope, project, USED, &ids).await?;
        let removed = |note: Note| {
            Change::PutNote(Box::new(Note {
                version: note.version + 1,
                updated_at: self.now(),
                is_deleted: true,
                ..note
            }))
        };
        Ok(notes.into_iter().map(removed).collect())
    }
}

fn moments(note: &Note) -> Vec<Timestamp> {
    let at = note.body.get(AT).and_then(Value::as_list);
    let at = at.unwrap_or_default().iter();
    at.filter_map(|at| at.as_i64().map(Timestamp)).collect()
}
