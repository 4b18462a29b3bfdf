//! What the crash driver and the chaos driver share: servers, clients that create and follow
//! runs, and the books that tell whether a promise was broken.
//!
//! Runs of the `recorder` graph append a line to an external file in each task. The database is
//! read again and again meanwhile, which tells what it had promised. A client per run follows its
//! stream through everything that happens.

pub mod audit;
pub mod follow;
pub mod server;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use self::{audit::Audit, follow::Seen};

/// Longest wait for all runs to end after the last fault.
const SETTLE: Duration = Duration::from_secs(600);
/// Most runs of one thread that have not ended; more would only measure a queue.
const OPEN: usize = 3;
/// Pause before a request is sent again.
const AGAIN: Duration = Duration::from_millis(20);
/// Longest silence of a server that a client bears.
const SILENCE: Duration = Duration::from_secs(20);

/// Address of a server while it runs.
pub type Url = watch::Receiver<Option<String>>;

/// A run that a server said yes to, and the client that follows it.
pub struct Acknowledged {
    thread: String,
    run: String,
    follower: JoinHandle<Result<Seen>>,
}

/// Answers that ask a client to come again.
#[derive(Default)]
pub struct Refusals {
    /// 503: nothing was written.
    pub busy: AtomicUsize,
    /// 504: it may have been written.
    pub uncertain: AtomicUsize,
}

/// A client that creates runs.
#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub refusals: Arc<Refusals>,
}

/// What one creator of runs does.
pub struct Plan<P> {
    /// The server that is asked, and the one whose streams are followed.
    pub at: (Url, Url),
    pub thread: String,
    pub input: Value,
    /// Pause after each run, in milliseconds; no more runs when they end.
    pub pauses_ms: P,
}

impl Client {
    /// A client that gives up on a server that says nothing.
    pub fn new() -> Result<Self> {
        let http = reqwest::Client::builder().read_timeout(SILENCE).build()?;
        Ok(Self {
            http,
            refusals: Arc::default(),
        })
    }

    /// Sends a request until a server does it; one that is down or busy does it later.
    pub async fn post(&self, url: &mut Url, path: &str, body: &Value) -> Result<Value> {
        loop {
            let base = base(url).await?;
            let request = self.http.post(format!("{base}{path}")).json(body);
            if let Ok(answer) = request.send().await {
                let status = answer.status().as_u16();
                match (status, answer.json().await) {
                    (200, Ok(json)) => return Ok(json),
                    (503, _) => drop(self.refusals.busy.fetch_add(1, Relaxed)),
                    (504, _) => drop(self.refusals.uncertain.fetch_add(1, Relaxed)),
                    // The connection broke amid the answer.
                    (200, Err(_)) => {}
                    (status, said) => bail!("{path} answered {status}: {said:?}"),
                }
            }
            sleep(AGAIN).await;
        }
    }

    /// Makes threads.
    pub async fn threads(&self, url: &Url, count: usize) -> Result<Vec<String>> {
        let mut threads = Vec::with_capacity(count);
        for _ in 0..count {
            let thread = self.post(&mut url.clone(), "/threads", &json!({})).await?;
            let id = thread["thread_id"].as_str().context("no thread id")?;
            threads.push(id.to_owned());
        }
        Ok(threads)
    }

    /// Creates runs on one thread, one after the other; returns those that were acknowledged.
    pub async fn create_runs(
        self,
        plan: Plan<impl Iterator<Item = u64>>,
    ) -> Result<Vec<Acknowledged>> {
        let (mut here, there) = plan.at;
        let path = format!("/threads/{}/runs", plan.thread);
        let body = json!({
            "assistant_id": "recorder", "input": plan.input,
            "stream_mode": ["updates"], "stream_resumable": true,
        });
        let mut acknowledged: Vec<Acknowledged> = Vec::new();
        for pause in plan.pauses_ms {
            let is_open = |run: &&Acknowledged| !run.follower.is_finished();
            while acknowledged.iter().rev().take(OPEN).filter(is_open).count() == OPEN {
                sleep(AGAIN).await;
            }
            let run = self.post(&mut here, &path, &body).await?;
            let run = run["run_id"].as_str().context("no run id")?.to_owned();
            let thread = plan.thread.clone();
            let follower = follow::follow(
                self.http.clone(),
                there.clone(),
                thread.clone(),
                run.clone(),
            );
            acknowledged.push(Acknowledged {
                thread,
                run,
                follower: tokio::spawn(follower),
            });
            sleep(Duration::from_millis(pause)).await;
        }
        Ok(acknowledged)
    }

    /// Waits until every acknowledged run ended; returns how they did.
    async fn settle(
        &self,
        url: &mut Url,
        acknowledged: &[Acknowledged],
    ) -> Result<BTreeMap<String, usize>> {
        let deadline = tokio::time::Instant::now() + SETTLE;
        let mut statuses = BTreeMap::new();
        for Acknowledged { thread, run, .. } in acknowledged {
            loop {
                let base = base(url).await?;
                let status = follow::status(&self.http, &base, thread, run).await;
                if let Ok(status) = &status
                    && follow::is_terminal(status)
                {
                    *statuses.entry(status.clone()).or_default() += 1;
                    break;
                }
                ensure!(
                    tokio::time::Instant::now() < deadline,
                    "run {run} of thread {thread} did not end: {status:?}"
                );
                sleep(AGAIN).await;
            }
        }
        Ok(statuses)
    }
}

/// The server's address, once it runs.
pub async fn base(url: &mut Url) -> Result<String> {
    let found = url.wait_for(Option::is_some).await?.clone();
    found.context("the server has no address")
}

/// What a run of the recorder gets.
pub fn input(nodes: usize, record: &Path) -> Value {
    json!({ "nodes": nodes, "file": record })
}

/// What came out of all runs.
pub struct Outcome {
    /// Runs that were acknowledged.
    pub count: usize,
    statuses: BTreeMap<String, usize>,
    followed: Vec<Seen>,
    results: audit::Results,
}

/// Waits for all runs and for their followers.
pub async fn outcome(
    client: &Client,
    url: &mut Url,
    creators: Vec<JoinHandle<Result<Vec<Acknowledged>>>>,
    audit: &Audit,
) -> Result<Outcome> {
    let mut acknowledged = Vec::new();
    for creator in creators {
        acknowledged.extend(creator.await??);
    }
    let statuses = client.settle(url, &acknowledged).await?;
    let count = acknowledged.len();
    let mut followed = Vec::new();
    for acknowledged in acknowledged {
        followed.push(acknowledged.follower.await??);
    }
    let results = audit.results(&client.http, &base(url).await?).await?;
    Ok(Outcome {
        count,
        statuses,
        followed,
        results,
    })
}

impl Outcome {
    /// Prints what was seen and fails if a promise was broken. Each run has so many tasks.
    pub fn verdict(&self, audit: &Audit, nodes: usize) -> Result<()> {
        let sum = |of: fn(&Seen) -> usize| self.followed.iter().map(of).sum::<usize>();
        let wrong: usize = self.followed.iter().map(|s| audit.contradictions(s)).sum();
        let errors = sum(|seen| seen.errors.len());
        println!(
            "{} runs acknowledged, ended {:?}",
            self.count, self.statuses
        );
        println!(
            "{} tasks recorded, {} results stored, {} of them again; {} finished tasks ran again",
            audit.lines,
            self.results.tasks,
            self.results.duplicates,
            audit.repeated.len(),
        );
        println!(
            "{} events stored, {} changed or vanished; clients received {} over {} reconnects, \
             {wrong} skipped, repeated or different, {errors} errors",
            audit.seen.events.len(),
            audit.reused,
            sum(|seen| seen.events.len()),
            sum(|seen| seen.reconnects),
        );
        for task in &audit.repeated {
            println!("ran again: {task}");
        }
        for error in self.followed.iter().flat_map(|seen| &seen.errors) {
            println!("a stream said: {error}");
        }
        let all_well = self.statuses.len() == 1 && self.statuses.contains_key("success");
        ensure!(all_well, "not every run succeeded");
        ensure!(audit.repeated.is_empty(), "finished tasks ran again");
        ensure!(
            self.results.duplicates == 0,
            "results of tasks are stored twice"
        );
        ensure!(
            self.results.tasks >= self.count * nodes,
            "results of tasks are lost"
        );
        ensure!(audit.reused == 0, "event numbers were reused");
        ensure!(wrong == 0, "a client saw something else than was stored");
        ensure!(errors == 0, "a stream ended with an error");
        println!("total: 1 passed, 0 failed");
        Ok(())
    }
}
