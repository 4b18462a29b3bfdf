//! How checkpoints and writes look in Redis.
//!
//! Text that is made of several is *packed*: each part is its length in four bytes, the greatest
//! first, and its bytes. What a field is made of stands side by side with NUL in between, which no
//! id or namespace may hold.

use agentflow_storage::{
    checkpoint::{Checkpoint, CheckpointOp, PendingWrite, Version, special},
    json,
    msgpack::typed::Codec,
};
use agentflow_types::{Error, Map, Result, Str, Value};

/// Texts up to this many bytes stay in their checkpoint.
const SHORT: usize = 64;
/// Parts of a row before the fields of its values: parent, type word, metadata, checkpoint.
const HEAD: usize = 4;

/// One change, as the script takes it.
pub(super) struct Step {
    pub(super) kind: Kind,
    pub(super) field: String,
    pub(super) value: Vec<u8>,
}

/// What a change stores.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Checkpoint,
    Value,
    FirstWrite,
    Write,
}

impl Kind {
    pub(super) fn word(self) -> &'static [u8] {
        match self {
            Self::Checkpoint => b"P",
            Self::Value => b"B",
            Self::FirstWrite => b"W",
            Self::Write => b"R",
        }
    }
}

/// Which values go along with a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// Those that changed since its parent.
    Changed,
    /// All, because the thread does not have the others.
    All,
}

/// The thread of a change.
pub(super) fn thread_of(op: &CheckpointOp) -> &str {
    match op {
        CheckpointOp::Put { thread_id, .. } | CheckpointOp::Writes { thread_id, .. } => thread_id,
    }
}

/// The steps of a change.
///
/// # Errors
/// `Invalid` if a value is too deep or too large to be read back, or an id holds NUL.
pub(super) fn encode(codec: &Codec, op: &CheckpointOp, values: Values) -> Result<Vec<Step>> {
    match op {
        CheckpointOp::Put {
            thread_id,
            checkpoint_ns,
            parent_id,
            checkpoint,
            metadata,
            new_versions,
        } => {
            plain([thread_id, checkpoint_ns, &checkpoint.id])?;
            let stored = Put {
                codec,
                ns: checkpoint_ns,
                changed: (values == Values::Changed).then_some(new_versions),
            };
            stored.steps(parent_id.as_deref(), checkpoint, metadata)
        }
        CheckpointOp::Writes {
            thread_id,
            checkpoint_ns,
            checkpoint_id,
            task_id,
            task_path,
            writes,
        } => {
            plain([thread_id, checkpoint_ns, checkpoint_id, task_id])?;
            let of_task = format!("{}\0{task_id}", field(checkpoint_ns, checkpoint_id));
            let replaces = |(channel, _): &(Str, Value)| special::slot(channel).is_some();
            let kind = match writes.iter().all(replaces) {
                true => Kind::Write,
                false => Kind::FirstWrite,
            };
            let step = |(position, (channel, value)): (usize, &(Str, Value))| {
                let slot = special::slot(channel).unwrap_or(position as i64);
                let (word, bytes) = codec.dump(value)?;
                Ok(Step {
                    kind,
                    field: format!("{of_task}\0{slot}"),
                    value: pack([
                        task_path.as_bytes(),
                        channel.as_bytes(),
                        word.as_bytes(),
                        &bytes,
                    ])?,
                })
            };
            writes.iter().enumerate().map(step).collect()
        }
    }
}

/// A checkpoint that is stored.
struct Put<'a> {
    codec: &'a Codec,
    ns: &'a str,
    /// Channels whose values go along; `None` for all.
    changed: Option<&'a Vec<Str>>,
}

impl Put<'_> {
    fn steps(
        &self,
        parent_id: Option<&str>,
        checkpoint: &Checkpoint,
        metadata: &Map,
    ) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        let (mut inline, mut fields) = (Map::new(), Vec::new());
        for (channel, value) in &checkpoint.channel_values {
            let version = checkpoint.channel_versions.get(channel);
            let Some(field) = version.and_then(|version| self.apart(channel, version, value))
            else {
                inline.insert(channel.clone(), value.clone());
                continue;
            };
            if self.changed.is_none_or(|changed| changed.contains(channel)) {
                let (word, bytes) = self.codec.dump(value)?;
                steps.push(Step {
                    kind: Kind::Value,
                    field: field.clone(),
                    value: pack([word.as_bytes(), &bytes])?,
                });
            }
            fields.push(field);
        }
        let small = Checkpoint {
            channel_values: inline,
            ts: checkpoint.ts.clone(),
            id: checkpoint.id.clone(),
            channel_versions: checkpoint.channel_versions.clone(),
            versions_seen: checkpoint.versions_seen.clone(),
            updated_channels: checkpoint.updated_channels.clone(),
            extra: checkpoint.extra.clone(),
            ..*checkpoint
        };
        let (word, bytes) = self.codec.dump_checkpoint(&small)?;
        let metadata = json::map_text(metadata)?;
        let head: [&[u8]; HEAD] = [
            parent_id.unwrap_or_default().as_bytes(),
            word.as_bytes(),
            metadata.as_bytes(),
            &bytes,
        ];
        let rest = fields.iter().map(String::as_bytes);
        steps.push(Step {
            kind: Kind::Checkpoint,
            field: field(self.ns, &checkpoint.id),
            value: pack(head.into_iter().chain(rest))?,
        });
        Ok(steps)
    }

    /// Under which field a value is stored apart; `None` if it stays in its checkpoint.
    fn apart(&self, channel: &str, version: &Version, value: &Value) -> Option<String> {
        let is_small = match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_) => true,
            Value::Str(text) => text.len() <= SHORT,
            _ => false,
        };
        let version = match version {
            Version::Text(text) => text.to_string(),
            Version::Int(n) => format!("i{n}"),
            Version::Float(n) => format!("f{n:?}"),
        };
        let is_plain = !channel.contains('\0') && !version.contains('\0');
        (is_plain && !is_small).then(|| format!("{}\0{channel}\0{version}", self.ns))
    }
}

/// The field of a checkpoint.
pub(super) fn field(ns: &str, id: &str) -> String {
    format!("{ns}\0{id}")
}

/// Namespace and id of a checkpoint.
///
/// # Errors
/// `Corrupt` if the field is none of a checkpoint.
pub(super) fn place(field: &str) -> Result<(&str, &str)> {
    field.split_once('\0').ok_or_else(damaged)
}

/// The channel of a value's field.
///
/// # Errors
/// `Corrupt` if the field is none of a value.
pub(super) fn channel_of(field: &str) -> Result<&str> {
    field.split('\0').nth(1).ok_or_else(damaged)
}

/// # Errors
/// `Invalid` if one holds NUL.
fn plain<const N: usize>(texts: [&str; N]) -> Result<()> {
    match texts.iter().any(|text| text.contains('\0')) {
        true => Err(Error::invalid(
            "ids and namespaces of checkpoints cannot hold NUL",
        )),
        false => Ok(()),
    }
}

fn damaged() -> Error {
    Error::corrupt("a checkpoint in Redis is damaged")
}

fn pack<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    for part in parts {
        let length = u32::try_from(part.len())
            .map_err(|_| Error::invalid("a value of a checkpoint is too large"))?;
        packed.extend(length.to_be_bytes());
        packed.extend(part);
    }
    Ok(packed)
}

fn unpack(mut packed: &[u8]) -> Result<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !packed.is_empty() {
        let (length, rest) = packed.split_first_chunk::<4>().ok_or_else(damaged)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (part, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
        parts.push(part);
        packed = rest;
    }
    Ok(parts)
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| damaged())
}

/// A row without the values that are stored apart.
pub(super) struct Row {
    pub(super) parent_id: Option<String>,
    pub(super) metadata: Map,
    /// Small values are in it.
    pub(super) checkpoint: Checkpoint,
    /// Fields of the others.
    pub(super) fields: Vec<String>,
}

impl Row {
    /// # Errors
    /// `Corrupt` if the bytes are no row; others as [`Codec::load_checkpoint`].
    pub(super) fn read(codec: &Codec, bytes: &[u8]) -> Result<Self> {
        let parts = unpack(bytes)?;
        let Some(([parent, word, metadata, checkpoint], fields)) =
            parts.split_first_chunk::<HEAD>()
        else {
            return Err(damaged());
        };
        let fields = fields.iter().map(|field| text(field).map(str::to_owned));
        Ok(Self {
            parent_id: (!parent.is_empty())
                .then(|| text(parent).map(str::to_owned))
                .transpose()?,
            metadata: json::parse_map(metadata)?,
            checkpoint: codec.load_checkpoint(text(word)?, checkpoint)?,
            fields: fields.collect::<Result<_>>()?,
        })
    }

    /// Its metadata alone.
    ///
    /// # Errors
    /// `Corrupt` if the bytes are no row.
    pub(super) fn metadata(bytes: &[u8]) -> Result<Map> {
        let parts = unpack(bytes)?;
        json::parse_map(parts.get(2).ok_or_else(damaged)?)
    }

    /// The fields of its values that are stored apart.
    ///
    /// # Errors
    /// `Corrupt` if the bytes are no row.
    pub(super) fn values(bytes: &[u8]) -> Result<Vec<&str>> {
        let parts = unpack(bytes)?;
        parts.into_iter().skip(HEAD).map(text).collect()
    }

    /// Puts the values in, which are in the order of the fields.
    ///
    /// # Errors
    /// `Corrupt` if one is not there; others as [`Codec::load`].
    pub(super) fn fill(&mut self, codec: &Codec, values: &[Option<Vec<u8>>]) -> Result<()> {
        if values.len() != self.fields.len() {
            return Err(damaged());
        }
        for (field, value) in self.fields.iter().zip(values) {
            let value = self::value(codec, value.as_deref())?;
            let channel = channel_of(field)?.into();
            self.checkpoint.channel_values.insert(channel, value);
        }
        Ok(())
    }
}

/// A value that is stored apart.
///
/// # Errors
/// `Corrupt` if it is not there, or the bytes are none; others as [`Codec::load`].
pub(super) fn value(codec: &Codec, bytes: Option<&[u8]>) -> Result<Value> {
    let parts = unpack(bytes.ok_or_else(damaged)?)?;
    let [word, bytes] = <[&[u8]; 2]>::try_from(parts).map_err(|_| damaged())?;
    codec.load(text(word)?, bytes)
}

/// The writes of a checkpoint, in order: their fields and values.
///
/// # Errors
/// `Corrupt` if the bytes are no writes; others as [`Codec::load`].
pub(super) fn writes(
    codec: &Codec,
    fields: &[String],
    values: &[Vec<u8>],
) -> Result<Vec<PendingWrite>> {
    let mut found = Vec::with_capacity(fields.len());
    for (field, value) in fields.iter().zip(values) {
        let mut names = field.rsplit('\0');
        let slot: i64 = names
            .next()
            .and_then(|s| s.parse().ok())
            .ok_or_else(damaged)?;
        let task_id = names.next().ok_or_else(damaged)?.to_owned();
        let [path, channel, word, bytes] =
            <[&[u8]; 4]>::try_from(unpack(value)?).map_err(|_| damaged())?;
        let write = PendingWrite {
            task_id,
            channel: text(channel)?.into(),
            value: codec.load(text(word)?, bytes)?,
        };
        found.push((text(path)?, slot, write));
    }
    found.sort_by(|a, b| (a.0, &a.2.task_id, a.1).cmp(&(b.0, &b.2.task_id, b.1)));
    Ok(found.into_iter().map(|(_, _, write)| write).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let parts: [&[u8]; 3] = [b"", b"a\0b", &[255; 300]];
        let packed = pack(parts).unwrap();
        assert_eq!(unpack(&packed).unwrap(), parts);
        assert!(unpack(&packed[..packed.len() - 1]).is_err());
        assert!(unpack(&[0, 0]).is_err());
    }
}
