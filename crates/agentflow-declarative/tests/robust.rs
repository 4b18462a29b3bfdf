//! No text makes the parser or the loader panic.

use agentflow_declarative::{Environment, load_text, parse, project_template};
use proptest::prelude::*;

/// Pieces that graph files are made of, so that random texts get deep into the checks.
const PIECES: &[&str] = &[
    "version: 1\n",
    "kind: agent\n",
    "name: x\n",
    "state:\n",
    "  messages: messages\n",
    "  n: {type: integer, reducer: sum}\n",
    "nodes:\n",
    "  a:\n",
    "    kind: model\n",
    "    kind: set\n",
    "    values: {n: n + 1}\n",
    "    template: '{{ n }}'\n",
    "edges:\n",
    "  - START -> a\n",
    "  - {from: a, when: n > 1, to: END}\n",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "&a ",
    "*a",
    "!t ",
    "|\n",
    "'",
    "\"",
    "\t",
    "#",
    "\n",
    "  ",
    "->",
    "é",
    "\u{0}",
    "{{",
    "{%",
    "tools: [calculator]\n",
    "=",
    "1e999",
    "999999999999999999999",
    "---\n",
    "? ",
    "<<: ",
];

fn soup() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..60).prop_map(|pieces| pieces.concat())
}

/// A good file with one part replaced.
fn mutated() -> impl Strategy<Value = String> {
    let (_, good) = project_template()
        .into_iter()
        .next_back()
        .expect("there is a graph");
    (
        any::<prop::sample::Index>(),
        0_usize..20,
        prop::sample::select(PIECES),
    )
        .prop_map(move |(at, length, piece)| {
            let chars: Vec<char> = good.chars().collect();
            let start = at.index(chars.len());
            let end = (start + length).min(chars.len());
            let head: String = chars[..start].iter().collect();
            let tail: String = chars[end..].iter().collect();
            head + piece + &tail
        })
}

/// Reports have places inside the text, and can be rendered.
fn survives(text: &str) {
    let _ = parse(text);
    if let Err(report) = load_text("x.yaml", text, &Environment::default()) {
        assert!(report.has_errors());
        for one in report.iter() {
            assert!(
                one.span.end <= text.len() && one.span.start <= one.span.end,
                "{one:?}"
            );
        }
        assert!(!report.to_string().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn pieces_of_graph_files(text in soup()) {
        survives(&text);
    }

    #[test]
    fn good_files_with_a_mistake(text in mutated()) {
        survives(&text);
    }

    #[test]
    fn any_expression(text in "[-!()\\[\\]{}a-z0-9'\"?:.,+*/<>=&| \\\\]{0,60}") {
        let file = serde_json::json!({
            "version": 1,
            "state": {"n": "any"},
            "nodes": {"a": {"kind": "set", "values": {"n": text}}},
            "edges": ["START -> a"],
        });
        survives(&file.to_string());
    }
}
