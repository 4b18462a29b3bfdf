//! Files of every kind, and the text that comes out of each.
//!
//! `AGENTFLOW_BLESS=1` writes what is expected; read the difference before you commit it.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use agentflow_rag::{Declared, Kind, Limits, Parsed, Refusal, parse};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files")
}

/// What people would want to know of a document, a line each.
fn shown(outcome: &Result<Parsed, Refusal>) -> String {
    let mut text = String::new();
    let parsed = match outcome {
        Ok(parsed) => parsed,
        Err(refusal) => return format!("refused: {refusal}\n"),
    };
    let mut line = |label: &str, value: Option<String>| {
        if let Some(value) = value {
            writeln!(text, "{label}: {value}").unwrap();
        }
    };
    line("kind", Some(parsed.kind.to_string()));
    line("title", parsed.title.clone());
    line("encoding", parsed.encoding.clone());
    line("pages", parsed.pages.map(|pages| pages.to_string()));
    for (name, value) in &parsed.facts {
        line(name, Some(value.clone()));
    }
    for warning in &parsed.warnings {
        line("warning", Some(warning.clone()));
    }
    for block in &parsed.blocks {
        let place = &block.place;
        let mut at = Vec::new();
        at.extend(place.page.map(|page| format!("page {page}")));
        at.extend(place.slide.map(|slide| format!("slide {slide}")));
        at.extend(place.sheet.clone());
        at.extend(place.row.map(|row| format!("row {row}")));
        at.extend(place.start_ms.map(|start| format!("{start} ms")));
        at.extend(place.attachment.clone());
        at.extend(place.headings.iter().cloned());
        let mark = if block.heading { "#" } else { "-" };
        writeln!(text, "\n{mark} {}\n{}", at.join(" > "), block.text).unwrap();
    }
    text
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    names.sort();
    names
}

#[test]
fn every_file_gives_the_text_that_is_in_it() {
    let mut kinds = BTreeSet::new();
    let names = names();
    for name in &names {
        let bytes = fs::read(folder().join(name)).unwrap();
        let outcome = parse(&bytes, &Declared::named(name), &Limits::default());
        if let Ok(parsed) = &outcome {
            kinds.insert(parsed.kind);
        }
        let text = shown(&outcome);
        let path = folder().join("expected").join(format!("{name}.txt"));
        if std::env::var_os("AGENTFLOW_BLESS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            text, wanted,
            "{name}: is it right? AGENTFLOW_BLESS=1 writes it"
        );
    }
    assert!(names.len() >= 40, "{} files", names.len());
    let readable = Kind::all().filter(|kind| !kind.needs_model());
    // Nothing here writes the binary form of workbooks; `compound.rs` writes messages and slides.
    let missing: Vec<Kind> = readable
        .filter(|kind| !kinds.contains(kind) && ![Kind::Xlsb, Kind::Msg, Kind::Ppt].contains(kind))
        .collect();
    assert!(missing.is_empty(), "no file of {missing:?}");
}

#[test]
fn the_content_decides_without_a_name() {
    for name in names() {
        let bytes = fs::read(folder().join(&name)).unwrap();
        let named = parse(&bytes, &Declared::named(&name), &Limits::default());
        let Ok(named) = named else { continue };
        if named.kind.is_textual() {
            continue;
        }
        let bare = parse(&bytes, &Declared::default(), &Limits::default()).unwrap();
        assert_eq!(
            (bare.kind, bare.text()),
            (named.kind, named.text()),
            "{name}"
        );
    }
}
