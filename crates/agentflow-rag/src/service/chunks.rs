//! Chunks by themselves.

use agentflow_storage::{
    condition::{Condition, Field},
    documents::{Change, EntryKind, EntryQuery},
    page::{MAX_LIMIT, Page, PageQuery},
};
use agentflow_types::{Error, Map, Result, Scope, Value};
use std::sync::Arc;
use uuid::Uuid;

use super::{
    Caller, Chunk, Document, Service, filter,
    work::{Task, letter},
};

/// Most bytes of a chunk's text.
const MAX_TEXT: usize = 1 << 20;
/// Most documents whose chunks are listed at once for somebody who does not see all.
const MAX_SEEN: u64 = 10_000;

fn not_found() -> Error {
    Error::not_found("Chunk not found.")
}

impl Service {
    /// A chunk, with its document.
    ///
    /// # Errors
    /// `NotFound` if there is none that the user sees.
    pub async fn chunk(
        &self,
        scope: &Scope,
        caller: &Caller,
        id: Uuid,
    ) -> Result<(Chunk, Arc<Document>)> {
        let found = self.inner.index.chunks(scope, &[id]).await?;
        let mut seen = found.into_iter().filter(|(_, of)| caller.sees(of));
        seen.next().ok_or_else(not_found)
    }

    async fn own_chunk(
        &self,
        scope: &Scope,
        caller: &Caller,
        id: Uuid,
    ) -> Result<(Chunk, Arc<Document>)> {
        let (chunk, document) = self.chunk(scope, caller, id).await?;
        match caller.owns(document.owner()) {
            true => Ok((chunk, document)),
            false => Err(Error::denied(
                "You don't have permission to modify this chunk.",
            )),
        }
    }

    /// Chunks of a document in the order of its text.
    ///
    /// # Errors
    /// As [`Service::document`].
    pub async fn chunks_of(
        &self,
        scope: &Scope,
        caller: &Caller,
        document: Uuid,
        page: &PageQuery,
    ) -> Result<Page<(Chunk, Arc<Document>)>> {
        self.document(scope, caller, document).await?;
        let query = EntryQuery {
            parent: Some(document),
            ..EntryQuery::of(EntryKind::Chunk)
        };
        self.listed_chunks(scope, &query, page).await
    }

    /// All chunks that the user sees, whose own metadata meets a filter.
    ///
    /// # Errors
    /// `Invalid` for a filter that cannot be read; `Unprocessable` for a user who sees too many
    /// documents to list their chunks in one call.
    pub async fn chunks(
        &self,
        scope: &Scope,
        caller: &Caller,
        filters: &Map,
        page: &PageQuery,
    ) -> Result<Page<(Chunk, Arc<Document>)>> {
        let mut parts = Vec::new();
        if !filters.is_empty() {
            parts.push(filter::read(filters, filter::Of::Chunks)?);
        }
        if !caller.is_superuser {
            let seen = self.seen(scope, caller).await?;
            parts.push(Condition::In(Field::of("parent_id"), seen));
        }
        let query = EntryQuery {
            condition: Some(Condition::All(parts)),
            ..EntryQuery::of(EntryKind::Chunk)
        };
        self.listed_chunks(scope, &query, page).await
    }

    /// The documents that a user sees.
    async fn seen(&self, scope: &Scope, caller: &Caller) -> Result<Vec<Value>> {
        let query = EntryQuery {
            condition: caller.condition(),
            ..EntryQuery::of(EntryKind::Document)
        };
        let mut seen = Vec::new();
        loop {
            let page = super::access::page(seen.len() as u64);
            let found = self.records().list(scope, &query, &page).await?;
            if found.total > MAX_SEEN {
                let told = "name a document: its chunks are listed, those of all are too many";
                return Err(Error::unprocessable(told).with("documents", found.total));
            }
            let many = found.items.len();
            let ids = found.items.iter().map(|one| one.entry_id.to_string());
            seen.extend(ids.map(Value::str));
            if many < MAX_LIMIT as usize {
                return Ok(seen);
            }
        }
    }

    async fn listed_chunks(
        &self,
        scope: &Scope,
        query: &EntryQuery,
        page: &PageQuery,
    ) -> Result<Page<(Chunk, Arc<Document>)>> {
        let found = self.records().list(scope, query, page).await?;
        let items = self.inner.index.with_documents(scope, found.items);
        Ok(Page {
            items: items.await?,
            total: found.total,
        })
    }

    /// Changes the text of a chunk, and what is said about it.
    ///
    /// # Errors
    /// As [`Service::chunk`]; `Denied` to who does not own the document; `Invalid` for a text that
    /// is empty or too long; `Conflict` if somebody else was faster.
    pub async fn update_chunk(
        &self,
        scope: &Scope,
        caller: &Caller,
        id: Uuid,
        (text, metadata): (&str, Option<Map>),
    ) -> Result<(Chunk, Arc<Document>)> {
        if text.trim().is_empty() {
            return Err(Error::invalid(
                "the text is empty: delete the chunk instead",
            ));
        }
        if text.len() > MAX_TEXT {
            return Err(Error::invalid("the text is too long").with("limit", MAX_TEXT));
        }
        let (mut chunk, document) = self.own_chunk(scope, caller, id).await?;
        chunk.content.text = text.replace('\0', "");
        if let Some(metadata) = metadata {
            chunk.fields.metadata.extend(metadata);
        }
        let now = self.now();
        let entry = chunk.next(now)?;
        let put = Change::Put(Box::new(entry.clone()));
        self.show(scope, vec![put], id).await?;
        Ok((Chunk::read(entry)?, document))
    }

    /// Removes one chunk; its document stays.
    ///
    /// # Errors
    /// As [`Service::update_chunk`].
    pub async fn delete_chunk(&self, scope: &Scope, caller: &Caller, id: Uuid) -> Result<()> {
        let (chunk, _) = self.own_chunk(scope, caller, id).await?;
        let gone = Change::Remove {
            kind: EntryKind::Chunk,
            entry_id: id,
            version: chunk.entry.version,
        };
        self.show(scope, vec![gone], id).await
    }

    /// Applies changes of a chunk and writes the index, now or by a letter.
    async fn show(&self, scope: &Scope, mut changes: Vec<Change>, chunk: Uuid) -> Result<()> {
        changes.push(letter(self.now(), &Task::ShowChunk { chunk }));
        self.records().apply(scope, changes).await?;
        self.wake();
        if let Err(err) = self.inner.index.bring(scope, &[chunk]).await {
            tracing::warn!(error = %err, "the index shows a chunk later");
        }
        Ok(())
    }
}
