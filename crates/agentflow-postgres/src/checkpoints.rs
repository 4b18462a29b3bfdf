//! Checkpoints in the tables of `langgraph-checkpoint-postgres`.
//!
//! The tables are named without a schema, so that they are found where Python's saver finds them:
//! by the search path of the database user, which is `public` unless somebody changed it.

mod ancestors;
mod batch;
mod gather;
mod retention;
mod row;
mod usage;

use std::iter::zip;

use agentflow_storage::{
    checkpoint::{
        CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Checkpoints, Fence,
        PendingWrite, Prune, Rest, delta::DeltaHistory, moved, usage::Usage,
    },
    json,
    msgpack::typed::Codec,
};
use agentflow_types::{Result, Str};
use async_trait::async_trait;
use tokio_postgres::Row;

use crate::{Postgres, column::get, decide, runs, statement::Statement};

pub(crate) use batch::FUNCTION;
pub(crate) use gather::Gather;
pub(crate) use retention::{remove_thread, rollback};
pub(crate) use row::text as json_text;

/// First format version in which scheduled sends are a channel; before, they were writes under
/// the parent.
const SENDS_IN_CHANNEL: i64 = 4;

/// The statement for tuples of the checkpoints that `inner` selects (`SELECT * FROM checkpoints
/// …`), in the order `order`. One statement, so that it sees one state of the database.
///
/// Each blob is looked up by its key: as a plain join, PostgreSQL reads all blobs that the thread
/// ever had.
fn tuples(inner: &Statement, order: &str) -> Statement {
    // Texts of Python's tables have the database's collation; slots must sort by bytes.
    let after = format!(
        ") AS c
        LEFT JOIN LATERAL (
            SELECT array_agg(v.key) AS channels, array_agg(b.type) AS types,
                array_agg(b.blob) AS blobs
            FROM jsonb_each_text(c.checkpoint -> 'channel_versions') AS v
            CROSS JOIN LATERAL (SELECT type, blob FROM checkpoint_blobs
                WHERE thread_id = c.thread_id AND checkpoint_ns = c.checkpoint_ns
                    AND channel = v.key AND version = v.value LIMIT 1) AS b
            WHERE b.type <> 'empty'
        ) AS b ON true
        LEFT JOIN LATERAL (
            SELECT array_agg(w.task_id {SLOT_ORDER}) AS tasks,
                array_agg(w.channel {SLOT_ORDER}) AS channels,
                array_agg(coalesce(w.type, 'msgpack') {SLOT_ORDER}) AS types,
                array_agg(w.blob {SLOT_ORDER}) AS blobs
            FROM checkpoint_writes AS w
            WHERE w.thread_id = c.thread_id AND w.checkpoint_ns = c.checkpoint_ns
                AND w.checkpoint_id = c.checkpoint_id
        ) AS w ON true
        LEFT JOIN LATERAL (
            SELECT array_agg(coalesce(w.type, 'msgpack') {SLOT_ORDER}) AS types,
                array_agg(w.blob {SLOT_ORDER}) AS blobs
            FROM checkpoint_writes AS w
            WHERE coalesce((c.checkpoint ->> 'v')::numeric, 1) < {SENDS_IN_CHANNEL}
                AND w.thread_id = c.thread_id AND w.checkpoint_ns = c.checkpoint_ns
                AND w.checkpoint_id = c.parent_checkpoint_id AND w.channel = '__pregel_tasks'
        ) AS s ON true {order}"
    );
    inner.within(
        "SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id,
            c.checkpoint::text, c.metadata::text, b.channels, b.types, b.blobs,
            w.tasks, w.channels, w.types, w.blobs, s.types, s.blobs
        FROM (",
        &after,
    )
}

/// The order of pending writes, by bytes.
const SLOT_ORDER: &str = r#"ORDER BY w.task_path COLLATE "C", w.task_id COLLATE "C", w.idx"#;

/// An array; empty if it is null.
fn list<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, index: usize) -> Result<Vec<T>> {
    Ok(get::<Option<Vec<T>>>(row, index)?.unwrap_or_default())
}

/// The tuple of a row of [`tuples`].
fn read(row: &Row, codec: &Codec) -> Result<CheckpointTuple> {
    let names = zip(list::<&str>(row, 6)?, list::<&str>(row, 7)?);
    let blobs =
        zip(names, list::<&[u8]>(row, 8)?).map(|((channel, word), bytes)| (channel, word, bytes));
    let mut checkpoint = row::decode(get(row, 4)?, blobs, codec)?;
    let parent_id = get::<Option<String>>(row, 3)?.filter(|id| !id.is_empty());
    if checkpoint.wants_pending_sends() && parent_id.is_some() {
        let sends = zip(list::<&str>(row, 13)?, list::<&[u8]>(row, 14)?);
        let sends = sends.map(|(word, bytes)| codec.load(word, bytes));
        checkpoint.take_pending_sends(sends.collect::<Result<_>>()?);
    }
    Ok(CheckpointTuple {
        key: CheckpointKey {
            thread_id: get(row, 0)?,
            checkpoint_ns: get(row, 1)?,
            checkpoint_id: Some(get(row, 2)?),
        },
        checkpoint,
        metadata: json::parse_map(get::<&str>(row, 5)?.as_bytes())?,
        parent_id,
        pending_writes: pending(row, 9, codec)?,
    })
}

/// Pending writes from four arrays: tasks, channels, type words, bytes.
fn pending(row: &Row, first: usize, codec: &Codec) -> Result<Vec<PendingWrite>> {
    let names = zip(list::<&str>(row, first)?, list::<&str>(row, first + 1)?);
    let values = zip(
        list::<&str>(row, first + 2)?,
        list::<&[u8]>(row, first + 3)?,
    );
    zip(names, values)
        .map(|((task, channel), (word, bytes))| {
            Ok(PendingWrite {
                task_id: task.to_owned(),
                channel: channel.into(),
                value: codec.load(word, bytes)?,
            })
        })
        .collect()
}

/// The checkpoint at a key, or the newest one of its namespace.
fn at(key: &CheckpointKey) -> Statement {
    let sql =
        Statement::new("SELECT * FROM checkpoints WHERE thread_id = $1 AND checkpoint_ns = $2")
            .bind(key.thread_id.clone())
            .bind(key.checkpoint_ns.clone());
    match &key.checkpoint_id {
        Some(id) => sql.and(" AND checkpoint_id = ", id.clone(), ""),
        None => sql.text(" ORDER BY checkpoint_id DESC LIMIT 1"),
    }
}

/// The checkpoints that match, newest first.
fn matching(query: &CheckpointQuery) -> Result<Statement> {
    let mut sql = Statement::new("SELECT * FROM checkpoints WHERE true");
    let conditions = [
        (" AND thread_id = ", &query.thread_id),
        (" AND checkpoint_ns = ", &query.checkpoint_ns),
        (" AND checkpoint_id = ", &query.checkpoint_id),
        (" AND checkpoint_id < ", &query.before),
    ];
    for (condition, value) in conditions {
        if let Some(value) = value {
            sql = sql.and(condition, value.clone(), "");
        }
    }
    for (key, value) in &query.metadata {
        sql = sql
            .and(" AND metadata -> ", key.as_ref().to_owned(), "")
            .and(" = ", row::entry(value)?, "::jsonb");
    }
    sql = sql.text(NEWEST_FIRST);
    Ok(match query.limit {
        Some(limit) => sql.and(" LIMIT ", i64::from(limit), ""),
        None => sql,
    })
}

/// The order of lists; what is equal but for its place has a fixed order too.
const NEWEST_FIRST: &str =
    r#" ORDER BY checkpoint_id DESC, thread_id COLLATE "C", checkpoint_ns COLLATE "C""#;

#[async_trait]
impl Checkpoints for Postgres {
    async fn usage(&self, thread_id: &str) -> Result<Option<Usage>> {
        usage::of(self, thread_id).await.map(Some)
    }

    async fn get(&self, key: &CheckpointKey) -> Result<Option<CheckpointTuple>> {
        let rows = self.read(&tuples(&at(key), "")).await?;
        rows.first().map(|row| read(row, self.codec())).transpose()
    }

    async fn list(&self, query: &CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        let order = NEWEST_FIRST
            .replace("checkpoint_id", "c.checkpoint_id")
            .replace("thread_id", "c.thread_id")
            .replace("checkpoint_ns", "c.checkpoint_ns");
        let rows = self.read(&tuples(&matching(query)?, &order)).await?;
        rows.iter().map(|row| read(row, self.codec())).collect()
    }

    async fn commit(&self, ops: Vec<CheckpointOp>, fence: Option<Fence>) -> Result<()> {
        let batch = batch::Batch::of(ops, self.codec())?;
        if batch.is_empty() && fence.is_none() {
            return Ok(());
        }
        gather::commit(self, batch, fence).await
    }

    /// In two round trips, as a decision, whose lock it takes.
    async fn commit_at_rest(&self, ops: Vec<CheckpointOp>, rest: Rest) -> Result<()> {
        let batch = batch::Batch::of(ops, self.codec())?;
        let _turn = self.turns.turn(rest.thread_id).await;
        let begun = [decide::lock(rest.thread_id), runs::rests(rest)];
        let transaction = self.begin(&begun).await?;
        let rests = transaction
            .first
            .last()
            .is_some_and(|done| !done.rows.is_empty());
        if !rests {
            transaction.rollback().await;
            return Err(moved(rest));
        }
        transaction.commit(&[batch.statement(None)]).await
    }

    async fn delta_history(
        &self,
        key: &CheckpointKey,
        channels: &[Str],
    ) -> Result<Vec<DeltaHistory>> {
        ancestors::history(self, key, channels).await
    }

    async fn delete_thread(&self, thread_id: &str) -> Result<()> {
        retention::delete_thread(self, thread_id).await
    }

    async fn copy_thread(&self, from: &str, to: &str) -> Result<()> {
        self.write(&retention::copy(from, to)).await.map(drop)
    }

    async fn delete_for_runs(&self, run_ids: &[String]) -> Result<()> {
        retention::delete_for_runs(self, run_ids).await
    }

    async fn prune(&self, thread_ids: &[String], strategy: Prune) -> Result<()> {
        retention::prune(self, thread_ids, strategy).await
    }
}
