//! From a pool of candidates to their places.

use std::{collections::HashMap, sync::Arc};

use agentflow_storage::memories::{Kind, Memory};
use agentflow_types::MemoryId;

use super::{Search, cards::Card};
use crate::retrieval::{self, Candidate, Query, Ranked, Reason, Weights, near_miss, rank};

/// Near misses that are explained.
const MISSES: usize = 5;

/// Candidates, and how many texts the question is about.
pub(super) struct Pool {
    pub(super) texts: usize,
    pub(super) candidates: Vec<Pooled>,
    /// The records, where they were read already.
    pub(super) memories: HashMap<MemoryId, Memory>,
}

/// A candidate before it is ranked.
pub(super) struct Pooled {
    pub(super) card: Arc<Card>,
    pub(super) dense: Option<f32>,
    /// Factor of decay.
    pub(super) decay: f32,
}

/// A candidate in its place.
pub(super) struct Placed {
    pub(super) memory_id: MemoryId,
    pub(super) version: u64,
    pub(super) ranked: Ranked,
    pub(super) missed: Option<Reason>,
}

impl Pooled {
    pub(super) fn alone(card: Arc<Card>) -> Self {
        Self {
            card,
            dense: None,
            decay: 1.0,
        }
    }
}

impl Pool {
    /// Puts new cards in the place of old ones; what has none any more is gone.
    pub(super) fn replace(&mut self, old: &[MemoryId], new: &[Arc<Card>]) {
        self.candidates.retain_mut(|pooled| {
            let id = pooled.card.memory_id;
            let card = new.iter().find(|card| card.memory_id == id);
            if let Some(card) = card {
                pooled.card = card.clone();
            }
            card.is_some() || !old.contains(&id)
        });
    }
}

/// The pool in order, with its near misses if they are to be explained. Those that are not to be
/// shown have done their part then.
pub(super) fn place(search: &Search, query: &Query, pool: &Pool) -> Vec<Placed> {
    let (texts, pool) = (pool.texts, &pool.candidates);
    let is_linked = pool.iter().any(|pooled| !pooled.card.sources.is_empty());
    let places: HashMap<MemoryId, usize> = pool
        .iter()
        .enumerate()
        .filter(|_| is_linked)
        .map(|(place, pooled)| (pooled.card.memory_id, place))
        .collect();
    let sources: Vec<Vec<usize>> = pool
        .iter()
        .map(|pooled| {
            let ids = pooled.card.sources.iter();
            ids.filter_map(|id| places.get(id).copied()).collect()
        })
        .collect();
    let candidates: Vec<Candidate<'_>> = pool
        .iter()
        .zip(&sources)
        .map(|(pooled, sources)| candidate(query, pooled, sources))
        .collect();
    let mut ranked = rank(query, texts, &candidates, &Weights::default());
    let sources = search.which.include_sources;
    ranked.retain(|one| sources || !pool[one.candidate].card.is_source);
    // Without an embedder nothing is near: what shares nothing is no hit.
    ranked.retain(|one| one.score > 0.0);
    // With decay, what does not fit well enough may come before what does.
    ranked.sort_by_key(|one| one.fit < search.threshold);
    let misses = if search.explain { MISSES } else { 0 };
    let all = (0..ranked.len()).map(|place| {
        let card = &pool[ranked[place].candidate].card;
        Placed {
            memory_id: card.memory_id,
            version: card.version,
            ranked: ranked[place],
            missed: near_miss(&ranked, place, search.top_k, search.threshold),
        }
    });
    let (hits, missed): (Vec<Placed>, Vec<Placed>) = all.partition(|one| one.missed.is_none());
    hits.into_iter()
        .chain(missed.into_iter().take(misses))
        .collect()
}

fn candidate<'a>(query: &Query, pooled: &'a Pooled, sources: &'a [usize]) -> Candidate<'a> {
    let card = &*pooled.card;
    let keys = card.entities.iter().map(String::as_str);
    Candidate {
        kind: match card.kind {
            Kind::Turn => retrieval::Kind::Turn,
            Kind::Fact | Kind::Procedure => retrieval::Kind::Fact,
        },
        dense: pooled.dense,
        terms: &card.terms,
        entity: query.fit(card.actor.as_deref(), keys),
        asks: card.asks,
        session: card.session,
        day: card.day,
        sources,
        decay: pooled.decay,
    }
}
