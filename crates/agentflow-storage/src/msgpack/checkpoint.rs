//! A checkpoint as one MessagePack map, as `langgraph-checkpoint-sqlite` stores it.

use agentflow_types::{Error, Map, Result, Str, Value};
use indexmap::IndexMap;

use super::{encode::Encoder, typed};
use crate::checkpoint::{Checkpoint, Version};

/// Key of scheduled sends in checkpoints of formats before 4.
const PENDING_SENDS: &str = "pending_sends";
/// Keys of a checkpoint in the order in which Python writes them; unknown keys go before the
/// last one.
const KEYS: [&str; 7] = [
    "v",
    "ts",
    "id",
    "channel_values",
    "channel_versions",
    "versions_seen",
    "updated_channels",
];

/// Room for what a checkpoint holds besides its values.
const ROOM: usize = 1024;

/// Bytes of a checkpoint; the type word is [`typed::MSGPACK`].
///
/// # Errors
/// `Invalid` if it is too deep or too large to be read back.
pub fn encode(checkpoint: &Checkpoint) -> Result<Vec<u8>> {
    let values = checkpoint.channel_values.values();
    let size = values.map(Value::size_bytes).sum::<usize>();
    let mut out = Encoder::with_room(size + ROOM);
    let extra = || {
        checkpoint
            .extra
            .iter()
            .filter(|(key, _)| !KEYS.contains(&&***key))
    };
    out.map_len(KEYS.len() + extra().count());
    out.str("v");
    out.int(checkpoint.v);
    out.str("ts");
    out.str(&checkpoint.ts);
    out.str("id");
    out.str(&checkpoint.id);
    out.str("channel_values");
    out.map(&checkpoint.channel_values);
    out.str("channel_versions");
    versions(&mut out, &checkpoint.channel_versions);
    out.str("versions_seen");
    out.map_len(checkpoint.versions_seen.len());
    for (node, seen) in &checkpoint.versions_seen {
        out.str(node);
        versions(&mut out, seen);
    }
    for (key, value) in extra() {
        out.str(key);
        out.value(value);
    }
    out.str("updated_channels");
    match &checkpoint.updated_channels {
        None => out.nil(),
        Some(channels) => {
            out.array_len(channels.len());
            channels.iter().for_each(|channel| out.str(channel));
        }
    }
    out.finish()
}

fn versions(out: &mut Encoder, versions: &IndexMap<Str, Version>) {
    out.map_len(versions.len());
    for (channel, version) in versions {
        out.str(channel);
        match version {
            Version::Text(text) => out.str(text),
            Version::Int(n) => out.int(*n),
            Version::Float(n) => out.float(*n),
        }
    }
}

/// The checkpoint of a stored pair of type word and bytes.
///
/// Scheduled sends that formats before 4 kept in `pending_sends` move to their channel.
///
/// # Errors
/// What [`typed::load`] returns; `Corrupt` if the value is not a checkpoint.
pub fn decode(word: &str, bytes: &[u8]) -> Result<Checkpoint> {
    from_value(typed::load(word, bytes)?)
}

/// The checkpoint of a map with its fields, as [`decode`] reads it.
///
/// # Errors
/// `Corrupt` if the value is not a checkpoint.
pub fn from_value(value: Value) -> Result<Checkpoint> {
    let mut map = take_map("checkpoint", Some(value))?;
    let mut checkpoint = Checkpoint {
        v: map.shift_remove("v").and_then(|v| v.as_i64()).unwrap_or(1),
        ts: take_text(&mut map, "ts")?.unwrap_or_default(),
        id: take_text(&mut map, "id")?.ok_or_else(|| Error::corrupt("a checkpoint has no id"))?,
        channel_values: take_map("channel_values", map.shift_remove("channel_values"))?,
        channel_versions: take_versions(map.shift_remove("channel_versions"))?,
        versions_seen: take_map("versions_seen", map.shift_remove("versions_seen"))?
            .into_iter()
            .map(|(node, seen)| Ok((node, take_versions(Some(seen))?)))
            .collect::<Result<_>>()?,
        updated_channels: take_names(map.shift_remove("updated_channels"))?,
        extra: map,
    };
    if checkpoint.wants_pending_sends()
        && let Some(Value::List(sends)) = checkpoint.extra.shift_remove(PENDING_SENDS)
    {
        checkpoint.take_pending_sends(sends.to_vec());
    }
    Ok(checkpoint)
}

fn wrong(field: &'static str) -> Error {
    Error::corrupt("a field of a checkpoint has the wrong type").with("field", field)
}

fn take_map(field: &'static str, value: Option<Value>) -> Result<Map> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Map(map)) => Ok(std::sync::Arc::unwrap_or_clone(map)),
        Some(_) => Err(wrong(field)),
    }
}

fn take_text(map: &mut Map, field: &'static str) -> Result<Option<String>> {
    match map.shift_remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Str(text)) => Ok(Some(text.as_ref().to_owned())),
        Some(_) => Err(wrong(field)),
    }
}

fn take_names(value: Option<Value>) -> Result<Option<Vec<Str>>> {
    let name = |item: &Value| match item {
        Value::Str(text) => Ok(text.clone()),
        _ => Err(wrong("updated_channels")),
    };
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::List(items)) => items.iter().map(name).collect::<Result<_>>().map(Some),
        Some(_) => Err(wrong("updated_channels")),
    }
}

fn take_versions(value: Option<Value>) -> Result<IndexMap<Str, Version>> {
    let version = |value: Value| match value {
        Value::Str(text) => Ok(Version::Text(text)),
        Value::Int(n) => Ok(Version::Int(n)),
        Value::Float(n) => Ok(Version::Float(n)),
        _ => Err(wrong("channel_versions")),
    };
    let map = take_map("channel_versions", value)?;
    map.into_iter()
        .map(|(channel, value)| Ok((channel, version(value)?)))
        .collect()
}
