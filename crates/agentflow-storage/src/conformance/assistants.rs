//! Cases of [`crate::record::Assistants`].

use agentflow_types::{
    ErrorKind::{Conflict, Invalid, NotFound},
    Map, Result, Scope, Value, value,
};

use super::{
    refused,
    sample::{assistant, assistant_id, at, map, stranger},
    suite,
};
use crate::{
    Backend,
    filter::ASSISTANT_COLUMNS,
    page::{Order, PageQuery},
    record::{Assistant, AssistantQuery},
};

suite! {
    ($)
    /// Instantiates the cases of the assistants port.
    assistant_conformance:
    an_assistant_is_read_back,
    an_id_is_taken_for_all_tenants,
    versions_count_up,
    a_version_can_be_selected_again,
    versions_filter_and_page,
    deleting_takes_the_versions_along,
    strangers_see_nothing,
    search_conditions_hold_together,
    search_sorts_by_every_column,
    search_pages_have_the_total,
    search_bounds_are_checked,
}

async fn search(backend: &Backend, query: AssistantQuery, page: PageQuery) -> Result<Vec<u8>> {
    let found = backend
        .assistants
        .search(&Scope::local(), &query, &page)
        .await?;
    Ok(found
        .items
        .iter()
        .map(|row| row.assistant_id.0.as_bytes()[15])
        .collect())
}

/// Every field; versions start at 1 whatever the caller says.
pub async fn an_assistant_is_read_back(backend: Backend) -> Result<()> {
    let stored = Assistant {
        description: Some("ü".into()),
        context: map(value!({"a": 1, "b": 1.0})),
        metadata: map(value!({"nested": {"x": [null, true]}})),
        version: 7,
        ..assistant(1)
    };
    assert_eq!(
        backend
            .assistants
            .get(&Scope::local(), assistant_id(1))
            .await?,
        None
    );
    backend
        .assistants
        .insert(&Scope::local(), stored.clone())
        .await?;
    let expected = Assistant {
        version: 1,
        ..stored
    };
    let read = backend
        .assistants
        .get(&Scope::local(), assistant_id(1))
        .await?;
    assert_eq!(read.as_ref(), Some(&expected));
    let none = Map::new();
    let versions = backend
        .assistants
        .versions(&Scope::local(), assistant_id(1), &none, 9, 0)
        .await?;
    assert_eq!(versions, [expected]);
    Ok(())
}

/// Of any tenant; the first one stays as it was.
pub async fn an_id_is_taken_for_all_tenants(backend: Backend) -> Result<()> {
    backend
        .assistants
        .insert(&Scope::local(), assistant(1))
        .await?;
    let other = Assistant {
        name: "other".into(),
        ..assistant(1)
    };
    refused(
        backend
            .assistants
            .insert(&Scope::local(), other.clone())
            .await,
        Conflict,
    );
    refused(
        backend.assistants.insert(&stranger(), other).await,
        Conflict,
    );
    let read = backend
        .assistants
        .get(&Scope::local(), assistant_id(1))
        .await?;
    assert_eq!(read, Some(assistant(1)));
    Ok(())
}

async fn with_versions(backend: &Backend) -> Result<()> {
    backend
        .assistants
        .insert(&Scope::local(), assistant(1))
        .await?;
    for n in 2..=3 {
        let changed = Assistant {
            name: format!("v{n}"),
            graph_id: format!("g{n}"),
            metadata: map(value!({"n": n, "odd": n % 2})),
            updated_at: at(n * 10),
            ..assistant(1)
        };
        let stored = backend
            .assistants
            .insert_version(&Scope::local(), changed.clone())
            .await?;
        assert_eq!(
            stored,
            Assistant {
                version: n,
                ..changed
            }
        );
    }
    Ok(())
}

/// The newest is selected; the assistant keeps its creation, a version has its own.
pub async fn versions_count_up(backend: Backend) -> Result<()> {
    let missing = backend
        .assistants
        .insert_version(&Scope::local(), assistant(1))
        .await;
    refused(missing, NotFound);
    with_versions(&backend).await?;
    let selected = backend
        .assistants
        .get(&Scope::local(), assistant_id(1))
        .await?;
    let selected = selected.unwrap_or_else(|| assistant(9));
    assert_eq!(
        (selected.version, selected.created_at, selected.updated_at),
        (3, at(1), at(30))
    );
    let none = Map::new();
    let all = backend
        .assistants
        .versions(&Scope::local(), assistant_id(1), &none, 9, 0)
        .await?;
    let rows: Vec<_> = all
        .iter()
        .map(|v| (v.version, v.created_at, v.name.as_str()))
        .collect();
    assert_eq!(
        rows,
        [(3, at(30), "v3"), (2, at(20), "v2"), (1, at(1), "Name 1")]
    );
    Ok(())
}

/// Its content comes back; the next version still counts from the greatest.
pub async fn a_version_can_be_selected_again(backend: Backend) -> Result<()> {
    with_versions(&backend).await?;
    let first = backend
        .assistants
        .select_version(&Scope::local(), assistant_id(1), 1)
        .await?;
    let content = (
        first.version,
        first.name.as_str(),
        first.graph_id.as_str(),
        first.created_at,
    );
    assert_eq!(content, (1, "Name 1", "g", at(1)));
    let read = backend
        .assistants
        .get(&Scope::local(), assistant_id(1))
        .await?;
    assert_eq!(read.as_ref(), Some(&first));
    let scope = Scope::local();
    refused(
        backend
            .assistants
            .select_version(&scope, assistant_id(1), 4)
            .await,
        NotFound,
    );
    refused(
        backend
            .assistants
            .select_version(&scope, assistant_id(2), 1)
            .await,
        NotFound,
    );
    let next = backend
        .assistants
        .insert_version(&Scope::local(), assistant(1))
        .await?;
    assert_eq!(next.version, 4);
    Ok(())
}

/// By containment, newest first.
pub async fn versions_filter_and_page(backend: Backend) -> Result<()> {
    with_versions(&backend).await?;
    for (metadata, limit, offset, expected) in [
        (value!({}), 2, 0, vec![3, 2]),
        (value!({}), 2, 1, vec![2, 1]),
        (value!({}), 9, 3, vec![]),
        (value!({"odd": 1}), 9, 0, vec![3]),
        (value!({"odd": 0}), 9, 0, vec![2]),
    ] {
        let id = assistant_id(1);
        let metadata = map(metadata);
        let found = backend
            .assistants
            .versions(&Scope::local(), id, &metadata, limit, offset)
            .await?;
        assert_eq!(
            found.iter().map(|v| v.version).collect::<Vec<_>>(),
            expected
        );
    }
    Ok(())
}

/// A later assistant of the same id starts anew.
pub async fn deleting_takes_the_versions_along(backend: Backend) -> Result<()> {
    with_versions(&backend).await?;
    assert!(
        backend
            .assistants
            .delete(&Scope::local(), assistant_id(1))
            .await?
    );
    assert!(
        !backend
            .assistants
            .delete(&Scope::local(), assistant_id(1))
            .await?
    );
    assert_eq!(
        backend
            .assistants
            .get(&Scope::local(), assistant_id(1))
            .await?,
        None
    );
    backend
        .assistants
        .insert(&Scope::local(), assistant(1))
        .await?;
    let none = Map::new();
    let all = backend
        .assistants
        .versions(&Scope::local(), assistant_id(1), &none, 9, 0)
        .await?;
    assert_eq!(all.len(), 1);
    Ok(())
}

/// No call of another tenant reads or changes anything.
pub async fn strangers_see_nothing(backend: Backend) -> Result<()> {
    with_versions(&backend).await?;
    let (other, id) = (stranger(), assistant_id(1));
    assert_eq!(backend.assistants.get(&other, id).await?, None);
    refused(
        backend
            .assistants
            .insert_version(&other, assistant(1))
            .await,
        NotFound,
    );
    refused(
        backend.assistants.select_version(&other, id, 1).await,
        NotFound,
    );
    assert!(
        backend
            .assistants
            .versions(&other, id, &Map::new(), 9, 0)
            .await?
            .is_empty()
    );
    assert!(!backend.assistants.delete(&other, id).await?);
    let query = AssistantQuery::default();
    let found = backend
        .assistants
        .search(&other, &query, &PageQuery::default())
        .await?;
    assert_eq!((found.items.len(), found.total), (0, 0));
    let mine = backend.assistants.get(&Scope::local(), id).await?;
    assert_eq!(mine.map(|row| row.version), Some(3));
    Ok(())
}

/// Graph, part of the name, and JSON containment in the metadata.
pub async fn search_conditions_hold_together(backend: Backend) -> Result<()> {
    let rows = [
        (
            "g1",
            "Alpha ÄB",
            value!({"a": 1, "tags": ["x", {"k": 1, "l": 2}]}),
        ),
        (
            "g1",
            "beta",
            value!({"a": 1.0, "deep": {"b": {"c": 1, "d": 2}}}),
        ),
        ("g2", "alphabet", value!({"a": "1"})),
    ];
    for (n, (graph_id, name, metadata)) in (1..).zip(rows) {
        let row = Assistant {
            graph_id: graph_id.into(),
            name: name.into(),
            metadata: map(metadata),
            ..assistant(n)
        };
        backend.assistants.insert(&Scope::local(), row).await?;
    }
    let query = |graph: Option<&str>, name: Option<&str>, metadata: Value| AssistantQuery {
        graph_id: graph.map(Into::into),
        name: name.map(Into::into),
        metadata: map(metadata),
    };
    for (query, expected) in [
        (query(None, None, value!({})), vec![3, 2, 1]),
        (query(Some("g1"), None, value!({})), vec![2, 1]),
        (query(Some("g"), None, value!({})), vec![]),
        (query(None, Some("ALPHA"), value!({})), vec![3, 1]),
        (query(None, Some("äb"), value!({})), vec![1]),
        (query(None, Some("%"), value!({})), vec![]),
        (query(Some("g1"), Some("a"), value!({"a": 1})), vec![2, 1]),
        (query(None, None, value!({"tags": [{"k": 1}]})), vec![1]),
        (query(None, None, value!({"tags": ["x"]})), vec![1]),
        (query(None, None, value!({"tags": "x"})), vec![]),
        (
            query(None, None, value!({"deep": {"b": {"d": 2}}})),
            vec![2],
        ),
        (query(None, None, value!({"a": "1"})), vec![3]),
    ] {
        let found = search(&backend, query.clone(), PageQuery::default()).await?;
        assert_eq!(found, expected, "{query:?}");
    }
    Ok(())
}

/// In both directions; ties by id in the same direction.
pub async fn search_sorts_by_every_column(backend: Backend) -> Result<()> {
    for (n, name, graph, created, updated) in [
        (1, "b", "y", 3, 1),
        (2, "a", "y", 1, 1),
        (3, "B", "x", 2, 1),
    ] {
        let row = Assistant {
            name: name.into(),
            graph_id: graph.into(),
            created_at: at(created),
            updated_at: at(updated),
            ..assistant(n)
        };
        backend.assistants.insert(&Scope::local(), row).await?;
    }
    for (column, expected) in [
        ("assistant_id", [1, 2, 3]),
        ("created_at", [2, 3, 1]),
        ("updated_at", [1, 2, 3]),
        ("name", [3, 2, 1]),
        ("graph_id", [3, 1, 2]),
    ] {
        assert!(ASSISTANT_COLUMNS.contains(&column));
        let page = |order| PageQuery {
            sort_by: column.into(),
            order,
            ..PageQuery::default()
        };
        let query = AssistantQuery::default;
        let up = search(&backend, query(), page(Order::Ascending)).await?;
        assert_eq!(up, expected, "{column}");
        let down = search(&backend, query(), page(Order::Descending)).await?;
        assert!(down.iter().rev().eq(&expected), "{column}");
    }
    Ok(())
}

/// Whatever the limit and the offset.
pub async fn search_pages_have_the_total(backend: Backend) -> Result<()> {
    for n in 1..=5 {
        backend
            .assistants
            .insert(&Scope::local(), assistant(n))
            .await?;
    }
    for (limit, offset, expected) in [
        (2, 0, vec![5, 4]),
        (2, 4, vec![1]),
        (2, 5, vec![]),
        (9, u64::MAX, vec![]),
    ] {
        let page = PageQuery {
            limit,
            offset,
            ..PageQuery::default()
        };
        let query = AssistantQuery::default();
        let found = backend
            .assistants
            .search(&Scope::local(), &query, &page)
            .await?;
        assert_eq!(found.total, 5);
        assert_eq!(search(&backend, query, page).await?, expected);
    }
    Ok(())
}

/// A column that does not exist is not SQL; a page is not empty nor endless.
pub async fn search_bounds_are_checked(backend: Backend) -> Result<()> {
    let pages = [
        PageQuery {
            sort_by: "name; --".into(),
            ..PageQuery::default()
        },
        PageQuery {
            sort_by: "metadata".into(),
            ..PageQuery::default()
        },
        PageQuery {
            limit: 0,
            ..PageQuery::default()
        },
        PageQuery {
            limit: crate::page::MAX_LIMIT + 1,
            ..PageQuery::default()
        },
    ];
    for page in pages {
        refused(
            search(&backend, AssistantQuery::default(), page).await,
            Invalid,
        );
    }
    Ok(())
}
