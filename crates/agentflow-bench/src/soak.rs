//! The soak: two servers on one PostgreSQL under mixed load for a long time, one of them killed
//! again and again.
//!
//! The first server is never killed, so that its memory tells whether something piles up. The
//! second one is killed (`SIGKILL`) every few seconds, amid what it executes, and started again.
//! Actors of ten kinds use both through the HTTP API and check every answer they get. At the end
//! no acknowledged run may be missing, and none may hang.

mod actors;
mod desk;
mod memory;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::{
    task::JoinHandle,
    time::{Instant, interval, sleep},
};

use self::{
    actors::Kind,
    desk::{Desk, Ledger},
    memory::Watch,
};
use crate::drive::server::{Server, Store};

/// Pause between a kill and the start after it.
const DOWN: Duration = Duration::from_millis(200);
/// Pause between two looks at memory.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for everything to end after the load has stopped.
const SETTLE: Duration = Duration::from_secs(60);
/// Runs that neither ended nor belong to a cron, which goes on firing.
const HANGING: &str = "SELECT count(*) FROM agentflow.runs WHERE status IN ('pending', 'running')";
/// Growth of the surviving server's memory, in megabytes per minute, that is taken for noise.
const FLAT_MB_PER_MINUTE: f64 = 1.0;
/// Shortest time over which a slope says something.
const TELLING: Duration = Duration::from_secs(300);

/// Options of the driver.
#[derive(clap::Args)]
pub struct Args {
    /// The fixture server.
    #[arg(long)]
    server: PathBuf,
    /// Length in minutes; fractions are fine.
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Time between two kills, in seconds.
    #[arg(long, default_value_t = 10)]
    kill_seconds: u64,
    /// Actors of each kind.
    #[arg(long, default_value_t = 2)]
    actors: usize,
    /// Seed of all random choices; random if absent.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the driver; fails if a promise was broken.
pub async fn run(args: Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let store = Store::postgres().await?;
    let mut options = store.options()?;
    // Kills are not the fault of the runs.
    options.extend(["--max-attempts".into(), "1000".into()]);
    let (mut stays, first) = Server::new(args.server.clone(), options.clone());
    let (mut dies, second) = Server::new(args.server.clone(), options);
    stays.start().await?;
    dies.start().await?;
    let desk = Arc::new(Desk::new([first, second])?);
    let actors = start(&args, &desk, &mut rng);

    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let pid = stays.pid().context("the first server does not run")?;
    let watch = Watch::new(pid, length);
    let (kills, watch) = play(&args, &mut dies, watch, length).await?;
    desk.close();
    let mut failures = Vec::new();
    for actor in actors {
        failures.extend(actor.await?.err().map(|err| format!("{err:#}")));
    }
    let lost = desk.settle(SETTLE).await?;
    let hanging = hanging(&store).await?;
    stays.kill().await?;
    dies.kill().await?;
    verdict(
        &args,
        kills,
        &desk.ledger(),
        &watch,
        &lost,
        &hanging,
        &failures,
    )
}

/// Starts the actors, each with choices of its own.
fn start(args: &Args, desk: &Arc<Desk>, rng: &mut fastrand::Rng) -> Vec<JoinHandle<Result<()>>> {
    let kinds = std::iter::repeat_n(Kind::ALL, args.actors).flatten();
    kinds
        .map(|kind| tokio::spawn(actors::act(kind, desk.clone(), rng.fork())))
        .collect()
}

/// Kills the second server until the time is over, and watches the memory of the first.
async fn play(
    args: &Args,
    dies: &mut Server,
    mut watch: Watch,
    length: Duration,
) -> Result<(usize, Watch)> {
    let deadline = Instant::now() + length;
    let pause = Duration::from_secs(args.kill_seconds);
    let mut next_kill = Instant::now() + pause;
    let mut looks = interval(LOOK);
    let mut kills = 0;
    while Instant::now() < deadline {
        looks.tick().await;
        watch.look()?;
        if Instant::now() >= next_kill {
            dies.kill().await?;
            sleep(DOWN).await;
            dies.start().await?;
            kills += 1;
            next_kill += pause;
        }
    }
    Ok((kills, watch))
}

/// What hangs once everything had time to end.
async fn hanging(store: &Store) -> Result<String> {
    let Store::Postgres(shared) = store else {
        return Ok("0".into());
    };
    let deadline = Instant::now() + SETTLE;
    loop {
        let count = shared.sql(HANGING)?.trim().to_owned();
        if count == "0" || Instant::now() > deadline {
            return Ok(count);
        }
        sleep(LOOK).await;
    }
}

/// Prints what was seen and fails if a promise was broken.
fn verdict(
    args: &Args,
    kills: usize,
    ledger: &Ledger,
    watch: &Watch,
    lost: &[String],
    hanging: &str,
    failures: &[String],
) -> Result<()> {
    println!(
        "{} minutes, {kills} kills of one of two servers",
        args.minutes
    );
    for (kind, count) in &ledger.rounds {
        println!("{:<12} {count} rounds", kind.name());
    }
    println!(
        "{} runs acknowledged, {} lost, {hanging} hang; {} requests sent again, of them {} \
         because a server was busy",
        ledger.runs,
        lost.len(),
        ledger.again,
        ledger.busy,
    );
    let slope = watch.slope_mb_per_minute();
    println!(
        "memory of the server that stays: {:.1} MB after warm-up, {:.1} MB at the end, at most \
         {:.1} MB, {slope:+.3} MB per minute",
        watch.warm_mb(),
        watch.last_mb(),
        watch.most_mb(),
    );
    for line in lost.iter().chain(failures) {
        println!("broken: {line}");
    }
    ensure!(failures.is_empty(), "{} actors failed", failures.len());
    ensure!(lost.is_empty(), "runs are lost");
    ensure!(hanging == "0", "runs hang");
    if watch.length() >= TELLING {
        ensure!(slope <= FLAT_MB_PER_MINUTE, "memory grows");
    }
    println!("total: 1 passed, 0 failed");
    Ok(())
}
