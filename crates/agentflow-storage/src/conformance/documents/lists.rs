//! Lists of entries, what conditions say of them, sums, marks.

use agentflow_types::{ErrorKind::Invalid, Result, Scope, Value, value};

use super::{chunk, document, entry, id, put, store};
use crate::{
    Backend,
    condition::{Case, Condition, Field, Order as Way},
    conformance::{
        refused,
        sample::{at, map, stranger},
    },
    documents::{Entry, EntryKind, EntryQuery, Mark, Totals},
    page::{Order, PageQuery},
};

fn sorted(by: &str, order: Order) -> PageQuery {
    PageQuery {
        limit: 100,
        offset: 0,
        sort_by: by.into(),
        order,
    }
}

async fn ids(backend: &Backend, query: &EntryQuery, page: &PageQuery) -> Result<Vec<u8>> {
    let found = backend.documents.list(&Scope::local(), query, page).await?;
    let last = |entry: &Entry| entry.entry_id.as_bytes()[15];
    Ok(found.items.iter().map(last).collect())
}

/// A list keeps to its kind, parent and owner.
pub async fn entries_are_listed_by_parent_and_owner(backend: Backend) -> Result<()> {
    let other = Entry {
        owner: Some(id(201)),
        ..chunk(1, 4)
    };
    let nobody = Entry {
        owner: None,
        ..chunk(9, 5)
    };
    let entries = [document(1), chunk(1, 3), chunk(1, 2), other, nobody];
    store(&backend, &entries).await?;
    let page = sorted("position", Order::Ascending);
    let all = EntryQuery::of(EntryKind::Chunk);
    assert_eq!(ids(&backend, &all, &page).await?, [2, 3, 4, 5]);
    let below = EntryQuery {
        parent: Some(id(1)),
        ..all.clone()
    };
    assert_eq!(ids(&backend, &below, &page).await?, [2, 3, 4]);
    let own = EntryQuery {
        owner: Some(id(200)),
        ..below
    };
    assert_eq!(ids(&backend, &own, &page).await?, [2, 3]);
    let of_nobody = EntryQuery {
        owner: Some(id(77)),
        ..all
    };
    assert!(ids(&backend, &of_nobody, &page).await?.is_empty());
    Ok(())
}

/// Every column sorts both ways, ties by id, and pages follow each other.
pub async fn entries_are_sorted_and_paged(backend: Backend) -> Result<()> {
    let at_once = |n: u8, seconds: i64| Entry {
        created_at: at(seconds),
        updated_at: at(-seconds),
        position: u64::from(100 - n),
        ..document(n)
    };
    let entries = [at_once(1, 5), at_once(2, 3), at_once(3, 5), at_once(4, 9)];
    store(&backend, &entries).await?;
    let query = EntryQuery::of(EntryKind::Document);
    for (by, ascending) in [
        ("entry_id", [1, 2, 3, 4]),
        ("created_at", [2, 1, 3, 4]),
        ("updated_at", [4, 1, 3, 2]),
        ("position", [4, 3, 2, 1]),
    ] {
        let found = ids(&backend, &query, &sorted(by, Order::Ascending)).await?;
        assert_eq!(found, ascending, "{by}");
        let mut found = ids(&backend, &query, &sorted(by, Order::Descending)).await?;
        found.reverse();
        assert_eq!(found, ascending, "{by}");
    }
    let page = PageQuery {
        limit: 3,
        offset: 3,
        ..sorted("entry_id", Order::Ascending)
    };
    let second = backend
        .documents
        .list(&Scope::local(), &query, &page)
        .await?;
    assert_eq!((second.items.len(), second.total), (1, 4));
    for page in [
        sorted("size", Order::Ascending),
        PageQuery {
            limit: 0,
            ..sorted("entry_id", Order::Ascending)
        },
    ] {
        refused(
            backend.documents.list(&Scope::local(), &query, &page).await,
            Invalid,
        );
    }
    Ok(())
}

/// Conditions, and the documents that meet them.
fn cases() -> Vec<(Condition, Vec<u8>)> {
    let field = Field::of;
    let text = |id: uuid::Uuid| Value::str(id.to_string());
    vec![
        (Condition::Equals(field("type"), "pdf".into()), vec![1]),
        (Condition::Equals(field("id"), text(id(2))), vec![2]),
        (Condition::Equals(field("owner_id"), text(id(200))), vec![1]),
        (
            Condition::Equals(field("owner_id"), "hidden".into()),
            vec![],
        ),
        (Condition::Exists(field("parent_id")), vec![2]),
        (
            Condition::In(field("owner_id"), vec![text(id(200)), text(id(201))]),
            vec![1, 2],
        ),
        (
            Condition::Equals(field("parent_id"), text(id(50))).negated(),
            vec![1],
        ),
        (
            Condition::In(field("collection_ids"), vec![text(id(7)), text(id(8))]),
            vec![1],
        ),
        (Condition::Exists(field("collection_ids")), vec![1]),
        (
            Condition::Compares(field("pages"), Way::Greater, Value::Int(3)),
            vec![2],
        ),
        (
            Condition::Compares(
                field("created_at"),
                Way::LessOrEqual,
                Value::str(at(1).to_string()),
            ),
            vec![1],
        ),
        (
            Condition::Includes(
                Field::within(&["metadata", "na\u{ef}ve"]),
                "stra\u{df}".into(),
                Case::Ignored,
            ),
            vec![1],
        ),
        (Condition::Exists(field("secret")), vec![]),
        (Condition::Any(vec![]), vec![]),
    ]
}

/// Conditions see fields and ids, which no field hides; contents they do not see.
pub async fn conditions_hold_for_fields_and_ids(backend: Backend) -> Result<()> {
    let first = Entry {
        fields: map(
            value!({"type": "pdf", "pages": 3, "collection_ids": [id(7).to_string()],
            "metadata": {"na\u{ef}ve": "Stra\u{df}e", "nul": "a\u{0}b"}, "owner_id": "hidden",
            "parent_id": "made up"}),
        ),
        content: map(value!({"secret": "x"})),
        ..document(1)
    };
    let second = Entry {
        fields: map(value!({"type": "txt", "pages": 30, "collection_ids": []})),
        owner: Some(id(201)),
        parent: Some(id(50)),
        ..document(2)
    };
    store(&backend, &[first, second]).await?;
    for (condition, wanted) in cases() {
        let told = format!("{condition:?}");
        let query = EntryQuery {
            condition: Some(condition),
            ..EntryQuery::of(EntryKind::Document)
        };
        let page = sorted("entry_id", Order::Ascending);
        assert_eq!(ids(&backend, &query, &page).await?, wanted, "{told}");
    }
    let bad = EntryQuery {
        condition: Some(Condition::Equals(Field::of("type"), Value::Null)),
        ..EntryQuery::of(EntryKind::Document)
    };
    let page = sorted("entry_id", Order::Ascending);
    refused(
        backend.documents.list(&Scope::local(), &bad, &page).await,
        Invalid,
    );
    refused(
        backend.documents.totals(&Scope::local(), &bad).await,
        Invalid,
    );
    Ok(())
}

/// Numbers and sizes are of what matches.
pub async fn entries_are_counted_and_measured(backend: Backend) -> Result<()> {
    let other = Entry {
        owner: Some(id(201)),
        ..document(3)
    };
    store(&backend, &[document(1), document(2), other, chunk(1, 9)]).await?;
    let documents = &backend.documents;
    let query = EntryQuery::of(EntryKind::Document);
    let all = documents.totals(&Scope::local(), &query).await?;
    assert_eq!(
        all,
        Totals {
            entries: 3,
            size: 60
        }
    );
    let own = EntryQuery {
        owner: Some(id(200)),
        ..query.clone()
    };
    let own = documents.totals(&Scope::local(), &own).await?;
    assert_eq!(
        own,
        Totals {
            entries: 2,
            size: 30
        }
    );
    let none = documents.totals(&stranger(), &query).await?;
    assert_eq!(none, Totals::default());
    Ok(())
}

/// Marks of all tenants, one page after the other.
pub async fn marks_of_entries_come_by_tenant_and_id(backend: Backend) -> Result<()> {
    store(&backend, &[chunk(1, 3), chunk(1, 2), document(1)]).await?;
    let foreign = entry(EntryKind::Chunk, 2);
    let documents = &backend.documents;
    documents.apply(&stranger(), vec![put(foreign)]).await?;
    let mark = |scope: &Scope, n| Mark {
        tenant: scope.tenant().to_owned(),
        entry_id: id(n),
        version: 1,
    };
    let mut wanted = vec![
        mark(&Scope::local(), 2),
        mark(&Scope::local(), 3),
        mark(&stranger(), 2),
    ];
    wanted.sort();
    let mut found: Vec<Mark> = vec![];
    loop {
        let page = documents.marks(EntryKind::Chunk, found.last(), 2).await?;
        match page.is_empty() {
            true => break,
            false => found.extend(page),
        }
    }
    assert_eq!(found, wanted);
    Ok(())
}
