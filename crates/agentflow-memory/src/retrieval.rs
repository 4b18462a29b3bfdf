//! Scoring of candidates: pure functions from what the indexes found to an order with reasons.
//!
//! Candidates are the union of what the dense, the lexical and the entity index found, over turns
//! and facts together, with the source turns of the facts. [`rank`] scores them by the sum of
//! parts that [`Parts`] names; each can be explained to a person.
//!
//! The weights were found with conversations that people had over months, and an embedding model
//! of 384 dimensions; `cargo xtask bench locomo` measures them.

mod decay;
mod explain;
mod query;
mod rank;

pub use decay::{MOST_ACCESSES, decay};
pub use explain::{Reason, near_miss};
pub use query::{Query, asks};
pub use rank::{Candidate, Kind, Parts, Ranked, Weights, rank};

use crate::text::{Bm25, Language, Terms};

/// How much the words of the turn before a turn count for it.
pub const BEFORE: f32 = 0.7;

/// How much the words of the turn before that count.
pub const LONG_BEFORE: f32 = 0.4;

/// How much the words of the time of a turn or fact count.
pub const TIME: f32 = 0.3;

/// The parameters with which texts are stored and candidates scored. Context makes lengths
/// more even and those that remain tell less, so they count less than usual.
pub const BM25: Bm25 = Bm25 {
    k1: 1.2,
    b: 0.5,
    usual_length: 24.0,
};

/// How many candidates each index is asked for when `wanted` results are wanted.
#[must_use]
pub fn breadth(wanted: usize) -> usize {
    (4 * wanted).clamp(100, 1_000)
}

/// The terms under which a turn or a fact is stored.
///
/// `before`: texts of the turns before a turn in the same session, the nearest first; two count.
/// An answer is found by the words of the question that it answers.
/// `when`: its day, if known.
#[must_use]
pub fn stored_terms(
    text: &str,
    before: &[&str],
    when: Option<jiff::civil::Date>,
    usual: Language,
) -> Terms {
    let mut terms = Terms::of(text, usual);
    for (text, weight) in before.iter().zip([BEFORE, LONG_BEFORE]) {
        terms.add(text, usual, weight);
    }
    if let Some(day) = when {
        // As people write it: 8 May 2023.
        let words = day.strftime("%-d %B %Y").to_string();
        terms.add(&words, Language::English, TIME);
    }
    terms
}
