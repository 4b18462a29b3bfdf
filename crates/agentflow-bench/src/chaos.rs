//! The chaos driver: two servers, and faults between them and their PostgreSQL, under load.
//!
//! Each server reaches the primary and its standby through proxies of its own. Faults of every
//! kind come one after the other, then hundreds at random, at last the primary dies for good and
//! the standby takes over. After each the time is taken until both servers work again.

mod stage;

use std::{fs, path::PathBuf, sync::atomic::Ordering::Relaxed, time::Duration};

use agentflow_testkit::faults::Schedule;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::stage::{SERVERS, Stage};
use crate::drive::{self, Acknowledged, Client, Plan, Url, audit::Audit};

/// Time within which both servers answer and execute a new run once a fault is over: what is
/// silent is given up after 2 s, a connection is waited for for 5 s, a lease lasts 3 s. Twice
/// that, because the machine may be busy.
const RECOVERY: Duration = Duration::from_secs(20);
/// Longest time that a probe waits for its answer; then it is sent again.
const PROBE: Duration = Duration::from_secs(10);
/// Pause between two looks at what should come true.
const LOOK: Duration = Duration::from_millis(20);
/// Tasks per run.
const NODES: usize = 8;
/// Delay of each piece in each direction, while there is latency.
const LATENCY: Duration = Duration::from_millis(50);
/// A thin pipe, in bytes a second of each direction of each connection.
const THIN: u64 = 10 * 1024;

/// Options of the driver.
#[derive(clap::Args)]
pub struct Args {
    /// The fixture server.
    #[arg(long)]
    server: PathBuf,
    /// Threads to create runs on.
    #[arg(long, default_value_t = 8)]
    threads: usize,
    /// Longest pause between two runs on one thread, in milliseconds.
    #[arg(long, default_value_t = 3000)]
    pause_ms: u64,
    /// Times that each fault comes.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Faults at random, one right after the other.
    #[arg(long, default_value_t = 1000)]
    faults: usize,
    /// How long lasting faults last, in milliseconds.
    #[arg(long, default_value_t = 3000)]
    lasting_ms: u64,
    /// Seed of all random choices; random if absent.
    #[arg(long)]
    seed: Option<u64>,
}

/// What is done to the servers' way to their database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Latency,
    Bandwidth,
    Stall,
    Refuse,
    Cut,
    Reset,
    HalfOpen,
    /// One server loses the database for longer than its leases last; the other takes over.
    OneCutOff,
    /// The database is killed and started again.
    Killed,
    /// As many random faults as asked for.
    Random,
    /// The primary is killed; the standby takes over.
    Failover,
}

impl Fault {
    /// Those that come again and again.
    const REPEATED: [Self; 9] = [
        Self::Latency,
        Self::Bandwidth,
        Self::Stall,
        Self::Refuse,
        Self::Cut,
        Self::Reset,
        Self::HalfOpen,
        Self::OneCutOff,
        Self::Killed,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency, 50 ms each way",
            Self::Bandwidth => "bandwidth, 10 KB/s",
            Self::Stall => "silence that ends",
            Self::Refuse => "connections refused",
            Self::Cut => "connections closed",
            Self::Reset => "connections reset",
            Self::HalfOpen => "connections half-open",
            Self::OneCutOff => "one server cut off beyond its leases",
            Self::Killed => "database killed and restarted",
            Self::Random => "random faults",
            Self::Failover => "failover to the standby",
        }
    }
}

/// What was seen of one kind of fault.
struct Row {
    fault: Fault,
    times: usize,
    /// Longest time until everything worked again.
    recovery: Duration,
    busy: usize,
    uncertain: usize,
}

/// A drive under way.
struct Drive {
    args: Args,
    stage: Stage,
    client: Client,
    urls: Vec<Url>,
    audit: Audit,
    rng: fastrand::Rng,
    rows: Vec<Row>,
}

/// Runs the driver; fails if a promise was broken.
pub async fn run(args: Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let folder = tempfile::tempdir()?;
    let record = folder.path().join("record.txt");
    fs::write(&record, "")?;
    let (stage, urls) = Stage::build(&args.server, folder.path()).await?;
    let client = Client::new()?;
    let threads = client.threads(&urls[0], args.threads).await?;
    let mut drive = Drive {
        audit: Audit::new(record.clone(), stage.store.clone(), threads.clone()),
        rng: fastrand::Rng::with_seed(seed),
        rows: Vec::new(),
        args,
        stage,
        client,
        urls,
    };
    let done = drive.play(threads, drive::input(NODES, &record)).await;
    if done.is_err() {
        drive.stage.show_logs(folder.path());
    }
    done
}

impl Drive {
    async fn play(&mut self, threads: Vec<String>, input: serde_json::Value) -> Result<()> {
        let started = Instant::now();
        let enough = CancellationToken::new();
        let creators = self.start_load(threads, &input, &enough);
        let mut faults: Vec<Fault> = std::iter::repeat_n(Fault::REPEATED, self.args.rounds)
            .flatten()
            .collect();
        self.rng.shuffle(&mut faults);
        for fault in faults {
            self.strike(fault).await?;
        }
        let before = self.connections().await?;
        self.strike(Fault::Random).await?;
        let after = self.connections().await?;
        self.strike(Fault::Failover).await?;
        enough.cancel();
        let url = &mut self.urls[0].clone();
        let outcome = drive::outcome(&self.client, url, creators, &self.audit).await?;
        self.audit.look().await?;
        self.print(before, after, started.elapsed());
        outcome.verdict(&self.audit, NODES)
    }

    fn start_load(
        &mut self,
        threads: Vec<String>,
        input: &serde_json::Value,
        enough: &CancellationToken,
    ) -> Vec<JoinHandle<Result<Vec<Acknowledged>>>> {
        let longest = self.args.pause_ms.max(1);
        let mut creators = Vec::new();
        for (number, thread) in threads.into_iter().enumerate() {
            let (mut rng, enough) = (self.rng.fork(), enough.clone());
            let at = |server: usize| self.urls[server % SERVERS].clone();
            let plan = Plan {
                at: (at(number), at(number + 1)),
                thread,
                input: input.clone(),
                pauses_ms: std::iter::from_fn(move || {
                    (!enough.is_cancelled()).then(|| rng.u64(0..longest))
                }),
            };
            creators.push(tokio::spawn(self.client.clone().create_runs(plan)));
        }
        creators
    }

    /// Does one fault, waits until everything works again, and looks at the books.
    async fn strike(&mut self, fault: Fault) -> Result<()> {
        let refusals = self.client.refusals.clone();
        let refused = || {
            (
                refusals.busy.load(Relaxed),
                refusals.uncertain.load(Relaxed),
            )
        };
        let before = refused();
        let times = self.inflict(fault).await?;
        let over = Instant::now();
        self.all_work()
            .await
            .with_context(|| format!("after {}", fault.name()))?;
        let recovery = over.elapsed();
        println!("{}: all work {recovery:?} after it", fault.name());
        ensure!(
            recovery <= RECOVERY,
            "{}: recovery took longer than {RECOVERY:?}",
            fault.name()
        );
        self.audit.look().await?;
        let after = refused();
        let row = match self.rows.iter_mut().find(|row| row.fault == fault) {
            Some(row) => row,
            None => {
                self.rows.push(Row {
                    fault,
                    times: 0,
                    recovery: Duration::ZERO,
                    busy: 0,
                    uncertain: 0,
                });
                self.rows.last_mut().context("it was pushed")?
            }
        };
        row.times += times;
        row.recovery = row.recovery.max(recovery);
        row.busy += after.0 - before.0;
        row.uncertain += after.1 - before.1;
        Ok(())
    }

    /// Does a fault; returns how many there were, when they are over.
    async fn inflict(&mut self, fault: Fault) -> Result<usize> {
        let lasting = Duration::from_millis(self.args.lasting_ms);
        let proxies = &self.stage.proxies;
        let all = || proxies.iter().flatten();
        match fault {
            Fault::Latency => all().for_each(|proxy| proxy.latency(LATENCY)),
            Fault::Bandwidth => all().for_each(|proxy| proxy.bandwidth(THIN)),
            Fault::Stall => all().for_each(|proxy| proxy.stall()),
            Fault::Refuse => {
                for proxy in all() {
                    proxy.refuse().await;
                    proxy.cut();
                }
            }
            Fault::Cut => all().for_each(|proxy| proxy.cut()),
            Fault::Reset => all().for_each(|proxy| proxy.reset()),
            Fault::HalfOpen => all().for_each(|proxy| proxy.half_open()),
            Fault::OneCutOff => {
                let server = self.rng.usize(..SERVERS);
                for proxy in &proxies[server] {
                    proxy.refuse().await;
                    proxy.half_open();
                }
                sleep(2 * Duration::from_secs(drive::server::LEASE_SECONDS)).await;
            }
            Fault::Killed => {
                self.stage.restart_primary().await?;
                return Ok(1);
            }
            Fault::Failover => {
                self.stage.fail_over().await?;
                return Ok(1);
            }
            Fault::Random => {
                let (faults, seed) = (self.args.faults, self.rng.u64(..));
                // Both servers have their share; the standby's side has nothing to lose.
                let of = |server: usize| {
                    let mut schedule = Schedule::new(seed ^ server as u64);
                    schedule.most_lasting = Duration::from_millis(30);
                    proxies[server][0].run(schedule.take(faults / SERVERS))
                };
                let (first, second) = tokio::join!(of(0), of(1));
                return Ok(usize::try_from(first + second)?);
            }
        }
        if !matches!(fault, Fault::Cut | Fault::Reset | Fault::HalfOpen) {
            sleep(lasting).await;
        }
        for proxy in self.stage.proxies.iter().flatten() {
            proxy.heal().await;
        }
        Ok(1)
    }

    /// Waits until both servers see their database and execute a new run.
    async fn all_work(&self) -> Result<()> {
        let probes = self.urls.iter().map(|url| self.works(url.clone()));
        let all = futures_util::future::try_join_all(probes);
        timeout(6 * RECOVERY, all)
            .await
            .context("a server does not work again")??;
        Ok(())
    }

    async fn works(&self, mut url: Url) -> Result<()> {
        let base = drive::base(&mut url).await?;
        let echo = json!({ "assistant_id": "echo", "input": {"messages": []} });
        loop {
            let health = self.client.http.get(format!("{base}/ok?check_db=true"));
            let run = self
                .client
                .http
                .post(format!("{base}/runs/wait"))
                .json(&echo);
            let probe = async {
                health.send().await?.error_for_status()?;
                let answer = run.send().await?.error_for_status()?;
                answer.json::<serde_json::Value>().await
            };
            match timeout(PROBE, probe).await {
                Ok(Ok(answer)) => {
                    ensure!(answer.get("__error__").is_none(), "a run failed: {answer}");
                    return Ok(());
                }
                Ok(Err(_)) | Err(_) => sleep(LOOK).await,
            }
        }
    }

    /// Connections that the servers have at the database, once there are as many on their side.
    async fn connections(&self) -> Result<usize> {
        let most = SERVERS * (stage::CONNECTIONS + 1);
        let deadline = Instant::now() + 2 * RECOVERY;
        loop {
            let there = self.stage.connections()?;
            let open = |proxy: &agentflow_testkit::faults::Proxy| proxy.counts().open;
            let ours: u64 = self.stage.proxies.iter().flatten().map(open).sum();
            if there as u64 == ours && there <= most {
                return Ok(there);
            }
            ensure!(
                Instant::now() < deadline,
                "{there} connections at the database, {ours} at the servers, {most} allowed"
            );
            sleep(LOOK).await;
        }
    }

    fn print(&self, before: usize, after: usize, took: Duration) {
        println!("\n| fault | times | works again after, at most | answers 503 | answers 504 |");
        println!("|---|---|---|---|---|");
        for row in &self.rows {
            println!(
                "| {} | {} | {:.1} s | {} | {} |",
                row.fault.name(),
                row.times,
                row.recovery.as_secs_f64(),
                row.busy,
                row.uncertain,
            );
        }
        println!(
            "\nconnections at the database: {before} before the random faults, {after} after; \
             {:.0} s in all",
            took.as_secs_f64()
        );
    }
}
