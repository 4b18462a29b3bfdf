//! A table for comments and reports.

use super::{Place, summary, worst_first};
use crate::{finding::View, gate::Outcome};

pub(super) fn print(outcome: &Outcome, view: &View<'_>) -> String {
    let mut out = format!("**gate:** {}\n", summary(outcome));
    let all = worst_first(outcome);
    if !all.is_empty() {
        out.push_str("\n| | rule | place | finding | what to do |\n|---|---|---|---|---|\n");
    }
    for (unit, finding) in all {
        let place = Place::of(unit, finding.span, view).map_or(String::new(), |at| at.text());
        out.push_str(&format!(
            "| {} | {} | {} | {} | {} |\n",
            finding.severity.name(),
            finding.rule,
            cell(&place),
            cell(&finding.message),
            cell(&finding.help),
        ));
    }
    out
}

/// Text in one cell. Backticks stay: our messages use them as Markdown does.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('<', "&lt;")
        .replace(['\n', '\r'], " ")
}
