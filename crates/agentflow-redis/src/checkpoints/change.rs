//! What happens to whole threads and runs: removal, pruning, copies, sizes.
//!
//! Values are shared by checkpoints, so whatever removes checkpoints also removes the values that
//! none of the thread carries any more. What is to go is found out here and removed by a script,
//! unless the thread changed meanwhile; then it is found out again.

use std::collections::HashSet;

use agentflow_storage::checkpoint::{
    delta::{self, Walk},
    usage::Usage,
};
use agentflow_types::{Map, Result, Timestamp, Value};
use redis::cmd;

use super::{Guard, MANY, Saver, TRIES, busy, row};
use crate::{link::Repeat, scripts};
use row::{Kind, Row, Step};

/// Most bytes of values that a copy sends at once.
const CHUNK: usize = 4 << 20;

impl Saver {
    /// Removes all of a thread, if it was made up to that moment.
    pub(super) async fn forget(&self, thread_id: &str, made: Option<Timestamp>) -> Result<()> {
        let keys = self.keys.thread(thread_id);
        let made = made.map_or(String::new(), |at| at.micros().to_string());
        let values = [made.as_bytes()];
        let generation: String = self.script(&scripts::FORGET, keys.all(), &values).await?;
        match generation.is_empty() {
            true => Ok(()),
            false => self.unlist(thread_id, &generation).await,
        }
    }

    /// Removes a thread's checkpoints of one run, which does not write any more.
    pub(super) async fn roll_back(&self, thread_id: &str, run_id: &str) -> Result<()> {
        let of_run = [run_id.to_owned()];
        self.remove(thread_id, run_id, Choice::OfRuns(&of_run))
            .await
    }

    /// Removes a thread's checkpoints of these runs.
    pub(super) async fn remove_runs(&self, thread_id: &str, run_ids: &[String]) -> Result<()> {
        self.remove(thread_id, "", Choice::OfRuns(run_ids)).await
    }

    /// Removes all checkpoints of a thread but the newest of each namespace, and what its delta
    /// channels are rebuilt from.
    pub(super) async fn keep_latest(&self, thread_id: &str) -> Result<()> {
        self.remove(thread_id, "", Choice::Old).await
    }

    /// Those of the checkpoints whose metadata names one of the runs.
    async fn of_runs(
        &self,
        thread_id: &str,
        fields: &[String],
        run_ids: &[String],
    ) -> Result<HashSet<String>> {
        let mut gone = HashSet::new();
        for some in fields.chunks(MANY) {
            for (field, bytes) in some.iter().zip(self.rows(thread_id, some).await?) {
                let metadata = bytes.map(|bytes| Row::metadata(&bytes)).transpose()?;
                let run = metadata
                    .as_ref()
                    .and_then(|map| map.get("run_id")?.as_str());
                if run.is_some_and(|run| run_ids.iter().any(|id| id == run)) {
                    gone.insert(field.clone());
                }
            }
        }
        Ok(gone)
    }

    /// Those of the checkpoints that pruning removes.
    async fn old(&self, thread_id: &str, fields: &[String]) -> Result<HashSet<String>> {
        let mut gone: HashSet<String> = fields.iter().cloned().collect();
        let ns = |field: &String| row::place(field).map(|(ns, _)| ns.to_owned()).ok();
        for of_ns in fields.chunk_by(|a, b| ns(a) == ns(b)) {
            // They are in the order of their ids.
            let Some(newest) = of_ns.last() else { continue };
            gone.remove(newest);
            for ancestor in self.needed(thread_id, newest).await? {
                gone.remove(&ancestor);
            }
        }
        Ok(gone)
    }

    /// The ancestors from which the delta channels of a checkpoint are rebuilt.
    async fn needed(&self, thread_id: &str, field: &str) -> Result<Vec<String>> {
        let Some((row, values)) = self.outline(thread_id, field).await? else {
            return Ok(Vec::new());
        };
        let mut checkpoint = row.checkpoint;
        checkpoint.channel_values = values;
        let mut walk = Walk::new(&delta::unresolved(&checkpoint, &row.metadata));
        let (ns, _) = row::place(field)?;
        let mut visited = Vec::new();
        let mut parent = row.parent_id;
        while let Some(id) = parent {
            if !walk.wants(&id)? {
                break;
            }
            let at = row::field(ns, &id);
            let Some((row, values)) = self.outline(thread_id, &at).await? else {
                break;
            };
            walk.visit(Vec::new(), &values);
            visited.push(at);
            parent = row.parent_id;
        }
        Ok(visited)
    }

    /// A row, and which channels have a value in it; what stands apart is null.
    async fn outline(&self, thread_id: &str, field: &str) -> Result<Option<(Row, Map)>> {
        let found = self.rows(thread_id, &[field.to_owned()]).await?;
        let Some(bytes) = found.into_iter().next().flatten() else {
            return Ok(None);
        };
        let row = Row::read(self.codec(), &bytes)?;
        let mut values = row.checkpoint.channel_values.clone();
        for field in &row.fields {
            values.insert(row::channel_of(field)?.into(), Value::Null);
        }
        Ok(Some((row, values)))
    }

    /// Removes checkpoints, with the values that no other one has. `run` does not write any more.
    async fn remove(&self, thread_id: &str, run: &str, choice: Choice<'_>) -> Result<()> {
        let keys = self.keys.thread(thread_id);
        for _ in 0..TRIES {
            let revision = self.about(&keys, "revision").await?.unwrap_or_default();
            let fields = self.fields(thread_id).await?;
            let gone = match choice {
                Choice::OfRuns(run_ids) => self.of_runs(thread_id, &fields, run_ids).await?,
                Choice::Old => self.old(thread_id, &fields).await?,
            };
            if gone.is_empty() && run.is_empty() {
                return Ok(());
            }
            let unused = match gone.is_empty() {
                true => Vec::new(),
                false => self.unused(thread_id, &fields, &gone).await?,
            };
            let mut values: Vec<&[u8]> = vec![revision.as_bytes(), run.as_bytes()];
            for field in &gone {
                values.extend([Kind::Checkpoint.word(), field.as_bytes()]);
            }
            for field in &unused {
                values.extend([Kind::Value.word(), field.as_bytes()]);
            }
            let done: u8 = self.script(&scripts::CHANGE, keys.all(), &values).await?;
            if done == 1 {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Values that no checkpoint has but those that go.
    async fn unused(
        &self,
        thread_id: &str,
        fields: &[String],
        gone: &HashSet<String>,
    ) -> Result<Vec<String>> {
        let mut command = cmd("HKEYS");
        command.arg(self.keys.thread(thread_id).blobs());
        let all: Vec<String> = self.link.run(&command, Repeat::Yes).await?;
        let mut unused: HashSet<String> = all.into_iter().collect();
        let kept: Vec<String> = fields
            .iter()
            .filter(|f| !gone.contains(*f))
            .cloned()
            .collect();
        for some in kept.chunks(MANY) {
            for bytes in self.rows(thread_id, some).await?.into_iter().flatten() {
                for field in Row::values(&bytes)? {
                    unused.remove(field);
                }
            }
        }
        Ok(unused.into_iter().collect())
    }

    /// Copies all of a thread. The values go first, seen by nobody; then the rest at once.
    pub(super) async fn copy(&self, from: &str, to: &str) -> Result<()> {
        let keys = self.keys.thread(from);
        for _ in 0..TRIES {
            let revision = self.about(&keys, "revision").await?;
            if revision.is_none() {
                return Ok(());
            }
            let Some(last) = self.copy_values(from, to).await? else {
                continue;
            };
            if self.about(&keys, "revision").await? == revision
                && self.put(to, &last).await? == Put::Done
            {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Copies the values of a thread; returns its checkpoints and writes. `None` if the thread
    /// changed meanwhile.
    async fn copy_values(&self, from: &str, to: &str) -> Result<Option<Vec<Step>>> {
        let keys = self.keys.thread(from);
        let fields = self.fields(from).await?;
        let rows = self.rows(from, &fields).await?;
        let Some(rows) = rows.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let mut apart: Vec<String> = Vec::new();
        for row in &rows {
            apart.extend(Row::values(row)?.into_iter().map(str::to_owned));
        }
        apart.sort_unstable();
        apart.dedup();
        let (mut steps, mut bytes) = (Vec::new(), 0);
        for field in apart {
            let mut command = cmd("HGET");
            command.arg(keys.blobs()).arg(&field);
            let value: Option<Vec<u8>> = self.link.run(&command, Repeat::Yes).await?;
            let Some(value) = value else { return Ok(None) };
            bytes += value.len();
            let kind = Kind::Value;
            steps.push(Step { kind, field, value });
            if bytes > CHUNK {
                self.put(to, &steps).await?;
                (steps, bytes) = (Vec::new(), 0);
            }
        }
        for (field, value) in fields.into_iter().zip(rows) {
            let kind = Kind::Checkpoint;
            steps.push(Step { kind, field, value });
        }
        let mut command = cmd("ZRANGE");
        command.arg(keys.tasks()).arg(0).arg(-1);
        let names: Vec<String> = self.link.run(&command, Repeat::Yes).await?;
        for some in names.chunks(MANY) {
            let mut command = cmd("HMGET");
            command.arg(keys.writes()).arg(some);
            let found: Vec<Option<Vec<u8>>> = self.link.run(&command, Repeat::Yes).await?;
            for (field, value) in some.iter().cloned().zip(found) {
                let Some(value) = value else { return Ok(None) };
                let kind = Kind::Write;
                steps.push(Step { kind, field, value });
            }
        }
        Ok(Some(steps))
    }

    /// Stores steps that exist as they are.
    async fn put(&self, thread_id: &str, steps: &[Step]) -> Result<Put> {
        let said = self.try_store(thread_id, "", steps, &Guard::None).await?;
        let said = match &*said {
            "new" => {
                let generation = self.enlist(thread_id).await?;
                let guard = &Guard::None;
                self.try_store(thread_id, &generation, steps, guard).await?
            }
            _ => said,
        };
        Ok(match &*said {
            "ok" => Put::Done,
            _ => Put::Again,
        })
    }

    /// What the checkpoints of a thread take.
    pub(super) async fn measure(&self, thread_id: &str) -> Result<Usage> {
        let mut usage = Usage::default();
        let fields = self.fields(thread_id).await?;
        for some in fields.chunks(MANY) {
            for bytes in self.rows(thread_id, some).await?.into_iter().flatten() {
                let row = Row::read(self.codec(), &bytes)?;
                usage.add_whole(&row.checkpoint, bytes.len())?;
            }
        }
        let keys = self.keys.thread(thread_id);
        let keys = [keys.blobs().to_owned(), keys.writes().to_owned()];
        let [blobs, writes]: [Sizes; 2] = self.script(&scripts::SIZES, &keys, &[]).await?;
        for (field, bytes) in blobs {
            let channel = row::channel_of(&field)?.to_owned();
            usage.channels.entry(channel).or_default().add(bytes);
        }
        for (_, bytes) in writes {
            usage.writes.add(bytes);
        }
        Ok(usage)
    }
}

/// Fields and how many bytes their values have.
type Sizes = Vec<(String, usize)>;

/// Which checkpoints of a thread go.
#[derive(Clone, Copy)]
enum Choice<'a> {
    /// Those whose metadata names one of the runs.
    OfRuns(&'a [String]),
    /// Those that pruning removes.
    Old,
}

/// How storing ended.
#[derive(PartialEq, Eq)]
enum Put {
    Done,
    /// Values that were there are gone again.
    Again,
}
