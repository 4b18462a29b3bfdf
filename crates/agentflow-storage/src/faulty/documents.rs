//! Documents that fail when they are told to.

use agentflow_types::{Result, Scope, Timestamp};
use async_trait::async_trait;
use uuid::Uuid;

use super::{Faulty, Write};
use crate::{
    documents::{Blob, Change, Documents, Entry, EntryKind, EntryQuery, Mark, Totals},
    page::{Page, PageQuery},
};

#[async_trait]
impl Documents for Faulty {
    async fn apply(&self, scope: &Scope, changes: Vec<Change>) -> Result<()> {
        let call = self.inner.documents.apply(scope, changes);
        self.write(Write::ApplyDocuments, call).await
    }
    async fn get(&self, scope: &Scope, kind: EntryKind, ids: &[Uuid]) -> Result<Vec<Entry>> {
        self.alive()?;
        self.inner.documents.get(scope, kind, ids).await
    }
    async fn by_key(&self, scope: &Scope, kind: EntryKind, key: &str) -> Result<Option<Entry>> {
        self.alive()?;
        self.inner.documents.by_key(scope, kind, key).await
    }
    async fn list(
        &self,
        scope: &Scope,
        query: &EntryQuery,
        page: &PageQuery,
    ) -> Result<Page<Entry>> {
        self.alive()?;
        self.inner.documents.list(scope, query, page).await
    }
    async fn totals(&self, scope: &Scope, query: &EntryQuery) -> Result<Totals> {
        self.alive()?;
        self.inner.documents.totals(scope, query).await
    }
    async fn marks(&self, kind: EntryKind, after: Option<&Mark>, limit: u32) -> Result<Vec<Mark>> {
        self.alive()?;
        self.inner.documents.marks(kind, after, limit).await
    }
    async fn write_part(
        &self,
        scope: &Scope,
        blob_id: Uuid,
        part: u32,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<()> {
        let documents = &self.inner.documents;
        let call = documents.write_part(scope, blob_id, part, bytes, now);
        self.write(Write::WritePart, call).await
    }
    async fn read_part(&self, scope: &Scope, blob_id: Uuid, part: u32) -> Result<Option<Vec<u8>>> {
        self.alive()?;
        self.inner.documents.read_part(scope, blob_id, part).await
    }
    async fn blobs(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<Blob>> {
        self.alive()?;
        self.inner.documents.blobs(after, limit).await
    }
    async fn sweep_blobs(&self, before: Timestamp, limit: u32) -> Result<u64> {
        let call = self.inner.documents.sweep_blobs(before, limit);
        self.write(Write::SweepBlobs, call).await
    }
}
