//! The format: golden bytes, limits, old forms.

use agentflow_types::{ErrorKind, value};

use super::*;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[track_caller]
fn check(hex: &str, expected: &str) {
    let bytes = unhex(hex);
    let value = decode(&bytes).unwrap();
    assert_eq!(format!("{value:?}"), expected);
    assert_eq!(encode(&value), bytes);
}

#[test]
fn golden_vectors_of_the_python_serializer() {
    check("01", "Int(1)");
    check("a3616263", "Str(\"abc\")");
    check("cb3ff8000000000000", "Float(1.5)");
    check(
        "9401a161c0c3",
        "List([Int(1), Str(\"a\"), Null, Bool(true)])",
    );
    check(
        "82a1610102a162",
        "Pairs([(Str(\"a\"), Int(1)), (Int(2), Str(\"b\"))])",
    );
    let typed = |code, module, name, value| {
        format!(
            "Typed(Typed {{ code: {code}, module: {module:?}, name: {name:?}, value: {value}, \
             method: None }})"
        )
    };
    check(
        "d80093a86275696c74696e73a37365749101",
        &typed(0, "builtins", "set", "List([Int(1)])"),
    );
    check(
        "c7150193a86461746574696d65a46461746593cd07ea0102",
        &typed(1, "datetime", "date", "List([Int(2026), Int(1), Int(2)])"),
    );
    check(
        "c7150093a7646563696d616ca7446563696d616ca3312e35",
        &typed(0, "decimal", "Decimal", "Str(\"1.5\")"),
    );
    check(
        "c71d0193af6c616e6767726170682e7479706573a453656e6492a16e81a17801",
        &typed(
            1,
            "langgraph.types",
            "Send",
            "List([Str(\"n\"), Map({\"x\": Int(1)})])",
        ),
    );
}

#[test]
fn a_message_keeps_its_class_and_field_order() {
    let bytes = unhex(
        "c7890594bd6c616e67636861696e5f636f72652e6d657373616765732e68756d616eac48756d616e4d65737361
         676586a7636f6e74656e74a26869b16164646974696f6e616c5f6b776172677380b1726573706f6e73655f6d65
         74616461746180a474797065a568756d616ea46e616d65c0a26964a26d31b36d6f64656c5f76616c6964617465
         5f6a736f6e",
    );
    let message = decode(&bytes).unwrap();
    assert!(agentflow_types::message::is_message(&message));
    assert_eq!(agentflow_types::message::id(&message), Some("m1"));
    assert_eq!(encode(&message), bytes);
}

#[test]
fn numbers_take_the_smallest_header() {
    for n in [
        0,
        127,
        128,
        255,
        256,
        65535,
        65536,
        u32::MAX.into(),
        i64::MAX,
    ]
    .into_iter()
    .chain([
        -1,
        -32,
        -33,
        -128,
        -129,
        -32768,
        -32769,
        i32::MIN.into(),
        i64::MIN,
    ]) {
        assert_eq!(decode(&encode(&Value::Int(n))).unwrap(), Value::Int(n));
    }
    assert_eq!(encode(&Value::Int(-33)), [0xd0, 0xdf]);
    assert_eq!(encode(&Value::Int(255)), [0xcc, 0xff]);
    assert_eq!(
        decode(&unhex("cfffffffffffffffff")).unwrap(),
        Value::UInt(u64::MAX)
    );
}

#[test]
fn an_extension_that_would_change_stays_opaque() {
    // The inner 1 is written with two bytes, which no LangGraph does.
    let bytes = unhex("c7 07 00 93 a1 61 a1 62 cc 01");
    let bytes = [&bytes[..], &[]].concat();
    let value = decode(&bytes).unwrap();
    assert!(matches!(value, Value::Ext(0, _)), "{value:?}");
    assert_eq!(encode(&value), bytes);
    let unknown = unhex("d6 2a 01020304");
    assert_eq!(encode(&decode(&unknown).unwrap()), unknown);
}

#[test]
fn limits_hold() {
    let nested = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    assert!(decode(&nested(MAX_DEPTH)).is_ok());
    let err = decode(&nested(MAX_DEPTH + 1)).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Corrupt);
    let deep = (0..=MAX_DEPTH).fold(Value::Null, |inner, _| Value::list(vec![inner]));
    assert_eq!(try_encode(&deep).unwrap_err().kind(), ErrorKind::Invalid);
    // Headers that announce four billion entries, within each other, must not reserve memory.
    let bomb = [0xdd, 0xff, 0xff, 0xff, 0xff].repeat(MAX_DEPTH - 1);
    assert!(decode(&bomb).is_err());
    for bytes in [
        "",
        "c1",
        "a3 61",
        "a1 ff",
        "c6 ffffffff 00",
        "01 01",
        "df ffffffff",
    ] {
        assert_eq!(
            decode(&unhex(bytes)).unwrap_err().kind(),
            ErrorKind::Corrupt,
            "{bytes}"
        );
    }
}

#[test]
fn typed_words() {
    let bytes = Value::Bytes([1, 2].as_slice().into());
    assert_eq!(
        typed::dump(&bytes).unwrap(),
        ("bytes", [1, 2].as_slice().into())
    );
    assert_eq!(typed::dump(&Value::Null).unwrap().0, "null");
    assert_eq!(typed::load("bytearray", &[1, 2]).unwrap(), bytes);
    assert_eq!(typed::load("null", &[]).unwrap(), Value::Null);
    let err = typed::load("pickle", b"\x80\x04.").unwrap_err();
    assert!(err.message().contains("unpickling can run code"));
    assert!(
        typed::load("msgpack+aes", &[])
            .unwrap_err()
            .message()
            .contains("encrypted")
    );
}

#[test]
fn legacy_json_constructors_become_typed_values() {
    let text = br#"{"messages": [{"lc": 1, "type": "constructor",
        "id": ["langchain_core", "messages", "AIMessage"],
        "kwargs": {"content": "hi", "id": "m", "tool_calls": []}}],
        "set": {"lc": 2, "type": "constructor", "id": ["Set"], "args": [[1, 2]]},
        "bytes": {"lc": 2, "type": "constructor", "id": ["Uint8Array"], "args": [[1, 255]]},
        "none": {"lc": 2, "type": "undefined"},
        "send": {"lg_name": "Send", "node": "n", "args": {"x": 1}},
        "uuid": {"lc": 2, "type": "constructor", "id": ["uuid", "UUID"], "args": ["ab"]}}"#;
    let value = typed::load("json", text).unwrap();
    let message = &value.get("messages").unwrap().as_list().unwrap()[0];
    assert!(agentflow_types::message::is_message(message));
    assert_eq!(agentflow_types::message::text(message), "hi");
    assert_eq!(agentflow_types::message::kind(message), Some("ai"));
    assert_eq!(
        value.get("bytes"),
        Some(&Value::Bytes([1, 255].as_slice().into()))
    );
    assert_eq!(value.get("none"), Some(&Value::Null));
    assert_eq!(
        value.get("send").unwrap().to_json(),
        serde_json::json!({"node": "n", "arg": {"x": 1}})
    );
    assert_eq!(
        value.get("set").unwrap().to_json(),
        serde_json::json!([1, 2])
    );
    assert!(matches!(value.get("uuid"), Some(Value::Typed(t)) if &*t.name == "UUID"));
}

#[test]
fn old_checkpoints_get_their_sends_as_a_channel() {
    let old = value!({
        "v": 3, "ts": "t", "id": "i", "channel_values": {"a": 1},
        "channel_versions": {"a": "2"}, "versions_seen": {"n": {"a": 1.5}},
        "pending_sends": ["send"], "other": true,
    });
    let checkpoint = checkpoint::decode("msgpack", &encode(&old)).unwrap();
    assert_eq!(
        checkpoint.channel_values["__pregel_tasks"],
        value!(["send"])
    );
    assert_eq!(
        checkpoint.channel_versions["__pregel_tasks"],
        checkpoint.channel_versions["a"]
    );
    assert_eq!(checkpoint.updated_channels, None);
    let again = checkpoint::encode(&checkpoint).unwrap();
    assert_eq!(checkpoint::decode("msgpack", &again).unwrap(), checkpoint);
    let err = checkpoint::decode("msgpack", &encode(&value!({"id": 1}))).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Corrupt);
}
