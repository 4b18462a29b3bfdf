//! Vectors: stored in tables, searched in memory.
//!
//! What a call stores is committed first, then applied to an image of the tables in memory, in
//! the order of the commits. Searches look at the image only. It is made from the tables when it
//! is first asked for, and again after a commit of which nobody knows whether it was stored.

mod blob;
mod coarse;
mod graph;
mod image;
mod linker;
mod moments;
mod postings;
mod rows;
mod shelf;
mod table;
mod values;

pub(crate) use linker::Linker;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use agentflow_storage::{
    condition::{Condition, Field},
    vector::{
        Collection, Hit, Mark, Point, Search, Vectors, check_limit, check_points, check_searches,
    },
};
use agentflow_types::{Error, ErrorKind, Result, Scope, Value};
use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::OwnedRwLockReadGuard;
use uuid::Uuid;

use crate::{
    Embedded,
    vectors::{
        image::{Change, Held, Image},
        linker::Bell,
        table::Stored,
    },
};

/// Points of a tenant up to which the caller's own thread looks at them: that takes a
/// millisecond or two.
const MOST_INLINE: u64 = 20_000;
/// Rows that are removed by condition in one transaction.
const REMOVED: usize = 1_000;

/// How vectors are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorOptions {
    /// Most bytes of memory, about; points that need more are refused. What is stored already is
    /// loaded all the same.
    pub max_bytes: usize,
    /// Points up to which a search by a dense vector looks at each of those that its condition
    /// leaves. With more in one tenant, links are made between them, along which it walks.
    pub exact_limit: u64,
    /// Candidates that a walk keeps; more of them find more of the nearest, and take longer.
    pub search_width: usize,
}

impl Default for VectorOptions {
    fn default() -> Self {
        Self {
            max_bytes: 8 << 30,
            exact_limit: 4_000,
            search_width: 96,
        }
    }
}

/// Rows that are looked at in the time in which a walk looks at the links of one candidate.
const ROWS_PER_CANDIDATE: u64 = 48;

impl VectorOptions {
    /// Candidates of a walk that is to find this many.
    fn width(&self, limit: u32) -> usize {
        self.search_width.max(limit as usize + limit as usize / 4)
    }

    /// Whether to walk towards the nearest of `chosen` points among `all`: a walk meets others,
    /// too, and the more of them, the fewer are chosen.
    fn walks(&self, limit: u32, chosen: u64, all: u64) -> bool {
        let candidates = self.width(limit) as u64;
        chosen > self.exact_limit
            && chosen.saturating_mul(chosen) > all.saturating_mul(candidates * ROWS_PER_CANDIDATE)
    }
}

/// The image of the tables.
pub(crate) struct Index {
    options: VectorOptions,
    /// Whether the image was made. Held for reading by every call, and by every write until it is
    /// applied; for writing while the image is made.
    gate: Arc<tokio::sync::RwLock<bool>>,
    image: RwLock<Image>,
    /// What was committed and not yet applied, in the order of the commits.
    inbox: Mutex<Vec<Change>>,
    /// A commit's fate is unknown: the image may lack something.
    is_doubtful: AtomicBool,
    bell: Bell,
}

type Open = OwnedRwLockReadGuard<bool>;

impl Index {
    pub(crate) fn new(options: VectorOptions) -> Self {
        Self {
            options,
            gate: Arc::default(),
            image: RwLock::default(),
            inbox: Mutex::default(),
            is_doubtful: AtomicBool::new(false),
            bell: Bell::default(),
        }
    }

    /// The image with all that was committed before.
    fn look(&self) -> Result<RwLockReadGuard<'_, Image>> {
        let is_behind = !self.inbox().is_empty();
        if is_behind {
            let mut image = self.image.write().unwrap_or_else(PoisonError::into_inner);
            // With the image held, so that who comes later with newer changes waits.
            let mut changes = std::mem::take(&mut *self.inbox()).into_iter();
            if let Err(err) = changes.try_for_each(|change| image.apply(change)) {
                self.is_doubtful.store(true, Ordering::Release);
                return Err(err);
            }
            self.bell.ring();
        }
        Ok(self.image.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn inbox(&self) -> std::sync::MutexGuard<'_, Vec<Change>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a transaction changed, right after it ended.
    fn take(&self, changes: Result<Vec<Change>>) -> Result<bool> {
        match changes {
            Ok(changes) => {
                let is_changed = !changes.is_empty();
                self.inbox().extend(changes);
                Ok(is_changed)
            }
            Err(err) => {
                if err.kind() == ErrorKind::Uncertain {
                    self.is_doubtful.store(true, Ordering::Release);
                }
                Err(err)
            }
        }
    }

    fn is_ready(&self, is_made: bool) -> bool {
        is_made && !self.is_doubtful.load(Ordering::Acquire)
    }
}

impl Embedded {
    /// Makes the image if there is none.
    async fn opened(&self) -> Result<Open> {
        let index = &self.inner.vectors;
        let open = index.gate.clone().read_owned().await;
        if index.is_ready(*open) {
            return Ok(open);
        }
        drop(open);
        let mut made = index.gate.clone().write_owned().await;
        if !index.is_ready(*made) {
            // No write is under way: each holds the gate until it is applied.
            let (image, gone) = self.read(table::load).await?;
            index.inbox().clear();
            *index.image.write().unwrap_or_else(PoisonError::into_inner) = image;
            index.is_doubtful.store(false, Ordering::Release);
            index.bell.ring();
            *made = true;
            for collection_id in gone {
                self.sweep(collection_id).await?;
            }
        }
        Ok(made.downgrade())
    }

    /// Changes the tables, then the image; whether anything was changed. Dropping the future stops
    /// neither.
    async fn change<F>(&self, open: Open, job: F) -> Result<bool>
    where
        F: FnOnce(&Connection) -> Result<Vec<Change>> + Send + 'static,
    {
        let index = self.inner.vectors.clone();
        let after = move |changes| {
            let taken = index.take(changes);
            drop(open);
            taken
        };
        let is_changed = self.inner.writer.run_then(job, after).await?;
        // Whoever reads next would do it otherwise.
        drop(self.inner.vectors.look()?);
        Ok(is_changed)
    }

    /// Looks at a collection, on another thread if that may take long.
    async fn held<T, F>(&self, open: Open, scope: &Scope, name: &str, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Held, &VectorOptions) -> Result<T> + Send + 'static,
    {
        let index = self.inner.vectors.clone();
        {
            let image = index.look()?;
            let held = image.named(name)?;
            if held.len(scope) <= MOST_INLINE {
                return job(held, &index.options);
            }
        }
        let name = name.to_owned();
        let far = tokio::task::spawn_blocking(move || {
            let _open = open;
            job(index.look()?.named(&name)?, &index.options)
        });
        far.await
            .map_err(|err| Error::bug("a search panicked").source_err(err))?
    }

    /// The number of a collection, after it was checked against its shape.
    fn checked(&self, name: &str, check: impl FnOnce(&Collection) -> Result<()>) -> Result<i64> {
        let image = self.inner.vectors.look()?;
        let held = image.named(name)?;
        check(&held.shape)?;
        Ok(held.collection_id)
    }

    /// Waits until all links are made that searches of many points walk along. They are made in
    /// any case; until then, points without links are looked at one by one.
    ///
    /// # Errors
    /// Those of loading the vectors.
    pub async fn link_vectors(&self) -> Result<()> {
        let open = self.opened().await?;
        let index = self.inner.vectors.clone();
        drop(index.look()?);
        let far = tokio::task::spawn_blocking(move || {
            linker::link(&index);
            drop(open);
        });
        far.await
            .map_err(|err| Error::bug("linking panicked").source_err(err))
    }

    async fn sweep(&self, collection_id: i64) -> Result<()> {
        while self
            .write(move |db| table::sweep(db, collection_id))
            .await?
            > 0
        {}
        Ok(())
    }
}

fn check(condition: Option<&Condition>) -> Result<()> {
    condition.map_or(Ok(()), Condition::check)
}

#[async_trait]
impl Vectors for Embedded {
    async fn ensure(&self, collection: &Collection) -> Result<()> {
        collection.check()?;
        let open = self.opened().await?;
        let collection = collection.clone();
        let job = move |db: &Connection| table::ensure(db, &collection);
        self.change(open, job).await.map(drop)
    }

    async fn collections(&self) -> Result<Vec<Collection>> {
        let _open = self.opened().await?;
        Ok(self.inner.vectors.look()?.collections())
    }

    async fn drop_collection(&self, name: &str) -> Result<bool> {
        let open = self.opened().await?;
        let Ok(collection_id) = self.checked(name, |_| Ok(())) else {
            return Ok(false);
        };
        let name = name.to_owned();
        let job = move |db: &Connection| table::drop_collection(db, &name);
        let is_dropped = self.change(open, job).await?;
        self.sweep(collection_id).await?;
        Ok(is_dropped)
    }

    async fn upsert(&self, scope: &Scope, collection: &str, points: Vec<Point>) -> Result<()> {
        check_points(points.len())?;
        let open = self.opened().await?;
        let collection_id = self.checked(collection, |shape| {
            points.iter().try_for_each(|point| shape.check_point(point))
        })?;
        let (used, most) = {
            let index = &self.inner.vectors;
            (index.look()?.size_bytes(), index.options.max_bytes)
        };
        if used >= most {
            return Err(
                Error::busy("the vectors in memory have reached their limit")
                    .with("bytes", used)
                    .with("limit", most),
            );
        }
        let points: Vec<Stored> = points.into_iter().map(Stored::of).collect::<Result<_>>()?;
        let (tenant, name): (Arc<str>, String) = (scope.tenant().into(), collection.to_owned());
        let job = move |db: &Connection| table::upsert(db, (collection_id, &name), &tenant, points);
        self.change(open, job).await.map(drop)
    }

    async fn delete(&self, scope: &Scope, collection: &str, ids: &[Uuid]) -> Result<()> {
        check_points(ids.len())?;
        let open = self.opened().await?;
        let collection_id = self.checked(collection, |_| Ok(()))?;
        let (tenant, name): (Arc<str>, String) = (scope.tenant().into(), collection.to_owned());
        let ids = ids.to_vec();
        let job = move |db: &Connection| table::delete(db, (collection_id, &name), &tenant, &ids);
        self.change(open, job).await.map(drop)
    }

    async fn delete_where(
        &self,
        scope: &Scope,
        collection: &str,
        condition: &Condition,
    ) -> Result<()> {
        condition.check()?;
        let open = self.opened().await?;
        let collection_id = self.checked(collection, |_| Ok(()))?;
        let (who, wanted) = (scope.clone(), condition.clone());
        let rows = self.held(open, scope, collection, move |held, _| {
            held.page(&who, Some(&wanted), None, usize::MAX)
        });
        let rows = rows.await?;
        let tenant: Arc<str> = scope.tenant().into();
        for rows in rows.chunks(REMOVED) {
            let (rows, tenant) = (rows.to_vec(), tenant.clone());
            let open = self.opened().await?;
            let job = move |db: &Connection| table::delete_rows(db, collection_id, &tenant, &rows);
            self.change(open, job).await?;
        }
        Ok(())
    }

    async fn get(&self, scope: &Scope, collection: &str, ids: &[Uuid]) -> Result<Vec<Point>> {
        check_points(ids.len())?;
        let _open = self.opened().await?;
        let collection_id = self.checked(collection, |_| Ok(()))?;
        let (scope, ids): (Scope, BTreeSet<Uuid>) = (scope.clone(), ids.iter().copied().collect());
        self.read(move |db| table::by_id(db, collection_id, &scope, &ids))
            .await
    }

    async fn search(
        &self,
        scope: &Scope,
        collection: &str,
        searches: &[Search],
    ) -> Result<Vec<Vec<Hit>>> {
        check_searches(searches.len())?;
        let open = self.opened().await?;
        let (who, searches) = (scope.clone(), searches.to_vec());
        let job = move |held: &Held, options: &VectorOptions| {
            searches
                .iter()
                .try_for_each(|search| held.shape.check_search(search))?;
            searches
                .iter()
                .map(|search| held.search(&who, search, options))
                .collect()
        };
        self.held(open, scope, collection, job).await
    }

    async fn scroll(
        &self,
        scope: &Scope,
        collection: &str,
        condition: Option<&Condition>,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Point>> {
        check_limit(limit)?;
        check(condition)?;
        let (mut points, mut after) = (Vec::new(), after);
        // Again only if one of the rows went in between.
        while points.len() < limit as usize {
            let open = self.opened().await?;
            let left = limit as usize - points.len();
            let (who, wanted) = (scope.clone(), condition.cloned());
            let rows = self.held(open, scope, collection, move |held, _| {
                held.page(&who, wanted.as_ref(), after, left)
            });
            let rows = rows.await?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(*last);
            let is_last = rows.len() < left;
            points.extend(self.read(move |db| table::by_row(db, &rows)).await?);
            if is_last {
                break;
            }
        }
        Ok(points)
    }

    async fn count(
        &self,
        scope: &Scope,
        collection: &str,
        condition: Option<&Condition>,
    ) -> Result<u64> {
        check(condition)?;
        let open = self.opened().await?;
        let (who, wanted) = (scope.clone(), condition.cloned());
        let job = move |held: &Held, _: &VectorOptions| held.count(&who, wanted.as_ref());
        self.held(open, scope, collection, job).await
    }

    async fn facet(
        &self,
        scope: &Scope,
        collection: &str,
        field: &Field,
        condition: Option<&Condition>,
        limit: u32,
    ) -> Result<Vec<(Value, u64)>> {
        check_limit(limit)?;
        check(condition)?;
        let open = self.opened().await?;
        let (who, wanted, field) = (scope.clone(), condition.cloned(), field.clone());
        let job =
            move |held: &Held, _: &VectorOptions| held.facet(&who, &field, wanted.as_ref(), limit);
        self.held(open, scope, collection, job).await
    }

    async fn marks(&self, collection: &str, after: Option<Uuid>, limit: u32) -> Result<Vec<Mark>> {
        check_limit(limit)?;
        let _open = self.opened().await?;
        let collection_id = self.checked(collection, |_| Ok(()))?;
        self.read(move |db| table::marks(db, collection_id, after, limit))
            .await
    }
}
