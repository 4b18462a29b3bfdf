//! From an upload to chunks that can be found, step by step.
//!
//! Reading and cutting give the same chunks each time, so the only state is how many are stored
//! and in the index. A step stores a batch together with that number, and writes the index then:
//! whoever goes on after a crash writes the batch that was stored last once more.

use agentflow_storage::documents::{Change, Entry, EntryKind, MAX_PART_BYTES};
use agentflow_types::{Error, ErrorKind, Result, Scope, Value};
use uuid::Uuid;

use super::{
    Document, Form, Service, Status, ids,
    state::{ChunkContent, ChunkFields, entry, map},
    work::Step,
};
use crate::{
    Declared, Parsed,
    chunk::{self, Settings},
};

/// Chunks that are stored at once.
const BATCH: usize = 128;
/// Attempts after which a document that cannot be stored is given up.
const ATTEMPTS: u32 = 100;

/// A chunk to be stored.
struct Cut {
    text: String,
    fields: ChunkFields,
}

impl Service {
    /// Does all that is left of an upload. What is wrong with the file ends it as failed; what is
    /// wrong with a database or a model is tried again.
    pub(super) async fn ingest(
        &self,
        scope: &Scope,
        (id, upload): (Uuid, Uuid),
        attempt: u32,
    ) -> Result<Step> {
        let Some(document) = self.upload(scope, id, upload).await? else {
            return Ok(Step::Done);
        };
        let done = self.read_and_store(scope, document).await;
        let Err(err) = done else {
            return Ok(Step::Done);
        };
        let is_final = match err.kind() {
            ErrorKind::Unprocessable | ErrorKind::Invalid => true,
            // Somebody changed the document, or has it.
            ErrorKind::Conflict => false,
            _ => attempt >= ATTEMPTS,
        };
        if !is_final {
            return Err(err);
        }
        self.give_up(scope, (id, upload), &err).await?;
        Ok(Step::Done)
    }

    /// The document, if this upload is still to be worked on.
    async fn upload(&self, scope: &Scope, id: Uuid, upload: Uuid) -> Result<Option<Document>> {
        let found = self
            .records()
            .get(scope, EntryKind::Document, &[id])
            .await?;
        let document = found.into_iter().next().map(Document::read).transpose()?;
        Ok(document.filter(|one| one.content.upload == upload && !one.status().is_over()))
    }

    async fn read_and_store(&self, scope: &Scope, mut document: Document) -> Result<()> {
        if document.content.done == 0 {
            document.fields.status = Status::Parsing;
            document.content.attempts += 1;
            document = self.advance(scope, document, vec![]).await?;
        }
        let cut = self.cut(scope, &mut document).await?;
        if cut.is_empty() {
            return Err(Error::unprocessable("the document holds no text"));
        }
        document.content.chunks = Some(cut.len() as u64);
        document.fields.status = Status::Storing;
        let first = usize::try_from(document.content.done).unwrap_or(usize::MAX);
        for (number, batch) in cut.chunks(BATCH).enumerate() {
            let from = number * BATCH;
            // The last one that is stored may not be in the index.
            if from + batch.len() < first {
                continue;
            }
            document = self.store(scope, document, from, batch).await?;
        }
        document.fields.status = Status::Success;
        document.fields.metadata.shift_remove("failure");
        self.advance(scope, document, vec![]).await.map(drop)
    }

    /// Stores a batch and how far that is, in one decision; then writes the index.
    async fn store(
        &self,
        scope: &Scope,
        mut document: Document,
        from: usize,
        batch: &[Cut],
    ) -> Result<Document> {
        let (now, upload) = (self.now(), document.content.upload);
        let mut changes = Vec::with_capacity(batch.len());
        let mut all = Vec::with_capacity(batch.len());
        for (number, cut) in (from as u64..).zip(batch) {
            let id = ids::chunk(scope.tenant(), document.id(), upload, number);
            all.push(id);
            if number < document.content.done {
                continue;
            }
            let content = ChunkContent {
                text: cut.text.clone(),
            };
            changes.push(Change::Put(Box::new(Entry {
                parent: Some(document.id()),
                owner: Some(document.owner()),
                position: number,
                size: cut.text.len() as u64,
                fields: map(&cut.fields)?,
                content: map(&content)?,
                ..entry(EntryKind::Chunk, id, now)
            })));
        }
        if !changes.is_empty() {
            document.content.done = (from + batch.len()) as u64;
            document = self.advance(scope, document, changes).await?;
        }
        self.inner.index.bring(scope, &all).await?;
        Ok(document)
    }

    /// Stores how far a document is, with other changes.
    async fn advance(
        &self,
        scope: &Scope,
        document: Document,
        mut changes: Vec<Change>,
    ) -> Result<Document> {
        let entry = document.next(self.now())?;
        changes.push(Change::Put(Box::new(entry.clone())));
        self.records().apply(scope, changes).await?;
        self.inner.progress.notify_waiters();
        Document::read(entry)
    }

    async fn give_up(&self, scope: &Scope, (id, upload): (Uuid, Uuid), err: &Error) -> Result<()> {
        let Some(mut document) = self.upload(scope, id, upload).await? else {
            return Ok(());
        };
        tracing::info!(document = %id, reason = %err, "a document failed");
        document.fields.status = Status::Failed;
        let reason = Value::str(err.message());
        document.fields.metadata.insert("failure".into(), reason);
        // What is there of it would be found and lead nowhere.
        let below = Change::RemoveBelow {
            kind: EntryKind::Chunk,
            parent: id,
        };
        document.content.done = 0;
        let stored = self.advance(scope, document, vec![below]).await?;
        self.inner.index.forget(scope, stored.id()).await
    }

    /// The chunks of a document.
    async fn cut(&self, scope: &Scope, document: &mut Document) -> Result<Vec<Cut>> {
        let bytes = self.bytes(scope, document).await?;
        let chunks: Vec<(String, ChunkFields)> = match document.content.form {
            Form::Chunks => {
                let texts: Vec<String> = serde_json::from_slice(&bytes)
                    .map_err(|err| Error::corrupt("stored chunks are none").source_err(err))?;
                texts
                    .into_iter()
                    .map(|text| (text, ChunkFields::default()))
                    .collect()
            }
            Form::Text => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let settings = document.content.settings.clone();
                apart(move || {
                    let ranges = chunk::cut(&text, &settings)?;
                    let piece = |range: std::ops::Range<usize>| {
                        (text[range].to_owned(), ChunkFields::default())
                    };
                    Ok(ranges.into_iter().map(piece).collect())
                })
                .await?
            }
            Form::File => {
                let declared = Declared {
                    name: document.content.name.clone(),
                    mime: document.content.mime.clone(),
                };
                let parsed = self.inner.parser.parse(&bytes, &declared).await?;
                if document.fields.title.is_none() {
                    document.fields.title.clone_from(&parsed.title);
                }
                let settings = document.content.settings.clone();
                apart(move || divided(&parsed, &settings)).await?
            }
        };
        let mut cut = Vec::with_capacity(chunks.len());
        for (text, mut fields) in chunks {
            // Databases hold no NUL, and a chunk that says nothing is found by nothing.
            let text = text.replace('\0', "");
            if text.trim().is_empty() {
                continue;
            }
            let number = Value::Int(cut.len() as i64);
            fields.metadata.insert("chunk_order".into(), number);
            cut.push(Cut { text, fields });
        }
        Ok(cut)
    }

    /// What was sent.
    pub(super) async fn bytes(&self, scope: &Scope, document: &Document) -> Result<Vec<u8>> {
        let size = usize::try_from(document.size()).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(size.min(MAX_PART_BYTES * 64));
        for number in 0.. {
            let part = self
                .records()
                .read_part(scope, document.content.upload, number);
            match part.await? {
                Some(part) => bytes.extend(part),
                None => break,
            }
        }
        Ok(bytes)
    }
}

/// Does what takes long on a thread of its own.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|err| Error::bug("cutting a document panicked").source_err(err))?
}

/// The chunks of a text, with where they are.
fn divided(parsed: &Parsed, settings: &Settings) -> Result<Vec<(String, ChunkFields)>> {
    let mut all = Vec::new();
    for chunk in chunk::chunk(parsed, settings)? {
        let place = serde_json::to_value(&chunk.place)
            .map_err(|err| Error::bug("a place is no value").source_err(err))?;
        let mut fields = ChunkFields::default();
        let place = Value::from_json(&place);
        for (name, value) in place.as_map().into_iter().flatten() {
            // As R2R names it.
            let name = match &**name {
                "page" => "page_number",
                name => name,
            };
            fields.metadata.insert(name.into(), value.clone());
        }
        all.push((chunk.text, fields));
    }
    Ok(all)
}
