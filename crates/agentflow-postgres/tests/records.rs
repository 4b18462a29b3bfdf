//! Several servers on one database: decisions, the queue, leases, wake-ups, searches.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use agentflow_postgres::Listen;
use agentflow_storage::{
    Backend,
    checkpoint::Fence,
    conformance::{
        refused,
        sample::{at, change, event, leased, map, put, run, run_id, seed, thread, thread_id},
    },
    filter,
    page::PageQuery,
    record::{Change, Lease, Run, RunQuery, RunStatus, Thread, ThreadQuery, ThreadRuns},
    signal::Signal,
};
use agentflow_types::{
    Error,
    ErrorKind::{Conflict, Invalid},
    Result, RunId, Scope, ThreadId, Timestamp, Value, value,
};
use futures_util::{
    FutureExt as _,
    future::{join_all, try_join_all},
};
use tokio::sync::broadcast::Receiver;
use uuid::Uuid;

mod support;
use support::{Database, Way};

/// How long a wake-up may take; what takes longer counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two tries: signals are lost while a listener connects.
const RETRY: Duration = Duration::from_millis(50);

type Found<'a> = Option<&'a ThreadRuns>;

/// Two servers on one new database, each with its own pool, one directly and one through
/// PgBouncer.
async fn two_servers() -> (Database, [Backend; 2]) {
    let database = Database::create().await;
    let direct = database.open(Way::Direct).await.backend();
    let pooled = database.open(Way::Pooled).await.backend();
    (database, [direct, pooled])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_of_two_servers_do_not_interleave() -> Result<()> {
    const EACH: usize = 40;
    let (_database, servers) = two_servers().await;
    seed(&servers[0], thread(1), vec![]).await?;
    let calls = Arc::new(AtomicUsize::new(0));
    let count_up = |n: usize| {
        let (backend, calls) = (servers[n % 2].clone(), calls.clone());
        async move {
            let decide = Box::new(move |found: Found<'_>| {
                calls.fetch_add(1, SeqCst);
                let mut row = found.map(|found| found.thread.clone()).expect("seeded");
                let n = row.metadata.get("n").and_then(Value::as_i64).unwrap_or(0);
                row.metadata.insert("n".into(), (n + 1).into());
                Ok(vec![Change::PutThread(Box::new(row))])
            });
            backend
                .threads
                .decide(&Scope::local(), thread_id(1), decide)
                .await
        }
    };
    try_join_all((0..2 * EACH).map(count_up)).await?;
    let row = servers[1]
        .threads
        .get(&Scope::local(), thread_id(1))
        .await?;
    assert_eq!(
        row.and_then(|row| row.metadata.get("n").cloned()),
        Some(value!(2 * EACH))
    );
    assert_eq!(calls.load(SeqCst), 2 * EACH);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_of_two_servers_creates_a_thread() -> Result<()> {
    const THREADS: u8 = 25;
    let (_database, servers) = two_servers().await;
    let created = Arc::new(Mutex::new(HashMap::<u8, u32>::new()));
    let create = |n: u8, server: &Backend| {
        let (backend, created) = (server.clone(), created.clone());
        async move {
            let decide = Box::new(move |found: Found<'_>| {
                if found.is_some() {
                    return Ok(Vec::new());
                }
                *created.lock().expect("no panic").entry(n).or_default() += 1;
                Ok(vec![Change::PutThread(Box::new(thread(n)))])
            });
            backend
                .threads
                .decide(&Scope::local(), thread_id(n), decide)
                .await
        }
    };
    let all = (1..=THREADS).flat_map(|n| servers.iter().map(move |server| (n, server)));
    try_join_all(all.map(|(n, server)| create(n, server))).await?;
    let created = created.lock().expect("no panic");
    assert_eq!(created.len(), usize::from(THREADS));
    assert!(created.values().all(|times| *times == 1), "{created:?}");
    Ok(())
}

/// Takes the first pending run of a thread if nothing runs there.
fn claim(found: Found<'_>, taken: &Mutex<Vec<RunId>>) -> Vec<Change> {
    let live = found.map(|found| found.live.as_slice()).unwrap_or_default();
    if live.iter().any(|run| run.status == RunStatus::Running) {
        return Vec::new();
    }
    let Some(run) = live.first().cloned() else {
        return Vec::new();
    };
    taken.lock().expect("no panic").push(run.run_id);
    let lease = Lease {
        worker: "w".into(),
        token: 1,
        expires_at: at(10_000),
    };
    let run = Run {
        status: RunStatus::Running,
        attempt: 1,
        lease: Some(lease),
        ..run
    };
    vec![Change::PutRun(Box::new(run))]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_workers_claim_each_of_two_hundred_runs_once() -> Result<()> {
    const RUNS: u8 = 200;
    let (_database, servers) = two_servers().await;
    for n in 1..=RUNS {
        seed(&servers[0], thread(n), vec![run(n, n)]).await?;
    }
    let taken = Arc::new(Mutex::new(Vec::new()));
    let tried = Arc::new(AtomicUsize::new(0));
    let worker = |n: usize| {
        let (threads, taken, tried) =
            (servers[n % 2].threads.clone(), taken.clone(), tried.clone());
        async move {
            loop {
                let found = threads.candidates(at(1000), 16).await?;
                if found.is_empty() && taken.lock().expect("no panic").len() >= usize::from(RUNS) {
                    return Ok::<_, Error>(());
                }
                for candidate in found {
                    let taken = taken.clone();
                    tried.fetch_add(1, SeqCst);
                    let decide = Box::new(move |found: Found<'_>| Ok(claim(found, &taken)));
                    threads
                        .decide(&candidate.scope, candidate.thread_id, decide)
                        .await?;
                }
            }
        }
    };
    try_join_all((0..8).map(worker)).await?;
    let mut taken = taken.lock().expect("no panic").clone();
    taken.sort_unstable();
    assert_eq!(taken, (1..=RUNS).map(run_id).collect::<Vec<_>>());
    let running = RunQuery {
        status: Some(RunStatus::Running),
        limit: 1000,
        ..RunQuery::default()
    };
    assert_eq!(
        servers[0]
            .threads
            .runs(&Scope::local(), &running)
            .await?
            .len(),
        taken.len()
    );
    println!("{} decisions for {} runs", tried.load(SeqCst), taken.len());
    Ok(())
}

#[tokio::test]
async fn an_expired_lease_is_taken_over_and_its_old_holder_refused() -> Result<()> {
    let (_database, [old, new]) = two_servers().await;
    seed(&old, thread(1), vec![leased(run(1, 1), 1, at(60))]).await?;
    assert!(new.threads.candidates(at(60), 9).await?.is_empty());
    let found = new.threads.candidates(at(61), 9).await?;
    assert_eq!(found.len(), 1);
    let again = vec![Change::PutRun(Box::new(leased(run(1, 1), 2, at(120))))];
    new.threads
        .decide(&found[0].scope, thread_id(1), Box::new(|_| Ok(again)))
        .await?;
    let [lost, held] = [1, 2].map(|token| Fence {
        run_id: run_id(1),
        token,
    });
    let op = |n| vec![put(&thread_id(1).text(), "", n, value!({}))];
    refused(
        old.threads.heartbeat(run_id(1), lost.token, at(200)).await,
        Conflict,
    );
    refused(
        old.events
            .append(thread_id(1), vec![event(1, 1)], Some(lost))
            .await,
        Conflict,
    );
    refused(old.checkpoints.commit(op(1), Some(lost)).await, Conflict);
    assert_eq!(new.events.last_seq(thread_id(1)).await?, 0);
    new.threads
        .heartbeat(run_id(1), held.token, at(200))
        .await?;
    new.events
        .append(thread_id(1), vec![event(1, 1)], Some(held))
        .await?;
    new.checkpoints.commit(op(1), Some(held)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_of_the_old_holder_follows_a_take_over() -> Result<()> {
    const ROUNDS: u64 = 30;
    let (_database, [old, new]) = two_servers().await;
    for round in 1..=ROUNDS {
        let token = i64::try_from(round).expect("small");
        seed(&old, thread(1), vec![leased(run(1, 1), token, at(60))]).await?;
        let last = old.events.last_seq(thread_id(1)).await?;
        let fence = Fence {
            run_id: run_id(1),
            token,
        };
        let append = old
            .events
            .append(thread_id(1), vec![event(last + 1, 1)], Some(fence));
        let again = leased(run(1, 1), token + 1, at(60));
        let take = async {
            change(
                &new,
                &Scope::local(),
                1,
                vec![Change::PutRun(Box::new(again))],
            )
            .await?;
            new.events.last_seq(thread_id(1)).await
        };
        let (appended, taken) = tokio::join!(append, take);
        let seen = taken?;
        let now = new.events.last_seq(thread_id(1)).await?;
        match appended {
            // It was written before the take-over, or not at all.
            Ok(()) => assert_eq!((seen, now), (last + 1, last + 1)),
            Err(err) => assert_eq!((err.kind(), now), (Conflict, last)),
        }
    }
    Ok(())
}

/// Ends the connections over which the servers listen, and waits until that is so; how many.
async fn cut_listeners(database: &Database) -> usize {
    const CUT: &str = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let cut = database.admin().await.query(CUT, &[]).await;
    cut.expect("the superuser may").len()
}

/// Bytes of values and arguments, which are stored apart from their rows.
async fn stored_apart(database: &Database) -> i64 {
    const SIZE: &str = "SELECT sum(pg_relation_size(reltoastrelid))::bigint FROM pg_class
        WHERE oid IN ('agentflow.runs'::regclass, 'agentflow.thread_values'::regclass)";
    let row = database.admin().await.query_one(SIZE, &[]).await;
    row.expect("a row").get(0)
}

/// Sends from one server until the listener of another has heard it.
async fn heard(from: &Backend, listener: &mut Receiver<Signal>, signal: Signal) {
    let all = async {
        loop {
            from.signals.send(signal);
            match tokio::time::timeout(RETRY, listener.recv()).await {
                Ok(Ok(found)) if found == signal => return,
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(err)) => panic!("the listener ended: {err}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, all)
        .await
        .expect("the signal is heard");
}

#[tokio::test]
async fn another_server_hears_a_signal_also_after_its_connection_was_cut() -> Result<()> {
    let (database, [here, there]) = two_servers().await;
    let mut listener = there.signals.listen();
    heard(&here, &mut listener, Signal::Log(thread_id(1), 1)).await;
    assert!(cut_listeners(&database).await > 0, "nobody listened");
    heard(&here, &mut listener, Signal::Log(thread_id(2), 1)).await;
    let mut own = here.signals.listen();
    here.signals.send(Signal::Queue);
    assert_eq!(
        own.try_recv(),
        Ok(Signal::Queue),
        "the own process hears at once"
    );
    Ok(())
}

#[tokio::test]
async fn without_a_connection_past_the_pooler_the_own_process_is_told() -> Result<()> {
    const LISTENERS: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let database = Database::create().await;
    let mut options = database.options(Way::Pooled);
    options.listen = Listen::Off;
    let backend = support::open(options).await.backend();
    let mut own = backend.signals.listen();
    backend.signals.send(Signal::Log(thread_id(1), 1));
    assert_eq!(own.try_recv(), Ok(Signal::Log(thread_id(1), 1)));
    let row = database.admin().await.query_one(LISTENERS, &[]).await;
    assert_eq!(row.expect("a row").get::<_, i64>(0), 0);
    Ok(())
}

/// Documents and conditions with what is awkward in `jsonb`.
fn awkward() -> Vec<Value> {
    let long = "long ".repeat(200);
    vec![
        value!({}),
        value!({"a": "\u{0}"}),
        value!({"\u{0}": "x\u{0}y"}),
        value!({"a": "\u{e0af}0"}),
        value!({"a": 1, "b": [1.0, "1"]}),
        value!({"a": 9223372036854775808_u64}),
        value!({"a": 9223372036854775808.0}),
        value!({"a": 9007199254740993_i64}),
        value!({"a": 9007199254740992.0}),
        value!({"a": 1e300, "b": 5e-324}),
        value!({"a": {"b": [{"c": [1, 2, [3]]}, null]}}),
        value!({"a": {"b": [{"c": [[3]]}]}}),
        value!({"a": {"b": [null]}}),
        value!({"a": {"b": []}}),
        value!({"a": long, "b": [long, {"c": long}]}),
        value!({"b": [long]}),
        value!({"b": [long.trim_end()]}),
        value!({"a": true}),
        value!({"a": "true"}),
        value!({"a": ["true"]}),
        value!({"a": (0..5000).collect::<Vec<i64>>(), "b": ["1"]}),
        value!({"a": [4999, 17]}),
    ]
}

#[tokio::test]
async fn containment_means_what_it_means_elsewhere() -> Result<()> {
    let database = Database::create().await;
    let backend = database.open(Way::Pooled).await.backend();
    let documents = awkward();
    for (n, document) in (1..).zip(&documents) {
        let row = Thread {
            metadata: map(document.clone()),
            values: document.clone(),
            ..thread(n)
        };
        seed(&backend, row.clone(), vec![]).await?;
        let read = backend.threads.get(&Scope::local(), thread_id(n)).await?;
        assert_eq!(read, Some(row), "read back as it was");
    }
    let page = PageQuery {
        limit: 100,
        order: agentflow_storage::page::Order::Ascending,
        ..PageQuery::default()
    };
    for part in &documents {
        let expected: Vec<ThreadId> = (1..)
            .zip(&documents)
            .filter(|(_, whole)| filter::contains(whole, part))
            .map(|(n, _)| thread_id(n))
            .collect();
        for query in [
            ThreadQuery {
                metadata: map(part.clone()),
                ..ThreadQuery::default()
            },
            ThreadQuery {
                values: map(part.clone()),
                ..ThreadQuery::default()
            },
        ] {
            let found = backend
                .threads
                .search(&Scope::local(), &query, &page)
                .await?;
            let found: Vec<_> = found.items.iter().map(|row| row.thread_id).collect();
            assert_eq!(found, expected, "{query:?}");
        }
    }
    Ok(())
}

/// A long text that does not compress.
fn noise() -> String {
    (0..2000)
        .map(|_| Uuid::new_v4().simple().to_string())
        .collect()
}

#[tokio::test]
async fn what_did_not_change_is_not_written_again() -> Result<()> {
    let database = Database::create().await;
    let backend = database.open(Way::Pooled).await.backend();
    let row = Thread {
        values: value!({"big": noise()}),
        ..thread(1)
    };
    let input = Run {
        kwargs: map(value!({"input": noise()})),
        ..run(1, 1)
    };
    seed(&backend, row.clone(), vec![input.clone()]).await?;
    let before = stored_apart(&database).await;
    assert!(before > 100_000, "{before} bytes");
    for n in 1..=20 {
        let changes = vec![
            Change::PutThread(Box::new(Thread {
                updated_at: at(n),
                ..row.clone()
            })),
            Change::PutRun(Box::new(Run {
                updated_at: at(n),
                ..input.clone()
            })),
        ];
        change(&backend, &Scope::local(), 1, changes).await?;
    }
    assert_eq!(stored_apart(&database).await, before);
    let found = backend.threads.run(&Scope::local(), run_id(1)).await?;
    assert_eq!(
        found,
        Some(Run {
            updated_at: at(20),
            ..input
        })
    );
    let found = backend.threads.get(&Scope::local(), thread_id(1)).await?;
    assert_eq!(
        found,
        Some(Thread {
            updated_at: at(20),
            ..row
        })
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_of_two_servers_get_their_own_numbers() -> Result<()> {
    use agentflow_storage::conformance::sample::assistant;

    let (_database, servers) = two_servers().await;
    servers[0]
        .assistants
        .insert(&Scope::local(), assistant(1))
        .await?;
    let add = |n: usize| {
        let assistants = servers[n % 2].assistants.clone();
        async move {
            assistants
                .insert_version(&Scope::local(), assistant(1))
                .await
        }
    };
    let mut versions = Vec::new();
    for added in join_all((0..20).map(add)).await {
        versions.push(added?.version);
    }
    versions.sort_unstable();
    assert_eq!(versions, (2..=21).collect::<Vec<_>>());
    Ok(())
}

/// A decision that has begun, and goes on when told to.
async fn held_decision(
    backend: &Backend,
    id: ThreadId,
) -> (
    tokio::task::JoinHandle<Result<()>>,
    std::sync::mpsc::Sender<()>,
) {
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let threads = backend.threads.clone();
    let decide = Box::new(move |_: Found<'_>| {
        begun.send(()).expect("somebody waits");
        tokio::task::block_in_place(|| may_go_on.recv()).expect("told to go on");
        Ok(Vec::new())
    });
    let scope = Scope::local();
    let task = tokio::spawn(async move { threads.decide(&scope, id, decide).await });
    has_begun.await.expect("it begins");
    (task, go_on)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_somebody_decides_about_is_skipped_by_the_queue() -> Result<()> {
    let (_database, [here, there]) = two_servers().await;
    for n in 1..=2 {
        seed(&here, thread(n), vec![run(n, n)]).await?;
    }
    let due = async || {
        let found = there.threads.candidates(at(9), 9).await?;
        Ok::<_, Error>(found.iter().map(|row| row.thread_id).collect::<Vec<_>>())
    };
    assert_eq!(due().await?, [thread_id(1), thread_id(2)]);
    let (task, go_on) = held_decision(&here, thread_id(1)).await;
    assert_eq!(due().await?, [thread_id(2)]);
    go_on.send(()).expect("it waits");
    task.await.expect("no panic")?;
    // The lock ends with the transaction, whose end is not waited for.
    tokio::time::timeout(PATIENCE, async {
        while due().await?.len() < 2 {}
        Ok(())
    })
    .await
    .expect("it is offered again")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_thread_does_not_take_all_connections() -> Result<()> {
    let database = Database::create().await;
    let mut options = database.options(Way::Direct);
    options.limits.max_connections = 2;
    let server = support::open(options).await;
    let backend = server.backend();
    seed(&backend, thread(1), vec![]).await?;
    let (task, go_on) = held_decision(&backend, thread_id(1)).await;
    let mut others: Vec<_> = (0..20)
        .map(|_| {
            let threads = backend.threads.clone();
            Box::pin(async move {
                let nothing = Box::new(|_: Found<'_>| Ok(Vec::new()));
                threads.decide(&Scope::local(), thread_id(1), nothing).await
            })
        })
        .collect();
    for other in &mut others {
        assert!(other.now_or_never().is_none(), "it waits for its turn");
    }
    for _ in 0..20 {
        assert!(
            backend
                .threads
                .get(&Scope::local(), thread_id(1))
                .await?
                .is_some()
        );
    }
    assert_eq!(server.stats().waits, 0);
    go_on.send(()).expect("it waits");
    task.await.expect("no panic")?;
    try_join_all(others).await.map(drop)
}

#[tokio::test]
async fn what_the_database_cannot_hold_is_invalid() -> Result<()> {
    use agentflow_storage::{conformance::sample::assistant, record::Assistant};

    let database = Database::create().await;
    let backend = database.open(Way::Pooled).await.backend();
    let nul = Assistant {
        name: "a\0b".into(),
        ..assistant(1)
    };
    refused(
        backend.assistants.insert(&Scope::local(), nul).await,
        Invalid,
    );
    let put = |row| vec![Change::PutThread(Box::new(row))];
    let early = Thread {
        created_at: Timestamp(i64::MIN),
        ..thread(1)
    };
    refused(
        change(&backend, &Scope::local(), 1, put(early)).await,
        Invalid,
    );
    let late = Thread {
        created_at: Timestamp(i64::MAX),
        updated_at: Timestamp(-1),
        ..thread(1)
    };
    change(&backend, &Scope::local(), 1, put(late.clone())).await?;
    assert_eq!(
        backend.threads.get(&Scope::local(), thread_id(1)).await?,
        Some(late)
    );
    Ok(())
}
