//! Checkpoints in Redis, while the database has the records.
//!
//! All keys of a thread are in one slot. A script stores what one commit has for a thread, so it
//! is there whole or not at all, also in a cluster and after a crash: the log of commands holds a
//! script's writes as one transaction.
//!
//! The database knows who holds a lease, Redis cannot ask it. So each thread names its *writer*,
//! a run with its token. Who begins an attempt makes itself the writer before it reads
//! ([`Checkpoints::take_over`]): it looks who is, asks the database whether the lease is its own,
//! and takes the place of the one that it saw. Since the leases of a thread follow each other,
//! nobody can take the place of a later one, and what comes from an earlier one is refused.

mod ancestors;
mod change;
mod records;
mod row;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use agentflow_storage::{
    Backend,
    checkpoint::{
        CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Checkpoints, Fence,
        PendingWrite, Prune, Rest, delta::DeltaHistory, fenced, moved, pending_sends_of,
        usage::Usage,
    },
    filter,
    msgpack::typed::Codec,
    record::Threads,
};
use agentflow_types::{Clock as _, Error, Result, Str, SystemClock};
use async_trait::async_trait;
use redis::cmd;
use row::{Row, Step, Values};
use uuid::Uuid;

use crate::{
    Redis,
    keys::{Keys, ThreadKeys},
    link::{Link, Repeat},
    scripts::{self, Script},
    ttl_ms,
};

pub(crate) use records::Linked;

/// Checkpoints that are read at once.
const PAGE: usize = 16;
/// Rows that are read at once, and entries of the list.
const MANY: usize = 256;
/// How often something is tried again because somebody else changed the thread.
const TRIES: usize = 32;
/// What the script takes for a thread without a writer.
const NOBODY: &str = "-";
/// How long the writer of a thread without checkpoints is remembered.
const WRITER_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long one command may take: values are large.
const RESPONSE: Duration = Duration::from_secs(30);
/// An entry of the list without a thread is removed when it is so old: its thread may not yet
/// be there.
const STALE: Duration = Duration::from_secs(3600);

/// How checkpoints are kept.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    /// Plain or encrypted.
    pub codec: Codec,
    /// How long a thread's checkpoints stay after the last one was stored; `None` for as long as
    /// the thread.
    pub ttl: Option<Duration>,
}

impl Redis {
    /// Keeps checkpoints in Redis; the backend has everything else. Its decisions about threads
    /// take the checkpoints along: what must still be removed is in its outbox until it is done.
    ///
    /// Starts a task, which ends with the threads of the backend.
    #[must_use]
    pub fn keep_checkpoints(&self, backend: Backend, keeping: Keeping) -> Backend {
        let saver = Arc::new(Saver {
            link: self.inner.link.another(RESPONSE),
            keys: self.inner.keys.clone(),
            keeping,
            records: backend.threads.clone(),
        });
        let linked = Linked::start(saver, backend.threads.clone(), backend.outbox.clone());
        Backend {
            checkpoints: linked.clone(),
            threads: linked,
            ..backend
        }
    }
}

/// The checkpoints of one Redis.
pub(crate) struct Saver {
    /// A connection apart: large values would keep the others waiting.
    link: Link,
    keys: Keys,
    keeping: Keeping,
    /// Knows the leases.
    records: Arc<dyn Threads>,
}

/// What a script reads of a checkpoint: its field, row, values, and fields and values of writes.
type Read = (
    String,
    Vec<u8>,
    Vec<Option<Vec<u8>>>,
    Vec<String>,
    Vec<Vec<u8>>,
);

/// Where a checkpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    thread_id: String,
    field: String,
}

impl Place {
    /// The order of a list: id, falling; thread; namespace.
    fn order(&self) -> (std::cmp::Reverse<&str>, &str, &str) {
        let (ns, id) = row::place(&self.field).unwrap_or_default();
        (std::cmp::Reverse(id), &self.thread_id, ns)
    }
}

fn writer(fence: Fence) -> String {
    format!("{}:{}", fence.run_id, fence.token)
}

/// What must be true of a thread while it is written to.
enum Guard {
    /// Nothing.
    None,
    /// The writer is the run's attempt.
    Lease(Fence),
    /// The writer is the one that was seen.
    Rest(Rest, Option<String>),
}

fn busy() -> Error {
    Error::busy("the thread's checkpoints change too fast")
}

impl Saver {
    fn codec(&self) -> &Codec {
        &self.keeping.codec
    }

    async fn script<T: redis::FromRedisValue>(
        &self,
        script: &LazyLock<Script>,
        keys: &[String],
        values: &[&[u8]],
    ) -> Result<T> {
        self.link.script(script, keys, values, Repeat::Yes).await
    }

    /// A field of what is known about a thread.
    async fn about(&self, keys: &ThreadKeys, field: &str) -> Result<Option<String>> {
        let mut command = cmd("HGET");
        command.arg(keys.about()).arg(field);
        self.link.run(&command, Repeat::Yes).await
    }

    /// Makes the run's attempt the thread's writer.
    ///
    /// # Errors
    /// `Conflict` if it does not hold the lease.
    async fn become_writer(&self, thread_id: &str, fence: Fence) -> Result<()> {
        let keys = self.keys.thread(thread_id);
        let (mine, lives) = (writer(fence), ttl_ms(WRITER_TTL).to_string());
        for _ in 0..TRIES {
            let seen = self.about(&keys, "writer").await?.unwrap_or_default();
            // After having looked: see the module's head.
            if !self.records.holds(fence).await? {
                return Err(fenced(fence));
            }
            let values = [seen.as_bytes(), mine.as_bytes(), lives.as_bytes()];
            let about = [keys.about().to_owned()];
            let taken: u8 = self.script(&scripts::TAKE_OVER, &about, &values).await?;
            if taken == 1 {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Puts a thread on the list, before it has anything; returns its generation.
    async fn enlist(&self, thread_id: &str) -> Result<String> {
        let now = SystemClock.now().micros();
        let generation = format!("{now}-{}", Uuid::new_v4().simple());
        let mut command = cmd("HSET");
        command
            .arg(self.keys.threads())
            .arg(thread_id)
            .arg(&generation);
        let _: u64 = self.link.run(&command, Repeat::Yes).await?;
        Ok(generation)
    }

    /// Stores the changes of one thread, whole or not at all.
    async fn store(&self, thread_id: &str, ops: &[CheckpointOp], guard: Guard) -> Result<()> {
        let encode = |values| -> Result<Vec<Step>> {
            let steps = ops.iter().map(|op| row::encode(self.codec(), op, values));
            Ok(steps
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect())
        };
        let mut steps = encode(Values::Changed)?;
        let mut generation = String::new();
        for _ in 0..TRIES {
            let said = self
                .try_store(thread_id, &generation, &steps, &guard)
                .await?;
            match &*said {
                "ok" => return Ok(()),
                "new" => generation = self.enlist(thread_id).await?,
                "missing" => steps = encode(Values::All)?,
                "fenced" => match guard {
                    Guard::Lease(fence) => self.become_writer(thread_id, fence).await?,
                    Guard::Rest(rest, _) => return Err(moved(rest)),
                    Guard::None => return Err(Error::bug("a commit without a fence was fenced")),
                },
                _ => return Err(Error::bug("a script answered in an unexpected way")),
            }
        }
        Err(busy())
    }

    async fn try_store(
        &self,
        thread_id: &str,
        generation: &str,
        steps: &[Step],
        guard: &Guard,
    ) -> Result<String> {
        let writer = match guard {
            Guard::None => String::new(),
            Guard::Lease(fence) => writer(*fence),
            Guard::Rest(_, seen) => seen.clone().unwrap_or_else(|| NOBODY.into()),
        };
        let ttl = self.keeping.ttl;
        let ttl = ttl.map_or(String::new(), |ttl| ttl_ms(ttl).to_string());
        let head = [&writer, generation, thread_id, &ttl];
        let mut values: Vec<&[u8]> = head.iter().map(|text| text.as_bytes()).collect();
        for step in steps {
            values.extend([step.kind.word(), step.field.as_bytes(), &step.value]);
        }
        let keys = self.keys.thread(thread_id);
        self.script(&scripts::COMMIT, keys.all(), &values).await
    }

    /// The checkpoint of what was read.
    async fn tuple(&self, thread_id: &str, read: Read) -> Result<CheckpointTuple> {
        let (field, bytes, values, names, written) = read;
        let mut row = Row::read(self.codec(), &bytes)?;
        row.fill(self.codec(), &values)?;
        let (ns, id) = row::place(&field)?;
        if let (true, Some(parent)) = (row.checkpoint.wants_pending_sends(), &row.parent_id) {
            let sends = self.writes(thread_id, &row::field(ns, parent)).await?;
            row.checkpoint.take_pending_sends(pending_sends_of(sends));
        }
        Ok(CheckpointTuple {
            pending_writes: row::writes(self.codec(), &names, &written)?,
            key: CheckpointKey {
                thread_id: thread_id.to_owned(),
                checkpoint_ns: ns.to_owned(),
                checkpoint_id: Some(id.to_owned()),
            },
            checkpoint: row.checkpoint,
            metadata: row.metadata,
            parent_id: row.parent_id,
        })
    }

    /// The writes of one checkpoint, which need not be there.
    async fn writes(&self, thread_id: &str, field: &str) -> Result<Vec<PendingWrite>> {
        let keys = self.keys.thread(thread_id);
        let values = [field.as_bytes()];
        let read = self.script(&scripts::READ_WRITES, keys.all(), &values);
        let (names, written): (Vec<String>, Vec<Vec<u8>>) = read.await?;
        row::writes(self.codec(), &names, &written)
    }

    /// Those of the checkpoints that are there.
    async fn read(&self, thread_id: &str, fields: &[&str]) -> Result<Vec<CheckpointTuple>> {
        let keys = self.keys.thread(thread_id);
        let mut values: Vec<&[u8]> = vec![b"these"];
        values.extend(fields.iter().map(|field| field.as_bytes()));
        let found: Vec<Read> = self.script(&scripts::READ, keys.all(), &values).await?;
        let mut tuples = Vec::with_capacity(found.len());
        for read in found {
            tuples.push(self.tuple(thread_id, read).await?);
        }
        Ok(tuples)
    }

    /// Rows of checkpoints; `None` for one that is not there.
    async fn rows(&self, thread_id: &str, fields: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let keys = self.keys.thread(thread_id);
        let mut rows = Vec::with_capacity(fields.len());
        for some in fields.chunks(MANY) {
            let mut command = cmd("HMGET");
            command.arg(keys.rows()).arg(some);
            let found: Vec<Option<Vec<u8>>> = self.link.run(&command, Repeat::Yes).await?;
            rows.extend(found);
        }
        Ok(rows)
    }

    /// Fields of a thread's checkpoints, by namespace and id.
    async fn fields(&self, thread_id: &str) -> Result<Vec<String>> {
        let mut command = cmd("ZRANGE");
        let keys = self.keys.thread(thread_id);
        command.arg(keys.ids()).arg(0).arg(-1);
        self.link.run(&command, Repeat::Yes).await
    }

    /// The newest fields of one namespace, the newest first.
    async fn newest(
        &self,
        thread_id: &str,
        ns: &str,
        before: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Vec<String>> {
        let keys = self.keys.thread(thread_id);
        let end = match before {
            Some(id) => format!("({ns}\0{id}"),
            None => format!("({ns}\u{1}"),
        };
        let mut command = cmd("ZRANGE");
        command.arg(keys.ids()).arg(end).arg(format!("[{ns}\0"));
        command.arg("BYLEX").arg("REV");
        if let Some(limit) = limit {
            command.arg("LIMIT").arg(0).arg(limit);
        }
        self.link.run(&command, Repeat::Yes).await
    }

    /// All threads that have checkpoints, and perhaps some that do not, with their generations.
    async fn listed(&self) -> Result<Vec<(String, String)>> {
        let mut all = HashMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut command = cmd("HSCAN");
            command.arg(self.keys.threads()).arg(&cursor);
            command.arg("COUNT").arg(MANY);
            let (next, some): (String, Vec<(String, String)>) =
                self.link.run(&command, Repeat::Yes).await?;
            all.extend(some);
            if next == "0" {
                return Ok(all.into_iter().collect());
            }
            cursor = next;
        }
    }

    /// Takes a thread off the list whose checkpoints are gone.
    async fn unlist(&self, thread_id: &str, generation: &str) -> Result<()> {
        let values = [thread_id.as_bytes(), generation.as_bytes()];
        let list = [self.keys.threads()];
        let _: u64 = self.script(&scripts::UNLIST, &list, &values).await?;
        Ok(())
    }

    /// Where checkpoints are that a query may mean: all conditions but those about metadata and
    /// the limit.
    async fn places(&self, query: &CheckpointQuery) -> Result<Vec<Place>> {
        let threads = match &query.thread_id {
            Some(thread_id) => vec![thread_id.clone()],
            None => self.threads_with_checkpoints().await?,
        };
        let mut places = Vec::new();
        for thread_id in threads {
            let fields = match (&query.checkpoint_ns, &query.checkpoint_id) {
                (Some(ns), Some(id)) => vec![row::field(ns, id)],
                (Some(ns), None) => {
                    let limit = query.limit.filter(|_| query.metadata.is_empty());
                    let before = query.before.as_deref();
                    self.newest(&thread_id, ns, before, limit).await?
                }
                (None, _) => self.fields(&thread_id).await?,
            };
            let place = |field| Place {
                thread_id: thread_id.clone(),
                field,
            };
            places.extend(fields.into_iter().map(place));
        }
        places.retain(|place| {
            let (_, id) = row::place(&place.field).unwrap_or_default();
            query
                .checkpoint_id
                .as_ref()
                .is_none_or(|wanted| wanted == id)
                && query.before.as_ref().is_none_or(|before| id < &**before)
        });
        places.sort_by(|a, b| a.order().cmp(&b.order()));
        Ok(places)
    }

    /// Threads that have checkpoints; takes others off the list if they are old.
    async fn threads_with_checkpoints(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let now = SystemClock.now().micros();
        for (thread_id, generation) in self.listed().await? {
            let keys = self.keys.thread(&thread_id);
            if self.about(&keys, "generation").await?.is_some() {
                found.push(thread_id);
                continue;
            }
            let made = generation.split('-').next().and_then(|at| at.parse().ok());
            let age: i64 = now.saturating_sub(made.unwrap_or(0));
            if u128::try_from(age).is_ok_and(|age| age > STALE.as_micros()) {
                self.unlist(&thread_id, &generation).await?;
            }
        }
        Ok(found)
    }

    /// Those of the places whose metadata fits, at most so many.
    async fn fitting(&self, places: Vec<Place>, query: &CheckpointQuery) -> Result<Vec<Place>> {
        let limit = query.limit.map_or(usize::MAX, |limit| limit as usize);
        let mut found = Vec::new();
        if query.metadata.is_empty() {
            found = places;
        } else {
            let wanted = filter::normal_map(&query.metadata);
            for some in runs_of_threads(&places, MANY) {
                if found.len() >= limit {
                    break;
                }
                let fields: Vec<String> = some.iter().map(|place| place.field.clone()).collect();
                let rows = self.rows(&some[0].thread_id, &fields).await?;
                for (place, row) in some.iter().zip(rows) {
                    let Some(row) = row else { continue };
                    let metadata = filter::normal_map(&Row::metadata(&row)?);
                    if filter::has_entries(&metadata, &wanted) {
                        found.push(place.clone());
                    }
                }
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

/// Neighbours of one thread, at most so many together.
fn runs_of_threads(places: &[Place], most: usize) -> impl Iterator<Item = &[Place]> {
    places
        .chunk_by(|a, b| a.thread_id == b.thread_id)
        .flat_map(move |run| run.chunks(most))
}

#[async_trait]
impl Checkpoints for Saver {
    async fn get(&self, key: &CheckpointKey) -> Result<Option<CheckpointTuple>> {
        let keys = self.keys.thread(&key.thread_id);
        let field;
        let values: [&[u8]; 2] = match &key.checkpoint_id {
            Some(id) => {
                field = row::field(&key.checkpoint_ns, id);
                [b"these", field.as_bytes()]
            }
            None => [b"newest", key.checkpoint_ns.as_bytes()],
        };
        let found: Vec<Read> = self.script(&scripts::READ, keys.all(), &values).await?;
        match found.into_iter().next() {
            Some(read) => self.tuple(&key.thread_id, read).await.map(Some),
            None => Ok(None),
        }
    }

    async fn list(&self, query: &CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        let places = self.fitting(self.places(query).await?, query).await?;
        let mut tuples = Vec::with_capacity(places.len());
        for some in runs_of_threads(&places, PAGE) {
            let fields: Vec<&str> = some.iter().map(|place| &*place.field).collect();
            tuples.extend(self.read(&some[0].thread_id, &fields).await?);
        }
        Ok(tuples)
    }

    async fn commit(&self, ops: Vec<CheckpointOp>, fence: Option<Fence>) -> Result<()> {
        if let Some(fence) = fence
            && !self.records.holds(fence).await?
        {
            return Err(fenced(fence));
        }
        let mut threads: Vec<(String, Vec<CheckpointOp>)> = Vec::new();
        for op in ops {
            let thread = row::thread_of(&op);
            match threads.iter_mut().find(|(id, _)| id == thread) {
                Some((_, ops)) => ops.push(op),
                None => threads.push((thread.to_owned(), vec![op])),
            }
        }
        if threads.len() > 1 {
            // What cannot be stored is refused before anything is.
            for op in threads.iter().flat_map(|(_, ops)| ops) {
                row::encode(self.codec(), op, Values::Changed)?;
            }
        }
        for (thread_id, ops) in threads {
            let guard = fence.map_or(Guard::None, Guard::Lease);
            self.store(&thread_id, &ops, guard).await?;
        }
        Ok(())
    }

    async fn commit_at_rest(&self, ops: Vec<CheckpointOp>, rest: Rest) -> Result<()> {
        let thread_id = rest.thread_id.text();
        if ops.iter().any(|op| row::thread_of(op) != thread_id) {
            return Err(Error::bug("a commit at rest is about another thread"));
        }
        let keys = self.keys.thread(&thread_id);
        let seen = self.about(&keys, "writer").await?;
        // After having looked: a run that begins later makes itself the writer.
        if !self.records.rests(rest).await? {
            return Err(moved(rest));
        }
        self.store(&thread_id, &ops, Guard::Rest(rest, seen)).await
    }

    async fn take_over(&self, thread_id: &str, fence: Fence) -> Result<()> {
        self.become_writer(thread_id, fence).await
    }

    async fn delta_history(
        &self,
        key: &CheckpointKey,
        channels: &[Str],
    ) -> Result<Vec<DeltaHistory>> {
        self.history(key, channels).await
    }

    async fn delete_thread(&self, thread_id: &str) -> Result<()> {
        self.forget(thread_id, None).await
    }

    async fn copy_thread(&self, from: &str, to: &str) -> Result<()> {
        self.copy(from, to).await
    }

    async fn delete_for_runs(&self, run_ids: &[String]) -> Result<()> {
        if run_ids.is_empty() {
            return Ok(());
        }
        for thread_id in self.threads_with_checkpoints().await? {
            self.remove_runs(&thread_id, run_ids).await?;
        }
        Ok(())
    }

    async fn prune(&self, thread_ids: &[String], strategy: Prune) -> Result<()> {
        for thread_id in thread_ids {
            match strategy {
                Prune::Delete => self.forget(thread_id, None).await?,
                Prune::KeepLatest => self.keep_latest(thread_id).await?,
            }
        }
        Ok(())
    }

    async fn usage(&self, thread_id: &str) -> Result<Option<Usage>> {
        self.measure(thread_id).await.map(Some)
    }
}
