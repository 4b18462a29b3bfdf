//! Checkpoints in memory.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
};

use agentflow_types::{Map, Result, Str, Value};
use async_trait::async_trait;

use super::{Memory, Tables};
use crate::{
    checkpoint::{
        Checkpoint, CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Checkpoints,
        Fence, PendingWrite, Prune, Rest,
        delta::{self, DeltaHistory, Walk},
        moved, pending_sends_of, special,
        usage::Usage,
    },
    filter, msgpack,
};

/// Namespace and checkpoint id.
type At = (String, String);
/// Task id and slot.
type Slot = (String, i64);

/// All checkpoints and writes of one thread.
#[derive(Clone, Default)]
pub(super) struct Line {
    rows: BTreeMap<At, Row>,
    writes: BTreeMap<At, BTreeMap<Slot, Write>>,
}

#[derive(Clone)]
struct Row {
    parent_id: Option<String>,
    checkpoint: Checkpoint,
    metadata: Map,
}

#[derive(Clone)]
struct Write {
    task_path: String,
    channel: Str,
    value: Value,
}

impl Line {
    fn newest(&self, ns: &str) -> Option<&At> {
        let from = (ns.to_owned(), String::new());
        // No text lies between `ns` and `ns` with a NUL behind it.
        let to = (format!("{ns}\0"), String::new());
        self.rows.range(from..to).next_back().map(|(at, _)| at)
    }

    fn pending(&self, at: &At) -> Vec<PendingWrite> {
        let Some(writes) = self.writes.get(at) else {
            return Vec::new();
        };
        let mut sorted: Vec<_> = writes.iter().collect();
        sorted.sort_by_key(|((task_id, slot), write)| (&write.task_path, task_id, *slot));
        sorted
            .into_iter()
            .map(|((task_id, _), write)| PendingWrite {
                task_id: task_id.clone(),
                channel: write.channel.clone(),
                value: write.value.clone(),
            })
            .collect()
    }

    fn tuple(&self, thread_id: &str, at: &At) -> Option<CheckpointTuple> {
        let row = self.rows.get(at)?;
        let mut checkpoint = row.checkpoint.clone();
        if let (true, Some(parent)) = (checkpoint.wants_pending_sends(), &row.parent_id) {
            let parent = (at.0.clone(), parent.clone());
            checkpoint.take_pending_sends(pending_sends_of(self.pending(&parent)));
        }
        Some(CheckpointTuple {
            key: CheckpointKey {
                thread_id: thread_id.to_owned(),
                checkpoint_ns: at.0.clone(),
                checkpoint_id: Some(at.1.clone()),
            },
            checkpoint,
            metadata: row.metadata.clone(),
            parent_id: row.parent_id.clone(),
            pending_writes: self.pending(at),
        })
    }

    fn remove(&mut self, at: &At) {
        self.rows.remove(at);
        self.writes.remove(at);
    }

    fn put_writes(&mut self, at: At, task: (String, String), writes: Vec<(Str, Value)>) {
        let (task_id, task_path) = task;
        let replace = writes
            .iter()
            .all(|(channel, _)| special::slot(channel).is_some());
        let rows = self.writes.entry(at).or_default();
        for (position, (channel, value)) in writes.into_iter().enumerate() {
            let slot = special::slot(&channel).unwrap_or(position as i64);
            let write = Write {
                task_path: task_path.clone(),
                channel,
                value,
            };
            let entry = rows.entry((task_id.clone(), slot));
            if replace {
                entry.insert_entry(write);
            } else {
                entry.or_insert(write);
            }
        }
    }

    fn remove_runs(&mut self, run_ids: &[&str]) {
        let named = |row: &Row| {
            let run_id = row.metadata.get("run_id").and_then(Value::as_str);
            run_id.is_some_and(|id| run_ids.contains(&id))
        };
        let gone: Vec<At> = self
            .rows
            .iter()
            .filter(|(_, row)| named(row))
            .map(|(at, _)| at.clone())
            .collect();
        for at in &gone {
            self.remove(at);
        }
    }

    fn keep_latest(&mut self) -> Result<()> {
        let mut gone = Vec::new();
        let mut kept = HashSet::new();
        let mut rows = self.rows.iter().peekable();
        while let Some((at, row)) = rows.next() {
            if rows.peek().is_some_and(|(next, _)| next.0 == at.0) {
                gone.push(at.clone());
                continue;
            }
            let mut walk = Walk::new(&delta::unresolved(&row.checkpoint, &row.metadata));
            kept.extend(self.walk(&mut walk, at)?);
        }
        for at in gone.iter().filter(|at| !kept.contains(*at)) {
            self.remove(at);
        }
        Ok(())
    }

    /// Visits ancestors while the walk wants more; returns where they are.
    fn walk(&self, walk: &mut Walk, from: &At) -> Result<Vec<At>> {
        let mut visited = Vec::new();
        let mut row = self.rows.get(from);
        while let Some(parent) = row.and_then(|row| row.parent_id.as_deref()) {
            let at = (from.0.clone(), parent.to_owned());
            row = self.rows.get(&at);
            let Some(found) = row else { break };
            if !walk.wants(parent)? {
                break;
            }
            walk.visit(self.pending(&at), &found.checkpoint.channel_values);
            visited.push(at);
        }
        Ok(visited)
    }
}

impl Tables {
    fn apply(&mut self, op: CheckpointOp) {
        match op {
            CheckpointOp::Put {
                thread_id,
                checkpoint_ns,
                parent_id,
                checkpoint,
                metadata,
                new_versions: _,
            } => {
                let at = (checkpoint_ns, checkpoint.id.clone());
                let row = Row {
                    parent_id,
                    checkpoint,
                    metadata: filter::normal_map(&metadata),
                };
                self.checkpoints
                    .entry(thread_id)
                    .or_default()
                    .rows
                    .insert(at, row);
            }
            CheckpointOp::Writes {
                thread_id,
                checkpoint_ns,
                checkpoint_id,
                task_id,
                task_path,
                writes,
            } => {
                let at = (checkpoint_ns, checkpoint_id);
                let line = self.checkpoints.entry(thread_id).or_default();
                line.put_writes(at, (task_id, task_path), writes);
            }
        }
    }

    /// Removes the checkpoints of one thread that name a run.
    pub(super) fn rollback(&mut self, thread_id: &str, run_id: &str) {
        if let Some(line) = self.checkpoints.get_mut(thread_id) {
            line.remove_runs(&[run_id]);
        }
    }
}

/// Refuses what a backend that stores bytes could not read back.
fn check(op: &CheckpointOp) -> Result<()> {
    match op {
        CheckpointOp::Put { checkpoint, .. } => checkpoint
            .channel_values
            .values()
            .try_for_each(msgpack::check_depth),
        CheckpointOp::Writes { writes, .. } => writes
            .iter()
            .try_for_each(|(_, value)| msgpack::check_depth(value)),
    }
}

fn matches(query: &CheckpointQuery, at: &At, row: &Row) -> bool {
    query.checkpoint_ns.as_ref().is_none_or(|ns| *ns == at.0)
        && query.checkpoint_id.as_ref().is_none_or(|id| *id == at.1)
        && query.before.as_ref().is_none_or(|before| at.1 < *before)
        && filter::has_entries(&row.metadata, &query.metadata)
}

impl Line {
    fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for row in self.rows.values() {
            let bytes = msgpack::checkpoint::encode(&row.checkpoint)?.len();
            usage.add_whole(&row.checkpoint, bytes)?;
        }
        for write in self.writes.values().flat_map(BTreeMap::values) {
            usage
                .writes
                .add(msgpack::typed::dump(&write.value)?.1.len());
        }
        Ok(usage)
    }
}

#[async_trait]
impl Checkpoints for Memory {
    async fn usage(&self, thread_id: &str) -> Result<Option<Usage>> {
        let tables = self.lock();
        let line = tables.checkpoints.get(thread_id);
        line.map_or(Ok(Usage::default()), Line::usage).map(Some)
    }

    async fn get(&self, key: &CheckpointKey) -> Result<Option<CheckpointTuple>> {
        let tables = self.lock();
        let Some(line) = tables.checkpoints.get(&key.thread_id) else {
            return Ok(None);
        };
        let at = match &key.checkpoint_id {
            Some(id) => Some((key.checkpoint_ns.clone(), id.clone())),
            None => line.newest(&key.checkpoint_ns).cloned(),
        };
        Ok(at.and_then(|at| line.tuple(&key.thread_id, &at)))
    }

    async fn list(&self, query: &CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        let query = CheckpointQuery {
            metadata: filter::normal_map(&query.metadata),
            ..query.clone()
        };
        let tables = self.lock();
        let mut found: Vec<(&String, &At)> = tables
            .checkpoints
            .iter()
            .filter(|(thread, _)| query.thread_id.as_ref().is_none_or(|id| id == *thread))
            .flat_map(|(thread, line)| line.rows.iter().map(move |(at, row)| (thread, at, row)))
            .filter(|(_, at, row)| matches(&query, at, row))
            .map(|(thread, at, _)| (thread, at))
            .collect();
        found.sort_by_key(|(thread, at)| (Reverse(&at.1), *thread, &at.0));
        found.truncate(query.limit.map_or(usize::MAX, |limit| limit as usize));
        let tuple = |(thread, at): &(&String, &At)| tables.checkpoints[*thread].tuple(thread, at);
        Ok(found.iter().filter_map(tuple).collect())
    }

    async fn delta_history(
        &self,
        key: &CheckpointKey,
        channels: &[Str],
    ) -> Result<Vec<DeltaHistory>> {
        let mut walk = Walk::new(channels);
        let tables = self.lock();
        if let Some(line) = tables.checkpoints.get(&key.thread_id) {
            let at = match &key.checkpoint_id {
                Some(id) => Some((key.checkpoint_ns.clone(), id.clone())),
                None => line.newest(&key.checkpoint_ns).cloned(),
            };
            if let Some(at) = at {
                line.walk(&mut walk, &at)?;
            }
        }
        Ok(walk.finish())
    }

    async fn commit(&self, ops: Vec<CheckpointOp>, fence: Option<Fence>) -> Result<()> {
        let mut tables = self.lock();
        tables.check_fence(fence)?;
        ops.iter().try_for_each(check)?;
        for op in ops {
            tables.apply(op);
        }
        Ok(())
    }

    async fn commit_at_rest(&self, ops: Vec<CheckpointOp>, rest: Rest) -> Result<()> {
        let mut tables = self.lock();
        if !tables.rests(rest) {
            return Err(moved(rest));
        }
        ops.iter().try_for_each(check)?;
        for op in ops {
            tables.apply(op);
        }
        Ok(())
    }

    async fn delete_thread(&self, thread_id: &str) -> Result<()> {
        self.lock().checkpoints.remove(thread_id);
        Ok(())
    }

    async fn copy_thread(&self, from: &str, to: &str) -> Result<()> {
        let mut tables = self.lock();
        let Some(source) = tables.checkpoints.get(from).cloned() else {
            return Ok(());
        };
        let target = tables.checkpoints.entry(to.to_owned()).or_default();
        target.rows.extend(source.rows);
        for (at, writes) in source.writes {
            target.writes.entry(at).or_default().extend(writes);
        }
        Ok(())
    }

    async fn delete_for_runs(&self, run_ids: &[String]) -> Result<()> {
        let run_ids: Vec<&str> = run_ids.iter().map(String::as_str).collect();
        for line in self.lock().checkpoints.values_mut() {
            line.remove_runs(&run_ids);
        }
        Ok(())
    }

    async fn prune(&self, thread_ids: &[String], strategy: Prune) -> Result<()> {
        let mut tables = self.lock();
        for thread_id in thread_ids {
            match strategy {
                Prune::Delete => {
                    tables.checkpoints.remove(thread_id);
                }
                Prune::KeepLatest => {
                    if let Some(line) = tables.checkpoints.get_mut(thread_id) {
                        line.keep_latest()?;
                    }
                }
            }
        }
        Ok(())
    }
}
