//! Cases of [`crate::documents::Documents`].

use agentflow_types::{
    ErrorKind::{Conflict, Invalid},
    LetterId, Result, Scope, value,
};
use uuid::Uuid;

use super::{
    refused,
    sample::{at, map, stranger},
    suite,
};
use crate::{
    Backend,
    documents::{Change, Entry, EntryKind, EntryQuery, MAX_CHANGES, MAX_IDS, MAX_KEY_BYTES},
    outbox::Letter,
    page::PageQuery,
};

mod blobs;
mod lists;

pub use blobs::*;
pub use lists::*;

suite! {
    ($)
    /// Instantiates the cases of the port of documents.
    document_conformance:
    an_entry_is_read_back,
    an_entry_follows_the_one_before_it,
    an_entry_is_removed_in_the_version_that_was_read,
    kinds_and_tenants_have_ids_of_their_own,
    a_key_belongs_to_one_entry,
    a_decision_about_documents_is_whole,
    changes_are_made_in_order,
    what_is_below_a_parent_goes_at_once,
    a_letter_is_posted_with_its_document,
    too_much_at_once_is_refused,
    of_parallel_writers_one_wins,
    entries_are_listed_by_parent_and_owner,
    entries_are_sorted_and_paged,
    conditions_hold_for_fields_and_ids,
    entries_are_counted_and_measured,
    marks_of_entries_come_by_tenant_and_id,
    bytes_are_read_back_part_by_part,
    bytes_that_are_kept_do_not_change,
    strangers_read_no_bytes,
    pending_bytes_are_swept,
    bytes_go_with_their_document,
}

pub(super) fn id(n: u8) -> Uuid {
    Uuid::from_u128(u128::from(n) + (21 << 64))
}

pub(super) fn entry(kind: EntryKind, n: u8) -> Entry {
    Entry {
        kind,
        entry_id: id(n),
        version: 1,
        parent: None,
        owner: Some(id(200)),
        key: None,
        position: n.into(),
        size: 10 * u64::from(n),
        fields: map(value!({"n": n, "ratio": 0.5, "tags": ["a", "b"], "deep": {"x": true}})),
        content: map(value!({"text": format!("text {n}\u{0}"), "none": null})),
        created_at: at(n.into()),
        updated_at: at(n.into()),
    }
}

pub(super) fn document(n: u8) -> Entry {
    entry(EntryKind::Document, n)
}

pub(super) fn chunk(document: u8, n: u8) -> Entry {
    Entry {
        parent: Some(id(document)),
        ..entry(EntryKind::Chunk, n)
    }
}

pub(super) fn put(entry: Entry) -> Change {
    Change::Put(Box::new(entry))
}

pub(super) async fn apply(backend: &Backend, changes: Vec<Change>) -> Result<()> {
    backend.documents.apply(&Scope::local(), changes).await
}

pub(super) async fn store(backend: &Backend, entries: &[Entry]) -> Result<()> {
    apply(backend, entries.iter().cloned().map(put).collect()).await
}

pub(super) async fn get(backend: &Backend, kind: EntryKind, n: u8) -> Result<Option<Entry>> {
    let scope = Scope::local();
    let found = backend.documents.get(&scope, kind, &[id(n)]).await?;
    Ok(found.into_iter().next())
}

fn next(entry: &Entry) -> Entry {
    Entry {
        version: entry.version + 1,
        position: entry.position + 1,
        fields: map(value!({"n": "then"})),
        updated_at: at(1_000),
        ..entry.clone()
    }
}

fn remove(kind: EntryKind, n: u8, version: u64) -> Change {
    Change::Remove {
        kind,
        entry_id: id(n),
        version,
    }
}

/// All of an entry comes back, in the order of the ids that are asked for.
pub async fn an_entry_is_read_back(backend: Backend) -> Result<()> {
    let (first, second) = (document(1), chunk(1, 2));
    let keyed = Entry {
        key: Some("ke\u{0}y".into()),
        owner: None,
        ..document(3)
    };
    store(&backend, &[first.clone(), second.clone(), keyed.clone()]).await?;
    let ids = [id(3), id(9), id(1)];
    let found = backend
        .documents
        .get(&Scope::local(), EntryKind::Document, &ids)
        .await?;
    assert_eq!(found, [keyed.clone(), first]);
    assert_eq!(get(&backend, EntryKind::Chunk, 2).await?, Some(second));
    let (documents, kind) = (&backend.documents, EntryKind::Document);
    let by_key = documents.by_key(&Scope::local(), kind, "ke\u{0}y").await?;
    assert_eq!(by_key, Some(keyed));
    let by_key = documents.by_key(&Scope::local(), kind, "other").await?;
    assert_eq!(by_key, None);
    Ok(())
}

/// Only the version after the stored one is taken.
pub async fn an_entry_follows_the_one_before_it(backend: Backend) -> Result<()> {
    let first = document(1);
    let second = next(&first);
    refused(
        store(&backend, std::slice::from_ref(&second)).await,
        Conflict,
    );
    store(&backend, std::slice::from_ref(&first)).await?;
    refused(
        store(&backend, std::slice::from_ref(&first)).await,
        Conflict,
    );
    refused(store(&backend, &[next(&second)]).await, Conflict);
    store(&backend, &[second.clone(), next(&second)]).await?;
    let stored = get(&backend, EntryKind::Document, 1).await?;
    assert_eq!(stored, Some(next(&second)));
    Ok(())
}

/// Removal names the version, and the id may be used again after it.
pub async fn an_entry_is_removed_in_the_version_that_was_read(backend: Backend) -> Result<()> {
    let first = document(1);
    store(&backend, &[first.clone(), next(&first)]).await?;
    let kind = EntryKind::Document;
    refused(apply(&backend, vec![remove(kind, 1, 1)]).await, Conflict);
    refused(apply(&backend, vec![remove(kind, 2, 1)]).await, Conflict);
    apply(&backend, vec![remove(kind, 1, 2)]).await?;
    assert_eq!(get(&backend, kind, 1).await?, None);
    refused(apply(&backend, vec![remove(kind, 1, 2)]).await, Conflict);
    store(&backend, std::slice::from_ref(&first)).await?;
    assert_eq!(get(&backend, kind, 1).await?, Some(first));
    Ok(())
}

/// The same id may be used by another kind and by another tenant, and is not seen from there.
pub async fn kinds_and_tenants_have_ids_of_their_own(backend: Backend) -> Result<()> {
    let (own, graph) = (document(1), entry(EntryKind::Graph, 1));
    let foreign = Entry {
        key: Some("k".into()),
        position: 77,
        ..document(1)
    };
    store(&backend, &[own.clone(), graph.clone()]).await?;
    let documents = &backend.documents;
    documents
        .apply(&stranger(), vec![put(foreign.clone())])
        .await?;
    assert_eq!(
        get(&backend, EntryKind::Document, 1).await?,
        Some(own.clone())
    );
    assert_eq!(get(&backend, EntryKind::Graph, 1).await?, Some(graph));
    let kind = EntryKind::Document;
    let found = documents.get(&stranger(), kind, &[id(1)]).await?;
    assert_eq!(found, [foreign]);
    assert_eq!(documents.by_key(&Scope::local(), kind, "k").await?, None);
    let page = PageQuery::default();
    let query = EntryQuery::of(kind);
    let listed = documents.list(&Scope::local(), &query, &page).await?;
    assert_eq!((listed.total, listed.items), (1, vec![own]));
    // What strangers remove is their own.
    let changes = vec![
        remove(kind, 1, 1),
        Change::RemoveBelow {
            kind: EntryKind::Chunk,
            parent: id(1),
        },
    ];
    store(&backend, &[chunk(1, 5)]).await?;
    documents.apply(&stranger(), changes).await?;
    assert!(get(&backend, kind, 1).await?.is_some());
    assert!(get(&backend, EntryKind::Chunk, 5).await?.is_some());
    Ok(())
}

/// Keys are unique within a kind, follow changes, and are free again after a removal.
pub async fn a_key_belongs_to_one_entry(backend: Backend) -> Result<()> {
    let keyed = |n: u8, key: &str| Entry {
        key: Some(key.into()),
        ..document(n)
    };
    store(&backend, &[keyed(1, "a")]).await?;
    refused(store(&backend, &[keyed(2, "a")]).await, Conflict);
    refused(
        store(&backend, &[keyed(2, "b"), keyed(3, "b")]).await,
        Conflict,
    );
    let prompt = Entry {
        key: Some("a".into()),
        ..entry(EntryKind::Prompt, 1)
    };
    store(&backend, &[prompt]).await?;
    let moved = Entry {
        version: 2,
        ..keyed(1, "c")
    };
    store(&backend, &[moved.clone(), keyed(2, "a")]).await?;
    let kind = EntryKind::Document;
    apply(&backend, vec![remove(kind, 2, 1), put(keyed(3, "a"))]).await?;
    let documents = &backend.documents;
    let by_key = documents.by_key(&Scope::local(), kind, "a").await?;
    assert_eq!(by_key, Some(keyed(3, "a")));
    let by_key = documents.by_key(&Scope::local(), kind, "c").await?;
    assert_eq!(by_key, Some(moved));
    Ok(())
}

/// If one change is refused, none is made.
pub async fn a_decision_about_documents_is_whole(backend: Backend) -> Result<()> {
    store(&backend, &[document(1), chunk(1, 3)]).await?;
    let letter = Letter {
        letter_id: LetterId(id(50)),
        topic: "t".into(),
        created_at: at(0),
        body: value!({}),
    };
    let changes = vec![
        put(document(2)),
        put(next(&document(1))),
        Change::RemoveBelow {
            kind: EntryKind::Chunk,
            parent: id(1),
        },
        Change::Post(Box::new(letter)),
        put(document(2)),
    ];
    refused(apply(&backend, changes).await, Conflict);
    let kind = EntryKind::Document;
    assert_eq!(get(&backend, kind, 1).await?, Some(document(1)));
    assert_eq!(get(&backend, kind, 2).await?, None);
    assert!(get(&backend, EntryKind::Chunk, 3).await?.is_some());
    let letters = backend.outbox.claim("t", at(9), at(10), 9).await?;
    assert!(letters.is_empty(), "{letters:?}");
    Ok(())
}

/// What is removed first may be stored again by the same decision.
pub async fn changes_are_made_in_order(backend: Backend) -> Result<()> {
    store(&backend, &[document(1), chunk(1, 2), chunk(1, 3)]).await?;
    let below = Change::RemoveBelow {
        kind: EntryKind::Chunk,
        parent: id(1),
    };
    let again = Entry {
        position: 99,
        ..chunk(1, 2)
    };
    apply(&backend, vec![below, put(again.clone())]).await?;
    assert_eq!(get(&backend, EntryKind::Chunk, 2).await?, Some(again));
    assert_eq!(get(&backend, EntryKind::Chunk, 3).await?, None);
    Ok(())
}

/// All entries of the kind below the parent go, and no others.
pub async fn what_is_below_a_parent_goes_at_once(backend: Backend) -> Result<()> {
    let entity = Entry {
        parent: Some(id(1)),
        ..entry(EntryKind::Entity, 4)
    };
    let entries = [document(1), chunk(1, 2), chunk(9, 3), entity];
    store(&backend, &entries).await?;
    let below = |parent| Change::RemoveBelow {
        kind: EntryKind::Chunk,
        parent: id(parent),
    };
    apply(&backend, vec![below(1), below(77)]).await?;
    assert_eq!(get(&backend, EntryKind::Chunk, 2).await?, None);
    for (kind, n) in [
        (EntryKind::Document, 1),
        (EntryKind::Chunk, 3),
        (EntryKind::Entity, 4),
    ] {
        assert!(get(&backend, kind, n).await?.is_some(), "{kind:?} {n}");
    }
    Ok(())
}

/// A letter is there when the decision is.
pub async fn a_letter_is_posted_with_its_document(backend: Backend) -> Result<()> {
    let letter = Letter {
        letter_id: LetterId(id(50)),
        topic: "documents".into(),
        created_at: at(1),
        body: value!({"id": "x"}),
    };
    let changes = vec![put(document(1)), Change::Post(Box::new(letter.clone()))];
    apply(&backend, changes).await?;
    let posted = backend.outbox.claim("documents", at(2), at(3), 9).await?;
    assert_eq!(posted.len(), 1);
    assert_eq!(posted[0].letter, letter);
    Ok(())
}

/// Changes, ids and keys have limits.
pub async fn too_much_at_once_is_refused(backend: Backend) -> Result<()> {
    let drop = Change::DropBlob(id(1));
    refused(apply(&backend, vec![drop; MAX_CHANGES + 1]).await, Invalid);
    let long = Entry {
        key: Some("k".repeat(MAX_KEY_BYTES + 1)),
        ..document(1)
    };
    refused(store(&backend, &[long]).await, Invalid);
    let ids = vec![id(1); MAX_IDS + 1];
    let scope = Scope::local();
    let found = backend.documents.get(&scope, EntryKind::Document, &ids);
    refused(found.await, Invalid);
    Ok(())
}

/// Of many who store the same next version, or the same key, one does.
pub async fn of_parallel_writers_one_wins(backend: Backend) -> Result<()> {
    store(&backend, &[document(1)]).await?;
    let versions = (0..8_u8).map(|n| {
        let backend = backend.clone();
        let entry = Entry {
            position: n.into(),
            ..next(&document(1))
        };
        tokio::spawn(async move { store(&backend, &[entry]).await })
    });
    let keys = (10..18_u8).map(|n| {
        let backend = backend.clone();
        let entry = Entry {
            key: Some("only".into()),
            ..document(n)
        };
        tokio::spawn(async move { store(&backend, &[entry]).await })
    });
    let tasks: [Vec<_>; 2] = [versions.collect(), keys.collect()];
    for tasks in tasks {
        let mut won = 0;
        for task in tasks {
            match task.await {
                Ok(Ok(())) => won += 1,
                Ok(Err(err)) => refused::<()>(Err(err), Conflict),
                Err(err) => panic!("{err}"),
            }
        }
        assert_eq!(won, 1);
    }
    Ok(())
}
