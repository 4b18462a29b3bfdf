//! Many open streams on one server: what they cost, how soon the first event of a run comes while
//! they are open, and what readers that never read do to it.

mod held;
mod slow;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::{interval, sleep, timeout};

use self::held::Held;

/// Requests at once while threads are made and streams are opened.
const OPENERS: usize = 32;
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long open streams are left alone before memory is looked at: longer than two heartbeats.
const REST: Duration = Duration::from_secs(12);
/// Clock ticks per second in `/proc`; a constant of Linux.
const TICKS: f64 = 100.0;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Base URL.
    #[arg(long)]
    url: String,
    /// Process of the server.
    #[arg(long)]
    pid: u32,
    /// Streams to hold open, each on a thread of its own.
    #[arg(long, default_value_t = 1000)]
    streams: usize,
    /// Runs per second that are started while the streams are open, one case each.
    #[arg(long, value_delimiter = ',')]
    rates: Vec<u64>,
    /// Seconds of each rate.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Readers that never read, after everything else.
    #[arg(long, default_value_t = 0)]
    slow: usize,
    /// How long the server bears a reader that does not read, in seconds.
    #[arg(long, default_value_t = 30)]
    stall_seconds: u64,
}

/// A client that gives up on what takes too long.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    fn new(url: &str) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            .pool_max_idle_per_host(OPENERS)
            .build()?;
        let url = url.to_owned();
        Ok(Self { http, url })
    }

    /// Posts a body; the answer as JSON.
    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let url = format!("{}{path}", self.url);
        let answer = self.http.post(url).json(body).send().await?;
        let status = answer.status();
        ensure!(status.is_success(), "{path} answered {status}");
        Ok(answer.json().await?)
    }

    async fn thread(&self) -> Result<String> {
        let thread = self.post("/threads", &json!({})).await?;
        let id = thread["thread_id"].as_str();
        Ok(id.context("no thread id")?.to_owned())
    }

    /// Starts a run and reads its stream; milliseconds from `since` to the first event.
    async fn first_event(&self, thread: &str, since: Instant) -> Result<f64> {
        let body = json!({
            "assistant_id": "echo",
            "input": {"messages": [{"role": "user", "content": "hi"}]},
        });
        let url = format!("{}/threads/{thread}/runs/stream", self.url);
        let answer = self.http.post(url).json(&body).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        let mut bytes = answer.bytes_stream();
        let mut first = None;
        while let Some(piece) = bytes.next().await {
            piece?;
            first.get_or_insert_with(|| since.elapsed());
        }
        Ok(first.context("a run without events")?.as_secs_f64() * 1e3)
    }
}

/// Resident memory in megabytes.
pub fn resident_mb(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: f64 = kilobytes.context("no VmRSS")?.trim().parse()?;
    Ok(kilobytes / 1024.0)
}

/// Processor time that a process has used, in seconds.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything.
    let (_, rest) = text.rsplit_once(')').context("no name")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || -> Result<f64> { Ok(fields.next().context("no time")?.parse()?) };
    Ok((ticks()? + ticks()?) / TICKS)
}

/// A process and its children, as one number.
fn family(pid: u32, of: fn(u32) -> Result<f64>) -> Result<f64> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let below = children.split_whitespace().filter_map(|id| id.parse().ok());
    below
        .map(|id| family(id, of))
        .fold(of(pid), |sum, more| Ok(sum? + more?))
}

fn percentile(sorted: &[f64], part: f64) -> f64 {
    let index = (part * sorted.len() as f64) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(index.min(last)).copied().unwrap_or(f64::NAN)
}

/// Runs all cases and prints a line for each.
pub async fn run(args: &Args) -> Result<()> {
    raise_descriptors()?;
    let client = Client::new(&args.url)?;
    // One run warms caches and opens what is opened once.
    client
        .first_event(&client.thread().await?, Instant::now())
        .await?;
    let held = hold(args, &client).await?;
    for rate in &args.rates {
        println!("{}", at_rate(args, &client, &held, *rate).await?);
    }
    drop(held);
    if args.slow > 0 {
        println!("{}", slow::case(args, &client).await?);
    }
    Ok(())
}

/// Opens the streams and looks at what they cost.
async fn hold(args: &Args, client: &Client) -> Result<Vec<Arc<Held>>> {
    let before = family(args.pid, resident_mb)?;
    let started = Instant::now();
    let open = |_| async {
        let thread = client.thread().await?;
        timeout(PATIENCE, Held::open(&args.url, thread)).await?
    };
    let mut opened = Vec::with_capacity(args.streams);
    let mut opening = stream::iter(0..args.streams)
        .map(open)
        .buffer_unordered(OPENERS);
    let mut refused = 0;
    while let Some(held) = opening.next().await {
        match held {
            Ok(held) => opened.push(held),
            Err(_) => refused += 1,
        }
    }
    drop(opening);
    let seconds = started.elapsed().as_secs_f64();
    let cpu = family(args.pid, cpu_seconds)?;
    sleep(REST).await;
    let idle = (family(args.pid, cpu_seconds)? - cpu) / REST.as_secs_f64();
    let after = family(args.pid, resident_mb)?;
    let line = json!({
        "case": "hold", "streams": args.streams, "refused": refused,
        "open": opened.iter().filter(|held| held.is_open()).count(),
        "seconds": seconds, "before_mb": before, "after_mb": after,
        "kb_per_stream": (after - before) * 1024.0 / opened.len().max(1) as f64,
        "idle_cpu_percent": idle * 100.0,
    });
    println!("{line}");
    Ok(opened)
}

/// Starts runs at a steady rate, on threads whose streams are open. Times count from when a run
/// was due, not from when it could be sent.
async fn at_rate(args: &Args, client: &Client, held: &[Arc<Held>], rate: u64) -> Result<Value> {
    ensure!(!held.is_empty(), "no stream is open");
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(rate)?);
    let count = usize::try_from(rate * args.seconds)?;
    let started = Instant::now();
    let cpu = family(args.pid, cpu_seconds)?;
    let mut runs = Vec::with_capacity(count);
    for number in 0..count {
        let due = ticks.tick().await.into_std();
        let (client, held) = (client.clone(), held[number % held.len()].clone());
        runs.push(tokio::spawn(async move {
            held.arm();
            let own = client.first_event(&held.thread, due).await?;
            let watcher = timeout(PATIENCE, held.first(due)).await??;
            anyhow::Ok((own, watcher))
        }));
    }
    let (mut own, mut watched, mut failed) = (Vec::new(), Vec::new(), 0);
    for run in runs {
        match run.await? {
            Ok((first, watcher)) => {
                own.push(first);
                watched.push(watcher);
            }
            Err(_) => failed += 1,
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    own.sort_by(f64::total_cmp);
    watched.sort_by(f64::total_cmp);
    Ok(json!({
        "case": format!("rate_{rate}"), "streams": held.len(), "runs": own.len(), "failed": failed,
        "per_second": own.len() as f64 / elapsed,
        "first_p50_ms": percentile(&own, 0.5), "first_p99_ms": percentile(&own, 0.99),
        "watcher_p50_ms": percentile(&watched, 0.5), "watcher_p99_ms": percentile(&watched, 0.99),
        "cpu_ms_per_run": (family(args.pid, cpu_seconds)? - cpu) * 1e3 / own.len().max(1) as f64,
        "after_mb": family(args.pid, resident_mb)?,
    }))
}

/// Lets this process open as many files as the system allows it.
fn raise_descriptors() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
