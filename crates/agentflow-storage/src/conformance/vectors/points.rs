//! Points: stored, read, removed.

use super::*;

/// Payload and vectors come back; a dense one may have lost a little.
pub async fn a_point_is_read_back(index: Index) -> Result<()> {
    let shown = value!({
        "user": "alice", "n": 3, "f": 0.25, "b": true, "none": null,
        "list": ["a", 1], "map": {"deep": {"er": "x"}},
    });
    let mut whole = point(30, &shown);
    whole.sparse = worded(1, &[(7, 0.5), (4_000_000_000, 2.0)]).sparse;
    whole.version = 12;
    filled(&index, vec![point(1, &value!({})), whole.clone()]).await?;
    let got = index.get(&Scope::local(), NAME, &[id(30), id(99)]).await?;
    let [got] = &got[..] else {
        panic!("{got:?}");
    };
    assert_eq!((got.id, got.version), (whole.id, 12));
    assert_eq!(got.payload, whole.payload);
    assert_eq!(got.sparse, whole.sparse);
    for (found, wanted) in got.dense["text"].iter().zip(&whole.dense["text"]) {
        close(*found, *wanted);
    }
    Ok(())
}

/// One bad point spoils the call, which then stores none.
pub async fn a_point_that_has_no_place_is_refused_and_none_is_stored(index: Index) -> Result<()> {
    index.ensure(&shape()).await?;
    let with = |name: &str, vector: Vec<f32>| Point {
        dense: BTreeMap::from([(name.to_owned(), vector)]),
        ..point(2, &value!({}))
    };
    let sparse = |indices: Vec<u32>, values: Vec<f32>| Point {
        sparse: BTreeMap::from([("words".into(), Sparse { indices, values })]),
        ..point(2, &value!({}))
    };
    for bad in [
        with("text", vec![1.0; DIMENSION + 1]),
        with("text", vec![]),
        with("text", vec![0.0; DIMENSION]),
        with("text", vec![f32::NAN; DIMENSION]),
        with("other", vec![1.0; DIMENSION]),
        sparse(vec![1, 1], vec![1.0, 1.0]),
        sparse(vec![2, 1], vec![1.0, 1.0]),
        sparse(vec![1], vec![1.0, 1.0]),
        sparse(vec![1], vec![f32::INFINITY]),
    ] {
        let points = vec![point(1, &value!({})), bad];
        refused(index.upsert(&Scope::local(), NAME, points).await, Invalid);
    }
    assert_eq!(index.count(&Scope::local(), NAME, None).await?, 0);
    Ok(())
}

/// Where moments are promised, nothing else is stored.
pub async fn a_moment_in_another_form_is_refused(index: Index) -> Result<()> {
    index.ensure(&shape()).await?;
    for bad in [
        value!({"made_at": "2026-5-1"}),
        value!({"made_at": "2026-05-01T00:00:00Z"}),
        value!({"made_at": ["2026-05-01T00:00:00.000000+00:00", 5]}),
        value!({"until": "2026-02-30"}),
        value!({"until": true}),
    ] {
        let points = vec![point(1, &bad)];
        refused(index.upsert(&Scope::local(), NAME, points).await, Invalid);
    }
    let mut late = point(1, &value!({}));
    late.version = MAX_VERSION + 1;
    refused(
        index.upsert(&Scope::local(), NAME, vec![late]).await,
        Invalid,
    );
    let good = value!({"made_at": ["2026-05-01T00:00:00.000000+00:00", null], "until": null});
    let mut last = point(1, &good);
    last.version = MAX_VERSION;
    let points = vec![last.clone(), point(1, &value!({}))];
    index.upsert(&Scope::local(), NAME, points).await?;
    let got = index.get(&Scope::local(), NAME, &[id(1)]).await?;
    assert_eq!(
        (got[0].version, &got[0].payload),
        (MAX_VERSION, &last.payload)
    );
    Ok(())
}

/// Whatever is no JSON of a schema comes back all the same.
pub async fn odd_payloads_are_read_back(index: Index) -> Result<()> {
    let deep = (0..40).fold(
        value!({"end": [1.0, -0.0]}),
        |inner, _| value!({ "in": [(inner)] }),
    );
    let odd = value!({
        "": {"": ""}, "a.b": {"c\"d": 1}, "payload": {"tenant": "x"}, "tenant": 7, "version": "v",
        "e": {}, "l": [[], [null], {}], "f": 1e300, "i": (i64::MIN), "deep": (deep),
    });
    filled(&index, vec![point(1, &odd)]).await?;
    let got = index.get(&Scope::local(), NAME, &[id(1)]).await?;
    assert_eq!(got[0].payload, payload(&odd));
    let quoted = Condition::Equals(Field::within(&["a.b", "c\"d"]), Value::Int(1));
    assert_eq!(index.count(&Scope::local(), NAME, Some(&quoted)).await?, 1);
    let empty = Condition::Exists(Field::within(&["", ""]));
    assert_eq!(index.count(&Scope::local(), NAME, Some(&empty)).await?, 1);
    Ok(())
}

/// A change that comes late does not undo a newer one.
pub async fn an_older_version_is_passed_over(index: Index) -> Result<()> {
    let at = |version: u64, n: u32| Point {
        version,
        ..point(5, &value!({ "n": n }))
    };
    filled(&index, vec![at(3, 3)]).await?;
    let scope = Scope::local();
    index
        .upsert(&scope, NAME, vec![at(2, 2), point(6, &value!({}))])
        .await?;
    let got = index.get(&scope, NAME, &[id(5), id(6)]).await?;
    assert_eq!(got.len(), 2);
    assert_eq!(
        (got[0].version, &got[0].payload),
        (3, &payload(&value!({"n": 3})))
    );
    Ok(())
}

/// A change that comes twice is applied twice; nothing of the first is left.
pub async fn the_same_version_replaces(index: Index) -> Result<()> {
    let mut first = point(5, &value!({"n": 1, "gone": true}));
    first.sparse = worded(5, &[(1, 1.0)]).sparse;
    filled(&index, vec![first]).await?;
    let again = point(5, &value!({"n": 2}));
    index
        .upsert(&Scope::local(), NAME, vec![again.clone()])
        .await?;
    let got = index.get(&Scope::local(), NAME, &[id(5)]).await?;
    assert_eq!(got[0].payload, again.payload);
    assert!(got[0].sparse.is_empty());
    assert!(search(&index, words(&[(1, 1.0)])).await?.is_empty());
    Ok(())
}

/// Removing what is not there is fine; what comes back is found again.
pub async fn points_go_by_id(index: Index) -> Result<()> {
    filled(&index, (1..=3).map(|n| point(n, &value!({}))).collect()).await?;
    index.delete(&Scope::local(), NAME, &[id(2), id(9)]).await?;
    index.delete(&Scope::local(), NAME, &[id(2)]).await?;
    assert_eq!(found(&search(&index, near(None)).await?), [1, 3]);
    let back = point(2, &value!({}));
    index.upsert(&Scope::local(), NAME, vec![back]).await?;
    assert_eq!(found(&search(&index, near(None)).await?), [1, 2, 3]);
    Ok(())
}

/// Points that meet the condition go, others stay.
pub async fn points_go_by_condition(index: Index) -> Result<()> {
    let named = |n, name: &str| point(n, &value!({ "user": name }));
    filled(
        &index,
        vec![
            named(1, "a"),
            named(2, "b"),
            named(3, "a"),
            point(4, &value!({})),
        ],
    )
    .await?;
    index
        .delete_where(&Scope::local(), NAME, &user("a"))
        .await?;
    assert_eq!(found(&search(&index, near(None)).await?), [2, 4]);
    Ok(())
}
