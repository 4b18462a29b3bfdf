//! The crash driver: `kill -9` at random moments under load.
//!
//! Runs of the `recorder` graph append a line to an external file in each task. After every kill
//! the database is read before the server starts again, which tells what it had promised.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use agentflow_embedded::{Embedded, Options};
use agentflow_storage::checkpoint::{CheckpointQuery, special};
use agentflow_types::ThreadId;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};
use xxhash_rust::xxh3::xxh3_64;

/// Longest wait for all runs to end after the last kill.
const SETTLE: Duration = Duration::from_secs(120);
/// Longest time between two kills, in milliseconds.
const BETWEEN_KILLS_MS: u64 = 500;
/// Events read from the log at once.
const PAGE: u32 = 1000;

/// Thread and run ids of runs that the server said yes to.
type Acknowledged = Vec<(String, String)>;

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
    /// Tasks per run.
    #[arg(long, default_value_t = 8)]
    nodes: usize,
    /// Seed of all random choices; random if absent.
    #[arg(long)]
    seed: Option<u64>,
}

/// A server process that can be killed and started again on the same data.
struct Server {
    binary: PathBuf,
    data: PathBuf,
    child: Option<Child>,
    url: watch::Sender<Option<String>>,
}

impl Server {
    async fn start(&mut self) -> Result<()> {
        let mut child = Command::new(&self.binary)
            .args(["--port", "0", "--data"])
            .arg(&self.data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = lines
            .next_line()
            .await?
            .context("the server ended before it was ready")?;
        let ready: Value = serde_json::from_str(&line)?;
        self.url
            .send_replace(Some(ready["api"].as_str().context("no url")?.to_owned()));
        self.child = Some(child);
        Ok(())
    }

    async fn kill(&mut self) -> Result<()> {
        self.url.send_replace(None);
        if let Some(mut child) = self.child.take() {
            // SIGKILL: no handler runs.
            child.kill().await?;
        }
        Ok(())
    }
}

/// What the database had promised at one moment.
#[derive(Default)]
struct Promised {
    /// Tasks whose results are stored.
    tasks: BTreeSet<String>,
    /// Fingerprint of each event by thread and number.
    events: BTreeMap<(String, u64), u64>,
}

async fn promised(data: &Path, threads: &[String]) -> Result<Promised> {
    let database = Embedded::open(data.join("agentflow.db"), Options::default())?;
    let backend = database.backend();
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
                let text = format!("{} {} {}", event.run_id, event.kind, event.data);
                found
                    .events
                    .insert((thread.clone(), event.seq), xxh3_64(text.as_bytes()));
            }
        }
    }
    Ok(found)
}

/// Sends a request until the server answers; a killed server answers later.
async fn post(
    client: &reqwest::Client,
    url: &mut watch::Receiver<Option<String>>,
    path: &str,
    body: &Value,
) -> Result<(u16, Value)> {
    loop {
        let base = url
            .wait_for(Option::is_some)
            .await?
            .clone()
            .unwrap_or_default();
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

/// Creates runs on one thread, one after the other; returns those that were acknowledged.
async fn create_runs(
    client: reqwest::Client,
    mut url: watch::Receiver<Option<String>>,
    thread: String,
    count: usize,
    input: Value,
    pause_ms: u64,
) -> Result<Acknowledged> {
    let mut acknowledged = Acknowledged::new();
    for _ in 0..count {
        let body = json!({
            "assistant_id": "recorder", "input": input,
            "stream_mode": ["updates"], "stream_resumable": true,
        });
        let (status, run) =
            post(&client, &mut url, &format!("/threads/{thread}/runs"), &body).await?;
        ensure!(status == 200, "creating a run answered {status}: {run}");
        acknowledged.push((
            thread.clone(),
            run["run_id"].as_str().unwrap_or_default().to_owned(),
        ));
        sleep(Duration::from_millis(pause_ms)).await;
    }
    Ok(acknowledged)
}

/// Waits until every acknowledged run ended; returns how they did.
async fn settle(
    client: &reqwest::Client,
    url: &str,
    acknowledged: &Acknowledged,
) -> Result<BTreeMap<String, usize>> {
    let deadline = tokio::time::Instant::now() + SETTLE;
    let mut statuses = BTreeMap::new();
    for (thread, run) in acknowledged {
        loop {
            let answer = client
                .get(format!("{url}/threads/{thread}/runs/{run}"))
                .send()
                .await?;
            let run: Value = answer.json().await?;
            let status = run["status"].as_str().unwrap_or("lost").to_owned();
            if !matches!(status.as_str(), "pending" | "running") {
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

/// Lines of the record beyond `from`, as task ids.
fn recorded(file: &Path, from: usize) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .skip(from)
        .filter_map(|line| line.split(' ').nth(2).map(str::to_owned))
        .collect()
}

/// Runs the driver; fails if a promise was broken.
pub async fn run(args: Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir()?;
    let record = folder.path().join("record.txt");
    fs::write(&record, "")?;
    let (url, watch) = watch::channel(None);
    let data = folder.path().join("data");
    let mut server = Server {
        binary: args.server.clone(),
        data: data.clone(),
        child: None,
        url,
    };
    server.start().await?;
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .build()?;
    let mut threads = Vec::new();
    for _ in 0..args.threads {
        let (_, thread) = post(&client, &mut watch.clone(), "/threads", &json!({})).await?;
        threads.push(
            thread["thread_id"]
                .as_str()
                .context("no thread id")?
                .to_owned(),
        );
    }
    let creators = start_load(&args, &client, &watch, &threads, &record, &mut rng);

    let mut audit = Audit::new(record, data, threads);
    for _ in 0..args.kills {
        sleep(Duration::from_millis(rng.u64(1..BETWEEN_KILLS_MS))).await;
        server.kill().await?;
        audit.look().await?;
        server.start().await?;
    }
    let mut acknowledged = Acknowledged::new();
    for creator in creators {
        acknowledged.extend(creator.await??);
    }
    let base = watch
        .borrow()
        .clone()
        .context("the server is not running")?;
    let statuses = settle(&client, &base, &acknowledged).await?;
    server.kill().await?;
    audit.look().await?;

    println!(
        "{} kills, {} runs acknowledged, ended {statuses:?}, {} tasks recorded, {} events; \
         {} finished tasks ran again, {} events changed or vanished",
        args.kills,
        acknowledged.len(),
        audit.lines,
        audit.seen.events.len(),
        audit.repeated,
        audit.reused,
    );
    let all_well = statuses.len() == 1 && statuses.contains_key("success");
    ensure!(all_well, "not every run succeeded");
    ensure!(audit.repeated == 0, "finished tasks ran again");
    ensure!(audit.reused == 0, "event numbers were reused");
    println!("total: 1 passed, 0 failed");
    Ok(())
}

/// Starts one creator of runs per thread.
fn start_load(
    args: &Args,
    client: &reqwest::Client,
    watch: &watch::Receiver<Option<String>>,
    threads: &[String],
    record: &Path,
    rng: &mut fastrand::Rng,
) -> Vec<JoinHandle<Result<Acknowledged>>> {
    let input = json!({ "nodes": args.nodes, "file": record });
    let count = args.runs.div_ceil(args.threads);
    threads
        .iter()
        .map(|thread| {
            let pause = rng.u64(20..300);
            let (client, watch) = (client.clone(), watch.clone());
            let (thread, input) = (thread.clone(), input.clone());
            tokio::spawn(create_runs(client, watch, thread, count, input, pause))
        })
        .collect()
}

/// Compares what the database promised before with what happened since.
struct Audit {
    record: PathBuf,
    data: PathBuf,
    threads: Vec<String>,
    seen: Promised,
    /// Lines of the record that were looked at.
    lines: usize,
    /// Tasks that ran after their results had been stored.
    repeated: usize,
    /// Events that changed or vanished.
    reused: usize,
}

impl Audit {
    fn new(record: PathBuf, data: PathBuf, threads: Vec<String>) -> Self {
        let seen = Promised::default();
        Self {
            record,
            data,
            threads,
            seen,
            lines: 0,
            repeated: 0,
            reused: 0,
        }
    }

    /// Looks at a database whose server is dead.
    async fn look(&mut self) -> Result<()> {
        let ran = recorded(&self.record, self.lines);
        self.repeated += ran
            .iter()
            .filter(|task| self.seen.tasks.contains(*task))
            .count();
        self.lines += ran.len();
        let now = promised(&self.data, &self.threads).await?;
        self.reused += changed(&self.seen, &now);
        self.seen = now;
        Ok(())
    }
}

/// Events of `before` that are different or absent in `after`.
fn changed(before: &Promised, after: &Promised) -> usize {
    before
        .events
        .iter()
        .filter(|(key, hash)| after.events.get(*key) != Some(*hash))
        .count()
}
