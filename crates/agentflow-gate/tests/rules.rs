//! The page of each rule holds a bad and a good file; what they claim is run here.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use agentflow_gate::{
    compose::InMemory,
    finding::{Colour, Severity, View, Why},
    gate::{self, Outcome, Request},
    rules::RULES,
};

/// Files of a folder `/p` that is no working copy of git.
fn folder(files: &[(String, String)]) -> InMemory {
    let empty = InMemory::default();
    files.iter().fold(empty, |all, (name, text)| {
        all.with(format!("/p/{name}"), text.as_str())
    })
}

/// The same folder as a working copy of which git keeps each file.
fn kept(files: &[(String, String)]) -> InMemory {
    let mut index = b"DIRC\0\0\0\x02".to_vec();
    index.extend((files.len() as u32).to_be_bytes());
    for (name, _) in files {
        let start = index.len();
        // Times, mode, owner, size and hash do not matter; the flags hold the length.
        index.extend([0; 60]);
        index.extend((name.len() as u16).to_be_bytes());
        index.extend(name.as_bytes());
        let filled = (index.len() - start + 8) / 8 * 8;
        index.resize(start + filled, 0);
    }
    folder(files)
        .with("/p/.git/HEAD", "ref: refs/heads/main\n")
        .with("/p/.git/index", index)
}

fn check(files: &InMemory) -> Outcome {
    let request = Request {
        paths: vec![PathBuf::from("/p")],
        ..Request::default()
    };
    gate::run(files, &request).expect("the folder is checked")
}

fn outcome(text: &str) -> Outcome {
    check(&folder(&[("compose.yaml".to_owned(), text.to_owned())]))
}

fn rules_of(outcome: &Outcome) -> BTreeSet<&'static str> {
    outcome
        .findings()
        .map(|(_, finding)| finding.rule)
        .collect()
}

fn found(text: &str) -> BTreeSet<&'static str> {
    let outcome = outcome(text);
    let all = outcome.findings();
    all.filter(|(_, it)| it.severity > Severity::Note)
        .map(|(_, it)| it.rule)
        .collect()
}

/// The files of a section of a page: each block says its name behind its language; YAML without a
/// name is the Compose file.
fn examples(page: &str, section: &str) -> Vec<(String, String)> {
    let part = page
        .split(&format!("\n## {section}\n"))
        .nth(1)
        .expect("the page has the section");
    let part = part.split("\n## ").next().expect("it ends");
    let blocks: Vec<&str> = part.split("```").collect();
    let mut files = Vec::new();
    for block in blocks.iter().skip(1).step_by(2) {
        let (head, text) = block.split_once('\n').expect("a block has lines");
        let name = match head.split_once(' ') {
            Some((_, name)) => name,
            None => "compose.yaml",
        };
        files.push((name.to_owned(), text.to_owned()));
    }
    assert!(!files.is_empty(), "the section has a file");
    files
}

#[test]
fn bad_files_are_found_and_good_ones_are_not() {
    for rule in RULES {
        let place = if rule.id == "AFC303" { kept } else { folder };
        let bad = check(&place(&examples(rule.page, "Bad")));
        let good = check(&place(&examples(rule.page, "Good")));
        assert!(
            rules_of(&bad).contains(rule.id),
            "{}: nothing is found in the bad file",
            rule.id
        );
        let good = rules_of(&good);
        assert!(
            !good.contains(rule.id),
            "{}: the good file is reported",
            rule.id
        );
        let refused = ["AFC006", "AFC007"];
        assert!(
            !refused.iter().any(|it| good.contains(it)),
            "{}: Docker would refuse the good file",
            rule.id
        );
        let also = rules_of(&bad);
        assert!(
            refused.contains(&rule.id) || !refused.iter().any(|it| also.contains(it)),
            "{}: the bad file loads",
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
    user: \"101:101\"
    ports: [\"443:8443\"]
    mem_limit: 256m
    mem_reservation: 64m
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

/// The first finding of a rule as people see it.
fn shown(outcome: &Outcome, rule: &str, why: Why) -> String {
    let mut all = outcome.findings();
    let (unit, finding) = all.find(|(_, it)| it.rule == rule).expect("it is found");
    let view = View {
        root: Some(Path::new("/p")),
        hidden: &unit.hidden,
        ..View::default()
    };
    finding.render(&unit.sources, &view, why)
}

#[test]
fn a_finding_shows_the_lines_it_is_about() {
    let twice = outcome("services:\n  a:\n    image: x:1\n    image: y:1\n");
    assert_eq!(
        shown(&twice, "AFC007", Why::Known),
        "error[AFC007]: the key `image` stands twice; it is also on line 3
 --> compose.yaml:4:5
  |
4 |     image: y:1
  |     ^^^^^
  |
 ::: compose.yaml:3:5
  |
3 |     image: x:1
  |     ----- first written here"
    );
    let old = outcome("version: \"3\"\nservices: {a: {image: x}}\n");
    assert_eq!(
        shown(&old, "AFC003", Why::Told),
        "error[AFC003]: `version` is obsolete and ignored
 --> compose.yaml:1:1
  |
1 | version: \"3\"
  | ^^^^^^^^^^^^
  |
  = note: Compose has ignored `version` since 2020 and warns about it. A reader takes it for a promise that nothing keeps.
  = help: remove the line"
    );
}

#[test]
fn a_long_line_is_cut() {
    let text = format!(
        "services: {{a: {{image: \"x:1\", x-a: \"{}\", wrong: 1}}}}",
        "é".repeat(5000)
    );
    let outcome = outcome(&text);
    let view = View {
        colour: Colour::Ansi,
        ..View::default()
    };
    for (unit, finding) in outcome.findings() {
        assert!(finding.render(&unit.sources, &view, Why::Known).len() < 3000);
    }
}

/// The table of rules as the documentation holds it.
fn table() -> String {
    let rows = RULES.iter().map(|rule| {
        let (id, name, level, title) = (rule.id, rule.name, rule.level.name(), rule.title());
        let page = format!("../crates/agentflow-gate/src/rules/pages/{id}.md");
        format!("| [{id}]({page}) | `{name}` | {level} | {title} |\n")
    });
    let head = "| rule | name | level | about |\n|---|---|---|---|\n";
    rows.fold(head.to_owned(), |all, row| all + &row)
}

/// Set `AGENTFLOW_BLESS=1` to write the table.
#[test]
fn the_documentation_lists_every_rule() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/gate.md");
    let text = std::fs::read_to_string(path).expect("the page is there");
    let (before, rest) = text.split_once("<!-- rules -->\n").expect("a beginning");
    let (_, after) = rest.split_once("<!-- /rules -->").expect("an end");
    let wanted = format!("{before}<!-- rules -->\n{}<!-- /rules -->{after}", table());
    if std::env::var_os("AGENTFLOW_BLESS").is_some() {
        std::fs::write(path, &wanted).expect("it is written");
    }
    assert!(text == wanted || std::env::var_os("AGENTFLOW_BLESS").is_some());
}

#[test]
fn a_command_whose_last_word_has_a_blank_is_read_whole() {
    let text = "services:
  redis:
    image: redis:8.2.1
    command: [redis-server, --tcp-keepalive, \"0\", --bind, \"* -::*\"]
";
    assert!(found(text).contains("AFC617"));
    let outcome = outcome(text);
    assert!(
        !rules_of(&outcome).contains("AFC614"),
        "it says where it listens"
    );
    let shell = "services:
  redis:
    image: redis:8.2.1
    command: [sh, -c, \"redis-server --tcp-keepalive 0\"]
";
    assert!(found(shell).contains("AFC617"));
}

#[test]
fn what_is_about_a_project_stands_in_its_file_and_no_variable_is_shown() {
    let secret = "h7Kq2mXp9tB4";
    let files = InMemory::default()
        .with("/p/.env", format!("PLAIN={secret}\n"))
        .with("/p/compose.yaml", "services: {a: {image: \"x:1\"}}\n");
    let outcome = check(&files);
    let view = |hidden| View {
        hidden,
        ..View::default()
    };
    let mut seen = false;
    for (unit, finding) in outcome.findings().filter(|(_, it)| it.rule == "AFC014") {
        seen = true;
        let text = finding.render(&unit.sources, &view(&unit.hidden), Why::Known);
        assert!(text.contains("/p/compose.yaml:1:1"), "{text}");
        // Even a finding in the file of variables would show none.
        let mut other = finding.clone();
        other.span.file = 0;
        let text = other.render(&unit.sources, &view(&unit.hidden), Why::Known);
        assert!(text.contains("PLAIN=") && !text.contains(secret), "{text}");
    }
    assert!(seen);
}
