//! Words by Unicode's rules; scripts without spaces give pairs of characters.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unicode_segmentation::UnicodeSegmentation;

/// A script, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Latin.
    Latin,
    /// Cyrillic.
    Cyrillic,
    /// Greek.
    Greek,
    /// Arabic.
    Arabic,
    /// Tamil.
    Tamil,
    /// Written without spaces, or with words that carry particles: Chinese, Japanese, Korean,
    /// Thai, Lao, Khmer, Burmese.
    Unspaced,
    /// Any other.
    Other,
}

/// A word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Lower-case.
    pub text: String,
    /// Whether it is a piece of a text without spaces, which is neither stemmed nor a stop word.
    pub is_piece: bool,
}

/// The script of a character; `None` if it is no letter.
fn script_of(c: char) -> Option<Script> {
    if c.is_ascii() {
        return c.is_ascii_alphabetic().then_some(Script::Latin);
    }
    let script = match c as u32 {
        0xC0..=0x24F | 0x1E00..=0x1EFF => Script::Latin,
        0x370..=0x3FF | 0x1F00..=0x1FFF => Script::Greek,
        0x400..=0x52F => Script::Cyrillic,
        0x600..=0x6FF | 0x750..=0x77F | 0x8A0..=0x8FF => Script::Arabic,
        0xB80..=0xBFF => Script::Tamil,
        0xE00..=0xEFF | 0x1000..=0x109F | 0x1780..=0x17FF => Script::Unspaced,
        0x1100..=0x11FF | 0x3040..=0x30FF | 0x31F0..=0x31FF => Script::Unspaced,
        0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xAC00..=0xD7AF => Script::Unspaced,
        0xF900..=0xFAFF | 0xFF66..=0xFF9F | 0x20000..=0x3FFFF => Script::Unspaced,
        _ => Script::Other,
    };
    c.is_alphabetic().then_some(script)
}

/// The script of the first letters of a text, by majority; [`Script::Other`] without letters.
pub fn script(text: &str) -> Script {
    let mut counts: Vec<(Script, usize)> = Vec::new();
    for script in text.chars().filter_map(script_of).take(200) {
        match counts.iter_mut().find(|(known, _)| *known == script) {
            Some((_, count)) => *count += 1,
            None => counts.push((script, 1)),
        }
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or(Script::Other, |(script, _)| script)
}

/// The words of a text, lower-case, in order.
pub fn words(text: &str) -> impl Iterator<Item = Word> {
    let mut found = Vec::new();
    let mut run: Vec<char> = Vec::new();
    for part in text.split_word_bounds() {
        if part.chars().any(|c| script_of(c) == Some(Script::Unspaced)) {
            run.extend(part.chars());
            continue;
        }
        pairs(&mut run, &mut found);
        if part.chars().any(char::is_alphanumeric) {
            whole(&part.to_lowercase(), &mut found);
        }
    }
    pairs(&mut run, &mut found);
    found.into_iter()
}

/// Pairs of neighbouring characters of a run, or its only character.
fn pairs(run: &mut Vec<char>, found: &mut Vec<Word>) {
    let piece = |text: String| Word {
        text,
        is_piece: true,
    };
    match run.as_slice() {
        [] => {}
        [only] => found.push(piece(only.to_string())),
        chars => found.extend(chars.windows(2).map(|pair| piece(pair.iter().collect()))),
    }
    run.clear();
}

/// A word between spaces: without the possessive, and an identifier also in its parts.
fn whole(word: &str, found: &mut Vec<Word>) {
    let word = word.replace('\u{2019}', "'");
    let word = word.strip_suffix("'s").unwrap_or(&word);
    found.push(Word {
        text: word.to_owned(),
        is_piece: false,
    });
    let is_identifier = word.contains(['_', '.', ':']) && word.chars().any(char::is_alphabetic);
    if is_identifier {
        let parts = word.split(['_', '.', ':']).filter(|part| part.len() > 1);
        found.extend(parts.map(|part| Word {
            text: part.to_owned(),
            is_piece: false,
        }));
    }
}

/// A term without accents, so that `Zürich` and `Zurich` meet.
pub fn fold(term: &str) -> String {
    match term.is_ascii() {
        true => term.to_owned(),
        false => term.nfkd().filter(|c| !is_accent(*c)).collect(),
    }
}

/// Marks of European scripts; in Indic ones marks are vowels, in Japanese they tell consonants.
fn is_accent(c: char) -> bool {
    is_combining_mark(c) && (0x300..0x370).contains(&(c as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> = words(text).map(|word| word.text).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn words_of_many_scripts() {
        check("Caroline’s dog, don't!", &["caroline", "dog", "don't"]);
        check("Größe: 3,5 m", &["größe", "3,5", "m"]);
        check(
            "call user_store.find",
            &["call", "user_store.find", "user", "store", "find"],
        );
        check(
            "東京タワー and 犬",
            &["東京", "京タ", "タワ", "ワー", "and", "犬"],
        );
        check("서울에서", &["서울", "울에", "에서"]);
        check("สวัสดี", &["สว", "วั", "ัส", "สด", "ดี"]);
        check(" \u{1F600} - !", &[]);
    }

    #[test]
    fn accents_are_dropped_where_they_are_accents() {
        assert_eq!(fold("zürich"), "zurich");
        assert_eq!(fold("ελλάδα"), "ελλαδα");
        assert_eq!(fold("が"), fold("が"));
        assert_ne!(fold("が"), fold("か"));
    }
}
