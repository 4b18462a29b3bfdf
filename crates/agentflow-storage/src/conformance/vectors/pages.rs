//! Pages, counts, tenants, limits.

use super::*;

async fn page(index: &Index, after: Option<u32>, limit: u32) -> Result<Vec<u32>> {
    let after = after.map(id);
    let page = index
        .scroll(&Scope::local(), NAME, None, after, limit)
        .await?;
    Ok(numbers(page.iter().map(|point| point.id)))
}

/// A page goes on after the id that the one before ended with.
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

/// What comes or goes meanwhile repeats and hides nothing else.
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

/// With a condition and without.
pub async fn points_are_counted(index: Index) -> Result<()> {
    let points = (1..=7).map(|n| point(n, &value!({ "n": n }))).collect();
    filled(&index, points).await?;
    let scope = Scope::local();
    let late = Condition::Compares(Field::of("n"), Order::Greater, Value::Int(4));
    assert_eq!(index.count(&scope, NAME, None).await?, 7);
    assert_eq!(index.count(&scope, NAME, Some(&late)).await?, 3);
    Ok(())
}

/// Each point once for each of its values.
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

/// What does not fit the kind is left out.
pub async fn values_of_an_indexed_field_are_of_its_kind(index: Index) -> Result<()> {
    let shown = [
        value!({"user": [1, "a"], "n": 2, "until": "2026-05-08", "any": [true, 1.5]}),
        value!({"user": true, "n": ["2", 2], "any": ["true", 1]}),
    ];
    let points = shown.iter().zip(1..).map(|(shown, n)| point(n, shown));
    filled(&index, points.collect()).await?;
    for (field, wanted) in [
        ("user", vec![(Value::str("a"), 1)]),
        ("n", vec![(Value::Int(2), 2)]),
        ("until", vec![(Value::str("2026-05-08"), 1)]),
        (
            "any",
            vec![
                (Value::str("true"), 1),
                (Value::Int(1), 1),
                (Value::Bool(true), 1),
            ],
        ),
    ] {
        let counts = index
            .facet(&Scope::local(), NAME, &Field::of(field), None, 10)
            .await?;
        assert_eq!(counts, wanted, "{field}");
    }
    Ok(())
}

/// No call, and no condition however turned, shows or changes a point of another tenant.
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

/// A newer version does not take a point away from its tenant.
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

/// The comparison with the records sees all tenants.
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

/// Every call has a limit.
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

/// Calls at the same time are all applied.
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
