//! What a year-old database holds: whatever removes checkpoints removes their blobs.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use agentflow_storage::{
    Backend,
    checkpoint::{
        Checkpoint, CheckpointKey, CheckpointOp, CheckpointQuery, Checkpoints, Prune, Version,
    },
    conformance::sample::{change, checkpoint_id, map, run, run_id, seed, thread, thread_id},
    record::Change,
};
use agentflow_types::{Scope, Value, value};
use support::{Database, Way};

/// Messages of a conversation of so many turns.
fn messages(turns: u8) -> Value {
    Value::list(
        (0..turns)
            .map(|turn| value!({"turn": turn, "text": "x".repeat(100)}))
            .collect(),
    )
}

/// Turn `n` of a conversation: the messages grow, the profile stays.
fn turn(thread: &str, ns: &str, n: u8, run: &str) -> CheckpointOp {
    let version = |n: u8| Version::Text(format!("{n:032}.0.5").into());
    let checkpoint = Checkpoint {
        v: 4,
        id: checkpoint_id(n),
        channel_values: map(value!({
            "messages": (messages(n)), "profile": {"name": "Ada"}, "count": n,
        })),
        channel_versions: [
            ("messages".into(), version(n)),
            ("profile".into(), version(1)),
            ("count".into(), version(n)),
        ]
        .into_iter()
        .collect(),
        ..Checkpoint::default()
    };
    let mut new_versions = vec!["messages".into(), "count".into()];
    if n == 1 {
        new_versions.push("profile".into());
    }
    CheckpointOp::Put {
        thread_id: thread.into(),
        checkpoint_ns: ns.into(),
        parent_id: (n > 1).then(|| checkpoint_id(n - 1)),
        checkpoint,
        metadata: map(value!({"step": n, "run_id": run})),
        new_versions,
    }
}

fn writes(thread: &str, n: u8) -> CheckpointOp {
    CheckpointOp::Writes {
        thread_id: thread.into(),
        checkpoint_ns: String::new(),
        checkpoint_id: checkpoint_id(n),
        task_id: "task".into(),
        task_path: String::new(),
        writes: vec![("messages".into(), messages(1))],
    }
}

/// A conversation of so many turns; odd turns are of run `a`, even ones of run `b`.
async fn converse(checkpoints: &dyn Checkpoints, thread: &str, ns: &str, turns: u8) {
    for n in 1..=turns {
        let run = if n % 2 == 1 { "a" } else { "b" };
        let ops = vec![turn(thread, ns, n, run), writes(thread, n)];
        checkpoints.commit(ops, None).await.unwrap();
    }
}

async fn newest(checkpoints: &dyn Checkpoints, thread: &str) -> Option<Checkpoint> {
    let key = CheckpointKey {
        thread_id: thread.into(),
        ..CheckpointKey::default()
    };
    checkpoints
        .get(&key)
        .await
        .unwrap()
        .map(|tuple| tuple.checkpoint)
}

/// Rows of checkpoints, blobs and writes.
async fn rows(database: &Database) -> [i64; 3] {
    let sql = "SELECT (SELECT count(*) FROM checkpoints), (SELECT count(*) FROM checkpoint_blobs),
        (SELECT count(*) FROM checkpoint_writes)";
    let row = database.admin().await.query_one(sql, &[]).await.unwrap();
    [row.get(0), row.get(1), row.get(2)]
}

async fn opened() -> (Database, Backend) {
    let database = Database::create().await;
    let backend = database.open(Way::Pooled).await.backend();
    (database, backend)
}

#[tokio::test]
async fn a_step_stores_only_what_changed() {
    let (database, backend) = opened().await;
    converse(&*backend.checkpoints, "t", "", 20).await;
    // Twenty versions of the messages, one of the profile; numbers are in the checkpoint.
    assert_eq!(rows(&database).await, [20, 21, 20]);
    let first = CheckpointQuery {
        checkpoint_id: Some(checkpoint_id(7)),
        ..CheckpointQuery::default()
    };
    let found = backend.checkpoints.list(&first).await.unwrap().remove(0);
    let values = &found.checkpoint.channel_values;
    assert_eq!(values["messages"], messages(7));
    assert_eq!(values["profile"], value!({"name": "Ada"}));
    assert_eq!(values["count"], Value::Int(7));
}

#[tokio::test]
async fn pruning_collects_blobs() {
    let (database, backend) = opened().await;
    let checkpoints = &*backend.checkpoints;
    for thread in ["t", "u"] {
        converse(checkpoints, thread, "", 20).await;
        converse(checkpoints, thread, "sub", 3).await;
    }
    // Writes of the namespace `sub` are under the same ids in the root here.
    let before = rows(&database).await;
    assert_eq!(before, [46, 50, 40]);
    let last = newest(checkpoints, "t").await;
    checkpoints
        .prune(&["t".into()], Prune::KeepLatest)
        .await
        .unwrap();
    // One checkpoint with its messages and the profile in each namespace.
    assert_eq!(rows(&database).await, [25, 29, 21]);
    assert_eq!(newest(checkpoints, "t").await, last);
    checkpoints
        .prune(&["t".into()], Prune::KeepLatest)
        .await
        .unwrap();
    assert_eq!(rows(&database).await, [25, 29, 21]);
    // The conversation goes on, and the profile, which nobody writes again, stays.
    checkpoints
        .commit(vec![turn("t", "", 21, "a")], None)
        .await
        .unwrap();
    checkpoints
        .prune(&["t".into()], Prune::KeepLatest)
        .await
        .unwrap();
    let found = newest(checkpoints, "t").await.unwrap();
    assert_eq!(found.channel_values["profile"], value!({"name": "Ada"}));
    checkpoints
        .prune(&["t".into(), "u".into()], Prune::Delete)
        .await
        .unwrap();
    assert_eq!(rows(&database).await, [0, 0, 0]);
}

#[tokio::test]
async fn pruning_many_threads_at_once_is_fine() {
    let (database, backend) = opened().await;
    let checkpoints = &*backend.checkpoints;
    let threads: Vec<String> = (0..150).map(|n| format!("thread {n}")).collect();
    for thread in &threads {
        let ops = (1..=3).map(|n| turn(thread, "", n, "a")).collect();
        checkpoints.commit(ops, None).await.unwrap();
    }
    assert_eq!(rows(&database).await, [450, 600, 0]);
    checkpoints
        .prune(&threads, Prune::KeepLatest)
        .await
        .unwrap();
    assert_eq!(rows(&database).await, [150, 300, 0]);
}

#[tokio::test]
async fn runs_take_their_blobs_along() {
    let (database, backend) = opened().await;
    let checkpoints = &*backend.checkpoints;
    for thread in ["t", "u"] {
        converse(checkpoints, thread, "", 4).await;
    }
    checkpoints.delete_for_runs(&["b".into()]).await.unwrap();
    // Turns one and three of each, and the profile.
    assert_eq!(rows(&database).await, [4, 6, 4]);
    checkpoints
        .delete_for_runs(&["a".into(), "none".into()])
        .await
        .unwrap();
    assert_eq!(rows(&database).await, [0, 0, 0]);
}

#[tokio::test]
async fn a_run_that_is_rolled_back_takes_its_blobs_along() {
    let (database, backend) = opened().await;
    seed(&backend, thread(1), vec![run(1, 1), run(1, 2)])
        .await
        .unwrap();
    let id = thread_id(1).text();
    for (n, run) in [(1, 1), (2, 1), (3, 2)] {
        let op = turn(&id, "", n, &run_id(run).text());
        backend.checkpoints.commit(vec![op], None).await.unwrap();
    }
    let rollback = vec![Change::RollbackRun(run_id(2))];
    change(&backend, &Scope::local(), 1, rollback)
        .await
        .unwrap();
    assert_eq!(rows(&database).await, [2, 3, 0]);
    let left = newest(&*backend.checkpoints, &id).await.unwrap();
    assert_eq!(left.channel_values["messages"], messages(2));
    change(&backend, &Scope::local(), 1, vec![Change::DeleteThread])
        .await
        .unwrap();
    assert_eq!(rows(&database).await, [0, 0, 0]);
}

/// A copy shares nothing with its original.
#[tokio::test]
async fn a_copy_keeps_its_blobs() {
    let (database, backend) = opened().await;
    let checkpoints = &*backend.checkpoints;
    converse(checkpoints, "t", "", 5).await;
    checkpoints.copy_thread("t", "u").await.unwrap();
    assert_eq!(rows(&database).await, [10, 12, 10]);
    let original = newest(checkpoints, "t").await;
    checkpoints.delete_thread("t").await.unwrap();
    assert_eq!(rows(&database).await, [5, 6, 5]);
    assert_eq!(newest(checkpoints, "u").await, original);
    checkpoints.copy_thread("u", "u").await.unwrap();
    assert_eq!(newest(checkpoints, "u").await, original);
}
