//! Files of variables, with places.

use super::Setting;
use crate::source::{Sources, Span};

/// Each `NAME=value`. Values are as written, without quotes.
pub(super) fn settings(sources: &Sources, file: u32) -> Vec<Setting> {
    let text = sources.file(file).map_or("", |it| it.text.as_str());
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(setting) = one(line, start, file) {
            found.push(setting);
        }
        start += line.len();
    }
    found
}

fn one(line: &str, start: usize, file: u32) -> Option<Setting> {
    let trimmed = line.trim_start();
    let blank = line.len() - trimmed.len();
    let (offset, rest) = match trimmed.strip_prefix("export ") {
        Some(rest) => (blank + "export ".len(), rest),
        None => (blank, trimmed),
    };
    let (name, value) = rest.split_once('=')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if name.is_empty() || !name.trim_end().chars().all(is_name) {
        return None;
    }
    let from = offset + name.len() + 1;
    let raw = value.trim();
    let lead = value.len() - value.trim_start().len();
    let quote = raw.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = match quote {
        Some(quote) => raw[1..].split(quote).next().unwrap_or_default(),
        None => raw.split(" #").next().unwrap_or_default().trim_end(),
    };
    let begin = start + from + lead + usize::from(quote.is_some());
    let place = |from: usize, to: usize| Span {
        file,
        start: from as u32,
        end: to as u32,
    };
    let name = name.trim_end();
    Some(Setting {
        owner: String::new(),
        name: name.to_owned(),
        value: inner.to_owned(),
        literal: quote == Some('\'') || !inner.contains('$'),
        key: place(start + offset, start + offset + name.len()),
        span: place(begin, begin + inner.len()),
        path: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_have_places() {
        let text = "# a\nexport A = \"b c\" # d\nB='$x'\nC=e # f\n=g\n";
        let mut sources = Sources::default();
        let file = sources.add("e", text.to_owned());
        let found = settings(&sources, file);
        let shown: Vec<(&str, Option<&str>, &str, bool)> = found
            .iter()
            .map(|it| {
                (
                    sources.text(it.key).unwrap_or("?"),
                    sources.text(it.span),
                    it.value.as_str(),
                    it.literal,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("A", Some("b c"), "b c", true),
                ("B", Some("$x"), "$x", true),
                ("C", Some("e"), "e", true)
            ]
        );
    }
}
