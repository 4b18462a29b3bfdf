//! Findings as people and programs read them.

mod github;
mod json;
mod junit;
mod markdown;
mod sarif;
mod text;

use crate::{
    finding::{Finding, Severity, View},
    gate::{Outcome, Unit},
};

/// How findings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// With the lines they are about, for people.
    #[default]
    Text,
    /// JSON of our own.
    Json,
    /// SARIF 2.1.0.
    Sarif,
    /// JUnit's XML.
    Junit,
    /// Commands of GitHub's workflows.
    Github,
    /// A table.
    Markdown,
}

/// Everything that was found.
pub fn print(outcome: &Outcome, view: &View<'_>, format: Format) -> String {
    match format {
        Format::Text => text::print(outcome, view),
        Format::Json => json::print(outcome, view),
        Format::Sarif => sarif::print(outcome, view),
        Format::Junit => junit::print(outcome, view),
        Format::Github => github::print(outcome, view),
        Format::Markdown => markdown::print(outcome, view),
    }
}

/// Where a finding is, in lines and columns from 1.
struct Place<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
}

impl<'a> Place<'a> {
    fn of(unit: &'a Unit, span: crate::source::Span, view: &View<'a>) -> Option<Self> {
        let file = unit.sources.file(span.file)?;
        let (line, column) = file.line_column(span.start);
        let (end_line, end_column) = file.line_column(span.end.max(span.start));
        Some(Self {
            file: view.name(&file.name),
            line,
            column,
            end_line,
            end_column,
        })
    }

    /// `file:line:column`.
    fn text(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.column)
    }
}

/// `2 errors, 1 warning in 3 files`.
fn summary(outcome: &Outcome) -> String {
    let many = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    };
    let mut text = format!(
        "{}, {}",
        many(outcome.count(Severity::Error), "error"),
        many(outcome.count(Severity::Warning), "warning"),
    );
    let notes = outcome.count(Severity::Note);
    if notes > 0 {
        text.push_str(&format!(", {}", many(notes, "note")));
    }
    text.push_str(&format!(" in {}", many(outcome.units.len(), "target")));
    if outcome.suppressed > 0 {
        text.push_str(&format!(", {} suppressed by comments", outcome.suppressed));
    }
    if outcome.known > 0 {
        text.push_str(&format!(", {} in the baseline", outcome.known));
    }
    text
}

/// Findings, worst first, then as they come.
fn worst_first(outcome: &Outcome) -> Vec<(&Unit, &Finding)> {
    let mut all: Vec<_> = outcome.findings().collect();
    all.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.severity));
    all
}
