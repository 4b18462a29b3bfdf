//! What a question asks for, read without a model.

use jiff::civil::Date;

use crate::text::{
    Entity, Interval, Language, entities as read_entities,
    entities::{self, Kind},
    intervals, question,
};

/// Most entities of a question that are looked up.
const MOST_ENTITIES: usize = 8;

/// A question.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Its terms.
    pub terms: Vec<u32>,
    /// What it is about.
    pub entities: Vec<Entity>,
    /// Times that it speaks of.
    pub times: Vec<Interval>,
}

impl Query {
    /// Reads a question.
    ///
    /// `usual`: language of texts that do not show another. `today`: what "last week" counts
    /// from.
    #[must_use]
    pub fn read(text: &str, usual: Language, today: Date) -> Self {
        let mut entities = read_entities(text, usual);
        entities.truncate(MOST_ENTITIES);
        Self {
            terms: question(text, usual),
            entities,
            times: intervals(text, today),
        }
    }

    /// How well a text fits what the question is about, from 0 to 1.
    ///
    /// `speaker`: who said it; a question that names somebody mostly asks what they said.
    /// `keys`: entities of the text, as [`entities::key`] gives them.
    #[must_use]
    pub fn fit<'a>(&self, speaker: Option<&str>, keys: impl IntoIterator<Item = &'a str>) -> f32 {
        let spoken = speaker.map(entities::key);
        let is_named = |speaker: &String| {
            let names = self
                .entities
                .iter()
                .filter(|entity| entity.kind == Kind::Name);
            names.into_iter().any(|name| same_name(&name.key, speaker))
        };
        if spoken.as_ref().is_some_and(is_named) {
            return 1.0;
        }
        let shared = keys.into_iter().filter_map(|key| {
            let same = self.entities.iter().find(|entity| entity.key == key);
            same.map(|entity| entity.kind.confidence() / 2.0)
        });
        shared.fold(0.0, f32::max)
    }
}

/// Whether two names may mean the same: one is the other, or its first words.
fn same_name(a: &str, b: &str) -> bool {
    let begins = |long: &str, short: &str| {
        long.strip_prefix(short)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    !a.is_empty() && !b.is_empty() && (begins(a, b) || begins(b, a))
}

/// The share of a text's sentences that ask something. Who asks seldom tells.
#[must_use]
pub fn asks(text: &str) -> f32 {
    const ENDS: [char; 9] = ['.', '!', '?', '。', '！', '？', '؟', '…', '\n'];
    let mut sentences = 0;
    let mut questions = 0;
    for sentence in text.split_inclusive(ENDS) {
        if sentence.chars().any(char::is_alphanumeric) {
            sentences += 1;
            questions += usize::from(sentence.ends_with(['?', '？', '؟']));
        }
    }
    match sentences {
        0 => 0.0,
        sentences => questions as f32 / sentences as f32,
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_question_is_read() {
        let query = Query::read(
            "What did Caroline paint in May?",
            Language::English,
            date(2023, 7, 1),
        );
        assert_eq!(query.terms.len(), 3);
        assert_eq!(query.times.len(), 1);
        assert_eq!(query.fit(Some("Caroline"), []), 1.0);
        assert_eq!(query.fit(Some("Caroline Smith"), []), 1.0);
        assert_eq!(query.fit(Some("Carol"), []), 0.0);
        assert_eq!(query.fit(Some("Mel"), ["mel", "caroline"]), 0.4);
        assert_eq!(query.fit(None, []), 0.0);
    }

    #[test]
    fn sentences_that_ask() {
        for (text, share) in [
            ("How are you?", 1.0),
            ("Fine. And you?", 0.5),
            ("Fine!", 0.0),
            ("", 0.0),
            ("元気ですか？はい。", 0.5),
            ("no end", 0.0),
        ] {
            assert_eq!(asks(text), share, "{text}");
        }
    }
}
