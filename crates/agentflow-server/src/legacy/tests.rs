//! The encoder against frames observed on LangGraph's server.

use agentflow_types::{RunId, Timestamp};

use super::*;

fn event(seq: u64, kind: &str, ns: &[&str], data: &str) -> Event {
    Event {
        seq,
        run_id: RunId(uuid::Uuid::nil()),
        at: Timestamp(0),
        kind: kind.into(),
        ns: ns.iter().map(|&part| part.into()).collect(),
        data: data.into(),
    }
}

/// Frames as `event data` lines, with ` #id` where there is one.
fn check(modes: &[&str], resumable: bool, events: &[Event], want: &str) {
    let words: Vec<String> = modes.iter().map(|&word| word.to_owned()).collect();
    let mut encoder = Encoder::new(RunFacts {
        run_id: "r".into(),
        graph_id: "g".into(),
        input: serde_json::json!({"x": 1}),
        modes: parse_modes(&words).unwrap(),
        resumable,
    });
    let frames = events.iter().flat_map(|event| encoder.encode(event));
    let lines: Vec<String> = frames
        .map(|f| {
            let id = f.id.map(|id| format!(" #{id}")).unwrap_or_default();
            format!("{} {}{id}", f.event, f.data)
        })
        .collect();
    let want: Vec<&str> = want
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    assert_eq!(lines, want);
}

#[test]
fn modes_are_filtered_and_namespaces_named() {
    let events = [
        event(1, "metadata", &[], r#"{"run_id":"r","attempt":1}"#),
        event(2, "values", &[], r#"{"xs":[]}"#),
        event(3, "custom", &[], r#"{"progress":1}"#),
        event(4, "updates", &["sub:bd48"], r#"{"a":{"xs":["a"]}}"#),
        event(5, "values", &[], r#"{"xs":["a"]}"#),
        event(6, "end", &[], r#"{"status":"success"}"#),
    ];
    check(
        &["values", "updates"],
        true,
        &events,
        r#"metadata {"run_id":"r","attempt":1} #1
           values {"xs":[]} #2
           updates|sub:bd48 {"a":{"xs":["a"]}} #4
           values {"xs":["a"]} #5"#,
    );
    check(
        &["custom"],
        false,
        &events,
        "metadata {\"run_id\":\"r\",\"attempt\":1}\ncustom {\"progress\":1}",
    );
}

#[test]
fn interrupts_arrive_as_values_without_updates() {
    let asked = r#"{"__interrupt__":[{"value":1,"id":"i","response_schema":null}]}"#;
    let events = [
        event(1, "updates", &[], r#"{"a":{"text":"__interrupt__"}}"#),
        event(2, "updates", &[], asked),
    ];
    check(
        &["messages-tuple"],
        false,
        &events,
        &format!("values {asked}"),
    );
    check(
        &["updates"],
        false,
        &events[1..],
        &format!("updates {asked}"),
    );
}

#[test]
fn messages_grow_until_they_are_complete() {
    let chunk = |text: &str| {
        format!(r#"[{{"type":"AIMessageChunk","id":"m","content":"{text}"}},{{"n":1}}]"#)
    };
    let events = [
        event(1, "messages", &[], &chunk("He")),
        event(2, "messages", &[], &chunk("llo")),
        event(
            3,
            "messages",
            &["s:1"],
            r#"[{"type":"tool","id":"t","content":"r"},{}]"#,
        ),
    ];
    check(
        &["messages"],
        true,
        &events,
        r#"messages/metadata {"m":{"metadata":{"n":1}}}
           messages/partial [{"type":"ai","id":"m","content":"He"}] #1
           messages/partial [{"type":"ai","id":"m","content":"Hello"}] #2
           messages/metadata|s:1 {"t":{"metadata":{}}}
           messages/complete|s:1 [{"type":"tool","id":"t","content":"r"}] #3"#,
    );
    check(
        &["messages-tuple"],
        false,
        &events[..1],
        &format!("messages {}", chunk("He")),
    );
}

#[test]
fn events_are_derived() {
    let chunk = r#"[{"type":"AIMessageChunk","id":"m","content":"Hi","chunk_position":"last"},{"langgraph_node":"a"}]"#;
    let events = [
        event(1, "metadata", &[], "{}"),
        event(
            2,
            "tasks",
            &[],
            r#"{"id":"t","name":"a","input":1,"triggers":[]}"#,
        ),
        event(3, "messages", &[], chunk),
        event(
            4,
            "tasks",
            &[],
            r#"{"id":"t","name":"a","error":null,"result":{"y":2},"interrupts":[]}"#,
        ),
        event(5, "values", &[], r#"{"y":2}"#),
        event(6, "end", &[], r#"{"status":"success"}"#),
    ];
    let mut trace = events::Trace::new(&RunFacts {
        graph_id: "g".into(),
        ..RunFacts::default()
    });
    let told: Vec<String> = events
        .iter()
        .flat_map(|event| trace.encode(event))
        .map(|frame| {
            let data: Value = serde_json::from_str(&frame.data).unwrap();
            format!(
                "{} {} {}",
                data["event"].as_str().unwrap(),
                data["name"],
                data["data"]
            )
        })
        .collect();
    let model = r#""ChatModel""#;
    assert_eq!(
        told,
        [
            r#"on_chain_start "g" {"input":null}"#.to_owned(),
            r#"on_chain_start "a" {"input":1}"#.into(),
            format!(r#"on_chat_model_start {model} {{"input":{{"messages":[[]]}}}}"#),
            format!(
                r#"on_chat_model_stream {model} {{"chunk":{{"type":"AIMessageChunk","id":"m","content":"Hi","chunk_position":"last"}}}}"#
            ),
            format!(
                r#"on_chat_model_end {model} {{"output":{{"type":"ai","id":"m","content":"Hi"}}}}"#
            ),
            r#"on_chain_stream "a" {"chunk":{"y":2}}"#.into(),
            r#"on_chain_end "a" {"output":{"y":2},"input":1}"#.into(),
            r#"on_chain_stream "g" {"chunk":["values",{"y":2}]}"#.into(),
            r#"on_chain_end "g" {"output":{"y":2}}"#.into(),
        ]
    );
}

#[test]
fn filters_match_before_the_bar() {
    let filter = parse_modes(&["updates".into()]).unwrap();
    for (event, want) in [
        ("updates", true),
        ("updates|sub:1", true),
        ("values", false),
        ("metadata", true),
        ("error", true),
    ] {
        assert_eq!(passes(&Frame::new(event, "{}"), &filter), want, "{event}");
    }
    let filter = parse_modes(&["messages-tuple".into()]).unwrap();
    assert!(passes(&Frame::new("messages|a:1", "[]"), &filter));
    assert!(!passes(&Frame::new("messages/partial", "[]"), &filter));
}

#[test]
fn unknown_modes_are_refused() {
    for word in ["tools", "lifecycle", "zzz"] {
        let err = parse_modes(&[word.to_owned()]).unwrap_err();
        assert!(
            err.message()
                .starts_with(&format!("stream_mode: {word:?} is not one of"))
        );
    }
}
