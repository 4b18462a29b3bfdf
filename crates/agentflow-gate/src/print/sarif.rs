//! SARIF 2.1.0, which code hosts show beside the code.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::Place;
use crate::{
    finding::{Finding, Severity, View},
    gate::{Outcome, Unit},
    rules::{RULES, Rule},
    source::Span,
};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

pub(super) fn print(outcome: &Outcome, view: &View<'_>) -> String {
    let used: BTreeSet<&str> = outcome.findings().map(|(_, it)| it.rule).collect();
    let rules: Vec<&Rule> = RULES.iter().filter(|it| used.contains(it.id)).collect();
    let results: Vec<Json> = outcome
        .findings()
        .map(|(unit, finding)| result(unit, finding, &rules, view))
        .collect();
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "agentflow-gate",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn level(severity: Severity) -> &'static str {
    severity.name()
}

fn descriptor(rule: &Rule) -> Json {
    json!({
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.title()},
        "fullDescription": {"text": rule.why()},
        "help": {"text": rule.page, "markdown": rule.page},
        "defaultConfiguration": {"level": level(rule.level.severity())},
        "properties": {"tags": ["infrastructure", rule.level.name()]},
    })
}

fn result(unit: &Unit, finding: &Finding, rules: &[&Rule], view: &View<'_>) -> Json {
    let text = match finding.help.is_empty() {
        true => finding.message.clone(),
        false => format!("{}; {}", finding.message, finding.help),
    };
    let location = |span: Span, label: Option<&str>| {
        Place::of(unit, span, view).map(|at| {
            let mut location = json!({"physicalLocation": {
                "artifactLocation": {"uri": uri(at.file)},
                "region": {
                    "startLine": at.line, "startColumn": at.column,
                    "endLine": at.end_line, "endColumn": at.end_column,
                },
            }});
            if let Some(label) = label {
                location["message"] = json!({"text": label});
            }
            location
        })
    };
    let related = finding.related.iter();
    let mut result = json!({
        "ruleId": finding.rule,
        "level": level(finding.severity),
        "message": {"text": text},
        "locations": location(finding.span, None).into_iter().collect::<Vec<_>>(),
        "relatedLocations": related
            .filter_map(|(span, label)| location(*span, Some(label)))
            .collect::<Vec<_>>(),
        "partialFingerprints": {"rulePath/v1": format!("{}:{}", finding.rule, finding.path)},
    });
    if let Some(at) = rules.iter().position(|rule| rule.id == finding.rule) {
        result["ruleIndex"] = json!(at);
    }
    result
}

/// A path as a reference: what is not plain is written in hexadecimal.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
