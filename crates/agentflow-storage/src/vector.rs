//! An index of vectors: derived from records, and made anew from them if it is lost.
//!
//! A point is found by a dense vector (cosine), by a sparse one (words and their weights), or by
//! a condition on its payload. It carries the version of the record that it shows, and an older
//! one never replaces a newer one, so that a change may be applied twice, or late. A removal has
//! no version: who repeats removals looks at the record first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use agentflow_types::{Error, Map, Result, Scope, Timestamp, Value};
use async_trait::async_trait;
use uuid::Uuid;

use crate::condition::{Condition, Field};

/// Most points of one call.
pub const MAX_POINTS: usize = 10_000;
/// Most hits of a search, and most points of a page.
pub const MAX_HITS: u32 = 10_000;
/// Most searches of one call.
pub const MAX_SEARCHES: usize = 64;
/// Most numbers of a dense vector.
pub const MAX_DIMENSION: u32 = 65_536;
/// Most words of a sparse vector.
pub const MAX_WORDS: usize = 100_000;
/// Most bytes of a collection's name, of a vector's and of an indexed field's.
pub const MAX_NAME_BYTES: usize = 200;
/// Highest version of a point: up to here a float, in which an index may compare, is exact.
pub const MAX_VERSION: u64 = 1 << 53;

/// Points of one shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collection {
    /// Name: letters, digits, `_`, `-`, `.`.
    pub name: String,
    /// Dense vectors and their dimensions; compared by cosine.
    pub dense: BTreeMap<String, u32>,
    /// Sparse vectors; a word counts the more, the fewer points have it.
    pub sparse: BTreeSet<String>,
    /// Fields of the payload by which points are often chosen, and what they hold.
    pub indexed: BTreeMap<Field, Kind>,
}

/// What an indexed field holds, in itself or in a list.
///
/// Other texts, numbers and booleans may be there too, and conditions see them, but they may be
/// slower to find, and [`Vectors::facet`] does not count them. Only [`Kind::Moment`] is a promise,
/// which [`Collection::check_point`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Text that is compared as a whole.
    Text,
    /// Numbers.
    Number,
    /// Booleans.
    Bool,
    /// Text that [`moment`] reads, and nothing else.
    Moment,
}

impl Kind {
    /// Whether this is such a value.
    #[must_use]
    pub fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text, Value::Str(_)) | (Self::Bool, Value::Bool(_)) => true,
            (Self::Number, Value::Int(_) | Value::UInt(_) | Value::Float(_)) => true,
            (Self::Moment, Value::Str(text)) => moment(text).is_some(),
            _ => false,
        }
    }
}

/// The moment of a text in the form of [`Timestamp`], or the begin of a day like `2026-05-08`.
///
/// Among texts of one form the order of texts is that of the moments.
#[must_use]
pub fn moment(text: &str) -> Option<Timestamp> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00.000000+00:00"),
        _ => text.to_owned(),
    };
    // Other forms, and years with a sign, would not compare as text.
    let moment: Timestamp = whole.parse().ok()?;
    (whole.len() == 32 && moment.to_string() == whole).then_some(moment)
}

/// Words by number, with their weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse {
    /// Numbers, in growing order, each once.
    pub indices: Vec<u32>,
    /// The weight of each; finite.
    pub values: Vec<f32>,
}

impl Sparse {
    /// A vector of pairs in any order; weights of one word are added up.
    #[must_use]
    pub fn of(words: impl IntoIterator<Item = (u32, f32)>) -> Self {
        let mut sums: BTreeMap<u32, f32> = BTreeMap::new();
        for (word, weight) in words {
            *sums.entry(word).or_default() += weight;
        }
        let (indices, values) = sums.into_iter().unzip();
        Self { indices, values }
    }

    /// The pairs.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f32)> {
        self.indices
            .iter()
            .copied()
            .zip(self.values.iter().copied())
    }
}

/// Something that is found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point {
    /// The record's id; unique over all tenants.
    pub id: Uuid,
    /// The record's version; up to [`MAX_VERSION`].
    pub version: u64,
    /// Dense vectors by name; one that is missing is not found by it.
    pub dense: BTreeMap<String, Vec<f32>>,
    /// Sparse vectors by name.
    pub sparse: BTreeMap<String, Sparse>,
    /// What conditions are about, and what hits show.
    pub payload: Map,
}

/// What is searched for.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// The nearest by the dense vector of this name; the score is the cosine.
    Dense(String, Vec<f32>),
    /// The most words in common by the sparse vector of this name; the score is the sum over the
    /// common words of weight times weight times `ln(1 + (n - k + 0.5) / (k + 0.5))`, with `n`
    /// points that have such a vector, of which `k` have the word. Both are counted over the
    /// collection, all tenants together, and points that were removed or replaced may count for a
    /// while: scores of one search compare, those of two need not.
    Sparse(String, Sparse),
    /// Whatever meets the condition, by id; the score is 0.
    Any,
}

/// One search.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// What is searched for.
    pub probe: Probe,
    /// What must hold of the hits.
    pub condition: Option<Condition>,
    /// Most hits.
    pub limit: u32,
    /// Least score, if any.
    pub threshold: Option<f32>,
    /// Whether hits show their payload. Who reads the records anyway saves the work.
    pub payload: bool,
}

/// A point that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The record's id.
    pub id: Uuid,
    /// The record's version.
    pub version: u64,
    /// How well it fits; more is better.
    pub score: f32,
    /// The payload; empty if it was not asked for.
    pub payload: Map,
}

/// A point as the index has it, for comparing it with the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose it is.
    pub tenant: String,
    /// The record's id.
    pub id: Uuid,
    /// The record's version.
    pub version: u64,
}

/// Keeps and finds points. Each sees the points of its tenant only; a call about one's own sees
/// what calls before it did.
#[async_trait]
pub trait Vectors: Send + Sync {
    /// Makes a collection; one that exists with the same vectors is fine, and gets the indexed
    /// fields that it lacks.
    ///
    /// # Errors
    /// `Conflict` if it exists with other vectors, or with an indexed field of another kind;
    /// `Invalid` if it is not well formed.
    async fn ensure(&self, collection: &Collection) -> Result<()>;

    /// The collections, by name.
    async fn collections(&self) -> Result<Vec<Collection>>;

    /// Removes a collection and its points, of all tenants; false if there is none.
    async fn drop_collection(&self, name: &str) -> Result<bool>;

    /// Stores points: all, or none. One whose version is older than the stored one's is passed
    /// over.
    ///
    /// # Errors
    /// `NotFound` without the collection; `Invalid` if a vector has no place in it or another
    /// dimension, or a field of moments holds something else; `Conflict` if an id belongs
    /// to another tenant.
    async fn upsert(&self, scope: &Scope, collection: &str, points: Vec<Point>) -> Result<()>;

    /// Removes points; those that do not exist are fine.
    async fn delete(&self, scope: &Scope, collection: &str, ids: &[Uuid]) -> Result<()>;

    /// Removes the points that meet a condition.
    async fn delete_where(
        &self,
        scope: &Scope,
        collection: &str,
        condition: &Condition,
    ) -> Result<()>;

    /// The points that exist, in the order of the ids.
    async fn get(&self, scope: &Scope, collection: &str, ids: &[Uuid]) -> Result<Vec<Point>>;

    /// Hits of each search, best first; equal scores: smaller id first.
    async fn search(
        &self,
        scope: &Scope,
        collection: &str,
        searches: &[Search],
    ) -> Result<Vec<Vec<Hit>>>;

    /// Points that meet a condition, by id, after the one of this id.
    async fn scroll(
        &self,
        scope: &Scope,
        collection: &str,
        condition: Option<&Condition>,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Point>>;

    /// How many points meet a condition.
    async fn count(
        &self,
        scope: &Scope,
        collection: &str,
        condition: Option<&Condition>,
    ) -> Result<u64>;

    /// The values of a field, and how many of the points that meet the condition have each: most
    /// first, then by value. A point with a list counts for each of its values. Of an indexed
    /// field only values of its kind count, and never floats.
    async fn facet(
        &self,
        scope: &Scope,
        collection: &str,
        field: &Field,
        condition: Option<&Condition>,
        limit: u32,
    ) -> Result<Vec<(Value, u64)>>;

    /// All points, of all tenants, by id, after the one of this id.
    async fn marks(&self, collection: &str, after: Option<Uuid>, limit: u32) -> Result<Vec<Mark>>;
}

impl Collection {
    /// Checks names and dimensions.
    ///
    /// # Errors
    /// `Invalid` with what is wrong.
    pub fn check(&self) -> Result<()> {
        let vectors = self.dense.keys().chain(&self.sparse);
        for name in vectors.chain([&self.name]) {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(allowed) {
                return Err(Error::invalid(
                    "a name is up to 200 letters, digits, `_`, `-` and `.`",
                )
                .with("name", name));
            }
        }
        for (name, dimension) in &self.dense {
            if !(1..=MAX_DIMENSION).contains(dimension) {
                return Err(Error::invalid("a dimension is between 1 and 65536")
                    .with("vector", name)
                    .with("dimension", dimension));
            }
        }
        Ok(())
    }

    /// Whether points of both have the same vectors.
    #[must_use]
    pub fn has_vectors_of(&self, other: &Self) -> bool {
        self.dense == other.dense && self.sparse == other.sparse
    }

    /// Checks that the indexed fields of both are of the same kinds where both have them.
    ///
    /// # Errors
    /// `Conflict` with the field that differs.
    pub fn check_kinds(&self, other: &Self) -> Result<()> {
        for (field, kind) in &self.indexed {
            if other.indexed.get(field).is_some_and(|other| other != kind) {
                return Err(Error::conflict("the field is indexed as another kind")
                    .with("collection", &self.name)
                    .with("field", field));
            }
        }
        Ok(())
    }

    /// Checks that a point has a place here.
    ///
    /// # Errors
    /// `Invalid` with what is wrong.
    pub fn check_point(&self, point: &Point) -> Result<()> {
        if point.version > MAX_VERSION {
            return Err(Error::invalid("a version is up to 2^53").with("version", point.version));
        }
        for (field, kind) in &self.indexed {
            if *kind == Kind::Moment {
                check_moments(field, &point.payload)?;
            }
        }
        for (name, vector) in &point.dense {
            self.check_dense(name, vector)?;
        }
        point
            .sparse
            .iter()
            .try_for_each(|(name, vector)| self.check_sparse(name, vector))
    }

    /// Checks that a search can be made here.
    ///
    /// # Errors
    /// `Invalid` with what is wrong.
    pub fn check_search(&self, search: &Search) -> Result<()> {
        check_limit(search.limit)?;
        if let Some(condition) = &search.condition {
            condition.check()?;
        }
        match &search.probe {
            Probe::Dense(name, vector) => self.check_dense(name, vector),
            Probe::Sparse(name, vector) => self.check_sparse(name, vector),
            Probe::Any => Ok(()),
        }
    }

    fn check_dense(&self, name: &str, vector: &[f32]) -> Result<()> {
        let Some(dimension) = self.dense.get(name) else {
            return Err(self.no_vector(name));
        };
        if vector.len() != *dimension as usize {
            return Err(Error::invalid("the vector has another dimension")
                .with("collection", &self.name)
                .with("vector", name)
                .with("expected", dimension)
                .with("found", vector.len()));
        }
        // The direction of nothing is none.
        let length: f32 = vector.iter().map(|n| n * n).sum();
        if !(length.is_finite() && length > 0.0) {
            return Err(
                Error::invalid("a vector has finite numbers, not all zero").with("vector", name)
            );
        }
        Ok(())
    }

    fn check_sparse(&self, name: &str, vector: &Sparse) -> Result<()> {
        if !self.sparse.contains(name) {
            return Err(self.no_vector(name));
        }
        let is_sorted = vector.indices.windows(2).all(|pair| pair[0] < pair[1]);
        let is_whole = vector.indices.len() == vector.values.len()
            && vector.indices.len() <= MAX_WORDS
            && vector.values.iter().all(|n| n.is_finite());
        if !(is_sorted && is_whole) {
            return Err(Error::invalid(
                "a sparse vector has as many finite weights as words, each word once, in order",
            )
            .with("vector", name));
        }
        Ok(())
    }

    fn no_vector(&self, name: &str) -> Error {
        Error::invalid("the collection has no vector of this name")
            .with("collection", &self.name)
            .with("vector", name)
    }
}

/// Checks that a field of moments holds nothing else.
fn check_moments(field: &Field, payload: &Map) -> Result<()> {
    let fits = |value: &Value| value.is_null() || Kind::Moment.fits(value);
    let all_fit = match field.find(payload) {
        None => true,
        Some(Value::List(items)) => items.iter().all(fits),
        Some(value) => fits(value),
    };
    match all_fit {
        true => Ok(()),
        false => Err(
            Error::invalid("the field holds moments with microseconds in UTC, or days")
                .with("field", field),
        ),
    }
}

/// Checks the size of a page.
///
/// # Errors
/// `Invalid` if it is none, or over [`MAX_HITS`].
pub fn check_limit(limit: u32) -> Result<()> {
    match limit {
        1..=MAX_HITS => Ok(()),
        _ => Err(Error::invalid("a limit is between 1 and 10000").with("limit", limit)),
    }
}

/// Checks the number of points of one call.
///
/// # Errors
/// `Invalid` if it is over [`MAX_POINTS`].
pub fn check_points(points: usize) -> Result<()> {
    match points {
        0..=MAX_POINTS => Ok(()),
        _ => Err(Error::invalid("too many points at once")
            .with("points", points)
            .with("limit", MAX_POINTS)),
    }
}

/// Checks the number of searches of one call.
///
/// # Errors
/// `Invalid` if it is over [`MAX_SEARCHES`].
pub fn check_searches(searches: usize) -> Result<()> {
    match searches {
        0..=MAX_SEARCHES => Ok(()),
        _ => Err(Error::invalid("too many searches at once")
            .with("searches", searches)
            .with("limit", MAX_SEARCHES)),
    }
}

/// The answer to whoever stores a point under an id of another tenant.
#[must_use]
pub fn taken(id: Uuid) -> Error {
    Error::conflict("the id belongs to a point of another tenant").with("id", id)
}

/// The answer about a collection that does not exist.
#[must_use]
pub fn no_collection(name: &str) -> Error {
    Error::not_found("there is no such collection of vectors").with("collection", name)
}

/// The values of a field in payloads, counted as [`Vectors::facet`] says.
///
/// `kind`: what the field holds if it is indexed.
pub fn facets<'a>(
    payloads: impl IntoIterator<Item = &'a Map>,
    field: &Field,
    kind: Option<Kind>,
    limit: u32,
) -> Vec<(Value, u64)> {
    let counts_value = |value: &&Value| {
        matches!(value, Value::Str(_) | Value::Int(_) | Value::Bool(_))
            && kind.is_none_or(|kind| kind.fits(value))
    };
    let mut counts: BTreeMap<String, (Value, u64)> = BTreeMap::new();
    for payload in payloads {
        let values: &[Value] = match field.find(payload) {
            None => continue,
            Some(Value::List(items)) => items,
            Some(value) => std::slice::from_ref(value),
        };
        let exact = values.iter().filter(counts_value);
        let distinct: BTreeMap<String, &Value> = exact.map(|v| (v.json_text(), v)).collect();
        for (text, value) in distinct {
            counts.entry(text).or_insert_with(|| (value.clone(), 0)).1 += 1;
        }
    }
    let mut counts: Vec<(String, (Value, u64))> = counts.into_iter().collect();
    // Stable, so that equal counts stay in the order of their values.
    counts.sort_by_key(|(_, (_, count))| Reverse(*count));
    counts.truncate(limit as usize);
    counts.into_iter().map(|(_, counted)| counted).collect()
}

/// How much a word counts that `having` of `all` points have.
#[must_use]
pub fn rarity(all: u64, having: u64) -> f32 {
    let (all, having) = (all as f64, having as f64);
    (1.0 + (all - having + 0.5) / (having + 0.5)).ln() as f32
}
