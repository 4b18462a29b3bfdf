//! Each kind of mistake: what is said, and where.
//!
//! The files under `tests/bad` end in comments that begin with `#!`: every diagnostic of the
//! file, in order, as `line:column: message (help) [code]`.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{fs, path::PathBuf};

use agentflow_declarative::{Colour, Diagnostics, Environment, codes, load};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/bad")
}

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

fn lines(found: &Diagnostics) -> Vec<String> {
    found
        .iter()
        .map(|one| {
            let (line, column) = one.line_column();
            let help = one
                .help
                .as_ref()
                .map_or(String::new(), |help| format!(" ({help})"));
            format!("{line}:{column}: {}{help} [{}]", one.message, one.code)
        })
        .collect()
}

#[test]
fn every_mistake_is_found_where_it_is() {
    let mut wrong = String::new();
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        let wanted: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("#! "))
            .collect();
        let found = match load(&path, &Environment::default()) {
            Ok(_) => Vec::new(),
            Err(found) => lines(&found),
        };
        if found != wanted {
            wrong += &format!("== {}\n", path.file_name().unwrap().to_string_lossy());
            found
                .iter()
                .for_each(|line| wrong += &format!("#! {line}\n"));
        }
    }
    assert!(wrong.is_empty(), "found:\n{wrong}");
}

#[test]
fn every_code_has_a_file_a_page_and_a_place_in_it() {
    let files = files();
    let pages = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    // A graph that the library refuses although every part is right is not known.
    let without_file = [codes::REFUSED, codes::UNREADABLE];
    for code in codes::ALL {
        let page = fs::read_to_string(pages.join(format!("{code}.md")))
            .unwrap_or_else(|error| panic!("{code} has no page: {error}"));
        for part in ["# ", "## What happened", "## Why", "## What to do"] {
            assert!(
                page.lines().any(|line| line.starts_with(part)),
                "{code}: no `{part}`"
            );
        }
        let has_file = files.iter().any(|path| {
            let text = fs::read_to_string(path).unwrap();
            text.lines()
                .any(|line| line.starts_with("#! ") && line.contains(&format!("[{code}]")))
        });
        assert!(
            has_file || without_file.contains(code),
            "{code} has no bad file"
        );
    }
}

#[test]
fn a_report_looks_like_those_of_rustc() {
    let found = load(
        folder().join("AF0120_unknown_in_template.yaml"),
        &Environment::default(),
    );
    let report = found.unwrap_err().render(Colour::Plain);
    let report = report.replace(&format!("{}/", folder().display()), "");
    let want = "\
error[AF0120]: unknown variable `nmae`
 --> AF0120_unknown_in_template.yaml:8:10
  |
8 |       {{ nmae }}.
  |          ^
  |
  = help: did you mean `name`?";
    assert_eq!(report, want);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let found = load("nowhere/x.yaml", &Environment::default()).unwrap_err();
    let one = found.iter().next().unwrap();
    assert_eq!(
        (one.code, one.location().as_str()),
        (codes::UNREADABLE, "nowhere/x.yaml:1:1")
    );
    let error: agentflow_types::Error = found.into();
    assert_eq!(error.error_code(), Some("AF0130"));
}
