//! Wake-ups and events between servers; each server has a database of its own here, so that what
//! one knows of the other came over Redis.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use agentflow_redis::{Access, Limits, Options, Redis};
use agentflow_storage::{
    Backend,
    conformance::sample::{at, change, event, run, seed, thread, thread_id},
    counter::Quota,
    event::Event,
    memory::Memory,
    record::Change,
    signal::Signal,
};
use agentflow_testkit::servers::{
    certs::Authority,
    redis::{self, Own, Persistence},
};
use agentflow_types::Scope;
use tokio::{sync::broadcast::Receiver, time::timeout};

/// How long anything may take on a machine under load.
const PATIENCE: Duration = Duration::from_secs(30);

async fn server(options: &Options) -> Backend {
    let redis = Redis::open(options.clone()).await.unwrap();
    redis.over(Memory::open())
}

/// Waits for a signal; others may come before.
async fn hears(listener: &mut Receiver<Signal>, expected: Signal) {
    let heard = async {
        loop {
            if listener.recv().await.unwrap() == expected {
                return;
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("the signal is heard");
}

/// A server whose listener has begun: it says `Missed` when it does.
async fn listening(options: &Options) -> (Backend, Receiver<Signal>) {
    let backend = server(options).await;
    let mut listener = backend.signals.listen();
    hears(&mut listener, Signal::Missed).await;
    (backend, listener)
}

async fn append(backend: &Backend, seqs: std::ops::RangeInclusive<u64>) -> Vec<Event> {
    let events: Vec<Event> = seqs.map(|seq| event(seq, 1)).collect();
    let last = events.last().unwrap().seq;
    let stored = backend.events.append(thread_id(1), events.clone(), None);
    stored.await.unwrap();
    backend.signals.send(Signal::Log(thread_id(1), last));
    events
}

async fn read(backend: &Backend, after: u64, limit: u32) -> Vec<Event> {
    let found = backend.events.read(thread_id(1), None, after, limit);
    found.await.unwrap()
}

/// A server of the test's own, as the shipped file and the guide want it.
struct Server {
    own: Own,
    options: Options,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new(dir.path(), "ca").unwrap();
        let client = ca.client("test").unwrap();
        let identity = ca.server().unwrap();
        let settings = redis::Options::default()
            .acl(&support::users())
            .tls(&identity, &ca.pem(), Some(&client))
            .persistence(Persistence::AppendAlways);
        let own = Own::start(&settings).unwrap();
        let access: Access = support::access(&own.address().url(), &ca.pem(), Some(&client));
        let limits = Limits {
            max_pause: Duration::from_millis(200),
            ..Limits::default()
        };
        let options = Options {
            limits,
            ..support::options(access)
        };
        Self {
            own,
            options,
            _dir: dir,
        }
    }
}

#[tokio::test]
async fn a_signal_reaches_another_server() {
    let shared = support::shared().await;
    let options = support::options(support::shared_access(&shared));
    let ((one, _ears), (_two, mut ears)) = tokio::join!(listening(&options), listening(&options));
    one.signals.send(Signal::Log(thread_id(1), 7));
    hears(&mut ears, Signal::Log(thread_id(1), 7)).await;
}

/// The other database is empty, so what is read came from the copy.
#[tokio::test]
async fn events_are_read_from_the_copy_if_it_is_whole() {
    let shared = support::shared().await;
    let options = support::options(support::shared_access(&shared));
    let ((one, _), (two, mut ears)) = tokio::join!(listening(&options), listening(&options));
    seed(&one, thread(1), vec![run(1, 1)]).await.unwrap();
    assert!(read(&two, 0, 10).await.is_empty(), "nobody told of any");
    let events = append(&one, 1..=5).await;
    hears(&mut ears, Signal::Log(thread_id(1), 5)).await;
    assert_eq!(read(&two, 0, 10).await, events);
    assert_eq!(read(&two, 2, 2).await, events[2..4]);
    let stored = two.events.read_stored(thread_id(1), None, 0, 10);
    assert!(stored.await.unwrap().is_empty(), "the database is asked");
    // A part is gone: the database answers.
    let key = format!("{}:events:{}", options.prefix, thread_id(1));
    let cli = |arguments: &[&str]| shared.server.address().cli(arguments).unwrap();
    cli(&["XDEL", &key, "3-0"]);
    assert!(read(&two, 0, 10).await.is_empty());
    assert_eq!(read(&two, 3, 10).await, events[3..]);
    // What was removed is not read from the copy any more.
    let delete = vec![Change::DeleteThread];
    change(&one, &Scope::local(), 1, delete).await.unwrap();
    one.signals.send(Signal::Queue);
    hears(&mut ears, Signal::Queue).await;
    assert!(read(&two, 3, 10).await.is_empty());
}

/// Nothing fails or waits; what is said meanwhile takes the way of the database; afterwards all
/// is as before.
#[tokio::test]
async fn without_redis_all_goes_on() {
    let mut server = Server::start();
    let ((one, mut own), (two, mut ears)) =
        tokio::join!(listening(&server.options), listening(&server.options));
    seed(&one, thread(1), vec![run(1, 1)]).await.unwrap();
    append(&one, 1..=3).await;
    hears(&mut ears, Signal::Log(thread_id(1), 3)).await;
    server.own.kill().unwrap();
    let events = timeout(PATIENCE, append(&one, 4..=6)).await.unwrap();
    hears(&mut own, Signal::Log(thread_id(1), 6)).await;
    let found = timeout(PATIENCE, read(&one, 3, 10)).await.unwrap();
    assert_eq!(found, events);
    server.own.restart().unwrap();
    let told = async {
        loop {
            one.signals.send(Signal::Queue);
            if let Ok(Ok(Signal::Queue)) = timeout(Duration::from_millis(100), ears.recv()).await {
                return;
            }
        }
    };
    timeout(PATIENCE, told)
        .await
        .expect("the other hears again");
    drop(two);
}

/// A server that was cut off reads on from where it was; one that lost its place is told so.
#[tokio::test]
async fn who_was_cut_off_misses_nothing() {
    let server = Server::start();
    let ((one, _), (_two, mut ears)) =
        tokio::join!(listening(&server.options), listening(&server.options));
    let cli = |arguments: &[&str]| server.own.address().cli(arguments).unwrap();
    one.signals.send(Signal::Log(thread_id(1), 1));
    hears(&mut ears, Signal::Log(thread_id(1), 1)).await;
    for seq in 2..=9 {
        cli(&["CLIENT", "KILL", "USER", "agentflow"]);
        one.signals.send(Signal::Log(thread_id(1), seq));
        let next = async {
            loop {
                match ears.recv().await.unwrap() {
                    Signal::Missed => panic!("nothing was missed"),
                    Signal::Log(_, found) if found == seq => return,
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, next).await.expect("it is heard");
    }
    cli(&["DEL", &format!("{}:signals", server.options.prefix)]);
    cli(&["CLIENT", "KILL", "USER", "agentflow"]);
    hears(&mut ears, Signal::Missed).await;
}

/// Redis reads transactions in its log as the user `default`, who therefore has its rights in the
/// file that is shipped, though nobody can be it.
#[tokio::test]
async fn what_scripts_wrote_outlives_a_restart() {
    let mut alone = Server::start();
    let now = at(0);
    let quota = Quota {
        limit: 10,
        until: at(3600),
    };
    let backend = server(&alone.options).await;
    let spent = backend.counters.spend("k", 3, quota, now).await.unwrap();
    assert!(spent.is_granted());
    let redis = Redis::open(alone.options.clone()).await.unwrap();
    assert_eq!(redis.replays_scripts().await.unwrap(), Some(true));
    alone.own.kill().unwrap();
    alone.own.restart().unwrap();
    let backend = server(&alone.options).await;
    assert_eq!(backend.counters.spent("k", now).await.unwrap(), 3);
    let rightless = ["ACL", "SETUSER", "default", "reset"];
    alone.own.address().cli(&rightless).unwrap();
    let redis = Redis::open(alone.options.clone()).await.unwrap();
    assert_eq!(redis.replays_scripts().await.unwrap(), Some(false));
}
