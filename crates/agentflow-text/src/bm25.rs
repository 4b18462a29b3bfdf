//! BM25 in two halves: what a text says of its terms is stored with it, how rare terms are is
//! known when a question comes.
//!
//! Source: Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009.

use std::collections::HashMap;

use crate::terms::Terms;

/// Terms with weights, by term.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse {
    /// Hashes of terms, rising.
    pub terms: Vec<u32>,
    /// Their weights.
    pub weights: Vec<f32>,
}

impl Sparse {
    /// The weight of a term; 0 if it is not there.
    #[must_use]
    pub fn weight(&self, term: u32) -> f32 {
        let place = self.terms.binary_search(&term);
        place.map_or(0.0, |place| self.weights[place])
    }
}

/// The parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bm25 {
    /// How soon more of a term adds nothing.
    pub k1: f32,
    /// How much long texts are held back, from 0 to 1.
    pub b: f32,
    /// Length of a usual text, in counts of terms. A constant, because a stored vector must not
    /// change when other texts come.
    pub usual_length: f32,
}

impl Default for Bm25 {
    fn default() -> Self {
        Self {
            k1: 1.2,
            b: 0.75,
            usual_length: 24.0,
        }
    }
}

impl Bm25 {
    /// The stored half: saturated counts. Its inner product with [`Statistics::weights`] is the
    /// score.
    #[must_use]
    pub fn vector(&self, terms: &Terms) -> Sparse {
        let length: f32 = terms.iter().map(|(_, count)| count).sum();
        let norm = self.k1 * (1.0 - self.b + self.b * length / self.usual_length);
        let weight = |count: f32| count * (self.k1 + 1.0) / (count + norm);
        let (terms, weights) = terms
            .iter()
            .map(|(term, count)| (term, weight(count)))
            .unzip();
        Sparse { terms, weights }
    }
}

/// How rare terms are among the texts of one scope.
///
/// An index that many tenants share knows only how rare a term is among all of them, and a word
/// that one tenant uses all the time looks rare there. So candidates are scored anew with
/// these numbers; that of the index only chooses candidates.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    texts: f32,
    holding: HashMap<u32, f32>,
}

impl Statistics {
    /// From exact numbers: of `texts` in the scope, how many hold each term.
    #[must_use]
    pub fn exact(texts: usize, holding: impl IntoIterator<Item = (u32, usize)>) -> Self {
        let holding = holding.into_iter().map(|(term, n)| (term, n as f32));
        Self {
            texts: texts as f32,
            holding: holding.collect(),
        }
    }

    /// From the candidates that were found among `texts` of the scope.
    ///
    /// All texts that hold a rare term are candidates, so its number is exact. That of a frequent
    /// term is too low, but still higher than those of rare ones, and order is what counts.
    #[must_use]
    pub fn of_candidates<'a>(
        texts: usize,
        question: &[u32],
        candidates: impl Iterator<Item = &'a Sparse> + Clone,
    ) -> Self {
        let holding = |term: u32| {
            let holders = candidates.clone();
            let holders = holders.filter(|candidate| candidate.weight(term) > 0.0);
            (term, holders.count())
        };
        let mut seen = Self::exact(texts, question.iter().map(|term| holding(*term)));
        let most = seen.holding.values().copied().fold(0.0, f32::max);
        seen.texts = seen.texts.max(most);
        seen
    }

    /// The weight of a term; 0 if no text holds it, for then it tells none from another.
    #[must_use]
    pub fn weight(&self, term: u32) -> f32 {
        match self.holding.get(&term).copied().unwrap_or_default() {
            0.0 => 0.0,
            holding => (1.0 + (self.texts - holding + 0.5) / (holding + 0.5)).ln(),
        }
    }

    /// The half of a question: each term with its weight.
    #[must_use]
    pub fn weights(&self, question: &[u32]) -> Vec<(u32, f32)> {
        question
            .iter()
            .map(|term| (*term, self.weight(*term)))
            .collect()
    }
}

/// The score of a text for a question whose terms have weights.
#[must_use]
pub fn score(question: &[(u32, f32)], text: &Sparse) -> f32 {
    question
        .iter()
        .map(|(term, weight)| weight * text.weight(*term))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Language, question};

    #[test]
    fn scores_are_those_of_the_formula() {
        let texts = ["red apple", "green apple apple", "yellow banana"];
        let bm25 = Bm25 {
            usual_length: 7.0 / 3.0,
            ..Bm25::default()
        };
        let vectors: Vec<Sparse> = texts
            .iter()
            .map(|text| bm25.vector(&Terms::of(text, Language::English)))
            .collect();
        let asked = question("apple red", Language::English);
        let statistics = Statistics::of_candidates(3, &asked, vectors.iter());
        let weights = statistics.weights(&asked);
        let scores: Vec<f32> = vectors.iter().map(|text| score(&weights, text)).collect();
        // Computed by hand: idf 0.470004 and 0.980829, lengths 2, 3, 2.
        for (found, expected) in scores.iter().zip([1.540_88, 0.598_19, 0.0]) {
            assert!((found - expected).abs() < 1e-4, "{scores:?}");
        }
    }

    #[test]
    fn frequent_terms_weigh_less_and_absent_ones_nothing() {
        let statistics = Statistics::exact(100, [(1, 1), (2, 50), (3, 100)]);
        assert!(statistics.weight(1) > statistics.weight(2));
        assert!(statistics.weight(2) > statistics.weight(3));
        assert!(statistics.weight(3) > 0.0);
        assert_eq!(statistics.weight(4), 0.0);
    }
}
