//! The index of vectors, derived from the records.
//!
//! A decision that changes memories posts a letter that names them. Right after the commit the
//! index is brought to what the records say; if that fails, the letter is delivered later. What
//! is written is always what the records say at that moment, under their version, so that it may
//! be done twice, or late.

mod edition;
mod keep;
mod plan;
mod shelf;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use agentflow_models::chat::SharedEmbed;
use agentflow_storage::{
    Backend,
    condition::Field,
    memories::{Change, Memory, OwnerKind},
    outbox::{Letter, Posted, Settled},
    vector::{Kind, Point, Sparse, Vectors},
};
use agentflow_types::{
    Clock, Error, ErrorKind, LetterId, MemoryId, Result, Scope, Timestamp, Value,
};
use tokio::sync::{Mutex, OnceCell};

pub(crate) use edition::Edition;
pub use edition::Embedders;
pub use keep::{Begins, IndexState, Lasting, Reembed, Step};
use shelf::Shelf;

use crate::{
    retrieval::{BM25, stored_terms},
    service::Before,
    text::Language,
};

/// Topic of the letters.
pub(crate) const TOPIC: &str = "memory-index";
/// The dense vector.
pub(crate) const DENSE: &str = "dense";
/// The sparse vector.
pub(crate) const WORDS: &str = "words";
/// Most texts that are embedded at once.
const BATCH: usize = 64;
/// How long a letter waits for who posted it to write the index itself.
const HEAD_START: Duration = Duration::from_secs(5);
/// How long a claim hides a letter.
const LEASE: Duration = Duration::from_secs(20);
/// Letters of one round.
const LETTERS: u32 = 64;
/// Longest pause before a letter is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long nobody waits for an index that failed.
const AWAY: Duration = Duration::from_secs(2);
/// Records and points that are compared at once.
const PAGE: u32 = 1_000;

/// What a comparison of records and index found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Records that are looked at.
    pub records: u64,
    /// Records that the index lacks, or has in an older version.
    pub missing: u64,
    /// Points without a record.
    pub orphans: u64,
}

pub(crate) struct Index {
    pub(crate) vectors: Arc<dyn Vectors>,
    /// The embedder that the configuration wants.
    embed: Option<(SharedEmbed, String)>,
    /// How an index that outlives the process is kept; `None` for one that does not.
    lasting: Option<Lasting>,
    backend: Backend,
    usual: Language,
    clock: Arc<dyn Clock>,
    /// The name of this process among those that share the index.
    me: String,
    shelf: RwLock<Option<Arc<Shelf>>>,
    /// Held by who loads the shelf.
    loading: Mutex<()>,
    wished: OnceCell<Arc<Edition>>,
    /// Whether the collection is gone, though it was made.
    is_lost: AtomicBool,
    /// Until when nobody waits for the index, which failed a moment ago; in microseconds.
    away_until: AtomicI64,
}

/// Where a write got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Wherever it belongs.
    All,
    /// What serves, but not what is made beside it.
    Serving,
}

impl Index {
    pub(crate) fn new(
        vectors: Arc<dyn Vectors>,
        embed: Option<(SharedEmbed, String)>,
        (backend, usual): (Backend, Language),
        clock: Arc<dyn Clock>,
        lasting: Option<Lasting>,
    ) -> Self {
        Self {
            vectors,
            embed,
            lasting,
            backend,
            usual,
            clock,
            me: uuid::Uuid::new_v4().simple().to_string(),
            shelf: RwLock::new(None),
            loading: Mutex::new(()),
            wished: OnceCell::new(),
            is_lost: AtomicBool::new(false),
            away_until: AtomicI64::new(0),
        }
    }

    /// Whether the index failed a moment ago: who asks for something goes on without it, and the
    /// outbox tries again.
    pub(crate) fn is_away(&self, now: Timestamp) -> bool {
        now.0 < self.away_until.load(Ordering::Relaxed)
    }

    /// Remembers how a call of the index ended. What a caller asked for wrongly says nothing.
    pub(crate) fn note<T>(&self, now: Timestamp, ended: &Result<T>) {
        let until = match ended.as_ref().map_err(Error::kind) {
            Ok(_) => 0,
            Err(ErrorKind::Busy | ErrorKind::Uncertain | ErrorKind::Failed) => now.plus(AWAY).0,
            Err(ErrorKind::NotFound) => {
                self.is_lost.store(true, Ordering::Relaxed);
                return;
            }
            Err(_) => return,
        };
        self.away_until.store(until, Ordering::Relaxed);
    }

    /// Makes a collection that was lost again, and fills it.
    async fn regain(&self) -> Result<()> {
        // It may be gone because another one serves.
        let Some(shelf) = self.look().await? else {
            return Ok(());
        };
        let serving = &shelf.serving;
        let there = self.vectors.collections().await?;
        if there.iter().any(|one| one.name == serving.name) {
            return Ok(());
        }
        tracing::warn!(collection = serving.name, "the index of memories is gone");
        self.vectors.ensure(&serving.made.collection()).await?;
        self.compare(serving, true).await.map(drop)
    }

    /// The edition that searches look at.
    pub(crate) async fn serving(&self) -> Result<Arc<Edition>> {
        self.shelf().await.map(|shelf| shelf.serving.clone())
    }

    /// Brings the points of these memories to what the records say, in all editions.
    pub(crate) async fn refresh(&self, scope: &Scope, ids: &[MemoryId]) -> Result<Reach> {
        let shelf = self.shelf().await?;
        let Some(filling) = &shelf.filling else {
            self.bring(&shelf.serving, scope, ids).await?;
            return Ok(Reach::All);
        };
        let (serving, beside) = tokio::join!(
            self.bring(&shelf.serving, scope, ids),
            self.bring(filling, scope, ids)
        );
        serving?;
        Ok(match beside {
            // Without its embedder the point is stale, and filled in by who has it.
            Ok(()) => Reach::All,
            Err(err) => {
                tracing::warn!(error = %err, "the new index is written later");
                Reach::Serving
            }
        })
    }

    async fn bring(&self, edition: &Edition, scope: &Scope, ids: &[MemoryId]) -> Result<()> {
        for ids in ids.chunks(BATCH) {
            let found = self.backend.memories.get(scope, ids, None).await?;
            let points = self.points(edition, scope, &found).await?;
            if !points.is_empty() {
                self.vectors.upsert(scope, &edition.name, points).await?;
            }
            // One may have gone while it was written.
            let left = self.backend.memories.get(scope, ids, None).await?;
            let left: HashSet<MemoryId> = left.iter().map(|memory| memory.memory_id).collect();
            let gone = ids.iter().filter(|id| !left.contains(id));
            let gone: Vec<uuid::Uuid> = gone.map(|id| id.0).collect();
            if !gone.is_empty() {
                self.vectors.delete(scope, &edition.name, &gone).await?;
            }
        }
        Ok(())
    }

    async fn points(
        &self,
        edition: &Edition,
        scope: &Scope,
        memories: &[Memory],
    ) -> Result<Vec<Point>> {
        let all: Vec<&Memory> = memories.iter().collect();
        let before = Before::read(&self.backend, scope, &all).await?;
        let texts: Vec<String> = memories.iter().map(|memory| memory.text.clone()).collect();
        let vectors = edition.embed(&texts).await?;
        // A point without the vector that it should have counts as older than its record.
        let stale = u64::from(vectors.is_none() && edition.made.model.is_some());
        let mut dense = vectors.unwrap_or_default().into_iter();
        let point = |memory: &Memory| {
            let dense = dense
                .next()
                .filter(|vector| vector.iter().any(|n| *n != 0.0));
            Point {
                id: memory.memory_id.0,
                version: memory.version.saturating_sub(stale),
                dense: dense
                    .map(|vector| (DENSE.to_owned(), vector))
                    .into_iter()
                    .collect(),
                sparse: [(WORDS.to_owned(), self.words(memory, &before))].into(),
                payload: memory.payload(),
            }
        };
        Ok(memories.iter().map(point).collect())
    }

    fn words(&self, memory: &Memory, before: &Before) -> Sparse {
        let sparse = words(memory, before, self.usual);
        Sparse::of(sparse.terms.into_iter().zip(sparse.weights))
    }

    /// Delivers letters that are due; how many there were.
    pub(crate) async fn deliver(&self, now: Timestamp) -> Result<usize> {
        if self.is_away(now) {
            return Ok(0);
        }
        if self.is_lost.swap(false, Ordering::Relaxed) {
            let regained = self.regain().await;
            self.is_lost.store(regained.is_err(), Ordering::Relaxed);
            regained?;
        }
        let outbox = &self.backend.outbox;
        let letters = outbox.claim(TOPIC, now, now.plus(LEASE), LETTERS).await?;
        let mut tenants: Vec<&str> = letters.iter().map(|one| one.tenant.as_str()).collect();
        tenants.sort_unstable();
        tenants.dedup();
        for tenant in tenants {
            let own: Vec<&Posted> = letters.iter().filter(|one| one.tenant == tenant).collect();
            let mut ids: Vec<MemoryId> = own.iter().flat_map(|one| named(&one.letter)).collect();
            ids.sort_unstable();
            ids.dedup();
            let refreshed = self.refresh(&Scope::new(tenant, "index"), &ids).await;
            self.note(now, &refreshed);
            for posted in own {
                let settled = match &refreshed {
                    Ok(Reach::All) => Settled::Delivered,
                    Ok(Reach::Serving) => {
                        Settled::Again(now.plus(pause(posted)), "the new index failed".into())
                    }
                    Err(err) => Settled::Again(now.plus(pause(posted)), err.to_string()),
                };
                let id = posted.letter.letter_id;
                outbox.settle(id, posted.attempt, settled).await?;
            }
        }
        Ok(letters.len())
    }

    /// Compares records and what serves, and repairs the index if it is told to.
    pub(crate) async fn reconcile(&self, repair: bool) -> Result<Drift> {
        let shelf = self.shelf().await?;
        self.compare(&shelf.serving, repair).await
    }

    /// Compares records and an edition page by page, and repairs it if it is told to.
    async fn compare(&self, edition: &Edition, repair: bool) -> Result<Drift> {
        let mut drift = Drift::default();
        let mut after = None;
        loop {
            let marks = self.backend.memories.marks(after, PAGE).await?;
            let Some(last) = marks.last() else { break };
            after = Some(last.memory_id);
            drift.records += marks.len() as u64;
            for (scope, ids) in self.lacking(edition, &marks).await? {
                drift.missing += ids.len() as u64;
                if repair {
                    self.bring(edition, &scope, &ids).await?;
                }
            }
            // What is added meanwhile is written by who adds it.
            if marks.len() < PAGE as usize {
                break;
            }
        }
        let mut after = None;
        loop {
            let points = self.vectors.marks(&edition.name, after, PAGE).await?;
            let Some(last) = points.last() else { break };
            after = Some(last.id);
            for (scope, ids) in self.orphans(&points).await? {
                drift.orphans += ids.len() as u64;
                if repair {
                    self.bring(edition, &scope, &ids).await?;
                }
            }
            if points.len() < PAGE as usize {
                break;
            }
        }
        Ok(drift)
    }

    /// Fills an index that is held in memory only.
    async fn fill(&self) -> Result<()> {
        let serving = self.serving().await?;
        let collection = &serving.name;
        if self.vectors.marks(collection, None, 1).await?.is_empty() {
            tracing::info!(collection, "the index of memories is empty and is filled");
            let filled = self.compare(&serving, true).await?;
            tracing::info!(memories = filled.missing, "the index of memories is filled");
        }
        Ok(())
    }

    /// Those of the points that have no record, by tenant.
    async fn orphans(
        &self,
        points: &[agentflow_storage::vector::Mark],
    ) -> Result<Vec<(Scope, Vec<MemoryId>)>> {
        let mut tenants: Vec<&str> = points.iter().map(|point| point.tenant.as_str()).collect();
        tenants.sort_unstable();
        tenants.dedup();
        let mut orphans = Vec::new();
        for tenant in tenants {
            let scope = Scope::new(tenant, "index");
            let own = points.iter().filter(|point| point.tenant == tenant);
            let mut ids: Vec<MemoryId> = own.map(|point| MemoryId(point.id)).collect();
            let found = self.backend.memories.get(&scope, &ids, None).await?;
            let found: HashSet<MemoryId> = found.iter().map(|memory| memory.memory_id).collect();
            ids.retain(|id| !found.contains(id));
            if !ids.is_empty() {
                orphans.push((scope, ids));
            }
        }
        Ok(orphans)
    }

    /// Those of the records that the index does not have as they are, by tenant.
    async fn lacking(
        &self,
        edition: &Edition,
        marks: &[agentflow_storage::memories::Mark],
    ) -> Result<Vec<(Scope, Vec<MemoryId>)>> {
        let mut tenants: Vec<&str> = marks.iter().map(|mark| mark.tenant.as_str()).collect();
        tenants.sort_unstable();
        tenants.dedup();
        let mut lacking = Vec::new();
        for tenant in tenants {
            let scope = Scope::new(tenant, "index");
            let own = || marks.iter().filter(|mark| mark.tenant == tenant);
            let ids: Vec<uuid::Uuid> = own().map(|mark| mark.memory_id.0).collect();
            let points = self.vectors.get(&scope, &edition.name, &ids).await?;
            let has: HashSet<(uuid::Uuid, u64)> = points
                .iter()
                .map(|point| (point.id, point.version))
                .collect();
            let ids: Vec<MemoryId> = own()
                .filter(|mark| !has.contains(&(mark.memory_id.0, mark.version)))
                .map(|mark| mark.memory_id)
                .collect();
            if !ids.is_empty() {
                lacking.push((scope, ids));
            }
        }
        Ok(lacking)
    }
}

/// Words of a memory with their weights, and those of the turns before it.
pub(crate) fn words(memory: &Memory, before: &Before, usual: Language) -> crate::text::Sparse {
    BM25.vector(&stored_terms(
        &memory.text,
        &before.of(memory),
        day(memory.happened_at),
        usual,
    ))
}

/// The day of a moment, in UTC.
pub(crate) fn day(moment: Timestamp) -> Option<jiff::civil::Date> {
    let moment = jiff::Timestamp::from_microsecond(moment.0).ok()?;
    Some(moment.to_zoned(jiff::tz::TimeZone::UTC).date())
}

/// A letter that names memories, due a little later; see the module.
pub(crate) fn letter(ids: &[MemoryId], now: Timestamp) -> (LetterId, Change) {
    let letter_id = LetterId::mint();
    let ids = ids.iter().map(|id| Value::str(id.text())).collect();
    let letter = Letter {
        letter_id,
        topic: TOPIC.into(),
        created_at: now.plus(HEAD_START),
        body: Value::object([("ids", Value::list(ids))]),
    };
    (letter_id, Change::Post(Box::new(letter)))
}

fn named(letter: &Letter) -> Vec<MemoryId> {
    let ids = letter.body.get("ids").and_then(Value::as_list);
    let ids = ids.unwrap_or_default().iter();
    ids.filter_map(|id| id.as_str()?.parse().ok()).collect()
}

fn pause(posted: &Posted) -> Duration {
    let doubled = Duration::from_millis(500).saturating_mul(1 << posted.attempt.min(10));
    doubled.min(LONGEST_PAUSE)
}

fn indexed() -> BTreeMap<Field, Kind> {
    let owners = OwnerKind::ALL.iter().map(|kind| kind.field());
    let texts = ["project", "kind", "state", "entities", "categories"];
    let moments = ["timestamp", "created_at", "updated_at", "expiration_date"];
    owners
        .chain(texts)
        .map(|name| (name, Kind::Text))
        .chain(moments.map(|name| (name, Kind::Moment)))
        .map(|(name, kind)| (Field::of(name), kind))
        .collect()
}
