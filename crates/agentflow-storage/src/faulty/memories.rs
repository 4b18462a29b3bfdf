//! Memories that fail when they are told to.

use agentflow_types::{JobId, MemoryId, Result, Scope, Timestamp};
use async_trait::async_trait;

use super::{Faulty, Write};
use crate::{
    memories::{
        Change, Claimed, Job, JobQuery, Mark, Memories, Memory, MemoryQuery, Note, NoteQuery,
        OwnerKind, Owning,
    },
    page::{Page, PageQuery},
};

#[async_trait]
impl Memories for Faulty {
    async fn apply(&self, scope: &Scope, changes: Vec<Change>) -> Result<()> {
        let call = self.inner.memories.apply(scope, changes);
        self.write(Write::ApplyMemories, call).await
    }
    async fn get(
        &self,
        scope: &Scope,
        ids: &[MemoryId],
        as_of: Option<Timestamp>,
    ) -> Result<Vec<Memory>> {
        self.alive()?;
        self.inner.memories.get(scope, ids, as_of).await
    }
    async fn versions(&self, scope: &Scope, id: MemoryId) -> Result<Vec<Memory>> {
        self.alive()?;
        self.inner.memories.versions(scope, id).await
    }
    async fn changes(
        &self,
        scope: &Scope,
        project: &str,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Memory>> {
        self.alive()?;
        let memories = &self.inner.memories;
        memories.changes(scope, project, limit, offset).await
    }
    async fn list(
        &self,
        scope: &Scope,
        query: &MemoryQuery,
        page: &PageQuery,
    ) -> Result<Page<Memory>> {
        self.alive()?;
        self.inner.memories.list(scope, query, page).await
    }
    async fn owners(
        &self,
        scope: &Scope,
        project: &str,
        kind: Option<OwnerKind>,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Owning>> {
        self.alive()?;
        let memories = &self.inner.memories;
        memories.owners(scope, project, kind, limit, offset).await
    }
    async fn marks(&self, after: Option<MemoryId>, limit: u32) -> Result<Vec<Mark>> {
        self.alive()?;
        self.inner.memories.marks(after, limit).await
    }
    async fn job(&self, scope: &Scope, id: JobId) -> Result<Option<Job>> {
        self.alive()?;
        self.inner.memories.job(scope, id).await
    }
    async fn jobs(&self, scope: &Scope, query: &JobQuery) -> Result<Page<Job>> {
        self.alive()?;
        self.inner.memories.jobs(scope, query).await
    }
    async fn claim_jobs(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claimed>> {
        let call = self.inner.memories.claim_jobs(now, until, limit);
        self.write(Write::ClaimJobs, call).await
    }
    async fn renew_job(&self, id: JobId, attempt: u32, until: Timestamp) -> Result<bool> {
        let call = self.inner.memories.renew_job(id, attempt, until);
        self.write(Write::RenewJob, call).await
    }
    async fn note(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        key: &str,
    ) -> Result<Option<Note>> {
        self.alive()?;
        self.inner.memories.note(scope, project, kind, key).await
    }
    async fn notes_of(
        &self,
        scope: &Scope,
        project: &str,
        kind: &str,
        keys: &[String],
    ) -> Result<Vec<Note>> {
        self.alive()?;
        let memories = &self.inner.memories;
        memories.notes_of(scope, project, kind, keys).await
    }
    async fn notes(&self, scope: &Scope, query: &NoteQuery) -> Result<Page<Note>> {
        self.alive()?;
        self.inner.memories.notes(scope, query).await
    }
}
