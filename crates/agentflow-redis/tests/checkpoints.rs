//! Checkpoints in Redis where the suite does not reach: crashes, holders of leases, what the
//! database decides while Redis is away, and what the values take.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use agentflow_redis::{Keeping, Options, Redis};
use agentflow_storage::{
    Backend,
    checkpoint::{CheckpointOp, Fence, Prune, Rest},
    cipher::Cipher,
    conformance::{
        refused,
        sample::{
            at, change, checkpoint, checkpoint_id, key, leased, put, put_this, run, run_id, seed,
            thread, thread_id, writes,
        },
    },
    memory::Memory,
    msgpack::typed::Codec,
    page::{Page, PageQuery},
    record::{
        Candidate, Change, Decide, Heartbeat, Run, RunQuery, RunStatus, Standing, Thread,
        ThreadQuery, Threads,
    },
};
use agentflow_testkit::{
    servers::{
        certs::Authority,
        redis::{self, Own, Persistence},
    },
    waiting,
};
use agentflow_types::{
    ErrorKind::Conflict, Result, RunId, Scope, ThreadId, Timestamp, Value, value,
};
use async_trait::async_trait;

/// What takes longer counts as never, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn token(token: i64) -> Option<Fence> {
    let run_id = run_id(1);
    Some(Fence { run_id, token })
}

/// The shared server with keys of the test's own.
struct Shared {
    server: redis::TlsHandle,
    options: Options,
}

impl Shared {
    async fn open() -> Self {
        let server = support::shared().await;
        let options = support::options(support::shared_access(&server));
        Self { server, options }
    }

    async fn keep(&self, records: Backend, keeping: Keeping) -> Backend {
        let redis = Redis::open(self.options.clone()).await.unwrap();
        redis.check_checkpoints().await.unwrap();
        redis.keep_checkpoints(records, keeping)
    }

    fn cli(&self, arguments: &[&str]) -> String {
        self.server.server.address().cli(arguments).unwrap()
    }

    /// Keys of threads.
    fn keys(&self) -> Vec<String> {
        let all = self.cli(&["KEYS", &format!("{}:checkpoints:{{*", self.options.prefix)]);
        let mut keys: Vec<String> = all.lines().map(str::to_owned).collect();
        keys.retain(|key| !key.is_empty());
        keys.sort_unstable();
        keys
    }

    fn key(&self, kind: &str) -> String {
        let keys = self.keys();
        let found = keys.iter().find(|key| key.ends_with(kind));
        found
            .unwrap_or_else(|| panic!("{kind} in {keys:?}"))
            .clone()
    }
}

/// A database that says of a lease, so many times, that it holds.
struct Outdated {
    inner: Arc<dyn Threads>,
    times: AtomicUsize,
}

#[async_trait]
impl Threads for Outdated {
    async fn rests(&self, rest: Rest) -> Result<bool> {
        self.inner.rests(rest).await
    }

    async fn holds(&self, fence: Fence) -> Result<bool> {
        let less = |n: usize| n.checked_sub(1);
        match self.times.fetch_update(SeqCst, SeqCst, less) {
            Ok(_) => Ok(true),
            Err(_) => self.inner.holds(fence).await,
        }
    }
    async fn get(&self, scope: &Scope, id: ThreadId) -> Result<Option<Thread>> {
        self.inner.get(scope, id).await
    }
    async fn decide(&self, scope: &Scope, id: ThreadId, decide: Decide) -> Result<()> {
        self.inner.decide(scope, id, decide).await
    }
    async fn search(&self, s: &Scope, q: &ThreadQuery, p: &PageQuery) -> Result<Page<Thread>> {
        self.inner.search(s, q, p).await
    }
    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>> {
        self.inner.run(scope, id).await
    }
    async fn runs(&self, scope: &Scope, query: &RunQuery) -> Result<Vec<Run>> {
        self.inner.runs(scope, query).await
    }
    async fn candidates(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        self.inner.candidates(now, limit).await
    }
    async fn heartbeat(&self, run: RunId, token: i64, until: Timestamp) -> Result<Heartbeat> {
        self.inner.heartbeat(run, token, until).await
    }
    async fn standing(&self, threads: &[ThreadId], runs: &[RunId]) -> Result<Standing> {
        self.inner.standing(threads, runs).await
    }
    async fn counts(&self) -> Result<Vec<(RunStatus, u64)>> {
        self.inner.counts().await
    }
    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        self.inner.expired(now, limit).await
    }
}

async fn lease(records: &Backend, token: i64) {
    let held = leased(run(1, 1), token, at(60));
    seed(records, thread(1), vec![held]).await.unwrap();
}

/// Who asked the database before the lease went to somebody else, and comes late, is refused once
/// the other one has begun.
#[tokio::test]
async fn who_comes_late_writes_nothing() {
    let shared = Shared::open().await;
    let records = Memory::open();
    let late = Outdated {
        inner: records.threads.clone(),
        times: AtomicUsize::new(0),
    };
    let late = Arc::new(late);
    let outdated = Backend {
        threads: late.clone(),
        ..records.clone()
    };
    let first = shared.keep(outdated, Keeping::default()).await;
    let second = shared.keep(records.clone(), Keeping::default()).await;
    let name = thread_id(1).text();
    let op = |n| vec![put(&name, "", n, value!({}))];

    lease(&records, 1).await;
    first
        .checkpoints
        .take_over(&name, token(1).unwrap())
        .await
        .unwrap();
    first.checkpoints.commit(op(1), token(1)).await.unwrap();
    lease(&records, 2).await;
    // The new holder has not begun to read: the late one is as good as before.
    late.times.store(1, SeqCst);
    first.checkpoints.commit(op(2), token(1)).await.unwrap();
    second
        .checkpoints
        .take_over(&name, token(2).unwrap())
        .await
        .unwrap();
    let read = second.checkpoints.get(&key(&name, "", None)).await.unwrap();
    assert_eq!(read.unwrap().checkpoint.id, checkpoint_id(2));
    late.times.store(1, SeqCst);
    refused(first.checkpoints.commit(op(3), token(1)).await, Conflict);
    let take_over = first.checkpoints.take_over(&name, token(1).unwrap());
    refused(take_over.await, Conflict);
    second.checkpoints.commit(op(4), token(2)).await.unwrap();
    assert_eq!(
        second
            .checkpoints
            .get(&key(&name, "", Some(3)))
            .await
            .unwrap(),
        None
    );
}

/// A run that was rolled back cannot write any more, even if it asked the database before.
#[tokio::test]
async fn a_run_that_was_rolled_back_writes_nothing() {
    let shared = Shared::open().await;
    let records = Memory::open();
    let late = Arc::new(Outdated {
        inner: records.threads.clone(),
        times: AtomicUsize::new(0),
    });
    let outdated = Backend {
        threads: late.clone(),
        ..records.clone()
    };
    let kept = shared.keep(outdated, Keeping::default()).await;
    let name = thread_id(1).text();
    let op = |n| vec![put(&name, "", n, value!({"run_id": run_id(1).text()}))];
    lease(&records, 1).await;
    kept.checkpoints.commit(op(1), token(1)).await.unwrap();
    let back = vec![Change::RollbackRun(run_id(1))];
    change(&kept, &Scope::local(), 1, back).await.unwrap();
    late.times.store(1, SeqCst);
    refused(kept.checkpoints.commit(op(2), token(1)).await, Conflict);
    assert_eq!(
        kept.checkpoints.get(&key(&name, "", None)).await.unwrap(),
        None
    );
}

/// A server of the test's own that keeps its data.
struct Alone {
    own: Own,
    options: Options,
    _dir: tempfile::TempDir,
}

impl Alone {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new(dir.path(), "ca").unwrap();
        let client = ca.client("test").unwrap();
        let settings = redis::Options::default()
            .acl(&support::users())
            .tls(&ca.server().unwrap(), &ca.pem(), Some(&client))
            .persistence(Persistence::AppendAlways);
        let own = Own::start(&settings).unwrap();
        let url = own.address().url();
        let options = support::options(support::access(&url, &ca.pem(), Some(&client)));
        Self {
            own,
            options,
            _dir: dir,
        }
    }

    async fn keep(&self, records: Backend) -> Backend {
        let redis = Redis::new(self.options.clone()).unwrap();
        redis.keep_checkpoints(records, Keeping::default())
    }
}

/// What belongs to checkpoint `n` of a thread in the storm: the checkpoint and two writes.
fn whole(name: &str, n: u8) -> Vec<CheckpointOp> {
    let mut stored = checkpoint(n);
    let text = Value::str(format!("{n}").repeat(500));
    stored.channel_values.insert("list".into(), text);
    let version = stored.channel_versions["n"].clone();
    stored.channel_versions.insert("list".into(), version);
    let parent = (n > 1).then(|| checkpoint_id(n - 1));
    let list = |n: u8| vec![("a", value!(n)), ("b", value!(n))];
    vec![
        writes(name, n, ("", "one"), list(n)),
        put_this(name, "", parent, stored, value!({})),
        writes(name, n, ("", "two"), list(n)),
    ]
}

/// Redis is killed while many threads commit. Afterwards each commit that was answered is there,
/// and each that is there is there whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_whole_after_a_crash() {
    const THREADS: usize = 24;
    let mut alone = Alone::start();
    for round in 0..3 {
        let kept = alone.keep(Memory::open()).await;
        let commit = |thread: usize| {
            let (kept, name) = (kept.clone(), format!("storm {round} {thread}"));
            tokio::spawn(async move {
                let mut answered = 0;
                for n in 1..=250 {
                    if kept
                        .checkpoints
                        .commit(whole(&name, n), None)
                        .await
                        .is_err()
                    {
                        break;
                    }
                    answered = n;
                }
                (name, answered)
            })
        };
        let tasks: Vec<_> = (0..THREADS).map(commit).collect();
        tokio::time::sleep(Duration::from_millis(150 + 100 * round)).await;
        alone.own.kill().unwrap();
        let mut answered = Vec::new();
        for task in tasks {
            answered.push(task.await.unwrap());
        }
        alone.own.restart().unwrap();
        let sum: u32 = answered.iter().map(|(_, n)| u32::from(*n)).sum();
        assert!(sum > 0, "nothing was committed before the crash");
        println!("round {round}: {sum} commits were answered");

        let kept = alone.keep(Memory::open()).await;
        for (name, answered) in answered {
            waiting::until(PATIENCE, async || {
                kept.checkpoints.usage(&name).await.is_ok()
            })
            .await
            .unwrap();
            for n in 1..=answered.saturating_add(2) {
                let found = kept
                    .checkpoints
                    .get(&key(&name, "", Some(n)))
                    .await
                    .unwrap();
                match found {
                    Some(found) => assert_eq!(found.pending_writes.len(), 4, "{name} {n}"),
                    None => assert!(n > answered, "{name} {n} was answered and is gone"),
                }
            }
            let told = kept.checkpoints.usage(&name).await.unwrap().unwrap();
            assert_eq!(told.writes.count, 4 * told.checkpoints.count, "{name}");
        }
    }
}

/// A rollback and a removal that Redis did not hear of are made up for: the first before the next
/// attempt reads, the second by itself.
#[tokio::test]
async fn what_was_decided_while_redis_was_away_is_done_later() {
    let mut alone = Alone::start();
    let records = Memory::open();
    let kept = alone.keep(records.clone()).await;
    let (one, two) = (thread_id(1).text(), thread_id(2).text());
    let of_run = |n| value!({"run_id": run_id(n).text()});
    seed(&kept, thread(1), vec![run(1, 1), run(1, 3)])
        .await
        .unwrap();
    seed(&kept, thread(2), vec![run(2, 2)]).await.unwrap();
    let ops = vec![put(&one, "", 1, of_run(3)), put(&one, "", 2, of_run(1))];
    kept.checkpoints.commit(ops, None).await.unwrap();
    let ops = vec![put(&two, "", 3, of_run(2))];
    kept.checkpoints.commit(ops, None).await.unwrap();

    alone.own.kill().unwrap();
    let scope = Scope::local();
    let back = vec![Change::RollbackRun(run_id(1))];
    change(&kept, &scope, 1, back).await.unwrap();
    change(&kept, &scope, 2, vec![Change::DeleteThread])
        .await
        .unwrap();
    alone.own.restart().unwrap();

    // Another process, which was never told.
    let next = alone.keep(records.clone()).await;
    let held = leased(run(1, 3), 7, at(60));
    seed(&next, thread(1), vec![held]).await.unwrap();
    let run_id = run_id(3);
    let begun = next.checkpoints.take_over(&one, Fence { run_id, token: 7 });
    begun.await.unwrap();
    let newest = next.checkpoints.get(&key(&one, "", None)).await.unwrap();
    assert_eq!(newest.unwrap().checkpoint.id, checkpoint_id(1));
    waiting::until(PATIENCE, async || {
        let found = next.checkpoints.get(&key(&two, "", None)).await;
        found.unwrap().is_none()
    })
    .await
    .unwrap();
    drop(kept);
}

/// A value that does not change is stored once, whatever else a conversation stores; pruning
/// leaves only what the newest checkpoint has.
#[tokio::test]
async fn values_are_shared_until_nobody_has_them() {
    const STEPS: u8 = 40;
    const LARGE: usize = 100_000;
    let shared = Shared::open().await;
    let kept = shared.keep(Memory::open(), Keeping::default()).await;
    let text = Value::str("x".repeat(LARGE));
    let mut sizes = Vec::new();
    for n in 1..=STEPS {
        let mut stored = checkpoint(n);
        let first = checkpoint(1).channel_versions["n"].clone();
        stored.channel_values.insert("large".into(), text.clone());
        stored.channel_versions.insert("large".into(), first);
        let parent = (n > 1).then(|| checkpoint_id(n - 1));
        let op = match put_this("t", "", parent, stored, value!({})) {
            CheckpointOp::Put {
                thread_id,
                checkpoint_ns,
                parent_id,
                checkpoint,
                metadata,
                mut new_versions,
            } => {
                new_versions.retain(|channel| &**channel != "large" || n == 1);
                CheckpointOp::Put {
                    thread_id,
                    checkpoint_ns,
                    parent_id,
                    checkpoint,
                    metadata,
                    new_versions,
                }
            }
            other => other,
        };
        kept.checkpoints.commit(vec![op], None).await.unwrap();
        let told = kept.checkpoints.usage("t").await.unwrap().unwrap();
        sizes.push(told.bytes());
    }
    let steps: Vec<u64> = sizes.windows(2).map(|two| two[1] - two[0]).collect();
    println!("bytes per step: {:?}", &steps[..3]);
    assert!(steps.iter().all(|bytes| *bytes < 2000), "{steps:?}");
    let read = kept
        .checkpoints
        .get(&key("t", "", Some(STEPS / 2)))
        .await
        .unwrap();
    assert_eq!(read.unwrap().checkpoint.channel_values["large"], text);

    // A copy has all values, also in a thread that knows none of them.
    kept.checkpoints.copy_thread("t", "u").await.unwrap();
    let copy = kept.checkpoints.usage("u").await.unwrap();
    assert_eq!(copy, kept.checkpoints.usage("t").await.unwrap());

    let threads = ["t".to_owned()];
    kept.checkpoints
        .prune(&threads, Prune::KeepLatest)
        .await
        .unwrap();
    let told = kept.checkpoints.usage("t").await.unwrap().unwrap();
    assert_eq!(told.checkpoints.count, 1);
    assert_eq!(told.channels["large"].count, 1);
    assert!(told.channels["list"].count <= 1, "{told:?}");
    kept.checkpoints
        .prune(&threads, Prune::Delete)
        .await
        .unwrap();
    kept.checkpoints.delete_thread("u").await.unwrap();
    assert!(shared.keys().is_empty(), "{:?}", shared.keys());
    let listed = shared.cli(&[
        "HLEN",
        &format!("{}:checkpoints:threads", shared.options.prefix),
    ]);
    assert_eq!(listed, "0");
}

/// All keys of a thread end together, a while after its last checkpoint; or none does.
#[tokio::test]
async fn checkpoints_end_with_their_time() {
    let shared = Shared::open().await;
    let keeping = Keeping {
        ttl: Some(Duration::from_secs(100)),
        ..Keeping::default()
    };
    let ops = || {
        let mut ops = whole("t", 1);
        ops.extend(whole("t", 2));
        ops
    };
    let ends = || {
        let keys = shared.keys();
        assert_eq!(keys.len(), 6, "{keys:?}");
        let ttl = |key: &String| shared.cli(&["TTL", key]).parse::<i64>().unwrap();
        keys.iter().map(ttl).collect::<Vec<_>>()
    };
    let short = shared.keep(Memory::open(), keeping).await;
    short.checkpoints.commit(ops(), None).await.unwrap();
    assert!(
        ends().iter().all(|left| (90..=100).contains(left)),
        "{:?}",
        ends()
    );
    let long = shared.keep(Memory::open(), Keeping::default()).await;
    long.checkpoints.commit(whole("t", 3), None).await.unwrap();
    assert_eq!(ends(), [-1; 6]);
    short.checkpoints.commit(whole("t", 4), None).await.unwrap();
    assert!(ends().iter().all(|left| *left >= 0), "{:?}", ends());
}

/// With a key, no value can be read in Redis; plain ones from before can be read here.
#[tokio::test]
async fn values_can_be_encrypted() {
    let shared = Shared::open().await;
    let secret =
        "a secret of more than a few characters, which is stored apart from its checkpoint";
    let with = |n: u8| {
        let mut stored = checkpoint(n);
        stored.channel_values.insert("list".into(), secret.into());
        let version = stored.channel_versions["n"].clone();
        stored.channel_versions.insert("list".into(), version);
        stored
            .channel_values
            .insert("n".into(), "short secret".into());
        vec![
            put_this("t", "", None, stored, value!({})),
            writes("t", n, ("", "task"), vec![("a", secret.into())]),
        ]
    };
    let plain = shared.keep(Memory::open(), Keeping::default()).await;
    plain.checkpoints.commit(with(1), None).await.unwrap();
    let cipher = Cipher::new("0123456789abcdef0123456789abcdef").unwrap();
    let keeping = Keeping {
        codec: Codec::encrypted(cipher),
        ..Keeping::default()
    };
    let sealed = shared.keep(Memory::open(), keeping).await;
    let values = |kind| shared.cli(&["HVALS", &shared.key(kind)]);
    assert!(values(":blobs").contains(secret) && values(":rows").contains("short secret"));
    for n in [1, 2] {
        if n == 2 {
            sealed.checkpoints.commit(with(1), None).await.unwrap();
            sealed.checkpoints.commit(with(2), None).await.unwrap();
        }
        let read = sealed
            .checkpoints
            .get(&key("t", "", Some(n)))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(read.checkpoint.channel_values["list"], secret.into());
        assert_eq!(read.pending_writes[0].value, secret.into());
    }
    assert!(!values(":blobs").contains(secret) && !values(":rows").contains("short secret"));
}
