//! Each format, as programs read it.

use std::path::{Path, PathBuf};

use agentflow_gate::{
    baseline::Baseline,
    compose::InMemory,
    finding::{Severity, View},
    gate::{self, Outcome, Request},
    print::{self, Format},
};
use serde_json::Value as Json;

/// Two projects: one with findings, one of which is in a file with an odd name.
const BAD: &str = "version: \"3\" # old
services:
  web:
    image: nginx
    command: [\"a|b\"]
    healthcheck:
      test: [CMD, curl, \"http://127.0.0.1/\"]
";

fn outcome(text: &str) -> Outcome {
    let files = InMemory::default()
        .with("/p/a b&%/compose.yaml", text)
        .with(
            "/p/good/compose.yaml",
            "services:\n  web:\n    image: nginx:1.29.3\n    image: x\n",
        );
    let request = Request {
        paths: vec![PathBuf::from("/p")],
        ..Request::default()
    };
    gate::run(&files, &request).expect("the folder is checked")
}

fn view() -> View<'static> {
    View {
        root: Some(Path::new("/p")),
        ..View::default()
    }
}

fn printed(format: Format) -> String {
    print::print(&outcome(BAD), &view(), format)
}

#[test]
fn sarif_is_valid_by_its_schema() {
    let schema: Json =
        serde_json::from_str(include_str!("schemas/sarif-2.1.0.json")).expect("it is JSON");
    let validator = jsonschema::validator_for(&schema).expect("it is a schema");
    let log: Json = serde_json::from_str(&printed(Format::Sarif)).expect("it is JSON");
    let errors: Vec<String> = validator
        .iter_errors(&log)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert_eq!(errors, Vec::<String>::new());
    // The schema does refuse something.
    let mut wrong = log.clone();
    wrong["runs"][0]["results"][0]["level"] = "bad".into();
    assert!(!validator.is_valid(&wrong));

    let results = log["runs"][0]["results"].as_array().expect("a list");
    let version = results
        .iter()
        .find(|it| it["ruleId"] == "AFC003")
        .expect("it is found");
    let place = &version["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "a%20b%26%25/compose.yaml");
    assert_eq!(place["region"]["startLine"], 1);
    assert_eq!(place["region"]["endColumn"], 13);
    let rules = log["runs"][0]["tool"]["driver"]["rules"]
        .as_array()
        .expect("a list");
    for result in results {
        let at = result["ruleIndex"].as_u64().expect("an index") as usize;
        assert_eq!(rules[at]["id"], result["ruleId"]);
    }
}

#[test]
fn json_tells_all_and_counts() {
    let all: Json = serde_json::from_str(&printed(Format::Json)).expect("it is JSON");
    assert_eq!(all["version"], 1);
    let findings = all["findings"].as_array().expect("a list");
    let errors = findings
        .iter()
        .filter(|it| it["severity"] == "error")
        .count();
    assert_eq!(all["errors"], errors);
    let version = findings
        .iter()
        .find(|it| it["rule"] == "AFC003")
        .expect("it is found");
    assert_eq!(version["name"], "no-version-field");
    assert_eq!(version["place"]["file"], "a b&%/compose.yaml");
    assert_eq!(version["fix"], "safe");
    let twice = findings
        .iter()
        .find(|it| it["rule"] == "AFC007")
        .expect("it is found");
    assert_eq!(twice["related"][0]["place"]["line"], 3);
}

#[test]
fn junit_is_well_formed() {
    let text = printed(Format::Junit);
    let outcome = outcome(BAD);
    let all = outcome.findings().count();
    assert!(text.contains(&format!(
        "<testsuites name=\"agentflow gate\" tests=\"{all}\" failures=\"{all}\">"
    )));
    assert_eq!(text.matches("<failure ").count(), all);
    assert_eq!(text.matches("<testsuite ").count(), 2);
    // Every tag that opens closes, and no bare `&` is left.
    let mut open = Vec::new();
    for tag in text.split('<').skip(1) {
        let (tag, rest) = tag.split_once('>').expect("a tag ends");
        assert!(!rest.contains('>'), "{rest}");
        match (
            tag.strip_prefix('/'),
            tag.ends_with('/') || tag.starts_with('?'),
        ) {
            (Some(name), _) => assert_eq!(open.pop(), Some(name)),
            (None, true) => {}
            (None, false) => open.push(tag.split(' ').next().expect("a name")),
        }
    }
    assert!(open.is_empty());
    for (at, _) in text.match_indices('&') {
        let entity = ["&amp;", "&lt;", "&gt;", "&quot;"];
        assert!(entity.iter().any(|it| text[at..].starts_with(it)));
    }
}

#[test]
fn github_gets_commands_worst_first() {
    let text = printed(Format::Github);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.contains(
            &"::error file=a b&%25/compose.yaml,line=1,endLine=1,col=1,endColumn=13,title=AFC003::\
              `version` is obsolete and ignored%0Aremove the line"
        ),
        "{text}"
    );
    let first_warning = lines.iter().position(|it| it.starts_with("::warning"));
    let last_error = lines.iter().rposition(|it| it.starts_with("::error"));
    assert!(last_error < first_warning, "{text}");
}

#[test]
fn markdown_is_a_table() {
    let text = printed(Format::Markdown);
    let rows: Vec<&str> = text.lines().filter(|it| it.starts_with('|')).collect();
    assert!(rows.len() > 3);
    for row in rows {
        let bars = row.matches('|').count() - row.matches("\\|").count();
        assert_eq!(bars, 6, "{row}");
    }
}

#[test]
fn a_baseline_knows_findings_wherever_their_lines_go() {
    let old = outcome(BAD);
    let written = Baseline::of(&old, &view()).write();
    let baseline = Baseline::read(&written).expect("it is a baseline");
    assert_eq!(baseline.write(), written);
    assert_eq!(baseline.len(), old.findings().count() as u64);
    // Lines move, one finding is new.
    let text = format!("# moved\n\n{BAD}    privileged: true\n");
    let mut new = outcome(&text);
    baseline.apply(&mut new, &view());
    let left: Vec<&str> = new.findings().map(|(_, it)| it.rule).collect();
    assert_eq!(left, ["AFC117"]);
    assert_eq!(new.known as u64, baseline.len());
    assert!(Baseline::read("{}").is_err());
    assert!(Baseline::read("{\"version\": 1, \"findings\": [{}]}").is_err());
}

#[test]
fn suppressed_findings_are_counted_not_told() {
    let text = BAD.replace(
        "# old",
        "# agentflow-gate: ignore AFC003 an old tool reads it",
    );
    let outcome = outcome(&text);
    assert_eq!(outcome.suppressed, 1);
    assert!(!outcome.findings().any(|(_, it)| it.rule == "AFC003"));
    assert_eq!(outcome.worst(), Some(Severity::Error));
}
