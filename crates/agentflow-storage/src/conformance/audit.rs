//! Cases of [`crate::audit::Audit`].

use agentflow_types::{ErrorKind::Conflict, Result, Scope};
use uuid::Uuid;

use super::{
    refused,
    sample::{at, stranger},
    suite,
};
use crate::{
    Backend,
    audit::{AuditQuery, Entry},
};

suite! {
    ($)
    /// Instantiates the cases of the port of the log of changes.
    audit_conformance:
    an_entry_is_read_back,
    an_entry_never_changes,
    strangers_read_no_entries,
    entries_come_newest_first_in_pages,
    audit_conditions_hold_together,
    sweeping_removes_the_oldest_first,
}

fn entry(n: u8, action: &str) -> Entry {
    Entry {
        entry_id: Uuid::from_u128(u128::from(n) + (7 << 64)),
        at: at(n.into()),
        principal: "ada".into(),
        action: action.into(),
        target: format!("thing {n}"),
        request_id: "req-1".into(),
        outcome: "ok".into(),
    }
}

fn all() -> AuditQuery {
    AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    }
}

async fn numbers(backend: &Backend, query: &AuditQuery) -> Result<Vec<u8>> {
    let found = backend.audit.search(&Scope::local(), query).await?;
    let number = |entry: &Entry| entry.entry_id.as_bytes()[15];
    Ok(found.items.iter().map(number).collect())
}

/// Every field.
pub async fn an_entry_is_read_back(backend: Backend) -> Result<()> {
    let full = entry(1, "keys.create");
    let bare = Entry {
        target: String::new(),
        request_id: String::new(),
        ..entry(2, "threads.prune")
    };
    for entry in [&full, &bare] {
        backend.audit.append(&Scope::local(), entry.clone()).await?;
    }
    let found = backend.audit.search(&Scope::local(), &all()).await?;
    assert_eq!((found.items, found.total), (vec![bare, full], 2));
    Ok(())
}

/// A second entry of the same id is refused, whoever sends it.
pub async fn an_entry_never_changes(backend: Backend) -> Result<()> {
    let first = entry(1, "keys.create");
    backend.audit.append(&Scope::local(), first.clone()).await?;
    for scope in [Scope::local(), stranger()] {
        let again = backend.audit.append(&scope, entry(1, "keys.revoke")).await;
        refused(again, Conflict);
    }
    let found = backend.audit.search(&Scope::local(), &all()).await?;
    assert_eq!(found.items, [first]);
    Ok(())
}

/// Each tenant has its own log.
pub async fn strangers_read_no_entries(backend: Backend) -> Result<()> {
    backend.audit.append(&Scope::local(), entry(1, "a")).await?;
    backend.audit.append(&stranger(), entry(2, "a")).await?;
    assert_eq!(numbers(&backend, &all()).await?, [1]);
    let theirs = backend.audit.search(&stranger(), &all()).await?;
    assert_eq!((theirs.items, theirs.total), (vec![entry(2, "a")], 1));
    Ok(())
}

/// The total counts all that match.
pub async fn entries_come_newest_first_in_pages(backend: Backend) -> Result<()> {
    for n in [2, 3, 1] {
        backend.audit.append(&Scope::local(), entry(n, "a")).await?;
    }
    for (limit, offset, want) in [(2, 0, vec![3, 2]), (2, 2, vec![1]), (2, 9, vec![])] {
        let query = AuditQuery {
            limit,
            offset,
            ..AuditQuery::default()
        };
        assert_eq!(numbers(&backend, &query).await?, want);
    }
    let page = AuditQuery { limit: 1, ..all() };
    let found = backend.audit.search(&Scope::local(), &page).await?;
    assert_eq!(found.total, 3);
    Ok(())
}

/// Each alone, and two at once.
pub async fn audit_conditions_hold_together(backend: Backend) -> Result<()> {
    for (n, action, principal) in [(1, "a", "ada"), (2, "b", "ada"), (3, "a", "bob")] {
        let entry = Entry {
            principal: principal.into(),
            ..entry(n, action)
        };
        backend.audit.append(&Scope::local(), entry).await?;
    }
    let some = |text: &str| Some(text.to_owned());
    for (query, want) in [
        (
            AuditQuery {
                action: some("a"),
                ..all()
            },
            vec![3, 1],
        ),
        (
            AuditQuery {
                principal: some("ada"),
                ..all()
            },
            vec![2, 1],
        ),
        (
            AuditQuery {
                target: some("thing 2"),
                ..all()
            },
            vec![2],
        ),
        (
            AuditQuery {
                since: Some(at(2)),
                ..all()
            },
            vec![3, 2],
        ),
        (
            AuditQuery {
                until: Some(at(2)),
                ..all()
            },
            vec![1],
        ),
        (
            AuditQuery {
                action: some("a"),
                principal: some("ada"),
                ..all()
            },
            vec![1],
        ),
        (
            AuditQuery {
                action: some("A"),
                ..all()
            },
            vec![],
        ),
    ] {
        assert_eq!(numbers(&backend, &query).await?, want, "{query:?}");
    }
    Ok(())
}

/// By age, by number, never more than asked for.
pub async fn sweeping_removes_the_oldest_first(backend: Backend) -> Result<()> {
    for n in 1..=8 {
        let scope = match n % 2 {
            0 => Scope::local(),
            _ => stranger(),
        };
        backend.audit.append(&scope, entry(n, "a")).await?;
    }
    let audit = &backend.audit;
    assert_eq!(audit.sweep(at(0), 100, 10).await?, 0);
    assert_eq!(audit.sweep(at(4), 100, 2).await?, 2);
    assert_eq!(audit.sweep(at(4), 100, 10).await?, 1);
    assert_eq!(numbers(&backend, &all()).await?, [8, 6, 4]);
    assert_eq!(audit.sweep(at(0), 2, 10).await?, 3);
    assert_eq!(numbers(&backend, &all()).await?, [8]);
    let theirs = audit.search(&stranger(), &all()).await?;
    assert_eq!(theirs.items, [entry(7, "a")]);
    Ok(())
}
