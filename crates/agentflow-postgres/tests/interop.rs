//! Databases of LangGraph's Python package, read and written by the PostgreSQL backend.
//!
//! `tests/golden` holds a database that `tests/python/threads.py` wrote; the tests with Python
//! write new ones. They need an interpreter with `langgraph` and `langgraph-checkpoint-postgres`,
//! named by `AGENTFLOW_TEST_PYTHON`, and fail without it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, path::Path, process::Command};

use agentflow_postgres::{Dsn, Listen, Options, Postgres};
use agentflow_storage::{
    checkpoint::{CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Prune, special},
    cipher::Cipher,
    msgpack::typed::{self, Codec},
    store::{ItemQuery, PutItem},
};
use agentflow_testkit::servers::postgres::{Database, Handle, Version, shared};
use agentflow_types::{Scope, Str, Timestamp, Value};
use tokio_postgres::NoTls;

const GOLDEN: &str = include_str!("golden/langgraph-checkpoint-postgres-3.2.0.sql");
const KEY: &str = "0123456789abcdef0123456789abcdef";
/// Every row of every table of the checkpoints, in one form for both sides.
const ROWS: [&str; 3] = [
    "SELECT to_jsonb(c)::text FROM checkpoints AS c ORDER BY 1",
    "SELECT to_jsonb(b)::text FROM checkpoint_blobs AS b ORDER BY 1",
    "SELECT to_jsonb(w)::text FROM checkpoint_writes AS w ORDER BY 1",
];

fn server(version: Version) -> Handle {
    shared(version).unwrap_or_else(|err| panic!("{err:?}"))
}

async fn open(url: &str, codec: Codec) -> Postgres {
    let options = Options {
        listen: Listen::Off,
        codec,
        ..Options::new(Dsn::parse(url).unwrap())
    };
    Postgres::open(options)
        .await
        .unwrap_or_else(|err| panic!("{err:?}"))
}

/// Opens through PgBouncer.
async fn pooled(server: &Handle, database: &Database, codec: Codec) -> Postgres {
    open(&database.bouncer_url(&server.bouncer().unwrap()), codec).await
}

fn python(script: &str, arguments: &[&str]) {
    let interpreter = std::env::var_os("AGENTFLOW_TEST_PYTHON").expect(
        "set AGENTFLOW_TEST_PYTHON to a Python with langgraph and langgraph-checkpoint-postgres",
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/python")
        .join(script);
    let output = Command::new(interpreter)
        .arg(script)
        .args(arguments)
        .env("LANGGRAPH_AES_KEY", KEY)
        .output()
        .unwrap();
    let (out, err) = (&output.stdout, &output.stderr);
    let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    assert!(output.status.success(), "{out}\n{err}");
}

struct WriteRow {
    key: (String, String, String),
    task: (String, String),
    slot: i32,
    channel: String,
    value: Value,
}

/// Pending writes with their slots, which the ports do not show.
async fn write_rows(database: &Database) -> Vec<WriteRow> {
    let (client, driver) = tokio_postgres::connect(&database.url(), NoTls)
        .await
        .unwrap();
    tokio::spawn(driver);
    let sql = "SELECT thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel,
        type, blob FROM checkpoint_writes ORDER BY 1, 2, 3, 4, 6";
    let rows = client.query(sql, &[]).await.unwrap();
    let read = |row: &tokio_postgres::Row| WriteRow {
        key: (row.get(0), row.get(1), row.get(2)),
        task: (row.get(3), row.get(4)),
        slot: row.get(5),
        channel: row.get(6),
        value: typed::load(row.get(7), row.get(8)).unwrap(),
    };
    rows.iter().map(read).collect()
}

/// The operations that produce what is stored.
fn operations(tuples: Vec<CheckpointTuple>, writes: &[WriteRow]) -> Vec<CheckpointOp> {
    let puts = tuples.into_iter().map(|tuple| CheckpointOp::Put {
        thread_id: tuple.key.thread_id,
        checkpoint_ns: tuple.key.checkpoint_ns,
        parent_id: tuple.parent_id,
        new_versions: tuple.checkpoint.channel_values.keys().cloned().collect(),
        checkpoint: tuple.checkpoint,
        metadata: tuple.metadata,
    });
    let mut tasks: BTreeMap<_, Vec<&WriteRow>> = BTreeMap::new();
    for row in writes {
        tasks.entry((&row.key, &row.task)).or_default().push(row);
    }
    let per_task = tasks.into_iter().flat_map(|((key, task), rows)| {
        let op = |list: Vec<(Str, Value)>| CheckpointOp::Writes {
            thread_id: key.0.clone(),
            checkpoint_ns: key.1.clone(),
            checkpoint_id: key.2.clone(),
            task_id: task.0.clone(),
            task_path: task.1.clone(),
            writes: list,
        };
        let mut ops = Vec::new();
        // A special write that came first took a position; it is there already and is ignored.
        let mut ordinary: Vec<(Str, Value)> = Vec::new();
        for row in rows {
            let pair = (row.channel.as_str().into(), row.value.clone());
            if row.slot < 0 {
                ops.push(op(vec![pair]));
                continue;
            }
            while (ordinary.len() as i32) < row.slot {
                ordinary.push((special::RESUME.into(), Value::Null));
            }
            ordinary.push(pair);
        }
        if !ordinary.is_empty() {
            ops.push(op(ordinary));
        }
        ops
    });
    puts.chain(per_task).collect()
}

/// Copies everything through the ports.
async fn copy(from: &Postgres, database: &Database, to: &Postgres) {
    let (from, to) = (from.backend(), to.backend());
    let tuples = from
        .checkpoints
        .list(&CheckpointQuery::default())
        .await
        .unwrap();
    let ops = operations(tuples, &write_rows(database).await);
    to.checkpoints.commit(ops, None).await.unwrap();
    let now = Timestamp(1_700_000_000_000_000);
    let all = ItemQuery {
        limit: 100,
        ..ItemQuery::default()
    };
    let items = from.store.search(&Scope::local(), now, &all).await.unwrap();
    let items = items.into_iter().map(|item| PutItem {
        namespace: item.namespace,
        key: item.key,
        value: item.value,
        ttl_minutes: None,
    });
    to.store
        .put(&Scope::local(), now, items.collect())
        .await
        .unwrap();
}

#[track_caller]
fn assert_same_rows(left: &Database, right: &Database) {
    for sql in ROWS {
        let (left, right) = (left.sql(sql).unwrap(), right.sql(sql).unwrap());
        assert!(left.lines().count() > 5, "{left}");
        for (left, right) in left.lines().zip(right.lines()) {
            assert_eq!(left, right);
        }
        assert_eq!(left.lines().count(), right.lines().count());
    }
}

/// What LangGraph's saver wrote once, read by us and written again, is the same row by row.
#[tokio::test]
async fn golden_rows_are_read_and_written_alike() {
    let server = server(Version::Debian);
    let (golden, ours) = (
        server.create_database().unwrap(),
        server.create_database().unwrap(),
    );
    golden.sql(&format!("SET ROLE app;\n{GOLDEN}")).unwrap();
    let source = pooled(&server, &golden, Codec::plain()).await;
    let target = pooled(&server, &ours, Codec::plain()).await;
    copy(&source, &golden, &target).await;
    assert_same_rows(&golden, &ours);
}

/// Both directions on one PostgreSQL: Python reads what we copied, goes on with the thread, and
/// we read what it did.
async fn there_and_back(version: Version, codec: Codec, serde: &str) {
    let server = server(version);
    let (original, ours) = (
        server.create_database().unwrap(),
        server.create_database().unwrap(),
    );
    python("threads.py", &["write", &original.url()]);
    let source = pooled(&server, &original, Codec::plain()).await;
    let target = pooled(&server, &ours, codec).await;
    copy(&source, &original, &target).await;
    if serde == "plain" {
        assert_same_rows(&original, &ours);
    }
    python(
        "threads.py",
        &["compare", &original.url(), &ours.url(), serde],
    );
    python("threads.py", &["continue", &ours.url(), serde]);
    // Python goes on, too, in the database that we only opened.
    python("threads.py", &["continue", &original.url(), "plain"]);
    for backend in [target.backend(), source.backend()] {
        let key = CheckpointKey {
            thread_id: "waiting".into(),
            ..CheckpointKey::default()
        };
        let newest = backend.checkpoints.get(&key).await.unwrap().unwrap();
        let xs = newest.checkpoint.channel_values["xs"].to_string();
        assert_eq!(xs, r#"[1,1,"in","a","one","two","each"]"#);
        assert_eq!(newest.checkpoint.channel_values["count"], Value::Int(3));
        assert_eq!(newest.metadata["ratio"], Value::Float(1e-7));
    }
}

#[tokio::test]
async fn python_continues_our_threads_on_the_systems_postgresql() {
    there_and_back(Version::Debian, Codec::plain(), "plain").await;
}

#[tokio::test]
async fn python_continues_our_threads_on_postgresql_16() {
    there_and_back(Version::V16, Codec::plain(), "plain").await;
}

#[tokio::test]
async fn python_continues_our_threads_on_postgresql_17() {
    there_and_back(Version::V17, Codec::plain(), "plain").await;
}

#[tokio::test]
async fn encrypted_values_are_pythons() {
    let codec = Codec::encrypted(Cipher::new(KEY).unwrap());
    there_and_back(Version::Debian, codec, "aes").await;
}

/// What Python finds for a delta channel at each checkpoint, we find; and what we leave of the
/// thread is enough for Python to go on.
#[tokio::test]
async fn delta_channels_are_pythons() {
    let server = server(Version::Debian);
    let folder = tempfile::tempdir().unwrap();
    let expected = folder.path().join("expected.json");
    let (original, ours) = (
        server.create_database().unwrap(),
        server.create_database().unwrap(),
    );
    python(
        "deltas.py",
        &["write", &original.url(), expected.to_str().unwrap()],
    );
    let expected: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&expected).unwrap()).unwrap();
    assert!(expected.len() > 15);
    let source = pooled(&server, &original, Codec::plain()).await;
    let target = pooled(&server, &ours, Codec::plain()).await;
    copy_checkpoints(&source, &original, &target).await;
    for ports in [source.backend().checkpoints, target.backend().checkpoints] {
        for (id, want) in &expected {
            let key = CheckpointKey {
                thread_id: "t".into(),
                checkpoint_id: Some(id.clone()),
                ..CheckpointKey::default()
            };
            let found = ports.delta_history(&key, &["log".into()]).await.unwrap();
            let seed = found[0].seed.as_ref().map(|seed| seed.untyped().to_json());
            assert_eq!(seed.unwrap_or_default(), want["seed"], "{id}");
            let writes = found[0].writes.iter();
            let writes: Vec<_> = writes
                .map(|w| serde_json::json!([w.task_id, w.value.to_json()]))
                .collect();
            assert_eq!(serde_json::json!(writes), want["writes"], "{id}");
        }
    }
    let threads = ["t".to_owned()];
    let ports = target.backend().checkpoints;
    ports.prune(&threads, Prune::KeepLatest).await.unwrap();
    let left = ports.list(&CheckpointQuery::default()).await.unwrap();
    assert!(left.len() < expected.len(), "{}", left.len());
    python("deltas.py", &["read", &original.url(), &ours.url()]);
}

async fn copy_checkpoints(from: &Postgres, database: &Database, to: &Postgres) {
    let ports = from.backend().checkpoints;
    let tuples = ports.list(&CheckpointQuery::default()).await.unwrap();
    let ops = operations(tuples, &write_rows(database).await);
    to.backend().checkpoints.commit(ops, None).await.unwrap();
}

/// LangGraph's own suite for savers, over the Rust storage through PgBouncer.
#[tokio::test]
async fn the_checkpoint_conformance_package_passes() {
    // Test programs live in `deps` beside `examples`; a plain `cargo test` builds the examples.
    let here = std::env::current_exe().unwrap();
    let saver = here
        .parent()
        .unwrap()
        .with_file_name("examples")
        .join("postgres_saver");
    assert!(
        saver.exists(),
        "build it first: cargo build -p agentflow-postgres --example postgres_saver"
    );
    let server = server(Version::Debian);
    let database = server.create_database().unwrap();
    pooled(&server, &database, Codec::plain()).await;
    let url = database.bouncer_url(&server.bouncer().unwrap());
    python(
        "../../../agentflow-embedded/tests/python/run_conformance.py",
        &[saver.to_str().unwrap(), &url, &database.url()],
    );
}

/// What the tables are like: columns and indexes, and which steps are noted.
fn tables(database: &Database) -> String {
    let columns = "SELECT table_name, column_name, data_type, is_nullable, column_default
        FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2;";
    let indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1;";
    let steps = "SELECT 'c', v FROM checkpoint_migrations ORDER BY 2;
        SELECT 's', v FROM store_migrations ORDER BY 2;";
    database.sql(&format!("{columns}{indexes}{steps}")).unwrap()
}

/// Python came first and stopped anywhere; or we did.
#[tokio::test]
async fn tables_end_up_as_pythons_whoever_comes_first() {
    let server = server(Version::Debian);
    let reference = server.create_database().unwrap();
    python("steps.py", &["all", &reference.url()]);
    let expected = tables(&reference);
    for (checkpoints, store) in [
        (0, 0),
        (1, 1),
        (3, 2),
        (4, 3),
        (6, 0),
        (7, 4),
        (9, 1),
        (10, 4),
    ] {
        let database = server.create_database().unwrap();
        let (checkpoints, store) = (checkpoints.to_string(), store.to_string());
        python("steps.py", &["some", &database.url(), &checkpoints, &store]);
        let postgres = pooled(&server, &database, Codec::plain()).await;
        assert_eq!(tables(&database), expected, "{checkpoints} {store}");
        if checkpoints != "0" && checkpoints != "1" {
            let query = CheckpointQuery::default();
            let found = postgres.backend().checkpoints.list(&query).await.unwrap();
            assert_eq!(found[0].metadata["step"], Value::Int(7));
        }
        python("steps.py", &["all", &database.url()]);
        assert_eq!(tables(&database), expected, "{checkpoints} {store}");
        pooled(&server, &database, Codec::plain()).await;
    }
}
