//! Delta channels: following parents, many at a time.

use std::iter::zip;

use agentflow_storage::{
    checkpoint::{
        CheckpointKey,
        delta::{DeltaHistory, Walk},
    },
    json,
};
use agentflow_types::{Map, Result, Str, Value};
use tokio_postgres::Row;

use super::{SLOT_ORDER, list, pending};
use crate::{Postgres, column::get, statement::Statement};

/// Ancestors of one round trip. Most walks end within the first: LangGraph takes a snapshot
/// every hundred updates.
const PAGE: i64 = 128;

/// What rebuilds the channels at a checkpoint.
pub(super) async fn history(
    db: &Postgres,
    key: &CheckpointKey,
    channels: &[Str],
) -> Result<Vec<DeltaHistory>> {
    let mut walk = Walk::new(channels);
    visit(db, key, channels, &mut walk).await?;
    Ok(walk.finish())
}

/// Visits ancestors while the walk wants more; returns their ids.
pub(super) async fn visit(
    db: &Postgres,
    key: &CheckpointKey,
    channels: &[Str],
    walk: &mut Walk,
) -> Result<Vec<String>> {
    let mut visited = Vec::new();
    let mut from = first(key);
    loop {
        let rows = db.read(&page(key, &from, channels)).await?;
        let mut parent = None;
        for row in &rows {
            let id: String = get(row, 0)?;
            if !walk.wants(&id)? {
                return Ok(visited);
            }
            walk.visit(pending(row, 2, db.codec())?, &values(db, row, channels)?);
            visited.push(id);
            parent = get::<Option<String>>(row, 1)?;
        }
        match parent.filter(|id| !id.is_empty()) {
            Some(parent) if rows.len() as i64 == PAGE => from = From::Ancestor(parent),
            _ => return Ok(visited),
        }
    }
}

/// Where a page begins.
enum From {
    /// At the parent of this checkpoint.
    ParentOf(String),
    /// At the parent of the newest one.
    ParentOfNewest,
    /// Here.
    Ancestor(String),
}

fn first(key: &CheckpointKey) -> From {
    match &key.checkpoint_id {
        Some(id) => From::ParentOf(id.clone()),
        None => From::ParentOfNewest,
    }
}

/// Up to [`PAGE`] ancestors: id, parent, the pending writes to the channels (four arrays), what
/// is stored inline as one object, and blobs (three arrays).
fn page(key: &CheckpointKey, from: &From, channels: &[Str]) -> Statement {
    let own = "SELECT parent_checkpoint_id FROM checkpoints
        WHERE thread_id = $1 AND checkpoint_ns = $2";
    let names: Vec<String> = channels.iter().map(|name| name.as_ref().into()).collect();
    let sql = Statement::new(
        "WITH RECURSIVE line AS (SELECT p.*, 1 AS place FROM checkpoints AS p
        WHERE p.thread_id = $1 AND p.checkpoint_ns = $2 AND p.checkpoint_id = ",
    )
    .bind(key.thread_id.clone())
    .bind(key.checkpoint_ns.clone())
    .bind(names);
    let sql = match from {
        From::Ancestor(id) => sql.and("", id.clone(), ""),
        From::ParentOf(id) => sql.and(&format!("({own} AND checkpoint_id = "), id.clone(), ")"),
        From::ParentOfNewest => sql.text(&format!("({own} ORDER BY checkpoint_id DESC LIMIT 1)")),
    };
    sql.and(
        " UNION ALL SELECT p.*, l.place + 1 FROM line AS l JOIN checkpoints AS p
            ON p.thread_id = $1 AND p.checkpoint_ns = $2
            AND p.checkpoint_id = l.parent_checkpoint_id WHERE l.place < ",
        PAGE,
        ")",
    )
    .text(&format!(
        " SELECT l.checkpoint_id, l.parent_checkpoint_id, w.tasks, w.channels, w.types, w.blobs,
            i.inline, b.channels, b.types, b.blobs
        FROM line AS l
        LEFT JOIN LATERAL (
            SELECT array_agg(w.task_id {SLOT_ORDER}) AS tasks,
                array_agg(w.channel {SLOT_ORDER}) AS channels,
                array_agg(coalesce(w.type, 'msgpack') {SLOT_ORDER}) AS types,
                array_agg(w.blob {SLOT_ORDER}) AS blobs
            FROM checkpoint_writes AS w
            WHERE w.thread_id = $1 AND w.checkpoint_ns = $2
                AND w.checkpoint_id = l.checkpoint_id AND w.channel = ANY($3)
        ) AS w ON true
        LEFT JOIN LATERAL (
            SELECT jsonb_object_agg(v.key, v.value)::text AS inline
            FROM jsonb_each(l.checkpoint -> 'channel_values') AS v WHERE v.key = ANY($3)
        ) AS i ON true
        LEFT JOIN LATERAL (
            SELECT array_agg(n.channel) AS channels, array_agg(b.type) AS types,
                array_agg(b.blob) AS blobs
            FROM unnest($3) AS n (channel)
            CROSS JOIN LATERAL (SELECT type, blob FROM checkpoint_blobs
                WHERE thread_id = $1 AND checkpoint_ns = $2 AND channel = n.channel
                    AND version = l.checkpoint -> 'channel_versions' ->> n.channel LIMIT 1) AS b
            WHERE b.type <> 'empty'
        ) AS b ON true
        ORDER BY l.place"
    ))
}

/// The values of the channels that one ancestor stores. A blob goes before what is inline.
fn values(db: &Postgres, row: &Row, channels: &[Str]) -> Result<Map> {
    let inline = get::<Option<&str>>(row, 6)?.unwrap_or_default();
    let mut values = json::parse_map(inline.as_bytes())?;
    // Without a blob, null means that the channel had no value.
    values.retain(|_, value| *value != Value::Null);
    let names = zip(list::<&str>(row, 7)?, list::<&str>(row, 8)?);
    for ((channel, word), bytes) in zip(names, list::<&[u8]>(row, 9)?) {
        if let Some(name) = channels.iter().find(|name| &***name == channel) {
            values.insert(name.clone(), db.codec().load(word, bytes)?);
        }
    }
    Ok(values)
}
