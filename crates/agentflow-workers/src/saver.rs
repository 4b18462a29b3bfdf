//! Checkpoints that workers read and write. See `docs/worker-protocol.md`, section 8.

use agentflow_storage::{
    checkpoint::{
        CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, PendingWrite,
        delta::DeltaHistory,
    },
    msgpack::{
        checkpoint::{encode, from_value},
        typed,
    },
};
use agentflow_types::{Error, Result, Str, Value};

use crate::{
    Services,
    session::Session,
    wire::{items, map_from_json, maybe_text, text, texts, to_json, wrong},
};

fn pair(word: &str, bytes: &[u8]) -> Value {
    Value::list(vec![Value::str(word), Value::Bytes(bytes.into())])
}

/// A value as LangGraph's serializer writes it.
fn dump(value: &Value) -> Result<Value> {
    let (word, bytes) = typed::dump(value)?;
    Ok(pair(word, &bytes))
}

fn load(value: &Value) -> Result<Value> {
    match value.as_list() {
        Some([Value::Str(word), Value::Bytes(bytes)]) => typed::load(word, bytes),
        // `null` has no bytes, and some libraries write none as nil.
        Some([Value::Str(word), Value::Null]) => typed::load(word, &[]),
        _ => Err(wrong("typed")),
    }
}

fn writes(list: &[PendingWrite]) -> Result<Value> {
    let one = |write: &PendingWrite| {
        Ok(Value::list(vec![
            Value::str(write.task_id.as_str()),
            Value::Str(write.channel.clone()),
            dump(&write.value)?,
        ]))
    };
    Ok(Value::list(list.iter().map(one).collect::<Result<_>>()?))
}

fn tuple(found: &CheckpointTuple) -> Result<Value> {
    let parent = found.parent_id.as_deref().map_or(Value::Null, Value::str);
    Ok(Value::object([
        ("thread_id", Value::str(found.key.thread_id.as_str())),
        (
            "checkpoint_ns",
            Value::str(found.key.checkpoint_ns.as_str()),
        ),
        ("checkpoint_id", Value::str(found.checkpoint.id.as_str())),
        ("parent_id", parent),
        (
            "checkpoint",
            pair(typed::MSGPACK, &encode(&found.checkpoint)?),
        ),
        ("metadata", to_json(&Value::map(found.metadata.clone()))),
        ("writes", writes(&found.pending_writes)?),
    ]))
}

fn key(params: &Value) -> Result<CheckpointKey> {
    Ok(CheckpointKey {
        thread_id: text(params, "thread_id")?,
        checkpoint_ns: maybe_text(params, "checkpoint_ns").unwrap_or_default(),
        checkpoint_id: maybe_text(params, "checkpoint_id").filter(|id| !id.is_empty()),
    })
}

/// Answers `saver.get`.
pub(crate) async fn get(services: &Services, session: &Session, params: &Value) -> Result<Value> {
    let key = key(params)?;
    session.check_thread(&key.thread_id)?;
    let found = services.checkpoints.get(&key).await?;
    found.as_ref().map_or(Ok(Value::Null), tuple)
}

/// Answers `saver.list`.
pub(crate) async fn list(services: &Services, session: &Session, params: &Value) -> Result<Value> {
    let thread_id = maybe_text(params, "thread_id");
    if let Some(thread_id) = &thread_id {
        session.check_thread(thread_id)?;
    }
    let limit = params.get("limit").and_then(Value::as_i64);
    let query = CheckpointQuery {
        // Nobody sees the threads of others: all threads are the request's own.
        thread_id: Some(thread_id.unwrap_or_else(|| session.thread_id().to_owned())),
        checkpoint_ns: maybe_text(params, "checkpoint_ns"),
        checkpoint_id: maybe_text(params, "checkpoint_id").filter(|id| !id.is_empty()),
        metadata: map_from_json(params.get("filter"))?,
        before: maybe_text(params, "before"),
        limit: limit.map(|limit| u32::try_from(limit).unwrap_or(0)),
    };
    let found = services.checkpoints.list(&query).await?;
    Ok(Value::list(found.iter().map(tuple).collect::<Result<_>>()?))
}

/// Answers `saver.delta_history`.
pub(crate) async fn delta_history(
    services: &Services,
    session: &Session,
    params: &Value,
) -> Result<Value> {
    let key = key(params)?;
    session.check_thread(&key.thread_id)?;
    let channels: Vec<Str> = texts(params, "channels")
        .into_iter()
        .map(Str::from)
        .collect();
    let one = |history: &DeltaHistory| {
        Ok(Value::object([
            ("seed", history.seed.as_ref().map_or(Ok(Value::Null), dump)?),
            ("writes", writes(&history.writes)?),
        ]))
    };
    let found = services.checkpoints.delta_history(&key, &channels).await?;
    Ok(Value::list(found.iter().map(one).collect::<Result<_>>()?))
}

/// Reads the ops of `saver.commit`.
pub(crate) fn read_ops(session: &Session, params: &Value) -> Result<Vec<CheckpointOp>> {
    let ops = items(params, "ops").iter().map(|op| {
        let thread_id = text(op, "thread_id")?;
        session.check_thread(&thread_id)?;
        let checkpoint_ns = maybe_text(op, "checkpoint_ns").unwrap_or_default();
        match op.get("op").and_then(Value::as_str) {
            Some("put") => put(op, thread_id, checkpoint_ns),
            Some("writes") => Ok(CheckpointOp::Writes {
                thread_id,
                checkpoint_ns,
                checkpoint_id: text(op, "checkpoint_id")?,
                task_id: text(op, "task_id")?,
                task_path: maybe_text(op, "task_path").unwrap_or_default(),
                writes: items(op, "writes")
                    .iter()
                    .map(write)
                    .collect::<Result<_>>()?,
            }),
            _ => Err(wrong("op")),
        }
    });
    ops.collect()
}

fn put(op: &Value, thread_id: String, checkpoint_ns: String) -> Result<CheckpointOp> {
    let given = op.get("checkpoint").ok_or_else(|| wrong("checkpoint"))?;
    let refused = |err: Error| match err.kind() {
        agentflow_types::ErrorKind::Corrupt => wrong("checkpoint").source_err(err),
        _ => err,
    };
    let channels = texts(op, "new_versions");
    Ok(CheckpointOp::Put {
        thread_id,
        checkpoint_ns,
        parent_id: maybe_text(op, "parent_id").filter(|id| !id.is_empty()),
        checkpoint: load(given).and_then(from_value).map_err(refused)?,
        metadata: map_from_json(op.get("metadata"))?,
        new_versions: channels.into_iter().map(Str::from).collect(),
    })
}

fn write(write: &Value) -> Result<(Str, Value)> {
    match write.as_list() {
        Some([Value::Str(channel), value]) => Ok((channel.clone(), load(value)?)),
        _ => Err(wrong("writes")),
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    #[test]
    fn typed_values_keep_their_bytes() {
        let send = b"\xc7\x1d\x01\x93\xaflanggraph.types\xa4Send\x92\xa1n\x81\xa1x\x01";
        let there = pair("msgpack", send);
        assert_eq!(dump(&load(&there).unwrap()).unwrap(), there);
        let null = Value::list(vec![Value::str("null"), Value::Null]);
        assert_eq!(load(&null).unwrap(), Value::Null);
        assert!(load(&value!(["msgpack", "x"])).is_err());
        assert!(load(&pair("pickle", b"x")).is_err());
    }
}
