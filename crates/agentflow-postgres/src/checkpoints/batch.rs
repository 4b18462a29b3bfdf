//! A commit as one statement, and commits of several threads as one.
//!
//! Everything that one call of `commit` stores goes in one statement of its own transaction: one
//! round trip, one plan, one commit. That is all of a superstep when the run waits for it
//! (durability `sync`) and its tasks end together. What a task wrote that ends while others still
//! run is sent before them; and with durability `async` a call has what gathered while the one
//! before was on its way, which may be a part of a superstep, or several.
//!
//! Rows of one table come as arrays. Writes of one commit to the same row are merged here, in
//! their order, because a statement may not change a row twice.
//!
//! The statement calls a function in the database ([`FUNCTION`]), whose plans each connection of
//! the server keeps. Sent as one large statement of ours, which may not have a name because of
//! poolers, the same work cost the server 630 to 680 µs for a superstep of one task, of which 400
//! to 500 were parsing and planning (PostgreSQL 17, busy machine).

use agentflow_storage::{
    checkpoint::{CheckpointOp, Fence, special},
    msgpack::typed::Codec,
};
use agentflow_types::{Error, Result, Str};
use indexmap::{IndexMap, map::Entry};

use super::row;
use crate::statement::{Blob, Statement};

/// Most bytes of one commit; the server takes messages of one gigabyte.
const MAX_BYTES: usize = 1000 << 20;

/// Thread, namespace, checkpoint.
type At = (String, String, String);
/// Thread, namespace, channel, version.
type VersionAt = (String, String, Str, String);
/// Checkpoint, task, slot.
type WriteAt = (At, String, i64);

#[derive(Clone)]
struct Head {
    parent: String,
    checkpoint: String,
    metadata: String,
}

#[derive(Clone)]
struct Write {
    path: String,
    channel: Str,
    word: &'static str,
    bytes: Vec<u8>,
    replaces: bool,
}

/// Rows of a commit by their keys.
#[derive(Clone, Default)]
pub(super) struct Batch {
    heads: IndexMap<At, Head>,
    /// What a version holds never changes.
    blobs: IndexMap<VersionAt, (&'static str, Vec<u8>)>,
    writes: IndexMap<WriteAt, Write>,
    bytes: usize,
}

impl Batch {
    /// The rows of all writes.
    ///
    /// # Errors
    /// `Invalid` if a value is too deep or too large to be read back, or all together are.
    pub(super) fn of(ops: Vec<CheckpointOp>, codec: &Codec) -> Result<Self> {
        let mut batch = Self::default();
        for op in ops {
            batch.add(op, codec)?;
        }
        if batch.bytes > MAX_BYTES {
            return Err(Error::invalid("too much is stored at once")
                .with("bytes", batch.bytes)
                .with("limit", MAX_BYTES));
        }
        Ok(batch)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.blobs.is_empty() && self.writes.is_empty()
    }

    fn add(&mut self, op: CheckpointOp, codec: &Codec) -> Result<()> {
        match op {
            CheckpointOp::Put {
                thread_id,
                checkpoint_ns,
                parent_id,
                checkpoint,
                metadata,
                new_versions,
            } => {
                let at = (thread_id, checkpoint_ns, checkpoint.id.clone());
                let (checkpoint, apart) = row::encode(checkpoint, &new_versions, codec)?;
                let head = Head {
                    parent: parent_id.unwrap_or_default(),
                    checkpoint,
                    metadata: row::metadata(&metadata)?,
                };
                self.bytes += head.checkpoint.len() + head.metadata.len();
                for blob in apart {
                    self.bytes += blob.bytes.len();
                    let key = (at.0.clone(), at.1.clone(), blob.channel, blob.version);
                    self.blobs.entry(key).or_insert((blob.word, blob.bytes));
                }
                self.heads.insert(at, head);
                Ok(())
            }
            CheckpointOp::Writes {
                thread_id,
                checkpoint_ns,
                checkpoint_id,
                task_id,
                task_path,
                writes,
            } => {
                let at = (thread_id, checkpoint_ns, checkpoint_id);
                let replaces = writes
                    .iter()
                    .all(|(channel, _)| special::slot(channel).is_some());
                for (position, (channel, value)) in (0..).zip(writes) {
                    let slot = special::slot(&channel).unwrap_or(position);
                    let (word, bytes) = codec.dump(&value)?;
                    self.bytes += bytes.len();
                    self.write(
                        (at.clone(), task_id.clone(), slot),
                        Write {
                            path: task_path.clone(),
                            channel,
                            word,
                            bytes: bytes.into_owned(),
                            replaces,
                        },
                    );
                }
                Ok(())
            }
        }
    }

    fn write(&mut self, key: WriteAt, write: Write) {
        match self.writes.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(write);
            }
            Entry::Occupied(mut before) if write.replaces => {
                // The path stays the one that the row was made with.
                let path = std::mem::take(&mut before.get_mut().path);
                before.insert(Write { path, ..write });
            }
            Entry::Occupied(_) => {}
        }
    }

    /// About how many bytes it stores.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The thread, if it is about one only.
    pub(super) fn thread(&self) -> Option<&str> {
        let heads = self.heads.keys().map(|at| &at.0);
        let blobs = self.blobs.keys().map(|at| &at.0);
        let writes = self.writes.keys().map(|(at, ..)| &at.0);
        let mut all = heads.chain(blobs).chain(writes);
        let first = all.next()?;
        all.all(|thread| thread == first).then_some(first)
    }

    /// The statement. It returns the list of numbers that were stored: `0`, or none if the lease
    /// of the fence is not held.
    ///
    /// The row of the run is locked until the commit against whoever takes the lease over, who
    /// then sees what was stored under it.
    pub(super) fn statement(self, fence: Option<Fence>) -> Statement {
        call(vec![(0, self, fence)], Locked::Waits)
    }
}

/// The statement for commits of several threads: each with its number and its fence. It returns
/// the numbers of those that were stored. One is left out if its lease is not held, or if
/// somebody has the row of its run locked: alone it waits for the row, here all would.
pub(super) fn together(commits: Vec<(i64, Batch, Option<Fence>)>) -> Statement {
    call(commits, Locked::IsLeftOut)
}

/// What becomes of a commit of which somebody has the row of the run locked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Locked {
    Waits,
    IsLeftOut,
}

/// A call of [`FUNCTION`].
fn call(commits: Vec<(i64, Batch, Option<Fence>)>, locked: Locked) -> Statement {
    let (mut numbers, mut runs, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
    let mut free = Vec::new();
    let mut rows = Rows::default();
    for (number, batch, fence) in commits {
        match fence {
            Some(fence) => {
                numbers.push(number);
                runs.push(fence.run_id.0);
                tokens.push(fence.token);
            }
            None => free.push(number),
        }
        rows.add(number, batch);
    }
    let sql = Statement::new(CALL)
        .bind(locked == Locked::Waits)
        .bind(numbers)
        .bind(runs)
        .bind(tokens)
        .bind(free);
    rows.bind(sql)
}

/// Calls [`FUNCTION`] with its 39 arguments.
const CALL: &str = "SELECT agentflow.store_checkpoints($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
    $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, \
    $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39)";

/// Rows of several commits, each with the number of its commit.
#[derive(Default)]
struct Rows {
    heads: Columns<6>,
    blobs: Columns<5>,
    blob_bytes: Vec<Blob>,
    /// Writes that leave a row of the same slot as it is, and those that replace it.
    kept: Writes,
    replaced: Writes,
}

#[derive(Default)]
struct Writes {
    columns: Columns<7>,
    slots: Vec<i64>,
    bytes: Vec<Blob>,
}

/// Texts of rows, column by column, and the number of each row's commit.
struct Columns<const N: usize> {
    numbers: Vec<i64>,
    texts: [Vec<String>; N],
}

impl<const N: usize> Default for Columns<N> {
    fn default() -> Self {
        Self {
            numbers: Vec::new(),
            texts: std::array::from_fn(|_| Vec::new()),
        }
    }
}

impl<const N: usize> Columns<N> {
    fn push(&mut self, number: i64, row: [String; N]) {
        self.numbers.push(number);
        for (column, text) in self.texts.iter_mut().zip(row) {
            column.push(text);
        }
    }

    fn bind(self, sql: Statement) -> Statement {
        let sql = sql.bind(self.numbers);
        self.texts.into_iter().fold(sql, Statement::bind)
    }
}

impl Writes {
    fn bind(self, sql: Statement) -> Statement {
        self.columns.bind(sql).bind(self.slots).bind(self.bytes)
    }
}

impl Rows {
    fn add(&mut self, number: i64, batch: Batch) {
        for ((thread, ns, id), head) in batch.heads {
            let row = [thread, ns, id, head.parent, head.checkpoint, head.metadata];
            self.heads.push(number, row);
        }
        for ((thread, ns, channel, version), (word, bytes)) in batch.blobs {
            let row = [thread, ns, channel.as_ref().into(), version, word.into()];
            self.blobs.push(number, row);
            self.blob_bytes.push(Blob(bytes));
        }
        for (((thread, ns, id), task, slot), write) in batch.writes {
            let channel = write.channel.as_ref().into();
            let row = [thread, ns, id, task, write.path, channel, write.word.into()];
            let to = match write.replaces {
                true => &mut self.replaced,
                false => &mut self.kept,
            };
            to.columns.push(number, row);
            to.slots.push(slot);
            to.bytes.push(Blob(write.bytes));
        }
    }

    fn bind(self, sql: Statement) -> Statement {
        let sql = self.blobs.bind(sql).bind(self.blob_bytes);
        let sql = self.heads.bind(sql);
        self.replaced.bind(self.kept.bind(sql))
    }
}

/// Stores commits, each row if its number is among the leases that are held, and returns those
/// numbers. A function, because its statements are planned once for each connection of the
/// server, also behind a pooler: sent by us, they are planned each time.
///
/// The tables are named without a schema, and found by the search path of the caller.
pub(crate) const FUNCTION: &str = r"
    CREATE FUNCTION agentflow.store_checkpoints(
        waits boolean, fence_numbers bigint[], fence_runs uuid[], fence_tokens bigint[],
        held bigint[],
        blob_numbers bigint[], blob_threads text[], blob_spaces text[], blob_channels text[],
        blob_versions text[], blob_words text[], blob_bytes bytea[],
        head_numbers bigint[], head_threads text[], head_spaces text[], head_ids text[],
        head_parents text[], head_texts text[], head_metadata text[],
        kept_numbers bigint[], kept_threads text[], kept_spaces text[], kept_ids text[],
        kept_tasks text[], kept_paths text[], kept_channels text[], kept_words text[],
        kept_slots bigint[], kept_bytes bytea[],
        last_numbers bigint[], last_threads text[], last_spaces text[], last_ids text[],
        last_tasks text[], last_paths text[], last_channels text[], last_words text[],
        last_slots bigint[], last_bytes bytea[]
    ) RETURNS bigint[] LANGUAGE plpgsql AS $$
    BEGIN
        IF fence_numbers <> '{}' AND waits THEN
            held := held || ARRAY(SELECT f.number
                FROM unnest(fence_numbers, fence_runs, fence_tokens) AS f (number, run, token)
                JOIN agentflow.runs AS r ON r.run_id = f.run AND r.status = 'running'
                    AND r.lease_token = f.token FOR SHARE OF r);
        ELSIF fence_numbers <> '{}' THEN
            held := held || ARRAY(SELECT f.number
                FROM unnest(fence_numbers, fence_runs, fence_tokens) AS f (number, run, token)
                JOIN agentflow.runs AS r ON r.run_id = f.run AND r.status = 'running'
                    AND r.lease_token = f.token FOR SHARE OF r SKIP LOCKED);
        END IF;
        IF blob_numbers <> '{}' THEN
            INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
                SELECT r.thread, r.space, r.channel, r.version, r.word, r.bytes
                FROM unnest(blob_numbers, blob_threads, blob_spaces, blob_channels, blob_versions,
                    blob_words, blob_bytes)
                    AS r (number, thread, space, channel, version, word, bytes)
                WHERE r.number = ANY(held)
            ON CONFLICT DO NOTHING;
        END IF;
        IF head_numbers <> '{}' THEN
            INSERT INTO checkpoints AS c (thread_id, checkpoint_ns, checkpoint_id,
                    parent_checkpoint_id, checkpoint, metadata)
                SELECT r.thread, r.space, r.id, nullif(r.parent, ''), r.content::jsonb,
                    r.metadata::jsonb
                FROM unnest(head_numbers, head_threads, head_spaces, head_ids, head_parents,
                    head_texts, head_metadata)
                    AS r (number, thread, space, id, parent, content, metadata)
                WHERE r.number = ANY(held)
            ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE SET
                parent_checkpoint_id = excluded.parent_checkpoint_id,
                checkpoint = excluded.checkpoint, metadata = excluded.metadata;
        END IF;
        IF kept_numbers <> '{}' THEN
            INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id,
                    task_path, channel, type, idx, blob)
                SELECT r.thread, r.space, r.id, r.task, r.path, r.channel, r.word, r.slot, r.bytes
                FROM unnest(kept_numbers, kept_threads, kept_spaces, kept_ids, kept_tasks,
                    kept_paths, kept_channels, kept_words, kept_slots, kept_bytes)
                    AS r (number, thread, space, id, task, path, channel, word, slot, bytes)
                WHERE r.number = ANY(held)
            ON CONFLICT DO NOTHING;
        END IF;
        IF last_numbers <> '{}' THEN
            INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id,
                    task_path, channel, type, idx, blob)
                SELECT r.thread, r.space, r.id, r.task, r.path, r.channel, r.word, r.slot, r.bytes
                FROM unnest(last_numbers, last_threads, last_spaces, last_ids, last_tasks,
                    last_paths, last_channels, last_words, last_slots, last_bytes)
                    AS r (number, thread, space, id, task, path, channel, word, slot, bytes)
                WHERE r.number = ANY(held)
            ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE SET
                channel = excluded.channel, type = excluded.type, blob = excluded.blob;
        END IF;
        RETURN held;
    END $$;
";
