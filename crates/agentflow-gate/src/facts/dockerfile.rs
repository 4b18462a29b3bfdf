//! Dockerfiles as lists of instructions.

use super::Setting;
use crate::source::{Sources, Span};

/// One instruction, its continued lines joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Its name in capitals, as `FROM`.
    pub name: String,
    /// What follows, in one line.
    pub arguments: String,
    /// From its name to its end.
    pub span: Span,
}

impl Instruction {
    /// The variables that `ENV` and `ARG` set.
    pub(super) fn settings(&self) -> Vec<Setting> {
        if !matches!(self.name.as_str(), "ENV" | "ARG") {
            return Vec::new();
        }
        let old_form = self.name == "ENV"
            && self
                .arguments
                .split_whitespace()
                .next()
                .is_some_and(|first| !first.contains('='));
        let pairs: Vec<(&str, &str)> = match old_form {
            true => self
                .arguments
                .split_once(char::is_whitespace)
                .into_iter()
                .collect(),
            false => self
                .arguments
                .split_whitespace()
                .filter_map(|word| word.split_once('='))
                .collect(),
        };
        pairs
            .into_iter()
            .map(|(name, value)| {
                let value = value.trim().trim_matches(['"', '\'']);
                Setting {
                    owner: String::new(),
                    name: name.to_owned(),
                    value: value.to_owned(),
                    literal: !value.contains('$'),
                    key: self.span,
                    span: self.span,
                    path: format!("{}.{name}", self.name),
                }
            })
            .collect()
    }
}

/// What continues a line: a comment at the top may name another sign.
fn escape(text: &str) -> char {
    let mut top = text.lines().take_while(|line| line.starts_with('#'));
    match top.any(|line| line.to_ascii_lowercase().replace(' ', "") == "#escape=`") {
        true => '`',
        false => '\\',
    }
}

/// The line that ends a text that begins with these arguments.
fn end_of_heredoc(arguments: &str) -> Option<String> {
    let (_, word) = arguments.split_once("<<")?;
    let word = word.trim_start_matches(['-', '"', '\'']).chars();
    let word: String = word
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    Some(word).filter(|word| !word.is_empty())
}

/// Every instruction. Here-documents are passed over.
pub(super) fn read(sources: &Sources, file: u32) -> Vec<Instruction> {
    let text = sources.file(file).map_or("", |it| it.text.as_str());
    let escape = escape(text);
    let mut found: Vec<Instruction> = Vec::new();
    let mut open: Option<Instruction> = None;
    let mut heredoc: Option<String> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let at = start;
        start += line.len();
        let body = line.trim();
        if let Some(end) = &heredoc {
            if body == end {
                heredoc = None;
            }
            continue;
        }
        if body.starts_with('#') || body.is_empty() {
            continue;
        }
        let (body, goes_on) = match body.strip_suffix(escape) {
            Some(body) => (body.trim_end(), true),
            None => (body, false),
        };
        let end = (at + line.trim_end().len()) as u32;
        let mut instruction = match open.take() {
            Some(mut before) => {
                before.arguments.push(' ');
                before.arguments.push_str(body);
                before.span.end = end;
                before
            }
            None => {
                let (name, rest) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
                let begin = at + line.len() - line.trim_start().len();
                Instruction {
                    name: name.to_ascii_uppercase(),
                    arguments: rest.trim().to_owned(),
                    span: Span {
                        file,
                        start: begin as u32,
                        end,
                    },
                }
            }
        };
        if goes_on {
            open = Some(instruction);
            continue;
        }
        heredoc = end_of_heredoc(&instruction.arguments);
        instruction.arguments = instruction.arguments.trim().to_owned();
        found.push(instruction);
    }
    found.extend(open);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_go_on_are_one_instruction() {
        let text = "# syntax\nfrom a AS b\nRUN x \\\n  # why\n  && y\nRUN <<EOF\nUSER z\nEOF\nENV A=1 B=\"2\"\nENV C d e\n";
        let mut sources = Sources::default();
        let file = sources.add("Dockerfile", text.to_owned());
        let found = read(&sources, file);
        let shown: Vec<(&str, &str)> = found
            .iter()
            .map(|it| (it.name.as_str(), it.arguments.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("FROM", "a AS b"),
                ("RUN", "x && y"),
                ("RUN", "<<EOF"),
                ("ENV", "A=1 B=\"2\""),
                ("ENV", "C d e")
            ]
        );
        let set: Vec<(String, String)> = found
            .iter()
            .flat_map(Instruction::settings)
            .map(|it| (it.name, it.value))
            .collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(set, [pair("A", "1"), pair("B", "2"), pair("C", "d e")]);
    }
}
