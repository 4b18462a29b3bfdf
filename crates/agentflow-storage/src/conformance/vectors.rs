//! Cases of [`crate::vector::Vectors`].

use std::{collections::BTreeMap, sync::Arc};

use agentflow_types::{
    ErrorKind::{Conflict, Invalid, NotFound},
    Map, Result, Scope, Value, value,
};
use uuid::Uuid;

use super::{refused, sample::stranger, suite};
use crate::{
    condition::{Case, Condition, Field, Order},
    vector::{Collection, Hit, MAX_POINTS, Point, Probe, Search, Sparse, Vectors, rarity},
};

suite! {
    ($)
    /// Instantiates the cases of the vectors port.
    vector_conformance:
    a_collection_is_made_once,
    a_collection_with_other_vectors_is_refused,
    names_and_dimensions_are_checked,
    a_dropped_collection_is_gone,
    without_a_collection_nothing_is_found,
    a_point_is_read_back,
    a_point_that_has_no_place_is_refused_and_none_is_stored,
    an_older_version_is_passed_over,
    the_same_version_replaces,
    points_go_by_id,
    points_go_by_condition,
    the_nearest_come_first,
    length_does_not_count,
    equal_scores_come_by_id,
    a_threshold_and_a_limit_cut,
    rare_words_count_more,
    a_removed_point_does_not_count_for_rarity,
    points_without_the_vector_are_not_found,
    searches_are_answered_in_their_order,
    a_search_obeys_its_condition,
    few_matches_among_many_are_found,
    conditions_are_evaluated_alike,
    texts_keep_their_characters,
    pages_follow_each_other,
    a_page_is_stable_while_points_come,
    points_are_counted,
    values_are_counted,
    tenants_never_meet,
    an_id_of_another_tenant_is_refused,
    all_points_can_be_compared,
    bad_searches_are_refused,
    too_much_is_refused,
    writers_side_by_side_lose_nothing,
}

type Index = Arc<dyn Vectors>;

const NAME: &str = "notes";
/// Numbers of a dense vector.
const DIMENSION: usize = 4;

fn shape() -> Collection {
    Collection {
        name: NAME.into(),
        dense: BTreeMap::from([("text".into(), DIMENSION as u32)]),
        sparse: ["words".into()].into(),
        indexed: [Field::of("user"), Field::of("n")].into(),
    }
}

fn id(n: u32) -> Uuid {
    Uuid::from_u128(u128::from(n) + (7 << 64))
}

fn numbers(ids: impl IntoIterator<Item = Uuid>) -> Vec<u32> {
    ids.into_iter().map(|id| id.as_u128() as u32).collect()
}

fn found(hits: &[Hit]) -> Vec<u32> {
    numbers(hits.iter().map(|hit| hit.id))
}

fn payload(value: &Value) -> Map {
    value.as_map().cloned().unwrap_or_default()
}

/// A point at an angle of `n` degrees.
fn point(n: u32, shown: &Value) -> Point {
    let angle = (n as f32).to_radians();
    Point {
        id: id(n),
        version: 1,
        dense: BTreeMap::from([("text".into(), vec![angle.cos(), angle.sin(), 0.0, 0.0])]),
        sparse: BTreeMap::new(),
        payload: payload(shown),
    }
}

/// A point with words.
fn worded(n: u32, words: &[(u32, f32)]) -> Point {
    Point {
        id: id(n),
        version: 1,
        sparse: BTreeMap::from([("words".into(), Sparse::of(words.iter().copied()))]),
        ..Point::default()
    }
}

async fn filled(index: &Index, points: Vec<Point>) -> Result<()> {
    index.ensure(&shape()).await?;
    index.upsert(&Scope::local(), NAME, points).await
}

fn near(condition: Option<Condition>) -> Search {
    Search {
        probe: Probe::Dense("text".into(), vec![1.0, 0.0, 0.0, 0.0]),
        condition,
        limit: 100,
        threshold: None,
    }
}

fn words(words: &[(u32, f32)]) -> Search {
    Search {
        probe: Probe::Sparse("words".into(), Sparse::of(words.iter().copied())),
        ..near(None)
    }
}

async fn search(index: &Index, search: Search) -> Result<Vec<Hit>> {
    let mut hits = index.search(&Scope::local(), NAME, &[search]).await?;
    assert_eq!(hits.len(), 1);
    Ok(hits.remove(0))
}

#[track_caller]
fn close(found: f32, wanted: f32) {
    assert!((found - wanted).abs() < 1e-4, "{found} is not {wanted}");
}

fn user(name: &str) -> Condition {
    Condition::Equals(Field::of("user"), name.into())
}

pub async fn a_collection_is_made_once(index: Index) -> Result<()> {
    filled(&index, vec![point(1, &value!({}))]).await?;
    let mut more = shape();
    more.indexed.insert(Field::within(&["metadata", "a.b"]));
    index.ensure(&more).await?;
    assert_eq!(index.collections().await?, [more]);
    assert_eq!(index.count(&Scope::local(), NAME, None).await?, 1);
    Ok(())
}

pub async fn a_collection_with_other_vectors_is_refused(index: Index) -> Result<()> {
    index.ensure(&shape()).await?;
    let mut wider = shape();
    wider.dense.insert("text".into(), 5);
    refused(index.ensure(&wider).await, Conflict);
    let mut fewer = shape();
    fewer.sparse.clear();
    refused(index.ensure(&fewer).await, Conflict);
    assert_eq!(index.collections().await?, [shape()]);
    Ok(())
}

pub async fn names_and_dimensions_are_checked(index: Index) -> Result<()> {
    for name in ["", "a b", "a/b", "ä", &"x".repeat(201)] {
        let mut bad = shape();
        bad.name = name.into();
        refused(index.ensure(&bad).await, Invalid);
    }
    for dimension in [0, 70_000] {
        let mut bad = shape();
        bad.dense.insert("text".into(), dimension);
        refused(index.ensure(&bad).await, Invalid);
    }
    assert!(index.collections().await?.is_empty());
    Ok(())
}

pub async fn a_dropped_collection_is_gone(index: Index) -> Result<()> {
    filled(&index, vec![point(1, &value!({}))]).await?;
    assert!(index.drop_collection(NAME).await?);
    assert!(!index.drop_collection(NAME).await?);
    assert!(index.collections().await?.is_empty());
    index.ensure(&shape()).await?;
    assert_eq!(index.count(&Scope::local(), NAME, None).await?, 0);
    Ok(())
}

pub async fn without_a_collection_nothing_is_found(index: Index) -> Result<()> {
    let scope = Scope::local();
    let point = point(1, &value!({}));
    refused(index.upsert(&scope, NAME, vec![point]).await, NotFound);
    refused(index.get(&scope, NAME, &[id(1)]).await, NotFound);
    refused(index.search(&scope, NAME, &[near(None)]).await, NotFound);
    refused(index.scroll(&scope, NAME, None, None, 1).await, NotFound);
    refused(index.delete(&scope, NAME, &[id(1)]).await, NotFound);
    refused(index.marks(NAME, None, 1).await, NotFound);
    Ok(())
}

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

pub async fn the_nearest_come_first(index: Index) -> Result<()> {
    filled(
        &index,
        [80, 10, 170, 40]
            .map(|n| point(n, &value!({ "n": n })))
            .to_vec(),
    )
    .await?;
    let hits = search(&index, near(None)).await?;
    assert_eq!(found(&hits), [10, 40, 80, 170]);
    for (hit, degrees) in hits.iter().zip([10.0_f32, 40.0, 80.0, 170.0]) {
        close(hit.score, degrees.to_radians().cos());
        assert_eq!(hit.payload.get("n"), Some(&Value::Int(degrees as i64)));
        assert_eq!(hit.version, 1);
    }
    Ok(())
}

pub async fn length_does_not_count(index: Index) -> Result<()> {
    let mut long = point(20, &value!({}));
    for vector in long.dense.values_mut() {
        vector.iter_mut().for_each(|n| *n *= 1000.0);
    }
    filled(&index, vec![long, point(10, &value!({}))]).await?;
    let mut wanted = near(None);
    wanted.probe = Probe::Dense("text".into(), vec![0.001, 0.0, 0.0, 0.0]);
    let hits = search(&index, wanted).await?;
    assert_eq!(found(&hits), [10, 20]);
    close(hits[1].score, 20_f32.to_radians().cos());
    Ok(())
}

pub async fn equal_scores_come_by_id(index: Index) -> Result<()> {
    let same = |n| Point {
        id: id(n),
        ..point(10, &value!({}))
    };
    filled(&index, [4, 2, 9, 1].map(same).to_vec()).await?;
    assert_eq!(found(&search(&index, near(None)).await?), [1, 2, 4, 9]);
    Ok(())
}

pub async fn a_threshold_and_a_limit_cut(index: Index) -> Result<()> {
    filled(&index, (1..=90).map(|n| point(n, &value!({}))).collect()).await?;
    let few = Search {
        limit: 3,
        ..near(None)
    };
    assert_eq!(found(&search(&index, few).await?), [1, 2, 3]);
    let close = Search {
        threshold: Some(4.5_f32.to_radians().cos()),
        ..near(None)
    };
    assert_eq!(found(&search(&index, close).await?), [1, 2, 3, 4]);
    Ok(())
}

pub async fn rare_words_count_more(index: Index) -> Result<()> {
    // Word 1 is everywhere, word 2 in two points, word 3 in one.
    filled(
        &index,
        vec![
            worded(1, &[(1, 1.0)]),
            worded(2, &[(1, 1.0), (2, 1.0)]),
            worded(3, &[(1, 1.0), (2, 2.0)]),
            worded(4, &[(1, 1.0), (3, 1.0)]),
            worded(5, &[(1, 1.0)]),
        ],
    )
    .await?;
    let hits = search(&index, words(&[(1, 1.0), (2, 0.5), (3, 1.0), (9, 1.0)])).await?;
    assert_eq!(found(&hits), [4, 3, 2, 1, 5]);
    close(hits[0].score, rarity(5, 5) + rarity(5, 1));
    close(hits[1].score, rarity(5, 5) + 0.5 * 2.0 * rarity(5, 2));
    assert!(search(&index, words(&[(9, 1.0)])).await?.is_empty());
    Ok(())
}

pub async fn a_removed_point_does_not_count_for_rarity(index: Index) -> Result<()> {
    filled(
        &index,
        vec![
            worded(1, &[(1, 1.0)]),
            worded(2, &[(1, 1.0)]),
            worded(3, &[(2, 1.0)]),
        ],
    )
    .await?;
    index.delete(&Scope::local(), NAME, &[id(2)]).await?;
    index
        .upsert(&Scope::local(), NAME, vec![worded(3, &[(3, 1.0)])])
        .await?;
    let hits = search(&index, words(&[(1, 1.0), (2, 1.0)])).await?;
    assert_eq!(found(&hits), [1]);
    close(hits[0].score, rarity(2, 1));
    Ok(())
}

pub async fn points_without_the_vector_are_not_found(index: Index) -> Result<()> {
    filled(&index, vec![worded(1, &[(1, 1.0)]), point(2, &value!({}))]).await?;
    assert_eq!(found(&search(&index, near(None)).await?), [2]);
    assert_eq!(found(&search(&index, words(&[(1, 1.0)])).await?), [1]);
    assert_eq!(index.count(&Scope::local(), NAME, None).await?, 2);
    Ok(())
}

pub async fn searches_are_answered_in_their_order(index: Index) -> Result<()> {
    filled(&index, vec![worded(1, &[(1, 1.0)]), point(2, &value!({}))]).await?;
    let scope = Scope::local();
    let asked = [words(&[(1, 1.0)]), near(None), words(&[(2, 1.0)])];
    let hits = index.search(&scope, NAME, &asked).await?;
    let hits: Vec<_> = hits.iter().map(|hits| found(hits)).collect();
    assert_eq!(hits, [vec![1], vec![2], vec![]]);
    assert!(index.search(&scope, NAME, &[]).await?.is_empty());
    Ok(())
}

pub async fn a_search_obeys_its_condition(index: Index) -> Result<()> {
    let named = |n: u32| {
        let mut point = point(
            n,
            &value!({ "user": (if n.is_multiple_of(3) { "a" } else { "b" }) }),
        );
        point.sparse = worded(n, &[(1, n as f32)]).sparse;
        point
    };
    filled(&index, (1..=9).map(named).collect()).await?;
    assert_eq!(
        found(&search(&index, near(Some(user("a")))).await?),
        [3, 6, 9]
    );
    let lexical = Search {
        condition: Some(user("a").negated()),
        limit: 2,
        ..words(&[(1, 1.0)])
    };
    assert_eq!(found(&search(&index, lexical).await?), [8, 7]);
    Ok(())
}

pub async fn few_matches_among_many_are_found(index: Index) -> Result<()> {
    // The matches are the farthest of all.
    let name = |n: u32| if n > 1990 { "rare" } else { "usual" };
    let spread = |n: u32| Point {
        id: id(n),
        dense: point(1, &Value::Null)
            .dense
            .into_keys()
            .map(|key| (key, vec![2000.0 - n as f32, n as f32, 1.0, 0.5]))
            .collect(),
        ..point(1, &value!({ "user": (name(n)) }))
    };
    filled(&index, (1..2000).map(spread).collect()).await?;
    let hits = search(&index, near(Some(user("rare")))).await?;
    assert_eq!(found(&hits), (1991..2000).collect::<Vec<_>>());
    Ok(())
}

pub async fn conditions_are_evaluated_alike(index: Index) -> Result<()> {
    let payloads = [
        value!({"s": "apple", "n": 1, "l": ["x", "y"], "b": true, "m": {"k": "v"}}),
        value!({"s": "Apple pie", "n": 2.5, "l": ["y"], "b": false, "m": {"k": "w"}}),
        value!({"s": "Äpfel", "n": -3, "l": [], "m": {}}),
        value!({"s": null, "n": null, "at": "2026-05-01T00:00:00.000000Z"}),
        value!({"at": "2025-12-31T23:59:59.999999Z", "n": "1"}),
        value!({}),
    ];
    let points = payloads.iter().zip(1..);
    filled(&index, points.map(|(shown, n)| point(n, shown)).collect()).await?;
    let (s, n, l, at) = (
        Field::of("s"),
        Field::of("n"),
        Field::of("l"),
        Field::of("at"),
    );
    let leaves = [
        Condition::Equals(s.clone(), "apple".into()),
        Condition::Equals(n.clone(), Value::Int(1)),
        Condition::Equals(n.clone(), "1".into()),
        Condition::Equals(Field::of("b"), Value::Bool(false)),
        Condition::Equals(l.clone(), "y".into()),
        Condition::Equals(Field::within(&["m", "k"]), "w".into()),
        Condition::In(
            s.clone(),
            vec!["apple".into(), "Äpfel".into(), Value::Int(1)],
        ),
        Condition::In(s.clone(), vec![]),
        Condition::Compares(n.clone(), Order::Greater, Value::Int(1)),
        Condition::Compares(n.clone(), Order::LessOrEqual, Value::Float(1.0)),
        Condition::Compares(at, Order::GreaterOrEqual, "2026".into()),
        Condition::Exists(s.clone()),
        Condition::Exists(l),
        Condition::Includes(s.clone(), "pple".into(), Case::Exact),
        Condition::Includes(s.clone(), "APPLE".into(), Case::Ignored),
        Condition::All(vec![]),
        Condition::Any(vec![]),
    ];
    let pairs = leaves.iter().zip(leaves.iter().skip(3)).flat_map(|(a, b)| {
        let both = vec![a.clone(), b.clone().negated()];
        [Condition::All(both.clone()), Condition::Any(both)]
    });
    let negated = leaves.iter().cloned().map(Condition::negated);
    let all = leaves.iter().cloned().chain(negated).chain(pairs);
    for condition in all {
        let wanted: Vec<u32> = (1..)
            .zip(&payloads)
            .filter(|(_, shown)| condition.holds(&payload(shown)))
            .map(|(n, _)| n)
            .collect();
        let scope = Scope::local();
        let page = index
            .scroll(&scope, NAME, Some(&condition), None, 100)
            .await?;
        assert_eq!(numbers(page.iter().map(|p| p.id)), wanted, "{condition:?}");
        let count = index.count(&scope, NAME, Some(&condition)).await?;
        assert_eq!(count, wanted.len() as u64, "{condition:?}");
        let hits = search(&index, near(Some(condition.clone()))).await?;
        assert_eq!(found(&hits), wanted, "{condition:?}");
    }
    Ok(())
}

pub async fn texts_keep_their_characters(index: Index) -> Result<()> {
    let odd = [
        "naïve 🦀",
        "quote ' \" \\",
        "nul \u{0}",
        "line\nbreak",
        "%_*",
        "ẞ",
    ];
    let points = odd.iter().zip(1..);
    let points = points
        .map(|(text, n)| point(n, &value!({ "user": (*text) })))
        .collect();
    filled(&index, points).await?;
    for (text, n) in odd.iter().zip(1..) {
        let hits = search(&index, near(Some(user(text)))).await?;
        assert_eq!(found(&hits), [n], "{text:?}");
        assert_eq!(hits[0].payload.get("user"), Some(&Value::str(*text)));
        let within = Condition::Includes(Field::of("user"), (*text).into(), Case::Exact);
        assert_eq!(index.count(&Scope::local(), NAME, Some(&within)).await?, 1);
    }
    Ok(())
}

async fn page(index: &Index, after: Option<u32>, limit: u32) -> Result<Vec<u32>> {
    let after = after.map(id);
    let page = index
        .scroll(&Scope::local(), NAME, None, after, limit)
        .await?;
    Ok(numbers(page.iter().map(|point| point.id)))
}

pub async fn pages_follow_each_other(index: Index) -> Result<()> {
    filled(
        &index,
        [5, 1, 4, 2, 3].map(|n| point(n, &value!({}))).to_vec(),
    )
    .await?;
    assert_eq!(page(&index, None, 2).await?, [1, 2]);
    assert_eq!(page(&index, Some(2), 2).await?, [3, 4]);
    assert_eq!(page(&index, Some(4), 2).await?, [5]);
    assert!(page(&index, Some(5), 2).await?.is_empty());
    Ok(())
}

pub async fn a_page_is_stable_while_points_come(index: Index) -> Result<()> {
    filled(&index, [2, 4, 6, 8].map(|n| point(n, &value!({}))).to_vec()).await?;
    assert_eq!(page(&index, None, 2).await?, [2, 4]);
    let more = [1, 5, 9].map(|n| point(n, &value!({}))).to_vec();
    index.upsert(&Scope::local(), NAME, more).await?;
    // The one that the cursor names may go.
    index.delete(&Scope::local(), NAME, &[id(4)]).await?;
    assert_eq!(page(&index, Some(4), 10).await?, [5, 6, 8, 9]);
    Ok(())
}

pub async fn points_are_counted(index: Index) -> Result<()> {
    let points = (1..=7).map(|n| point(n, &value!({ "n": n }))).collect();
    filled(&index, points).await?;
    let scope = Scope::local();
    let late = Condition::Compares(Field::of("n"), Order::Greater, Value::Int(4));
    assert_eq!(index.count(&scope, NAME, None).await?, 7);
    assert_eq!(index.count(&scope, NAME, Some(&late)).await?, 3);
    Ok(())
}

pub async fn values_are_counted(index: Index) -> Result<()> {
    let shown = [
        value!({"user": "b"}),
        value!({"user": ["a", "b", "a"]}),
        value!({"user": "c"}),
        value!({"user": null}),
        value!({}),
    ];
    let points = shown.iter().zip(1..).map(|(shown, n)| point(n, shown));
    filled(&index, points.collect()).await?;
    let (scope, field) = (Scope::local(), Field::of("user"));
    let all = index.facet(&scope, NAME, &field, None, 10).await?;
    let wanted: [(Value, u64); 3] = [("b".into(), 2), ("a".into(), 1), ("c".into(), 1)];
    assert_eq!(all, wanted);
    let some = user("c").negated();
    let two = index.facet(&scope, NAME, &field, Some(&some), 1).await?;
    assert_eq!(two, wanted[..1]);
    Ok(())
}

pub async fn tenants_never_meet(index: Index) -> Result<()> {
    let mut mine = point(1, &value!({"user": "a"}));
    mine.sparse = worded(1, &[(1, 1.0)]).sparse;
    let mut theirs = point(2, &value!({"user": "a"}));
    theirs.sparse = worded(2, &[(1, 1.0)]).sparse;
    filled(&index, vec![mine]).await?;
    let (scope, stranger) = (Scope::local(), stranger());
    index.upsert(&stranger, NAME, vec![theirs]).await?;
    // Whatever is asked, and however a condition is turned.
    let conditions = [
        user("a"),
        Condition::Any(vec![user("a"), Condition::All(vec![])]),
        Condition::Any(vec![]).negated(),
        Condition::Equals(Field::of("tenant"), stranger.tenant().into()).negated(),
    ];
    for (who, own) in [(&scope, 1), (&stranger, 2)] {
        for condition in &conditions {
            let searches = [near(Some(condition.clone())), words(&[(1, 1.0)])];
            for hits in index.search(who, NAME, &searches).await? {
                assert_eq!(found(&hits), [own], "{condition:?}");
            }
            let page = index.scroll(who, NAME, Some(condition), None, 10).await?;
            assert_eq!(numbers(page.iter().map(|p| p.id)), [own], "{condition:?}");
            assert_eq!(index.count(who, NAME, Some(condition)).await?, 1);
        }
        let got = index.get(who, NAME, &[id(1), id(2)]).await?;
        assert_eq!(numbers(got.iter().map(|p| p.id)), [own]);
        let counts = index.facet(who, NAME, &Field::of("user"), None, 10).await?;
        assert_eq!(counts, [(Value::str("a"), 1)]);
    }
    index.delete(&scope, NAME, &[id(1), id(2)]).await?;
    index
        .delete_where(&scope, NAME, &Condition::All(vec![]))
        .await?;
    assert_eq!(index.count(&scope, NAME, None).await?, 0);
    assert_eq!(index.count(&stranger, NAME, None).await?, 1);
    Ok(())
}

pub async fn an_id_of_another_tenant_is_refused(index: Index) -> Result<()> {
    filled(&index, vec![point(1, &value!({"user": "a"}))]).await?;
    let mut newer = point(1, &value!({"user": "b"}));
    newer.version = 9;
    let points = vec![point(2, &value!({})), newer];
    refused(index.upsert(&stranger(), NAME, points).await, Conflict);
    assert_eq!(index.count(&stranger(), NAME, None).await?, 0);
    let got = index.get(&Scope::local(), NAME, &[id(1)]).await?;
    assert_eq!(got[0].version, 1);
    Ok(())
}

pub async fn all_points_can_be_compared(index: Index) -> Result<()> {
    filled(&index, vec![point(1, &value!({})), point(3, &value!({}))]).await?;
    let mut theirs = point(2, &value!({}));
    theirs.version = 5;
    index.upsert(&stranger(), NAME, vec![theirs]).await?;
    let first = index.marks(NAME, None, 2).await?;
    let rest = index.marks(NAME, Some(id(2)), 2).await?;
    let seen: Vec<_> = first
        .iter()
        .chain(&rest)
        .map(|mark| (mark.tenant.as_str(), mark.id, mark.version))
        .collect();
    let (own, other) = (Scope::local(), stranger());
    let wanted = [
        (own.tenant(), id(1), 1),
        (other.tenant(), id(2), 5),
        (own.tenant(), id(3), 1),
    ];
    assert_eq!(seen, wanted);
    Ok(())
}

pub async fn bad_searches_are_refused(index: Index) -> Result<()> {
    filled(&index, vec![]).await?;
    let probe = |probe| Search {
        probe,
        ..near(None)
    };
    let deep = (0..100).fold(user("a"), |inner, _| inner.negated());
    for bad in [
        Search {
            limit: 0,
            ..near(None)
        },
        Search {
            limit: 10_001,
            ..near(None)
        },
        near(Some(deep)),
        near(Some(Condition::Equals(Field::of("f"), Value::Null))),
        probe(Probe::Dense("text".into(), vec![1.0])),
        probe(Probe::Dense("text".into(), vec![0.0; DIMENSION])),
        probe(Probe::Dense("words".into(), vec![1.0; DIMENSION])),
        probe(Probe::Sparse("text".into(), Sparse::default())),
    ] {
        refused(
            index
                .search(&Scope::local(), NAME, &[near(None), bad])
                .await,
            Invalid,
        );
    }
    Ok(())
}

pub async fn too_much_is_refused(index: Index) -> Result<()> {
    filled(&index, vec![]).await?;
    let scope = Scope::local();
    let points = vec![point(1, &value!({})); MAX_POINTS + 1];
    refused(index.upsert(&scope, NAME, points).await, Invalid);
    let ids = vec![id(1); MAX_POINTS + 1];
    refused(index.get(&scope, NAME, &ids).await, Invalid);
    refused(index.delete(&scope, NAME, &ids).await, Invalid);
    let searches = vec![near(None); 65];
    refused(index.search(&scope, NAME, &searches).await, Invalid);
    Ok(())
}

pub async fn writers_side_by_side_lose_nothing(index: Index) -> Result<()> {
    index.ensure(&shape()).await?;
    let writers = (0..8_u32).map(|writer| {
        let index = index.clone();
        async move {
            for n in 0..10 {
                let point = point(writer * 10 + n, &value!({ "user": "a" }));
                index.upsert(&Scope::local(), NAME, vec![point]).await?;
            }
            Result::Ok(())
        }
    });
    futures_util::future::try_join_all(writers).await?;
    assert_eq!(
        index.count(&Scope::local(), NAME, Some(&user("a"))).await?,
        80
    );
    Ok(())
}
