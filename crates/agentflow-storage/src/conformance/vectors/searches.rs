//! Searches and their conditions.

use super::*;

/// Scores are cosines, best first.
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

/// Only the direction of a dense vector does.
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

/// The order of hits is the same each time.
pub async fn equal_scores_come_by_id(index: Index) -> Result<()> {
    let same = |n| Point {
        id: id(n),
        ..point(10, &value!({}))
    };
    filled(&index, [4, 2, 9, 1].map(same).to_vec()).await?;
    assert_eq!(found(&search(&index, near(None)).await?), [1, 2, 4, 9]);
    Ok(())
}

/// Both keep the best.
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

/// Scores of sparse vectors are sums with the rarity of each word.
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

/// A removed point is not found. It may count for rarity for a while.
pub async fn a_removed_point_is_not_found_by_its_words(index: Index) -> Result<()> {
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
    let (counted, not_counted) = (rarity(3, 2), rarity(2, 1));
    assert!((counted - 1e-4..=not_counted + 1e-4).contains(&hits[0].score));
    Ok(())
}

/// A point may lack a vector; it is counted, not found.
pub async fn points_without_the_vector_are_not_found(index: Index) -> Result<()> {
    filled(&index, vec![worded(1, &[(1, 1.0)]), point(2, &value!({}))]).await?;
    assert_eq!(found(&search(&index, near(None)).await?), [2]);
    assert_eq!(found(&search(&index, words(&[(1, 1.0)])).await?), [1]);
    assert_eq!(index.count(&Scope::local(), NAME, None).await?, 2);
    Ok(())
}

/// Several searches are one call.
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

/// The limit counts hits that meet the condition.
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

/// A condition that few of the farthest points meet loses none of them.
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

/// Asserts that searches, pages and counts find what a condition holds for.
async fn check(index: &Index, payloads: &[Value], condition: &Condition) -> Result<()> {
    let wanted: Vec<u32> = (1..)
        .zip(payloads)
        .filter(|(_, shown)| condition.holds(&payload(shown)))
        .map(|(n, _)| n)
        .collect();
    let scope = Scope::local();
    let page = index
        .scroll(&scope, NAME, Some(condition), None, 100)
        .await?;
    assert_eq!(numbers(page.iter().map(|p| p.id)), wanted, "{condition:?}");
    let count = index.count(&scope, NAME, Some(condition)).await?;
    assert_eq!(count, wanted.len() as u64, "{condition:?}");
    let hits = search(index, near(Some(condition.clone()))).await?;
    assert_eq!(found(&hits), wanted, "{condition:?}");
    Ok(())
}

/// Every leaf, negation and pair holds for what the tree itself says.
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
        check(&index, &payloads, &condition).await?;
    }
    Ok(())
}

/// Bounds may be in any form; what is in another kind of field than the bound is not met.
pub async fn moments_and_days_compare_as_text(index: Index) -> Result<()> {
    let payloads = [
        value!({"made_at": "2026-05-01T00:00:00.000000+00:00", "until": "2026-05-01"}),
        value!({"made_at": "2026-05-01T00:00:00.000001+00:00", "until": "2026-04-30"}),
        value!({"made_at": ["1969-12-31T23:59:59.999999+00:00"], "until": ["2025-01-01", "2027-01-01"]}),
        value!({"made_at": "2026-05-01", "until": "2026-05-01T00:00:00.000000+00:00"}),
        value!({"made_at": null, "until": []}),
        value!({}),
    ];
    let points = payloads.iter().zip(1..);
    filled(&index, points.map(|(shown, n)| point(n, shown)).collect()).await?;
    let bounds = [
        Value::str("2026-05-01T00:00:00.000000+00:00"),
        Value::str("1970-01-01T00:00:00.000000+00:00"),
        Value::str("2026-05-01T00:00:00Z"),
        Value::str("2026-05-01"),
        Value::str("2026-05"),
        Value::str("z"),
        Value::Int(2026),
    ];
    use Order::{Greater, GreaterOrEqual, Less, LessOrEqual};
    for bound in bounds {
        for order in [Less, LessOrEqual, Greater, GreaterOrEqual] {
            for field in ["made_at", "until"] {
                let compares = Condition::Compares(Field::of(field), order, bound.clone());
                check(&index, &payloads, &compares).await?;
                check(&index, &payloads, &compares.negated()).await?;
            }
        }
        if bound.as_str().is_some() {
            let equals = Condition::Equals(Field::of("made_at"), bound);
            check(&index, &payloads, &equals.negated()).await?;
        }
    }
    Ok(())
}

/// Trees that are drawn from a seed, over values that are easily mistaken for each other.
pub async fn many_conditions_are_evaluated_alike(index: Index) -> Result<()> {
    let values = [
        value!(1),
        value!(1.0),
        value!("1"),
        value!(true),
        value!("true"),
        value!(null),
        value!([]),
        value!([null]),
        value!([null, 1]),
        value!([["a"]]),
        value!({"k": 1}),
        value!(9007199254740993_i64),
        value!(9007199254740992.0),
        value!(-1),
        value!(0.5),
        value!(""),
        value!("a"),
        value!("Ab"),
        value!(["a", "b", 2]),
        value!({"k": ["a", null]}),
    ];
    let mut seed = 7_u64;
    let mut draw = move |below: usize| {
        // Knuth's generator; the high bits are the good ones.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let payloads: Vec<Value> = (0..60)
        .map(|_| {
            let fields = ["user", "n", "o"].into_iter().filter(|_| draw(4) > 0);
            let fields: Vec<&str> = fields.collect();
            let pairs = fields.into_iter().map(|name| {
                let value = values[draw(values.len())].clone();
                (name, value)
            });
            Value::object(pairs.collect::<Vec<_>>())
        })
        .collect();
    let points = payloads.iter().zip(1..);
    filled(&index, points.map(|(shown, n)| point(n, shown)).collect()).await?;
    for _ in 0..120 {
        let condition = tree(&mut draw, &values, 3);
        if condition.check().is_ok() {
            check(&index, &payloads, &condition).await?;
        }
    }
    Ok(())
}

/// What is allowed is not too deep for any index.
pub async fn the_deepest_condition_is_evaluated(index: Index) -> Result<()> {
    let payloads = [value!({"user": "a"}), value!({"user": "b", "o": 1})];
    let points = payloads.iter().zip(1..);
    filled(&index, points.map(|(shown, n)| point(n, shown)).collect()).await?;
    // Nothing of it can be left out, and the leaf is one that no filter may express.
    let leaf = Condition::Includes(Field::of("user"), "A".into(), Case::Ignored);
    let deep = (0..MAX_DEPTH / 2).fold(leaf, |inner, n| match n % 2 {
        0 => Condition::All(vec![inner, Condition::Exists(Field::of("user"))]).negated(),
        _ => Condition::Any(vec![inner, Condition::Exists(Field::of("o"))]).negated(),
    });
    deep.check()?;
    check(&index, &payloads, &deep).await?;
    check(
        &index,
        &payloads,
        &Condition::Any(vec![user("a"), user("b")]),
    )
    .await
}

fn tree(draw: &mut impl FnMut(usize) -> usize, values: &[Value], depth: usize) -> Condition {
    if depth > 0 && draw(3) > 0 {
        return match draw(3) {
            0 => tree(draw, values, depth - 1).negated(),
            branch => {
                let parts = (0..draw(4)).map(|_| tree(draw, values, depth - 1));
                match branch {
                    1 => Condition::All(parts.collect()),
                    _ => Condition::Any(parts.collect()),
                }
            }
        };
    }
    let field = match draw(4) {
        0 => Field::within(&["o", "k"]),
        other => Field::of(["user", "n", "o"][other - 1]),
    };
    let value = values[draw(values.len())].clone();
    let text = value.as_str().unwrap_or("a").to_owned();
    match draw(6) {
        0 => Condition::Equals(field, value),
        1 => Condition::In(field, vec![value, Value::Int(1), "a".into()]),
        2 => Condition::Exists(field),
        3 => Condition::Includes(field, text, [Case::Exact, Case::Ignored][draw(2)]),
        _ => {
            use Order::{Greater, GreaterOrEqual, Less, LessOrEqual};
            let order = [Less, LessOrEqual, Greater, GreaterOrEqual][draw(4)];
            Condition::Compares(field, order, value)
        }
    }
}

/// Without a vector or words the condition alone finds.
pub async fn whatever_meets_a_condition_comes_by_id(index: Index) -> Result<()> {
    let named = |n: u32| if n.is_multiple_of(40) { "few" } else { "many" };
    let points = (1..=200)
        .rev()
        .map(|n| point(n, &value!({ "user": named(n) })));
    filled(&index, points.collect()).await?;
    let any = |condition, limit| Search {
        probe: Probe::Any,
        limit,
        ..near(condition)
    };
    for (wanted, limit, all) in [
        (any(Some(user("few")), 100), 5, vec![40, 80, 120, 160, 200]),
        (any(Some(user("few")), 2), 2, vec![40, 80]),
        (any(Some(user("many")), 3), 3, vec![1, 2, 3]),
        (any(None, 4), 4, vec![1, 2, 3, 4]),
        (any(Some(user("nobody")), 4), 0, vec![]),
    ] {
        let hits = search(&index, wanted).await?;
        assert_eq!((hits.len(), found(&hits)), (limit, all));
        assert!(hits.iter().all(|hit| hit.score == 0.0));
    }
    Ok(())
}

/// Who reads the records does not need payloads.
pub async fn payloads_come_if_they_are_asked_for(index: Index) -> Result<()> {
    filled(
        &index,
        vec![point(1, &value!({ "user": "a", "text": "some" }))],
    )
    .await?;
    let some = Condition::Includes(Field::of("text"), "som".into(), Case::Exact);
    for condition in [None, Some(user("a")), Some(some)] {
        for payload in [true, false] {
            let wanted = Search {
                payload,
                ..near(condition.clone())
            };
            let hits = search(&index, wanted).await?;
            assert_eq!((found(&hits), hits[0].version), (vec![1], 1));
            assert_eq!(hits[0].payload.is_empty(), !payload);
        }
    }
    Ok(())
}

/// No character of a text means something to an index.
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

/// One bad search spoils the call.
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
