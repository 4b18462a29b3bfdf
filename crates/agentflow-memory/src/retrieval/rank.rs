//! The order of candidates.

use std::collections::HashMap;

use jiff::civil::Date;

use super::query::Query;
use crate::text::{Interval, Sparse, Statistics, bm25};

/// What a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something that was said, as it was said.
    Turn,
    /// Something that was made out of turns.
    Fact,
}

/// Something that an index found.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// What it is.
    pub kind: Kind,
    /// Cosine with the question; `None` if only other indexes found it.
    pub dense: Option<f32>,
    /// Its terms.
    pub terms: &'a Sparse,
    /// How well it fits what the question is about, as [`Query::fit`] says, or an index of
    /// entities; from 0 to 1.
    pub entity: f32,
    /// The share of its sentences that ask, as [`super::asks`] says.
    pub asks: f32,
    /// Which conversation it is from, as a hash.
    pub session: Option<u64>,
    /// When it happened.
    pub day: Option<Date>,
    /// Its source turns, as places among the candidates.
    pub sources: &'a [usize],
    /// Factor of [`super::decay`]; 1 where decay is off.
    pub decay: f32,
}

/// How much each part counts. Those of `dense` and `lexical` sum to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Cosine with the question.
    pub dense: f32,
    /// Words in common.
    pub lexical: f32,
    /// Persons and things in common.
    pub entity: f32,
    /// The best fact that was made out of a turn, or the best turn that a fact was made of.
    pub linked: f32,
    /// The best candidate of the same conversation.
    pub session: f32,
    /// Lying in the time that the question speaks of.
    pub time: f32,
    /// Held against what only asks.
    pub asks: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            dense: 0.6,
            lexical: 0.4,
            entity: 0.1,
            linked: 0.3,
            session: 0.2,
            time: 0.1,
            asks: 0.05,
        }
    }
}

/// The parts of a score, each with its weight applied.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// Cosine with the question.
    pub dense: f32,
    /// Words in common.
    pub lexical: f32,
    /// Persons and things in common.
    pub entity: f32,
    /// Support from facts or turns that it is linked to.
    pub linked: f32,
    /// Support from its conversation.
    pub session: f32,
    /// Lying in the time that the question speaks of.
    pub time: f32,
    /// Held against what only asks; not above 0.
    pub asks: f32,
    /// The factor of decay.
    pub decay: f32,
}

impl Parts {
    /// What a candidate has by itself.
    fn own(&self) -> f32 {
        (self.dense + self.lexical + self.entity + self.time + self.asks).max(0.0)
    }

    fn sum(&self) -> f32 {
        self.own() + self.linked + self.session
    }

    /// The sum, times decay.
    #[must_use]
    pub fn raw(&self) -> f32 {
        self.sum() * self.decay
    }
}

/// A candidate in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Which candidate.
    pub candidate: usize,
    /// From 0 to 1.
    pub score: f32,
    /// The score without decay, which is compared with thresholds: what was not used for long is
    /// late, not wrong.
    pub fit: f32,
    /// What it is made of.
    pub parts: Parts,
}

/// Orders candidates, best first; equal ones in the order in which they were given.
///
/// `texts`: how many texts there are in the scope of the question. `candidates`: all that the
/// indexes found, and the source turns of the facts among them.
///
/// The lexical score is computed anew, with the rarity of terms among the candidates' own scope
/// (see [`Statistics`]); it is the share of the question's weight that a text answers, so that it
/// compares between questions. A candidate that the dense index did not find is taken for as good
/// as the last one that it found.
#[must_use]
pub fn rank(
    query: &Query,
    texts: usize,
    candidates: &[Candidate<'_>],
    weights: &Weights,
) -> Vec<Ranked> {
    let mut parts = own_parts(query, texts, candidates, weights);
    support_by_links(candidates, weights, &mut parts);
    support_by_session(candidates, weights, &mut parts);
    // What has cosine and words in full, and such company. Person and time are extras: nothing
    // shall need them to pass a threshold.
    let most = weights.dense + weights.lexical;
    let most = most * (1.0 + weights.linked) * (1.0 + weights.session);
    let mut ranked: Vec<Ranked> = parts
        .into_iter()
        .enumerate()
        .map(|(candidate, parts)| Ranked {
            candidate,
            score: (parts.raw() / most).clamp(0.0, 1.0),
            fit: (parts.sum() / most).clamp(0.0, 1.0),
            parts,
        })
        .collect();
    // Extras and decay may lift several to the highest score; the order is that of the sums.
    ranked.sort_by(|a, b| b.parts.raw().total_cmp(&a.parts.raw()));
    ranked
}

/// Share of the question's weight at which the lexical part is full: a text that holds each
/// term once, in usual length, is at about one.
const FULL: f32 = 0.8;

fn own_parts(
    query: &Query,
    texts: usize,
    candidates: &[Candidate<'_>],
    weights: &Weights,
) -> Vec<Parts> {
    let sparse = candidates.iter().map(|candidate| candidate.terms);
    let statistics = Statistics::of_candidates(texts, &query.terms, sparse);
    let asked = statistics.weights(&query.terms);
    let full: f32 = FULL * asked.iter().map(|(_, weight)| weight).sum::<f32>();
    let found = candidates.iter().filter_map(|candidate| candidate.dense);
    let last = found.fold(f32::INFINITY, f32::min);
    let last = if last.is_finite() { last } else { 0.0 };
    let lexical = |terms: &Sparse| match full > 0.0 {
        true => bm25::score(&asked, terms) / full,
        false => 0.0,
    };
    candidates
        .iter()
        .map(|candidate| Parts {
            dense: weights.dense * candidate.dense.unwrap_or(last).max(0.0),
            lexical: weights.lexical * lexical(candidate.terms),
            entity: weights.entity * candidate.entity.clamp(0.0, 1.0),
            linked: 0.0,
            session: 0.0,
            time: weights.time * fit(&query.times, candidate.day),
            asks: -weights.asks * candidate.asks.clamp(0.0, 1.0),
            decay: candidate.decay,
        })
        .collect()
}

/// How well a day fits the times that a question speaks of.
fn fit(times: &[Interval], day: Option<Date>) -> f32 {
    let Some(day) = day else { return 0.0 };
    times.iter().map(|time| time.fit(day)).fold(0.0, f32::max)
}

/// Facts and the turns that they were made of support each other: what both indexes find is
/// likelier to be meant.
fn support_by_links(candidates: &[Candidate<'_>], weights: &Weights, parts: &mut [Parts]) {
    let own: Vec<f32> = parts.iter().map(Parts::own).collect();
    let mut best = vec![0.0_f32; parts.len()];
    for (fact, candidate) in candidates.iter().enumerate() {
        for &turn in candidate.sources.iter().filter(|turn| **turn < own.len()) {
            best[turn] = best[turn].max(own[fact]);
            best[fact] = best[fact].max(own[turn]);
        }
    }
    for (parts, best) in parts.iter_mut().zip(best) {
        parts.linked = weights.linked * best;
    }
}

/// A conversation about the right thing lifts all that was said in it. Who is in none is as if
/// it were one by itself.
fn support_by_session(candidates: &[Candidate<'_>], weights: &Weights, parts: &mut [Parts]) {
    let sum = |parts: &Parts| parts.own() + parts.linked;
    let mut best: HashMap<u64, f32> = HashMap::new();
    for (candidate, parts) in candidates.iter().zip(parts.iter()) {
        if let Some(session) = candidate.session {
            let best = best.entry(session).or_default();
            *best = best.max(sum(parts));
        }
    }
    for (candidate, parts) in candidates.iter().zip(parts.iter_mut()) {
        let session = candidate.session.and_then(|session| best.get(&session));
        let support = session.copied().unwrap_or_else(|| sum(parts));
        parts.session = weights.session * support;
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::{
        retrieval::{BM25, stored_terms},
        text::Language,
    };

    const TODAY: Date = date(2023, 7, 14);

    fn sparse(text: &str) -> Sparse {
        BM25.vector(&stored_terms(text, &[], None, Language::English))
    }

    fn turn(terms: &Sparse, dense: f32) -> Candidate<'_> {
        Candidate {
            kind: Kind::Turn,
            dense: Some(dense),
            terms,
            entity: 0.0,
            asks: 0.0,
            session: None,
            day: None,
            sources: &[],
            decay: 1.0,
        }
    }

    fn order(query: &str, candidates: &[Candidate<'_>]) -> Vec<usize> {
        let query = Query::read(query, Language::English, TODAY);
        let ranked = rank(&query, 100, candidates, &Weights::default());
        for hit in &ranked {
            assert!((0.0..=1.0).contains(&hit.score), "{hit:?}");
        }
        ranked.into_iter().map(|hit| hit.candidate).collect()
    }

    #[test]
    fn what_only_words_find_is_found() {
        let (a, b) = (sparse("nothing in common"), sparse("a bicycle"));
        let only_words = Candidate {
            dense: None,
            ..turn(&b, 0.0)
        };
        assert_eq!(order("bicycles", &[turn(&a, 0.4), only_words]), [1, 0]);
    }

    #[test]
    fn a_fact_lifts_its_turn_and_the_turn_its_fact() {
        let empty = Sparse::default();
        let fact = Candidate {
            kind: Kind::Fact,
            sources: &[1],
            ..turn(&empty, 0.5)
        };
        let candidates = [turn(&empty, 0.45), turn(&empty, 0.4), fact];
        assert_eq!(order("?", &candidates), [2, 1, 0]);
    }

    #[test]
    fn conversation_time_person_and_question_count() {
        let empty = Sparse::default();
        let plain = || turn(&empty, 0.5);
        let same = |dense, session| Candidate {
            session: Some(session),
            ..turn(&empty, dense)
        };
        assert_eq!(
            order("?", &[same(0.5, 1), same(0.5, 2), same(0.9, 2)]),
            [2, 1, 0]
        );
        let may = Candidate {
            day: Some(date(2023, 5, 8)),
            ..plain()
        };
        assert_eq!(order("in May", &[plain(), may]), [1, 0]);
        let person = Candidate {
            entity: 1.0,
            ..plain()
        };
        assert_eq!(order("?", &[plain(), person]), [1, 0]);
        let asking = Candidate {
            asks: 1.0,
            ..plain()
        };
        assert_eq!(order("?", &[asking, plain()]), [1, 0]);
        let stale = Candidate {
            decay: 0.3,
            ..plain()
        };
        assert_eq!(order("?", &[stale, plain()]), [1, 0]);
        assert_eq!(order("?", &[plain(), plain()]), [0, 1]);
        assert!(order("?", &[]).is_empty());
    }

    #[test]
    fn links_that_lead_nowhere_are_passed_over() {
        let empty = Sparse::default();
        let fact = Candidate {
            kind: Kind::Fact,
            sources: &[7],
            ..turn(&empty, 0.5)
        };
        assert_eq!(order("?", &[fact]), [0]);
    }
}
