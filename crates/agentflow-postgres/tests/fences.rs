//! A worker whose lease is taken over while it commits.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use agentflow_storage::{
    Backend,
    checkpoint::{CheckpointQuery, Fence},
    conformance::sample::{at, checkpoint_id, leased, put, run, run_id, seed, thread},
};
use agentflow_types::{ErrorKind, Result, value};
use support::{Database, Way};
use tokio_postgres::Client;

/// How often is looked whether somebody waits.
const LOOK: Duration = Duration::from_millis(5);
const TAKE_OVER: &str = "UPDATE agentflow.runs SET lease_token = 2";

/// A database with a run that is leased under token 1.
async fn opened() -> (Database, Backend) {
    let database = Database::create().await;
    let backend = database.open(Way::Pooled).await.backend();
    let held = leased(run(1, 1), 1, at(60));
    seed(&backend, thread(1), vec![held]).await.unwrap();
    (database, backend)
}

async fn commit(backend: Backend) -> Result<()> {
    let fence = Fence {
        run_id: run_id(1),
        token: 1,
    };
    let ops = vec![put("t", "", 1, value!({}))];
    backend.checkpoints.commit(ops, Some(fence)).await
}

async fn stored(backend: &Backend) -> usize {
    let query = CheckpointQuery::default();
    backend.checkpoints.list(&query).await.unwrap().len()
}

/// Waits until somebody waits for a lock in the database.
async fn somebody_waits(admin: &Client) {
    let sql = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    loop {
        let waiting: i64 = admin.query_one(sql, &[]).await.unwrap().get(0);
        if waiting > 0 {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test]
async fn a_commit_behind_a_takeover_is_refused() {
    let (database, backend) = opened().await;
    let (taker, admin) = (database.admin().await, database.admin().await);
    taker
        .batch_execute(&format!("BEGIN; {TAKE_OVER}"))
        .await
        .unwrap();
    let committing = tokio::spawn(commit(backend.clone()));
    somebody_waits(&admin).await;
    taker.batch_execute("COMMIT").await.unwrap();
    let err = committing.await.unwrap().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Conflict, "{err:?}");
    assert_eq!(stored(&backend).await, 0);
}

#[tokio::test]
async fn a_takeover_behind_a_commit_waits_for_it() {
    let (database, backend) = opened().await;
    let (blocker, taker) = (database.admin().await, database.admin().await);
    // The same checkpoint, not yet committed: our commit waits for it, and holds its lease.
    let same = format!(
        "BEGIN; INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint)
        VALUES ('t', '{}', '{{}}')",
        checkpoint_id(1)
    );
    blocker.batch_execute(&same).await.unwrap();
    let committing = tokio::spawn(commit(backend.clone()));
    somebody_waits(&taker).await;
    let impatient = format!("SET lock_timeout = '50ms'; {TAKE_OVER}");
    let err = taker.batch_execute(&impatient).await.unwrap_err();
    let code = err.code().map(tokio_postgres::error::SqlState::code);
    assert_eq!(code, Some("55P03"), "{err:?}");
    blocker.batch_execute("ROLLBACK").await.unwrap();
    committing.await.unwrap().unwrap();
    taker.batch_execute(TAKE_OVER).await.unwrap();
    assert_eq!(stored(&backend).await, 1);
    let err = commit(backend.clone()).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Conflict, "{err:?}");
}
