//! The table of operations in docs/compatibility.md is true: it is made from the list of what the
//! peer documents and from our router.

use std::{collections::BTreeSet, fmt::Write as _, path::PathBuf};

use serde_json::Value;

/// What the peer documents, and how it is here.
const OPERATIONS: &str = include_str!("operations.txt");
/// Set to rewrite the table.
const UPDATE: &str = "AGENTFLOW_UPDATE_SNAPSHOTS";
const BEGIN: &str = "<!-- operations: begin -->\n";
const END: &str = "<!-- operations: end -->";
/// Pages that the description of the API leaves out.
const PAGES: [&str; 3] = ["GET /", "GET /docs", "GET /openapi.json"];

/// One line of the list.
struct Operation<'a> {
    method: &'a str,
    path: &'a str,
    state: &'a str,
    note: &'a str,
}

fn operation(line: &str) -> Operation<'_> {
    let mut parts = line.split('|').map(str::trim);
    let (method, path) = parts.next().unwrap().split_once(' ').unwrap();
    let state = parts.next().unwrap_or_else(|| panic!("no state: {line}"));
    assert!(["works", "differs", "absent"].contains(&state), "{line}");
    let note = parts.next().unwrap_or_default();
    assert!(state == "works" || !note.is_empty(), "why? {line}");
    Operation {
        method,
        path,
        state,
        note,
    }
}

/// Method and path, with all parameters alike.
fn key(method: &str, path: &str) -> String {
    let parts = path.split('/').map(|part| match part.starts_with('{') {
        true => "{}",
        false => part,
    });
    let path: Vec<&str> = parts.collect();
    format!("{} {}", method.to_uppercase(), path.join("/"))
}

/// What the router offers: key, and method with path as we name it.
fn offered() -> Vec<(String, String)> {
    let api = serde_json::to_value(crate::document()).unwrap();
    let paths = api["paths"].as_object().unwrap().clone();
    let mut found: Vec<(String, String)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            let methods = methods
                .filter(|name| ["get", "post", "put", "patch", "delete"].contains(&name.as_str()));
            methods.map(move |method| {
                let shown = format!("{} {path}", method.to_uppercase());
                (key(method, path), shown)
            })
        })
        .collect();
    found.extend(PAGES.map(|page| (page.to_owned(), page.to_owned())));
    found
}

fn table() -> String {
    let offered = offered();
    let known: BTreeSet<&str> = offered.iter().map(|(key, _)| key.as_str()).collect();
    let mut listed = BTreeSet::new();
    let mut out = String::new();
    let (mut total, mut works) = (0, 0);
    for line in OPERATIONS.lines().filter(|line| !line.is_empty()) {
        if let Some(title) = line.strip_prefix("## ") {
            write!(
                out,
                "\n### {title}\n\n| operation | here | |\n|---|---|---|\n"
            )
            .unwrap();
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let Operation {
            method,
            path,
            state,
            note,
        } = operation(line);
        let key = key(method, path);
        let is_offered = known.contains(key.as_str());
        assert_eq!(is_offered, state != "absent", "{method} {path} is {state}");
        writeln!(out, "| `{method} {path}` | {state} | {note} |").unwrap();
        assert!(listed.insert(key), "{line} is listed twice");
        total += 1;
        works += usize::from(state == "works");
    }
    let own = offered.iter().filter(|(key, _)| !listed.contains(key));
    let own: Vec<String> = own.map(|(_, shown)| format!("`{shown}`")).collect();
    let head =
        format!("{total} operations are documented there; {works} work here as they do there.\n");
    format!("{head}{out}\nOnly here: {}.\n", own.join(", "))
}

#[test]
fn the_table_of_operations_is_current() {
    let path: PathBuf = [
        env!("CARGO_MANIFEST_DIR"),
        "..",
        "..",
        "docs",
        "compatibility.md",
    ]
    .iter()
    .collect();
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(BEGIN).expect("the first mark is there");
    let (before, tail) = rest.split_once(END).expect("the second mark is there");
    let now = table();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{now}{END}{tail}")).unwrap();
        return;
    }
    assert!(
        now == before,
        "docs/compatibility.md differs from the router; set {UPDATE}=1 to update"
    );
}

#[test]
fn parameters_are_alike_whatever_their_name() {
    assert_eq!(key("get", "/a/{x}/b/{y}"), key("GET", "/a/{id}/b/{z}"));
    let value = serde_json::to_value(crate::document()).unwrap();
    assert!(matches!(value["paths"], Value::Object(_)));
}
