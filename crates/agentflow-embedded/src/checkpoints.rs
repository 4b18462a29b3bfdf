//! Checkpoints in LangGraph's own tables.

use agentflow_storage::{
    checkpoint::{
        CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Checkpoints, Fence,
        PendingWrite, Prune, fenced, pending_sends_of, special,
    },
    json,
    msgpack::{checkpoint as codec, typed},
};
use agentflow_types::{Result, RunId, Str, ThreadId};
use async_trait::async_trait;
use rusqlite::{Connection, Row, params, types::Value as Sql};

use crate::{
    Embedded,
    column::{all, bytes, execute, first, get, text},
};

const PUT: &str = "INSERT OR REPLACE INTO checkpoints
    (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
    VALUES (?1, ?2, ?3, ?4, 'msgpack', ?5, ?6)";
const REPLACE_WRITE: &str = "INSERT OR REPLACE INTO writes
    (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const FIRST_WRITE: &str = "INSERT OR IGNORE INTO writes
    (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const WRITES: &str = "SELECT task_id, channel, type, value FROM writes
    WHERE thread_id = ?1 AND checkpoint_ns = ?2 AND checkpoint_id = ?3
    ORDER BY task_path, task_id, idx";
const TUPLE: &str = "SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,
    checkpoint, metadata FROM checkpoints";

/// A [`CheckpointOp`] with its values encoded.
enum Encoded {
    Put {
        thread_id: String,
        checkpoint_ns: String,
        checkpoint_id: String,
        parent_id: Option<String>,
        checkpoint: Vec<u8>,
        metadata: Vec<u8>,
    },
    Writes {
        thread_id: String,
        checkpoint_ns: String,
        checkpoint_id: String,
        task_id: String,
        task_path: String,
        sql: &'static str,
        rows: Vec<EncodedWrite>,
    },
}

struct EncodedWrite {
    slot: i64,
    channel: Str,
    word: &'static str,
    bytes: Vec<u8>,
}

fn encode(op: CheckpointOp) -> Result<Encoded> {
    Ok(match op {
        CheckpointOp::Put {
            thread_id,
            checkpoint_ns,
            parent_id,
            checkpoint,
            metadata,
            new_versions: _,
        } => Encoded::Put {
            thread_id,
            checkpoint_ns,
            checkpoint: codec::encode(&checkpoint)?,
            checkpoint_id: checkpoint.id,
            parent_id,
            metadata: json::python_text(&metadata)?.into_bytes(),
        },
        CheckpointOp::Writes {
            thread_id,
            checkpoint_ns,
            checkpoint_id,
            task_id,
            task_path,
            writes,
        } => {
            let replace = writes
                .iter()
                .all(|(channel, _)| special::slot(channel).is_some());
            let row = |(position, (channel, value)): (usize, &(Str, _))| -> Result<EncodedWrite> {
                let (word, bytes) = typed::dump(value)?;
                Ok(EncodedWrite {
                    slot: special::slot(channel).unwrap_or(position as i64),
                    channel: channel.clone(),
                    word,
                    bytes: bytes.into_owned(),
                })
            };
            let rows = writes.iter().enumerate().map(row).collect::<Result<_>>()?;
            let sql = if replace { REPLACE_WRITE } else { FIRST_WRITE };
            Encoded::Writes {
                thread_id,
                checkpoint_ns,
                checkpoint_id,
                task_id,
                task_path,
                sql,
                rows,
            }
        }
    })
}

fn apply(db: &Connection, op: &Encoded) -> Result<()> {
    match op {
        Encoded::Put {
            thread_id,
            checkpoint_ns,
            checkpoint_id,
            parent_id,
            checkpoint,
            metadata,
        } => {
            let row = params![
                thread_id,
                checkpoint_ns,
                checkpoint_id,
                parent_id,
                checkpoint,
                metadata
            ];
            execute(db, PUT, row)?;
        }
        Encoded::Writes {
            thread_id,
            checkpoint_ns,
            checkpoint_id,
            task_id,
            task_path,
            sql,
            rows,
        } => {
            for write in rows {
                let EncodedWrite {
                    slot,
                    channel,
                    word,
                    bytes,
                } = write;
                let row = params![
                    thread_id,
                    checkpoint_ns,
                    checkpoint_id,
                    task_id,
                    task_path,
                    slot,
                    &**channel,
                    word,
                    bytes,
                ];
                execute(db, sql, row)?;
            }
        }
    }
    Ok(())
}

/// Checks that a run is still leased under the fence's token.
pub(crate) fn check_fence(db: &Connection, fence: Option<Fence>) -> Result<()> {
    let Some(fence) = fence else { return Ok(()) };
    let sql = "SELECT 1 FROM agentflow_runs
        WHERE run_id = ?1 AND status = 'running' AND lease_token = ?2";
    let held = first(db, sql, params![fence.run_id.text(), fence.token], |_| {
        Ok(())
    })?;
    held.ok_or_else(|| fenced(fence))
}

/// Removes the checkpoints of one thread that name a run, with their writes.
pub(crate) fn rollback(db: &Connection, thread: ThreadId, run: RunId) -> Result<()> {
    let (thread, run) = (thread.text(), run.text());
    let sql = "SELECT checkpoint_ns, checkpoint_id FROM checkpoints
        WHERE thread_id = ?1 AND agentflow_run_id(metadata) = ?2";
    let gone: Vec<(String, String)> = all(db, sql, params![thread, run], |row| {
        Ok((get(row, 0)?, get(row, 1)?))
    })?;
    gone.iter()
        .try_for_each(|(ns, id)| remove(db, &thread, ns, id))
}

/// Removes all checkpoints and writes of a thread.
pub(crate) fn remove_thread(db: &Connection, thread_id: &str) -> Result<()> {
    execute(
        db,
        "DELETE FROM checkpoints WHERE thread_id = ?1",
        [thread_id],
    )?;
    execute(db, "DELETE FROM writes WHERE thread_id = ?1", [thread_id])?;
    Ok(())
}

fn remove(db: &Connection, thread_id: &str, ns: &str, id: &str) -> Result<()> {
    for sql in [
        "DELETE FROM checkpoints
            WHERE thread_id = ?1 AND checkpoint_ns = ?2 AND checkpoint_id = ?3",
        "DELETE FROM writes WHERE thread_id = ?1 AND checkpoint_ns = ?2 AND checkpoint_id = ?3",
    ] {
        execute(db, sql, [thread_id, ns, id])?;
    }
    Ok(())
}

fn keep_latest(db: &Connection, thread_id: &str) -> Result<()> {
    let sql = "SELECT checkpoint_ns, checkpoint_id FROM checkpoints AS old
        WHERE thread_id = ?1 AND checkpoint_id < (SELECT max(checkpoint_id) FROM checkpoints
            WHERE thread_id = ?1 AND checkpoint_ns = old.checkpoint_ns)";
    let gone: Vec<(String, String)> =
        all(db, sql, [thread_id], |row| Ok((get(row, 0)?, get(row, 1)?)))?;
    gone.iter()
        .try_for_each(|(ns, id)| remove(db, thread_id, ns, id))
}

fn pending(db: &Connection, thread_id: &str, ns: &str, id: &str) -> Result<Vec<PendingWrite>> {
    all(db, WRITES, [thread_id, ns, id], |row| {
        Ok(PendingWrite {
            task_id: get(row, 0)?,
            channel: text(row, 1)?.into(),
            value: typed::load(word(row, 2)?, bytes(row, 3)?)?,
        })
    })
}

/// The type word; rows of very old savers have none and hold MessagePack.
fn word<'a>(row: &'a Row<'_>, index: usize) -> Result<&'a str> {
    let column = bytes(row, index)?;
    Ok(if column.is_empty() {
        typed::MSGPACK
    } else {
        text(row, index)?
    })
}

fn tuple(db: &Connection, row: &Row<'_>) -> Result<CheckpointTuple> {
    let (thread_id, ns, id): (String, String, String) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
    let parent_id: Option<String> = get::<Option<String>>(row, 3)?.filter(|id| !id.is_empty());
    let mut checkpoint = codec::decode(word(row, 4)?, bytes(row, 5)?)?;
    if let (true, Some(parent)) = (checkpoint.wants_pending_sends(), &parent_id) {
        let sends = pending_sends_of(pending(db, &thread_id, &ns, parent)?);
        checkpoint.take_pending_sends(sends);
    }
    Ok(CheckpointTuple {
        checkpoint,
        metadata: json::parse_map(bytes(row, 6)?)?,
        parent_id,
        pending_writes: pending(db, &thread_id, &ns, &id)?,
        key: CheckpointKey {
            thread_id,
            checkpoint_ns: ns,
            checkpoint_id: Some(id),
        },
    })
}

fn select(query: &CheckpointQuery) -> Result<(String, Vec<Sql>)> {
    let mut conditions = Vec::new();
    let mut values: Vec<Sql> = Vec::new();
    let mut add = |condition: &'static str, value: String| {
        conditions.push(condition);
        values.push(value.into());
    };
    if let Some(thread_id) = &query.thread_id {
        add("thread_id = ?", thread_id.clone());
    }
    if let Some(ns) = &query.checkpoint_ns {
        add("checkpoint_ns = ?", ns.clone());
    }
    if let Some(id) = &query.checkpoint_id {
        add("checkpoint_id = ?", id.clone());
    }
    if let Some(before) = &query.before {
        add("checkpoint_id < ?", before.clone());
    }
    if !query.metadata.is_empty() {
        add(
            "agentflow_has(metadata, ?)",
            json::map_text(&query.metadata)?,
        );
    }
    let mut sql = TUPLE.to_owned();
    if !conditions.is_empty() {
        sql.push_str(" WHERE ");
        sql.push_str(&conditions.join(" AND "));
    }
    sql.push_str(" ORDER BY checkpoint_id DESC, thread_id, checkpoint_ns LIMIT ?");
    values.push(query.limit.map_or(-1, i64::from).into());
    Ok((sql, values))
}

#[async_trait]
impl Checkpoints for Embedded {
    async fn get(&self, key: &CheckpointKey) -> Result<Option<CheckpointTuple>> {
        const BY_ID: &str = "SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id,
            type, checkpoint, metadata FROM checkpoints
            WHERE thread_id = ?1 AND checkpoint_ns = ?2 AND checkpoint_id = ?3";
        const NEWEST: &str = "SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id,
            type, checkpoint, metadata FROM checkpoints
            WHERE thread_id = ?1 AND checkpoint_ns = ?2 ORDER BY checkpoint_id DESC LIMIT 1";
        let CheckpointKey {
            thread_id,
            checkpoint_ns: ns,
            checkpoint_id,
        } = key.clone();
        self.read_short(move |db| match checkpoint_id {
            Some(id) => first(db, BY_ID, [thread_id, ns, id], |row| tuple(db, row)),
            None => first(db, NEWEST, [thread_id, ns], |row| tuple(db, row)),
        })
        .await
    }

    async fn list(&self, query: &CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        let (sql, values) = select(query)?;
        self.read(move |db| {
            all(db, &sql, rusqlite::params_from_iter(values), |row| {
                tuple(db, row)
            })
        })
        .await
    }

    async fn commit(&self, ops: Vec<CheckpointOp>, fence: Option<Fence>) -> Result<()> {
        let ops = ops.into_iter().map(encode).collect::<Result<Vec<_>>>()?;
        self.write(move |db| {
            check_fence(db, fence)?;
            ops.iter().try_for_each(|op| apply(db, op))
        })
        .await
    }

    async fn delete_thread(&self, thread_id: &str) -> Result<()> {
        let thread_id = thread_id.to_owned();
        self.write(move |db| remove_thread(db, &thread_id)).await
    }

    async fn copy_thread(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.write(move |db| {
            let rows = "INSERT OR REPLACE INTO checkpoints
                SELECT ?2, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint,
                    metadata FROM checkpoints WHERE thread_id = ?1";
            // Columns by name: in old files `task_path` was added behind the others.
            let writes = "INSERT OR REPLACE INTO writes (thread_id, checkpoint_ns, checkpoint_id,
                    task_id, task_path, idx, channel, type, value)
                SELECT ?2, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type,
                    value FROM writes WHERE thread_id = ?1";
            execute(db, rows, [&from, &to])?;
            execute(db, writes, [&from, &to])?;
            Ok(())
        })
        .await
    }

    async fn delete_for_runs(&self, run_ids: &[String]) -> Result<()> {
        let run_ids = run_ids.to_vec();
        self.write(move |db| {
            // No index leads from a run to its checkpoints, because the table is LangGraph's; the
            // queue's own rollback knows the thread and is not affected.
            let sql = "SELECT thread_id, checkpoint_ns, checkpoint_id, agentflow_run_id(metadata)
                FROM checkpoints WHERE agentflow_run_id(metadata) IS NOT NULL";
            let named: Vec<(String, String, String, String)> = all(db, sql, [], |row| {
                Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?, get(row, 3)?))
            })?;
            let gone = named.iter().filter(|(.., run)| run_ids.contains(run));
            gone.into_iter()
                .try_for_each(|(thread, ns, id, _)| remove(db, thread, ns, id))
        })
        .await
    }

    async fn prune(&self, thread_ids: &[String], strategy: Prune) -> Result<()> {
        let thread_ids = thread_ids.to_vec();
        self.write(move |db| {
            thread_ids.iter().try_for_each(|thread_id| match strategy {
                Prune::Delete => remove_thread(db, thread_id),
                Prune::KeepLatest => keep_latest(db, thread_id),
            })
        })
        .await
    }
}
