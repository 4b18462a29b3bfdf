//! The index of chunks: vectors and words, derived from the records.
//!
//! A point shows a chunk and what its document says of itself, owner and collections included, by
//! which searches choose. Its version counts changes of both, so a late write replaces nothing.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use agentflow_models::{chat::SharedEmbed, embedding};
use agentflow_storage::{
    condition::{Condition, Field},
    documents::{Documents, Entry, EntryKind, EntryQuery, Mark},
    page::{Order, PageQuery},
    vector::{self, Collection, Kind, Point, Vectors},
};
use agentflow_text::{Bm25, Language, Terms, question};
use agentflow_types::{Error, ErrorKind, Map, Result, Scope, Value};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::state::{Chunk, Document};

/// The dense vector.
pub(super) const DENSE: &str = "dense";
/// The sparse vector.
pub(super) const WORDS: &str = "words";
/// What the names of the collections begin with.
const PURPOSE: &str = "documents";
/// Most texts that are embedded at once.
const BATCH: usize = 64;
/// Chunks of one page.
const PAGE: u32 = 256;
/// Records and points that are compared at once.
const COMPARED: u32 = 1_000;
/// How far the version of a chunk is above that of what its document says.
const SHOWN_BITS: u32 = 24;

/// What a comparison of records and index found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Chunks that are looked at.
    pub records: u64,
    /// Chunks that the index lacks, or has in an older version.
    pub missing: u64,
    /// Points without a chunk.
    pub orphans: u64,
}

pub(super) struct Index {
    records: Arc<dyn Documents>,
    pub(super) vectors: Arc<dyn Vectors>,
    embed: Option<(SharedEmbed, String)>,
    usual: Language,
    bm25: Bm25,
    collection: OnceCell<Collection>,
}

impl Index {
    pub(super) fn new(
        records: Arc<dyn Documents>,
        vectors: Arc<dyn Vectors>,
        embed: Option<(SharedEmbed, String)>,
        usual: Language,
    ) -> Self {
        Self {
            records,
            vectors,
            embed,
            usual,
            // Chunks are longer than what people say.
            bm25: Bm25 {
                usual_length: 120.0,
                ..Bm25::default()
            },
            collection: OnceCell::new(),
        }
    }

    /// The name of the collection, which is made when it is first needed.
    pub(super) async fn collection(&self) -> Result<&str> {
        let made = self.collection.get_or_try_init(|| async {
            let mut collection = Collection {
                name: format!("{PURPOSE}-words"),
                sparse: [WORDS.to_owned()].into(),
                indexed: ["document_id", "owner_id", "collection_ids", "type"]
                    .map(|key| (Field::of(key), Kind::Text))
                    .into(),
                ..Collection::default()
            };
            if let Some((embedder, model)) = &self.embed {
                let dimension = embedding::probe(&**embedder, model).await?;
                collection.name = embedding::collection(PURPOSE, model, dimension);
                let dimension = u32::try_from(dimension).unwrap_or(u32::MAX);
                collection.dense = [(DENSE.to_owned(), dimension)].into();
            }
            self.vectors.ensure(&collection).await?;
            Ok::<_, Error>(collection)
        });
        made.await.map(|collection| collection.name.as_str())
    }

    /// Vectors of texts; `None` without an embedder.
    pub(super) async fn embed(&self, texts: &[String]) -> Result<Option<Vec<Vec<f32>>>> {
        let Some((embedder, model)) = &self.embed else {
            return Ok(None);
        };
        let mut all = Vec::with_capacity(texts.len());
        for texts in texts.chunks(BATCH) {
            let vectors = embedder.embed(model, texts).await?;
            if vectors.len() != texts.len() {
                return Err(Error::failed("the embedder sent another number of vectors"));
            }
            all.extend(vectors);
        }
        Ok(Some(all))
    }

    /// The words of a question.
    pub(super) fn question(&self, text: &str) -> vector::Sparse {
        let words = question(text, self.usual);
        vector::Sparse::of(words.into_iter().map(|word| (word, 1.0)))
    }

    /// Brings the points of these chunks to what the records say.
    pub(super) async fn bring(&self, scope: &Scope, ids: &[Uuid]) -> Result<()> {
        let collection = self.collection().await?;
        for ids in ids.chunks(BATCH) {
            let chunks = self.chunks(scope, ids).await?;
            let points = self.points(&chunks).await?;
            if !points.is_empty() {
                self.put(scope, collection, points).await?;
            }
            // One may have gone while it was written.
            let left = self.chunks(scope, ids).await?;
            let left: HashSet<Uuid> = left.iter().map(|(chunk, _)| chunk.id()).collect();
            let gone: Vec<Uuid> = ids
                .iter()
                .copied()
                .filter(|id| !left.contains(id))
                .collect();
            if !gone.is_empty() {
                self.vectors.delete(scope, collection, &gone).await?;
            }
        }
        Ok(())
    }

    /// Stores points; a collection that somebody removed is made again, and filled by who compares.
    async fn put(&self, scope: &Scope, collection: &str, points: Vec<Point>) -> Result<()> {
        match self.vectors.upsert(scope, collection, points.clone()).await {
            Err(err) if err.kind() == ErrorKind::NotFound => {}
            done => return done,
        }
        self.remake().await?;
        self.vectors.upsert(scope, collection, points).await
    }

    /// Removes all points of a document.
    pub(super) async fn forget(&self, scope: &Scope, document: Uuid) -> Result<()> {
        let collection = self.collection().await?;
        let own = Condition::Equals(Field::of("document_id"), document.to_string().into());
        self.vectors.delete_where(scope, collection, &own).await
    }

    /// Brings all points of a document to what the records say.
    pub(super) async fn show(&self, scope: &Scope, document: Uuid) -> Result<()> {
        let kind = EntryKind::Document;
        let found = self.records.get(scope, kind, &[document]).await?;
        if found.is_empty() {
            return self.forget(scope, document).await;
        }
        let query = EntryQuery {
            parent: Some(document),
            ..EntryQuery::of(EntryKind::Chunk)
        };
        let mut page = PageQuery {
            limit: PAGE,
            offset: 0,
            sort_by: "position".into(),
            order: Order::Ascending,
        };
        loop {
            let found = self.records.list(scope, &query, &page).await?;
            let ids: Vec<Uuid> = found.items.iter().map(|one| one.entry_id).collect();
            self.bring(scope, &ids).await?;
            page.offset += ids.len() as u64;
            if ids.is_empty() || page.offset >= found.total {
                return Ok(());
            }
        }
    }

    /// Those of the chunks that exist, with their documents.
    pub(super) async fn chunks(
        &self,
        scope: &Scope,
        ids: &[Uuid],
    ) -> Result<Vec<(Chunk, Arc<Document>)>> {
        let found = self.records.get(scope, EntryKind::Chunk, ids).await?;
        self.with_documents(scope, found).await
    }

    /// Chunks with their documents; those whose document is gone are left out.
    pub(super) async fn with_documents(
        &self,
        scope: &Scope,
        chunks: Vec<Entry>,
    ) -> Result<Vec<(Chunk, Arc<Document>)>> {
        let mut parents: Vec<Uuid> = chunks.iter().filter_map(|chunk| chunk.parent).collect();
        parents.sort_unstable();
        parents.dedup();
        let documents = self.records.get(scope, EntryKind::Document, &parents);
        let mut by_id = HashMap::new();
        for entry in documents.await? {
            by_id.insert(entry.entry_id, Arc::new(Document::read(entry)?));
        }
        let mut all = Vec::with_capacity(chunks.len());
        for entry in chunks {
            if let Some(document) = entry.parent.and_then(|id| by_id.get(&id)) {
                all.push((Chunk::read(entry)?, document.clone()));
            }
        }
        Ok(all)
    }

    async fn points(&self, chunks: &[(Chunk, Arc<Document>)]) -> Result<Vec<Point>> {
        let texts: Vec<String> = chunks
            .iter()
            .map(|(chunk, _)| chunk.text().to_owned())
            .collect();
        let mut dense = self.embed(&texts).await?.unwrap_or_default().into_iter();
        let point = |(chunk, document): &(Chunk, Arc<Document>)| {
            let dense = dense
                .next()
                .filter(|vector| vector.iter().any(|number| *number != 0.0));
            let words = self.bm25.vector(&Terms::of(chunk.text(), self.usual));
            let words = vector::Sparse::of(words.terms.into_iter().zip(words.weights));
            Point {
                id: chunk.id(),
                version: version(chunk, document),
                dense: dense
                    .map(|vector| (DENSE.to_owned(), vector))
                    .into_iter()
                    .collect(),
                sparse: BTreeMap::from([(WORDS.to_owned(), words)]),
                payload: payload(chunk, document),
            }
        };
        Ok(chunks.iter().map(point).collect())
    }

    /// Fills an index that is empty while there are chunks: one that is held in memory only, or of
    /// another embedder.
    pub(super) async fn fill(&self) -> Result<()> {
        let first = self.records.marks(EntryKind::Chunk, None, 1).await?;
        // Without chunks nothing is loaded either: no model, no vectors.
        if first.is_empty() {
            return Ok(());
        }
        let collection = self.collection().await?;
        if self.vectors.marks(collection, None, 1).await?.is_empty() {
            tracing::info!(collection, "the index of documents is empty and is filled");
            let filled = self.compare(true).await?;
            tracing::info!(chunks = filled.missing, "the index of documents is filled");
        }
        Ok(())
    }

    /// Makes a collection again that somebody removed.
    pub(super) async fn remake(&self) -> Result<()> {
        let Some(made) = self.collection.get() else {
            return Ok(());
        };
        tracing::warn!(
            collection = made.name,
            "the index of documents is gone: `agentflow reconcile` fills it"
        );
        self.vectors.ensure(made).await
    }

    /// Compares records and index page by page, and repairs the index if it is told to.
    pub(super) async fn compare(&self, repair: bool) -> Result<Drift> {
        let mut drift = Drift::default();
        let collection = self.collection().await?;
        let mut after: Option<Mark> = None;
        loop {
            let marks = self
                .records
                .marks(EntryKind::Chunk, after.as_ref(), COMPARED);
            let marks = marks.await?;
            let Some(last) = marks.last() else { break };
            after = Some(last.clone());
            drift.records += marks.len() as u64;
            for (scope, ids) in by_tenant(marks.iter().map(|mark| (&mark.tenant, mark.entry_id))) {
                let lacking = self.lacking(&scope, collection, &ids).await?;
                drift.missing += lacking.len() as u64;
                if repair {
                    self.bring(&scope, &lacking).await?;
                }
            }
        }
        let mut after = None;
        loop {
            let points = self.vectors.marks(collection, after, COMPARED).await?;
            let Some(last) = points.last() else { break };
            after = Some(last.id);
            for (scope, ids) in by_tenant(points.iter().map(|point| (&point.tenant, point.id))) {
                let there = self.chunks(&scope, &ids).await?;
                let there: HashSet<Uuid> = there.iter().map(|(chunk, _)| chunk.id()).collect();
                let gone: Vec<Uuid> = ids.into_iter().filter(|id| !there.contains(id)).collect();
                drift.orphans += gone.len() as u64;
                if repair && !gone.is_empty() {
                    self.vectors.delete(&scope, collection, &gone).await?;
                }
            }
        }
        Ok(drift)
    }

    /// Those of the chunks that the index does not have as they are.
    async fn lacking(&self, scope: &Scope, collection: &str, ids: &[Uuid]) -> Result<Vec<Uuid>> {
        let chunks = self.chunks(scope, ids).await?;
        let points = self.vectors.get(scope, collection, ids).await?;
        let has: HashMap<Uuid, u64> = points
            .into_iter()
            .map(|point| (point.id, point.version))
            .collect();
        let lacking = chunks
            .iter()
            .filter(|(chunk, document)| has.get(&chunk.id()) != Some(&version(chunk, document)));
        Ok(lacking.map(|(chunk, _)| chunk.id()).collect())
    }
}

fn by_tenant<'a>(all: impl Iterator<Item = (&'a String, Uuid)>) -> Vec<(Scope, Vec<Uuid>)> {
    let mut found: BTreeMap<&str, Vec<Uuid>> = BTreeMap::new();
    for (tenant, id) in all {
        found.entry(tenant).or_default().push(id);
    }
    let scope = |tenant| Scope::new(tenant, "index");
    found
        .into_iter()
        .map(|(tenant, ids)| (scope(tenant), ids))
        .collect()
}

fn version(chunk: &Chunk, document: &Document) -> u64 {
    (chunk.entry.version << SHOWN_BITS) + document.content.shown
}

/// What searches choose by, and what must hold of what is shown.
pub(super) fn payload(chunk: &Chunk, document: &Document) -> Map {
    let text = |id: Uuid| Value::str(id.to_string());
    let collections = document.collections().iter().map(|id| text(*id)).collect();
    [
        ("id", text(chunk.id())),
        ("document_id", text(document.id())),
        ("owner_id", text(document.owner())),
        ("collection_ids", Value::list(collections)),
        ("type", document.kind().into()),
        ("created_at", Value::str(document.created_at().to_string())),
        ("updated_at", Value::str(document.updated_at().to_string())),
        ("metadata", Value::map(chunk.metadata(document))),
    ]
    .into_iter()
    .map(|(key, value)| (key.into(), value))
    .collect()
}
