//! Checkpoints in LangGraph's own tables.

use std::collections::HashSet;

use agentflow_storage::{
    checkpoint::{
        CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Checkpoints, Fence,
        PendingWrite, Prune, Rest,
        delta::{self, DeltaHistory, Walk},
        fenced, moved, pending_sends_of, special,
        usage::{Amount, Usage},
    },
    json,
    msgpack::typed::{self, Codec},
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
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
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
const BY_ID: &str = "SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,
    checkpoint, metadata FROM checkpoints
    WHERE thread_id = ?1 AND checkpoint_ns = ?2 AND checkpoint_id = ?3";
const NEWEST: &str = "SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,
    checkpoint, metadata FROM checkpoints
    WHERE thread_id = ?1 AND checkpoint_ns = ?2 ORDER BY checkpoint_id DESC LIMIT 1";
const NEWEST_ID: &str = "SELECT max(checkpoint_id) FROM checkpoints
    WHERE thread_id = ?1 AND checkpoint_ns = ?2";
const PARENT: &str = "SELECT parent_checkpoint_id FROM checkpoints
    WHERE thread_id = ?1 AND checkpoint_ns = ?2 AND checkpoint_id = ?3";

/// A [`CheckpointOp`] with its values encoded.
enum Encoded {
    Put {
        thread_id: String,
        checkpoint_ns: String,
        checkpoint_id: String,
        parent_id: Option<String>,
        word: &'static str,
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

fn encode(codec: &Codec, op: CheckpointOp) -> Result<Encoded> {
    Ok(match op {
        CheckpointOp::Put {
            thread_id,
            checkpoint_ns,
            parent_id,
            checkpoint,
            metadata,
            new_versions: _,
        } => {
            let (word, bytes) = codec.dump_checkpoint(&checkpoint)?;
            Encoded::Put {
                thread_id,
                checkpoint_ns,
                word,
                checkpoint: bytes,
                checkpoint_id: checkpoint.id,
                parent_id,
                metadata: json::python_text(&metadata)?.into_bytes(),
            }
        }
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
                let (word, bytes) = codec.dump(value)?;
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
            word,
            checkpoint,
            metadata,
        } => {
            let row = params![
                thread_id,
                checkpoint_ns,
                checkpoint_id,
                parent_id,
                word,
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

/// Whether no run of the thread is running, and its row is as it was seen.
pub(crate) fn rests(db: &Connection, rest: Rest) -> Result<bool> {
    let sql = "SELECT 1 FROM agentflow_threads AS t WHERE thread_id = ?1 AND updated_at = ?2
        AND NOT EXISTS (SELECT 1 FROM agentflow_runs AS r
            WHERE r.thread_id = t.thread_id AND r.status = 'running')";
    let values = params![rest.thread_id.text(), rest.updated_at.0];
    Ok(first(db, sql, values, |_| Ok(()))?.is_some())
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

fn keep_latest(codec: &Codec, db: &Connection, thread_id: &str) -> Result<()> {
    const ROWS: &str = "SELECT checkpoint_ns, checkpoint_id FROM checkpoints
        WHERE thread_id = ?1 ORDER BY checkpoint_ns, checkpoint_id DESC";
    let rows: Vec<(String, String)> = all(db, ROWS, [thread_id], |row| {
        Ok((get(row, 0)?, get(row, 1)?))
    })?;
    let mut before: Option<&str> = None;
    let mut kept = HashSet::new();
    for (ns, id) in &rows {
        if before.replace(ns) != Some(ns) {
            let needed = ancestors_of_deltas(codec, db, (thread_id, ns, id))?;
            kept.insert((ns.as_str(), id.clone()));
            kept.extend(needed.into_iter().map(|id| (ns.as_str(), id)));
        }
    }
    rows.iter()
        .filter(|(ns, id)| !kept.contains(&(ns.as_str(), id.clone())))
        .try_for_each(|(ns, id)| remove(db, thread_id, ns, id))
}

/// Thread, namespace, id.
type At<'a> = (&'a str, &'a str, &'a str);

/// The ancestors from which the delta channels of a checkpoint are rebuilt.
fn ancestors_of_deltas(codec: &Codec, db: &Connection, at: At<'_>) -> Result<Vec<String>> {
    let found = first(db, BY_ID, [at.0, at.1, at.2], |row| {
        let metadata = json::parse_map(bytes(row, 6)?)?;
        if !metadata.contains_key(delta::COUNTERS) {
            return Ok(Vec::new());
        }
        let checkpoint = codec.load_checkpoint(word(row, 4)?, bytes(row, 5)?)?;
        Ok(delta::unresolved(&checkpoint, &metadata))
    })?;
    ancestors(codec, db, at, &mut Walk::new(&found.unwrap_or_default()))
}

/// Visits the ancestors of a checkpoint while the walk wants more; returns their ids.
fn ancestors(
    codec: &Codec,
    db: &Connection,
    (thread_id, ns, id): At<'_>,
    walk: &mut Walk,
) -> Result<Vec<String>> {
    let mut visited = Vec::new();
    let mut parent = first(db, PARENT, [thread_id, ns, id], |row| parent_of(row, 0))?.flatten();
    while let Some(id) = parent {
        if !walk.wants(&id)? {
            break;
        }
        let found = first(db, BY_ID, [thread_id, ns, &id], |row| {
            let checkpoint = codec.load_checkpoint(word(row, 4)?, bytes(row, 5)?)?;
            Ok((checkpoint, parent_of(row, 3)?))
        })?;
        let Some((checkpoint, above)) = found else {
            break;
        };
        let writes = collected(codec, db, (thread_id, ns, &id), walk)?;
        walk.visit(writes, &checkpoint.channel_values);
        visited.push(id);
        parent = above;
    }
    Ok(visited)
}

fn parent_of(row: &Row<'_>, index: usize) -> Result<Option<String>> {
    Ok(get::<Option<String>>(row, index)?.filter(|id| !id.is_empty()))
}

/// The pending writes of a checkpoint that a walk collects; others are not decoded.
fn collected(
    codec: &Codec,
    db: &Connection,
    (thread_id, ns, id): At<'_>,
    walk: &Walk,
) -> Result<Vec<PendingWrite>> {
    let rows = all(db, WRITES, [thread_id, ns, id], |row| {
        let wanted = walk.collects(text(row, 1)?);
        wanted.then(|| pending_write(codec, row)).transpose()
    })?;
    Ok(rows.into_iter().flatten().collect())
}

fn pending_write(codec: &Codec, row: &Row<'_>) -> Result<PendingWrite> {
    Ok(PendingWrite {
        task_id: get(row, 0)?,
        channel: text(row, 1)?.into(),
        value: codec.load(word(row, 2)?, bytes(row, 3)?)?,
    })
}

fn pending(
    codec: &Codec,
    db: &Connection,
    thread_id: &str,
    ns: &str,
    id: &str,
) -> Result<Vec<PendingWrite>> {
    all(db, WRITES, [thread_id, ns, id], |row| {
        pending_write(codec, row)
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

fn tuple(codec: &Codec, db: &Connection, row: &Row<'_>) -> Result<CheckpointTuple> {
    let (thread_id, ns, id): (String, String, String) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
    let parent_id = parent_of(row, 3)?;
    let mut checkpoint = codec.load_checkpoint(word(row, 4)?, bytes(row, 5)?)?;
    if let (true, Some(parent)) = (checkpoint.wants_pending_sends(), &parent_id) {
        let sends = pending_sends_of(pending(codec, db, &thread_id, &ns, parent)?);
        checkpoint.take_pending_sends(sends);
    }
    Ok(CheckpointTuple {
        checkpoint,
        metadata: json::parse_map(bytes(row, 6)?)?,
        parent_id,
        pending_writes: pending(codec, db, &thread_id, &ns, &id)?,
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

/// What the checkpoints of a thread take.
fn usage(codec: &Codec, db: &Connection, thread_id: &str) -> Result<Usage> {
    const ROWS: &str = "SELECT type, checkpoint, octet_length(checkpoint) + octet_length(metadata)
        FROM checkpoints WHERE thread_id = ?1";
    const SIZES: &str = "SELECT count(*), coalesce(sum(octet_length(value)), 0) FROM writes
        WHERE thread_id = ?1";
    let mut usage = Usage::default();
    all(db, ROWS, [thread_id], |row| {
        let checkpoint = codec.load_checkpoint(word(row, 0)?, bytes(row, 1)?)?;
        let size: Option<i64> = get(row, 2)?;
        usage.add_whole(&checkpoint, size.unwrap_or(0).unsigned_abs() as usize)
    })?;
    let writes = first(db, SIZES, [thread_id], |row| {
        Ok(Amount {
            count: get::<i64>(row, 0)?.unsigned_abs(),
            bytes: get::<i64>(row, 1)?.unsigned_abs(),
        })
    })?;
    usage.writes = writes.unwrap_or_default();
    Ok(usage)
}

#[async_trait]
impl Checkpoints for Embedded {
    async fn usage(&self, thread_id: &str) -> Result<Option<Usage>> {
        let (thread_id, codec) = (thread_id.to_owned(), self.codec());
        self.read(move |db| usage(&codec, db, &thread_id).map(Some))
            .await
    }

    async fn get(&self, key: &CheckpointKey) -> Result<Option<CheckpointTuple>> {
        let CheckpointKey {
            thread_id,
            checkpoint_ns: ns,
            checkpoint_id,
        } = key.clone();
        let codec = self.codec();
        self.read_short(move |db| match checkpoint_id {
            Some(id) => first(db, BY_ID, [thread_id, ns, id], |row| tuple(&codec, db, row)),
            None => first(db, NEWEST, [thread_id, ns], |row| tuple(&codec, db, row)),
        })
        .await
    }

    async fn delta_history(
        &self,
        key: &CheckpointKey,
        channels: &[Str],
    ) -> Result<Vec<DeltaHistory>> {
        let (key, mut walk, codec) = (key.clone(), Walk::new(channels), self.codec());
        self.read(move |db| {
            let (thread_id, ns) = (&*key.thread_id, &*key.checkpoint_ns);
            let id = match key.checkpoint_id {
                Some(id) => Some(id),
                None => first(db, NEWEST_ID, [thread_id, ns], |row| get(row, 0))?.flatten(),
            };
            if let Some(id) = id {
                ancestors(&codec, db, (thread_id, ns, &id), &mut walk)?;
            }
            Ok(walk.finish())
        })
        .await
    }

    async fn list(&self, query: &CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        let (sql, values) = select(query)?;
        let codec = self.codec();
        self.read(move |db| {
            all(db, &sql, rusqlite::params_from_iter(values), |row| {
                tuple(&codec, db, row)
            })
        })
        .await
    }

    async fn commit(&self, ops: Vec<CheckpointOp>, fence: Option<Fence>) -> Result<()> {
        let codec = self.codec();
        let ops = ops.into_iter().map(|op| encode(&codec, op));
        let ops = ops.collect::<Result<Vec<_>>>()?;
        self.write(move |db| {
            check_fence(db, fence)?;
            ops.iter().try_for_each(|op| apply(db, op))
        })
        .await
    }

    async fn commit_at_rest(&self, ops: Vec<CheckpointOp>, rest: Rest) -> Result<()> {
        let codec = self.codec();
        let ops = ops.into_iter().map(|op| encode(&codec, op));
        let ops = ops.collect::<Result<Vec<_>>>()?;
        self.write(move |db| match rests(db, rest)? {
            true => ops.iter().try_for_each(|op| apply(db, op)),
            false => Err(moved(rest)),
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
        let (thread_ids, codec) = (thread_ids.to_vec(), self.codec());
        self.write(move |db| {
            thread_ids.iter().try_for_each(|thread_id| match strategy {
                Prune::Delete => remove_thread(db, thread_id),
                Prune::KeepLatest => keep_latest(&codec, db, thread_id),
            })
        })
        .await
    }
}
