//! Edits, one by one: what they change and what they leave.

use std::path::PathBuf;

use agentflow_gate::{
    compose::InMemory,
    fix::{self, Safety},
    gate::Request,
};

/// The file after the fixes of one rule.
fn mended(text: &str, rule: &str, most: Safety) -> String {
    let files = InMemory::default().with("/p/compose.yaml", text);
    let request = Request {
        paths: vec![PathBuf::from("/p/compose.yaml")],
        ..Request::default()
    };
    let mended = fix::mend(&files, &request, most, &|it| it == rule).expect("it is mended");
    let file = mended.files.into_iter().next();
    file.map_or(text.to_owned(), |file| {
        assert!(file.bytes.ends_with(file.after.as_bytes()));
        file.after
    })
}

#[test]
fn a_line_goes_and_its_comment_stays() {
    let cases = [
        (
            "# top\nversion: '3' # old\n\nservices: {a: {image: \"x:1\"}}\n",
            "# top\n# old\n\nservices: {a: {image: \"x:1\"}}\n",
        ),
        (
            "version: \"3\"\nservices: {a: {image: \"x:1\"}}\n",
            "services: {a: {image: \"x:1\"}}\n",
        ),
        (
            "services: {a: {image: \"x:1\"}}\nversion: \"3\"",
            "services: {a: {image: \"x:1\"}}\n",
        ),
        // In braces there is no line of its own.
        (
            "{version: \"3\", services: {a: {image: \"x:1\"}}}",
            "{version: \"3\", services: {a: {image: \"x:1\"}}}",
        ),
    ];
    for (before, after) in cases {
        assert_eq!(mended(before, "AFC003", Safety::Safe), after);
    }
}

#[test]
fn a_key_comes_below_the_name_of_its_service() {
    let cases = [
        (
            "services:\n  a: # one\n    # about the image\n    image: x:1\n",
            "services:\n  a: # one\n    security_opt: [\"no-new-privileges:true\"]\n    # about the image\n    image: x:1\n",
        ),
        (
            "services:\r\n  a:\r\n      image: x:1\r\n",
            "services:\r\n  a:\r\n      security_opt: [\"no-new-privileges:true\"]\r\n      image: x:1\r\n",
        ),
        (
            "services: {a: {image: \"x:1\"}}",
            "services: {a: {security_opt: [\"no-new-privileges:true\"], image: \"x:1\"}}",
        ),
        (
            "services:\n  a:\n    image: x:1\n    security_opt:\n      # why\n      - label:type:x\n",
            "services:\n  a:\n    image: x:1\n    security_opt:\n      # why\n      - \"no-new-privileges:true\"\n      - label:type:x\n",
        ),
        (
            "services:\n  a:\n    image: x:1\n    security_opt: [label:type:x]\n",
            "services:\n  a:\n    image: x:1\n    security_opt: [\"no-new-privileges:true\", label:type:x]\n",
        ),
    ];
    for (before, after) in cases {
        assert_eq!(mended(before, "AFC114", Safety::Safe), after);
    }
}

#[test]
fn what_two_services_share_is_left_alone() {
    // The edit of `a` would change `b`, about which the fix says nothing.
    let text = "services:\n  a: &a\n    image: x:1\n    healthcheck: &h\n      test: [CMD, curl, \"http://a/\"]\n  b:\n    image: x:1\n    healthcheck: *h\n    security_opt: [no-new-privileges:true]\n";
    let after = mended(text, "AFC106", Safety::Unsafe);
    assert_eq!(after, text);
}

#[test]
fn checks_learn_to_fail() {
    let check = |test: &str| {
        format!("services:\n  a:\n    image: redis:8.2.1\n    healthcheck:\n      test: {test}\n")
    };
    for (before, after) in [
        (
            "[CMD, redis-cli, ping]",
            "[\"CMD-SHELL\", \"redis-cli ping | grep -q PONG\"]",
        ),
        (
            "redis-cli -p 7 ping # p",
            "\"redis-cli -p 7 ping | grep -q PONG\" # p",
        ),
        (
            "[\"CMD\", \"curl\", \"http://a/\"]",
            "[\"CMD\", \"curl\", \"-f\", \"http://a/\"]",
        ),
        // A variable would be filled in for good.
        ("redis-cli -a $$P ping", "redis-cli -a $$P ping"),
    ] {
        assert_eq!(mended(&check(before), "AFC106", Safety::Safe), check(after));
    }
    let block = "\n        - CMD\n        - curl\n        # the page\n        - http://a/";
    let after = "\n        - CMD\n        - curl\n        - \"-f\"\n        # the page\n        - http://a/";
    assert_eq!(mended(&check(block), "AFC106", Safety::Safe), check(after));
}

#[test]
fn a_byte_order_mark_stays_and_utf16_is_left_alone() {
    let text = "version: '3'\nservices: {a: {image: \"x:1\"}}\n";
    let marked = [b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat();
    let wide: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain(text.encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    for (bytes, expected) in [(marked, 1), (wide, 0)] {
        let files = InMemory::default().with("/p/compose.yaml", bytes);
        let request = Request {
            paths: vec![PathBuf::from("/p/compose.yaml")],
            ..Request::default()
        };
        let mended = fix::mend(&files, &request, Safety::Safe, &|it| it == "AFC003");
        let mended = mended.expect("it is mended");
        assert_eq!(mended.files.len(), expected);
        for file in mended.files {
            assert!(file.bytes.starts_with(b"\xef\xbb\xbfservices"));
        }
    }
}
