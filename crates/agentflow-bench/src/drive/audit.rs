//! Compares what the database promised before a kill with what happened afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use agentflow_storage::checkpoint::{CheckpointQuery, special};
use agentflow_types::ThreadId;
use anyhow::Result;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::{follow::Seen, server::Store};

/// Events read from the log at once.
const PAGE: u32 = 1000;

/// What the database had promised at one moment.
#[derive(Default)]
pub struct Promised {
    /// Tasks whose results are stored.
    pub tasks: BTreeSet<String>,
    /// Run and fingerprint of each event, by thread and number.
    pub events: BTreeMap<(String, u64), (String, String)>,
}

/// What the threads say at the end.
pub struct Results {
    /// Results of tasks in the final states.
    pub tasks: usize,
    /// Results that a thread has more than once.
    pub duplicates: usize,
}

/// The books of one drive.
pub struct Audit {
    record: PathBuf,
    store: Arc<Store>,
    threads: Vec<String>,
    /// What the database said at the last look.
    pub seen: Promised,
    /// Lines of the record that were looked at.
    pub lines: usize,
    /// Looks that found new lines: the server was busy when it was killed.
    pub hits: usize,
    /// Tasks that ran after their results had been stored.
    pub repeated: Vec<String>,
    /// Events that changed or vanished.
    pub reused: usize,
}

impl Audit {
    /// Empty books.
    pub fn new(record: PathBuf, store: Arc<Store>, threads: Vec<String>) -> Self {
        Self {
            record,
            store,
            threads,
            seen: Promised::default(),
            lines: 0,
            hits: 0,
            repeated: Vec::new(),
            reused: 0,
        }
    }

    /// Looks at a database; one in a folder must have no server.
    pub async fn look(&mut self) -> Result<()> {
        // The database first: a line that is not there yet when the record is read, of a task whose
        // result was stored before that, is a second execution, also while other servers live.
        let now = promised(&self.store, &self.threads).await?;
        let ran = recorded(&self.record, self.lines);
        let again = ran.iter().filter(|task| self.seen.tasks.contains(*task));
        self.repeated.extend(again.cloned());
        self.lines += ran.len();
        self.hits += usize::from(!ran.is_empty());
        let gone = self.seen.events.iter();
        self.reused += gone
            .filter(|(key, was)| now.events.get(*key) != Some(*was))
            .count();
        self.seen = now;
        Ok(())
    }

    /// What the final states hold: each task of the graph appends its id to `done`.
    pub async fn results(&self, client: &reqwest::Client, base: &str) -> Result<Results> {
        let mut results = Results {
            tasks: 0,
            duplicates: 0,
        };
        for thread in &self.threads {
            let url = format!("{base}/threads/{thread}/state");
            let state: Value = client.get(url).send().await?.json().await?;
            let done = state["values"]["done"].as_array();
            let done = done.map(Vec::as_slice).unwrap_or_default();
            let unique: BTreeSet<&str> = done.iter().filter_map(Value::as_str).collect();
            results.tasks += unique.len();
            results.duplicates += done.len() - unique.len();
        }
        Ok(results)
    }

    /// Ways in which what a client received differs from what is stored.
    pub fn contradictions(&self, seen: &Seen) -> usize {
        let disorder = seen.events.windows(2).filter(|pair| pair[0].0 >= pair[1].0);
        // A number belongs to one run of the thread for good.
        let foreign = seen.events.iter().filter(|(number, ..)| {
            let stored = self.seen.events.get(&(seen.thread.clone(), *number));
            stored.is_none_or(|(run, _)| *run != seen.run)
        });
        // What was skipped or came twice differs from a replay in one go.
        let differs = usize::from(seen.events != seen.replayed);
        disorder.count() + foreign.count() + differs
    }
}

async fn promised(store: &Store, threads: &[String]) -> Result<Promised> {
    let backend = match store {
        Store::Postgres(shared) => return shared.promised(threads),
        Store::Folder(folder) => Store::folder(folder)?,
    };
    let mut found = Promised::default();
    for thread in threads {
        let query = CheckpointQuery {
            thread_id: Some(thread.clone()),
            ..CheckpointQuery::default()
        };
        for tuple in backend.checkpoints.list(&query).await? {
            let results = tuple
                .pending_writes
                .iter()
                .filter(|w| special::slot(&w.channel).is_none());
            found
                .tasks
                .extend(results.map(|write| write.task_id.clone()));
        }
        let id: ThreadId = thread.parse()?;
        let mut after = 0;
        loop {
            let page = backend.events.read(id, None, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            for event in page {
                let text = format!("{} {}", event.kind, event.data);
                let mark = format!("{:x}", xxh3_64(text.as_bytes()));
                let value = (event.run_id.to_string(), mark);
                found.events.insert((thread.clone(), event.seq), value);
            }
        }
    }
    Ok(found)
}

/// Lines of the record beyond `from`, as task ids.
fn recorded(file: &Path, from: usize) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .skip(from)
        .filter_map(|line| line.split(' ').nth(2).map(str::to_owned))
        .collect()
}
