//! Cases of [`crate::store::Store`].

use agentflow_types::{ErrorKind::Invalid, Result, Scope, Value, value};

use super::{
    refused,
    sample::{at, map, stranger},
    suite,
};
use crate::{
    Backend,
    store::{Item, ItemQuery, NamespaceQuery, PutItem, Refresh},
};

suite! {
    ($)
    /// Instantiates the cases of the store port.
    store_conformance:
    an_item_is_read_back,
    a_put_keeps_the_creation,
    the_last_put_of_a_batch_wins,
    a_deleted_item_is_gone,
    labels_are_checked,
    items_end_with_their_time,
    a_read_renews_the_time,
    an_ended_item_starts_anew,
    sweeping_removes_ended_items,
    a_prefix_ends_with_a_label,
    prefixes_are_literal,
    filters_compare_fields,
    unknown_operators_are_refused,
    search_is_newest_first_and_pages,
    namespaces_match_patterns,
    namespaces_are_cut_and_paged,
    strangers_have_their_own_items,
    large_items_are_kept,
}

fn ns(text: &str) -> Vec<String> {
    if text.is_empty() {
        Vec::new()
    } else {
        text.split('.').map(str::to_owned).collect()
    }
}

fn item(namespace: &str, key: &str, value: Value) -> PutItem {
    PutItem {
        namespace: ns(namespace),
        key: key.into(),
        value: map(value),
        ttl_minutes: None,
    }
}

fn living(namespace: &str, key: &str, minutes: f64) -> PutItem {
    PutItem {
        ttl_minutes: Some(minutes),
        ..item(namespace, key, value!({}))
    }
}

async fn put(backend: &Backend, seconds: i64, items: Vec<PutItem>) -> Result<()> {
    backend.store.put(&Scope::local(), at(seconds), items).await
}

async fn get(backend: &Backend, seconds: i64, at_ns: &str, key: &str) -> Result<Option<Item>> {
    backend
        .store
        .get(&Scope::local(), at(seconds), &ns(at_ns), key, Refresh::No)
        .await
}

async fn search(backend: &Backend, query: ItemQuery) -> Result<Vec<String>> {
    let found = backend.store.search(&Scope::local(), at(0), &query).await?;
    Ok(found
        .iter()
        .map(|item| format!("{}/{}", item.namespace.join("."), item.key))
        .collect())
}

fn below(prefix: &str) -> ItemQuery {
    ItemQuery {
        namespace_prefix: ns(prefix),
        limit: 100,
        ..ItemQuery::default()
    }
}

async fn namespaces(backend: &Backend, query: NamespaceQuery) -> Result<Vec<String>> {
    let found = backend
        .store
        .namespaces(&Scope::local(), at(0), &query)
        .await?;
    Ok(found.iter().map(|labels| labels.join(".")).collect())
}

/// With its numbers, and keys and labels of any text.
pub async fn an_item_is_read_back(backend: Backend) -> Result<()> {
    let value = value!({"b": 1, "a": 1.0, "n": [null, true, {"ü": "\u{0}'\""}], "u": u64::MAX});
    put(&backend, 5, vec![item("a ü.'b%", "k.é'", value.clone())]).await?;
    let expected = Item {
        namespace: ns("a ü.'b%"),
        key: "k.é'".into(),
        value: map(value),
        created_at: at(5),
        updated_at: at(5),
    };
    assert_eq!(get(&backend, 6, "a ü.'b%", "k.é'").await?, Some(expected));
    assert_eq!(get(&backend, 6, "a ü", "k.é'").await?, None);
    assert_eq!(get(&backend, 6, "a ü.'b%", "k").await?, None);
    Ok(())
}

/// And replaces the value whole.
pub async fn a_put_keeps_the_creation(backend: Backend) -> Result<()> {
    put(&backend, 1, vec![item("a", "k", value!({"x": 1, "y": 1}))]).await?;
    put(&backend, 9, vec![item("a", "k", value!({"x": 2}))]).await?;
    let found = get(&backend, 9, "a", "k")
        .await?
        .map(|i| (i.created_at, i.updated_at, i.value));
    assert_eq!(found, Some((at(1), at(9), map(value!({"x": 2})))));
    Ok(())
}

/// And an invalid one spoils all.
pub async fn the_last_put_of_a_batch_wins(backend: Backend) -> Result<()> {
    let batch = vec![
        item("a", "k", value!({"x": 1})),
        item("a", "k", value!({"x": 2})),
    ];
    put(&backend, 1, batch).await?;
    let found = get(&backend, 1, "a", "k").await?.map(|item| item.value);
    assert_eq!(found, Some(map(value!({"x": 2}))));
    let spoiled = vec![item("a", "new", value!({})), item("", "k", value!({}))];
    refused(put(&backend, 1, spoiled).await, Invalid);
    assert_eq!(get(&backend, 1, "a", "new").await?, None);
    put(&backend, 1, Vec::new()).await
}

/// Only it; deleting twice is fine.
pub async fn a_deleted_item_is_gone(backend: Backend) -> Result<()> {
    put(
        &backend,
        1,
        vec![item("a", "k", value!({})), item("a.b", "k", value!({}))],
    )
    .await?;
    for _ in 0..2 {
        backend.store.delete(&Scope::local(), &ns("a"), "k").await?;
    }
    assert_eq!(search(&backend, below("")).await?, ["a.b/k"]);
    Ok(())
}

/// None is empty or holds a dot.
pub async fn labels_are_checked(backend: Backend) -> Result<()> {
    for labels in [vec![], vec![""], vec!["a", ""], vec!["a.b"]] {
        let labels: Vec<String> = labels.into_iter().map(str::to_owned).collect();
        let put_item = PutItem {
            namespace: labels,
            ..item("a", "k", value!({}))
        };
        refused(put(&backend, 1, vec![put_item]).await, Invalid);
    }
    let prefix = ItemQuery {
        namespace_prefix: vec!["a.b".into()],
        ..below("")
    };
    refused(search(&backend, prefix).await, Invalid);
    Ok(())
}

/// Nobody sees them afterwards.
pub async fn items_end_with_their_time(backend: Backend) -> Result<()> {
    put(
        &backend,
        -60,
        vec![living("a", "short", 0.5), living("b", "long", 1.5)],
    )
    .await?;
    assert!(get(&backend, -31, "a", "short").await?.is_some());
    assert_eq!(get(&backend, -30, "a", "short").await?, None);
    assert_eq!(
        search(
            &backend,
            ItemQuery {
                refresh: Refresh::No,
                ..below("")
            }
        )
        .await?,
        ["b/long"]
    );
    let all = NamespaceQuery {
        limit: 10,
        ..NamespaceQuery::default()
    };
    assert_eq!(namespaces(&backend, all).await?, ["b"]);
    Ok(())
}

/// Unless it is told not to.
pub async fn a_read_renews_the_time(backend: Backend) -> Result<()> {
    put(
        &backend,
        0,
        vec![living("a", "got", 1.0), living("a", "found", 1.0)],
    )
    .await?;
    put(
        &backend,
        0,
        vec![living("a", "left", 1.0), item("a", "endless", value!({}))],
    )
    .await?;
    let read = |key: &'static str, seconds, refresh| {
        let store = backend.store.clone();
        async move {
            store
                .get(&Scope::local(), at(seconds), &ns("a"), key, refresh)
                .await
        }
    };
    assert!(read("got", 50, Refresh::Yes).await?.is_some());
    assert!(read("left", 50, Refresh::No).await?.is_some());
    assert!(read("endless", 50, Refresh::Yes).await?.is_some());
    let only = |key: &str| ItemQuery {
        limit: 1,
        filter: map(value!({"k": key})),
        ..below("a")
    };
    assert!(
        backend
            .store
            .search(&Scope::local(), at(50), &only("none"))
            .await?
            .is_empty()
    );
    let marked = PutItem {
        ttl_minutes: Some(1.0),
        ..item("a", "found", value!({"k": "found"}))
    };
    put(&backend, 0, vec![marked]).await?;
    assert_eq!(
        backend
            .store
            .search(&Scope::local(), at(50), &only("found"))
            .await?
            .len(),
        1
    );
    for (key, lives) in [
        ("got", true),
        ("found", true),
        ("left", false),
        ("endless", true),
    ] {
        assert_eq!(read(key, 100, Refresh::No).await?.is_some(), lives, "{key}");
    }
    assert_eq!(read("got", 111, Refresh::No).await?, None);
    Ok(())
}

/// With a new creation time, and perhaps for ever.
pub async fn an_ended_item_starts_anew(backend: Backend) -> Result<()> {
    put(&backend, 0, vec![living("a", "k", 1.0)]).await?;
    put(&backend, 600, vec![item("a", "k", value!({}))]).await?;
    let found = get(&backend, 9999, "a", "k")
        .await?
        .map(|item| item.created_at);
    assert_eq!(found, Some(at(600)));
    Ok(())
}

/// A few at a time, of every tenant.
pub async fn sweeping_removes_ended_items(backend: Backend) -> Result<()> {
    let items = ["1", "2", "3"].map(|key| living("a", key, 1.0)).to_vec();
    put(&backend, 0, items).await?;
    backend
        .store
        .put(&stranger(), at(0), vec![living("a", "1", 1.0)])
        .await?;
    put(
        &backend,
        0,
        vec![living("a", "4", 2.0), item("a", "5", value!({}))],
    )
    .await?;
    assert_eq!(backend.store.sweep(at(59), 9).await?, 0);
    assert_eq!(backend.store.sweep(at(60), 3).await?, 3);
    assert_eq!(backend.store.sweep(at(60), 3).await?, 1);
    assert_eq!(backend.store.sweep(at(60), 3).await?, 0);
    assert!(get(&backend, 60, "a", "4").await?.is_some());
    Ok(())
}

/// `a` is not `ab`, nor `A`.
pub async fn a_prefix_ends_with_a_label(backend: Backend) -> Result<()> {
    for namespace in ["a", "a.b", "ab", "a.bc", "A", "b.a"] {
        put(&backend, 0, vec![item(namespace, "k", value!({}))]).await?;
    }
    assert_eq!(
        search(&backend, below("a")).await?,
        ["a/k", "a.b/k", "a.bc/k"]
    );
    assert_eq!(search(&backend, below("a.b")).await?, ["a.b/k"]);
    assert_eq!(search(&backend, below("")).await?.len(), 6);
    assert!(search(&backend, below("a.b.c")).await?.is_empty());
    Ok(())
}

/// Characters that patterns use stand for themselves.
pub async fn prefixes_are_literal(backend: Backend) -> Result<()> {
    for namespace in ["a*.x", "ab.x", "a[b].x", "a?.x", "a_.x", "a%.x", "*.x"] {
        put(&backend, 0, vec![item(namespace, "k", value!({}))]).await?;
    }
    for prefix in ["a*", "a[b]", "a?", "a_", "a%", "*"] {
        assert_eq!(
            search(&backend, below(prefix)).await?,
            [format!("{prefix}.x/k")]
        );
    }
    Ok(())
}

/// Equality and order; an absent field counts as null.
pub async fn filters_compare_fields(backend: Backend) -> Result<()> {
    for (key, value) in [
        ("1", value!({"n": 1, "s": "b", "b": true})),
        ("2", value!({"n": 2.5, "s": "a", "o": {"x": 1, "y": [1]}})),
        ("3", value!({"n": "2", "l": [1, 2], "z": null})),
    ] {
        put(&backend, 0, vec![item("a", key, value)]).await?;
    }
    for (filter, expected) in [
        (value!({}), vec!["1", "2", "3"]),
        (value!({"n": 1.0}), vec!["1"]),
        (value!({"n": "2"}), vec!["3"]),
        (value!({"n": 1, "s": "a"}), vec![]),
        (value!({"b": true}), vec!["1"]),
        (value!({"b": 1}), vec![]),
        (value!({"o": {"y": [1], "x": 1}}), vec!["2"]),
        (value!({"o": {"x": 1}}), vec![]),
        (value!({"l": [1, 2]}), vec!["3"]),
        (value!({"z": null}), vec!["1", "2", "3"]),
        (value!({"n": {"$eq": 1}}), vec!["1"]),
        (value!({"n": {"$ne": 1}}), vec!["2", "3"]),
        (value!({"s": {"$ne": "a"}}), vec!["1", "3"]),
        (value!({"n": {"$gt": 1}}), vec!["2"]),
        (value!({"n": {"$gte": 1}}), vec!["1", "2"]),
        (value!({"n": {"$lt": 2.5}}), vec!["1"]),
        (value!({"n": {"$lte": 2.5, "$gt": 1}}), vec!["2"]),
        (value!({"s": {"$gt": "a"}}), vec!["1"]),
    ] {
        let query = ItemQuery {
            filter: map(filter.clone()),
            ..below("a")
        };
        let expected: Vec<String> = expected.iter().map(|key| format!("a/{key}")).collect();
        assert_eq!(search(&backend, query).await?, expected, "{filter}");
    }
    Ok(())
}

/// Rather than never matching.
pub async fn unknown_operators_are_refused(backend: Backend) -> Result<()> {
    let query = ItemQuery {
        filter: map(value!({"n": {"$in": [1]}})),
        ..below("a")
    };
    refused(search(&backend, query).await, Invalid);
    Ok(())
}

/// Ties by namespace and key.
pub async fn search_is_newest_first_and_pages(backend: Backend) -> Result<()> {
    for (seconds, namespace, key) in [
        (-9, "a", "old"),
        (-5, "b", "2"),
        (-5, "b", "1"),
        (-5, "a", "3"),
    ] {
        put(&backend, seconds, vec![item(namespace, key, value!({}))]).await?;
    }
    assert_eq!(
        search(&backend, below("")).await?,
        ["a/3", "b/1", "b/2", "a/old"]
    );
    let page = ItemQuery {
        limit: 2,
        offset: 1,
        ..below("")
    };
    assert_eq!(search(&backend, page).await?, ["b/1", "b/2"]);
    let beyond = ItemQuery {
        offset: u64::MAX,
        ..below("")
    };
    assert!(search(&backend, beyond).await?.is_empty());
    put(&backend, -1, vec![item("a", "old", value!({}))]).await?;
    assert_eq!(
        search(
            &backend,
            ItemQuery {
                limit: 1,
                ..below("")
            }
        )
        .await?,
        ["a/old"]
    );
    Ok(())
}

/// Prefix, suffix, one star per label.
pub async fn namespaces_match_patterns(backend: Backend) -> Result<()> {
    for namespace in ["a.b.c", "a.x.c", "a.b", "ab.b.c", "z"] {
        put(
            &backend,
            0,
            vec![
                item(namespace, "1", value!({})),
                item(namespace, "2", value!({})),
            ],
        )
        .await?;
    }
    for (prefix, suffix, expected) in [
        ("", "", vec!["a.b", "a.b.c", "a.x.c", "ab.b.c", "z"]),
        ("a", "", vec!["a.b", "a.b.c", "a.x.c"]),
        ("a.*.c", "", vec!["a.b.c", "a.x.c"]),
        ("*.b", "", vec!["a.b", "a.b.c", "ab.b.c"]),
        ("", "c", vec!["a.b.c", "a.x.c", "ab.b.c"]),
        ("", "b.*", vec!["a.b.c", "ab.b.c"]),
        ("a", "b", vec!["a.b"]),
        ("*", "z", vec!["z"]),
        ("a.b.c.d", "", vec![]),
    ] {
        let query = NamespaceQuery {
            prefix: ns(prefix),
            suffix: ns(suffix),
            limit: 10,
            ..Default::default()
        };
        assert_eq!(
            namespaces(&backend, query).await?,
            expected,
            "{prefix} {suffix}"
        );
    }
    Ok(())
}

/// To a depth, then distinct, then paged.
pub async fn namespaces_are_cut_and_paged(backend: Backend) -> Result<()> {
    for namespace in ["a.b.c", "a.b.d", "a.e", "f.g"] {
        put(&backend, 0, vec![item(namespace, "k", value!({}))]).await?;
    }
    let depth = |max_depth| NamespaceQuery {
        max_depth: Some(max_depth),
        limit: 10,
        ..Default::default()
    };
    assert_eq!(namespaces(&backend, depth(1)).await?, ["a", "f"]);
    assert_eq!(namespaces(&backend, depth(2)).await?, ["a.b", "a.e", "f.g"]);
    let page = NamespaceQuery {
        limit: 1,
        offset: 1,
        ..depth(2)
    };
    assert_eq!(namespaces(&backend, page).await?, ["a.e"]);
    let by_suffix = NamespaceQuery {
        suffix: ns("d"),
        ..depth(1)
    };
    assert_eq!(namespaces(&backend, by_suffix).await?, ["a"]);
    Ok(())
}

/// Under the same names.
pub async fn strangers_have_their_own_items(backend: Backend) -> Result<()> {
    let scopes = [
        Scope::local(),
        stranger(),
        Scope::new("other", "x"),
        Scope::new("OTHER", "x"),
    ];
    for (n, scope) in scopes.iter().enumerate() {
        let own = item("a.b", "k", value!({"n": n}));
        backend.store.put(scope, at(0), vec![own]).await?;
    }
    for (n, scope) in scopes.iter().enumerate() {
        for prefix in ["", "a"] {
            let found = backend.store.search(scope, at(0), &below(prefix)).await?;
            let values: Vec<_> = found
                .iter()
                .map(|item| (&item.namespace, &item.value))
                .collect();
            assert_eq!(values, [(&ns("a.b"), &map(value!({"n": n})))]);
        }
        let all = NamespaceQuery {
            limit: 10,
            ..NamespaceQuery::default()
        };
        assert_eq!(
            backend.store.namespaces(scope, at(0), &all).await?,
            [ns("a.b")]
        );
    }
    backend.store.delete(&scopes[1], &ns("a.b"), "k").await?;
    for (n, scope) in scopes.iter().enumerate() {
        let found = backend
            .store
            .get(scope, at(0), &ns("a.b"), "k", Refresh::No)
            .await?;
        assert_eq!(found.is_some(), n != 1);
    }
    Ok(())
}

/// Five megabytes.
pub async fn large_items_are_kept(backend: Backend) -> Result<()> {
    let large = value!({"text": "ä".repeat(5 << 19)});
    put(&backend, 0, vec![item("a", "k", large.clone())]).await?;
    let found = get(&backend, 0, "a", "k").await?.map(|item| item.value);
    assert!(found == Some(map(large)), "the value differs");
    Ok(())
}
