//! Files of LangGraph's Python package, read and written by the embedded backend.
//!
//! `tests/golden` holds a file that `tests/python/write_golden.py` wrote; the tests with Python
//! write a new one. They need an interpreter with `langgraph` and `langgraph-checkpoint-sqlite`,
//! named by `AGENTFLOW_TEST_PYTHON`, and fail without it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use agentflow_embedded::{Embedded, Options};
use agentflow_storage::{
    checkpoint::{CheckpointKey, CheckpointOp, CheckpointQuery, special},
    cipher::Cipher,
    json,
    msgpack::{
        checkpoint as codec,
        typed::{self, Codec},
    },
    store::{ItemQuery, PutItem},
};
use agentflow_types::{Scope, Str, Timestamp, Value, message};
use rusqlite::{Connection, OpenFlags};

const GOLDEN: &str = "tests/golden/langgraph-checkpoint-sqlite-3.1.2.sqlite";

#[derive(Debug, PartialEq)]
struct CheckpointRow {
    key: (String, String, String),
    parent: Option<String>,
    word: String,
    checkpoint: Vec<u8>,
    metadata: Vec<u8>,
}

#[derive(Debug, PartialEq)]
struct WriteRow {
    key: (String, String, String),
    task: (String, String),
    slot: i64,
    channel: String,
    word: String,
    value: Vec<u8>,
}

fn raw(path: &Path) -> (Vec<CheckpointRow>, Vec<WriteRow>) {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let sql = "SELECT thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,
        checkpoint, metadata FROM checkpoints ORDER BY 1, 2, 3";
    let mut statement = db.prepare(sql).unwrap();
    let checkpoints = statement.query_map([], |row| {
        Ok(CheckpointRow {
            key: (row.get(0)?, row.get(1)?, row.get(2)?),
            parent: row.get(3)?,
            word: row.get(4)?,
            checkpoint: row.get(5)?,
            metadata: row.get(6)?,
        })
    });
    let checkpoints = checkpoints.unwrap().map(Result::unwrap).collect();
    let sql = "SELECT thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel,
        type, value FROM writes ORDER BY 1, 2, 3, 4, 6";
    let mut statement = db.prepare(sql).unwrap();
    let writes = statement.query_map([], |row| {
        Ok(WriteRow {
            key: (row.get(0)?, row.get(1)?, row.get(2)?),
            task: (row.get(3)?, row.get(4)?),
            slot: row.get(5)?,
            channel: row.get(6)?,
            word: row.get(7)?,
            value: row.get(8)?,
        })
    });
    (checkpoints, writes.unwrap().map(Result::unwrap).collect())
}

/// Every stored value is decoded and encoded again, to the same bytes.
fn check_bytes(checkpoints: &[CheckpointRow], writes: &[WriteRow]) {
    assert!(checkpoints.len() > 10 && writes.len() > 20);
    for row in checkpoints {
        let checkpoint = codec::decode(&row.word, &row.checkpoint).unwrap();
        assert_eq!(checkpoint.id, row.key.2);
        assert!(
            codec::encode(&checkpoint).unwrap() == row.checkpoint,
            "{:?}",
            row.key
        );
        let metadata = json::parse_map(&row.metadata).unwrap();
        let text = json::python_text(&metadata).unwrap();
        assert_eq!(text, String::from_utf8_lossy(&row.metadata));
    }
    for row in writes {
        let value = typed::load(&row.word, &row.value).unwrap();
        let (word, bytes) = typed::dump(&value).unwrap();
        assert_eq!(
            (word, &*bytes),
            (row.word.as_str(), row.value.as_slice()),
            "{:?}",
            row.key
        );
    }
}

/// The operations that produce these rows.
fn operations(checkpoints: &[CheckpointRow], writes: &[WriteRow]) -> Vec<CheckpointOp> {
    let puts = checkpoints.iter().map(|row| {
        let checkpoint = codec::decode(&row.word, &row.checkpoint).unwrap();
        CheckpointOp::Put {
            thread_id: row.key.0.clone(),
            checkpoint_ns: row.key.1.clone(),
            parent_id: row.parent.clone(),
            new_versions: checkpoint.channel_values.keys().cloned().collect(),
            checkpoint,
            metadata: json::parse_map(&row.metadata).unwrap(),
        }
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
        let value = |row: &WriteRow| typed::load(&row.word, &row.value).unwrap();
        let mut ops = Vec::new();
        // A special write that came first took a position; it is there already and is ignored.
        let mut ordinary: Vec<(Str, Value)> = Vec::new();
        for row in rows {
            if row.slot < 0 {
                ops.push(op(vec![(row.channel.as_str().into(), value(row))]));
                continue;
            }
            while (ordinary.len() as i64) < row.slot {
                ordinary.push((special::RESUME.into(), Value::Null));
            }
            ordinary.push((row.channel.as_str().into(), value(row)));
        }
        if !ordinary.is_empty() {
            ops.push(op(ordinary));
        }
        ops
    });
    puts.chain(per_task).collect()
}

fn copy_of(original: &Path, folder: &Path) -> PathBuf {
    let path = folder.join("opened.db");
    std::fs::copy(original, &path).unwrap();
    path
}

/// The file, opened by us, shows what Python stored; a second file written through the ports has
/// the same rows.
async fn check_file(original: &Path, folder: &Path) -> PathBuf {
    let (checkpoints, writes) = raw(original);
    check_bytes(&checkpoints, &writes);
    let source = Embedded::open(copy_of(original, folder), Options::default()).unwrap();
    let found = source
        .backend()
        .checkpoints
        .list(&CheckpointQuery::default())
        .await
        .unwrap();
    assert_eq!(found.len(), checkpoints.len());
    let pending: usize = found.iter().map(|tuple| tuple.pending_writes.len()).sum();
    assert_eq!(pending, writes.len());
    let waiting = found
        .iter()
        .find(|tuple| tuple.key.thread_id == "waiting")
        .unwrap();
    assert!(
        waiting
            .pending_writes
            .iter()
            .any(|w| &*w.channel == special::INTERRUPT)
    );
    let messages = waiting.checkpoint.channel_values["messages"]
        .as_list()
        .unwrap();
    let texts: Vec<_> = messages.iter().map(message::text).collect();
    assert_eq!(texts, ["hi", "hello"]);

    let target = folder.join("written.db");
    let copy = Embedded::open(&target, Options::default()).unwrap();
    let backend = copy.backend();
    backend
        .checkpoints
        .commit(operations(&checkpoints, &writes), None)
        .await
        .unwrap();
    let now = Timestamp(1_800_000_000_000_000);
    let all = ItemQuery {
        limit: 100,
        ..ItemQuery::default()
    };
    let items = source
        .backend()
        .store
        .search(&Scope::local(), now, &all)
        .await
        .unwrap();
    assert_eq!(items.len(), 3);
    let items = items.into_iter().map(|item| PutItem {
        namespace: item.namespace,
        key: item.key,
        value: item.value,
        ttl_minutes: None,
    });
    backend
        .store
        .put(&Scope::local(), now, items.collect())
        .await
        .unwrap();
    drop((backend, copy));
    let (copied_checkpoints, copied_writes) = raw(&target);
    assert!(copied_checkpoints == checkpoints, "checkpoint rows differ");
    assert_eq!(copied_writes, writes);
    target
}

fn python(script: &str, arguments: &[&Path]) {
    let interpreter = std::env::var_os("AGENTFLOW_TEST_PYTHON").expect(
        "set AGENTFLOW_TEST_PYTHON to a Python with langgraph and langgraph-checkpoint-sqlite",
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

#[tokio::test]
async fn a_golden_file_is_read_and_written_alike() {
    let folder = tempfile::tempdir().unwrap();
    let golden = folder.path().join("golden.db");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN), &golden).unwrap();
    check_file(&golden, folder.path()).await;
}

#[tokio::test]
async fn python_reads_our_file_and_continues_the_thread() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("python.db");
    python("write_golden.py", &[&original]);
    let written = check_file(&original, folder.path()).await;
    python("read_back.py", &[&original, &written]);
}

#[tokio::test]
async fn python_reads_while_the_file_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("python.db");
    python("write_golden.py", &[&original]);
    let path = copy_of(&original, folder.path());
    let open = Embedded::open(&path, Options::default()).unwrap();
    python("read_back.py", &[&original, &path]);
    let query = CheckpointQuery {
        thread_id: Some("waiting".into()),
        ..CheckpointQuery::default()
    };
    let backend = open.backend();
    let found = backend.checkpoints.list(&query);
    let newest = found.await.unwrap().remove(0);
    assert_eq!(newest.metadata["step"], Value::Int(3));
}

#[tokio::test]
async fn a_file_of_an_older_saver_gets_its_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE writes (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '',
            checkpoint_id TEXT NOT NULL, task_id TEXT NOT NULL, idx INTEGER NOT NULL,
            channel TEXT NOT NULL, type TEXT, value BLOB,
            PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx));
        CREATE TABLE checkpoints (thread_id TEXT NOT NULL,
            checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL,
            parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB, metadata BLOB,
            PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id));
        INSERT INTO writes VALUES ('t', '', '1', 'task', 0, 'a', 'msgpack', x'01');
        INSERT INTO checkpoints VALUES ('t', '', '1', NULL, 'json',
            '{\"v\": 1, \"id\": \"1\", \"channel_values\": {\"n\": 1}}', '{\"step\": NaN}');",
    )
    .unwrap();
    drop(old);
    for _ in 0..2 {
        let backend = Embedded::open(&path, Options::default()).unwrap().backend();
        let found = backend
            .checkpoints
            .list(&CheckpointQuery::default())
            .await
            .unwrap();
        assert_eq!(found[0].pending_writes[0].value, Value::Int(1));
        assert_eq!(found[0].checkpoint.channel_values["n"], Value::Int(1));
        assert_eq!(found[0].metadata["step"], Value::Null);
    }
}

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// What Python finds for a delta channel at each checkpoint, we find; and the other way round in
/// an encrypted copy.
#[tokio::test]
async fn delta_channels_and_encryption_are_pythons() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (original, expected, copy) = (at("plain.db"), at("expected.json"), at("secret.db"));
    python("delta_aes.py", &[Path::new("write"), &original, &expected]);
    let expected = std::fs::read(&expected).unwrap();
    let expected: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&expected).unwrap();
    let (checkpoints, writes) = raw(&original);
    let plain = Embedded::open(copy_of(&original, folder.path()), Options::default()).unwrap();
    for (id, want) in &expected {
        let key = CheckpointKey {
            thread_id: "t".into(),
            checkpoint_id: Some(id.clone()),
            ..CheckpointKey::default()
        };
        let ports = plain.backend().checkpoints;
        let found = ports.delta_history(&key, &["log".into()]).await.unwrap();
        let seed = found[0].seed.as_ref().map(|seed| seed.untyped().to_json());
        assert_eq!(seed.unwrap_or_default(), want["seed"], "{id}");
        let writes = found[0].writes.iter();
        let writes: Vec<_> = writes
            .map(|w| serde_json::json!([w.task_id, w.value.to_json()]))
            .collect();
        assert_eq!(serde_json::json!(writes), want["writes"], "{id}");
    }
    assert!(expected.len() > 15);
    let options = Options {
        codec: Codec::encrypted(Cipher::new(KEY).unwrap()),
        ..Options::default()
    };
    let secret = Embedded::open(&copy, options).unwrap().backend();
    let ops = operations(&checkpoints, &writes);
    secret.checkpoints.commit(ops, None).await.unwrap();
    drop(secret);
    python("delta_aes.py", &[Path::new("read"), &original, &copy]);
}

#[test]
fn the_checkpoint_conformance_package_passes() {
    // Test programs live in `deps` beside `examples`; a plain `cargo test` builds the examples.
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
    python("run_conformance.py", &[&saver]);
}
