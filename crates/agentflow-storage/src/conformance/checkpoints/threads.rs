//! Lists, and what happens to whole threads and runs.

use agentflow_types::{Error, Result, Value, value};

use super::{
    super::sample::{checkpoint, checkpoint_id, key, map, pending, put, put_this, writes},
    get, list,
};
use crate::{
    Backend,
    checkpoint::{CheckpointQuery, CheckpointTuple, Prune, usage::Usage},
};

/// Over all threads and namespaces if none is named.
pub async fn list_is_newest_first(backend: Backend) -> Result<()> {
    for (thread, ns, n) in [("u", "", 1), ("t", "", 3), ("t", "a", 2), ("t", "", 4)] {
        backend
            .checkpoints
            .commit(vec![put(thread, ns, n, value!({}))], None)
            .await?;
    }
    let all = list(&backend, CheckpointQuery::default()).await?;
    assert_eq!(all, ["t  4", "t  3", "t a 2", "u  1"]);
    let limit = CheckpointQuery {
        limit: Some(2),
        ..Default::default()
    };
    assert_eq!(list(&backend, limit).await?, ["t  4", "t  3"]);
    Ok(())
}

/// Thread, namespace, id, before and limit.
pub async fn list_conditions_hold_together(backend: Backend) -> Result<()> {
    for (thread, ns, n) in [
        ("t", "", 1),
        ("t", "a", 2),
        ("t", "", 3),
        ("u", "", 4),
        ("t", "", 5),
    ] {
        backend
            .checkpoints
            .commit(vec![put(thread, ns, n, value!({}))], None)
            .await?;
    }
    let of_thread = CheckpointQuery {
        thread_id: Some("t".into()),
        ..Default::default()
    };
    assert_eq!(
        list(&backend, of_thread.clone()).await?,
        ["t  5", "t  3", "t a 2", "t  1"]
    );
    let root = CheckpointQuery {
        checkpoint_ns: Some(String::new()),
        ..of_thread.clone()
    };
    assert_eq!(
        list(&backend, root.clone()).await?,
        ["t  5", "t  3", "t  1"]
    );
    let before = CheckpointQuery {
        before: Some(checkpoint_id(5)),
        limit: Some(1),
        ..root.clone()
    };
    assert_eq!(list(&backend, before).await?, ["t  3"]);
    let one = CheckpointQuery {
        checkpoint_id: Some(checkpoint_id(1)),
        ..root
    };
    assert_eq!(list(&backend, one).await?, ["t  1"]);
    let other = CheckpointQuery {
        checkpoint_id: Some(checkpoint_id(4)),
        ..of_thread
    };
    assert!(list(&backend, other).await?.is_empty());
    Ok(())
}

/// Each entry equal; numbers by amount; absent is not null.
pub async fn list_compares_metadata_entries(backend: Backend) -> Result<()> {
    let metadata = [
        value!({"source": "loop", "step": 1, "nested": {"a": 1, "b": 2}}),
        value!({"source": "loop", "step": true, "none": null}),
        value!({"source": "input", "step": 1.0, "list": [1, 2]}),
    ];
    for (n, metadata) in (1..).zip(metadata) {
        backend
            .checkpoints
            .commit(vec![put("t", "", n, metadata)], None)
            .await?;
    }
    for (filter, expected) in [
        (value!({"source": "loop"}), vec!["t  2", "t  1"]),
        (value!({"step": 1}), vec!["t  3", "t  1"]),
        (value!({"step": true}), vec!["t  2"]),
        (value!({"source": "loop", "step": 1}), vec!["t  1"]),
        (value!({"nested": {"b": 2, "a": 1}}), vec!["t  1"]),
        (value!({"nested": {"a": 1}}), vec![]),
        (value!({"none": null}), vec!["t  2"]),
        (value!({"list": [1, 2]}), vec!["t  3"]),
        (value!({"absent": "x"}), vec![]),
    ] {
        let query = CheckpointQuery {
            metadata: map(filter.clone()),
            ..Default::default()
        };
        assert_eq!(list(&backend, query).await?, expected, "{filter}");
    }
    let first = map(value!({"source": "loop"}));
    let query = CheckpointQuery {
        metadata: first,
        limit: Some(1),
        ..Default::default()
    };
    assert_eq!(list(&backend, query).await?, ["t  2"]);
    Ok(())
}

/// Not one whose id begins alike.
pub async fn a_thread_is_deleted_whole(backend: Backend) -> Result<()> {
    for thread in ["t", "t2"] {
        let ops = vec![
            put(thread, "", 1, value!({})),
            put(thread, "a", 1, value!({})),
            writes(thread, 1, ("", "task"), vec![("a", value!(1))]),
        ];
        backend.checkpoints.commit(ops, None).await?;
    }
    backend.checkpoints.delete_thread("t").await?;
    assert_eq!(
        list(&backend, CheckpointQuery::default()).await?,
        ["t2  1", "t2 a 1"]
    );
    backend
        .checkpoints
        .commit(vec![put("t", "", 1, value!({}))], None)
        .await?;
    assert!(pending(get(&backend, "t", None).await?.as_ref()).is_empty());
    Ok(())
}

/// The copy has all checkpoints and writes, and a life of its own.
pub async fn a_copy_is_independent(backend: Backend) -> Result<()> {
    let ops = vec![
        put("t", "", 1, value!({"a": 1})),
        put("t", "ns", 2, value!({})),
        writes(
            "t",
            1,
            ("p", "task"),
            vec![("a", Value::Null), ("b", value!(2))],
        ),
    ];
    backend.checkpoints.commit(ops, None).await?;
    backend.checkpoints.copy_thread("t", "u").await?;
    let (source, copy) = (
        get(&backend, "t", None).await?,
        get(&backend, "u", None).await?,
    );
    let moved = source.map(|source| CheckpointTuple {
        key: key("u", "", Some(1)),
        ..source
    });
    assert!(copy.is_some());
    assert_eq!(copy, moved);
    backend.checkpoints.delete_thread("t").await?;
    assert_eq!(
        list(&backend, CheckpointQuery::default()).await?,
        ["u ns 2", "u  1"]
    );
    assert_eq!(get(&backend, "u", None).await?, copy);
    Ok(())
}

/// In every thread and namespace.
pub async fn runs_take_their_checkpoints_along(backend: Backend) -> Result<()> {
    for (thread, ns, n, run) in [
        ("t", "", 1, "r1"),
        ("t", "a", 2, "r2"),
        ("u", "", 3, "r1"),
        ("u", "", 4, "r3"),
    ] {
        let ops = vec![
            put(thread, ns, n, value!({"run_id": run})),
            writes(thread, n, ("", "task"), vec![("a", value!(1))]),
        ];
        backend.checkpoints.commit(ops, None).await?;
    }
    backend
        .checkpoints
        .commit(vec![put("v", "", 5, value!({}))], None)
        .await?;
    backend.checkpoints.delete_for_runs(&[]).await?;
    backend
        .checkpoints
        .delete_for_runs(&["r1".into(), "r3".into(), "none".into()])
        .await?;
    assert_eq!(
        list(&backend, CheckpointQuery::default()).await?,
        ["v  5", "t a 2"]
    );
    backend
        .checkpoints
        .commit(vec![put("t", "", 1, value!({}))], None)
        .await?;
    assert!(pending(get(&backend, "t", None).await?.as_ref()).is_empty());
    Ok(())
}

/// Only of the named threads; the writes of what stays are kept.
pub async fn pruning_keeps_the_newest_of_each_namespace(backend: Backend) -> Result<()> {
    for (thread, ns, n) in [
        ("t", "", 1),
        ("t", "", 3),
        ("t", "a", 2),
        ("t", "a", 4),
        ("u", "", 5),
        ("u", "", 6),
    ] {
        let ops = vec![
            put(thread, ns, n, value!({})),
            writes(thread, n, ("", "task"), vec![("a", value!(n))]),
        ];
        backend.checkpoints.commit(ops, None).await?;
    }
    backend
        .checkpoints
        .prune(&["t".into()], Prune::KeepLatest)
        .await?;
    assert_eq!(
        list(&backend, CheckpointQuery::default()).await?,
        ["u  6", "u  5", "t a 4", "t  3"]
    );
    assert_eq!(
        pending(get(&backend, "t", None).await?.as_ref()),
        ["task a 3"]
    );
    Ok(())
}

/// `Delete` forgets the threads.
pub async fn pruning_can_remove_all(backend: Backend) -> Result<()> {
    for thread in ["t", "u", "v"] {
        backend
            .checkpoints
            .commit(vec![put(thread, "", 1, value!({}))], None)
            .await?;
    }
    backend
        .checkpoints
        .prune(&["t".into(), "u".into()], Prune::Delete)
        .await?;
    assert_eq!(list(&backend, CheckpointQuery::default()).await?, ["v  1"]);
    Ok(())
}

/// By kind and channel, of this thread alone.
pub async fn what_a_thread_takes_is_told(backend: Backend) -> Result<()> {
    const LARGE: usize = 50_000;
    let checkpoints = &backend.checkpoints;
    let usage = async |thread: &str| -> Result<Usage> {
        let told = checkpoints.usage(thread).await?;
        told.ok_or_else(|| Error::bug("this backend measures"))
    };
    assert_eq!(usage("t").await?, Usage::default());
    let mut large = checkpoint(2);
    let text = Value::str("x".repeat(LARGE));
    large.channel_values.insert("large".into(), text.clone());
    let version = large.channel_versions["n"].clone();
    large.channel_versions.insert("large".into(), version);
    let ops = vec![
        put("t", "", 1, value!({})),
        put_this("t", "sub:1", None, large, value!({"source": "loop"})),
        writes("t", 1, ("", "task"), vec![("a", 1.into()), ("b", text)]),
        put("other", "", 3, value!({})),
    ];
    checkpoints.commit(ops, None).await?;

    let found = usage("t").await?;
    let names: Vec<&str> = found.channels.keys().map(String::as_str).collect();
    assert_eq!(names, ["large", "list", "n"]);
    assert_eq!((found.checkpoints.count, found.writes.count), (2, 2));
    assert_eq!(
        (found.channels["large"].count, found.channels["n"].count),
        (1, 2)
    );
    let about = |bytes: u64| (LARGE as u64..LARGE as u64 + 200).contains(&bytes);
    assert!(about(found.channels["large"].bytes), "{found:?}");
    assert!(about(found.writes.bytes), "{found:?}");
    assert!((100..5_000).contains(&found.checkpoints.bytes), "{found:?}");
    let sum = found.checkpoints.bytes + found.values().bytes + found.writes.bytes;
    assert_eq!(found.bytes(), sum);

    assert_eq!(usage("other").await?.checkpoints.count, 1);
    checkpoints.delete_thread("t").await?;
    assert_eq!(usage("t").await?, Usage::default());
    Ok(())
}
