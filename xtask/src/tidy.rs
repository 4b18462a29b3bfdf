//! Rules about the code that the compiler does not know.

mod edges;
mod length;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Result, bail};

use crate::shell::{output, program, root};

/// Module names that say nothing.
const BANNED_MODULES: [&str; 6] = ["utils", "util", "common", "manager", "helpers", "misc"];

/// Text that belongs to one machine, not to the project. Written apart so that this file passes.
const FOREIGN: [&str; 3] = [
    concat!("/wo", "rk/"),
    concat!("/tmp/bash", "_jobs"),
    concat!(".lib", "rary/"),
];

/// Runs every rule and reports all findings.
pub fn run() -> Result<()> {
    let files = tracked()?;
    let mut findings = Vec::new();
    edges::check(&mut findings)?;
    length::check(&files, &mut findings)?;
    sources(&files, &mut findings)?;
    architecture(&mut findings)?;
    error_pages(&files, &mut findings)?;
    if findings.is_empty() {
        println!("tidy: {} files, no findings", files.len());
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    bail!("tidy: {} findings", findings.len());
}

/// Files of the project: tracked, and new ones that git does not ignore.
fn tracked() -> Result<Vec<String>> {
    let args = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let list = output(program("git").args(args))?;
    Ok(list
        .lines()
        .filter(|path| root().join(path).is_file())
        .map(str::to_owned)
        .collect())
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn sources(files: &[String], findings: &mut Vec<String>) -> Result<()> {
    for path in files {
        // Binary files hold no text of ours.
        let Ok(text) = fs::read_to_string(root().join(path)) else {
            continue;
        };
        if let Some(word) = FOREIGN.iter().find(|word| text.contains(**word))
            && !path.ends_with(".lock")
        {
            findings.push(format!("{path}: names a place of one machine: {word}"));
        }
        if !is_rust(path) {
            continue;
        }
        if !text.starts_with("//!") && !text.starts_with("#!") {
            findings.push(format!(
                "{path}: starts without a `//!` line that says what it is for"
            ));
        }
        let stem = Path::new(path)
            .file_stem()
            .and_then(|s| s.to_str())
            .unwrap_or_default();
        if BANNED_MODULES.contains(&stem) {
            findings.push(format!(
                "{path}: `{stem}` says nothing about what is inside"
            ));
        }
    }
    Ok(())
}

/// Paths in backticks in ARCHITECTURE.md exist.
fn architecture(findings: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    for (index, line) in text.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            let looks_like_path = quoted.contains('/')
                && !quoted.starts_with('/')
                && quoted
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if looks_like_path && !root().join(quoted).exists() {
                findings.push(format!(
                    "ARCHITECTURE.md:{}: {quoted} does not exist",
                    index + 1
                ));
            }
        }
    }
    Ok(())
}

/// Each error code has a page and a test, each page a producer.
fn error_pages(files: &[String], findings: &mut Vec<String>) -> Result<()> {
    let mut produced = BTreeSet::new();
    let mut tested = BTreeSet::new();
    for path in files
        .iter()
        .filter(|path| is_rust(path) && path.starts_with("crates/"))
    {
        let text = fs::read_to_string(root().join(path))?;
        let (code, tests) = match text.find("#[cfg(test)]") {
            _ if path.contains("/tests/") => ("", text.as_str()),
            Some(at) => text.split_at(at),
            None => (text.as_str(), ""),
        };
        produced.extend(codes(code));
        tested.extend(codes(tests));
    }
    // Files that tests read may name the code that they provoke.
    for path in files
        .iter()
        .filter(|path| path.contains("/tests/") && !is_rust(path))
    {
        if let Ok(text) = fs::read_to_string(root().join(path)) {
            tested.extend(codes(&text));
        }
    }
    let pages: BTreeSet<String> = files
        .iter()
        .filter_map(|path| path.strip_prefix("docs/errors/")?.strip_suffix(".md"))
        .filter(|name| name.starts_with("AF"))
        .map(str::to_owned)
        .collect();
    for code in produced.difference(&pages) {
        findings.push(format!("{code}: no page docs/errors/{code}.md"));
    }
    for code in pages.difference(&produced) {
        findings.push(format!(
            "docs/errors/{code}.md: nothing produces this error"
        ));
    }
    for code in produced.difference(&tested) {
        findings.push(format!("{code}: no test provokes this error"));
    }
    Ok(())
}

/// Error codes in a text: `AF` and four digits.
fn codes(text: &str) -> BTreeSet<String> {
    text.match_indices("AF")
        .filter_map(|(at, _)| text.get(at..at + 6))
        .filter(|code| code[2..].bytes().all(|b| b.is_ascii_digit()))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_project_is_tidy() {
        super::run().expect("findings are printed above");
    }

    #[test]
    fn codes_are_found_in_text() {
        let text = format!("see {}0101, not AFX101", "AF");
        assert_eq!(
            super::codes(&text).into_iter().collect::<Vec<_>>(),
            [format!("{}0101", "AF")]
        );
    }
}
