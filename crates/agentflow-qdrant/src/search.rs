//! Searches as queries, and what they find as hits.

use agentflow_storage::vector::{Hit, MAX_HITS, Probe, Search};
use agentflow_types::{Error, Map, Result};
use qdrant_client::qdrant::{
    DenseVector, Query, QueryBatchPoints, QueryPoints, ScoredPoint, SparseVector, VectorInput,
    query, vector_input,
};

use crate::{
    index::Qdrant,
    link::{Call, Stubs},
    payload,
    scan::{Judge, Part, too_much},
};

/// More hits than asked for that are fetched where the filter finds too much.
const SPARE: u64 = 16;

impl Qdrant {
    /// Hits of queries, in their order.
    pub(crate) async fn query(
        &self,
        collection: &str,
        queries: Vec<QueryPoints>,
    ) -> Result<Vec<Vec<ScoredPoint>>> {
        if queries.is_empty() {
            return Ok(vec![]);
        }
        let wanted = queries.len();
        let request = QueryBatchPoints {
            collection_name: self.named(collection),
            query_points: queries,
            ..QueryBatchPoints::default()
        };
        let sent =
            |mut stubs: Stubs, request| async move { stubs.points.query_batch(request).await };
        let answer = self.link.attempt(Call::Read, request, sent).await;
        let answer = answer.map_err(|status| self.lost(status, collection, Call::Read))?;
        match answer.result.len() == wanted {
            true => Ok(answer.result.into_iter().map(|one| one.result).collect()),
            false => Err(Error::bug("Qdrant answered another number of searches")),
        }
    }

    /// Judges what a query found, and asks for more while too little of it meets the condition.
    pub(crate) async fn hits(
        &self,
        collection: &str,
        judge: &Judge<'_>,
        search: &Search,
        mut query: QueryPoints,
        mut found: Vec<ScoredPoint>,
    ) -> Result<Vec<Hit>> {
        loop {
            let asked = query.limit.unwrap_or_default();
            let is_all = (found.len() as u64) < asked;
            let looked_at = found.len();
            let part = part(judge, search);
            let hits = found.into_iter().map(|one| hit(judge.tenant, one, part));
            let mut hits: Vec<Hit> = hits.collect::<Result<_>>()?;
            if search.probe == Probe::Any {
                hits.iter_mut().for_each(|hit| hit.score = 0.0);
            }
            hits.retain(|hit| {
                let is_enough = search.threshold.is_none_or(|least| hit.score >= least);
                is_enough && judge.holds(&hit.payload)
            });
            if hits.len() >= search.limit as usize || is_all || judge.is_exact() {
                hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
                hits.truncate(search.limit as usize);
                if !search.payload {
                    hits.iter_mut().for_each(|hit| hit.payload = Map::new());
                }
                return Ok(hits);
            }
            if asked >= u64::from(MAX_HITS) {
                return Err(too_much(looked_at));
            }
            query.limit = Some((asked * 4).min(u64::from(MAX_HITS)));
            let mut again = self.query(collection, vec![query.clone()]).await?;
            found = again.pop().unwrap_or_default();
        }
    }
}

/// What of the points is asked for.
fn part(judge: &Judge<'_>, search: &Search) -> Part {
    match search.payload || !judge.is_exact() {
        true => Part::Payload,
        false => Part::Mark,
    }
}

fn hit(tenant: &str, found: ScoredPoint, part: Part) -> Result<Hit> {
    let (version, payload) = match part {
        Part::Mark => (payload::version(tenant, &found.payload)?, Map::new()),
        Part::Whole | Part::Payload => payload::shown(tenant, found.payload)?,
    };
    Ok(Hit {
        id: payload::uuid(found.id)?,
        version,
        score: found.score,
        payload,
    })
}

/// The query of a search; `None` if it finds nothing.
pub(crate) fn query(name: &str, judge: &Judge<'_>, search: &Search) -> Option<QueryPoints> {
    let nearest = match &search.probe {
        Probe::Any => None,
        Probe::Dense(using, vector) => {
            let data = vector.clone();
            Some((using, vector_input::Variant::Dense(DenseVector { data })))
        }
        Probe::Sparse(_, words) if words.indices.is_empty() => return None,
        Probe::Sparse(using, words) => {
            let words = SparseVector {
                indices: words.indices.clone(),
                values: words.values.clone(),
            };
            Some((using, vector_input::Variant::Sparse(words)))
        }
    };
    let limit = u64::from(search.limit);
    let limit = match judge.is_exact() {
        true => limit,
        false => (limit * 2 + SPARE).min(u64::from(MAX_HITS)),
    };
    let part = part(judge, search);
    Some(QueryPoints {
        collection_name: name.to_owned(),
        // Without a query the points come by id.
        using: nearest.as_ref().map(|(using, _)| (*using).clone()),
        query: nearest.map(|(_, input)| Query {
            variant: Some(query::Variant::Nearest(VectorInput {
                variant: Some(input),
            })),
        }),
        filter: Some(judge.filter()?),
        score_threshold: search.threshold.filter(|_| search.probe != Probe::Any),
        limit: Some(limit),
        with_payload: Some(part.payload()),
        with_vectors: Some(part.vectors()),
        ..QueryPoints::default()
    })
}
