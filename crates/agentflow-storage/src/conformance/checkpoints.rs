//! Cases of [`crate::checkpoint::Checkpoints`].

use std::sync::Arc;

use agentflow_types::{ErrorKind::Conflict, Map, Result, Scope, Typed, Value, message, value};

use super::{
    refused,
    sample::{
        at, change, checkpoint, checkpoint_id, key, leased, map, pending, put, put_this, run,
        run_id, seed, thread, writes,
    },
    suite,
};
use crate::{
    Backend,
    checkpoint::{
        Checkpoint, CheckpointOp, CheckpointQuery, CheckpointTuple, Fence, Prune, Version, special,
    },
    record::Change,
};

suite! {
    ($)
    /// Instantiates the cases of the checkpoints port.
    checkpoint_conformance:
    nothing_is_there_at_first,
    what_is_put_is_read_back,
    values_keep_their_types,
    versions_keep_their_types,
    unknown_keys_are_kept,
    a_put_replaces,
    the_newest_has_the_greatest_id,
    namespaces_are_apart,
    slots_are_special_or_positions,
    the_first_write_to_a_slot_wins,
    special_writes_replace,
    mixed_writes_do_not_replace,
    writes_sort_by_path_task_and_slot,
    writes_need_no_checkpoint,
    list_is_newest_first,
    list_conditions_hold_together,
    list_compares_metadata_entries,
    a_fence_must_hold,
    a_commit_is_all_or_nothing,
    an_empty_commit_is_fine,
    a_thread_is_deleted_whole,
    a_copy_is_independent,
    runs_take_their_checkpoints_along,
    pruning_keeps_the_newest_of_each_namespace,
    pruning_can_remove_all,
    large_values_are_kept,
    sends_of_old_checkpoints_come_from_the_parent,
}

async fn list(backend: &Backend, query: CheckpointQuery) -> Result<Vec<String>> {
    let found = backend.checkpoints.list(&query).await?;
    let name = |tuple: CheckpointTuple| {
        let id = tuple.key.checkpoint_id.unwrap_or_default();
        format!(
            "{} {} {}",
            tuple.key.thread_id,
            tuple.key.checkpoint_ns,
            &id[id.len() - 1..]
        )
    };
    Ok(found.into_iter().map(name).collect())
}

async fn get(backend: &Backend, thread: &str, n: Option<u8>) -> Result<Option<CheckpointTuple>> {
    backend.checkpoints.get(&key(thread, "", n)).await
}

/// Reading what was never written.
pub async fn nothing_is_there_at_first(backend: Backend) -> Result<()> {
    assert_eq!(get(&backend, "t", None).await?, None);
    assert_eq!(get(&backend, "t", Some(1)).await?, None);
    assert!(
        backend
            .checkpoints
            .list(&CheckpointQuery::default())
            .await?
            .is_empty()
    );
    backend.checkpoints.delete_thread("t").await?;
    backend.checkpoints.copy_thread("t", "u").await?;
    backend.checkpoints.delete_for_runs(&["r".into()]).await?;
    backend
        .checkpoints
        .prune(&["t".into()], Prune::KeepLatest)
        .await
}

/// Every field comes back.
pub async fn what_is_put_is_read_back(backend: Backend) -> Result<()> {
    let metadata = value!({"source": "loop", "step": 1, "parents": {"": "x"}, "ü": [1, 1.0]});
    backend
        .checkpoints
        .commit(vec![put("t", "ns", 2, metadata.clone())], None)
        .await?;
    let expected = CheckpointTuple {
        key: key("t", "ns", Some(2)),
        checkpoint: checkpoint(2),
        metadata: map(metadata),
        parent_id: Some(checkpoint_id(1)),
        pending_writes: Vec::new(),
    };
    let by_id = backend.checkpoints.get(&key("t", "ns", Some(2))).await?;
    assert_eq!(by_id.as_ref(), Some(&expected));
    assert_eq!(
        backend.checkpoints.get(&key("t", "ns", None)).await?,
        Some(expected.clone())
    );
    assert_eq!(
        backend
            .checkpoints
            .list(&CheckpointQuery::default())
            .await?,
        [expected]
    );
    let first = Checkpoint {
        updated_channels: None,
        ..checkpoint(1)
    };
    let op = put_this("t", "", None, first.clone(), value!({}));
    backend.checkpoints.commit(vec![op], None).await?;
    let read = get(&backend, "t", None).await?;
    assert_eq!(read.as_ref().map(|tuple| &tuple.checkpoint), Some(&first));
    assert_eq!(read.and_then(|tuple| tuple.parent_id), None);
    Ok(())
}

fn all_kinds() -> Map {
    let typed = Typed {
        code: 0,
        module: "decimal".into(),
        name: "Decimal".into(),
        value: "1.5".into(),
        method: None,
    };
    let mut values = map(value!({
        "null": null, "true": true, "int": 1, "float": 1.0, "negative": -5, "small": 1e-300,
        "min": i64::MIN, "max": i64::MAX, "huge": u64::MAX, "text": "ä\u{1F600}\0\n", "empty": "",
        "list": [], "map": {}, "nested": {"a": [{"b": [null]}]},
    }));
    values.insert("bytes".into(), Value::Bytes([0, 255, 10].as_slice().into()));
    values.insert("no bytes".into(), Value::Bytes([].as_slice().into()));
    values.insert("ext".into(), Value::Ext(42, [1, 2, 3].as_slice().into()));
    values.insert("typed".into(), Value::Typed(Arc::new(typed)));
    values.insert(
        "message".into(),
        message::with_id(&message::human("hi"), "m1"),
    );
    let pairs = vec![
        (Value::Int(1), "one".into()),
        ("two".into(), Value::Float(2.0)),
    ];
    values.insert("pairs".into(), Value::Pairs(Arc::new(pairs)));
    values
}

/// Numbers, bytes, extensions and typed values survive in channels and in writes.
pub async fn values_keep_their_types(backend: Backend) -> Result<()> {
    let values = all_kinds();
    let stored = Checkpoint {
        channel_values: values.clone(),
        ..checkpoint(1)
    };
    let list: Vec<(&str, Value)> = values.iter().map(|(k, v)| (&**k, v.clone())).collect();
    let ops = vec![
        put_this("t", "", None, stored.clone(), value!({})),
        writes("t", 1, ("", "task"), list),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    assert_eq!(tuple.as_ref().map(|t| &t.checkpoint), Some(&stored));
    let pending = tuple.map(|t| t.pending_writes).unwrap_or_default();
    let written: Map = pending.into_iter().map(|w| (w.channel, w.value)).collect();
    assert_eq!(written, values);
    Ok(())
}

/// Versions are text, integers or floats.
pub async fn versions_keep_their_types(backend: Backend) -> Result<()> {
    let kinds = [
        Version::Text("1.0".into()),
        Version::Int(1),
        Version::Float(1.0),
    ];
    let names = ["text", "int", "float"].map(Into::into);
    let versions: indexmap::IndexMap<_, _> = names.into_iter().zip(kinds).collect();
    let stored = Checkpoint {
        channel_versions: versions.clone(),
        versions_seen: [("node".into(), versions)].into_iter().collect(),
        ..checkpoint(1)
    };
    let op = put_this("t", "", None, stored.clone(), value!({}));
    backend.checkpoints.commit(vec![op], None).await?;
    assert_eq!(
        get(&backend, "t", None).await?.map(|t| t.checkpoint),
        Some(stored)
    );
    Ok(())
}

/// A key of a newer format is not lost.
pub async fn unknown_keys_are_kept(backend: Backend) -> Result<()> {
    let stored = Checkpoint {
        extra: map(value!({"new": {"a": 1}})),
        ..checkpoint(1)
    };
    let op = put_this("t", "", None, stored.clone(), value!({}));
    backend.checkpoints.commit(vec![op], None).await?;
    assert_eq!(
        get(&backend, "t", None).await?.map(|t| t.checkpoint),
        Some(stored)
    );
    Ok(())
}

/// The second put with a key wins whole; writes stay.
pub async fn a_put_replaces(backend: Backend) -> Result<()> {
    let changed = Checkpoint {
        channel_values: map(value!({"other": 1})),
        ..checkpoint(1)
    };
    let ops = vec![
        put("t", "", 1, value!({"a": 1, "b": 1})),
        writes("t", 1, ("", "task"), vec![("x", value!(1))]),
        put_this("t", "", None, changed.clone(), value!({"a": 2})),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    assert_eq!(pending(tuple.as_ref()), ["task x 1"]);
    assert_eq!(tuple.as_ref().map(|t| &t.checkpoint), Some(&changed));
    assert_eq!(tuple.map(|t| t.metadata), Some(map(value!({"a": 2}))));
    Ok(())
}

/// Not the one that was written last.
pub async fn the_newest_has_the_greatest_id(backend: Backend) -> Result<()> {
    for n in [2, 9, 1] {
        backend
            .checkpoints
            .commit(vec![put("t", "", n, value!({}))], None)
            .await?;
    }
    let newest = get(&backend, "t", None).await?;
    assert_eq!(newest.map(|t| t.checkpoint.id), Some(checkpoint_id(9)));
    Ok(())
}

/// The same id may exist in several namespaces and threads.
pub async fn namespaces_are_apart(backend: Backend) -> Result<()> {
    for (thread, ns, n) in [("t", "", 1), ("t", "a", 2), ("t", "a|b:1", 2), ("u", "", 3)] {
        backend
            .checkpoints
            .commit(vec![put(thread, ns, n, value!({"at": ns}))], None)
            .await?;
    }
    for (thread, ns, n) in [("t", "", 1), ("t", "a", 2), ("t", "a|b:1", 2), ("u", "", 3)] {
        let tuple = backend.checkpoints.get(&key(thread, ns, None)).await?;
        assert_eq!(tuple.map(|t| t.key), Some(key(thread, ns, Some(n))));
    }
    assert_eq!(backend.checkpoints.get(&key("t", "", Some(2))).await?, None);
    assert_eq!(backend.checkpoints.get(&key("t", "a|b", None)).await?, None);
    Ok(())
}

/// A resume value in the first place has its own slot, yet takes the position.
pub async fn slots_are_special_or_positions(backend: Backend) -> Result<()> {
    let first = vec![
        (special::RESUME, value!("yes")),
        ("a", value!(1)),
        ("b", value!(2)),
    ];
    let second = vec![("c", value!(3)), ("d", value!(4))];
    let ops = vec![
        put("t", "", 1, value!({})),
        writes("t", 1, ("", "task"), first),
        writes("t", 1, ("", "task"), second),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    let expected = [
        "task __resume__ \"yes\"",
        "task c 3",
        "task a 1",
        "task b 2",
    ];
    assert_eq!(pending(tuple.as_ref()), expected);
    Ok(())
}

/// Ordinary writes never change.
pub async fn the_first_write_to_a_slot_wins(backend: Backend) -> Result<()> {
    let ops = vec![
        put("t", "", 1, value!({})),
        writes("t", 1, ("p", "task"), vec![("a", value!(1))]),
        writes(
            "t",
            1,
            ("p", "task"),
            vec![("b", value!(2)), ("c", Value::Null)],
        ),
        writes("t", 1, ("p", "other"), vec![("a", value!(3))]),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    assert_eq!(
        pending(tuple.as_ref()),
        ["other a 3", "task a 1", "task c null"]
    );
    Ok(())
}

/// Errors, interrupts and answers hold their last value.
pub async fn special_writes_replace(backend: Backend) -> Result<()> {
    let mut ops = vec![put("t", "", 1, value!({}))];
    for n in 1..=2 {
        for channel in [
            special::ERROR,
            special::SCHEDULED,
            special::INTERRUPT,
            special::RESUME,
        ] {
            ops.push(writes("t", 1, ("", "task"), vec![(channel, value!(n))]));
        }
    }
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    let expected = [
        "task __resume__ 2",
        "task __interrupt__ 2",
        "task __scheduled__ 2",
        "task __error__ 2",
    ];
    assert_eq!(pending(tuple.as_ref()), expected);
    Ok(())
}

/// With one ordinary channel in the list, special ones do not replace either.
pub async fn mixed_writes_do_not_replace(backend: Backend) -> Result<()> {
    let ops = vec![
        put("t", "", 1, value!({})),
        writes("t", 1, ("", "task"), vec![(special::RESUME, value!(1))]),
        writes(
            "t",
            1,
            ("", "task"),
            vec![(special::RESUME, value!(2)), ("a", value!(3))],
        ),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    assert_eq!(pending(tuple.as_ref()), ["task __resume__ 1", "task a 3"]);
    Ok(())
}

/// The order in which reducers see them.
pub async fn writes_sort_by_path_task_and_slot(backend: Backend) -> Result<()> {
    let list = |n: u8| vec![("x", value!(n)), ("y", value!(n))];
    let ops = vec![
        put("t", "", 1, value!({})),
        writes("t", 1, ("~b", "1"), list(1)),
        writes("t", 1, ("~a", "3"), list(2)),
        writes("t", 1, ("~a", "2"), list(3)),
        writes("t", 1, ("", "9"), list(4)),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    let expected = [
        "9 x 4", "9 y 4", "2 x 3", "2 y 3", "3 x 2", "3 y 2", "1 x 1", "1 y 1",
    ];
    assert_eq!(pending(tuple.as_ref()), expected);
    Ok(())
}

/// With `async` durability a task may end before its checkpoint is stored.
pub async fn writes_need_no_checkpoint(backend: Backend) -> Result<()> {
    let early = writes("t", 1, ("", "task"), vec![("a", value!(1))]);
    backend.checkpoints.commit(vec![early], None).await?;
    assert_eq!(get(&backend, "t", None).await?, None);
    backend
        .checkpoints
        .commit(vec![put("t", "", 1, value!({}))], None)
        .await?;
    assert_eq!(
        pending(get(&backend, "t", None).await?.as_ref()),
        ["task a 1"]
    );
    Ok(())
}

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

/// Only the worker that holds the lease may write.
pub async fn a_fence_must_hold(backend: Backend) -> Result<()> {
    let fence = |token| {
        Some(Fence {
            run_id: run_id(1),
            token,
        })
    };
    let op = || vec![put("t", "", 1, value!({}))];
    let commit = |token| backend.checkpoints.commit(op(), fence(token));
    refused(commit(1).await, Conflict);
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    refused(commit(1).await, Conflict);
    let held = Change::PutRun(Box::new(leased(run(1, 1), 2, at(60))));
    change(&backend, &Scope::local(), 1, vec![held]).await?;
    refused(commit(1).await, Conflict);
    assert_eq!(get(&backend, "t", None).await?, None);
    commit(2).await?;
    assert!(get(&backend, "t", None).await?.is_some());
    let ended = crate::record::Run {
        status: crate::record::RunStatus::Success,
        ..leased(run(1, 1), 2, at(60))
    };
    change(
        &backend,
        &Scope::local(),
        1,
        vec![Change::PutRun(Box::new(ended))],
    )
    .await?;
    refused(commit(2).await, Conflict);
    Ok(())
}

/// A refused commit leaves nothing of any of its writes.
pub async fn a_commit_is_all_or_nothing(backend: Backend) -> Result<()> {
    let deep = (0..=crate::msgpack::MAX_DEPTH).fold(Value::Null, |v, _| Value::list(vec![v]));
    let ops = vec![
        put("t", "", 1, value!({})),
        writes("t", 1, ("", "task"), vec![("a", value!(1))]),
        put("t", "", 2, value!({})),
    ];
    let fence = Fence {
        run_id: run_id(9),
        token: 1,
    };
    refused(
        backend.checkpoints.commit(ops.clone(), Some(fence)).await,
        Conflict,
    );
    let too_deep = writes("t", 1, ("", "task"), vec![("deep", deep)]);
    let with_deep: Vec<CheckpointOp> = ops.into_iter().chain([too_deep]).collect();
    refused(
        backend.checkpoints.commit(with_deep, None).await,
        agentflow_types::ErrorKind::Invalid,
    );
    assert!(
        backend
            .checkpoints
            .list(&CheckpointQuery::default())
            .await?
            .is_empty()
    );
    backend
        .checkpoints
        .commit(vec![put("t", "", 1, value!({}))], None)
        .await?;
    assert!(pending(get(&backend, "t", None).await?.as_ref()).is_empty());
    Ok(())
}

/// No writes at all.
pub async fn an_empty_commit_is_fine(backend: Backend) -> Result<()> {
    backend.checkpoints.commit(Vec::new(), None).await?;
    let none = writes("t", 1, ("", "task"), Vec::new());
    backend.checkpoints.commit(vec![none], None).await
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

/// Five megabytes in a channel and in a write.
pub async fn large_values_are_kept(backend: Backend) -> Result<()> {
    let text = Value::from("ä".repeat(5 << 19));
    let bytes = Value::Bytes(vec![7; 5 << 20].into());
    let mut stored = checkpoint(1);
    stored.channel_values.insert("text".into(), text.clone());
    let ops = vec![
        put_this("t", "", None, stored, value!({})),
        writes("t", 1, ("", "task"), vec![("bytes", bytes.clone())]),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    let read = tuple
        .as_ref()
        .and_then(|t| t.checkpoint.channel_values.get("text"));
    assert!(read == Some(&text), "the text differs");
    let written = tuple
        .as_ref()
        .and_then(|t| t.pending_writes.first())
        .map(|w| &w.value);
    assert!(written == Some(&bytes), "the bytes differ");
    Ok(())
}

/// Formats before 4 kept scheduled sends as writes of the parent.
pub async fn sends_of_old_checkpoints_come_from_the_parent(backend: Backend) -> Result<()> {
    let old = |n| Checkpoint {
        v: 3,
        ..checkpoint(n)
    };
    let ops = vec![
        put_this("t", "", None, old(1), value!({})),
        put_this("t", "", Some(checkpoint_id(1)), old(2), value!({})),
        writes(
            "t",
            1,
            ("b", "1"),
            vec![("__pregel_tasks", value!("second"))],
        ),
        writes(
            "t",
            1,
            ("a", "2"),
            vec![("x", value!(0)), ("__pregel_tasks", value!("first"))],
        ),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let child = get(&backend, "t", Some(2))
        .await?
        .map(|t| t.checkpoint)
        .unwrap_or_default();
    assert_eq!(
        child.channel_values.get("__pregel_tasks"),
        Some(&value!(["first", "second"]))
    );
    assert_eq!(
        child.channel_versions.get("__pregel_tasks"),
        child.channel_versions.get("n")
    );
    let parent = get(&backend, "t", Some(1)).await?.map(|t| t.checkpoint);
    assert_eq!(parent, Some(old(1)));
    Ok(())
}
