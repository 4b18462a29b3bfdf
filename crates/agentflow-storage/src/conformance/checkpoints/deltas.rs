//! Delta channels: what a checkpoint leaves to its ancestors.

use agentflow_types::{Map, Result, Str, Value, value};

use super::{
    super::sample::{checkpoint, checkpoint_id, key, put_this, writes},
    list,
};
use crate::{
    Backend,
    checkpoint::{
        CheckpointOp, CheckpointQuery, Prune, Version,
        delta::{COUNTERS, DeltaHistory, read_snapshot, snapshot},
    },
};

/// Checkpoint `n` after `parent`, with these values of the channels `a` and `b`.
fn put(parent: Option<u8>, n: u8, values: Vec<(&str, Value)>) -> CheckpointOp {
    let mut new = checkpoint(n);
    for channel in ["a", "b"] {
        let version = Version::Text(format!("{n:032}.0.5").into());
        new.channel_versions.insert(channel.into(), version);
    }
    new.channel_values = values
        .into_iter()
        .map(|(k, v)| (k.into(), v))
        .collect::<Map>();
    let counters = value!({"a": [1, 1], "b": [1, 1]});
    let metadata = Value::object([(COUNTERS, counters)]);
    put_this("t", "", parent.map(checkpoint_id), new, metadata)
}

fn wrote(n: u8, path: &str, list: Vec<(&str, Value)>) -> CheckpointOp {
    writes("t", n, (path, &format!("task{n}")), list)
}

async fn history(backend: &Backend, n: Option<u8>) -> Result<Vec<(Value, Vec<String>)>> {
    let channels: Vec<Str> = vec!["a".into(), "b".into()];
    let found = backend
        .checkpoints
        .delta_history(&key("t", "", n), &channels)
        .await?;
    let show = |history: DeltaHistory| {
        let seed = history.seed.unwrap_or_default();
        let seed = read_snapshot(&seed).unwrap_or(&seed).clone();
        let writes = history.writes.iter();
        let writes = writes.map(|w| format!("{} {} {}", w.task_id, w.channel, w.value));
        (seed, writes.collect())
    };
    Ok(found.into_iter().map(show).collect())
}

/// Each channel up to the nearest value, snapshot or not; the checkpoint itself does not count.
pub async fn deltas_are_found_along_the_parents(backend: Backend) -> Result<()> {
    assert_eq!(
        history(&backend, None).await?,
        [(Value::Null, vec![]), (Value::Null, vec![])]
    );
    let ops = vec![
        put(None, 1, vec![("b", value!("old"))]),
        wrote(1, "p", vec![("b", value!(1)), ("a", value!(1))]),
        put(Some(1), 2, vec![("a", snapshot(value!("snap")))]),
        wrote(2, "q", vec![("a", value!(22))]),
        writes(
            "t",
            2,
            ("p", "other"),
            vec![("a", value!(21)), ("c", value!(0))],
        ),
        put(Some(2), 3, vec![]),
        wrote(3, "p", vec![("b", value!(3))]),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let a = (
        value!("snap"),
        vec!["other a 21".into(), "task2 a 22".into()],
    );
    let b = (value!("old"), vec!["task1 b 1".into()]);
    assert_eq!(history(&backend, None).await?, [a.clone(), b.clone()]);
    assert_eq!(history(&backend, Some(3)).await?, [a, b.clone()]);
    assert_eq!(
        history(&backend, Some(2)).await?,
        [(Value::Null, vec!["task1 a 1".into()]), b]
    );
    Ok(())
}

/// Parents are followed, not ids.
pub async fn deltas_of_other_branches_do_not_count(backend: Backend) -> Result<()> {
    let ops = vec![
        put(None, 1, vec![]),
        wrote(1, "p", vec![("a", value!(1))]),
        put(Some(1), 2, vec![("a", value!("elsewhere"))]),
        wrote(2, "p", vec![("a", value!(2))]),
        put(Some(1), 3, vec![]),
        wrote(3, "p", vec![("a", value!(3))]),
        put(Some(3), 4, vec![]),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let (seed, writes) = history(&backend, None).await?.swap_remove(0);
    assert_eq!(seed, Value::Null);
    assert_eq!(writes, ["task1 a 1", "task3 a 3"]);
    Ok(())
}

/// The ancestors of the newest checkpoint up to the nearest value of each delta channel stay.
pub async fn pruning_keeps_what_deltas_need(backend: Backend) -> Result<()> {
    let ops = vec![
        put(None, 1, vec![]),
        put(
            Some(1),
            2,
            vec![("a", snapshot(value!("far"))), ("b", value!(2))],
        ),
        wrote(2, "p", vec![("b", value!(2))]),
        put(Some(2), 3, vec![("a", snapshot(value!("near")))]),
        put(Some(3), 4, vec![]),
        wrote(4, "p", vec![("a", value!(4))]),
        put(Some(3), 5, vec![]),
        wrote(5, "p", vec![("a", value!(5))]),
        put(Some(5), 6, vec![]),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let before = history(&backend, None).await?;
    backend
        .checkpoints
        .prune(&["t".into()], Prune::KeepLatest)
        .await?;
    assert_eq!(history(&backend, None).await?, before);
    assert_eq!(before[0], (value!("near"), vec!["task5 a 5".into()]));
    assert_eq!(
        list(&backend, CheckpointQuery::default()).await?,
        ["t  6", "t  5", "t  3", "t  2"]
    );
    Ok(())
}
