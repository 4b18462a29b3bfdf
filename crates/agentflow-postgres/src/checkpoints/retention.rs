//! What happens to whole threads and runs: deletion, copies, pruning.
//!
//! A blob is shared by all checkpoints that carry its version. Whatever removes checkpoints
//! removes afterwards, in the same transaction, the blobs of their threads that no checkpoint
//! carries any more.

use agentflow_storage::checkpoint::{
    CheckpointKey, Prune,
    delta::{COUNTERS, Walk, unresolved},
};
use agentflow_types::Result;
use tokio_postgres::Row;

use super::{ancestors, at, read, tuples};
use crate::{Postgres, column::get, statement::Statement};

/// Threads of one transaction.
const MAX_THREADS: usize = 64;

/// Removes the checkpoints, writes and blobs of a thread.
pub(crate) fn remove_thread(thread_id: &str) -> [Statement; 1] {
    [remove_threads(&[thread_id.to_owned()])]
}

fn remove_threads(thread_ids: &[String]) -> Statement {
    const SQL: &str = "WITH
        heads AS (DELETE FROM checkpoints WHERE thread_id = ANY($1)),
        blobs AS (DELETE FROM checkpoint_blobs WHERE thread_id = ANY($1))
        DELETE FROM checkpoint_writes WHERE thread_id = ANY($1)";
    Statement::new(SQL).bind(thread_ids.to_vec())
}

/// Removes the checkpoints of one thread that name a run, with their writes and blobs.
pub(crate) fn rollback(thread_id: &str, run_id: &str) -> [Statement; 2] {
    let threads = vec![thread_id.to_owned()];
    [
        remove_runs(threads.clone(), vec![run_id.to_owned()]),
        collect(threads),
    ]
}

fn remove_runs(threads: Vec<String>, runs: Vec<String>) -> Statement {
    const SQL: &str = "WITH gone AS (
            DELETE FROM checkpoints
            WHERE thread_id = ANY($1) AND metadata ->> 'run_id' = ANY($2)
            RETURNING thread_id, checkpoint_ns, checkpoint_id)
        DELETE FROM checkpoint_writes AS w USING gone AS g
        WHERE w.thread_id = g.thread_id AND w.checkpoint_ns = g.checkpoint_ns
            AND w.checkpoint_id = g.checkpoint_id";
    Statement::new(SQL).bind(threads).bind(runs)
}

/// Removes the blobs of threads that no checkpoint carries. The versions in use are unfolded
/// once: looking them up in each checkpoint for each blob would be quadratic.
fn collect(threads: Vec<String>) -> Statement {
    const SQL: &str = "WITH used AS MATERIALIZED (
            SELECT c.thread_id, c.checkpoint_ns, v.key AS channel, v.value AS version
            FROM checkpoints AS c, jsonb_each_text(c.checkpoint -> 'channel_versions') AS v
            WHERE c.thread_id = ANY($1))
        DELETE FROM checkpoint_blobs AS b
        WHERE b.thread_id = ANY($1) AND NOT EXISTS (SELECT FROM used AS u
            WHERE u.thread_id = b.thread_id AND u.checkpoint_ns = b.checkpoint_ns
                AND u.channel = b.channel AND u.version = b.version)";
    Statement::new(SQL).bind(threads)
}

pub(super) async fn delete_thread(db: &Postgres, thread_id: &str) -> Result<()> {
    let [sql] = remove_thread(thread_id);
    db.write(&sql).await.map(drop)
}

/// Copies a thread; ids stay.
pub(super) fn copy(from: &str, to: &str) -> Statement {
    const SQL: &str = "WITH
        heads AS (INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id,
                parent_checkpoint_id, type, checkpoint, metadata)
            SELECT $2, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint,
                metadata FROM checkpoints WHERE thread_id = $1
            ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE SET
                parent_checkpoint_id = excluded.parent_checkpoint_id, type = excluded.type,
                checkpoint = excluded.checkpoint, metadata = excluded.metadata),
        blobs AS (INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type,
                blob)
            SELECT $2, checkpoint_ns, channel, version, type, blob FROM checkpoint_blobs
            WHERE thread_id = $1
            ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO UPDATE SET
                type = excluded.type, blob = excluded.blob)
        INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx,
                channel, type, blob, task_path)
            SELECT $2, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob, task_path
            FROM checkpoint_writes WHERE thread_id = $1
            ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE SET
                channel = excluded.channel, type = excluded.type, blob = excluded.blob,
                task_path = excluded.task_path";
    // A thread copied to itself stays as it is.
    Statement::new(SQL)
        .bind(Some(from.to_owned()))
        .bind(Some(to.to_owned()))
}

pub(super) async fn delete_for_runs(db: &Postgres, run_ids: &[String]) -> Result<()> {
    if run_ids.is_empty() {
        return Ok(());
    }
    // No index leads from a run to its checkpoints, because the table is LangGraph's; the queue's
    // own rollback knows the thread.
    const SQL: &str = "SELECT DISTINCT thread_id FROM checkpoints
        WHERE metadata ->> 'run_id' = ANY($1) ORDER BY 1";
    let found = db.read(&Statement::new(SQL).bind(run_ids.to_vec())).await?;
    let threads: Vec<String> = found.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    for threads in threads.chunks(MAX_THREADS) {
        let remove = remove_runs(threads.to_vec(), run_ids.to_vec());
        db.atomic(vec![remove, collect(threads.to_vec())]).await?;
    }
    Ok(())
}

pub(super) async fn prune(db: &Postgres, thread_ids: &[String], strategy: Prune) -> Result<()> {
    for threads in thread_ids.chunks(MAX_THREADS) {
        match strategy {
            Prune::Delete => db.write(&remove_threads(threads)).await.map(drop)?,
            Prune::KeepLatest => keep_latest(db, threads).await?,
        }
    }
    Ok(())
}

/// The newest checkpoint of one namespace.
struct Newest {
    key: CheckpointKey,
    /// Whether it may need ancestors for its delta channels.
    delta: bool,
}

/// What is newer than the newest checkpoints that are found first stays, whoever stores it
/// meanwhile; so do its ancestors from there on.
async fn keep_latest(db: &Postgres, threads: &[String]) -> Result<()> {
    let newest = Statement::new(
        "SELECT DISTINCT ON (thread_id, checkpoint_ns) thread_id, checkpoint_ns, checkpoint_id,
            metadata ? $2
        FROM checkpoints WHERE thread_id = ANY($1)
        ORDER BY thread_id, checkpoint_ns, checkpoint_id DESC",
    )
    .bind(threads.to_vec())
    .bind(Some(COUNTERS.to_owned()));
    let newest = db.read(&newest).await?;
    let newest: Vec<Newest> = newest.iter().map(read_newest).collect::<Result<_>>()?;
    let mut columns: [Vec<String>; 3] = Default::default();
    let mut kept: [Vec<String>; 3] = Default::default();
    for found in &newest {
        push(&mut columns, &found.key, found.key.checkpoint_id.clone());
        if found.delta {
            for ancestor in needed(db, &found.key).await? {
                push(&mut kept, &found.key, Some(ancestor));
            }
        }
    }
    let remove = remove_old(columns, kept);
    db.atomic(vec![remove, collect(threads.to_vec())])
        .await
        .map(drop)
}

fn read_newest(row: &Row) -> Result<Newest> {
    Ok(Newest {
        key: CheckpointKey {
            thread_id: get(row, 0)?,
            checkpoint_ns: get(row, 1)?,
            checkpoint_id: Some(get(row, 2)?),
        },
        delta: get(row, 3)?,
    })
}

fn push(columns: &mut [Vec<String>; 3], key: &CheckpointKey, id: Option<String>) {
    let row = [
        key.thread_id.clone(),
        key.checkpoint_ns.clone(),
        id.unwrap_or_default(),
    ];
    for (column, value) in columns.iter_mut().zip(row) {
        column.push(value);
    }
}

/// The ancestors that a checkpoint's delta channels are rebuilt from.
async fn needed(db: &Postgres, key: &CheckpointKey) -> Result<Vec<String>> {
    let rows = db.read(&tuples(&at(key), "")).await?;
    let Some(row) = rows.first() else {
        return Ok(Vec::new());
    };
    let tuple = read(row, db.codec())?;
    let channels = unresolved(&tuple.checkpoint, &tuple.metadata);
    if channels.is_empty() {
        return Ok(Vec::new());
    }
    ancestors::visit(db, key, &channels, &mut Walk::new(&channels)).await
}

/// Removes what is older than the newest checkpoints, but for the ancestors in `kept`, and the
/// writes of what is older. The scheduled sends of a checkpoint of an old format are writes under
/// its parent and stay.
fn remove_old(newest: [Vec<String>; 3], kept: [Vec<String>; 3]) -> Statement {
    const SQL: &str = "WITH
        newest AS MATERIALIZED (SELECT n.thread, n.ns, n.id, CASE
                WHEN coalesce((c.checkpoint ->> 'v')::numeric, 1) < 4 THEN c.parent_checkpoint_id
            END AS sender
            FROM unnest($1::text[], $2::text[], $3::text[]) AS n (thread, ns, id)
            JOIN checkpoints AS c ON c.thread_id = n.thread AND c.checkpoint_ns = n.ns
                AND c.checkpoint_id = n.id),
        kept AS MATERIALIZED (SELECT k.thread, k.ns, k.id
            FROM unnest($4::text[], $5::text[], $6::text[]) AS k (thread, ns, id)),
        heads AS (DELETE FROM checkpoints AS c USING newest AS n
            WHERE c.thread_id = n.thread AND c.checkpoint_ns = n.ns AND c.checkpoint_id < n.id
                AND NOT EXISTS (SELECT FROM kept AS k WHERE k.thread = c.thread_id
                    AND k.ns = c.checkpoint_ns AND k.id = c.checkpoint_id))
        DELETE FROM checkpoint_writes AS w USING newest AS n
        WHERE w.thread_id = n.thread AND w.checkpoint_ns = n.ns AND w.checkpoint_id < n.id
            AND NOT (w.channel = '__pregel_tasks' AND w.checkpoint_id IS NOT DISTINCT FROM n.sender)
            AND NOT EXISTS (SELECT FROM kept AS k WHERE k.thread = w.thread_id
                AND k.ns = w.checkpoint_ns AND k.id = w.checkpoint_id)";
    newest
        .into_iter()
        .chain(kept)
        .fold(Statement::new(SQL), Statement::bind)
}
