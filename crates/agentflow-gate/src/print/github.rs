//! Commands of GitHub's workflows, which show findings beside the lines of a pull request. Only the
//! first ten of a step are shown there, so the worst come first.

use super::{Place, summary, worst_first};
use crate::{
    finding::{Severity, View},
    gate::Outcome,
};

pub(super) fn print(outcome: &Outcome, view: &View<'_>) -> String {
    let mut out = String::new();
    for (unit, finding) in worst_first(outcome) {
        let verb = match finding.severity {
            Severity::Note => "notice",
            other => other.name(),
        };
        let place = Place::of(unit, finding.span, view).map_or(String::new(), |at| {
            // A column says something only within one line.
            let columns = match at.line == at.end_line {
                true => format!(",col={},endColumn={}", at.column, at.end_column),
                false => String::new(),
            };
            let file = property(at.file);
            format!(
                "file={file},line={},endLine={}{columns},",
                at.line, at.end_line
            )
        });
        let text = match finding.help.is_empty() {
            true => finding.message.clone(),
            false => format!("{}\n{}", finding.message, finding.help),
        };
        out.push_str(&format!(
            "::{verb} {place}title={}::{}\n",
            finding.rule,
            data(&text)
        ));
    }
    out.push_str(&format!("gate: {}\n", summary(outcome)));
    out
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
