//! JUnit's XML: each target is a suite, each finding a failure; a target without any passes.

use super::Place;
use crate::{finding::View, gate::Outcome};

pub(super) fn print(outcome: &Outcome, view: &View<'_>) -> String {
    let failures: usize = outcome.units.iter().map(|unit| unit.findings.len()).sum();
    let tests: usize = outcome
        .units
        .iter()
        .map(|unit| unit.findings.len().max(1))
        .sum();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str(&format!(
        "<testsuites name=\"agentflow gate\" tests=\"{tests}\" failures=\"{failures}\">\n"
    ));
    for unit in &outcome.units {
        // A project is named by its first file, before which `.env` may have been read.
        let first = unit.compose.as_ref().and_then(|it| it.files.first());
        let first = first.map(|path| path.display().to_string());
        let named = first
            .as_deref()
            .or(unit.sources.file(0).map(|file| file.name.as_str()));
        let file = named.map_or("", |name| view.name(name));
        let name = escaped(file);
        let (tests, failures) = (unit.findings.len().max(1), unit.findings.len());
        out.push_str(&format!(
            "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\">\n"
        ));
        if unit.findings.is_empty() {
            out.push_str(&format!(
                "    <testcase classname=\"{name}\" name=\"all rules\"/>\n"
            ));
        }
        for finding in &unit.findings {
            let place = Place::of(unit, finding.span, view).map_or(String::new(), |at| at.text());
            out.push_str(&format!(
                "    <testcase classname=\"{name}\" name=\"{} {}\">\n      \
                 <failure type=\"{}\" message=\"{}\">{}: {}\n{}</failure>\n    </testcase>\n",
                finding.rule,
                escaped(&place),
                finding.severity.name(),
                escaped(&finding.message),
                escaped(&place),
                escaped(&finding.message),
                escaped(&finding.help),
            ));
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// Text for XML; what XML cannot hold becomes a question mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
