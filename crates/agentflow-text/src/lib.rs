//! Text analysis without models: terms for lexical search, entities, times.
//!
//! Nothing here is learned or fetched; the same text gives the same result everywhere, which is
//! what lets an index be compared with the records that it was made from.

pub mod bm25;
pub mod entities;
pub mod language;
pub mod terms;
pub mod time;
mod words;

pub use bm25::{Bm25, Sparse, Statistics};
pub use entities::{Entity, entities};
pub use language::Language;
pub use terms::{Terms, question};
pub use time::{Interval, intervals};
