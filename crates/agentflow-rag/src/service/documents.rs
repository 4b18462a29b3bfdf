//! Documents: sent, read, changed, removed.

use std::time::Duration;

use agentflow_storage::{
    condition::{Condition, Field},
    documents::{Change, Entry, EntryKind, EntryQuery, MAX_PART_BYTES},
    page::{MAX_LIMIT, Page, PageQuery},
};
use agentflow_types::{Error, ErrorKind, Map, Result, Scope, Value};
use uuid::Uuid;

use super::{
    Caller, Document, Form, Service, Status,
    access::page,
    filter, ids,
    state::{Content, Fields, entry, map},
    work::{Task, letter},
};
use crate::chunk::Settings;

/// Most chunks that are sent at once.
pub const MAX_CHUNKS: usize = 102_400;
/// Most bytes of metadata, as JSON.
const MAX_METADATA: usize = 1 << 20;
/// Most characters of the name that a document's id follows from; a longer text is told apart by
/// all of it, but the file that it is kept as has a short name.
const MAX_NAME: usize = 255;
/// How often a waiting request looks for the work of other processes.
const LOOK: Duration = Duration::from_millis(200);

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A file.
    File {
        /// Its name, by which its kind goes if the content does not tell.
        name: String,
        /// Its media type, if the sender says one.
        mime: Option<String>,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Text.
    Text(String),
    /// Chunks.
    Chunks(Vec<String>),
}

/// A document to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// Its id; one that follows from the name otherwise.
    pub id: Option<Uuid>,
    /// What it holds.
    pub body: Body,
    /// The collections that it will be in; the user's own one otherwise.
    pub collections: Option<Vec<Uuid>>,
    /// What is said about it; `title` is its title.
    pub metadata: Map,
    /// How it is cut.
    pub settings: Settings,
}

fn not_found() -> Error {
    Error::not_found("Document not found.")
}

/// The extension of a file's name in lower case.
fn extension(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    match file.rsplit_once('.') {
        Some((stem, end)) if !stem.is_empty() => end.to_lowercase(),
        _ => String::new(),
    }
}

fn title(metadata: &Map) -> Option<String> {
    metadata
        .get("title")
        .and_then(Value::as_str)
        .map(str::to_owned)
}

impl Upload {
    fn check(&self) -> Result<()> {
        self.settings.check()?;
        match &self.body {
            Body::Chunks(chunks) if chunks.is_empty() => {
                return Err(Error::invalid("Empty list of chunks provided"));
            }
            Body::Chunks(chunks) if chunks.len() > MAX_CHUNKS => {
                let told = format!("Maximum of {MAX_CHUNKS} chunks per request");
                return Err(Error::invalid(told));
            }
            Body::Text(text) if text.trim().is_empty() => {
                return Err(Error::invalid("the text is empty"));
            }
            _ => {}
        }
        let size = Value::map(self.metadata.clone()).json_text().len();
        match size {
            0..=MAX_METADATA => Ok(()),
            _ => Err(Error::invalid("the metadata is too large")
                .with("bytes", size)
                .with("limit", MAX_METADATA)),
        }
    }

    /// Id, form, name, media type, kind and bytes.
    fn parts(self, user: Uuid) -> Result<(Uuid, Content, String, Vec<u8>)> {
        let id = |name: &str| self.id.unwrap_or_else(|| ids::document(name, user));
        let content = |form, name: Option<String>, mime| Content {
            upload: Uuid::now_v7(),
            form,
            name,
            mime,
            settings: self.settings.clone(),
            ..Content::default()
        };
        Ok(match self.body {
            Body::File { name, mime, bytes } => {
                let name: String = name.chars().take(MAX_NAME).collect();
                let (id, kind) = (id(&name), extension(&name));
                (id, content(Form::File, Some(name), mime), kind, bytes)
            }
            Body::Text(text) => {
                let made = content(Form::Text, None, None);
                (id(&text), made, "txt".into(), text.into_bytes())
            }
            Body::Chunks(chunks) => {
                let id = id(&chunks.concat());
                let bytes = serde_json::to_vec(&chunks)
                    .map_err(|err| Error::bug("texts are no JSON").source_err(err))?;
                (id, content(Form::Chunks, None, None), "txt".into(), bytes)
            }
        })
    }
}

impl Service {
    /// Stores a document and the work on it. It is acknowledged then, and found when that is done:
    /// see [`Service::settled`].
    ///
    /// # Errors
    /// `Conflict` if it exists, or is another user's; `Denied` for a collection that the user is no
    /// member of; `Invalid` with what is wrong.
    pub async fn create(&self, scope: &Scope, caller: &Caller, upload: Upload) -> Result<Document> {
        upload.check()?;
        let collection_ids = self.chosen(scope, caller, &upload).await?;
        let (metadata, now) = (upload.metadata.clone(), self.now());
        let (id, content, kind, bytes) = upload.parts(caller.user)?;
        let fields = Fields {
            kind,
            title: title(&metadata),
            status: Status::Pending,
            collection_ids,
            metadata,
        };
        let old = self.replaceable(scope, caller, id).await?;
        for (number, part) in (0..).zip(bytes.chunks(MAX_PART_BYTES)) {
            let part = part.to_vec();
            let records = self.records();
            records
                .write_part(scope, content.upload, number, part, now)
                .await?;
        }
        if bytes.is_empty() {
            let records = self.records();
            records
                .write_part(scope, content.upload, 0, vec![], now)
                .await?;
        }
        let new = Entry {
            owner: Some(caller.user),
            size: bytes.len() as u64,
            fields: map(&fields)?,
            content: map(&content)?,
            ..entry(EntryKind::Document, id, now)
        };
        let upload = content.upload;
        let mut changes = vec![Change::KeepBlob(upload)];
        let stored = match &old {
            None => new,
            Some(old) => {
                changes.extend(below(id));
                changes.push(Change::DropBlob(old.content.upload));
                Entry {
                    version: old.entry.version + 1,
                    created_at: old.created_at(),
                    ..new
                }
            }
        };
        changes.push(Change::Put(Box::new(stored.clone())));
        let task = Task::Ingest {
            document: id,
            upload,
        };
        changes.push(letter(now, &task));
        let applied = self.records().apply(scope, changes).await;
        applied.map_err(|err| match err.kind() {
            ErrorKind::Conflict => exists(id),
            _ => err,
        })?;
        self.wake();
        Document::read(stored)
    }

    /// The collections of a new document.
    async fn chosen(&self, scope: &Scope, caller: &Caller, upload: &Upload) -> Result<Vec<Uuid>> {
        let Some(chosen) = &upload.collections else {
            return Ok(vec![self.make_default_once(scope, caller).await?]);
        };
        for id in chosen {
            self.collection(scope, caller, *id).await?;
        }
        Ok(chosen.clone())
    }

    async fn make_default_once(&self, scope: &Scope, caller: &Caller) -> Result<Uuid> {
        let id = ids::default_collection(caller.user);
        match caller.collections.contains(&id) {
            true => Ok(id),
            false => self.make_default(scope, caller.user).await,
        }
    }

    /// The document that an upload may replace: one of the user's that failed.
    async fn replaceable(
        &self,
        scope: &Scope,
        caller: &Caller,
        id: Uuid,
    ) -> Result<Option<Document>> {
        let found = self
            .records()
            .get(scope, EntryKind::Document, &[id])
            .await?;
        let Some(old) = found.into_iter().next().map(Document::read).transpose()? else {
            return Ok(None);
        };
        match old.status() {
            // Nobody learns more about a document of somebody else.
            _ if old.owner() != caller.user => Err(exists(id)),
            Status::Failed => Ok(Some(old)),
            Status::Success => Err(exists(id)),
            status => Err(Error::conflict(format!(
                "Document {id} is currently ingesting with status {}.",
                status.as_str()
            ))),
        }
    }

    /// A document when the work on it is over, or as it is after that time.
    ///
    /// # Errors
    /// As [`Service::document`].
    pub async fn settled(
        &self,
        scope: &Scope,
        caller: &Caller,
        id: Uuid,
        most: Duration,
    ) -> Result<Document> {
        let until = tokio::time::Instant::now() + most;
        loop {
            let progress = self.inner.progress.notified();
            let document = self.document(scope, caller, id).await?;
            if document.status().is_over() || tokio::time::Instant::now() >= until {
                return Ok(document);
            }
            tokio::select! {
                () = progress => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// A document.
    ///
    /// # Errors
    /// `NotFound` if there is none that the user sees.
    pub async fn document(&self, scope: &Scope, caller: &Caller, id: Uuid) -> Result<Document> {
        let found = self
            .records()
            .get(scope, EntryKind::Document, &[id])
            .await?;
        let document = found.into_iter().next().map(Document::read).transpose()?;
        let seen = document.filter(|document| caller.sees(document));
        seen.ok_or_else(not_found)
    }

    /// A document that the user may change.
    ///
    /// # Errors
    /// `NotFound` as [`Service::document`]; `Denied` to who only reads it.
    pub(super) async fn own_document(
        &self,
        scope: &Scope,
        caller: &Caller,
        id: Uuid,
    ) -> Result<Document> {
        let document = self.document(scope, caller, id).await?;
        match caller.owns(document.owner()) {
            true => Ok(document),
            false => Err(Error::denied("Insufficient permissions for this action.")),
        }
    }

    /// Documents that the user sees.
    ///
    /// # Errors
    /// `Invalid` for a page out of range.
    pub async fn documents(
        &self,
        scope: &Scope,
        caller: &Caller,
        (ids, own_only): (&[Uuid], bool),
        page: &PageQuery,
    ) -> Result<Page<Document>> {
        let text = |id: &Uuid| Value::str(id.to_string());
        let chosen = (!ids.is_empty())
            .then(|| Condition::In(Field::of("id"), ids.iter().map(text).collect()));
        let query = EntryQuery {
            owner: own_only.then_some(caller.user),
            condition: caller.within(chosen),
            ..EntryQuery::of(EntryKind::Document)
        };
        self.listed(scope, &query, page).await
    }

    /// Documents of a collection.
    ///
    /// # Errors
    /// As [`Service::collection`].
    pub async fn documents_of(
        &self,
        scope: &Scope,
        caller: &Caller,
        collection: Uuid,
        page: &PageQuery,
    ) -> Result<Page<Document>> {
        self.collection(scope, caller, collection).await?;
        let query = super::collections::inside(collection);
        self.listed(scope, &query, page).await
    }

    async fn listed(
        &self,
        scope: &Scope,
        query: &EntryQuery,
        page: &PageQuery,
    ) -> Result<Page<Document>> {
        let found = self.records().list(scope, query, page).await?;
        let items = found.items.into_iter().map(Document::read);
        Ok(Page {
            items: items.collect::<Result<_>>()?,
            total: found.total,
        })
    }

    /// Changes what is said about a document: all of it, or what is named.
    ///
    /// # Errors
    /// As [`Service::document`]; `Denied` to who does not own it; `Conflict` if somebody else was
    /// faster.
    pub async fn describe(
        &self,
        scope: &Scope,
        caller: &Caller,
        id: Uuid,
        (metadata, replaces): (Map, bool),
    ) -> Result<Document> {
        let mut document = self.own_document(scope, caller, id).await?;
        let all = match replaces {
            true => metadata,
            false => {
                let mut all = document.fields.metadata.clone();
                all.extend(metadata);
                all
            }
        };
        if Value::map(all.clone()).json_text().len() > MAX_METADATA {
            return Err(Error::invalid("the metadata is too large").with("limit", MAX_METADATA));
        }
        if let Some(title) = title(&all) {
            document.fields.title = Some(title);
        }
        document.fields.metadata = all;
        self.change(scope, document).await
    }

    /// The bytes that were sent.
    ///
    /// # Errors
    /// As [`Service::document`].
    pub async fn download(&self, scope: &Scope, caller: &Caller, id: Uuid) -> Result<Vec<u8>> {
        let document = self.document(scope, caller, id).await?;
        self.bytes(scope, &document).await
    }

    /// Removes a document with all that was made of it: bytes, chunks, vectors.
    ///
    /// # Errors
    /// As [`Service::describe`].
    pub async fn delete(&self, scope: &Scope, caller: &Caller, id: Uuid) -> Result<()> {
        loop {
            let document = self.own_document(scope, caller, id).await?;
            match self.remove(scope, &document).await {
                // It was being stored: what came since goes, too.
                Err(err) if err.kind() == ErrorKind::Conflict => {}
                done => return done,
            }
        }
    }

    async fn remove(&self, scope: &Scope, document: &Document) -> Result<()> {
        let id = document.id();
        let mut changes = below(id);
        changes.push(Change::DropBlob(document.content.upload));
        changes.push(Change::Remove {
            kind: EntryKind::Document,
            entry_id: id,
            version: document.entry.version,
        });
        changes.push(letter(self.now(), &Task::Show { document: id }));
        self.records().apply(scope, changes).await?;
        self.wake();
        self.inner.progress.notify_waiters();
        // So that no search of the same user finds it; the letter does so if this fails.
        if let Err(err) = self.inner.index.forget(scope, id).await {
            tracing::warn!(error = %err, "a removed document leaves the index later");
        }
        Ok(())
    }

    /// Removes the user's documents (a superuser's: all) that meet a filter; how many.
    ///
    /// # Errors
    /// `Invalid` for an empty filter, which would remove all, and for one that cannot be read;
    /// `NotFound` if none meets it.
    pub async fn delete_where(&self, scope: &Scope, caller: &Caller, filters: &Map) -> Result<u64> {
        if filters.is_empty() {
            return Err(Error::invalid(
                "the filter is empty, which would remove everything",
            ));
        }
        let condition = filter::read(filters, filter::Of::Documents)?;
        let query = EntryQuery {
            owner: (!caller.is_superuser).then_some(caller.user),
            condition: Some(condition),
            ..EntryQuery::of(EntryKind::Document)
        };
        // What is added meanwhile stays.
        let most = self.records().totals(scope, &query).await?.entries;
        let mut gone = 0;
        while gone < most {
            let found = self.records().list(scope, &query, &page(0)).await?;
            if found.items.is_empty() {
                break;
            }
            for entry in found.items.into_iter().take(MAX_LIMIT as usize) {
                let document = Document::read(entry)?;
                match self.delete(scope, caller, document.id()).await {
                    Err(err) if err.kind() == ErrorKind::NotFound => {}
                    done => done?,
                }
                gone += 1;
            }
        }
        match gone {
            0 => Err(not_found()),
            _ => Ok(gone),
        }
    }
}

/// What is below a document.
fn below(parent: Uuid) -> Vec<Change> {
    [EntryKind::Chunk, EntryKind::Entity, EntryKind::Relationship]
        .map(|kind| Change::RemoveBelow { kind, parent })
        .into()
}

fn exists(id: Uuid) -> Error {
    Error::conflict(format!(
        "Document {id} already exists. Submit a DELETE request to `/documents/{id}` to delete it, \
        and send it again then."
    ))
}
