//! Cases of [`crate::memories::Memories`].

use agentflow_types::{
    ErrorKind::{Conflict, Invalid},
    JobId, LetterId, MemoryId, Result, Scope, Value, value,
};
use uuid::Uuid;

use super::{
    refused,
    sample::{at, map, stranger},
    suite,
};
use crate::{
    Backend,
    condition::{Condition, Field},
    memories::{Change, Event, Kind, Memory, MemoryQuery, OwnerKind, State},
    outbox::Letter,
    page::PageQuery,
};

mod conditions;
mod work;

pub use conditions::conditions_hold_as_they_do_for_payloads;
pub use work::*;

suite! {
    ($)
    /// Instantiates the cases of the port of memories.
    memory_conformance:
    a_memory_is_read_back,
    a_version_follows_the_one_before_it,
    a_decision_is_stored_whole_or_not_at_all,
    strangers_see_no_memories,
    all_versions_are_kept,
    any_moment_can_be_read_again,
    a_deleted_memory_is_in_no_list,
    a_list_keeps_to_its_project_and_kinds,
    a_list_is_sorted_and_paged,
    conditions_hold_as_they_do_for_payloads,
    texts_of_any_kind_are_kept_and_found,
    a_condition_that_cannot_be_evaluated_is_refused,
    owners_are_counted,
    marks_come_by_id_of_all_tenants,
    a_job_is_claimed_once,
    a_lane_is_worked_off_in_order,
    only_the_last_attempt_ends_a_job,
    a_claimed_job_is_kept_by_renewing_it,
    jobs_come_newest_first,
    strangers_see_no_jobs,
    a_note_changes_by_versions,
    notes_come_in_order_of_creation,
    notes_are_read_by_their_keys,
    a_letter_is_posted_with_its_memory,
    parallel_writers_lose_nothing,
}

use work::{job, note};

fn id(n: u8) -> MemoryId {
    MemoryId(Uuid::from_u128(u128::from(n) + (11 << 64)))
}

fn job_id(n: u8) -> JobId {
    JobId(Uuid::from_u128(u128::from(n) + (12 << 64)))
}

fn memory(n: u8) -> Memory {
    let mut memory = Memory {
        memory_id: id(n),
        version: 1,
        project: "p".into(),
        kind: Kind::Fact,
        event: Event::Add,
        owner: Default::default(),
        text: format!("text {n}"),
        hash: "h".into(),
        metadata: map(value!({"n": n, "ratio": 1.5, "tags": ["a", "b"], "deep": {"x": true}})),
        categories: vec!["food".into()],
        entities: vec!["ada".into()],
        role: Some("user".into()),
        actor: None,
        sources: vec![id(200)],
        linked: vec![],
        state: State::Active,
        replaced_by: None,
        immutable: false,
        happened_at: at(i64::from(n) - 100),
        expires_on: None,
        created_at: at(n.into()),
        updated_at: at(n.into()),
        extra: map(value!({"k": [1, null]})),
    };
    memory.owner.user_id = Some("ada".into());
    memory
}

fn put(memory: Memory) -> Change {
    Change::Put(Box::new(memory))
}

/// The next version, at this moment.
fn next(memory: &Memory, event: Event, seconds: i64) -> Memory {
    Memory {
        version: memory.version + 1,
        event,
        text: format!("{} then", memory.text),
        updated_at: at(seconds),
        ..memory.clone()
    }
}

async fn apply(backend: &Backend, changes: Vec<Change>) -> Result<()> {
    backend.memories.apply(&Scope::local(), changes).await
}

async fn store(backend: &Backend, memories: &[Memory]) -> Result<()> {
    apply(backend, memories.iter().cloned().map(put).collect()).await
}

async fn get(backend: &Backend, n: u8) -> Result<Option<Memory>> {
    let found = backend
        .memories
        .get(&Scope::local(), &[id(n)], None)
        .await?;
    Ok(found.into_iter().next())
}

fn of_project() -> MemoryQuery {
    MemoryQuery {
        project: "p".into(),
        ..MemoryQuery::default()
    }
}

async fn numbers(backend: &Backend, query: &MemoryQuery) -> Result<Vec<u8>> {
    let page = PageQuery {
        limit: 100,
        sort_by: "memory_id".into(),
        order: crate::page::Order::Ascending,
        ..PageQuery::default()
    };
    let found = backend.memories.list(&Scope::local(), query, &page).await?;
    assert_eq!(found.total, found.items.len() as u64);
    let number = |memory: &Memory| memory.memory_id.0.as_bytes()[15];
    Ok(found.items.iter().map(number).collect())
}

/// Every field, of a full one and of a bare one.
pub async fn a_memory_is_read_back(backend: Backend) -> Result<()> {
    let mut full = memory(1);
    full.owner.agent_id = Some("a b/c".into());
    full.owner.app_id = Some("app".into());
    full.owner.run_id = Some("r".into());
    full.actor = Some("Ada".into());
    full.state = State::Merged;
    full.replaced_by = Some(id(9));
    full.immutable = true;
    full.expires_on = Some("2030-01-31".into());
    let bare = Memory {
        metadata: map(value!({})),
        categories: vec![],
        entities: vec![],
        role: None,
        sources: vec![],
        ..memory(2)
    };
    store(&backend, &[full.clone(), bare.clone()]).await?;
    let ids = [id(2), id(3), id(1)];
    let found = backend.memories.get(&Scope::local(), &ids, None).await?;
    assert_eq!(found, [bare, full]);
    Ok(())
}

/// Neither the same again, nor one that skips, nor a first one that is not.
pub async fn a_version_follows_the_one_before_it(backend: Backend) -> Result<()> {
    let first = memory(1);
    let second = next(&first, Event::Update, 5);
    refused(
        store(&backend, std::slice::from_ref(&second)).await,
        Conflict,
    );
    store(&backend, std::slice::from_ref(&first)).await?;
    let third = next(&second, Event::Update, 6);
    for wrong in [&first, &third] {
        refused(store(&backend, std::slice::from_ref(wrong)).await, Conflict);
    }
    store(&backend, std::slice::from_ref(&second)).await?;
    assert_eq!(get(&backend, 1).await?, Some(second));
    Ok(())
}

/// Also with jobs and notes in it.
pub async fn a_decision_is_stored_whole_or_not_at_all(backend: Backend) -> Result<()> {
    store(&backend, &[memory(1)]).await?;
    let changes = vec![
        put(memory(2)),
        Change::InsertJob(Box::new(job(1, "l"))),
        Change::PutNote(Box::new(note(1, "k"))),
        put(memory(1)),
    ];
    refused(apply(&backend, changes).await, Conflict);
    assert_eq!(get(&backend, 2).await?, None);
    let scope = Scope::local();
    assert_eq!(backend.memories.job(&scope, job_id(1)).await?, None);
    let note = backend.memories.note(&scope, "p", "webhook", "k").await?;
    assert_eq!(note, None);
    let first = memory(3);
    store(&backend, &[first.clone(), next(&first, Event::Update, 9)]).await?;
    assert_eq!(
        get(&backend, 3).await?.map(|memory| memory.version),
        Some(2)
    );
    apply(&backend, vec![]).await
}

/// They neither read, nor list, nor change, nor take an id.
pub async fn strangers_see_no_memories(backend: Backend) -> Result<()> {
    store(&backend, &[memory(1)]).await?;
    let (theirs, memories) = (stranger(), &backend.memories);
    assert!(memories.get(&theirs, &[id(1)], None).await?.is_empty());
    assert!(
        memories
            .get(&theirs, &[id(1)], Some(at(50)))
            .await?
            .is_empty()
    );
    assert!(memories.versions(&theirs, id(1)).await?.is_empty());
    assert_eq!(memories.changes(&theirs, "p", 10, 0).await?.total, 0);
    assert_eq!(memories.owners(&theirs, "p", None, 10, 0).await?.total, 0);
    let all = PageQuery::default();
    let mut query = of_project();
    assert_eq!(memories.list(&theirs, &query, &all).await?.total, 0);
    query.as_of = Some(at(50));
    assert_eq!(memories.list(&theirs, &query, &all).await?.total, 0);
    for wrong in [memory(1), next(&memory(1), Event::Delete, 3)] {
        refused(memories.apply(&theirs, vec![put(wrong)]).await, Conflict);
    }
    assert_eq!(get(&backend, 1).await?, Some(memory(1)));
    Ok(())
}

/// Of one that is gone too.
pub async fn all_versions_are_kept(backend: Backend) -> Result<()> {
    let first = memory(1);
    let second = next(&first, Event::Update, 5);
    let last = next(&second, Event::Delete, 6);
    let all = [first, second, last];
    store(&backend, &all).await?;
    store(&backend, &[memory(2)]).await?;
    let scope = Scope::local();
    assert_eq!(backend.memories.versions(&scope, id(1)).await?, all);
    let changes = backend.memories.changes(&scope, "p", 3, 0).await?;
    let order: Vec<(MemoryId, u64)> = changes
        .items
        .iter()
        .map(|one| (one.memory_id, one.version))
        .collect();
    assert_eq!(order, [(id(1), 3), (id(1), 2), (id(2), 1)]);
    assert_eq!(changes.total, 4);
    Ok(())
}

/// By id and as a list, before the beginning and after the end.
pub async fn any_moment_can_be_read_again(backend: Backend) -> Result<()> {
    let first = memory(10);
    let second = next(&first, Event::Update, 20);
    let last = next(&second, Event::Delete, 30);
    store(&backend, &[first.clone(), second.clone(), last]).await?;
    for (moment, wanted) in [
        (9, None),
        (10, Some(&first)),
        (19, Some(&first)),
        (20, Some(&second)),
        (29, Some(&second)),
        (30, None),
    ] {
        let at = Some(at(moment));
        let found = backend.memories.get(&Scope::local(), &[id(10)], at).await?;
        assert_eq!(found.first(), wanted, "{moment}");
        let query = MemoryQuery {
            as_of: at,
            ..of_project()
        };
        let page = PageQuery::default();
        let listed = backend
            .memories
            .list(&Scope::local(), &query, &page)
            .await?;
        assert_eq!(listed.items.first(), wanted, "{moment}");
    }
    Ok(())
}

/// Nor is it found by its id.
pub async fn a_deleted_memory_is_in_no_list(backend: Backend) -> Result<()> {
    let first = memory(1);
    store(&backend, &[first.clone(), memory(2)]).await?;
    store(&backend, &[next(&first, Event::Delete, 9)]).await?;
    assert_eq!(numbers(&backend, &of_project()).await?, [2]);
    assert_eq!(get(&backend, 1).await?, None);
    let marks = backend.memories.marks(None, 10).await?;
    assert_eq!(marks.len(), 1);
    Ok(())
}

/// All kinds if none is named.
pub async fn a_list_keeps_to_its_project_and_kinds(backend: Backend) -> Result<()> {
    let turn = Memory {
        kind: Kind::Turn,
        ..memory(2)
    };
    let other = Memory {
        project: "q".into(),
        ..memory(3)
    };
    store(&backend, &[memory(1), turn, other]).await?;
    assert_eq!(numbers(&backend, &of_project()).await?, [1, 2]);
    for (kinds, wanted) in [
        (vec![Kind::Turn], vec![2]),
        (vec![Kind::Turn, Kind::Fact], vec![1, 2]),
        (vec![Kind::Procedure], vec![]),
    ] {
        let query = MemoryQuery {
            kinds,
            ..of_project()
        };
        assert_eq!(numbers(&backend, &query).await?, wanted);
    }
    Ok(())
}

/// By each column in both directions.
pub async fn a_list_is_sorted_and_paged(backend: Backend) -> Result<()> {
    use crate::page::Order::{Ascending, Descending};
    let mut memories = [memory(1), memory(2), memory(3)];
    memories[0].happened_at = at(500);
    memories[1].updated_at = at(500);
    store(&backend, &memories).await?;
    for (column, order, wanted) in [
        ("created_at", Descending, [3, 2, 1]),
        ("created_at", Ascending, [1, 2, 3]),
        ("updated_at", Descending, [2, 3, 1]),
        ("happened_at", Descending, [1, 3, 2]),
        ("memory_id", Ascending, [1, 2, 3]),
    ] {
        let mut found = Vec::new();
        for offset in 0..3 {
            let page = PageQuery {
                limit: 1,
                offset,
                sort_by: column.into(),
                order,
            };
            let (scope, query) = (Scope::local(), of_project());
            let one = backend.memories.list(&scope, &query, &page).await?;
            assert_eq!(one.total, 3);
            found.extend(one.items.iter().map(|one| one.memory_id.0.as_bytes()[15]));
        }
        assert_eq!(found, wanted, "{column} {order:?}");
    }
    Ok(())
}

/// NUL, quotes, percent signs.
pub async fn texts_of_any_kind_are_kept_and_found(backend: Backend) -> Result<()> {
    let texts = ["nul \0 byte", "it's \"so\" % _ \\ $1 ?", "日本語 😀", ""];
    for (n, text) in (1..).zip(texts) {
        let memory = Memory {
            text: text.into(),
            metadata: map(value!({"t": text})),
            ..memory(n)
        };
        store(&backend, std::slice::from_ref(&memory)).await?;
        assert_eq!(get(&backend, n).await?, Some(memory));
        let query = MemoryQuery {
            condition: Some(Condition::Equals(
                Field::within(&["metadata", "t"]),
                Value::str(text),
            )),
            ..of_project()
        };
        assert_eq!(numbers(&backend, &query).await?, [n], "{text:?}");
    }
    Ok(())
}

/// Before anything is looked for.
pub async fn a_condition_that_cannot_be_evaluated_is_refused(backend: Backend) -> Result<()> {
    let query = MemoryQuery {
        condition: Some(Condition::Equals(Field::of("user_id"), Value::Null)),
        ..of_project()
    };
    let (scope, page) = (Scope::local(), PageQuery::default());
    refused(backend.memories.list(&scope, &query, &page).await, Invalid);
    let page = PageQuery {
        sort_by: "text".into(),
        ..page
    };
    refused(
        backend.memories.list(&scope, &of_project(), &page).await,
        Invalid,
    );
    Ok(())
}

/// By kind, then name.
pub async fn owners_are_counted(backend: Backend) -> Result<()> {
    let mut memories = [memory(1), memory(2), memory(3)];
    memories[1].owner.agent_id = Some("bot".into());
    memories[2].owner.user_id = Some("aaa".into());
    store(&backend, &memories).await?;
    let owners = async |kind, limit, offset| {
        let (scope, memories) = (Scope::local(), &backend.memories);
        let found = memories.owners(&scope, "p", kind, limit, offset).await?;
        let items = found.items.into_iter();
        let shown = items.map(|one| (one.kind, one.name, one.memories, one.created_at));
        Ok::<_, agentflow_types::Error>((shown.collect::<Vec<_>>(), found.total))
    };
    let ada = (OwnerKind::User, "ada".to_owned(), 2, at(1));
    let aaa = (OwnerKind::User, "aaa".to_owned(), 1, at(3));
    let bot = (OwnerKind::Agent, "bot".to_owned(), 1, at(2));
    let all = (vec![aaa, ada.clone(), bot.clone()], 3);
    assert_eq!(owners(None, 10, 0).await?, all);
    assert_eq!(owners(None, 1, 1).await?, (vec![ada], 3));
    let agents = owners(Some(OwnerKind::Agent), 10, 0).await?;
    assert_eq!(agents, (vec![bot], 1));
    Ok(())
}

/// For who compares records with an index.
pub async fn marks_come_by_id_of_all_tenants(backend: Backend) -> Result<()> {
    let first = memory(1);
    store(
        &backend,
        &[first.clone(), next(&first, Event::Update, 9), memory(3)],
    )
    .await?;
    backend
        .memories
        .apply(&stranger(), vec![put(memory(2))])
        .await?;
    let marks = backend.memories.marks(None, 2).await?;
    let shown: Vec<_> = marks
        .iter()
        .map(|mark| (mark.tenant.as_str(), mark.memory_id, mark.version))
        .collect();
    let (own, theirs) = (Scope::local(), stranger());
    assert_eq!(
        shown,
        [(own.tenant(), id(1), 2), (theirs.tenant(), id(2), 1)]
    );
    let rest = backend.memories.marks(Some(id(2)), 2).await?;
    assert_eq!(rest.len(), 1);
    Ok(())
}

/// And with nothing if its memory is refused.
pub async fn a_letter_is_posted_with_its_memory(backend: Backend) -> Result<()> {
    let letter = |n: u8| {
        Change::Post(Box::new(Letter {
            letter_id: LetterId(Uuid::from_u128(u128::from(n) + (13 << 64))),
            topic: "memories".into(),
            created_at: at(0),
            body: value!({"n": n}),
        }))
    };
    apply(&backend, vec![letter(1), put(memory(1)), letter(1)]).await?;
    refused(
        apply(&backend, vec![letter(2), put(memory(1))]).await,
        Conflict,
    );
    let letters = backend.outbox.claim("memories", at(1), at(9), 9).await?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].tenant, Scope::local().tenant());
    assert_eq!(letters[0].letter.body, value!({"n": 1}));
    Ok(())
}

/// Each repeats what was refused until it is stored.
pub async fn parallel_writers_lose_nothing(backend: Backend) -> Result<()> {
    const WRITERS: u8 = 4;
    const EACH: i64 = 5;
    store(&backend, &[memory(1)]).await?;
    let writers = (0..WRITERS).map(|writer| {
        let backend = backend.clone();
        async move {
            for _ in 0..EACH {
                loop {
                    let Some(found) = get(&backend, 1).await? else {
                        continue;
                    };
                    let mut more = next(&found, Event::Update, found.version as i64 + 1);
                    more.entities.push(writer.to_string());
                    match store(&backend, &[more]).await {
                        Err(err) if err.kind() == Conflict => {}
                        other => break other?,
                    }
                }
            }
            Ok::<_, agentflow_types::Error>(())
        }
    });
    futures_util::future::try_join_all(writers).await?;
    let found = get(&backend, 1).await?.unwrap_or_else(|| memory(1));
    let all = u64::from(WRITERS) * EACH as u64;
    assert_eq!(
        (found.version, found.entities.len() as u64),
        (all + 1, all + 1)
    );
    let versions = backend.memories.versions(&Scope::local(), id(1)).await?;
    assert_eq!(versions.len() as u64, all + 1);
    Ok(())
}
