//! Length of functions and files. Known offenders may shrink, never grow.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};

use crate::shell::root;

/// Most lines of a function, signature and braces included.
const FUNCTION: usize = 70;
/// Most lines of a file, tests not counted.
const FILE: usize = 600;
/// Known offenders and their lengths.
const RATCHET: &str = "xtask/ratchet.toml";

/// Reports what is too long.
pub fn check(files: &[String], findings: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root().join(RATCHET)).unwrap_or_default();
    let known: BTreeMap<String, usize> = toml::from_str(&text).context(RATCHET)?;
    let mut seen = BTreeMap::new();
    for path in files
        .iter()
        .filter(|path| path.ends_with(".rs") && !path.contains("/tests/"))
    {
        let text = fs::read_to_string(root().join(path))?;
        let lines = production(&text);
        if lines.len() > FILE {
            seen.insert(path.clone(), (lines.len(), FILE));
        }
        for (name, length) in functions(&lines) {
            if length > FUNCTION {
                seen.insert(format!("{path}::{name}"), (length, FUNCTION));
            }
        }
    }
    for (place, (length, limit)) in &seen {
        match known.get(place) {
            Some(allowed) if length <= allowed => {}
            Some(allowed) => {
                findings.push(format!("{place}: grew from {allowed} to {length} lines"))
            }
            None => findings.push(format!("{place}: {length} lines, {limit} are allowed")),
        }
    }
    for place in known.keys().filter(|place| !seen.contains_key(*place)) {
        findings.push(format!("{RATCHET}: {place} is short now; remove the entry"));
    }
    Ok(())
}

/// The lines of a file without its test modules.
fn production(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens = lines
            .peek()
            .is_some_and(|next| next.trim_start().starts_with("mod ") && next.ends_with('{'));
        if line.trim() == "#[cfg(test)]" && opens {
            let indent = indentation(line);
            lines
                .by_ref()
                .find(|line| line.trim() == "}" && indentation(line) == indent);
        } else {
            out.push(line);
        }
    }
    out
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Functions with their lengths, found by indentation; good for code that rustfmt wrote.
fn functions(lines: &[&str]) -> Vec<(String, usize)> {
    let mut out = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = indentation(line);
        let end = lines[start..].iter().position(|line| {
            indentation(line) == indent
                && (line.trim_end().ends_with('}') || line.trim_end().ends_with(';'))
        });
        if let Some(end) = end {
            out.push((name.to_owned(), end + 1));
        }
    }
    out
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    for word in [
        "pub(crate) ",
        "pub(super) ",
        "pub ",
        "const ",
        "async ",
        "unsafe ",
    ] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_and_tests_are_not() {
        let text = "fn a() {\n    x();\n}\n\npub async fn b(\n    c: u8,\n) {\n}\n\
                    #[cfg(test)]\nmod tests {\n    fn c() {\n    }\n}\n";
        let lines = production(text);
        assert_eq!(
            functions(&lines),
            [("a".to_owned(), 3), ("b".to_owned(), 4)]
        );
    }
}
