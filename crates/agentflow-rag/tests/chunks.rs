//! What is true of chunks of any text, and what becomes of some.
#![allow(clippy::unwrap_used)]

use std::ops::Range;

use agentflow_rag::{
    Declared, Limits, Parsed, chunk,
    chunk::{Settings, Strategy as Cutting, cut, tokens},
    parse,
};
use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation;

const ALL: [Cutting; 6] = [
    Cutting::Recursive,
    Cutting::Character,
    Cutting::Sentence,
    Cutting::Token,
    Cutting::Basic,
    Cutting::ByTitle,
];

fn settings(strategy: Cutting, size: usize, overlap: usize) -> Settings {
    Settings {
        strategy,
        chunk_size: size,
        chunk_overlap: overlap,
        max_characters: size,
        new_after_n_chars: size / 2,
        combine_under_n_chars: size / 4,
        overlap,
        ..Settings::default()
    }
}

/// Checks what is true of all ranges.
fn check(text: &str, settings: &Settings, ranges: &[Range<usize>]) {
    let starts: Vec<usize> = text.grapheme_indices(true).map(|(at, _)| at).collect();
    let whole = |at: usize| at == text.len() || starts.binary_search(&at).is_ok();
    let mut done = 0;
    for (number, range) in ranges.iter().enumerate() {
        assert!(
            whole(range.start) && whole(range.end),
            "{range:?} is inside a grapheme"
        );
        assert!(
            range.start <= done,
            "{done}..{} is in no chunk",
            range.start
        );
        assert!(
            range.end > done,
            "chunk {number} goes on: {range:?} after {done}"
        );
        if number > 0 {
            let before = &ranges[number - 1];
            assert!(
                range.start > before.start,
                "{range:?} begins behind {before:?}"
            );
        }
        let piece = &text[range.clone()];
        let (size, limit) = match settings.strategy {
            Cutting::Token => (tokens::count(piece), settings.chunk_size),
            Cutting::Basic | Cutting::ByTitle => (piece.chars().count(), settings.max_characters),
            _ => (piece.chars().count(), settings.chunk_size),
        };
        // One grapheme may be larger than a chunk; it still stays whole.
        let one = piece.graphemes(true).count() == 1;
        let repeated = &text[range.start..done];
        let new = text[done..range.end].graphemes(true).count() == 1;
        assert!(
            size <= limit || one || new,
            "{size} of {limit}: {piece:?} repeats {repeated:?}"
        );
        if settings.strategy != Cutting::Token {
            let most = match settings.strategy {
                Cutting::Basic | Cutting::ByTitle => settings.overlap,
                _ => settings.chunk_overlap,
            };
            assert!(
                repeated.chars().count() <= most,
                "{repeated:?} is over {most}"
            );
        }
        done = range.end;
    }
    assert_eq!(done, text.len(), "the end is in a chunk");
}

/// Pieces of texts that are hard to cut.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        "[a-z]{1,12} ",
        "[A-Z][a-z]{1,8}[.!?] ",
        Just("\n".to_owned()),
        Just("\n\n".to_owned()),
        Just(" \u{301}".to_owned()),
        Just("e\u{301}\u{302}".to_owned()),
        Just("👩‍👩‍👧‍👦".to_owned()),
        Just("🇩🇪🇫🇷".to_owned()),
        Just("港の朝は早い。".to_owned()),
        Just("「どこ？」".to_owned()),
        Just("안녕하세요. ".to_owned()),
        Just("เรือมาแล้ว ".to_owned()),
        Just("क्षत्रिय। ".to_owned()),
        Just("\r\n".to_owned()),
        Just("Dr. ".to_owned()),
        Just(" | ".to_owned()),
        "\\PC{1,6}",
    ];
    prop::collection::vec(pieces, 0..80).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_character_is_in_a_chunk_and_no_grapheme_in_two_halves(
        text in text(),
        size in 1_usize..120,
        part in 0_usize..100,
        strategy in prop::sample::select(ALL.to_vec()),
    ) {
        let settings = settings(strategy, size, size * part / 100);
        let ranges = cut(&text, &settings).unwrap();
        check(&text, &settings, &ranges);
    }

    #[test]
    fn chunks_of_documents_hold_all_that_can_be_read(
        text in text(),
        strategy in prop::sample::select(ALL.to_vec()),
    ) {
        let declared = Declared::named("a.md");
        if let Ok(document) = parse(text.as_bytes(), &declared, &Limits::default()) {
            let whole = document.text();
            let chunks = chunk(&document, &settings(strategy, 60, 20)).unwrap();
            let mut seen = vec![false; whole.len()];
            for chunk in &chunks {
                prop_assert_eq!(&whole[chunk.bytes.clone()], &chunk.text);
                prop_assert!(!chunk.text.trim().is_empty());
                seen[chunk.bytes.clone()].fill(true);
            }
            for (at, c) in whole.char_indices() {
                prop_assert!(seen[at] || c.is_whitespace(), "{c:?} at {at} is in no chunk");
            }
        }
    }
}

fn pieces(text: &str, settings: &Settings) -> Vec<String> {
    let ranges = cut(text, settings).unwrap();
    check(text, settings, &ranges);
    ranges
        .into_iter()
        .map(|range| text[range].to_owned())
        .collect()
}

#[test]
fn defaults_are_those_of_r2r() {
    let settings: Settings = serde_json::from_value(serde_json::json!({
        "provider": "r2r", "chunking_strategy": "recursive", "excluded_parsers": ["mp4"],
    }))
    .unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!((settings.chunk_size, settings.chunk_overlap), (1_024, 512));
    assert_eq!(
        (settings.new_after_n_chars, settings.max_characters),
        (2_048, 4_096)
    );
    let by_title: Settings =
        serde_json::from_value(serde_json::json!({"chunking_strategy": "by_title"})).unwrap();
    assert_eq!(by_title.strategy, Cutting::ByTitle);
}

#[test]
fn settings_that_cannot_be_met_are_told() {
    for (settings, message) in [
        (settings(Cutting::Recursive, 0, 0), "no size"),
        (settings(Cutting::Token, 10, 10), "all of their size"),
        (settings(Cutting::ByTitle, 10, 11), "all of their size"),
        (
            Settings {
                strategy: Cutting::Character,
                separator: String::new(),
                ..Settings::default()
            },
            "separator is empty",
        ),
    ] {
        assert!(
            cut("a", &settings)
                .unwrap_err()
                .to_string()
                .contains(message)
        );
    }
    let many = cut(&"a ".repeat(110_000), &settings(Cutting::Recursive, 1, 0));
    assert!(many.unwrap_err().to_string().contains("too many chunks"));
}

#[test]
fn a_chunk_ends_at_the_best_place_that_leaves_it_well_filled() {
    let text = "One two three. Four five.\n\nSix seven eight nine. Ten eleven twelve.";
    assert_eq!(
        pieces(text, &settings(Cutting::Recursive, 30, 0)),
        [
            "One two three. Four five.\n\n",
            "Six seven eight nine. ",
            "Ten eleven twelve."
        ]
    );
    // What is repeated begins with a sentence.
    assert_eq!(
        pieces(
            "Aa bb. Cc dd. Ee ff. Gg hh.",
            &settings(Cutting::Recursive, 14, 8)
        ),
        ["Aa bb. Cc dd. ", "Cc dd. Ee ff. ", "Ee ff. Gg hh."]
    );
}

#[test]
fn sentences_stay_whole() {
    let text = "Dr. Ott came. She left at 3 p.m. on Monday. Nobody saw her go away again.";
    assert_eq!(
        pieces(text, &settings(Cutting::Sentence, 45, 0)),
        [
            "Dr. Ott came. She left at 3 p.m. on Monday. ",
            "Nobody saw her go away again."
        ]
    );
    assert_eq!(
        pieces(
            "港の朝は早い。船が三隻、沖へ出る。歌う。",
            &settings(Cutting::Sentence, 10, 0)
        ),
        ["港の朝は早い。", "船が三隻、沖へ出る。", "歌う。"]
    );
}

#[test]
fn tokens_are_counted() {
    let text = "The harbour is quiet and the gulls are gone. ".repeat(200);
    let chunks = pieces(&text, &settings(Cutting::Token, 50, 10));
    assert!(chunks.iter().all(|chunk| tokens::count(chunk) <= 50));
    let filled = chunks
        .iter()
        .filter(|chunk| tokens::count(chunk) >= 40)
        .count();
    assert!(
        filled + 1 >= chunks.len(),
        "{filled} of {} are well filled",
        chunks.len()
    );
}

fn document(name: &str, text: &str) -> Parsed {
    parse(text.as_bytes(), &Declared::named(name), &Limits::default()).unwrap()
}

#[test]
fn chunks_know_where_they_are() {
    let document = document(
        "a.md",
        "# Harbour\n\nShips come and go.\n\n## Berths\n\nOne is for ferries.\n\n## Fees\n\nNone.",
    );
    let by_title = Settings {
        strategy: Cutting::ByTitle,
        combine_under_n_chars: 0,
        ..Settings::default()
    };
    let chunks = chunk(&document, &by_title).unwrap();
    let shown: Vec<(&str, String)> = chunks
        .iter()
        .map(|chunk| (chunk.text.trim(), chunk.place.headings.join(" > ")))
        .collect();
    assert_eq!(
        shown,
        [
            ("Harbour\n\nShips come and go.", String::new()),
            ("Berths\n\nOne is for ferries.", "Harbour".into()),
            ("Fees\n\nNone.", "Harbour".into()),
        ]
    );
    let together = Settings {
        combine_under_n_chars: 1_000,
        ..by_title
    };
    assert_eq!(chunk(&document, &together).unwrap().len(), 1);
}

#[test]
fn rows_and_pages_are_kept() {
    let rows: String = (1..=100).map(|row| format!("row,{row}\n")).collect();
    let chunks = chunk(
        &document("a.csv", &rows),
        &settings(Cutting::Recursive, 100, 0),
    )
    .unwrap();
    let mut next = 1;
    for chunk in &chunks {
        assert_eq!(chunk.place.row, Some(next));
        assert!(
            chunk
                .text
                .trim_start()
                .starts_with(&format!("row | {next}\n"))
        );
        let last = chunk.last_row.unwrap();
        assert!(chunk.text.trim_end().ends_with(&format!("row | {last}")));
        next = last + 1;
    }
    assert_eq!(next, 101);

    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let bytes = std::fs::read(folder.join("rules.pdf")).unwrap();
    let document = parse(&bytes, &Declared::default(), &Limits::default()).unwrap();
    let chunks = chunk(&document, &Settings::default()).unwrap();
    let [whole] = &chunks[..] else {
        panic!("{} chunks", chunks.len());
    };
    assert_eq!((whole.place.page, whole.last_page), (Some(1), Some(3)));
}

#[test]
fn texts_without_end_are_cut_in_time_that_grows_with_them() {
    for unit in ["a", "あ", " ", "\n", "1. ", "a\u{301}", "🇩🇪", ".", "「"] {
        let text = unit.repeat((1 << 18) / unit.len());
        for strategy in [Cutting::Recursive, Cutting::Sentence, Cutting::Token] {
            let ranges = cut(&text, &settings(strategy, 1_024, 512)).unwrap();
            assert_eq!(ranges.last().unwrap().end, text.len());
        }
    }
    // One grapheme without end.
    let text = format!("a{}b", "\u{301}".repeat(10_000));
    let ranges = cut(&text, &settings(Cutting::Recursive, 100, 50)).unwrap();
    check(&text, &settings(Cutting::Recursive, 100, 50), &ranges);
}

#[test]
fn cases_that_were_wrong_once() {
    // A word that has more tokens by itself than behind a space.
    pieces("안녕하세요. baa ", &settings(Cutting::Token, 1, 0));
    // A mark that is a word of its own and joins the grapheme behind it.
    let text = "\u{11a84}👩\u{200d}👩\u{200d}👧\u{200d}👦";
    assert_eq!(pieces(text, &settings(Cutting::Recursive, 1, 0)), [text]);
}
