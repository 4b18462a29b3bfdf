//! Search: by meaning, by words, or by both.
//!
//! Both lists are fused by their ranks as R2R does: `(wₛ/(k+rₛ) + w_f/(k+r_f)) / (wₛ+w_f)`, where a
//! chunk that one list lacks has the rank at which that list ends.

use std::collections::HashMap;

use agentflow_storage::vector::{self, Probe};
use agentflow_types::{Error, ErrorKind, Map, Result, Scope};
use uuid::Uuid;

use super::{
    Caller, Chunk, Document, Service,
    filter::{self, Of},
    index::{DENSE, WORDS, payload},
};

/// Most hits of a search, those that are skipped included.
pub const MAX_RESULTS: u32 = 1_000;

/// How two lists become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fusion {
    /// What the list by words counts.
    pub full_text_weight: f64,
    /// What the list by meaning counts.
    pub semantic_weight: f64,
    /// Hits of the list by words.
    pub full_text_limit: u32,
    /// How little the first ranks differ.
    pub rrf_k: f64,
}

impl Default for Fusion {
    fn default() -> Self {
        Self {
            full_text_weight: 1.0,
            semantic_weight: 5.0,
            full_text_limit: 200,
            rrf_k: 50.0,
        }
    }
}

/// A search.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// What is looked for.
    pub query: String,
    /// By meaning.
    pub semantic: bool,
    /// By words.
    pub full_text: bool,
    /// What must hold of hits.
    pub filters: Map,
    /// Most hits.
    pub limit: u32,
    /// Hits that are skipped.
    pub offset: u32,
    /// How both are fused.
    pub fusion: Fusion,
}

/// A chunk that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The chunk.
    pub chunk: Chunk,
    /// Its document.
    pub document: std::sync::Arc<Document>,
    /// More is better: a cosine, a sum over words, or the fusion of ranks.
    pub score: f64,
}

impl Search {
    fn check(&self) -> Result<()> {
        if self.query.trim().is_empty() {
            return Err(Error::invalid("Query cannot be empty"));
        }
        if !self.semantic && !self.full_text {
            return Err(Error::invalid(
                "a search is semantic, full-text or both: turn one of them on",
            ));
        }
        if self.limit == 0 || self.limit.saturating_add(self.offset) > MAX_RESULTS {
            return Err(Error::invalid("limit and offset are out of range")
                .with("limit", self.limit)
                .with("most", MAX_RESULTS));
        }
        let Fusion {
            full_text_weight,
            semantic_weight,
            full_text_limit,
            rrf_k,
        } = self.fusion;
        let weights = [full_text_weight, semantic_weight, rrf_k];
        if weights.iter().any(|one| !one.is_finite() || *one < 0.0)
            || full_text_weight + semantic_weight <= 0.0
        {
            return Err(Error::invalid(
                "weights are not negative, and not both zero",
            ));
        }
        if self.semantic && self.full_text && full_text_limit < self.limit {
            return Err(Error::invalid("full_text_limit is below limit")
                .with("full_text_limit", full_text_limit)
                .with("limit", self.limit));
        }
        Ok(())
    }
}

impl Service {
    /// The chunks that fit best, of those that the user sees.
    ///
    /// # Errors
    /// `Invalid` with what is wrong; `Unprocessable` for a search by meaning alone where there is
    /// no embedding model.
    pub async fn search(
        &self,
        scope: &Scope,
        caller: &Caller,
        search: &Search,
    ) -> Result<Vec<Hit>> {
        search.check()?;
        let filters = match search.filters.is_empty() {
            true => None,
            false => Some(filter::read(&search.filters, Of::Index)?),
        };
        let condition = caller.within(filters);
        let ranked = self.ranked(scope, search, condition.clone()).await?;
        // The index may be behind: what is shown is what the records say.
        let ids: Vec<Uuid> = ranked.iter().map(|(id, _)| *id).collect();
        let found = self.inner.index.chunks(scope, &ids).await?;
        let mut found: HashMap<Uuid, _> = found
            .into_iter()
            .filter(|(chunk, document)| {
                let seen = condition.as_ref();
                seen.is_none_or(|condition| condition.holds(&payload(chunk, document)))
            })
            .map(|(chunk, document)| (chunk.id(), (chunk, document)))
            .collect();
        let hits = ranked.into_iter().filter_map(|(id, score)| {
            let (chunk, document) = found.remove(&id)?;
            Some(Hit {
                chunk,
                document,
                score,
            })
        });
        let hits = hits.skip(search.offset as usize);
        Ok(hits.take(search.limit as usize).collect())
    }

    /// The vector of a text.
    ///
    /// # Errors
    /// `Unprocessable` where there is no embedding model; those of the model.
    pub async fn embedding(&self, text: String) -> Result<Vec<f32>> {
        let vectors = self.inner.index.embed(&[text]).await?;
        let vector = vectors.and_then(|vectors| vectors.into_iter().next());
        vector.ok_or_else(|| {
            Error::unprocessable("there is no embedding model: set documents.embedding")
        })
    }

    /// Ids with scores, best first.
    async fn ranked(
        &self,
        scope: &Scope,
        search: &Search,
        condition: Option<agentflow_storage::condition::Condition>,
    ) -> Result<Vec<(Uuid, f64)>> {
        let index = &self.inner.index;
        let most = search.limit + search.offset;
        let probe = |probe, limit| vector::Search {
            probe,
            condition: condition.clone(),
            limit,
            threshold: None,
            payload: false,
        };
        let mut probes = Vec::new();
        let meaning = self.meaning(search).await?;
        let has_meaning = meaning.is_some();
        probes.extend(meaning.map(|vector| probe(Probe::Dense(DENSE.into(), vector), most)));
        if search.full_text || !has_meaning {
            let words = index.question(&search.query);
            let limit = match has_meaning {
                true => search.fusion.full_text_limit.max(most),
                false => most,
            };
            probes.push(probe(Probe::Sparse(WORDS.into(), words), limit));
        }
        let collection = index.collection().await?;
        let mut lists = match index.vectors.search(scope, collection, &probes).await {
            Err(err) if err.kind() == ErrorKind::NotFound => {
                index.remake().await?;
                vec![]
            }
            found => found?,
        };
        Ok(match (lists.pop(), lists.pop()) {
            (Some(words), Some(meaning)) => fuse(&meaning, &words, most, &search.fusion),
            (Some(only), None) => only
                .into_iter()
                .map(|hit| (hit.id, f64::from(hit.score)))
                .collect(),
            _ => vec![],
        })
    }

    /// The vector of the question, if meaning is asked for.
    async fn meaning(&self, search: &Search) -> Result<Option<Vec<f32>>> {
        if !search.semantic {
            return Ok(None);
        }
        let texts = std::slice::from_ref(&search.query);
        let vectors = self.inner.index.embed(texts).await?;
        if vectors.is_none() && !search.full_text {
            // Words find, too: better than nothing, which a new server would answer otherwise.
            tracing::debug!("there is no embedding model: words alone find");
        }
        let vector = vectors.into_iter().flatten().next();
        Ok(vector.filter(|vector| vector.iter().any(|number| *number != 0.0)))
    }
}

fn fuse(
    meaning: &[vector::Hit],
    words: &[vector::Hit],
    most: u32,
    fusion: &Fusion,
) -> Vec<(Uuid, f64)> {
    let absent = (f64::from(most), f64::from(fusion.full_text_limit));
    let mut ranks: HashMap<Uuid, (f64, f64)> = HashMap::new();
    for (rank, hit) in (1_u32..).zip(meaning) {
        ranks.insert(hit.id, (f64::from(rank), absent.1));
    }
    for (rank, hit) in (1_u32..).zip(words) {
        ranks.entry(hit.id).or_insert((absent.0, absent.1)).1 = f64::from(rank);
    }
    let sum = fusion.semantic_weight + fusion.full_text_weight;
    let score = |(meaning, words): (f64, f64)| {
        let part = |weight: f64, rank: f64| weight / (fusion.rrf_k + rank);
        (part(fusion.semantic_weight, meaning) + part(fusion.full_text_weight, words)) / sum
    };
    let mut all: Vec<(Uuid, f64)> = ranks
        .into_iter()
        .map(|(id, ranks)| (id, score(ranks)))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(n: u128) -> vector::Hit {
        vector::Hit {
            id: Uuid::from_u128(n),
            version: 1,
            score: 1.0,
            payload: Map::new(),
        }
    }

    #[test]
    fn ranks_are_fused_as_the_peer_does() {
        let fusion = Fusion::default();
        let fused = fuse(&[hit(1), hit(2)], &[hit(1), hit(3)], 10, &fusion);
        let ids: Vec<u128> = fused.iter().map(|(id, _)| id.as_u128()).collect();
        assert_eq!(ids, [1, 3, 2]);
        // First in both: 1/51, as it was measured there.
        assert!((fused[0].1 - 1.0 / 51.0).abs() < 1e-9);
        // What one list lacks has the rank at which that list ends.
        let [second, third] = [(60.0, 52.0), (52.0, 250.0)].map(|(s, f)| (5.0 / s + 1.0 / f) / 6.0);
        assert!((fused[1].1 - second).abs() < 1e-9);
        assert!((fused[2].1 - third).abs() < 1e-9);
    }
}
