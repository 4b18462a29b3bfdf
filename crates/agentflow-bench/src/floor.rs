//! What SQLite alone takes: the rows of a finished run, inserted again by prepared statements.

use std::{path::Path, time::Instant};

use agentflow_embedded::{Embedded, Options};
use anyhow::Result;
use rusqlite::{Connection, params_from_iter, types::Value};

/// A row of any table.
type Row = Vec<Value>;

const CHECKPOINTS: (&str, &str) = (
    "SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, \
     metadata FROM checkpoints ORDER BY checkpoint_id",
    "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, \
     type, checkpoint, metadata) VALUES (?, ?, ?, ?, ?, ?, ?)",
);
const WRITES: (&str, &str) = (
    "SELECT thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, \
     value FROM writes ORDER BY checkpoint_id",
    "INSERT INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, \
     channel, type, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
);
/// Position of `checkpoint_id` in both statements.
const CHECKPOINT_ID: usize = 2;

/// Microseconds that SQLite takes to insert the rows of the database `from` into the new
/// database `to`: same tables, same pragmas, one transaction per checkpoint, nothing else.
pub fn insert_again(from: &Path, to: &Path) -> Result<f64> {
    let source = Connection::open(from)?;
    let checkpoints = rows(&source, CHECKPOINTS.0)?;
    let writes = rows(&source, WRITES.0)?;
    drop(source);
    // Makes the tables.
    drop(Embedded::open(to, Options::default())?);
    let target = Connection::open(to)?;
    target.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    target.pragma_update(None, "synchronous", "NORMAL")?;
    let mut insert_checkpoint = target.prepare(CHECKPOINTS.1)?;
    let mut insert_write = target.prepare(WRITES.1)?;
    let mut pending = writes.iter().peekable();
    let started = Instant::now();
    for checkpoint in &checkpoints {
        target.execute_batch("BEGIN IMMEDIATE")?;
        insert_checkpoint.execute(params_from_iter(checkpoint))?;
        while let Some(write) = pending.next_if(|w| w[CHECKPOINT_ID] == checkpoint[CHECKPOINT_ID]) {
            insert_write.execute(params_from_iter(write))?;
        }
        target.execute_batch("COMMIT")?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e6)
}

fn rows(source: &Connection, select: &str) -> Result<Vec<Row>> {
    let mut statement = source.prepare(select)?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..columns)
            .map(|column| row.get(column))
            .collect::<rusqlite::Result<Row>>()
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
