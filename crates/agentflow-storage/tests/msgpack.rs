//! The serializer against Python's, and against arbitrary values and bytes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use agentflow_storage::{
    checkpoint::delta,
    msgpack::{self, typed},
};
use agentflow_types::{Map, Typed, Value};
use proptest::prelude::*;
use serde::Deserialize;

/// Written by `tests/python/golden_msgpack.py`.
const GOLDEN: &str = include_str!("golden/msgpack.json");

#[derive(Deserialize)]
struct Vector {
    name: String,
    word: String,
    hex: String,
    json: serde_json::Value,
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn golden() -> Vec<Vector> {
    serde_json::from_str(GOLDEN).unwrap()
}

#[test]
fn what_python_wrote_is_read_and_written_alike() {
    let vectors = golden();
    assert!(vectors.len() > 60);
    for Vector {
        name,
        word,
        hex,
        json,
    } in vectors
    {
        let bytes = unhex(&hex);
        let value = typed::load(&word, &bytes).unwrap();
        let (word_again, bytes_again) = typed::dump(&value).unwrap();
        assert_eq!(
            (word_again, &*bytes_again),
            (word.as_str(), &*bytes),
            "{name}"
        );
        if !json.is_null() {
            assert_eq!(value.to_json(), json, "{name}");
        }
        assert!(!matches!(value, Value::Ext(..)), "{name}");
        assert_eq!(delta::read_snapshot(&value).is_some(), name == "delta");
    }
}

#[test]
fn every_prefix_of_a_vector_is_refused_or_read() {
    for vector in golden().iter().filter(|vector| vector.word == "msgpack") {
        let bytes = unhex(&vector.hex);
        for end in 0..bytes.len().min(300) {
            assert!(
                msgpack::decode(&bytes[..end]).is_err(),
                "{} {end}",
                vector.name
            );
        }
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-300_i64..300).prop_map(Value::Int),
        (i64::MAX as u64 + 1..=u64::MAX).prop_map(Value::UInt),
        any::<f64>()
            .prop_filter("equality", |n| !n.is_nan())
            .prop_map(Value::Float),
        ".{0,40}".prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(|b| Value::Bytes(b.into())),
        // Of the codes from 6 on only a delta channel's, 7, is looked into.
        (
            prop_oneof![Just(6_i8), 8_i8..=127],
            proptest::collection::vec(any::<u8>(), 0..40)
        )
            .prop_map(|(code, b)| Value::Ext(code, b.into())),
    ]
}

fn typed_value(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    (
        0_i8..=5,
        "[a-z.]{1,40}",
        "[A-Z]{1,9}",
        inner,
        proptest::option::of("[a-z_]{1,20}"),
    )
        .prop_map(|(code, module, name, value, method)| {
            Value::Typed(Arc::new(Typed {
                code,
                module: module.into(),
                name: name.into(),
                value,
                method: method.map(Into::into),
            }))
        })
}

fn any_value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(5, 100, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::list),
            proptest::collection::vec((".{0,9}", inner.clone()), 0..20).prop_map(|entries| {
                Value::map(
                    entries
                        .into_iter()
                        .map(|(k, v)| (k.into(), v))
                        .collect::<Map>(),
                )
            }),
            proptest::collection::vec((any::<i64>(), inner.clone()), 1..9).prop_map(|entries| {
                let pairs = entries
                    .into_iter()
                    .map(|(k, v)| (Value::Int(k), v))
                    .collect();
                Value::Pairs(Arc::new(pairs))
            }),
            typed_value(inner),
        ]
    })
}

proptest! {
    #[test]
    fn every_value_comes_back(value in any_value()) {
        let bytes = msgpack::try_encode(&value).unwrap();
        prop_assert_eq!(&bytes, &msgpack::encode(&value));
        let back = msgpack::decode(&bytes).unwrap();
        prop_assert_eq!(&back, &value);
        prop_assert_eq!(msgpack::encode(&back), bytes);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(value) = msgpack::decode(&bytes) {
            // What was understood is stable from then on.
            let written = msgpack::encode(&value);
            let again = msgpack::decode(&written).unwrap();
            prop_assert_eq!(msgpack::encode(&again), written);
        }
    }

    #[test]
    fn damaged_values_do_not_make_it_panic(
        value in any_value(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = msgpack::encode(&value);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(value) = msgpack::decode(&bytes) {
            let _ = msgpack::checkpoint::decode("msgpack", &bytes);
            prop_assert!(msgpack::decode(&msgpack::encode(&value)).is_ok());
        }
    }

    #[test]
    fn legacy_json_does_not_panic(text in "[\\[{\"lctypeconstructor:,0-9\\]} ]{0,80}") {
        if let Ok(value) = typed::load("json", text.as_bytes()) {
            prop_assert!(msgpack::decode(&msgpack::encode(&value)).is_ok());
        }
    }
}
