//! What is read of YAML, and what is refused.

use serde_json::json;

use super::*;

fn parse(text: &str) -> Result<Vec<Document>, Problem> {
    let mut sources = Sources::default();
    let file = sources.add("compose.yaml", text.to_owned());
    read(&sources, file)
}

fn check(text: &str, expected: serde_json::Value) {
    let documents = parse(text).expect("the text is valid");
    let read: Vec<_> = documents.iter().map(|it| it.root.to_json()).collect();
    assert_eq!(serde_json::Value::Array(read), expected, "{text}");
}

fn refused(text: &str) -> Problem {
    parse(text).expect_err(text)
}

#[test]
fn aliases_and_merge_keys_are_followed() {
    check(
        "x: &a {k: 1, l: 2}\ny: {<<: *a, l: 3}\nz: *a",
        json!([{"x": {"k": 1, "l": 2}, "y": {"k": 1, "l": 3}, "z": {"k": 1, "l": 2}}]),
    );
    check(
        "a: &a {k: 1}\nb: &b {k: 2, l: 3}\nc: {<<: [*a, *b]}",
        json!([{"a": {"k": 1}, "b": {"k": 2, "l": 3}, "c": {"k": 1, "l": 3}}]),
    );
    check("a: {\"<<\": {b: 1}}", json!([{"a": {"<<": {"b": 1}}}]));
    check("a: 1\n---\nb: 2", json!([{"a": 1}, {"b": 2}]));
    check("# nothing\n", json!([]));
    check(
        "a: [b,\n\tc]\nd: |\n  \te\n",
        json!([{"a": ["b", "c"], "d": "\te\n"}]),
    );
    check(
        "a: \"b\n\t\n\tc\"\nd: [e,\n\t\n]",
        json!([{"a": "b\nc", "d": ["e"]}]),
    );
}

#[test]
fn what_compose_refuses_is_refused() {
    assert!(refused("a: 1\na: 2").message.contains("line 1"));
    for text in [
        "a: {80: b}",
        "a: {true: b}",
        "a: {[x]: b}",
        "a: *b",
        "a: [",
        "a: {<<: 5}",
        "a:\n\t- b",
        "\ta: b",
        "a: b\n\t\nc: d",
        "a:\n  \tb: c",
    ] {
        assert_eq!(refused(text).kind, Kind::Syntax, "{text}");
    }
    assert_eq!(refused("a: &a {b: *a}").kind, Kind::Syntax);
}

#[test]
fn reset_and_override_are_paths_to_forget() {
    let documents = parse("a: {b: !reset null, c: !override [1], d: 2}").expect("valid");
    assert_eq!(
        documents[0].root.to_json(),
        json!({"a": {"c": [1], "d": 2}})
    );
    assert_eq!(documents[0].resets, [["a", "b"], ["a", "c"]]);
    let documents = parse("x: &x {b: !reset null}\na: {<<: *x}").expect("valid");
    assert_eq!(documents[0].resets, [["x", "b"]]);
}

#[test]
fn a_small_file_does_not_become_a_large_model() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = level - 1;
        let ten = vec![format!("*a{before}"); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{ten}]\n"));
    }
    assert_eq!(refused(&text).kind, Kind::Limit);
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..1000 {
        text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert_eq!(refused(&text).kind, Kind::Limit);
    assert_eq!(refused(&"[".repeat(100_000)).kind, Kind::Syntax);
}

#[test]
fn values_know_where_they_stand() {
    let text = "a:\n  b: [1, 2]\n  c: >\n    folded\nd: &x y\ne: *x\n";
    let documents = parse(text).expect("valid");
    let root = &documents[0].root;
    let slice = |span: Span| &text[span.start as usize..span.end as usize];
    assert_eq!(slice(root.at(&["a", "b"]).expect("b").span), "[1, 2]");
    assert_eq!(slice(root.at(&["e"]).expect("e").span), "y");
    assert_eq!(slice(root.at(&["e"]).expect("e").used()), "*x");
    let a = &root.as_map().expect("a map")["a"];
    assert_eq!(slice(a.key), "a");
    assert!(slice(a.span()).starts_with("a:\n  b"));
    assert!(slice(a.span()).trim_end().ends_with("folded"));
}
