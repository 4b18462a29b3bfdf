//! What the suites do not cover: opening, locking, damage, sudden death, sharing of the writer.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use agentflow_embedded::{Embedded, Options, Synchronous};
use agentflow_storage::{
    checkpoint::{CheckpointQuery, Fence},
    conformance::{
        refused,
        sample::{at, checkpoint, leased, put, run, run_id, seed, thread, thread_id},
    },
    msgpack::checkpoint as codec,
    page::PageQuery,
    record::{Change, ThreadQuery},
};
use agentflow_types::{
    ErrorKind::{Busy, Corrupt, Invalid},
    Map, Scope, value,
};
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use rusqlite::Connection;

fn open(path: &Path) -> agentflow_types::Result<Embedded> {
    Embedded::open(path, Options::default())
}

#[test]
fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let first = open(&path).unwrap();
    let err = open(&path).map(drop).unwrap_err();
    assert_eq!(err.kind(), Busy);
    assert!(
        err.to_string()
            .contains("in use by another agentflow process"),
        "{err}"
    );
    drop(first);
    open(&path).unwrap();
}

#[test]
fn ports_keep_the_database_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let backend = open(&path).unwrap().backend();
    refused(open(&path).map(drop), Busy);
    drop(backend);
    open(&path).unwrap();
}

#[test]
fn what_is_not_our_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(
        &path,
        "not a database, but long enough to look at".repeat(100),
    )
    .unwrap();
    refused(open(&path).map(drop), Corrupt);
    refused(open(&folder.path().join("missing/a.db")).map(drop), Invalid);
    let newer = folder.path().join("newer.db");
    drop(open(&newer).unwrap());
    let db = Connection::open(&newer).unwrap();
    db.execute("INSERT INTO agentflow_schema (version) VALUES (999)", [])
        .unwrap();
    drop(db);
    let err = open(&newer).map(drop).unwrap_err();
    assert!(err.message().contains("newer agentflow"), "{err}");
}

#[tokio::test]
async fn damaged_rows_are_reported_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let database = open(&path).unwrap();
    let backend = database.backend();
    backend
        .checkpoints
        .commit(vec![put("t", "", 1, value!({"a": 1}))], None)
        .await
        .unwrap();
    seed(&backend, thread(1), vec![]).await.unwrap();
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "UPDATE checkpoints SET metadata = '{broken'; UPDATE agentflow_threads SET metadata = '['",
    )
    .unwrap();
    refused(
        backend.checkpoints.list(&CheckpointQuery::default()).await,
        Corrupt,
    );
    let filtered = CheckpointQuery {
        metadata: value!({"a": 1}).as_map().cloned().unwrap(),
        ..CheckpointQuery::default()
    };
    refused(backend.checkpoints.list(&filtered).await, Corrupt);
    refused(
        backend.threads.get(&Scope::local(), thread_id(1)).await,
        Corrupt,
    );
    db.execute_batch("UPDATE checkpoints SET metadata = '{}', checkpoint = x'c1'")
        .unwrap();
    refused(
        backend.checkpoints.list(&CheckpointQuery::default()).await,
        Corrupt,
    );
    database.check_integrity().await.unwrap();
}

#[tokio::test]
async fn callers_of_all_ports_share_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(&folder.path().join("a.db")).unwrap().backend();
    seed(&backend, thread(1), vec![leased(run(1, 1), 1, at(60))])
        .await
        .unwrap();
    let one = |n: u8| {
        let backend = backend.clone();
        async move {
            let fence = Fence {
                run_id: run_id(1),
                token: i64::from(n % 2),
            };
            let op = vec![put("t", "", n, value!({"n": n}))];
            let committed = backend.checkpoints.commit(op, Some(fence)).await.is_ok();
            let row = Box::new(thread(n + 2));
            let id = row.thread_id;
            let change = Box::new(move |_: Option<&_>| Ok(vec![Change::PutThread(row)]));
            backend
                .threads
                .decide(&Scope::local(), id, change)
                .await
                .unwrap();
            committed
        }
    };
    let committed = futures_util::future::join_all((1..=100).map(one)).await;
    assert_eq!(committed.iter().filter(|ok| **ok).count(), 50);
    let all = backend
        .checkpoints
        .list(&CheckpointQuery::default())
        .await
        .unwrap();
    assert!(
        all.len() == 50
            && all
                .iter()
                .all(|t| t.metadata["n"].as_i64().unwrap() % 2 == 1)
    );
}

#[tokio::test]
async fn ten_thousand_threads_are_searched_by_index() {
    const THREADS: u64 = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let backend = open(&path).unwrap().backend();
    let put_thread = |n: u64| {
        let backend = backend.clone();
        async move {
            let mut row = thread(1);
            row.thread_id = agentflow_types::ThreadId(uuid::Uuid::from_u128(n.into()));
            row.updated_at = at(n as i64);
            row.metadata = value!({"n": n, "even": n.is_multiple_of(2)})
                .as_map()
                .cloned()
                .unwrap();
            let id = row.thread_id;
            let change = Box::new(move |_: Option<&_>| Ok(vec![Change::PutThread(Box::new(row))]));
            backend
                .threads
                .decide(&Scope::local(), id, change)
                .await
                .unwrap();
        }
    };
    futures_util::future::join_all((0..THREADS).map(put_thread)).await;
    let page = PageQuery {
        sort_by: "updated_at".into(),
        limit: 3,
        ..PageQuery::default()
    };
    let search = |metadata: Map| ThreadQuery {
        metadata,
        ..ThreadQuery::default()
    };
    let all = backend
        .threads
        .search(&Scope::local(), &search(Map::new()), &page)
        .await
        .unwrap();
    assert_eq!(
        (all.total, all.items[0].updated_at),
        (THREADS, at(THREADS as i64 - 1))
    );
    let even = value!({"even": true}).as_map().cloned().unwrap();
    let found = backend
        .threads
        .search(&Scope::local(), &search(even), &page)
        .await
        .unwrap();
    assert_eq!((found.total, found.items.len()), (THREADS / 2, 3));
    let db = Connection::open(&path).unwrap();
    for column in ["created_at", "updated_at", "status"] {
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT * FROM agentflow_threads WHERE tenant = 'default'
            ORDER BY {column} DESC, thread_id DESC LIMIT 3"
        );
        let plan: String = db.query_row(&sql, [], |row| row.get(3)).unwrap();
        assert!(plan.contains("USING INDEX agentflow_threads_"), "{plan}");
    }
}

/// A child process writes checkpoints and is killed; what it acknowledged is there.
#[tokio::test]
async fn acknowledged_writes_survive_a_kill() {
    const ROUNDS: u8 = 8;
    let here = std::env::current_exe().unwrap();
    let saver = here
        .parent()
        .unwrap()
        .with_file_name("examples")
        .join("saver");
    assert!(
        saver.exists(),
        "build it first: cargo build -p agentflow-embedded --example saver"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut acknowledged = 0_usize;
    for round in 0..ROUNDS {
        let mut child = Command::new(&saver)
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        for n in 0..20 + 7 * round {
            let checkpoint = BASE64.encode(codec::encode(&checkpoint(n)).unwrap());
            let request = serde_json::json!({
                "op": "put", "thread_id": format!("t{round}"), "checkpoint_ns": "",
                "parent_id": null, "checkpoint": ["msgpack", checkpoint], "metadata": {},
                "new_versions": [],
            });
            writeln!(input, "{request}").unwrap();
            assert_eq!(answers.next().unwrap().unwrap(), r#"{"ok":null}"#);
            acknowledged += 1;
        }
        // One more is on its way when the process dies.
        writeln!(
            input,
            "{{\"op\": \"delete_thread\", \"thread_id\": \"none\"}}"
        )
        .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let database = open(&path).unwrap();
        database.check_integrity().await.unwrap();
        let found = database
            .backend()
            .checkpoints
            .list(&CheckpointQuery::default())
            .await
            .unwrap();
        assert_eq!(found.len(), acknowledged);
    }
}

/// The last handle may be in a decision, which the writing thread drops.
#[tokio::test]
async fn the_database_may_close_on_its_own_thread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let options = Options {
        synchronous: Synchronous::Full,
        ..Options::default()
    };
    let backend = Embedded::open(&path, options).unwrap().backend();
    let task = tokio::spawn(async move {
        // The whole backend moves here, not only the port that is used.
        let held = { backend }.clone();
        let threads = held.threads.clone();
        let decide = Box::new(move |_: Option<&_>| {
            let _held = held;
            receiver.blocking_recv().unwrap();
            Ok(vec![Change::PutThread(Box::new(thread(1)))])
        });
        let scope = Scope::local();
        tokio::time::timeout(
            std::time::Duration::from_millis(50),
            threads.decide(&scope, thread_id(1), decide),
        )
        .await
        .map(drop)
    });
    // The caller gives up; the decision still holds the database and is then let go.
    assert!(task.await.unwrap().is_err());
    sender.send(()).unwrap();
    let reopened = loop {
        match open(&path) {
            Ok(database) => break database,
            Err(err) => assert_eq!(err.kind(), Busy),
        }
        tokio::task::yield_now().await;
    };
    let found = reopened
        .backend()
        .threads
        .get(&Scope::local(), thread_id(1))
        .await
        .unwrap();
    assert_eq!(found, Some(thread(1)));
}

#[tokio::test]
async fn a_backup_of_a_database_in_use_is_put_back_whole() {
    use agentflow_embedded::{backup, restore, schema_version};
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("a.db"), folder.path().join("copy.db"));
    refused(backup(&path, &copy), agentflow_types::ErrorKind::NotFound);
    let database = open(&path).unwrap();
    let backend = database.backend();
    seed(&backend, thread(1), vec![]).await.unwrap();
    let copied = backup(&path, &copy).unwrap();
    let version = schema_version(&path).unwrap();
    assert_eq!(
        (version.found, copied.schema),
        (version.newest, version.newest)
    );
    assert_eq!(copied.bytes, std::fs::metadata(&copy).unwrap().len());
    refused(backup(&path, &copy), agentflow_types::ErrorKind::Conflict);
    // Nothing is put in the place of a database that is open.
    refused(restore(&copy, &path), Busy);
    backend
        .threads
        .decide(
            &Scope::local(),
            thread_id(1),
            Box::new(|_| Ok(vec![Change::DeleteThread])),
        )
        .await
        .unwrap();
    drop((backend, database));
    restore(&copy, &path).unwrap();
    let threads = open(&path).unwrap().backend().threads;
    assert!(
        threads
            .get(&Scope::local(), thread_id(1))
            .await
            .unwrap()
            .is_some()
    );
    drop(threads);
    // What was there before is kept, and not overwritten by a second time.
    let before = folder.path().join("a.db.before-restore");
    let threads = open(&before).unwrap().backend().threads;
    assert!(
        threads
            .get(&Scope::local(), thread_id(1))
            .await
            .unwrap()
            .is_none()
    );
    refused(restore(&copy, &path), agentflow_types::ErrorKind::Conflict);
}

#[test]
fn a_damaged_backup_is_not_put_back() {
    use agentflow_embedded::{backup, restore};
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("a.db"), folder.path().join("copy.db"));
    drop(open(&path).unwrap());
    backup(&path, &copy).unwrap();
    let whole = std::fs::read(&copy).unwrap();
    let mut damaged = whole.clone();
    damaged[4096..8192].fill(0xa5);
    for bytes in [
        &damaged[..],
        &whole[..whole.len() / 2],
        b"not a database at all",
    ] {
        std::fs::write(&copy, bytes).unwrap();
        refused(restore(&copy, &path), Corrupt);
    }
    drop(open(&path).unwrap());
    assert!(!folder.path().join("a.db.before-restore").exists());
}
