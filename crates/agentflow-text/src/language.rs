//! Languages: which one a text is in, its stop words, its stemmer.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use rust_stemmers::{Algorithm, Stemmer};

use crate::words::{self, Script};

/// A language whose words are stemmed and whose stop words are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)] // Their names say it all.
pub enum Language {
    English,
    German,
    French,
    Spanish,
    Italian,
    Portuguese,
    Dutch,
    Swedish,
    Danish,
    Norwegian,
    Finnish,
    Hungarian,
    Romanian,
    Turkish,
    Russian,
    Greek,
    Arabic,
    Tamil,
}

use Language::{
    Arabic, Danish, Dutch, English, Finnish, French, German, Greek, Hungarian, Italian, Norwegian,
    Portuguese, Romanian, Russian, Spanish, Swedish, Tamil, Turkish,
};

/// Each language with its code, stemmer and script.
const ALL: [(Language, &str, Algorithm, Script); 18] = [
    (English, "en", Algorithm::English, Script::Latin),
    (German, "de", Algorithm::German, Script::Latin),
    (French, "fr", Algorithm::French, Script::Latin),
    (Spanish, "es", Algorithm::Spanish, Script::Latin),
    (Italian, "it", Algorithm::Italian, Script::Latin),
    (Portuguese, "pt", Algorithm::Portuguese, Script::Latin),
    (Dutch, "nl", Algorithm::Dutch, Script::Latin),
    (Swedish, "sv", Algorithm::Swedish, Script::Latin),
    (Danish, "da", Algorithm::Danish, Script::Latin),
    (Norwegian, "no", Algorithm::Norwegian, Script::Latin),
    (Finnish, "fi", Algorithm::Finnish, Script::Latin),
    (Hungarian, "hu", Algorithm::Hungarian, Script::Latin),
    (Romanian, "ro", Algorithm::Romanian, Script::Latin),
    (Turkish, "tr", Algorithm::Turkish, Script::Latin),
    (Russian, "ru", Algorithm::Russian, Script::Cyrillic),
    (Greek, "el", Algorithm::Greek, Script::Greek),
    (Arabic, "ar", Algorithm::Arabic, Script::Arabic),
    (Tamil, "ta", Algorithm::Tamil, Script::Tamil),
];

/// Stop words that a text must show before it counts as being in another language than the usual
/// one: single words are shared by many languages.
const EVIDENCE: usize = 2;

/// Most words of a text that are looked at for its language.
const LOOKED_AT: usize = 200;

/// Stop words of each language, in the order of [`ALL`].
static STOP_WORDS: LazyLock<Vec<HashSet<&'static str>>> = LazyLock::new(|| {
    let words = |code| stop_words::lookup(code).unwrap_or_default();
    ALL.iter()
        .map(|(_, code, _, _)| words(*code).iter().copied().collect())
        .collect()
});

/// For each stop word the languages that have it, one bit each.
static VOTES: LazyLock<HashMap<&'static str, u32>> = LazyLock::new(|| {
    let mut votes = HashMap::new();
    for (place, words) in STOP_WORDS.iter().enumerate() {
        for word in words {
            *votes.entry(*word).or_default() |= 1 << place;
        }
    }
    votes
});

impl Language {
    /// Its two-letter code.
    #[must_use]
    pub fn code(self) -> &'static str {
        ALL[self as usize].1
    }

    /// The codes of all languages.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|row| row.1)
    }

    /// The language of a two-letter code, if it is a known one.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        ALL.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    /// The language of `text`; `usual` where the text does not show another.
    ///
    /// Scripts of one known language decide by themselves. Within a script stop words vote,
    /// because they are frequent even in short messages, where statistics of letters fail.
    #[must_use]
    pub fn detect(text: &str, usual: Self) -> Self {
        let script = words::script(text);
        let candidates = ALL.iter().filter(|row| row.3 == script);
        let Some(first) = candidates.clone().next().map(|row| row.0) else {
            return usual;
        };
        let home = match ALL[usual as usize].3 == script {
            true => usual,
            false => first,
        };
        let mut counts = [0_usize; ALL.len()];
        for word in words::words(text).take(LOOKED_AT) {
            let votes = VOTES.get(word.text.as_str()).copied().unwrap_or_default();
            for (place, count) in counts.iter_mut().enumerate() {
                *count += (votes >> place & 1) as usize;
            }
        }
        candidates
            .map(|row| row.0)
            .filter(|language| counts[*language as usize] >= EVIDENCE)
            .max_by_key(|language| (counts[*language as usize], *language == home))
            .filter(|language| counts[*language as usize] > counts[home as usize])
            .unwrap_or(home)
    }

    /// Whether a lower-case word says nothing by itself.
    #[must_use]
    pub fn is_stop_word(self, word: &str) -> bool {
        STOP_WORDS[self as usize].contains(word)
    }

    /// The stem of a lower-case word.
    #[must_use]
    pub fn stem(self, word: &str) -> Cow<'_, str> {
        let stemmed = Stemmer::create(ALL[self as usize].2).stem(word);
        Cow::Owned(stemmed.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_apart_by_short_messages() {
        for (text, language) in [
            ("What did Caroline do last week?", English),
            ("Wo wohnt Anna und was macht sie?", German),
            ("Où est-ce que Marie habite avec sa sœur ?", French),
            ("¿Dónde vive Ana y qué hace con su hermano?", Spanish),
            ("Onde mora a Ana e o que ela faz com você?", Portuguese),
            ("Waar woont Anna en wat doet zij met het geld?", Dutch),
            ("Где живёт Анна?", Russian),
            ("Πού μένει η Άννα;", Greek),
            ("أين تعيش آنا؟", Arabic),
            // Names and exclamations show nothing.
            ("Berlin!", English),
            ("Hey Mel! Wow, thanks", English),
            ("", English),
            // No known language has this script.
            ("アンナはどこに住んでいますか", English),
        ] {
            assert_eq!(Language::detect(text, English), language, "{text}");
        }
        assert_eq!(Language::detect("Berlin!", German), German);
        assert_eq!(Language::detect("What did she do there?", German), English);
    }

    #[test]
    fn codes_lead_back() {
        for (place, row) in ALL.iter().enumerate() {
            assert_eq!(row.0 as usize, place);
            assert_eq!(Language::of_code(row.0.code()), Some(row.0));
            assert!(!STOP_WORDS[place].is_empty(), "{}", row.1);
        }
        assert_eq!(Language::of_code("xx"), None);
    }
}
