//! Measures what a commit costs against a bare prepared insert into the same kind of file.
//!
//! `cargo run --release -p agentflow-embedded --example commit_speed`

use std::{
    path::Path,
    time::{Duration, Instant},
};

use agentflow_embedded::{Embedded, Options};
use agentflow_storage::{
    checkpoint::{Checkpoint, CheckpointOp, Version},
    msgpack::checkpoint as codec,
};
use agentflow_types::{Error, Map, Result, Str, Value};
use rusqlite::{Connection, params};

/// Commits per measurement.
const COMMITS: u32 = 8_000;
/// Measurements; the median counts.
const ROUNDS: usize = 5;

fn sample(n: u32) -> (Checkpoint, Map) {
    let version = |n: u32| Version::Text(format!("{n:032}.0.7215228518483673").into());
    let values: Map = [
        (
            "messages".into(),
            Value::list(vec!["hello, how are you today".into(); 4]),
        ),
        ("count".into(), i64::from(n).into()),
        ("branch:to:next".into(), Value::Null),
    ]
    .into_iter()
    .collect();
    let names = || {
        ["messages", "count", "branch:to:next"]
            .map(Str::from)
            .into_iter()
    };
    let checkpoint = Checkpoint {
        v: 4,
        ts: "2026-01-02T03:04:05.000006+00:00".into(),
        id: format!("1f1e7130-88a5-6b85-8001-{n:012x}"),
        channel_values: values,
        channel_versions: names().map(|name| (name, version(n))).collect(),
        versions_seen: [(
            "next".into(),
            names().map(|name| (name, version(n))).collect(),
        )]
        .into_iter()
        .collect(),
        updated_channels: Some(names().collect()),
        extra: Map::new(),
    };
    let metadata = [
        ("source".into(), "loop".into()),
        ("step".into(), i64::from(n).into()),
    ];
    (checkpoint, metadata.into_iter().collect())
}

fn operation(thread: u32, n: u32) -> CheckpointOp {
    let (checkpoint, metadata) = sample(n);
    CheckpointOp::Put {
        thread_id: format!("thread-{thread}"),
        checkpoint_ns: String::new(),
        parent_id: n
            .checked_sub(1)
            .map(|n| format!("1f1e7130-88a5-6b85-8001-{n:012x}")),
        checkpoint,
        metadata,
        new_versions: Vec::new(),
    }
}

/// One transaction per insert, on the calling thread, values encoded beforehand.
fn bare(path: &Path) -> rusqlite::Result<Duration> {
    let db = Connection::open(path)?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.execute_batch(
        "CREATE TABLE checkpoints (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL,
            checkpoint_id TEXT NOT NULL, parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB,
            metadata BLOB, PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id))",
    )?;
    let rows: Vec<(String, Vec<u8>)> = (0..COMMITS)
        .map(|n| {
            let (checkpoint, _) = sample(n);
            (
                checkpoint.id.clone(),
                codec::encode(&checkpoint).unwrap_or_default(),
            )
        })
        .collect();
    let mut insert = db
        .prepare("INSERT OR REPLACE INTO checkpoints VALUES (?1, '', ?2, ?2, 'msgpack', ?3, ?4)")?;
    let start = Instant::now();
    for (id, bytes) in &rows {
        insert.execute(params![
            "thread-0",
            id,
            bytes,
            &b"{\"source\": \"loop\", \"step\": 1}"[..]
        ])?;
    }
    Ok(start.elapsed())
}

async fn ours(path: &Path, tasks: u32) -> Result<Duration> {
    let backend = Embedded::open(path, Options::default())?.backend();
    let start = Instant::now();
    let mut running = Vec::new();
    for task in 0..tasks {
        let checkpoints = backend.checkpoints.clone();
        running.push(tokio::spawn(async move {
            for n in 0..COMMITS / tasks {
                checkpoints.commit(vec![operation(task, n)], None).await?;
            }
            Ok::<_, Error>(())
        }));
    }
    for task in running {
        task.await
            .map_err(|err| Error::bug("a task panicked").source_err(err))??;
    }
    Ok(start.elapsed())
}

fn report(name: &str, mut rounds: Vec<Duration>) {
    rounds.sort();
    let median = rounds[rounds.len() / 2].as_secs_f64() / f64::from(COMMITS) * 1e6;
    println!("{name:<28} {median:7.1} µs per commit");
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("agentflow-speed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|err| Error::failed("folder").source_err(err))?;
    let (mut inserts, mut alone, mut shared) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let file = |name: &str| folder.join(format!("{name}{round}.db"));
        let measured = bare(&file("bare"));
        inserts.push(measured.map_err(|err| Error::failed("insert").source_err(err))?);
        alone.push(ours(&file("alone"), 1).await?);
        shared.push(ours(&file("shared"), 16).await?);
    }
    report("bare prepared insert", inserts);
    report("commit, one task", alone);
    report("commit, 16 tasks", shared);
    std::fs::remove_dir_all(&folder).map_err(|err| Error::failed("folder").source_err(err))
}
