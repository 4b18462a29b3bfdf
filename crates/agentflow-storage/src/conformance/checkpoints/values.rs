//! What is put is what is read.

use std::sync::Arc;

use agentflow_types::{Map, Result, Typed, Value, message, value};

use super::{
    super::sample::{checkpoint, checkpoint_id, key, map, pending, put, put_this, writes},
    get,
};
use crate::{
    Backend,
    checkpoint::{Checkpoint, CheckpointQuery, CheckpointTuple, Prune, Version},
};

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
