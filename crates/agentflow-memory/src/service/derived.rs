//! What was made of memories goes with them: exports and profiles name the memories that they
//! were made of, and whoever removes memories of an owner looks whether all of those are there.
//!
//! An export or a profile that is being made meanwhile looks itself, after it was stored. So one
//! of both sees what is gone, whoever comes last.

use agentflow_storage::memories::{Note, NoteQuery};
use agentflow_types::{Map, MemoryId, Result, Scope, Value};

use super::Service;

/// Kind of notes that are exports.
pub(super) const EXPORTS: &str = "export";
/// Kind of notes that are profiles; their key is the user.
pub(super) const PROFILES: &str = "profile";
/// Exports of a project that are kept, the newest ones.
pub(super) const MAX_EXPORTS: u32 = 1_000;
/// Where a note names the memories that it was made of.
pub(super) const MADE_OF: &str = "memory_ids";
/// Notes that are looked at together.
const PAGE: u32 = 100;

impl Service {
    /// Removes exports and profiles that were made of memories which are gone.
    ///
    /// `by` is what removed them: if it names one user, only the profile of that user can be
    /// concerned.
    pub(super) async fn drop_derived(&self, scope: &Scope, project: &str, by: &Map) -> Result<()> {
        // Whoever removes memories may be limited to some; what was made of them is not.
        let scope = &Scope::new(scope.tenant(), scope.principal());
        self.drop_stale(scope, project, EXPORTS).await?;
        let user = by.get("user_id").and_then(Value::as_str);
        match user.filter(|user| *user != "*") {
            None => self.drop_stale(scope, project, PROFILES).await,
            Some(user) => match self.note(scope, project, PROFILES, user).await? {
                Some(note) => self.drop_if_stale(scope, &note).await.map(drop),
                None => Ok(()),
            },
        }
    }

    /// Removes a note if one of the memories that it was made of is gone; whether it was removed.
    pub(super) async fn drop_if_stale(&self, scope: &Scope, note: &Note) -> Result<bool> {
        let ids = note.body.get(MADE_OF).and_then(Value::as_list);
        let ids = ids.unwrap_or_default().iter();
        let mut ids: Vec<MemoryId> = ids.filter_map(|id| id.as_str()?.parse().ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        let found = self.backend().memories.get(scope, &ids, None).await?;
        if found.len() == ids.len() {
            return Ok(false);
        }
        self.delete_note(scope, &note.project, &note.kind, &note.key)
            .await
    }

    async fn drop_stale(&self, scope: &Scope, project: &str, kind: &str) -> Result<()> {
        let mut query = NoteQuery {
            project: project.to_owned(),
            kind: kind.to_owned(),
            limit: PAGE,
            offset: 0,
        };
        loop {
            let notes = self.notes(scope, &query).await?.items;
            for note in &notes {
                // What is gone makes the rest move up.
                query.offset += u64::from(!self.drop_if_stale(scope, note).await?);
            }
            if notes.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    /// Removes the oldest notes of a kind beyond the newest `most`, up to a hundred at once.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn keep_newest(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        most: u32,
    ) -> Result<()> {
        // Whoever makes one may be limited to some memories; the number of notes is not.
        let scope = &Scope::new(scope.tenant(), scope.principal());
        let query = NoteQuery {
            project: project.to_owned(),
            kind: kind.to_owned(),
            limit: PAGE,
            offset: 0,
        };
        let found = self.notes(scope, &query).await?;
        let many = found.total.saturating_sub(u64::from(most));
        let many = usize::try_from(many).unwrap_or(usize::MAX);
        for old in found.items.iter().take(many) {
            self.delete_note(scope, project, kind, &old.key).await?;
        }
        Ok(())
    }
}
