//! Terms: what lexical search counts.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    language::Language,
    words::{self, Word},
};

/// Most bytes of a text whose terms are counted; what is beyond is found by its vector only.
const TEXT_BYTES: usize = 64 << 10;

/// Terms of a text by their hash, and how much of each there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms(BTreeMap<u32, f32>);

impl Terms {
    /// No terms.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The terms of `text`.
    ///
    /// `usual`: language of texts that do not show another.
    #[must_use]
    pub fn of(text: &str, usual: Language) -> Self {
        let mut terms = Self::new();
        terms.add(text, usual, 1.0);
        terms
    }

    /// Adds the terms of another text that helps to understand this one, each counting `weight`.
    ///
    /// A turn gets those of the turns before it this way: an answer is found by the words of its
    /// question.
    pub fn add(&mut self, text: &str, usual: Language, weight: f32) {
        let text = beginning(text);
        let language = Language::detect(text, usual);
        for word in words::words(text) {
            if let Some(term) = term(&word, language) {
                *self.0.entry(hash(&term)).or_default() += weight;
            }
        }
    }

    /// Adds all of `other`, each counting `weight`.
    pub fn merge(&mut self, other: &Self, weight: f32) {
        for (term, count) in &other.0 {
            *self.0.entry(*term).or_default() += weight * count;
        }
    }

    /// How much of a term there is.
    #[must_use]
    pub fn count(&self, term: u32) -> f32 {
        self.0.get(&term).copied().unwrap_or_default()
    }

    /// Hashes and counts, by hash.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f32)> {
        self.0.iter().map(|(term, count)| (*term, *count))
    }

    /// How many different terms there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(u32, f32)> for Terms {
    fn from_iter<T: IntoIterator<Item = (u32, f32)>>(pairs: T) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// The terms of a question, each once.
///
/// A question may be too short to show its language, so it is read in the language that it seems
/// to be in and in the usual one; texts in either are found.
#[must_use]
pub fn question(text: &str, usual: Language) -> Vec<u32> {
    let text = beginning(text);
    let mut terms = Vec::new();
    for language in [Language::detect(text, usual), usual] {
        for word in words::words(text) {
            if let Some(term) = term(&word, language).map(|term| hash(&term))
                && !terms.contains(&term)
            {
                terms.push(term);
            }
        }
    }
    terms
}

/// The term of a word; `None` if it says nothing.
fn term(word: &Word, language: Language) -> Option<String> {
    if word.is_piece {
        return Some(words::fold(&word.text));
    }
    if language.is_stop_word(&word.text) {
        return None;
    }
    // "don't" and the like are on the list; what is left of others is one word.
    let plain = word.text.replace('\'', "");
    match plain.is_empty() || language.is_stop_word(&plain) {
        true => None,
        false => Some(words::fold(&language.stem(&plain))),
    }
}

fn hash(term: &str) -> u32 {
    // The lower half of a good hash is one.
    xxh3_64(term.as_bytes()) as u32
}

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(question_text: &str, text: &str) -> usize {
        let terms = Terms::of(text, Language::English);
        let asked = question(question_text, Language::English);
        asked
            .into_iter()
            .filter(|term| terms.count(*term) > 0.0)
            .count()
    }

    #[test]
    fn questions_meet_texts_in_their_language() {
        for (asked, text, expected) in [
            (
                "Where does she run?",
                "Running is what I do in the mornings.",
                1,
            ),
            (
                "Wo sind die Häuser?",
                "Das Haus ist von den Eltern und nicht groß.",
                1,
            ),
            ("zurich trip", "Our trip to Zürich", 2),
            ("東京", "先週、東京タワーに行きました", 1),
            ("what is the", "the what is", 0),
        ] {
            assert_eq!(shared(asked, text), expected, "{asked}");
        }
    }

    #[test]
    fn terms_of_other_texts_count_less() {
        let mut terms = Terms::of("yes, the blue one", Language::English);
        terms.add(
            "Which bicycle do you want, the blue one?",
            Language::English,
            0.5,
        );
        let [blue] = question("blue", Language::English)[..] else {
            panic!("one term")
        };
        let [bicycle] = question("bicycles", Language::English)[..] else {
            panic!("one term")
        };
        assert_eq!((terms.count(blue), terms.count(bicycle)), (1.5, 0.5));
        let mut sum = Terms::new();
        sum.merge(&terms, 2.0);
        assert_eq!(sum.count(bicycle), 1.0);
        assert_eq!(sum.len(), terms.len());
    }
}
