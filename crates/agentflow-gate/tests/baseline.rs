//! The baseline file of the infrastructure guide: every defect that is known in it is found, and
//! what is found is what was looked at by a person.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use agentflow_gate::{
    compose::InMemory,
    fix::{self, Mended, Safety},
    gate::{self, Outcome, Request},
};

const FILE: &str = include_str!("baseline/compose.yaml");
/// Severity, rule, line and service or path of each finding, as a person judged them.
const EXPECTED: &str = include_str!("baseline/expected.txt");

/// What is wrong with the file: what the defect is, the rule that tells it, and the lines.
const DEFECTS: &[(&str, &str, &[usize])] = &[
    (
        "api and r2r share no network with the stores",
        "AFC207",
        &[10, 12, 14, 38, 40],
    ),
    (
        "Qdrant's image holds no curl, so api never starts",
        "AFC104",
        &[87],
    ),
    ("Qdrant has no /health", "AFC105", &[87]),
    ("R2R has no /health", "AFC105", &[43]),
    ("R2R listens on 8000", "AFC631", &[31]),
    ("a port of an internal network", "AFC208", &[36]),
    ("no way to the hosted model", "AFC209", &[35]),
    ("the image of R2R has another name", "AFC634", &[32]),
    ("the parts of R2R's full configuration", "AFC632", &[34]),
    ("R2R is told no database", "AFC631", &[31]),
    ("PostgreSQL without pgvector", "AFC607", &[51]),
    ("no way in", "AFC210", &[2]),
    ("resources only on api", "AFC110", &[31, 50, 68, 81]),
    ("reservations only on api", "AFC111", &[31, 50, 68, 81]),
    ("users only on api", "AFC113", &[31, 50, 68]),
    ("Qdrant as root", "AFC623", &[81]),
    ("no-new-privileges only on api", "AFC114", &[31, 50, 68, 81]),
    (
        "capabilities dropped only on api",
        "AFC115",
        &[31, 50, 68, 81],
    ),
    ("no start period", "AFC103", &[59, 74, 86]),
    ("tags that move", "AFC122", &[32, 51, 69, 82]),
    ("secrets through the environment", "AFC301", &[5, 6, 35]),
    ("addresses that become blank", "AFC009", &[5, 6, 35]),
    ("Qdrant and R2R over plain HTTP", "AFA301", &[7, 8]),
    ("PostgreSQL without TLS", "AFC603", &[50]),
    ("Redis without TLS", "AFC612", &[68]),
    ("Qdrant without TLS and without key", "AFC621", &[81]),
    ("no pool", "AFC604", &[50]),
    ("R2R publishes a port", "AFC204", &[36]),
    ("on every interface", "AFC206", &[36]),
    ("no public network", "AFC203", &[94]),
    ("no secret for Redis", "AFC611", &[68]),
    ("redis-cli ping always passes", "AFC106", &[75]),
    ("Redis 7 holds no checkpoints of LangGraph", "AFC618", &[69]),
    ("no expose", "AFC205", &[50, 68]),
    ("one Redis", "AFC619", &[68]),
    ("pg_isready passes too early", "AFC107", &[60]),
    ("redis.conf is not there", "AFC310", &[72]),
    ("protected mode is off in the image", "AFC613", &[68]),
    ("reserved processors are ignored", "AFC013", &[28]),
    ("the secret keeps the rights of its file", "AFC306", &[108]),
    ("api does not wait for R2R", "AFC124", &[8]),
    ("no restart policy", "AFC120", &[2, 31, 50, 68, 81]),
    ("logs without end", "AFC121", &[2, 31, 50, 68, 81]),
    ("curl may be missing", "AFC104", &[17, 43]),
    ("no name", "AFC014", &[1]),
    ("no read-only files", "AFC116", &[2, 31, 50, 68, 81]),
    ("R2R waits for Redis in vain", "AFC633", &[40]),
];

fn files(text: &str) -> InMemory {
    InMemory::default().with("/p/compose.yaml", text)
}

fn request() -> Request {
    Request {
        paths: vec![PathBuf::from("/p")],
        ..Request::default()
    }
}

fn outcome(text: &str) -> Outcome {
    gate::run(&files(text), &request()).expect("the folder is checked")
}

/// `severity rule line path` of each finding.
fn rows(outcome: &Outcome) -> BTreeSet<String> {
    outcome
        .findings()
        .map(|(unit, it)| {
            let file = unit.sources.file(it.span.file).expect("it has a file");
            let (line, _) = file.line_column(it.span.start);
            format!("{} {} {line} {}", it.severity.name(), it.rule, it.path)
        })
        .collect()
}

#[test]
fn every_known_defect_is_found_where_it_is() {
    let outcome = outcome(FILE);
    let found: BTreeSet<(&str, usize)> = outcome
        .findings()
        .map(|(unit, it)| {
            let file = unit.sources.file(it.span.file).expect("it has a file");
            (it.rule, file.line_column(it.span.start).0)
        })
        .collect();
    for (what, rule, lines) in DEFECTS {
        for line in *lines {
            assert!(
                found.contains(&(*rule, *line)),
                "{what}: {rule} in line {line}"
            );
        }
    }
}

#[test]
fn nothing_is_found_that_nobody_judged() {
    let found = rows(&outcome(FILE));
    let expected: BTreeSet<String> = EXPECTED.lines().map(str::to_owned).collect();
    let new: Vec<&String> = found.difference(&expected).collect();
    let gone: Vec<&String> = expected.difference(&found).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "new: {new:#?}\ngone: {gone:#?}"
    );
}

fn mend(text: &str, most: Safety) -> (String, Mended) {
    let mended = fix::mend(&files(text), &request(), most, &|_| true).expect("it is mended");
    let after = match mended.files.as_slice() {
        [file] => {
            assert_eq!(file.path, Path::new("/p/compose.yaml"));
            file.after.clone()
        }
        _ => text.to_owned(),
    };
    (after, mended)
}

#[test]
fn mending_twice_is_mending_once() {
    for most in [Safety::Safe, Safety::Unsafe] {
        let (after, mended) = mend(FILE, most);
        assert_eq!(mended.refused, 0);
        let (again, second) = mend(&after, most);
        assert_eq!(again, after);
        assert_eq!(second.applied, 0);
        // The comments and the order of services stay.
        for comment in [
            "# edge exposure OK (ingress will front this in k8s)",
            "# internal only",
        ] {
            assert!(after.contains(comment));
        }
        let left = outcome(&after);
        let has = |rule: &str| left.findings().any(|(_, it)| it.rule == rule);
        for rule in ["AFC105", "AFC106", "AFC107", "AFC114", "AFC634"] {
            assert!(!has(rule), "{rule} is mended");
        }
        assert_eq!(has("AFC115"), most == Safety::Safe);
        // What is left needs a person, and says what to do.
        for (_, finding) in left.findings() {
            let open = finding.fix.as_ref().is_some_and(|fix| fix.safety <= most);
            assert!(!open, "{}: {}", finding.rule, finding.message);
            assert!(
                !finding.help.is_empty() || finding.rule == "AFC006",
                "{}",
                finding.rule
            );
        }
    }
}
