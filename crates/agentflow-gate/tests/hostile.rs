//! Files made to hurt: any bytes give a project or problems, and no file grows without bound.

use std::path::PathBuf;

use agentflow_gate::{
    Kind, Problem,
    compose::{self, InMemory, MAX_EXTENDS, Request, Variables},
};
use proptest::prelude::*;

fn load(files: InMemory, variables: Variables) -> Result<usize, Vec<Problem>> {
    let loaded = compose::load(
        &files,
        &Request {
            files: vec![PathBuf::from("/p/compose.yaml")],
            variables,
            ..Request::default()
        },
    );
    for problem in loaded
        .project
        .as_ref()
        .err()
        .into_iter()
        .flatten()
        .chain(&loaded.warnings)
    {
        // Every place can be shown.
        problem.line(&loaded.sources);
    }
    let project = loaded.project?;
    project
        .check()
        .iter()
        .for_each(|problem| drop(problem.line(&loaded.sources)));
    Ok(project.to_json().to_string().len())
}

fn kinds(files: InMemory) -> Vec<Kind> {
    let found = load(files, Variables::Fill).err().unwrap_or_default();
    found.iter().map(|problem| problem.kind).collect()
}

fn one(text: impl Into<Vec<u8>>) -> InMemory {
    InMemory::default().with("/p/compose.yaml", text)
}

#[test]
fn long_chains_and_wide_trees_stop_at_their_limits() {
    let mut chain = "services:\n  s0: {image: x}\n".to_owned();
    for at in 1..=MAX_EXTENDS + 1 {
        chain.push_str(&format!("  s{at}: {{extends: s{}}}\n", at - 1));
    }
    // Each service is whole once its base is: only a chain that is read from its end is deep.
    assert_eq!(kinds(one(chain)), []);
    let mut chain = "services:\n".to_owned();
    for at in 0..=MAX_EXTENDS {
        chain.push_str(&format!("  s{at}: {{extends: s{}}}\n", at + 1));
    }
    chain.push_str(&format!("  s{}: {{image: x}}\n", MAX_EXTENDS + 1));
    assert_eq!(kinds(one(chain)), [Kind::Limit]);

    let big = (0..2000)
        .map(|at| format!("    A{at}: x\n"))
        .collect::<String>();
    let mut wide = format!("services:\n  base:\n   image: x\n   environment:\n{big}");
    for at in 0..2000 {
        wide.push_str(&format!("  s{at}: {{extends: base}}\n"));
    }
    assert_eq!(kinds(one(wide)), [Kind::Limit]);

    let mut tree = InMemory::default();
    for at in 0..12 {
        let next = at + 1;
        let text = format!("include: [a{next}.yaml, b{next}.yaml]\nservices: {{}}\n");
        for letter in ["a", "b"] {
            tree = tree.with(format!("/p/{letter}{at}.yaml"), text.clone());
        }
    }
    for letter in ["a", "b"] {
        tree = tree.with(format!("/p/{letter}12.yaml"), "services: {}\n");
    }
    let tree = tree.with(
        "/p/compose.yaml",
        "include: [a0.yaml]\nservices: {s: {image: x}}\n",
    );
    assert_eq!(kinds(tree), [Kind::Limit]);
}

#[test]
fn ranges_and_variables_do_not_flood_the_memory() {
    let ports = vec!["\"1-65535:1-65535\"".to_owned(); 1];
    let ranges: Vec<String> = (0..20)
        .map(|at| format!("\"127.0.0.{at}:1-65535:1-65535\""))
        .collect();
    let service = |ports: &[String]| {
        format!(
            "services: {{a: {{image: x, ports: [{}]}}}}",
            ports.join(", ")
        )
    };
    assert_eq!(kinds(one(service(&ports))), []);
    assert_eq!(kinds(one(service(&ranges))), [Kind::Limit]);

    let long = format!("A={}\n", "x".repeat(1 << 20));
    let text = format!(
        "services: {{a: {{image: x, command: [{}]}}}}",
        vec!["$A"; 100].join(", ")
    );
    let files = one(text).with("/p/.env", long);
    assert_eq!(kinds(files), [Kind::Limit]);
}

#[test]
fn ten_megabytes_are_read() {
    let long = "x".repeat(500);
    let mut text = "services:\n".to_owned();
    let mut at = 0;
    while text.len() < 10 << 20 {
        text.push_str(&format!(
            "  s{at}:\n    image: image-{at}\n    ports: [\"{}:80\"]\n    command: {long}\n",
            1 + at % 60000
        ));
        at += 1;
    }
    assert!(load(one(text), Variables::Fill).is_ok());
    let line = format!(
        "services: {{a: {{image: \"{}\"}}}}",
        "${A:-b}".repeat(1 << 20)
    );
    assert!(load(one(line), Variables::Fill).is_ok());
    assert_eq!(kinds(one(vec![b'a'; 17 << 20])), [Kind::Limit]);
}

/// Pieces of which files are made that are nearly right.
fn pieces() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "services:",
        "a:",
        "b",
        "image:",
        "x",
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        ": ",
        "&a ",
        "*a",
        "<<: ",
        "!reset ",
        "!override ",
        "null",
        "0777",
        "\"",
        "'",
        "${A",
        ":-",
        "}",
        "$$",
        "ports:",
        "80:80",
        "1-3:1-3",
        "volumes:",
        "a:/b",
        "extends:",
        "file:",
        "include:",
        "compose.yaml",
        "environment:",
        "A=b",
        "depends_on:",
        "networks:",
        "---\n",
        "#c\n",
        "|\n",
        "é",
        "\t",
        "\u{feff}",
        "deploy:",
        "build:",
        "2001-01-01",
        "1e3",
        "configs:",
        "secrets:",
        "healthcheck:",
        "test:",
        "logging:",
        "ulimits:",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_bytes_give_a_project_or_problems(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = load(one(bytes), Variables::Fill);
    }

    #[test]
    fn nearly_right_files_give_a_project_or_problems(base in pieces(), over in pieces(), env in pieces()) {
        for variables in [Variables::Fill, Variables::Leave] {
            let text = format!("services:\n  a:\n    image: x\n    {base}\n---\n{over}");
            let files = one(text).with("/p/.env", env.clone());
            let _ = load(files, variables);
        }
    }
}
