//! Storage over a network and servers that fail: nothing acknowledged is lost, calls go on soon
//! after the fault is over, no connection stays behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use agentflow_postgres::{Dsn, Limits, Listen, Options, Postgres};
use agentflow_storage::{
    Backend,
    conformance::sample::{event, run, seed, thread, thread_id},
};
use agentflow_testkit::{
    faults::{Proxy, Schedule},
    servers::{
        pgbouncer::{self, Bouncer},
        postgres::{self as server, Address, Own, Version},
    },
    waiting,
};
use agentflow_types::{ErrorKind, Result};
use futures_util::future::join_all;
use tokio::{task::JoinHandle, time::Instant};

/// Writers, each on a thread of its own.
const WRITERS: u8 = 8;

/// Faults of the long test.
const FAULTS: usize = 1_000;

/// Time within which every writer goes on after a fault is over. A call gives up a silent
/// connection after [`limits`]' statement timeout, so that it is a multiple of that.
const RECOVERY: Duration = Duration::from_secs(5);

/// Time in which anything else happens, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Limits that notice faults soon.
fn limits() -> Limits {
    Limits {
        max_connections: 6,
        acquire_timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_millis(500),
        cancel_grace: Duration::from_millis(200),
        ..Limits::default()
    }
}

async fn open(url: &str, limits: Limits) -> Postgres {
    let mut options = Options::new(Dsn::parse(url).expect("a valid address"));
    options.listen = Listen::Off;
    options.limits = limits;
    Postgres::open(options).await.expect("the database opens")
}

/// The same address on the other side of a proxy.
fn through(url: &str, address: &Address, proxy: &Proxy) -> String {
    url.replace(
        &format!(":{}/", address.port),
        &format!(":{}/", proxy.port()),
    )
}

/// Connections of the application at the server.
fn connections(address: &Address) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity
        WHERE usename = 'app' AND backend_type = 'client backend'";
    let count = address.sql("postgres", sql).expect("the superuser may");
    count.parse().expect("a number")
}

/// Writers that go on whatever happens.
struct Writers {
    tasks: Vec<JoinHandle<u64>>,
    /// The last number of each that is known to be stored.
    stored: Vec<Arc<AtomicU64>>,
    stop: Arc<AtomicBool>,
}

impl Writers {
    async fn start(backend: &Backend) -> Result<Self> {
        let (mut tasks, mut stored) = (Vec::new(), Vec::new());
        let stop = Arc::<AtomicBool>::default();
        for number in 1..=WRITERS {
            seed(backend, thread(number), vec![run(number, number)]).await?;
            let done = Arc::<AtomicU64>::default();
            let writing = write(backend.clone(), number, done.clone(), stop.clone());
            tasks.push(tokio::spawn(writing));
            stored.push(done);
        }
        Ok(Self {
            tasks,
            stored,
            stop,
        })
    }

    /// Waits until each has stored something new; returns how long it took.
    async fn all_go_on(&self, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        let before: Vec<u64> = self.stored.iter().map(|count| count.load(SeqCst)).collect();
        waiting::until(limit, async || {
            let now = self.stored.iter().map(|count| count.load(SeqCst));
            now.zip(&before).all(|(now, before)| now > *before)
        })
        .await?;
        Ok(started.elapsed())
    }

    /// Stops them and compares what they know with what is there; returns how many there are.
    async fn check(self, backend: &Backend) -> Result<u64> {
        self.stop.store(true, SeqCst);
        let mut sum = 0;
        for (number, task) in (1..=WRITERS).zip(self.tasks) {
            let stored = task.await.expect("no panic");
            let events = backend.events.read(thread_id(number), None, 0, u32::MAX);
            let numbers: Vec<u64> = events.await?.iter().map(|event| event.seq).collect();
            assert_eq!(numbers, (1..=stored).collect::<Vec<_>>(), "writer {number}");
            sum += stored;
        }
        Ok(sum)
    }
}

/// Appends events one after the other until told to stop; returns the last number. After an
/// answer that leaves open whether an event is stored, it looks first. What a server received
/// before its connection broke may also be stored after that look; then the number is taken.
async fn write(backend: Backend, number: u8, stored: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> u64 {
    let id = thread_id(number);
    let (mut unsure, mut doubtful) = (false, 0);
    while unsure || !stop.load(SeqCst) {
        let known = stored.load(SeqCst);
        if unsure {
            let Ok(last) = backend.events.last_seq(id).await else {
                continue;
            };
            assert!((known..=known + 1).contains(&last), "{known}, then {last}");
            stored.store(last, SeqCst);
            unsure = false;
            continue;
        }
        let next = vec![event(known + 1, number)];
        match backend.events.append(id, next, None).await {
            Ok(()) => stored.store(known + 1, SeqCst),
            // Nothing was written: the number is free.
            Err(error) if error.kind() == ErrorKind::Busy => {}
            Err(error) if error.kind() == ErrorKind::Uncertain => {
                (unsure, doubtful) = (true, known + 1);
            }
            Err(error) if error.kind() == ErrorKind::Conflict && doubtful == known + 1 => {
                unsure = true;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    stored.load(SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_faults_of_every_kind() -> Result<()> {
    let own = Own::start(&server::Options::new(Version::Debian).set("max_connections", "100"))?;
    let database = own.address().create_database()?;
    let proxy = Proxy::start(own.address().port).await.expect("a free port");
    let db = open(&through(&database.url(), own.address(), &proxy), limits()).await;
    let backend = db.backend();
    let writers = Writers::start(&backend).await?;
    let mut longest = Duration::ZERO;
    let mut schedule = Schedule::new(20_261_124);
    for _ in 0..10 {
        proxy.run(schedule.by_ref().take(FAULTS / 10)).await;
        longest = longest.max(writers.all_go_on(RECOVERY).await?);
    }
    let written = writers.check(&backend).await?;
    assert_eq!(db.stats().in_use, 0, "{:?}", db.stats());
    let same = async || connections(own.address()) == db.stats().size;
    waiting::until(PATIENCE, same).await?;
    assert!(db.stats().size <= db.stats().max_size);
    let open = async || proxy.counts().open == db.stats().size as u64;
    waiting::until(PATIENCE, open).await?;
    println!(
        "{written} events, longest recovery {longest:?}, {:?}, {:?}",
        proxy.counts(),
        db.stats()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_comes_back() -> Result<()> {
    for version in Version::ENDS {
        let mut own = Own::start(&server::Options::new(version))?;
        let database = own.address().create_database()?;
        let db = open(&database.url(), limits()).await;
        let backend = db.backend();
        let writers = Writers::start(&backend).await?;
        for round in 1..=3 {
            writers.all_go_on(PATIENCE).await?;
            let restarted = tokio::task::spawn_blocking(move || {
                own.kill()?;
                own.restart()?;
                Ok(own)
            });
            own = restarted.await.expect("no panic")?;
            let took = writers.all_go_on(RECOVERY).await?;
            println!("{version:?}, kill {round}: all go on after {took:?}");
        }
        writers.check(&backend).await?;
        assert_eq!(db.stats().in_use, 0);
        let same = async || connections(own.address()) == db.stats().size;
        waiting::until(PATIENCE, same).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_without_loss() -> Result<()> {
    let mut first = Own::start(&server::Options::new(Version::Debian))?;
    let database = first.address().create_database()?;
    let second = first.standby()?;
    let proxy = Proxy::start(first.address().port)
        .await
        .expect("a free port");
    let db = open(&through(&database.url(), first.address(), &proxy), limits()).await;
    let backend = db.backend();
    let writers = Writers::start(&backend).await?;
    writers.all_go_on(PATIENCE).await?;
    let second = tokio::task::spawn_blocking(move || {
        first.kill()?;
        second.promote()?;
        Ok(second)
    });
    let second = second.await.expect("no panic")?;
    proxy.switch(second.address().port);
    let took = writers.all_go_on(RECOVERY).await?;
    let written = writers.check(&backend).await?;
    println!("{written} events, all go on {took:?} after the switch");
    let same = async || connections(second.address()) == db.stats().size;
    waiting::until(PATIENCE, same).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_callers_and_thirty_connections() -> Result<()> {
    const CALLERS: u8 = 250;
    let own = Own::start(&server::Options::new(Version::Debian).set("max_connections", "30"))?;
    let database = own.address().create_database()?;
    let bouncer = Bouncer::start(&pgbouncer::Options::new(own.address().port).pool(20))?;
    // Two processes' worth of callers; each has as many connections as the pooler has for both.
    let limits = Limits {
        max_connections: 20,
        acquire_timeout: PATIENCE,
        ..Limits::default()
    };
    let url = bouncer.address().url(database.name());
    let both = [
        open(&url, limits.clone()).await,
        open(&url, limits.clone()).await,
    ];
    let backends = [both[0].backend(), both[1].backend()];
    let mut calls = Vec::new();
    for number in 1..=CALLERS {
        for (backend, first) in backends.iter().zip([1, 2]) {
            let backend = backend.clone();
            calls.push(tokio::spawn(async move {
                if first == 1 {
                    seed(&backend, thread(number), vec![run(number, number)]).await?;
                    let first = vec![event(1, number)];
                    backend.events.append(thread_id(number), first, None).await
                } else {
                    backend.events.last_seq(thread_id(number)).await.map(drop)
                }
            }));
        }
    }
    assert_eq!(calls.len(), 500);
    for call in join_all(calls).await {
        call.expect("no panic")?;
    }
    for db in &both {
        let stats = db.stats();
        assert_eq!((stats.timeouts, stats.in_use), (0, 0), "{stats:?}");
        assert!(stats.waits > 0 && !stats.waited.is_zero(), "{stats:?}");
        println!("{stats:?}");
    }
    let last = backends[0].events.last_seq(thread_id(CALLERS)).await?;
    assert_eq!(last, 1);
    assert!(connections(own.address()) <= 20);
    Ok(())
}
