//! Collections: made, checked, dropped.

use super::*;

/// Making it again keeps its points, and adds fields to index.
pub async fn a_collection_is_made_once(index: Index) -> Result<()> {
    filled(&index, vec![point(1, &value!({}))]).await?;
    let mut more = shape();
    more.indexed
        .insert(Field::within(&["metadata", "a.b"]), Kind::Bool);
    index.ensure(&more).await?;
    assert_eq!(index.collections().await?, [more]);
    assert_eq!(index.count(&Scope::local(), NAME, None).await?, 1);
    Ok(())
}

/// A dimension or a vector cannot change under the points.
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

/// What an index holds cannot change its kind.
pub async fn a_field_of_another_kind_is_refused(index: Index) -> Result<()> {
    index.ensure(&shape()).await?;
    let mut other = shape();
    other.indexed.insert(Field::of("n"), Kind::Text);
    refused(index.ensure(&other).await, Conflict);
    assert_eq!(index.collections().await?, [shape()]);
    Ok(())
}

/// What a server of vectors would refuse, or take for something else, is refused.
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

/// Dropping takes the points too.
pub async fn a_dropped_collection_is_gone(index: Index) -> Result<()> {
    filled(&index, vec![point(1, &value!({}))]).await?;
    assert!(index.drop_collection(NAME).await?);
    assert!(!index.drop_collection(NAME).await?);
    assert!(index.collections().await?.is_empty());
    index.ensure(&shape()).await?;
    assert_eq!(index.count(&Scope::local(), NAME, None).await?, 0);
    Ok(())
}

/// A collection that does not exist is an error, not an empty one.
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
