//! The crash driver: `kill -9` at random moments under load.
//!
//! One server on a folder, or several on one PostgreSQL database, of which one at a time is
//! killed and started again.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use tokio::{task::JoinHandle, time::sleep};

use crate::drive::{
    self, Acknowledged, Client, Plan, Url,
    audit::Audit,
    server::{Server, Store},
};

/// Time of a restart, roughly, in milliseconds; with the pauses it says how long all kills take.
const RESTART_MS: u64 = 100;

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
    /// Attempts per run that make no checkpoint before it is given up: more than a server has by
    /// default, because on a slow machine a few kills come sooner than the first checkpoint.
    #[arg(long, default_value_t = 50)]
    max_attempts: u32,
    /// A LangGraph project with the graph `recorder`; its processes are killed as well.
    #[arg(long)]
    project: Option<PathBuf>,
    /// Interpreter for it.
    #[arg(long, default_value = "python3", requires = "project")]
    python: String,
    /// Processes for it.
    #[arg(long, default_value_t = 2, requires = "project")]
    processes: usize,
    /// Seed of all random choices; random if absent.
    #[arg(long)]
    seed: Option<u64>,
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
    let mut options = store.options()?;
    options.extend(["--max-attempts".into(), args.max_attempts.to_string()]);
    if let Some(project) = &args.project {
        options.extend(["--project".into(), project.display().to_string()]);
        options.extend(["--python".into(), args.python.clone()]);
        options.extend(["--processes".into(), args.processes.to_string()]);
    }
    let start = || Server::new(args.server.clone(), options.clone());
    let (mut servers, watches): (Vec<Server>, Vec<Url>) =
        (0..args.servers.max(1)).map(|_| start()).unzip();
    for server in &mut servers {
        server.start().await?;
    }
    let client = Client::new()?;
    let threads = client.threads(&watches[0], args.threads).await?;
    let input = drive::input(args.nodes, &record);
    let creators = start_load(&args, &client, &watches, &threads, &input, &mut rng);

    let mut audit = Audit::new(record, store.clone(), threads);
    let mut workers_killed = 0;
    for _ in 0..args.kills {
        sleep(Duration::from_millis(rng.u64(1..args.between_kills_ms))).await;
        let server = rng.usize(..servers.len());
        if args.project.is_some() {
            // One of its workers, a moment later perhaps all of them; then the server, so that
            // each is hit alone and at the same moment as the others.
            workers_killed += servers[server].kill_workers(1)?;
            sleep(Duration::from_millis(rng.u64(0..args.between_kills_ms))).await;
            workers_killed += servers[server].kill_workers(rng.usize(..=args.processes))?;
        }
        servers[server].kill().await?;
        audit.look().await?;
        servers[server].start().await?;
    }
    let hits = audit.hits;
    let outcome = drive::outcome(&client, &mut watches[0].clone(), creators, &audit).await?;
    for server in &mut servers {
        server.kill().await?;
    }
    audit.look().await?;
    println!(
        "{} servers, {} kills, {hits} of them amid running tasks",
        servers.len(),
        args.kills
    );
    if args.project.is_some() {
        println!("{workers_killed} workers killed besides");
    }
    ensure!(
        hits * 2 >= args.kills,
        "most kills hit an idle server: more runs are needed"
    );
    outcome.verdict(&audit, args.nodes)
}

/// Starts one creator of runs per thread; together they last about as long as the kills.
fn start_load(
    args: &Args,
    client: &Client,
    watches: &[Url],
    threads: &[String],
    input: &serde_json::Value,
    rng: &mut fastrand::Rng,
) -> Vec<JoinHandle<Result<Vec<Acknowledged>>>> {
    let count = args.runs.div_ceil(args.threads);
    let span_ms = args.kills as u64 * (args.between_kills_ms / 2 + RESTART_MS);
    let longest_ms = (2 * span_ms / count as u64).max(1);
    threads
        .iter()
        .enumerate()
        .map(|(number, thread)| {
            let pauses: Vec<u64> = (0..count).map(|_| rng.u64(0..longest_ms)).collect();
            // Each thread is asked of one server, and its runs are followed on the next one.
            let here = watches[number % watches.len()].clone();
            let there = watches[(number + 1) % watches.len()].clone();
            let plan = Plan {
                at: (here, there),
                thread: thread.clone(),
                input: input.clone(),
                pauses_ms: pauses.into_iter(),
            };
            tokio::spawn(client.clone().create_runs(plan))
        })
        .collect()
}
