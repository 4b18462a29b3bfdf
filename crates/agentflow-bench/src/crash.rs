//! The crash driver: `kill -9` at random moments under load.
//!
//! Runs of the `recorder` graph append a line to an external file in each task. After every kill
//! the database is read before the server starts again, which tells what it had promised. A client
//! per run follows its stream through all restarts.

mod audit;
mod follow;
mod server;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use self::{
    audit::Audit,
    follow::Seen,
    server::{Server, Store},
};

/// Longest wait for all runs to end after the last kill.
const SETTLE: Duration = Duration::from_secs(120);
/// Time of a restart, roughly, in milliseconds; with the above it says how long all kills take.
const RESTART_MS: u64 = 100;

/// Address of the server while it runs.
type Url = watch::Receiver<Option<String>>;

/// A run that the server said yes to, and the client that follows it.
struct Acknowledged {
    thread: String,
    run: String,
    follower: JoinHandle<Result<Seen>>,
}

/// Options of the driver.
#[derive(clap::Args)]
pub struct Args {
    /// The fixture server.
    #[arg(long)]
    server: PathBuf,
    /// Runs to create.
    #[arg(long, default_value_t = 200)]
    runs: usize,
    /// Threads to create them on.
    #[arg(long, default_value_t = 20)]
    threads: usize,
    /// Kills.
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// Servers; more than one share a PostgreSQL database.
    #[arg(long, default_value_t = 1)]
    servers: usize,
    /// Longest time between two kills, in milliseconds; half of it on average.
    #[arg(long, default_value_t = 500)]
    between_kills_ms: u64,
    /// Tasks per run.
    #[arg(long, default_value_t = 8)]
    nodes: usize,
    /// Seed of all random choices; random if absent.
    #[arg(long)]
    seed: Option<u64>,
}

/// Sends a request until the server answers; a killed server answers later.
async fn post(
    client: &reqwest::Client,
    url: &mut Url,
    path: &str,
    body: &Value,
) -> Result<(u16, Value)> {
    loop {
        let base = base(url).await?;
        match client.post(format!("{base}{path}")).json(body).send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                if let Ok(json) = answer.json().await {
                    return Ok((status, json));
                }
            }
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// The server's address, once it runs.
async fn base(url: &mut Url) -> Result<String> {
    let found = url.wait_for(Option::is_some).await?.clone();
    found.context("the server has no address")
}

/// Creates runs on one thread, one after the other; returns those that were acknowledged.
async fn create_runs(
    client: reqwest::Client,
    (mut here, there): (Url, Url),
    thread: String,
    input: Value,
    pauses_ms: Vec<u64>,
) -> Result<Vec<Acknowledged>> {
    let mut acknowledged = Vec::new();
    for pause in pauses_ms {
        let body = json!({
            "assistant_id": "recorder", "input": input,
            "stream_mode": ["updates"], "stream_resumable": true,
        });
        let (status, run) = post(
            &client,
            &mut here,
            &format!("/threads/{thread}/runs"),
            &body,
        )
        .await?;
        ensure!(status == 200, "creating a run answered {status}: {run}");
        let run = run["run_id"].as_str().context("no run id")?.to_owned();
        let follower = follow::follow(client.clone(), there.clone(), thread.clone(), run.clone());
        acknowledged.push(Acknowledged {
            thread: thread.clone(),
            run,
            follower: tokio::spawn(follower),
        });
        sleep(Duration::from_millis(pause)).await;
    }
    Ok(acknowledged)
}

/// Waits until every acknowledged run ended; returns how they did.
async fn settle(
    client: &reqwest::Client,
    url: &str,
    acknowledged: &[Acknowledged],
) -> Result<BTreeMap<String, usize>> {
    let deadline = tokio::time::Instant::now() + SETTLE;
    let mut statuses = BTreeMap::new();
    for Acknowledged { thread, run, .. } in acknowledged {
        loop {
            let status = follow::status(client, url, thread, run).await?;
            if follow::is_terminal(&status) {
                *statuses.entry(status).or_default() += 1;
                break;
            }
            if tokio::time::Instant::now() > deadline {
                bail!("run {run} did not end");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(statuses)
}

/// Runs the driver; fails if a promise was broken.
pub async fn run(args: Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir()?;
    let record = folder.path().join("record.txt");
    fs::write(&record, "")?;
    let store = Arc::new(match args.servers {
        0 | 1 => Store::Folder(folder.path().join("data")),
        _ => Store::postgres().await?,
    });
    let start = || Server::new(args.server.clone(), store.clone());
    let (mut servers, watches): (Vec<Server>, Vec<Url>) =
        (0..args.servers.max(1)).map(|_| start()).unzip();
    for server in &mut servers {
        server.start().await?;
    }
    let client = reqwest::Client::builder()
        .read_timeout(Duration::from_secs(20))
        .build()?;
    let mut threads = Vec::new();
    for _ in 0..args.threads {
        let (_, thread) = post(&client, &mut watches[0].clone(), "/threads", &json!({})).await?;
        let id = thread["thread_id"].as_str().context("no thread id")?;
        threads.push(id.to_owned());
    }
    let creators = start_load(&args, &client, &watches, &threads, &record, &mut rng);

    let mut audit = Audit::new(record, store.clone(), threads);
    for _ in 0..args.kills {
        sleep(Duration::from_millis(rng.u64(1..args.between_kills_ms))).await;
        let server = rng.usize(..servers.len());
        servers[server].kill().await?;
        audit.look().await?;
        servers[server].start().await?;
    }
    let hits = audit.hits;
    let mut acknowledged = Vec::new();
    for creator in creators {
        acknowledged.extend(creator.await??);
    }
    let base = base(&mut watches[0].clone()).await?;
    let statuses = settle(&client, &base, &acknowledged).await?;
    let count = acknowledged.len();
    let mut followed = Vec::new();
    for acknowledged in acknowledged {
        followed.push(acknowledged.follower.await??);
    }
    let results = audit.results(&client, &base).await?;
    for server in &mut servers {
        server.kill().await?;
    }
    audit.look().await?;

    println!(
        "{} servers, {} kills, {hits} of them amid running tasks; {count} runs acknowledged, ended {statuses:?}",
        servers.len(),
        args.kills
    );
    ensure!(
        hits * 2 >= args.kills,
        "most kills hit an idle server: more runs are needed"
    );
    verdict(&args, count, &statuses, &audit, &results, &followed)
}

/// Prints what was seen and fails if a promise was broken.
fn verdict(
    args: &Args,
    count: usize,
    statuses: &BTreeMap<String, usize>,
    audit: &Audit,
    results: &audit::Results,
    followed: &[Seen],
) -> Result<()> {
    let reconnects: usize = followed.iter().map(|seen| seen.reconnects).sum();
    let received: usize = followed.iter().map(|seen| seen.events.len()).sum();
    let wrong: usize = followed.iter().map(|seen| audit.contradictions(seen)).sum();
    println!(
        "{} tasks recorded, {} results stored, {} of them again; {} finished tasks ran again",
        audit.lines,
        results.tasks,
        results.duplicates,
        audit.repeated.len(),
    );
    println!(
        "{} events stored, {} changed or vanished; clients received {received} over {reconnects} \
         reconnects, {wrong} skipped, repeated or different",
        audit.seen.events.len(),
        audit.reused,
    );
    for task in &audit.repeated {
        println!("ran again: {task}");
    }
    let all_well = statuses.len() == 1 && statuses.contains_key("success");
    ensure!(all_well, "not every run succeeded");
    ensure!(audit.repeated.is_empty(), "finished tasks ran again");
    ensure!(results.duplicates == 0, "results of tasks are stored twice");
    ensure!(
        results.tasks >= count * args.nodes,
        "results of tasks are lost"
    );
    ensure!(audit.reused == 0, "event numbers were reused");
    ensure!(wrong == 0, "a client saw something else than was stored");
    println!("total: 1 passed, 0 failed");
    Ok(())
}

/// Starts one creator of runs per thread; together they last about as long as the kills.
fn start_load(
    args: &Args,
    client: &reqwest::Client,
    watches: &[Url],
    threads: &[String],
    record: &Path,
    rng: &mut fastrand::Rng,
) -> Vec<JoinHandle<Result<Vec<Acknowledged>>>> {
    let input = json!({ "nodes": args.nodes, "file": record });
    let count = args.runs.div_ceil(args.threads);
    let span_ms = args.kills as u64 * (args.between_kills_ms / 2 + RESTART_MS);
    let longest_ms = (2 * span_ms / count as u64).max(1);
    threads
        .iter()
        .enumerate()
        .map(|(number, thread)| {
            let pauses = (0..count).map(|_| rng.u64(0..longest_ms)).collect();
            // Each thread is asked of one server, and its runs are followed on the next one.
            let here = watches[number % watches.len()].clone();
            let there = watches[(number + 1) % watches.len()].clone();
            let (client, thread, input) = (client.clone(), thread.clone(), input.clone());
            tokio::spawn(create_runs(client, (here, there), thread, input, pauses))
        })
        .collect()
}
