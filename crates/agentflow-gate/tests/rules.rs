//! The page of each rule holds a bad and a good file; what they claim is run here.

use std::{collections::BTreeSet, path::PathBuf};

use agentflow_gate::{
    compose::{self, InMemory, Loaded, Request},
    finding::{Colour, Finding, Severity},
    rules::{self, RULES},
};

fn load(text: &str) -> Loaded {
    let files = InMemory::default().with("/p/compose.yaml", text);
    let request = Request {
        files: vec![PathBuf::from("/p/compose.yaml")],
        ..Request::default()
    };
    compose::load(&files, &request)
}

fn found(text: &str) -> BTreeSet<&'static str> {
    rules::check(&load(text))
        .iter()
        .map(|finding| finding.rule)
        .collect()
}

/// The YAML of a section of a page.
fn example<'a>(page: &'a str, section: &str) -> &'a str {
    let part = page
        .split(&format!("\n## {section}\n"))
        .nth(1)
        .expect("the page has the section");
    let block = part
        .split("```yaml\n")
        .nth(1)
        .expect("the section has a file");
    block.split("```").next().expect("the file ends")
}

#[test]
fn bad_files_are_found_and_good_ones_are_not() {
    for rule in RULES {
        let (bad, good) = (example(rule.page, "Bad"), example(rule.page, "Good"));
        assert!(load(bad).project.is_ok(), "{}: the bad file loads", rule.id);
        assert!(
            load(good).project.is_ok(),
            "{}: the good file loads",
            rule.id
        );
        assert!(
            found(bad).contains(rule.id),
            "{}: nothing is found in the bad file",
            rule.id
        );
        assert!(
            !found(good).contains(rule.id),
            "{}: the good file is reported",
            rule.id
        );
        assert!(
            !found(good).contains("AFC006"),
            "{}: Docker would refuse the good file",
            rule.id
        );
    }
}

#[test]
fn rules_have_numbers_in_order_names_and_pages() {
    let ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(ids, sorted);
    let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
    for rule in RULES {
        assert!(
            rule.page.starts_with(&format!("# {}: ", rule.id)),
            "{}",
            rule.id
        );
        assert!(rule.page.contains("\n## Fix\n\n"), "{}", rule.id);
    }
}

#[test]
fn a_good_service_has_no_findings() {
    let text = "services:
  web:
    image: nginx:1.29.3
    healthcheck: {test: [CMD, curl, -f, \"http://127.0.0.1/\"], interval: 10s}
    mem_limit: 256m
    cpus: 0.5
    cap_drop: [ALL]
    security_opt: [no-new-privileges:true]
";
    assert_eq!(found(text), BTreeSet::new());
}

#[test]
fn each_way_to_disable_a_check_counts_as_none() {
    for check in ["{disable: true}", "{test: [NONE]}", "{interval: 5s}"] {
        let text = format!("services: {{a: {{image: \"x:1\", healthcheck: {check}}}}}");
        assert!(found(&text).contains("AFC101"), "{check}");
    }
}

#[test]
fn a_finding_shows_the_lines_it_is_about() {
    let loaded = load("services:\n  a:\n    image: x:1\n    image: y:1\n");
    let findings = rules::check(&loaded);
    let text = findings[0].render(&loaded.sources, Colour::Plain);
    assert_eq!(
        text,
        "error[AFC007]: the key `image` stands twice; it is also on line 3
 --> /p/compose.yaml:4:5
  |
4 |     image: y:1
  |     ^^^^^
  |
 ::: /p/compose.yaml:3:5
  |
3 |     image: x:1
  |     ----- first written here"
    );
    let loaded = load("version: \"3\"\nservices: {a: {image: x}}\n");
    let findings = rules::check(&loaded);
    let version: Vec<&Finding> = findings.iter().filter(|it| it.rule == "AFC003").collect();
    assert_eq!(version[0].severity, Severity::Error);
    let text = version[0].render(&loaded.sources, Colour::Plain);
    assert!(
        text.contains("1 | version: \"3\"\n  | ^^^^^^^^^^^^\n"),
        "{text}"
    );
    assert!(text.ends_with("help: remove the line"), "{text}");
}

#[test]
fn a_long_line_is_cut() {
    let text = format!(
        "services: {{a: {{image: \"x:1\", x-a: \"{}\", wrong: 1}}}}",
        "é".repeat(5000)
    );
    let loaded = load(&text);
    for finding in rules::check(&loaded) {
        assert!(finding.render(&loaded.sources, Colour::Ansi).len() < 3000);
    }
}
