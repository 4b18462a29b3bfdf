//! JSON of our own; `version` grows when a field changes its meaning.

use serde_json::{Value as Json, json};

use super::Place;
use crate::{
    finding::{Severity, View},
    gate::Outcome,
    rules,
};

/// The version of the format.
const VERSION: u64 = 1;

pub(super) fn print(outcome: &Outcome, view: &View<'_>) -> String {
    let findings: Vec<Json> = outcome
        .findings()
        .map(|(unit, finding)| {
            let place = |span| {
                Place::of(unit, span, view).map(|at| {
                    json!({
                        "file": at.file, "line": at.line, "column": at.column,
                        "end_line": at.end_line, "end_column": at.end_column,
                    })
                })
            };
            let related: Vec<Json> = finding
                .related
                .iter()
                .map(|(span, label)| json!({"message": label, "place": place(*span)}))
                .collect();
            let rule = rules::find(finding.rule);
            json!({
                "rule": finding.rule,
                "name": rule.map(|it| it.name),
                "severity": finding.severity.name(),
                "message": finding.message,
                "help": finding.help,
                "path": finding.path,
                "place": place(finding.span),
                "related": related,
                "fix": finding.fix.as_ref().map(|fix| fix.safety.name()),
            })
        })
        .collect();
    let all = json!({
        "version": VERSION,
        "findings": findings,
        "errors": outcome.count(Severity::Error),
        "warnings": outcome.count(Severity::Warning),
        "notes": outcome.count(Severity::Note),
        "suppressed": outcome.suppressed,
        "baseline": outcome.known,
        "targets": outcome.units.len(),
    });
    format!("{all:#}\n")
}
