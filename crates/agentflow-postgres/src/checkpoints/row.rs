//! A checkpoint as LangGraph's PostgreSQL saver stores it: JSON with the small values, and one
//! blob per other value.
//!
//! `jsonb` cannot hold NUL, keeps no negative zero and no NaN, and shows `1e16` as an integer.
//! Values that it would change go into a blob, which Python reads as well; floats are written so
//! that they are floats when they come back.
//!
//! A value whose channel has no version has no place in LangGraph's table of blobs. JSON stays in
//! the checkpoint; what JSON cannot hold is kept, serialized, under a key of our own, [`OWN`].

use std::{borrow::Cow, io};

use agentflow_storage::{
    checkpoint::{Checkpoint, Version, delta},
    json,
    msgpack::{checkpoint::from_value, typed::Codec},
};
use agentflow_types::{Error, Map, Result, Str, Value};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize as _;

/// Key for what has no place in LangGraph's layout.
const OWN: &str = "agentflow";
/// Below [`OWN`]: values of channels without a version, and unknown keys.
const PLACES: [&str; 2] = ["channel_values", "keys"];
/// From here on floats may look like integers.
const LARGE: f64 = 1e15;

/// A value that is stored apart.
#[derive(Debug, PartialEq)]
pub(super) struct Apart {
    pub(super) channel: Str,
    pub(super) version: String,
    pub(super) word: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// The column `checkpoint`, and the values of channels in `changed` that are stored apart.
///
/// # Errors
/// `Invalid` if a value is too deep or too large to be read back.
pub(super) fn encode(
    checkpoint: Checkpoint,
    changed: &[Str],
    codec: &Codec,
) -> Result<(String, Vec<Apart>)> {
    let mut apart = Vec::new();
    let mut inline = Map::new();
    let mut own = [Map::new(), Map::new()];
    for (channel, value) in checkpoint.channel_values {
        let version = checkpoint.channel_versions.get(&channel);
        match version {
            _ if is_inline(&value) => {
                inline.insert(channel, value);
            }
            Some(version) => {
                if delta::read_snapshot(&value).is_some() {
                    // Python looks for it to tell which checkpoints have a snapshot.
                    inline.insert(channel.clone(), Value::Bool(true));
                }
                if changed.contains(&channel) {
                    let (word, bytes) = codec.dump(&value)?;
                    apart.push(Apart {
                        version: version_text(version)?,
                        word,
                        bytes: bytes.into_owned(),
                        channel,
                    });
                }
            }
            None if is_clean(&value, json::MAX_DEPTH) => {
                inline.insert(channel, value);
            }
            None => {
                own[0].insert(channel, serialized(&value, codec)?);
            }
        }
    }
    let mut column = Map::new();
    for (key, value) in checkpoint.extra {
        if is_clean(&value, json::MAX_DEPTH) && &*key != OWN {
            column.insert(key, value);
        } else {
            own[1].insert(key, serialized(&value, codec)?);
        }
    }
    let names = |names: Vec<Str>| Value::list(names.into_iter().map(Value::Str).collect());
    let seen = checkpoint.versions_seen.into_iter();
    let known: [(&str, Value); 7] = [
        ("v", checkpoint.v.into()),
        ("ts", checkpoint.ts.into()),
        ("id", checkpoint.id.into()),
        ("channel_values", Value::map(inline)),
        ("channel_versions", versions(checkpoint.channel_versions)),
        (
            "versions_seen",
            Value::map(seen.map(|(node, seen)| (node, versions(seen))).collect()),
        ),
        (
            "updated_channels",
            checkpoint.updated_channels.map_or(Value::Null, names),
        ),
    ];
    column.extend(known.map(|(key, value)| (key.into(), value)));
    if own.iter().any(|part| !part.is_empty()) {
        let parts = PLACES.into_iter().zip(own.map(Value::map));
        column.insert(OWN.into(), Value::object(parts));
    }
    Ok((text(&Value::map(column))?, apart))
}

/// The checkpoint of a column and its blobs: channel, type word, bytes.
///
/// # Errors
/// `Corrupt` if they are not one; `Unprocessable` as [`Codec::load`].
pub(super) fn decode<'a>(
    column: &str,
    blobs: impl Iterator<Item = (&'a str, &'a str, &'a [u8])>,
    codec: &Codec,
) -> Result<Checkpoint> {
    let mut checkpoint = from_value(json::parse(column.as_bytes())?)?;
    for (channel, word, bytes) in blobs {
        let value = codec.load(word, bytes)?;
        checkpoint.channel_values.insert(channel.into(), value);
    }
    let Some(own) = checkpoint.extra.shift_remove(OWN) else {
        return Ok(checkpoint);
    };
    for (place, target) in PLACES
        .into_iter()
        .zip([&mut checkpoint.channel_values, &mut checkpoint.extra])
    {
        for (key, pair) in own.get(place).and_then(Value::as_map).into_iter().flatten() {
            target.insert(key.clone(), deserialized(pair, codec)?);
        }
    }
    Ok(checkpoint)
}

/// The column `metadata`. NUL characters are left out, as Python does.
///
/// # Errors
/// `Invalid` if it is nested too deeply.
pub(super) fn metadata(metadata: &Map) -> Result<String> {
    json::map_text(metadata)?;
    let clean = metadata.iter().map(|(key, value)| {
        let key = without_nul(key).map_or_else(|| key.clone(), Into::into);
        (key, stripped(value))
    });
    text(&Value::map(clean.collect()))
}

/// One entry of metadata, as [`metadata`] writes it.
///
/// # Errors
/// `Invalid` if it is nested too deeply.
pub(super) fn entry(value: &Value) -> Result<String> {
    json::text(value)?;
    text(&stripped(value))
}

/// Whether Python, too, keeps the value in the column, and `jsonb` does not change it.
fn is_inline(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::UInt(_) => true,
        Value::Float(float) => is_kept(*float),
        Value::Str(text) => !text.contains('\0'),
        _ => false,
    }
}

fn is_kept(float: f64) -> bool {
    float.is_finite() && (float != 0.0 || float.is_sign_positive())
}

/// Whether `jsonb` gives the value back as it is.
fn is_clean(value: &Value, depth: usize) -> bool {
    let Some(below) = depth.checked_sub(1) else {
        return false;
    };
    match value {
        Value::List(items) => items.iter().all(|item| is_clean(item, below)),
        Value::Map(map) => map
            .iter()
            .all(|(key, value)| !key.contains('\0') && is_clean(value, below)),
        other => is_inline(other),
    }
}

fn serialized(value: &Value, codec: &Codec) -> Result<Value> {
    let (word, bytes) = codec.dump(value)?;
    Ok(Value::list(vec![
        word.into(),
        BASE64_STANDARD.encode(bytes).into(),
    ]))
}

fn deserialized(pair: &Value, codec: &Codec) -> Result<Value> {
    let wrong = || Error::corrupt("a value of a checkpoint is damaged");
    let Some([word, bytes]) = pair.as_list() else {
        return Err(wrong());
    };
    let (Some(word), Some(bytes)) = (word.as_str(), bytes.as_str()) else {
        return Err(wrong());
    };
    let bytes = BASE64_STANDARD.decode(bytes).map_err(|_| wrong())?;
    codec.load(word, &bytes)
}

fn versions(versions: indexmap::IndexMap<Str, Version>) -> Value {
    let plain = |version| match version {
        Version::Text(text) => Value::Str(text),
        Version::Int(number) => Value::Int(number),
        Version::Float(number) => Value::Float(number),
    };
    let pairs = versions.into_iter();
    Value::map(pairs.map(|(key, version)| (key, plain(version))).collect())
}

/// A version as `jsonb_each_text` shows it.
fn version_text(version: &Version) -> Result<String> {
    match version {
        Version::Text(version) => Ok(version.as_ref().to_owned()),
        Version::Int(version) => Ok(version.to_string()),
        Version::Float(version) => text(&Value::Float(*version)),
    }
}

fn without_nul(text: &str) -> Option<String> {
    text.contains('\0').then(|| text.replace('\0', ""))
}

fn stripped(value: &Value) -> Value {
    match value {
        Value::Str(text) => without_nul(text).map_or_else(|| value.clone(), Value::from),
        Value::List(items) => Value::list(items.iter().map(stripped).collect()),
        Value::Map(map) => Value::map(
            map.iter()
                .map(|(key, value)| {
                    let key = without_nul(key).map_or_else(|| key.clone(), Into::into);
                    (key, stripped(value))
                })
                .collect(),
        ),
        Value::Pairs(_) | Value::Typed(_) | Value::Bytes(_) | Value::Ext(..) => {
            stripped(&Value::from_json(&value.to_json()))
        }
        plain => plain.clone(),
    }
}

/// JSON in which a float stays one whatever PostgreSQL does to its digits.
pub(crate) fn text(value: &Value) -> Result<String> {
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Exact);
    value
        .serialize(&mut serializer)
        .map_err(|err| Error::bug("value is not JSON").source_err(err))?;
    String::from_utf8(out).map_err(|err| Error::bug("JSON is not text").source_err(err))
}

struct Exact;

impl serde_json::ser::Formatter for Exact {
    fn write_f64<W: ?Sized + io::Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        let text: Cow<'_, str> = if value.abs() < LARGE {
            // Has a point, or an exponent that makes one.
            return write!(out, "{value:?}");
        } else {
            format!("{value:.1}").into()
        };
        out.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    fn checkpoint(values: Value, versions: &[(&str, &str)]) -> Checkpoint {
        let versions = versions
            .iter()
            .map(|(channel, version)| ((*channel).into(), Version::Text((*version).into())));
        Checkpoint {
            v: 4,
            id: "1".into(),
            channel_values: values.as_map().cloned().unwrap(),
            channel_versions: versions.collect(),
            ..Checkpoint::default()
        }
    }

    #[track_caller]
    fn check(values: Value, versions: &[(&str, &str)], inline: &str, apart: &[&str]) {
        let stored = checkpoint(values, versions);
        let changed: Vec<Str> = stored.channel_values.keys().cloned().collect();
        let codec = Codec::plain();
        let (column, rows) = encode(stored.clone(), &changed, &codec).unwrap();
        let json: serde_json::Value = serde_json::from_str(&column).unwrap();
        let inline: serde_json::Value = serde_json::from_str(inline).unwrap();
        assert_eq!(json["channel_values"], inline);
        let names: Vec<String> = rows
            .iter()
            .map(|row| format!("{} {} {}", row.channel, row.version, row.word))
            .collect();
        assert_eq!(names, apart);
        let blobs = rows
            .iter()
            .map(|row| (&*row.channel, row.word, row.bytes.as_slice()));
        assert_eq!(decode(&column, blobs, &codec).unwrap(), stored);
    }

    #[test]
    fn small_values_are_inline_and_others_apart() {
        let versions = [("n", "1"), ("text", "1"), ("list", "2"), ("none", "3")];
        check(
            value!({"n": 1.5, "text": "x", "list": [1], "none": null}),
            &versions,
            r#"{"n":1.5,"text":"x","none":null}"#,
            &["list 2 msgpack"],
        );
    }

    #[test]
    fn what_jsonb_would_change_is_apart() {
        let versions = [("zero", "1"), ("nul", "1"), ("large", "1")];
        check(
            value!({"zero": -0.0, "nul": "a\0", "large": 1e16}),
            &versions,
            r#"{"large":1e16}"#,
            &["zero 1 msgpack", "nul 1 msgpack"],
        );
        assert_eq!(
            text(&value!([1e16, 1e15, 0.1, 1e-7])).unwrap(),
            "[10000000000000000.0,1000000000000000.0,0.1,1e-7]"
        );
    }

    #[test]
    fn without_a_version_nothing_is_lost() {
        let mut values = value!({"list": [1, {"a": 2.0}], "nul": ["\0"]});
        if let Value::Map(map) = &mut values {
            std::sync::Arc::make_mut(map)
                .insert("raw".into(), Value::Bytes([1, 2].as_slice().into()));
        }
        check(values, &[], r#"{"list":[1,{"a":2.0}]}"#, &[]);
    }

    #[test]
    fn a_snapshot_leaves_a_mark() {
        let stored = checkpoint(value!({}), &[("d", "7")]);
        let mut values = Map::new();
        values.insert("d".into(), delta::snapshot(value!([1])));
        let stored = Checkpoint {
            channel_values: values,
            ..stored
        };
        let (column, apart) = encode(stored, &["d".into()], &Codec::plain()).unwrap();
        assert!(
            column.contains(r#""channel_values":{"d":true}"#),
            "{column}"
        );
        assert_eq!(apart.len(), 1);
    }

    #[test]
    fn metadata_has_no_nul() {
        let map = value!({"a\0": "b\0c", "d": ["\0"]})
            .as_map()
            .cloned()
            .unwrap();
        assert_eq!(metadata(&map).unwrap(), r#"{"a":"bc","d":[""]}"#);
    }
}
