//! For people, in rustc's style.

use std::collections::BTreeSet;

use super::summary;
use crate::{
    finding::{View, Why},
    gate::Outcome,
};

pub(super) fn print(outcome: &Outcome, view: &View<'_>) -> String {
    let mut told = BTreeSet::new();
    let mut out = String::new();
    for (unit, finding) in outcome.findings() {
        let why = match told.insert(finding.rule) {
            true => Why::Told,
            false => Why::Known,
        };
        let view = View {
            hidden: &unit.hidden,
            ..*view
        };
        out.push_str(&finding.render(&unit.sources, &view, why));
        out.push_str("\n\n");
    }
    out.push_str("gate: ");
    out.push_str(&summary(outcome));
    if !told.is_empty() {
        out.push_str("; `agentflow explain RULE` says more");
    }
    out.push('\n');
    out
}
