//! The pool: its limits, and what becomes of calls when connections break.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use agentflow_postgres::{Dsn, Limits, Listen, Options, Postgres};
use agentflow_storage::{
    Backend,
    conformance::{
        refused,
        sample::{event, run, seed, thread, thread_id},
    },
};
use agentflow_testkit::{
    servers::{
        pgbouncer::{self, Bouncer},
        postgres::{self as server, Database, Own, Version},
    },
    waiting,
};
use agentflow_types::{ErrorKind, Result};
use futures_util::future::{join_all, try_join_all};
use tokio_postgres::{Client, NoTls};

mod proxy;
use proxy::{Mode, Proxy};

/// What takes longer counts as never.
const PATIENCE: Duration = Duration::from_secs(20);

fn shared() -> Database {
    let server = server::shared(Version::Debian).expect("a server");
    server.create_database().expect("a database")
}

fn options(url: &str) -> Options {
    let mut options = Options::new(Dsn::parse(url).expect("a valid address"));
    options.listen = Listen::Off;
    options
}

async fn open(url: &str, limits: Limits) -> Postgres {
    let opened = Postgres::open(Options {
        limits,
        ..options(url)
    });
    opened.await.expect("the database opens")
}

/// A connection of its own.
async fn client(url: &str) -> Client {
    let (client, driver) = tokio_postgres::connect(url, NoTls).await.expect("a server");
    tokio::spawn(driver);
    client
}

/// The address on the other side of a proxy.
fn through(url: &str, port: u16, proxy: &Proxy) -> String {
    url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port))
}

async fn ask(backend: &Backend) -> Result<u64> {
    backend.events.last_seq(thread_id(1)).await
}

/// Ends all connections of the application as an administrator does.
fn terminate(database: &Database) -> u64 {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'app'";
    let count = database.sql(sql).expect("the superuser may");
    count.parse().expect("a number")
}

/// How many connections of the application the server has.
fn connections(database: &Database) -> usize {
    let sql = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = 'app'";
    let count = database.sql(sql).expect("the superuser may");
    count.parse().expect("a number")
}

#[tokio::test]
async fn who_waits_too_long_is_told_and_counted() -> Result<()> {
    let database = shared();
    let limits = Limits {
        max_connections: 2,
        acquire_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let db = open(&database.url(), limits).await;
    let backend = db.backend();
    let lock = client(&database.url()).await;
    let sql = "BEGIN; LOCK TABLE agentflow.threads IN ACCESS EXCLUSIVE MODE";
    lock.batch_execute(sql).await.expect("the table is free");

    let stuck = [0; 2].map(|_| {
        tokio::spawn({
            let backend = backend.clone();
            async move { ask(&backend).await }
        })
    });
    waiting::until(PATIENCE, async || db.stats().in_use == 2).await?;
    refused(ask(&backend).await, ErrorKind::Busy);
    let stats = db.stats();
    assert_eq!((stats.max_size, stats.size, stats.in_use), (2, 2, 2));
    assert_eq!((stats.waits, stats.timeouts, stats.waiting), (1, 1, 0));
    assert!(stats.waited >= Duration::from_millis(200), "{stats:?}");

    lock.batch_execute("COMMIT").await.expect("it was open");
    for stuck in stuck {
        stuck.await.expect("no panic")?;
    }
    assert_eq!(db.stats().in_use, 0);
    assert_eq!(db.stats().discarded, 0);
    Ok(())
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_stopped() -> Result<()> {
    const GRACE: Duration = Duration::from_secs(10);
    let server = server::shared(Version::Debian)?;
    let database = server.create_database()?;
    for url in [database.url(), database.bouncer_url(&server.bouncer()?)] {
        let limits = Limits {
            max_connections: 1,
            statement_timeout: Duration::from_millis(200),
            cancel_grace: GRACE,
            ..Limits::default()
        };
        let db = open(&url, limits).await;
        let backend = db.backend();
        seed(&backend, thread(1), vec![run(1, 1)]).await?;
        let lock = client(&database.url()).await;
        let sql = "BEGIN; LOCK TABLE agentflow.threads IN ACCESS EXCLUSIVE MODE";
        lock.batch_execute(sql).await.expect("the table is free");
        // A read, a transaction, and a decision.
        let started = Instant::now();
        // A transaction, and a decision, which the server stops: the connection is still good.
        let appended = backend.events.append(thread_id(1), vec![event(1, 1)], None);
        refused(appended.await, ErrorKind::Busy);
        refused(seed(&backend, thread(1), vec![]).await, ErrorKind::Busy);
        assert_eq!((db.stats().size, db.stats().discarded), (1, 0));
        // A read, which we ask it to stop: whether that hits the next statement is not known.
        let found = ask(&backend).await;
        assert!(format!("{found:?}").contains("user request"), "{found:?}");
        refused(found, ErrorKind::Busy);
        assert_eq!((db.stats().size, db.stats().discarded), (0, 1));
        assert!(started.elapsed() < GRACE, "{:?}", started.elapsed());
        lock.batch_execute("COMMIT").await.expect("it was open");
        assert_eq!(ask(&backend).await?, 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_mixes_nothing_up() -> Result<()> {
    const TASKS: u8 = 16;
    const EACH: u64 = 50;
    const LARGE: usize = 40_000;
    let server = server::shared(Version::Debian)?;
    let database = server.create_database()?;
    let few = pgbouncer::Options::new(server.address().port).pool(3);
    let bouncer = tokio::task::spawn_blocking(move || Bouncer::start(&few));
    let bouncer = bouncer.await.expect("no panic")?;
    let db = open(&bouncer.address().url(database.name()), Limits::default()).await;
    let tasks = (1..=TASKS).map(|n| {
        let backend = db.backend();
        tokio::spawn(async move {
            seed(&backend, thread(n), vec![run(n, n)]).await?;
            // More than a pooler passes on at once.
            let text: std::sync::Arc<str> = format!("\"{}\"", "x".repeat(LARGE)).into();
            for seq in 1..=EACH {
                // A transaction that is undone, with another right behind it.
                let nothing = Box::new(|_: Option<&_>| Ok(vec![]));
                let scope = agentflow_types::Scope::local();
                backend
                    .threads
                    .decide(&scope, thread_id(n), nothing)
                    .await?;
                let next = agentflow_storage::event::Event {
                    data: text.clone(),
                    ..event(seq, n)
                };
                let append = backend
                    .events
                    .append(thread_id(n), vec![next.clone()], None);
                append.await?;
                assert_eq!(backend.events.last_seq(thread_id(n)).await?, seq);
                let read = backend.events.read(thread_id(n), None, seq - 1, 9).await?;
                assert_eq!(read, [next]);
                // One that fails in the middle of its transaction.
                let again = vec![event(seq, n)];
                refused(
                    backend.events.append(thread_id(n), again, None).await,
                    ErrorKind::Conflict,
                );
            }
            Ok(())
        })
    });
    for task in join_all(tasks).await {
        task.expect("no panic")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_no_connection_behind() -> Result<()> {
    let database = shared();
    let db = open(&database.url(), Limits::default()).await;
    let backend = db.backend();
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    let lock = client(&database.url()).await;
    let sql = "BEGIN; LOCK TABLE agentflow.threads IN ACCESS EXCLUSIVE MODE";
    lock.batch_execute(sql).await.expect("the table is free");
    let calls = (0..5).map(|_| {
        let backend = backend.clone();
        tokio::spawn(async move {
            seed(&backend, thread(1), vec![]).await?;
            ask(&backend).await
        })
    });
    let calls: Vec<_> = calls.collect();
    waiting::until(PATIENCE, async || db.stats().in_use > 0).await?;
    for call in &calls {
        call.abort();
    }
    for call in calls {
        assert!(call.await.expect_err("it was aborted").is_cancelled());
    }
    assert_eq!(db.stats().in_use, 0);
    assert!(db.stats().discarded > 0);
    lock.batch_execute("COMMIT").await.expect("it was open");
    assert_eq!(ask(&backend).await?, 0);
    // Ours and the one with the lock.
    let there = || db.stats().size + 1;
    waiting::until(PATIENCE, async || connections(&database) == there()).await
}

#[tokio::test]
async fn a_dead_connection_is_replaced_without_an_error() -> Result<()> {
    let database = shared();
    let db = open(&database.url(), Limits::default()).await;
    let backend = db.backend();
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    for number in 1..=10 {
        try_join_all((0..8).map(|_| ask(&backend))).await?;
        assert!(terminate(&database) > 0);
        assert_eq!(ask(&backend).await?, number - 1);
        assert!(terminate(&database) > 0);
        let events = vec![event(number, 1)];
        backend.events.append(thread_id(1), events, None).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_comes_back_is_waited_for() -> Result<()> {
    let mut own = Own::start(&server::Options::new(Version::Debian))?;
    let database = own.address().create_database()?;
    let db = open(&database.url(), Limits::default()).await;
    let backend = db.backend();
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    backend
        .events
        .append(thread_id(1), vec![event(1, 1)], None)
        .await?;
    own.kill()?;
    let asked = {
        let backend = backend.clone();
        tokio::spawn(async move { ask(&backend).await })
    };
    tokio::task::spawn_blocking(move || own.restart().map(|()| own))
        .await
        .expect("no panic")
        .map(|own| async move {
            let last = asked.await.expect("no panic")?;
            drop(own);
            assert_eq!(last, 1);
            Ok(())
        })?
        .await
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_given_up() -> Result<()> {
    let database = shared();
    let proxy = Proxy::start(database.address().port).await;
    let limits = Limits {
        statement_timeout: Duration::from_millis(200),
        cancel_grace: Duration::from_millis(100),
        connect_timeout: Duration::from_millis(500),
        acquire_timeout: Duration::from_millis(1500),
        ..Limits::default()
    };
    let url = through(&database.url(), database.address().port, &proxy);
    let db = open(&url, limits).await;
    let backend = db.backend();
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    proxy.set(Mode::Stall);
    refused(ask(&backend).await, ErrorKind::Busy);
    proxy.set(Mode::Pass);
    ask(&backend).await?;
    proxy.set(Mode::Stall);
    // It may have been stored: nobody said no.
    let appended = backend.events.append(thread_id(1), vec![event(1, 1)], None);
    refused(appended.await, ErrorKind::Uncertain);
    // Nor does anybody answer who wants to connect.
    refused(ask(&backend).await, ErrorKind::Busy);
    proxy.set(Mode::Pass);
    ask(&backend).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_faults_leave_nothing_behind() -> Result<()> {
    const FAULTS: usize = 1000;
    let database = shared();
    let proxy = Proxy::start(database.address().port).await;
    let url = through(&database.url(), database.address().port, &proxy);
    let db = open(&url, Limits::default()).await;
    let backend = db.backend();
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    let answered = Arc::<AtomicUsize>::default();
    let writer = tokio::spawn(write_on(backend.clone(), answered.clone()));
    let readers = [(); 3].map(|()| tokio::spawn(read_on(backend.clone(), answered.clone())));
    let mut faults = 0;
    while faults < FAULTS {
        let before = answered.load(SeqCst);
        waiting::until(PATIENCE, async || answered.load(SeqCst) != before).await?;
        waiting::until(PATIENCE, async || proxy.reset(faults)).await?;
        faults += 1;
        if faults.is_multiple_of(100) {
            proxy.set(Mode::Refuse);
            proxy.reset_all();
            tokio::task::yield_now().await;
            proxy.set(Mode::Pass);
        }
    }
    for reader in readers {
        reader.abort();
    }
    writer.abort();
    let stored = writer.await;
    assert!(stored.expect_err("it goes on for ever").is_cancelled());
    // Whatever was acknowledged is there: the writer panics otherwise.
    let last = ask(&backend).await?;
    let all = backend.events.read(thread_id(1), None, 0, u32::MAX).await?;
    let numbers: HashSet<u64> = all.iter().map(|event| event.seq).collect();
    assert_eq!((numbers.len(), all.len() as u64), (all.len(), last));
    assert!(last > 0);
    assert_eq!(db.stats().in_use, 0);
    waiting::until(PATIENCE, async || connections(&database) == db.stats().size).await?;
    assert!(db.stats().size <= db.stats().max_size);
    Ok(())
}

/// Appends events one after the other. Before it appends again what it does not know to be stored
/// or not, it looks.
async fn write_on(backend: Backend, answered: Arc<AtomicUsize>) {
    // An append of unknown outcome may still be at work when its connection is long gone, so the
    // doubt about it ends only with the next one that is acknowledged.
    let (mut acknowledged, mut unsure, mut doubt) = (0, false, false);
    loop {
        if unsure {
            let Ok(last) = ask(&backend).await else {
                continue;
            };
            let may_be = acknowledged..=acknowledged + 1;
            assert!(may_be.contains(&last), "{last} {acknowledged}");
            (acknowledged, unsure) = (last, false);
        }
        let next = vec![event(acknowledged + 1, 1)];
        match backend.events.append(thread_id(1), next, None).await {
            Ok(()) => {
                (acknowledged, doubt) = (acknowledged + 1, false);
                answered.fetch_add(1, SeqCst);
            }
            // Nothing was written: the same number must be free.
            Err(err) if err.kind() == ErrorKind::Busy => {}
            Err(err) if err.kind() == ErrorKind::Uncertain => (unsure, doubt) = (true, true),
            Err(err) if err.kind() == ErrorKind::Conflict && doubt => unsure = true,
            Err(err) => panic!("{err:?}"),
        }
    }
}

async fn read_on(backend: Backend, answered: Arc<AtomicUsize>) {
    loop {
        match ask(&backend).await {
            Ok(_) => answered.fetch_add(1, SeqCst),
            Err(err) if err.kind() == ErrorKind::Busy => continue,
            Err(err) => panic!("{err:?}"),
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_callers_share_few_connections() -> Result<()> {
    let server = server::shared(Version::Debian)?;
    let database = server.create_database()?;
    for url in [database.url(), database.bouncer_url(&server.bouncer()?)] {
        let limits = Limits {
            max_connections: 20,
            ..Limits::default()
        };
        let db = open(&url, limits).await;
        let backend = db.backend();
        seed(&backend, thread(1), vec![run(1, 1)]).await?;
        let calls = (0..500).map(|_| {
            let backend = backend.clone();
            tokio::spawn(async move { ask(&backend).await })
        });
        for call in join_all(calls).await {
            call.expect("no panic")?;
        }
        let stats = db.stats();
        assert!(stats.size <= 20 && stats.waits > 0, "{stats:?}");
        assert_eq!((stats.waiting, stats.timeouts, stats.in_use), (0, 0, 0));
    }
    Ok(())
}

#[tokio::test]
async fn what_is_idle_or_old_is_closed() -> Result<()> {
    let database = shared();
    let limits = Limits {
        idle_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let db = open(&database.url(), limits).await;
    ask(&db.backend()).await?;
    waiting::until(PATIENCE, async || db.stats().size == 0).await?;
    waiting::until(PATIENCE, async || connections(&database) == 0).await?;
    ask(&db.backend()).await?;

    let limits = Limits {
        max_lifetime: Duration::ZERO,
        max_connections: 1,
        ..Limits::default()
    };
    let db = open(&database.url(), limits).await;
    let pid = async || {
        ask(&db.backend()).await.expect("the server is there");
        let sql = "SELECT max(pid) FROM pg_stat_activity
            WHERE usename = 'app' AND datname = current_database()";
        database.sql(sql).expect("the superuser may")
    };
    assert_ne!(pid().await, pid().await);
    Ok(())
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_left() -> Result<()> {
    let database = shared();
    let db = open(&database.url(), Limits::default()).await;
    let backend = db.backend();
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    let set = |value: &str| {
        let name = database.name();
        let sql = format!(
            "SET default_transaction_read_only = off;
            ALTER DATABASE {name} SET default_transaction_read_only = {value}"
        );
        database.sql(&sql).expect("the superuser may");
    };
    set("on");
    terminate(&database);
    let appended = backend.events.append(thread_id(1), vec![event(1, 1)], None);
    refused(appended.await, ErrorKind::Busy);
    set("off");
    // The connection to it was closed, so the next one is to a server that does.
    backend
        .events
        .append(thread_id(1), vec![event(1, 1)], None)
        .await
}

#[tokio::test]
async fn the_next_host_of_the_list_is_taken() -> Result<()> {
    let database = shared();
    let refusing = Proxy::start(database.address().port).await;
    refusing.set(Mode::Refuse);
    let here = format!("127.0.0.1:{}", database.address().port);
    let both = format!("127.0.0.1:{},{here}", refusing.port);
    let url = database.url().replace(&here, &both);
    let db = open(
        &format!("{url}&target_session_attrs=read-write"),
        Limits::default(),
    )
    .await;
    ask(&db.backend()).await.map(drop)
}
