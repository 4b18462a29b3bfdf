//! One collection: its points, searched one by one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use qdrant_client::qdrant::{
    BatchResult, CollectionInfo, CreateCollection, FacetCounts, FacetHit, FacetValue, FieldType,
    PayloadSchemaInfo, PayloadSchemaType, PointStruct, QueryPoints, RetrievedPoint, ScoredPoint,
    ScrollPoints, WithPayloadSelector, WithVectorsSelector, facet_value, query, vector_input,
    vectors_config, with_vectors_selector,
};
use serde_json::{Map, Value};
use tonic::Status;
use uuid::Uuid;

use super::{
    filter::Read,
    path::Path,
    wire::{self, Named},
};

/// Most points of an answer without a limit.
const USUAL_LIMIT: u64 = 10;

pub(super) struct Kept {
    made: CreateCollection,
    dense: BTreeMap<String, usize>,
    sparse: BTreeSet<String>,
    schema: BTreeMap<String, (FieldType, PayloadSchemaInfo)>,
    points: BTreeMap<Uuid, Stored>,
    /// Sparse vectors of removed points: they count for rarity until a real server tidies up.
    removed: Vec<Named>,
}

struct Stored {
    payload: Map<String, Value>,
    vectors: Named,
}

impl Kept {
    pub(super) fn new(made: CreateCollection) -> Result<Self, Status> {
        let invalid = |what: &str| Status::invalid_argument(format!("Validation error: {what}"));
        let config = made.vectors_config.as_ref().and_then(|c| c.config.as_ref());
        let mut dense = BTreeMap::new();
        match config {
            None => {}
            Some(vectors_config::Config::Params(_)) => {
                return Err(Status::unimplemented("a vector without a name"));
            }
            Some(vectors_config::Config::ParamsMap(params)) => {
                for (name, params) in &params.map {
                    if !(1..=65_536).contains(&params.size) {
                        return Err(invalid("size must be from 1 to 65536"));
                    }
                    // Cosine, the only distance that is served.
                    if params.distance != 1 {
                        return Err(Status::unimplemented("this distance"));
                    }
                    let size = usize::try_from(params.size).map_err(|_| invalid("size"))?;
                    dense.insert(name.clone(), size);
                }
            }
        }
        let sparse = made.sparse_vectors_config.iter().flat_map(|c| &c.map);
        let mut names = BTreeSet::new();
        for (name, params) in sparse {
            if params.modifier != Some(1) {
                return Err(Status::unimplemented("sparse vectors without rarity"));
            }
            if dense.contains_key(name) {
                return Err(invalid("a vector is dense or sparse"));
            }
            names.insert(name.clone());
        }
        Ok(Self {
            made,
            dense,
            sparse: names,
            schema: BTreeMap::new(),
            points: BTreeMap::new(),
            removed: Vec::new(),
        })
    }

    pub(super) fn info(&self) -> CollectionInfo {
        use qdrant_client::qdrant::{CollectionConfig, CollectionParams};
        let params = CollectionParams {
            shard_number: self.made.shard_number.unwrap_or(1),
            vectors_config: self.made.vectors_config.clone(),
            sparse_vectors_config: self.made.sparse_vectors_config.clone(),
            replication_factor: Some(self.made.replication_factor.unwrap_or(1)),
            ..CollectionParams::default()
        };
        let schema = self.schema.iter();
        CollectionInfo {
            status: 1,
            segments_count: 1,
            config: Some(CollectionConfig {
                params: Some(params),
                hnsw_config: self.made.hnsw_config,
                ..CollectionConfig::default()
            }),
            payload_schema: schema
                .map(|(path, (_, info))| (path.clone(), info.clone()))
                .collect(),
            points_count: Some(self.points.len() as u64),
            ..CollectionInfo::default()
        }
    }

    pub(super) fn index(&mut self, field: &str, kind: i32) -> Result<(), Status> {
        let path = Path::read(field)?;
        let kind = FieldType::try_from(kind)
            .map_err(|_| Status::invalid_argument("cannot convert field type"))?;
        let data_type = match kind {
            FieldType::Keyword => PayloadSchemaType::Keyword,
            FieldType::Integer => PayloadSchemaType::Integer,
            FieldType::Float => PayloadSchemaType::Float,
            FieldType::Bool => PayloadSchemaType::Bool,
            FieldType::Datetime => PayloadSchemaType::Datetime,
            // Text would change what a match means.
            _ => return Err(Status::unimplemented("this kind of index")),
        };
        let info = PayloadSchemaInfo {
            data_type: data_type.into(),
            ..PayloadSchemaInfo::default()
        };
        self.schema.insert(path.shown(), (kind, info));
        Ok(())
    }

    /// Points as they will be stored, or why one cannot be.
    fn read(&self, sent: &PointStruct) -> Result<(Uuid, Stored), Status> {
        let mut vectors = wire::named(sent.vectors.as_ref())?;
        for (name, vector) in &mut vectors.dense {
            self.check_dense(name, vector)?;
            normalize(vector);
        }
        for name in vectors.sparse.keys() {
            self.check_sparse(name)?;
        }
        let payload = wire::payload(&sent.payload)?;
        Ok((wire::uuid(sent.id.as_ref())?, Stored { payload, vectors }))
    }

    fn check_dense(&self, name: &str, vector: &[f32]) -> Result<(), Status> {
        let Some(size) = self.dense.get(name) else {
            return Err(no_vector(name));
        };
        if vector.len() != *size {
            return Err(Status::invalid_argument(format!(
                "Wrong input: Vector dimension error: expected dim: {size}, got {}",
                vector.len()
            )));
        }
        Ok(())
    }

    fn check_sparse(&self, name: &str) -> Result<(), Status> {
        match self.sparse.contains(name) {
            true => Ok(()),
            false => Err(no_vector(name)),
        }
    }

    /// Checks points before any is stored.
    pub(super) fn check(&self, points: &[PointStruct]) -> Result<(), Status> {
        points
            .iter()
            .try_for_each(|point| self.read(point).map(|_| ()))
    }

    /// Stores points; those that exist only if they meet the filter.
    pub(super) fn upsert(&mut self, points: &[PointStruct], only: &Read) -> Result<(), Status> {
        for sent in points {
            let (id, stored) = self.read(sent)?;
            let found = self.points.get(&id);
            if found.is_none_or(|found| only.holds(id, &found.payload)) {
                self.points.insert(id, stored);
            }
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, which: &Read) {
        let gone = self
            .points
            .extract_if(.., |id, point| which.holds(*id, &point.payload));
        let gone: Vec<Named> = gone.map(|(_, point)| point.vectors).collect();
        self.removed.extend(gone);
    }

    fn matching<'a>(&'a self, which: &'a Read) -> impl Iterator<Item = (&'a Uuid, &'a Stored)> {
        let all = self.points.iter();
        all.filter(|(id, point)| which.holds(**id, &point.payload))
    }

    pub(super) fn count(&self, which: &Read) -> u64 {
        self.matching(which).count() as u64
    }

    pub(super) fn get(
        &self,
        ids: &[Uuid],
        payload: Option<&WithPayloadSelector>,
        vectors: Option<&WithVectorsSelector>,
    ) -> Result<Vec<RetrievedPoint>, Status> {
        let found = ids.iter().filter_map(|id| self.points.get_key_value(id));
        found
            .map(|(id, point)| point.shown(*id, payload, vectors))
            .collect()
    }

    /// A page by id, and where the next one begins.
    pub(super) fn scroll(
        &self,
        asked: &ScrollPoints,
    ) -> Result<(Vec<RetrievedPoint>, Option<Uuid>), Status> {
        let limit = asked.limit.map_or(USUAL_LIMIT, u64::from);
        if limit == 0 {
            return Err(limit_error());
        }
        if asked.order_by.is_some() {
            return Err(Status::unimplemented("another order than by id"));
        }
        let which = Read::of(asked.filter.as_ref())?;
        let from = asked.offset.as_ref().map(|id| wire::uuid(Some(id)));
        let from = from.transpose()?;
        let mut later = self
            .matching(&which)
            .filter(|(id, _)| from.is_none_or(|from| **id >= from));
        let page = later.by_ref().take(limit as usize);
        let page = page
            .map(|(id, point)| {
                point.shown(
                    *id,
                    asked.with_payload.as_ref(),
                    asked.with_vectors.as_ref(),
                )
            })
            .collect::<Result<_, _>>()?;
        Ok((page, later.next().map(|(id, _)| *id)))
    }

    pub(super) fn facet(&self, asked: &FacetCounts) -> Result<Vec<FacetHit>, Status> {
        let path = Path::read(&asked.key)?;
        let kind = self.schema.get(&path.shown()).map(|(kind, _)| *kind);
        let counted = |value: &Value| match (kind, value) {
            (Some(FieldType::Keyword), Value::String(text)) => {
                Some(facet_value::Variant::StringValue(text.clone()))
            }
            (Some(FieldType::Integer), value) => {
                value.as_i64().map(facet_value::Variant::IntegerValue)
            }
            (Some(FieldType::Bool), Value::Bool(b)) => Some(facet_value::Variant::BoolValue(*b)),
            _ => None,
        };
        if !matches!(
            kind,
            Some(FieldType::Keyword | FieldType::Integer | FieldType::Bool)
        ) {
            return Err(Status::invalid_argument(format!(
                "Bad request: No appropriate index for faceting: `{}`",
                asked.key
            )));
        }
        let which = Read::of(asked.filter.as_ref())?;
        let mut counts: Vec<(facet_value::Variant, u64)> = Vec::new();
        for (_, point) in self.matching(&which) {
            let mut seen = Vec::new();
            for value in path.values(&point.payload) {
                let values = value.as_array().map_or(std::slice::from_ref(value), |v| v);
                seen.extend(values.iter().filter_map(counted));
            }
            let mut once: Vec<facet_value::Variant> = Vec::new();
            for value in seen {
                if !once.contains(&value) {
                    once.push(value);
                }
            }
            for value in once {
                match counts.iter_mut().find(|(known, _)| *known == value) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((value, 1)),
                }
            }
        }
        let text = |value: &facet_value::Variant| match value {
            facet_value::Variant::StringValue(text) => text.clone(),
            // Whole numbers in their order.
            facet_value::Variant::IntegerValue(n) => format!("{:020}", i128::from(*n) + (1 << 64)),
            facet_value::Variant::BoolValue(b) => b.to_string(),
        };
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| text(&a.0).cmp(&text(&b.0))));
        counts.truncate(asked.limit.unwrap_or(USUAL_LIMIT) as usize);
        let hits = counts.into_iter().map(|(value, count)| FacetHit {
            value: Some(FacetValue {
                variant: Some(value),
            }),
            count,
        });
        Ok(hits.collect())
    }

    pub(super) fn query(&self, asked: &QueryPoints) -> Result<BatchResult, Status> {
        let limit = asked.limit.unwrap_or(USUAL_LIMIT);
        if limit == 0 {
            return Err(limit_error());
        }
        if !asked.prefetch.is_empty() || asked.lookup_from.is_some() || asked.offset.is_some() {
            return Err(Status::unimplemented("this kind of query"));
        }
        let which = Read::of(asked.filter.as_ref())?;
        let name = asked.using.clone().unwrap_or_default();
        let query = asked.query.as_ref();
        let input = match query.map(|query| query.variant.as_ref()) {
            Some(Some(query::Variant::Nearest(input))) => input.variant.as_ref(),
            Some(_) => return Err(Status::unimplemented("this kind of query")),
            None => {
                // Points by id.
                let all = self.matching(&which).take(limit as usize);
                return shown(all.map(|(id, point)| (0.0, *id, point)), asked);
            }
        };
        let mut hits: Vec<(f32, Uuid, &Stored)> = match input {
            Some(vector_input::Variant::Dense(wanted)) => {
                self.check_dense(&name, &wanted.data)?;
                let mut wanted = wanted.data.clone();
                normalize(&mut wanted);
                let score = |point: &Stored| {
                    let vector = point.vectors.dense.get(&name)?;
                    Some(vector.iter().zip(&wanted).map(|(a, b)| a * b).sum::<f32>())
                };
                scored(self.matching(&which), score)
            }
            Some(vector_input::Variant::Sparse(wanted)) => {
                self.check_sparse(&name)?;
                let weighted = self.weighted(&name, &wire::sparse(wanted)?);
                let score = |point: &Stored| {
                    let vector = point.vectors.sparse.get(&name)?;
                    let worth = vector
                        .iter()
                        .filter_map(|(word, n)| Some(weighted.get(word)? * n));
                    worth.reduce(|sum, more| sum + more)
                };
                scored(self.matching(&which), score)
            }
            _ => return Err(Status::unimplemented("this kind of query")),
        };
        hits.retain(|(score, ..)| asked.score_threshold.is_none_or(|least| *score >= least));
        // Equal scores come in no order that a client could rely on.
        hits.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        hits.truncate(limit as usize);
        shown(hits.into_iter(), asked)
    }

    /// The words of a search, each with its weight times its rarity among all points.
    fn weighted(&self, name: &str, wanted: &BTreeMap<u32, f32>) -> HashMap<u32, f32> {
        let stored = self.points.values().map(|point| &point.vectors);
        let all: Vec<_> = stored
            .chain(&self.removed)
            .filter_map(|vectors| vectors.sparse.get(name))
            .filter(|words| !words.is_empty())
            .collect();
        let rarity = |word: &u32| {
            let having = all.iter().filter(|words| words.contains_key(word)).count() as f32;
            ((all.len() as f32 - having + 0.5) / (having + 0.5) + 1.0).ln()
        };
        wanted
            .iter()
            .map(|(word, weight)| (*word, weight * rarity(word)))
            .collect()
    }
}

impl Stored {
    fn shown(
        &self,
        id: Uuid,
        payload: Option<&WithPayloadSelector>,
        vectors: Option<&WithVectorsSelector>,
    ) -> Result<RetrievedPoint, Status> {
        use with_vectors_selector::SelectorOptions::{Enable, Include};
        let vectors = match vectors.and_then(|v| v.selector_options.as_ref()) {
            None | Some(Enable(false)) => None,
            Some(Enable(true)) => Some(wire::sent(&self.vectors)),
            Some(Include(_)) => return Err(Status::unimplemented("a choice of vectors")),
        };
        Ok(RetrievedPoint {
            id: Some(wire::id(id)),
            payload: wire::shown(&self.payload, payload)?,
            vectors,
            ..RetrievedPoint::default()
        })
    }
}

/// Points with their scores, as a query wants to see them.
fn shown<'a>(
    hits: impl Iterator<Item = (f32, Uuid, &'a Stored)>,
    asked: &QueryPoints,
) -> Result<BatchResult, Status> {
    let shown = hits.map(|(score, id, point)| {
        Ok(ScoredPoint {
            id: Some(wire::id(id)),
            payload: wire::shown(&point.payload, asked.with_payload.as_ref())?,
            score,
            ..ScoredPoint::default()
        })
    });
    Ok(BatchResult {
        result: shown.collect::<Result<_, Status>>()?,
    })
}

fn scored<'a>(
    points: impl Iterator<Item = (&'a Uuid, &'a Stored)>,
    score: impl Fn(&Stored) -> Option<f32>,
) -> Vec<(f32, Uuid, &'a Stored)> {
    points
        .filter_map(|(id, point)| Some((score(point)?, *id, point)))
        .collect()
}

/// Makes the length 1, as the server does for cosine; it gives the vector back like this.
fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|n| n * n).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|n| *n /= length);
    }
}

fn no_vector(name: &str) -> Status {
    Status::invalid_argument(format!(
        "Wrong input: Not existing vector name error: {name}"
    ))
}

fn limit_error() -> Status {
    Status::invalid_argument(
        "Validation error in body: limit: value 0 invalid, must be 1 or larger",
    )
}
