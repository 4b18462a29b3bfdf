//! Cases of [`crate::cache::Cache`].

use std::time::Duration;

use agentflow_types::{ErrorKind::Invalid, Result};

use super::{refused, sample::at, suite};
use crate::{
    Backend,
    cache::{CacheKey, MAX_KEY_BYTES, MAX_LABELS, MAX_VALUE_BYTES},
};

suite! {
    ($)
    /// Instantiates the cases of the cache port.
    cache_conformance:
    a_value_is_read_back,
    a_put_takes_the_place_of_the_last,
    an_entry_ends_with_its_time,
    a_deleted_entry_is_gone,
    entries_are_apart,
    clearing_reaches_namespaces_below,
    clearing_all_leaves_nothing,
    what_is_put_after_a_clear_stays,
    large_values_are_refused,
    long_keys_are_refused,
    sweeping_leaves_what_is_young,
}

fn key(namespace: &[&str], key: &str) -> CacheKey {
    CacheKey {
        namespace: labels(namespace),
        key: key.into(),
    }
}

fn labels(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|&label| label.to_owned()).collect()
}

async fn put(backend: &Backend, key: &CacheKey, value: &[u8]) -> Result<()> {
    backend.cache.put(key, value.to_vec(), None, at(0)).await
}

async fn get(backend: &Backend, key: &CacheKey) -> Result<Option<Vec<u8>>> {
    backend.cache.get(key, at(0)).await
}

/// Any bytes, also none.
pub async fn a_value_is_read_back(backend: Backend) -> Result<()> {
    let all: Vec<u8> = (0..=255).collect();
    for (name, value) in [("all", all.as_slice()), ("none", &[]), ("nul", &[0])] {
        let key = key(&["g", "n"], name);
        put(&backend, &key, value).await?;
        assert_eq!(get(&backend, &key).await?.as_deref(), Some(value), "{name}");
    }
    assert_eq!(get(&backend, &key(&["g", "n"], "other")).await?, None);
    Ok(())
}

/// Also its time.
pub async fn a_put_takes_the_place_of_the_last(backend: Backend) -> Result<()> {
    let key = key(&["g"], "k");
    let minute = Some(Duration::from_secs(60));
    backend.cache.put(&key, vec![1], minute, at(0)).await?;
    put(&backend, &key, &[2]).await?;
    assert_eq!(backend.cache.get(&key, at(90)).await?, Some(vec![2]));
    backend.cache.put(&key, vec![3], minute, at(0)).await?;
    assert_eq!(backend.cache.get(&key, at(59)).await?, Some(vec![3]));
    assert_eq!(backend.cache.get(&key, at(60)).await?, None);
    Ok(())
}

/// At once, if that is nothing.
pub async fn an_entry_ends_with_its_time(backend: Backend) -> Result<()> {
    let (timed, endless) = (key(&["g"], "timed"), key(&["g"], "endless"));
    let minute = Some(Duration::from_secs(60));
    backend.cache.put(&timed, vec![1], minute, at(0)).await?;
    put(&backend, &endless, &[2]).await?;
    assert_eq!(backend.cache.get(&timed, at(59)).await?, Some(vec![1]));
    assert_eq!(backend.cache.get(&timed, at(60)).await?, None);
    assert_eq!(backend.cache.get(&endless, at(9999)).await?, Some(vec![2]));
    let none = Some(Duration::ZERO);
    backend.cache.put(&endless, vec![1], none, at(0)).await?;
    assert_eq!(backend.cache.get(&endless, at(0)).await?, None);
    Ok(())
}

/// Only it; deleting twice is fine.
pub async fn a_deleted_entry_is_gone(backend: Backend) -> Result<()> {
    let (one, two) = (key(&["g"], "1"), key(&["g"], "2"));
    put(&backend, &one, &[1]).await?;
    put(&backend, &two, &[2]).await?;
    for _ in 0..2 {
        backend.cache.delete(&one).await?;
    }
    assert_eq!(get(&backend, &one).await?, None);
    assert_eq!(get(&backend, &two).await?, Some(vec![2]));
    Ok(())
}

/// Wherever one ends and the next label begins, and whatever is in them.
pub async fn entries_are_apart(backend: Backend) -> Result<()> {
    let keys = [
        key(&["a", "b"], "c"),
        key(&["ab"], "c"),
        key(&["a"], "bc"),
        key(&["a", "b", "c"], ""),
        key(&[], "abc"),
        key(&["", "a"], "c"),
        key(&["a", ""], "c"),
        key(&["A"], "bc"),
        key(&["a\0"], "\0"),
        key(&["a:b"], "c"),
        key(&["a*"], "?[c]"),
        key(&["{a}"], "}{"),
        key(&["ü %_'\\"], "\n"),
    ];
    for (n, key) in (0..).zip(&keys) {
        put(&backend, key, &[n]).await?;
    }
    for (n, key) in (0..).zip(&keys) {
        assert_eq!(get(&backend, key).await?, Some(vec![n]), "{key:?}");
    }
    Ok(())
}

/// Not those beside it, or those whose label only begins alike.
pub async fn clearing_reaches_namespaces_below(backend: Backend) -> Result<()> {
    let inside = [key(&["g", "n"], "1"), key(&["g", "n", "m"], "2")];
    let outside = [
        key(&["g"], "n"),
        key(&["g", "n2"], "3"),
        key(&["g2", "n"], "4"),
        key(&["n"], "5"),
        key(&[], "gn"),
    ];
    for key in inside.iter().chain(&outside) {
        put(&backend, key, &[1]).await?;
    }
    backend.cache.clear(&labels(&["g", "n"])).await?;
    for key in &inside {
        assert_eq!(get(&backend, key).await?, None, "{key:?}");
    }
    for key in &outside {
        assert!(get(&backend, key).await?.is_some(), "{key:?}");
    }
    backend.cache.clear(&labels(&["nothing"])).await
}

/// Also what has no namespace.
pub async fn clearing_all_leaves_nothing(backend: Backend) -> Result<()> {
    let keys = [key(&["a"], "1"), key(&["b", "c"], "2"), key(&[], "3")];
    for key in &keys {
        put(&backend, key, &[1]).await?;
    }
    backend.cache.clear(&[]).await?;
    for key in &keys {
        assert_eq!(get(&backend, key).await?, None, "{key:?}");
    }
    Ok(())
}

/// And what was before does not come back.
pub async fn what_is_put_after_a_clear_stays(backend: Backend) -> Result<()> {
    let (old, new) = (key(&["g", "n"], "old"), key(&["g", "n"], "new"));
    for namespace in [labels(&["g", "n"]), labels(&["g"]), Vec::new()] {
        put(&backend, &old, &[1]).await?;
        backend.cache.clear(&namespace).await?;
        put(&backend, &new, &[2]).await?;
        assert_eq!(get(&backend, &old).await?, None, "{namespace:?}");
        assert_eq!(get(&backend, &new).await?, Some(vec![2]), "{namespace:?}");
    }
    Ok(())
}

/// And what was there stays.
pub async fn large_values_are_refused(backend: Backend) -> Result<()> {
    let key = key(&["g"], "k");
    let most = vec![7; MAX_VALUE_BYTES];
    put(&backend, &key, &most).await?;
    let found = get(&backend, &key).await?;
    assert!(found.as_ref() == Some(&most), "the value differs");
    refused(
        put(&backend, &key, &[most, vec![7]].concat()).await,
        Invalid,
    );
    let found = get(&backend, &key).await?;
    assert_eq!(found.map(|value| value.len()), Some(MAX_VALUE_BYTES));
    Ok(())
}

/// By bytes and by labels.
pub async fn long_keys_are_refused(backend: Backend) -> Result<()> {
    let most = key(&["g"], &"k".repeat(MAX_KEY_BYTES - 1));
    put(&backend, &most, &[1]).await?;
    assert_eq!(get(&backend, &most).await?, Some(vec![1]));
    let deep = |depth| CacheKey {
        namespace: vec!["n".into(); depth],
        key: "k".into(),
    };
    put(&backend, &deep(MAX_LABELS), &[1]).await?;
    for key in [key(&["gg"], &most.key), deep(MAX_LABELS + 1)] {
        refused(put(&backend, &key, &[1]).await, Invalid);
        refused(get(&backend, &key).await, Invalid);
        refused(backend.cache.delete(&key).await, Invalid);
    }
    Ok(())
}

/// A few at a time, or none where they go by themselves.
pub async fn sweeping_leaves_what_is_young(backend: Backend) -> Result<()> {
    let lives = |name: &str, seconds| {
        let key = key(&["g"], name);
        let (cache, ttl) = (backend.cache.clone(), Some(Duration::from_secs(seconds)));
        async move { cache.put(&key, vec![1], ttl, at(0)).await }
    };
    for name in ["1", "2", "3"] {
        lives(name, 10).await?;
    }
    lives("4", 20).await?;
    put(&backend, &key(&["g"], "5"), &[1]).await?;
    assert_eq!(backend.cache.sweep(at(9), 9).await?, 0);
    let swept = [
        backend.cache.sweep(at(10), 2).await?,
        backend.cache.sweep(at(10), 2).await?,
        backend.cache.sweep(at(10), 2).await?,
    ];
    assert!(swept == [2, 1, 0] || swept == [0, 0, 0], "{swept:?}");
    for name in ["4", "5"] {
        let found = backend.cache.get(&key(&["g"], name), at(10)).await?;
        assert!(found.is_some(), "{name}");
    }
    Ok(())
}
