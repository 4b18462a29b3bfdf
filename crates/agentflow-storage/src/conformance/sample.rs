//! Example rows for the cases.

use std::sync::Arc;

use agentflow_types::{AssistantId, Map, Result, RunId, Scope, ThreadId, Timestamp, Value, value};
use uuid::Uuid;

use crate::{
    Backend,
    checkpoint::{Checkpoint, CheckpointKey, CheckpointOp, CheckpointTuple, Version},
    event::Event,
    record::{Assistant, Change, Lease, MultitaskStrategy, Run, RunStatus, Thread, ThreadStatus},
};

/// A thread id from a small number; greater numbers sort later.
#[must_use]
pub fn thread_id(n: u8) -> ThreadId {
    ThreadId(Uuid::from_u128(u128::from(n) + (1 << 64)))
}

/// A run id from a small number; greater numbers sort later.
#[must_use]
pub fn run_id(n: u8) -> RunId {
    RunId(Uuid::from_u128(u128::from(n) + (2 << 64)))
}

/// An assistant id from a small number; greater numbers sort later.
#[must_use]
pub fn assistant_id(n: u8) -> AssistantId {
    AssistantId(Uuid::from_u128(u128::from(n) + (3 << 64)))
}

/// Seconds after some start.
#[must_use]
pub fn at(seconds: i64) -> Timestamp {
    Timestamp(1_700_000_000_000_000 + seconds * 1_000_000)
}

/// A map from JSON.
#[must_use]
pub fn map(json: Value) -> Map {
    json.as_map().cloned().unwrap_or_default()
}

/// Another tenant.
#[must_use]
pub fn stranger() -> Scope {
    Scope::new("other.tenant", "mallory")
}

/// A thread without anything special.
#[must_use]
pub fn thread(n: u8) -> Thread {
    Thread {
        thread_id: thread_id(n),
        created_at: at(n.into()),
        updated_at: at(n.into()),
        state_updated_at: at(n.into()),
        metadata: Map::new(),
        config: Map::new(),
        status: ThreadStatus::Idle,
        values: Value::Null,
        interrupts: Default::default(),
        error: Value::Null,
        ttl: None,
    }
}

/// A pending run of a thread, due at `n` seconds.
#[must_use]
pub fn run(thread: u8, n: u8) -> Run {
    Run {
        run_id: run_id(n),
        thread_id: thread_id(thread),
        assistant_id: assistant_id(1),
        created_at: at(n.into()),
        updated_at: at(n.into()),
        status: RunStatus::Pending,
        metadata: map(value!({"n": 1, "ratio": 1.0})),
        kwargs: map(value!({"input": {"x": [1, 2.0, null]}})),
        multitask_strategy: MultitaskStrategy::Enqueue,
        attempt: 0,
        cancel: None,
        lease: None,
        error: Value::Null,
        temporary_thread: false,
    }
}

/// The run with a lease that ends at `until`.
#[must_use]
pub fn leased(run: Run, token: i64, until: Timestamp) -> Run {
    let lease = Lease {
        worker: "w".into(),
        token,
        expires_at: until,
    };
    Run {
        status: RunStatus::Running,
        attempt: 1,
        lease: Some(lease),
        ..run
    }
}

/// An assistant of graph `g`.
#[must_use]
pub fn assistant(n: u8) -> Assistant {
    Assistant {
        assistant_id: assistant_id(n),
        graph_id: "g".into(),
        version: 1,
        name: format!("Name {n}"),
        description: None,
        config: map(value!({"tags": ["a"], "recursion_limit": 5})),
        context: Map::new(),
        metadata: Map::new(),
        created_at: at(n.into()),
        updated_at: at(n.into()),
    }
}

/// An event of a run.
#[must_use]
pub fn event(seq: u64, run: u8) -> Event {
    Event {
        seq,
        run_id: run_id(run),
        at: at(0),
        kind: "values".into(),
        ns: vec!["a:1".into()],
        data: Arc::from(r#"{"x":1}"#),
    }
}

/// Applies changes to a thread, whatever its state.
///
/// # Errors
/// What the backend returns.
pub async fn change(
    backend: &Backend,
    scope: &Scope,
    thread: u8,
    changes: Vec<Change>,
) -> Result<()> {
    backend
        .threads
        .decide(scope, thread_id(thread), Box::new(move |_| Ok(changes)))
        .await
}

/// Stores a thread and runs of the local scope.
///
/// # Errors
/// What the backend returns.
pub async fn seed(backend: &Backend, thread: Thread, runs: Vec<Run>) -> Result<()> {
    let id = thread.thread_id;
    let mut changes = vec![Change::PutThread(Box::new(thread))];
    changes.extend(runs.into_iter().map(|run| Change::PutRun(Box::new(run))));
    backend
        .threads
        .decide(&Scope::local(), id, Box::new(move |_| Ok(changes)))
        .await
}

/// A checkpoint whose id ends with `n`; greater numbers are newer.
#[must_use]
pub fn checkpoint(n: u8) -> Checkpoint {
    let version = Version::Text(format!("{n:032}.0.5").into());
    Checkpoint {
        v: 4,
        ts: at(n.into()).to_string(),
        id: checkpoint_id(n),
        channel_values: map(value!({"n": n, "list": [1, "two"]})),
        channel_versions: [("n".into(), version.clone())].into_iter().collect(),
        versions_seen: [
            ("__input__".into(), Default::default()),
            ("node".into(), [("n".into(), version)].into_iter().collect()),
        ]
        .into_iter()
        .collect(),
        updated_channels: Some(vec!["n".into()]),
        extra: Map::new(),
    }
}

/// The id of [`checkpoint`].
#[must_use]
pub fn checkpoint_id(n: u8) -> String {
    format!("1f1e7130-88a5-6b85-8001-0cdec61100{n:02x}")
}

/// Where a checkpoint of [`checkpoint`] is; the newest one for `None`.
#[must_use]
pub fn key(thread: &str, ns: &str, n: Option<u8>) -> CheckpointKey {
    CheckpointKey {
        thread_id: thread.into(),
        checkpoint_ns: ns.into(),
        checkpoint_id: n.map(checkpoint_id),
    }
}

/// A put of a checkpoint with metadata, child of the one before if `n` is above 1.
#[must_use]
pub fn put(thread: &str, ns: &str, n: u8, metadata: Value) -> CheckpointOp {
    put_this(
        thread,
        ns,
        (n > 1).then(|| checkpoint_id(n - 1)),
        checkpoint(n),
        metadata,
    )
}

/// A put of this checkpoint.
#[must_use]
pub fn put_this(
    thread: &str,
    ns: &str,
    parent_id: Option<String>,
    checkpoint: Checkpoint,
    metadata: Value,
) -> CheckpointOp {
    CheckpointOp::Put {
        thread_id: thread.into(),
        checkpoint_ns: ns.into(),
        parent_id,
        new_versions: checkpoint.channel_values.keys().cloned().collect(),
        checkpoint,
        metadata: map(metadata),
    }
}

/// Writes of a task under checkpoint `n`.
#[must_use]
pub fn writes(thread: &str, n: u8, task: (&str, &str), list: Vec<(&str, Value)>) -> CheckpointOp {
    CheckpointOp::Writes {
        thread_id: thread.into(),
        checkpoint_ns: String::new(),
        checkpoint_id: checkpoint_id(n),
        task_path: task.0.into(),
        task_id: task.1.into(),
        writes: list
            .into_iter()
            .map(|(channel, value)| (channel.into(), value))
            .collect(),
    }
}

/// What is pending, as `task channel value` lines.
#[must_use]
pub fn pending(tuple: Option<&CheckpointTuple>) -> Vec<String> {
    let writes = tuple
        .map(|tuple| tuple.pending_writes.as_slice())
        .unwrap_or_default();
    writes
        .iter()
        .map(|w| format!("{} {} {}", w.task_id, w.channel, w.value))
        .collect()
}
