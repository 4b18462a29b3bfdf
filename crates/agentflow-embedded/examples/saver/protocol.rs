//! The checkpoints port over standard input and output: one JSON request a line, one answer a
//! line. `tests/python/agentflow_saver.py` speaks it, so that LangGraph's conformance package can
//! examine the Rust storage.
//!
//! Values travel as `[type word, base64]`.

use std::io::{BufRead, Write};

use agentflow_storage::{
    checkpoint::{
        CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Checkpoints, Prune,
    },
    msgpack::{checkpoint as codec, typed},
};
use agentflow_types::{Error, Map, Result, Str, Value, from_value, to_value, value};
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Request {
    Put {
        thread_id: String,
        checkpoint_ns: String,
        parent_id: Option<String>,
        checkpoint: (String, String),
        metadata: Value,
        new_versions: Vec<String>,
    },
    PutWrites {
        thread_id: String,
        checkpoint_ns: String,
        checkpoint_id: String,
        task_id: String,
        task_path: String,
        writes: Vec<(String, String, String)>,
    },
    Get {
        thread_id: String,
        checkpoint_ns: String,
        checkpoint_id: Option<String>,
    },
    List {
        thread_id: Option<String>,
        checkpoint_ns: Option<String>,
        checkpoint_id: Option<String>,
        filter: Value,
        before: Option<String>,
        limit: Option<u32>,
    },
    DeleteThread {
        thread_id: String,
    },
    CopyThread {
        from: String,
        to: String,
    },
    DeleteForRuns {
        run_ids: Vec<String>,
    },
    Prune {
        thread_ids: Vec<String>,
        strategy: String,
    },
}

fn load(word: &str, base64: &str) -> Result<Value> {
    let bytes = BASE64
        .decode(base64)
        .map_err(|err| Error::invalid("base64").source_err(err))?;
    typed::load(word, &bytes)
}

fn pair(value: &Value) -> Result<(&'static str, String)> {
    let (word, bytes) = typed::dump(value)?;
    Ok((word, BASE64.encode(bytes)))
}

fn map(value: &Value) -> Map {
    value.as_map().cloned().unwrap_or_default()
}

fn answer(tuple: &CheckpointTuple) -> Result<Value> {
    let write = |write: &agentflow_storage::checkpoint::PendingWrite| {
        let (word, base64) = pair(&write.value)?;
        to_value(&(&write.task_id, &*write.channel, word, base64))
    };
    let writes = tuple
        .pending_writes
        .iter()
        .map(write)
        .collect::<Result<Vec<_>>>()?;
    Ok(Value::object([
        ("thread_id", tuple.key.thread_id.clone().into()),
        ("checkpoint_ns", tuple.key.checkpoint_ns.clone().into()),
        ("checkpoint_id", to_value(&tuple.key.checkpoint_id)?),
        ("parent_id", to_value(&tuple.parent_id)?),
        (
            "checkpoint",
            BASE64.encode(codec::encode(&tuple.checkpoint)?).into(),
        ),
        ("metadata", tuple.metadata.clone().into()),
        ("writes", writes.into()),
    ]))
}

async fn perform(port: &dyn Checkpoints, request: Request) -> Result<Value> {
    match request {
        Request::Get {
            thread_id,
            checkpoint_ns,
            checkpoint_id,
        } => {
            let key = CheckpointKey {
                thread_id,
                checkpoint_ns,
                checkpoint_id,
            };
            return port
                .get(&key)
                .await?
                .as_ref()
                .map_or(Ok(Value::Null), answer);
        }
        Request::List {
            thread_id,
            checkpoint_ns,
            checkpoint_id,
            filter,
            before,
            limit,
        } => {
            let metadata = map(&filter);
            let query = CheckpointQuery {
                thread_id,
                checkpoint_ns,
                checkpoint_id,
                metadata,
                before,
                limit,
            };
            let found = port.list(&query).await?;
            return Ok(Value::list(
                found.iter().map(answer).collect::<Result<_>>()?,
            ));
        }
        Request::DeleteThread { thread_id } => port.delete_thread(&thread_id).await?,
        Request::CopyThread { from, to } => port.copy_thread(&from, &to).await?,
        Request::DeleteForRuns { run_ids } => port.delete_for_runs(&run_ids).await?,
        Request::Prune {
            thread_ids,
            strategy,
        } => {
            let strategy = match strategy.as_str() {
                "keep_latest" => Prune::KeepLatest,
                "delete" => Prune::Delete,
                _ => return Err(Error::invalid("unknown strategy").with("strategy", strategy)),
            };
            port.prune(&thread_ids, strategy).await?;
        }
        write => port.commit(vec![operation(write)?], None).await?,
    }
    Ok(Value::Null)
}

/// The operation of a put.
fn operation(request: Request) -> Result<CheckpointOp> {
    match request {
        Request::Put {
            thread_id,
            checkpoint_ns,
            parent_id,
            checkpoint,
            metadata,
            new_versions,
        } => {
            let (word, base64) = checkpoint;
            let bytes = BASE64
                .decode(base64)
                .map_err(|err| Error::invalid("base64").source_err(err))?;
            Ok(CheckpointOp::Put {
                thread_id,
                checkpoint_ns,
                parent_id,
                checkpoint: codec::decode(&word, &bytes)?,
                metadata: map(&metadata),
                new_versions: new_versions.into_iter().map(Str::from).collect(),
            })
        }
        Request::PutWrites {
            thread_id,
            checkpoint_ns,
            checkpoint_id,
            task_id,
            task_path,
            writes,
        } => {
            let write = |(channel, word, base64): &(String, String, String)| {
                Ok((Str::from(channel.as_str()), load(word, base64)?))
            };
            let writes = writes.iter().map(write).collect::<Result<_>>()?;
            Ok(CheckpointOp::Writes {
                thread_id,
                checkpoint_ns,
                checkpoint_id,
                task_id,
                task_path,
                writes,
            })
        }
        _ => Err(Error::bug("not a put")),
    }
}

/// Answers requests until the input ends.
///
/// # Errors
/// `Failed` if the standard streams break.
pub async fn serve(port: &dyn Checkpoints) -> Result<()> {
    let broken = |err: std::io::Error| Error::failed("standard streams").source_err(err);
    for line in std::io::stdin().lock().lines() {
        let request = agentflow_storage::json::parse(line.map_err(broken)?.as_bytes());
        let request = request.and_then(|request| from_value::<Request>(&request));
        let outcome = match request {
            Ok(request) => perform(port, request).await,
            Err(err) => Err(err),
        };
        let reply = match outcome {
            Ok(found) => Value::object([("ok", found)]),
            Err(err) => value!({"error": err.to_string()}),
        };
        writeln!(std::io::stdout(), "{reply}").map_err(broken)?;
    }
    Ok(())
}
