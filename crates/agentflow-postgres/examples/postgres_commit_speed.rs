//! Measures what a superstep's commit costs beside the server's own smallest commit.
//!
//! `cargo run --release -p agentflow-postgres --example postgres_commit_speed URL`; it leaves its threads
//! in the database.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use agentflow_postgres::{Dsn, Listen, Options, Postgres};
use agentflow_storage::{
    Backend,
    checkpoint::{Checkpoint, CheckpointOp, Fence, Version},
    record::{Change, Lease, MultitaskStrategy, Run, RunStatus, Thread, ThreadStatus},
};
use agentflow_types::{
    AssistantId, Error, Map, Result, RunId, Scope, Str, ThreadId, Timestamp, Value, value,
};
use tokio_postgres::{NoTls, types::Type};

/// Commits of each client in one measurement.
const COMMITS: u32 = 400;
/// Clients at the same time.
const CLIENTS: [u32; 2] = [1, 16];
/// Bytes of the state that a step changes.
const SIZES: [usize; 2] = [1 << 10, 100 << 10];

fn failed(err: tokio_postgres::Error) -> Error {
    Error::failed("the database refused").source_err(err)
}

/// One superstep: a checkpoint with a changed channel, and the writes of two tasks.
fn superstep(thread: &str, n: u32, text: &str) -> Vec<CheckpointOp> {
    let id = |n: u32| format!("1f1e7130-88a5-6b85-8001-{n:012x}");
    let version = Version::Text(format!("{n:032}.0.7215228518483673").into());
    let names: [Str; 3] = ["messages", "count", "branch:to:next"].map(Str::from);
    let versions = || {
        let pairs = names.iter().map(|name| (name.clone(), version.clone()));
        pairs.collect()
    };
    let values = [
        (names[0].clone(), value!([text, n])),
        (names[1].clone(), value!(n)),
        (names[2].clone(), Value::Null),
    ];
    let checkpoint = Checkpoint {
        v: 4,
        ts: "2026-01-02T03:04:05.000006+00:00".into(),
        id: id(n),
        channel_values: values.into_iter().collect(),
        channel_versions: versions(),
        versions_seen: [("next".into(), versions())].into_iter().collect(),
        updated_channels: Some(names.to_vec()),
        extra: Map::new(),
    };
    let writes = |task: &str| CheckpointOp::Writes {
        thread_id: thread.to_owned(),
        checkpoint_ns: String::new(),
        checkpoint_id: id(n),
        task_id: format!("{task}-88a5-6b85-8001-0cdec6117e46"),
        task_path: "~__pregel_pull, next".into(),
        writes: vec![("count".into(), value!(n)), (names[2].clone(), Value::Null)],
    };
    let put = CheckpointOp::Put {
        thread_id: thread.to_owned(),
        checkpoint_ns: String::new(),
        parent_id: n.checked_sub(1).map(id),
        checkpoint,
        metadata: Map::from_iter([
            ("source".into(), value!("loop")),
            ("step".into(), value!(n)),
        ]),
        new_versions: names.to_vec(),
    };
    vec![put, writes("1f1e7130"), writes("2f1e7130")]
}

/// A thread with a leased run.
async fn leased(backend: &Backend) -> Result<(ThreadId, Fence)> {
    let now = Timestamp(1_700_000_000_000_000);
    let (thread_id, run_id) = (ThreadId::mint(), RunId::mint());
    let thread = Thread {
        thread_id,
        created_at: now,
        updated_at: now,
        state_updated_at: now,
        metadata: Map::new(),
        config: Map::new(),
        status: ThreadStatus::Busy,
        values: Value::Null,
        interrupts: Default::default(),
        error: Value::Null,
        ttl: None,
    };
    let run = Run {
        run_id,
        thread_id,
        assistant_id: AssistantId::mint(),
        created_at: now,
        updated_at: now,
        status: RunStatus::Running,
        metadata: Map::new(),
        kwargs: Map::new(),
        multitask_strategy: MultitaskStrategy::Enqueue,
        attempt: 1,
        cancel: None,
        lease: Some(Lease {
            worker: "speed".into(),
            token: 1,
            expires_at: now.plus(Duration::from_secs(3600)),
        }),
        error: Value::Null,
        temporary_thread: false,
    };
    let changes = vec![
        Change::PutThread(Box::new(thread)),
        Change::PutRun(Box::new(run)),
    ];
    let decide = Box::new(move |_: Option<&_>| Ok(changes));
    backend
        .threads
        .decide(&Scope::local(), thread_id, decide)
        .await?;
    Ok((thread_id, Fence { run_id, token: 1 }))
}

async fn steps(backend: Backend, text: Arc<str>) -> Result<()> {
    let (thread, fence) = leased(&backend).await?;
    for n in 0..COMMITS {
        let ops = superstep(&thread.text(), n, &text);
        backend.checkpoints.commit(ops, Some(fence)).await?;
    }
    Ok(())
}

/// One row in one statement.
async fn bare(url: String) -> Result<()> {
    let (client, driver) = tokio_postgres::connect(&url, NoTls).await.map_err(failed)?;
    tokio::spawn(driver);
    for n in 0..i64::from(COMMITS) {
        let sql = "INSERT INTO commit_speed VALUES ($1)";
        client
            .query_typed(sql, &[(&n, Type::INT8)])
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// Runs so many at once; returns the time of one commit as a client sees it, and commits a second.
async fn measure<F>(clients: u32, one: impl Fn() -> F) -> Result<(Duration, f64)>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let start = Instant::now();
    let running: Vec<_> = (0..clients).map(|_| tokio::spawn(one())).collect();
    for client in running {
        client
            .await
            .map_err(|err| Error::bug("a client panicked").source_err(err))??;
    }
    let time = start.elapsed();
    let rate = f64::from(clients * COMMITS) / time.as_secs_f64();
    Ok((time / COMMITS, rate))
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1);
    let url = url.ok_or_else(|| Error::invalid("usage: postgres_commit_speed URL"))?;
    let options = Options {
        listen: Listen::Off,
        ..Options::new(Dsn::parse(&url)?)
    };
    let backend = Postgres::open(options).await?.backend();
    let (client, driver) = tokio_postgres::connect(&url, NoTls).await.map_err(failed)?;
    tokio::spawn(driver);
    let table = "CREATE TABLE IF NOT EXISTS commit_speed (n bigint)";
    client.batch_execute(table).await.map_err(failed)?;
    for clients in CLIENTS {
        let show = |what: &str, (time, rate): (Duration, f64)| {
            println!(
                "{what:<24} {clients:>3} clients  {time:>10.2?} a commit  {rate:>7.0} a second"
            );
        };
        show("one row", measure(clients, || bare(url.clone())).await?);
        for size in SIZES {
            let text: Arc<str> = "x".repeat(size).into();
            let measured = measure(clients, || steps(backend.clone(), text.clone())).await?;
            show(&format!("superstep, {} KiB", size >> 10), measured);
        }
    }
    Ok(())
}
