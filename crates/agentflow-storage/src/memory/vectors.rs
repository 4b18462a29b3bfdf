//! Vectors in memory: every point is looked at, so the answers are exact.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use agentflow_types::{Error, Map, Result, Scope, Value};
use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    condition::{Condition, Field},
    filter,
    vector::{
        self, Collection, Hit, Mark, Point, Probe, Search, Sparse, Vectors, check_limit,
        check_points, check_searches, facets, no_collection, taken,
    },
};

/// Collections in memory. Clones share them.
#[derive(Clone, Default)]
pub struct VectorIndex {
    /// Guards all collections; held for one call, never across an await.
    collections: Arc<Mutex<BTreeMap<String, Kept>>>,
}

#[derive(Clone, Default)]
struct Kept {
    shape: Collection,
    points: BTreeMap<Uuid, Owned>,
}

#[derive(Clone)]
struct Owned {
    tenant: String,
    point: Point,
}

impl VectorIndex {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.collections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on a collection.
    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Kept) -> Result<T>) -> Result<T> {
        work(
            self.lock()
                .get_mut(name)
                .ok_or_else(|| no_collection(name))?,
        )
    }
}

impl Kept {
    /// The points of a tenant that meet a condition, by id.
    fn matching<'a>(
        &'a self,
        scope: &'a Scope,
        condition: Option<&'a Condition>,
    ) -> impl Iterator<Item = &'a Point> {
        self.points
            .values()
            .filter(|owned| owned.tenant == scope.tenant())
            .map(|owned| &owned.point)
            .filter(move |point| condition.is_none_or(|c| c.holds(&point.payload)))
    }

    fn search(&self, scope: &Scope, search: &Search) -> Vec<Hit> {
        let score: Box<Score<'_>> = match &search.probe {
            Probe::Dense(name, wanted) => {
                Box::new(move |point| Some(cosine(point.dense.get(name)?, wanted)))
            }
            Probe::Sparse(name, wanted) => {
                let weighted = self.weighted(name, wanted);
                Box::new(move |point| common(point.sparse.get(name)?, &weighted))
            }
            Probe::Any => Box::new(|_| Some(0.0)),
        };
        let mut hits: Vec<Hit> = self
            .matching(scope, search.condition.as_ref())
            .filter_map(|point| {
                let score = score(point)?;
                let is_enough = search.threshold.is_none_or(|least| score >= least);
                is_enough.then(|| Hit {
                    id: point.id,
                    version: point.version,
                    score,
                    payload: match search.payload {
                        true => point.payload.clone(),
                        false => Map::new(),
                    },
                })
            })
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        hits.truncate(search.limit as usize);
        hits
    }

    /// The words of a search, each with its weight times its rarity.
    fn weighted(&self, name: &str, wanted: &Sparse) -> HashMap<u32, f32> {
        let vectors = self
            .points
            .values()
            .filter_map(|o| o.point.sparse.get(name));
        let (mut all, mut having) = (0, HashMap::new());
        for vector in vectors {
            all += 1;
            for word in &vector.indices {
                *having.entry(*word).or_insert(0) += 1;
            }
        }
        let rare = |word| vector::rarity(all, having.get(&word).copied().unwrap_or(0));
        wanted
            .iter()
            .map(|(word, weight)| (word, weight * rare(word)))
            .collect()
    }
}

/// How well a point fits; `None` if it lacks the vector.
type Score<'a> = dyn Fn(&Point) -> Option<f32> + 'a;

/// The cosine of the angle between two vectors of one dimension.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    product(a, b) / (product(a, a).sqrt() * product(b, b).sqrt())
}

/// What the words in common are worth; `None` if there are none.
fn common(vector: &Sparse, weighted: &HashMap<u32, f32>) -> Option<f32> {
    let worth = |(word, weight): (u32, f32)| Some(weighted.get(&word)? * weight);
    vector
        .iter()
        .filter_map(worth)
        .reduce(|sum, more| sum + more)
}

#[async_trait]
impl Vectors for VectorIndex {
    async fn ensure(&self, collection: &Collection) -> Result<()> {
        collection.check()?;
        let mut collections = self.lock();
        let kept = collections
            .entry(collection.name.clone())
            .or_insert_with(|| Kept {
                shape: collection.clone(),
                ..Kept::default()
            });
        if !kept.shape.has_vectors_of(collection) {
            return Err(Error::conflict("the collection exists with other vectors")
                .with("collection", &collection.name));
        }
        kept.shape.check_kinds(collection)?;
        let fields = collection.indexed.iter();
        kept.shape
            .indexed
            .extend(fields.map(|(field, kind)| (field.clone(), *kind)));
        Ok(())
    }

    async fn collections(&self) -> Result<Vec<Collection>> {
        Ok(self
            .lock()
            .values()
            .map(|kept| kept.shape.clone())
            .collect())
    }

    async fn drop_collection(&self, name: &str) -> Result<bool> {
        Ok(self.lock().remove(name).is_some())
    }

    async fn upsert(&self, scope: &Scope, collection: &str, points: Vec<Point>) -> Result<()> {
        check_points(points.len())?;
        self.with(collection, |kept| {
            for point in &points {
                kept.shape.check_point(point)?;
                let owner = kept.points.get(&point.id);
                if owner.is_some_and(|owned| owned.tenant != scope.tenant()) {
                    return Err(taken(point.id));
                }
            }
            for point in points {
                let stored = kept.points.get(&point.id);
                if stored.is_none_or(|owned| owned.point.version <= point.version) {
                    let owned = Owned {
                        tenant: scope.tenant().to_owned(),
                        point: Point {
                            payload: filter::normal_map(&point.payload),
                            ..point
                        },
                    };
                    kept.points.insert(owned.point.id, owned);
                }
            }
            Ok(())
        })
    }

    async fn delete(&self, scope: &Scope, collection: &str, ids: &[Uuid]) -> Result<()> {
        check_points(ids.len())?;
        self.with(collection, |kept| {
            kept.points
                .retain(|id, owned| owned.tenant != scope.tenant() || !ids.contains(id));
            Ok(())
        })
    }

    async fn delete_where(
        &self,
        scope: &Scope,
        collection: &str,
        condition: &Condition,
    ) -> Result<()> {
        condition.check()?;
        self.with(collection, |kept| {
            kept.points.retain(|_, owned| {
                owned.tenant != scope.tenant() || !condition.holds(&owned.point.payload)
            });
            Ok(())
        })
    }

    async fn get(&self, scope: &Scope, collection: &str, ids: &[Uuid]) -> Result<Vec<Point>> {
        check_points(ids.len())?;
        self.with(collection, |kept| {
            let points = kept.matching(scope, None);
            Ok(points.filter(|p| ids.contains(&p.id)).cloned().collect())
        })
    }

    async fn search(
        &self,
        scope: &Scope,
        collection: &str,
        searches: &[Search],
    ) -> Result<Vec<Vec<Hit>>> {
        check_searches(searches.len())?;
        self.with(collection, |kept| {
            searches
                .iter()
                .try_for_each(|search| kept.shape.check_search(search))?;
            let hits = searches.iter().map(|search| kept.search(scope, search));
            Ok(hits.collect())
        })
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
        condition.map_or(Ok(()), Condition::check)?;
        self.with(collection, |kept| {
            let later = kept
                .matching(scope, condition)
                .filter(|point| after.is_none_or(|after| point.id > after));
            Ok(later.take(limit as usize).cloned().collect())
        })
    }

    async fn count(
        &self,
        scope: &Scope,
        collection: &str,
        condition: Option<&Condition>,
    ) -> Result<u64> {
        condition.map_or(Ok(()), Condition::check)?;
        self.with(collection, |kept| {
            Ok(kept.matching(scope, condition).count() as u64)
        })
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
        condition.map_or(Ok(()), Condition::check)?;
        self.with(collection, |kept| {
            let payloads = kept.matching(scope, condition).map(|point| &point.payload);
            let kind = kept.shape.indexed.get(field).copied();
            Ok(facets(payloads, field, kind, limit))
        })
    }

    async fn marks(&self, collection: &str, after: Option<Uuid>, limit: u32) -> Result<Vec<Mark>> {
        check_limit(limit)?;
        self.with(collection, |kept| {
            let later = kept
                .points
                .iter()
                .filter(|(id, _)| after.is_none_or(|after| **id > after));
            let marks = later.map(|(id, owned)| Mark {
                tenant: owned.tenant.clone(),
                id: *id,
                version: owned.point.version,
            });
            Ok(marks.take(limit as usize).collect())
        })
    }
}
