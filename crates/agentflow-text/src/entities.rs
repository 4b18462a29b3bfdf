//! What a text is about: names, quoted titles, identifiers, topics; by rules, in any language.

use std::collections::HashSet;

use unicode_segmentation::UnicodeSegmentation;

use crate::{
    language::Language,
    words::{self, Script},
};

/// Most entities of one text; more would make everything related to everything.
pub const MOST: usize = 16;

/// Shortest and longest entity, in characters.
const LENGTH: std::ops::RangeInclusive<usize> = 2..=100;

/// Most words of a name.
const NAME_WORDS: usize = 6;

/// Words between the parts of a name: `Bank of the West`, `Ludwig van Beethoven`.
const JOINTS: [&str; 10] = [
    "of", "the", "de", "del", "la", "von", "van", "der", "di", "da",
];

/// What kind of thing an entity is, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `user_store.find`, `CamelCase`, an address, a handle.
    Identifier,
    /// Words that are written like a name.
    Name,
    /// Something in quotation marks.
    Quoted,
    /// Neighbouring words that say something together.
    Topic,
}

impl Kind {
    /// How sure it is that such a thing is one, from 0 to 1.
    #[must_use]
    pub fn confidence(self) -> f32 {
        match self {
            Self::Identifier => 0.9,
            Self::Name => 0.8,
            Self::Quoted => 0.75,
            Self::Topic => 0.45,
        }
    }
}

/// Something that a text is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// As it is written.
    pub text: String,
    /// As it is compared: lower-case, without accents, single spaces.
    pub key: String,
    /// What it is.
    pub kind: Kind,
}

/// A word as it is written, with what stands before it.
struct Token<'a> {
    text: &'a str,
    lower: String,
    starts_sentence: bool,
    /// Something other than a space stands between it and the word before.
    is_apart: bool,
}

impl Token<'_> {
    fn is_capital(&self) -> bool {
        self.text.chars().next().is_some_and(char::is_uppercase)
    }
}

/// The entities of `text`, the surest first, each once.
///
/// `usual`: language of texts that do not show another.
#[must_use]
pub fn entities(text: &str, usual: Language) -> Vec<Entity> {
    let language = Language::detect(text, usual);
    let mut found = Found::default();
    identifiers(text, &mut found);
    let tokens = tokens(text);
    let named = names(&tokens, language, &mut found);
    quoted(text, &mut found);
    topics(&tokens, &named, language, &mut found);
    found.entities.sort_by_key(|entity| entity.kind);
    found.entities.truncate(MOST);
    found.entities
}

/// The form in which entities are compared.
#[must_use]
pub fn key(text: &str) -> String {
    let words: Vec<String> = words::words(text).map(|word| word.text).collect();
    match words::script(text) {
        // Pairs of characters would be longer than the text.
        Script::Unspaced => text.split_whitespace().collect::<Vec<_>>().join(" "),
        _ => words::fold(&words.join(" ")),
    }
}

#[derive(Default)]
struct Found {
    entities: Vec<Entity>,
    keys: HashSet<String>,
}

impl Found {
    fn add(&mut self, text: &str, kind: Kind) {
        let text = text.trim();
        let has_letter = text.chars().any(char::is_alphabetic);
        if !has_letter || !LENGTH.contains(&text.chars().count()) {
            return;
        }
        let key = match kind {
            Kind::Identifier => text.to_lowercase(),
            _ => key(text),
        };
        if !key.is_empty() && self.keys.insert(key.clone()) {
            let text = text.to_owned();
            self.entities.push(Entity { text, key, kind });
        }
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let (mut starts_sentence, mut is_apart) = (true, true);
    for part in text.split_word_bounds() {
        if part.chars().any(char::is_alphanumeric) {
            let word = part.trim_end_matches("'s").trim_end_matches("\u{2019}s");
            tokens.push(Token {
                text: word,
                lower: word.to_lowercase(),
                starts_sentence,
                is_apart,
            });
            (starts_sentence, is_apart) = (false, word.len() < part.len());
        } else if !part.chars().all(char::is_whitespace) || part.contains('\n') {
            is_apart = true;
            starts_sentence |= part.contains(['.', '!', '?', ':', '\n', '"', '\u{201C}', '¿', '¡']);
        }
    }
    tokens
}

/// Words that hold what no prose does, and addresses.
fn identifiers(text: &str, found: &mut Found) {
    let edges = |c: char| !c.is_alphanumeric() && !matches!(c, '@' | '#' | '_');
    for word in text.split_whitespace() {
        let word = word.trim_matches(edges);
        let letters = word.chars().filter(|c| c.is_alphabetic()).count();
        if letters < 2 || words::script(word) == Script::Unspaced {
            continue;
        }
        let inner = word.trim_start_matches(['@', '#']);
        let is_dotted =
            inner.split('.').count() > 1 && inner.split('.').all(|part| part.chars().count() > 1);
        let is_mail = inner
            .split_once('@')
            .is_some_and(|(_, host)| host.contains('.'));
        let is_address = word.contains("://") || is_mail;
        let is_handle = inner.len() < word.len();
        let is_snake = inner.contains('_') && !inner.starts_with('_');
        let is_path = inner.contains('/') && inner.contains('.') && !inner.contains("//");
        if is_dotted || is_address || is_handle || is_snake || is_path || is_camel(inner) {
            found.add(word, Kind::Identifier);
        }
    }
}

/// A capital after a small letter, as in `camelCase`; but not `McDonald`.
fn is_camel(word: &str) -> bool {
    let is_mac = word.starts_with("Mc") || word.starts_with("Mac");
    let chars: Vec<char> = word.chars().collect();
    !is_mac
        && chars.iter().all(|c| c.is_alphanumeric())
        && chars
            .windows(2)
            .any(|pair| pair[0].is_lowercase() && pair[1].is_uppercase())
}

/// Runs of capitalised words; tells which tokens belong to one.
fn names(tokens: &[Token<'_>], language: Language, found: &mut Found) -> Vec<bool> {
    let mut named = vec![false; tokens.len()];
    // In German every noun has a capital, so one alone is no name.
    let alone_is_enough = language != Language::German;
    let mut place = 0;
    while place < tokens.len() {
        let end = name_end(tokens, place, language);
        if end == place {
            place += 1;
            continue;
        }
        let run = &tokens[place..end];
        let first = &run[0];
        let is_sure = match (run.len(), first.starts_with_sentence(tokens, place)) {
            (1, true) => false,
            (1, false) => alone_is_enough,
            _ => true,
        };
        if is_sure {
            let text: Vec<&str> = run.iter().map(|token| token.text).collect();
            found.add(&text.join(" "), Kind::Name);
            named[place..end].fill(true);
        }
        place = end;
    }
    named
}

impl Token<'_> {
    /// Whether it may have its capital from the beginning of a sentence only: it begins one, has
    /// no `'s` behind it, and does not occur with a capital elsewhere.
    fn starts_with_sentence(&self, tokens: &[Token<'_>], place: usize) -> bool {
        let owns = tokens
            .get(place + 1)
            .is_some_and(|next| next.is_apart && !next.starts_sentence);
        let elsewhere = tokens
            .iter()
            .any(|other| !other.starts_sentence && other.text == self.text);
        self.starts_sentence && !elsewhere && !owns
    }
}

/// One past the name that begins at `place`; `place` if none does.
fn name_end(tokens: &[Token<'_>], place: usize, language: Language) -> usize {
    let fits = |token: &Token<'_>| {
        token.is_capital()
            && !language.is_stop_word(&token.lower)
            && !crate::time::is_calendar_word(&token.lower)
    };
    if !fits(&tokens[place]) {
        return place;
    }
    let mut end = place + 1;
    let mut ahead = end;
    while ahead < tokens.len() && ahead - place < NAME_WORDS && !tokens[ahead].is_apart {
        if fits(&tokens[ahead]) {
            end = ahead + 1;
        } else if !JOINTS.contains(&tokens[ahead].lower.as_str()) {
            break;
        }
        ahead += 1;
    }
    end
}

/// What stands between quotation marks.
fn quoted(text: &str, found: &mut Found) {
    for (open, close) in [
        ('"', '"'),
        ('\u{201C}', '\u{201D}'),
        ('\u{201E}', '\u{201C}'),
        ('«', '»'),
        ('「', '」'),
        ('『', '』'),
        ('《', '》'),
        ('`', '`'),
    ] {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once(open) {
            let Some((inside, next)) = after.split_once(close) else {
                break;
            };
            if inside.chars().count() > 2 && !inside.contains('\n') {
                found.add(inside.trim_matches([',', '.', '!', '?']), Kind::Quoted);
            }
            rest = next;
        }
    }
}

/// Two or three words beside each other that are no stop words: `support group`.
fn topics(tokens: &[Token<'_>], named: &[bool], language: Language, found: &mut Found) {
    let speaks = |place: usize| {
        let token = &tokens[place];
        !named[place]
            && token.lower.chars().count() > 2
            && token.lower.chars().all(char::is_alphabetic)
            && words::script(&token.lower) != Script::Unspaced
            && !language.is_stop_word(&token.lower)
            && !crate::time::is_calendar_word(&token.lower)
    };
    let mut place = 0;
    while place < tokens.len() {
        let mut end = place;
        while end < tokens.len() && speaks(end) && (end == place || !tokens[end].is_apart) {
            end += 1;
        }
        // Longer runs are sentences rather than terms.
        if (2..=3).contains(&(end - place)) {
            let text: Vec<&str> = tokens[place..end].iter().map(|token| token.text).collect();
            found.add(&text.join(" "), Kind::Topic);
        }
        place = end.max(place + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: Kind, expected: &[&str]) {
        let found = entities(text, Language::English);
        let found: Vec<&str> = found
            .iter()
            .filter(|entity| entity.kind == kind)
            .map(|entity| entity.text.as_str())
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn names_are_runs_of_capitals() {
        check(
            "When did Caroline meet Mel at the Bank of the West?",
            Kind::Name,
            &["Caroline", "Mel", "Bank of the West"],
        );
        check(
            "Caroline's dog likes Oscar",
            Kind::Name,
            &["Caroline", "Oscar"],
        );
        check(
            "Thanks! Great to hear. New York is nice",
            Kind::Name,
            &["New York"],
        );
        check(
            "In May I saw Anna. Anna slept on Monday.",
            Kind::Name,
            &["Anna"],
        );
        check(
            "Ich habe mit dem Hund und Ludwig van Beethoven gesprochen",
            Kind::Name,
            &["Ludwig van Beethoven"],
        );
        check("nothing here", Kind::Name, &[]);
    }

    #[test]
    fn identifiers_and_titles() {
        check(
            "call user_store.find, README.md or useEffect; mail a.b@example.org @mel",
            Kind::Identifier,
            &[
                "user_store.find",
                "README.md",
                "useEffect",
                "a.b@example.org",
                "@mel",
            ],
        );
        check(
            "At 3.5 the end. McDonald e.g. said so",
            Kind::Identifier,
            &[],
        );
        check(
            "She read \"Becoming Nicole\" and «Le Petit Prince».",
            Kind::Name,
            &["Becoming Nicole", "Le Petit Prince"],
        );
        check(
            "she read \"becoming nicole,\" twice",
            Kind::Quoted,
            &["becoming nicole"],
        );
        check(
            "「雪国」を読んだ。「雪国紀行」も",
            Kind::Quoted,
            &["雪国紀行"],
        );
    }

    #[test]
    fn topics_are_terms_of_two_or_three_words() {
        check(
            "I went to a support group yesterday",
            Kind::Topic,
            &["support group"],
        );
        check("dogs and cats", Kind::Topic, &[]);
    }

    #[test]
    fn each_thing_counts_once() {
        let found = entities("Zürich! We saw Zürich and Zurich.", Language::English);
        let keys: Vec<&str> = found.iter().map(|entity| entity.key.as_str()).collect();
        assert_eq!(keys, ["zurich"]);
        let many: String = (0..50).map(|i| format!("some_name_{i} ")).collect();
        assert_eq!(entities(&many, Language::English).len(), MOST);
    }
}
