//! Whatever people write is analysed without a panic, and within limits.

use agentflow_memory::{
    retrieval::{BM25, Candidate, Kind, Query, Weights, asks, near_miss, rank, stored_terms},
    text::{Interval, Language, Terms, entities, entities::MOST, intervals, question},
};
use jiff::civil::{Date, date};
use proptest::prelude::*;

const TODAY: Date = date(2026, 11, 27);

/// Any characters, and pieces that the rules look for.
fn texts() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "last",
        "week",
        "May",
        "2023",
        "2023-05-08",
        "a",
        "few",
        "ago",
        "'s",
        "Anna",
        "of",
        "the",
        "\"",
        "「",
        "」",
        "@",
        "_",
        ".",
        "://",
        "?",
        "！",
        "東京",
        "が",
        "ü",
        "e\u{301}",
        "8th",
        "99999",
        "next",
        "winter",
        "\n",
        " ",
    ]);
    let pieces = prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat());
    let spaced = prop::collection::vec("\\PC{0,12}", 0..12).prop_map(|words| words.join(" "));
    prop_oneof![".{0,80}", pieces, spaced]
}

proptest! {
    #[test]
    fn text_analysis_takes_anything(text in texts(), day in -3_000_000_i64..2_900_000) {
        let today = Date::ZERO.checked_add(jiff::ToSpan::days(day)).unwrap_or(TODAY);
        let language = Language::detect(&text, Language::English);
        let terms = Terms::of(&text, language);
        prop_assert!(terms.iter().all(|(_, count)| count > 0.0));
        let asked = question(&text, language);
        let mut once = asked.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), asked.len());
        // A text answers itself.
        prop_assert!(asked.is_empty() || terms.iter().any(|(term, _)| asked.contains(&term)));
        let found = entities(&text, language);
        prop_assert!(found.len() <= MOST);
        prop_assert!(found.iter().all(|entity| !entity.key.is_empty()));
        for Interval { from, until } in intervals(&text, today) {
            prop_assert!(from < until);
        }
        prop_assert!((0.0..=1.0).contains(&asks(&text)));
    }

    #[test]
    fn scores_are_shares_in_falling_order(
        texts in prop::collection::vec(texts(), 1..8),
        cosines in prop::collection::vec(prop::option::of(-1.0_f32..1.0), 8),
        sources in prop::collection::vec(prop::collection::vec(0_usize..10, 0..3), 8),
        asked in texts(),
    ) {
        let query = Query::read(&asked, Language::English, TODAY);
        let stored: Vec<_> = texts
            .iter()
            .map(|text| BM25.vector(&stored_terms(text, &[&asked], Some(TODAY), Language::English)))
            .collect();
        let candidates: Vec<_> = stored
            .iter()
            .enumerate()
            .map(|(place, terms)| Candidate {
                kind: Kind::Turn,
                dense: cosines[place],
                terms,
                entity: query.fit(Some("Anna"), ["tokyo"]),
                asks: asks(&texts[place]),
                session: (place % 3 > 0).then_some(place as u64 % 2),
                day: Some(TODAY),
                sources: &sources[place],
                decay: 1.0,
            })
            .collect();
        let ranked = rank(&query, 3, &candidates, &Weights::default());
        prop_assert_eq!(ranked.len(), candidates.len());
        for pair in ranked.windows(2) {
            prop_assert!(pair[0].score >= pair[1].score);
        }
        prop_assert!(ranked.iter().all(|hit| (0.0..=1.0).contains(&hit.score)));
        let last = ranked.len() - 1;
        let lost = near_miss(&ranked, last, last, 0.0);
        prop_assert_eq!(lost.is_some(), last > 0);
    }
}
