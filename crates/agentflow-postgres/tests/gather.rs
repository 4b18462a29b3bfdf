//! Commits that go together: each gets its own answer.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use agentflow_storage::{
    Backend,
    checkpoint::{CheckpointQuery, Fence},
    conformance::sample::{at, leased, put, run, run_id, seed, thread},
};
use agentflow_types::{ErrorKind, Result, value};
use support::{Database, Way};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// Commits of one test.
const COMMITS: u8 = 40;
/// Holds up what is on its way, so that the rest gathers.
const BLOCK: &str = "BEGIN; LOCK TABLE checkpoints IN EXCLUSIVE MODE";

async fn opened() -> (Database, Backend) {
    let database = Database::create().await;
    let backend = database.open(Way::Pooled).await.backend();
    for number in 1..=COMMITS {
        let held = leased(run(number, number), 1, at(60));
        seed(&backend, thread(number), vec![held]).await.unwrap();
    }
    (database, backend)
}

/// Commits of as many threads under their leases, all at once, while nothing gets through.
async fn blocked(admin: &Client, backend: &Backend) -> Vec<JoinHandle<Result<()>>> {
    admin.batch_execute(BLOCK).await.unwrap();
    let commits = (1..=COMMITS).map(|number| {
        let backend = backend.clone();
        tokio::spawn(async move { commit(&backend, &format!("t{number}"), number).await })
    });
    let commits = commits.collect();
    // Everything has been polled once this task runs again and again.
    for _ in 0..COMMITS {
        tokio::task::yield_now().await;
    }
    commits
}

async fn commit(backend: &Backend, thread: &str, number: u8) -> Result<()> {
    let fence = Fence {
        run_id: run_id(number),
        token: 1,
    };
    let ops = vec![put(thread, "", 1, value!({"n": number, "list": [1]}))];
    backend.checkpoints.commit(ops, Some(fence)).await
}

async fn stored(backend: &Backend) -> usize {
    let query = CheckpointQuery::default();
    backend.checkpoints.list(&query).await.unwrap().len()
}

#[tokio::test]
async fn commits_of_many_threads_are_few_transactions() {
    let (database, backend) = opened().await;
    let admin = database.admin().await;
    let commits = blocked(&admin, &backend).await;
    admin.batch_execute("COMMIT").await.unwrap();
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    assert_eq!(stored(&backend).await, usize::from(COMMITS));
    let sql = "SELECT count(DISTINCT xmin::text) FROM checkpoints";
    let transactions: i64 = admin.query_one(sql, &[]).await.unwrap().get(0);
    assert!(transactions <= 6, "{transactions} transactions");
}

#[tokio::test]
async fn who_lost_its_lease_is_refused_and_nobody_else() {
    let (database, backend) = opened().await;
    let admin = database.admin().await;
    // The last ones wait for company.
    let lost = "UPDATE agentflow.runs SET lease_token = 2 WHERE run_id = ANY($1)";
    let late = [run_id(COMMITS).0, run_id(COMMITS - 1).0];
    admin.execute(lost, &[&late.as_slice()]).await.unwrap();
    let commits = blocked(&admin, &backend).await;
    admin.batch_execute("COMMIT").await.unwrap();
    for (number, commit) in (1..).zip(commits) {
        let answer = commit.await.unwrap();
        match number > COMMITS - 2 {
            true => assert_eq!(answer.unwrap_err().kind(), ErrorKind::Conflict, "{number}"),
            false => answer.unwrap(),
        }
    }
    assert_eq!(stored(&backend).await, usize::from(COMMITS) - 2);
}

#[tokio::test]
async fn what_cannot_be_stored_spoils_nothing() {
    let (database, backend) = opened().await;
    let admin = database.admin().await;
    let commits = blocked(&admin, &backend).await;
    let spoiled = tokio::spawn({
        let backend = backend.clone();
        async move {
            let ops = vec![put("nul \0", "", 1, value!({}))];
            backend.checkpoints.commit(ops, None).await
        }
    });
    tokio::task::yield_now().await;
    admin.batch_execute("COMMIT").await.unwrap();
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    let err = spoiled.await.unwrap().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Invalid, "{err:?}");
    assert_eq!(stored(&backend).await, usize::from(COMMITS));
}

#[tokio::test]
async fn nobody_waits_for_the_run_of_another() {
    let (database, backend) = opened().await;
    let (admin, decider) = (database.admin().await, database.admin().await);
    // Somebody decides about the last one's run meanwhile.
    decider.batch_execute("BEGIN").await.unwrap();
    let lock = "SELECT FROM agentflow.runs WHERE run_id = $1 FOR UPDATE";
    decider.query(lock, &[&run_id(COMMITS).0]).await.unwrap();
    let commits = blocked(&admin, &backend).await;
    admin.batch_execute("COMMIT").await.unwrap();
    let mut commits = commits.into_iter();
    for commit in commits.by_ref().take(usize::from(COMMITS) - 1) {
        commit.await.unwrap().unwrap();
    }
    let last = commits.next().unwrap();
    assert!(!last.is_finished());
    decider.batch_execute("COMMIT").await.unwrap();
    last.await.unwrap().unwrap();
    assert_eq!(stored(&backend).await, usize::from(COMMITS));
}
