//! Cases of [`crate::cron::Crons`].

use agentflow_types::{
    CronId,
    ErrorKind::{Conflict, Invalid},
    Map, MemoryScope, Result, Rights, Scope, value,
};
use uuid::Uuid;

use super::{
    refused,
    sample::{assistant_id, at, change, event, map, run, stranger, thread_id},
    suite,
};
use crate::{
    Backend,
    cron::{Cron, CronQuery},
    filter::CRON_COLUMNS,
    page::{Order, PageQuery},
    record::{Change, RunQuery},
};

suite! {
    ($)
    /// Instantiates the cases of the crons port.
    cron_conformance:
    a_cron_is_read_back,
    a_put_replaces_the_cron,
    strangers_see_no_cron,
    cron_conditions_hold_together,
    crons_sort_by_every_column,
    cron_pages_have_the_total,
    due_crons_come_oldest_first,
    advancing_compares_first,
    a_firing_is_part_of_its_decision,
}

pub(super) fn cron_id(n: u8) -> CronId {
    CronId(Uuid::from_u128(u128::from(n) + (4 << 64)))
}

pub(super) fn cron(n: u8) -> Cron {
    Cron {
        cron_id: cron_id(n),
        assistant_id: assistant_id(1),
        thread_id: None,
        on_run_completed: None,
        end_time: None,
        schedule: "* * * * *".into(),
        timezone: None,
        created_at: at(n.into()),
        updated_at: at(n.into()),
        user_id: None,
        payload: map(value!({"input": {"a": [1, 1.0]}})),
        next_run_date: Some(at(n.into())),
        metadata: Map::new(),
        enabled: true,
        rights: Rights::default(),
    }
}

async fn search(backend: &Backend, query: CronQuery, page: PageQuery) -> Result<Vec<u8>> {
    let found = backend.crons.search(&Scope::local(), &query, &page).await?;
    Ok(found
        .items
        .iter()
        .map(|row| row.cron_id.0.as_bytes()[15])
        .collect())
}

async fn due(backend: &Backend, seconds: i64, limit: u32) -> Result<Vec<u8>> {
    let found = backend.crons.due(at(seconds), limit).await?;
    Ok(found
        .iter()
        .map(|(_, row)| row.cron_id.0.as_bytes()[15])
        .collect())
}

/// Every field, set and unset.
pub async fn a_cron_is_read_back(backend: Backend) -> Result<()> {
    let limit = MemoryScope::parse(r#"{"user_id": "alice"}"#)?;
    let full = Cron {
        thread_id: Some(thread_id(1)),
        on_run_completed: Some("keep".into()),
        end_time: Some(at(99)),
        timezone: Some("Europe/Berlin".into()),
        user_id: Some("u".into()),
        metadata: map(value!({"a": {"b": null}})),
        enabled: false,
        rights: Rights::of(&Scope::local().within(limit)),
        ..cron(1)
    };
    let empty = Cron {
        next_run_date: None,
        ..cron(2)
    };
    for row in [full, empty] {
        assert_eq!(backend.crons.get(&Scope::local(), row.cron_id).await?, None);
        backend.crons.put(&Scope::local(), row.clone()).await?;
        assert_eq!(
            backend.crons.get(&Scope::local(), row.cron_id).await?,
            Some(row)
        );
    }
    Ok(())
}

/// And can be deleted once.
pub async fn a_put_replaces_the_cron(backend: Backend) -> Result<()> {
    backend.crons.put(&Scope::local(), cron(1)).await?;
    let changed = Cron {
        schedule: "0 0 * * *".into(),
        enabled: false,
        rights: Rights::of(&Scope::local()),
        ..cron(1)
    };
    backend.crons.put(&Scope::local(), changed.clone()).await?;
    assert_eq!(
        backend.crons.get(&Scope::local(), cron_id(1)).await?,
        Some(changed)
    );
    assert!(backend.crons.delete(&Scope::local(), cron_id(1)).await?);
    assert!(!backend.crons.delete(&Scope::local(), cron_id(1)).await?);
    assert_eq!(backend.crons.get(&Scope::local(), cron_id(1)).await?, None);
    Ok(())
}

/// Nor take its id.
pub async fn strangers_see_no_cron(backend: Backend) -> Result<()> {
    backend.crons.put(&Scope::local(), cron(1)).await?;
    let other = stranger();
    assert_eq!(backend.crons.get(&other, cron_id(1)).await?, None);
    assert!(!backend.crons.delete(&other, cron_id(1)).await?);
    let stolen = Cron {
        schedule: "stolen".into(),
        ..cron(1)
    };
    refused(backend.crons.put(&other, stolen).await, Conflict);
    let query = CronQuery::default();
    assert_eq!(
        backend
            .crons
            .search(&other, &query, &PageQuery::default())
            .await?
            .total,
        0
    );
    assert_eq!(
        backend.crons.get(&Scope::local(), cron_id(1)).await?,
        Some(cron(1))
    );
    Ok(())
}

/// Assistant, thread, enabled, metadata.
pub async fn cron_conditions_hold_together(backend: Backend) -> Result<()> {
    let on_thread = Cron {
        thread_id: Some(thread_id(1)),
        enabled: false,
        ..cron(1)
    };
    let tagged = Cron {
        metadata: map(value!({"a": [1, 2]})),
        ..cron(2)
    };
    let other = Cron {
        assistant_id: assistant_id(2),
        ..cron(3)
    };
    for row in [on_thread, tagged, other] {
        backend.crons.put(&Scope::local(), row).await?;
    }
    let all = CronQuery::default;
    for (query, expected) in [
        (all(), vec![3, 2, 1]),
        (
            CronQuery {
                assistant_id: Some(assistant_id(1)),
                ..all()
            },
            vec![2, 1],
        ),
        (
            CronQuery {
                thread_id: Some(thread_id(1)),
                ..all()
            },
            vec![1],
        ),
        (
            CronQuery {
                enabled: Some(true),
                ..all()
            },
            vec![3, 2],
        ),
        (
            CronQuery {
                enabled: Some(false),
                ..all()
            },
            vec![1],
        ),
        (
            CronQuery {
                metadata: map(value!({"a": [2]})),
                ..all()
            },
            vec![2],
        ),
        (
            CronQuery {
                thread_id: Some(thread_id(1)),
                enabled: Some(true),
                ..all()
            },
            vec![],
        ),
    ] {
        let found = search(&backend, query.clone(), PageQuery::default()).await?;
        assert_eq!(found, expected, "{query:?}");
    }
    Ok(())
}

/// What is absent is smallest.
pub async fn crons_sort_by_every_column(backend: Backend) -> Result<()> {
    let first = Cron {
        thread_id: Some(thread_id(1)),
        next_run_date: None,
        end_time: Some(at(1)),
        created_at: at(9),
        ..cron(1)
    };
    let second = Cron {
        assistant_id: assistant_id(0),
        updated_at: at(9),
        ..cron(2)
    };
    for row in [first, second, cron(3)] {
        backend.crons.put(&Scope::local(), row).await?;
    }
    for (column, expected) in [
        ("cron_id", [1, 2, 3]),
        ("assistant_id", [2, 1, 3]),
        ("thread_id", [2, 3, 1]),
        ("next_run_date", [1, 2, 3]),
        ("end_time", [2, 3, 1]),
        ("created_at", [2, 3, 1]),
        ("updated_at", [1, 3, 2]),
    ] {
        assert!(CRON_COLUMNS.contains(&column));
        let page = |order| PageQuery {
            sort_by: column.into(),
            order,
            ..PageQuery::default()
        };
        let up = search(&backend, CronQuery::default(), page(Order::Ascending)).await?;
        assert_eq!(up, expected, "{column}");
        let down = search(&backend, CronQuery::default(), page(Order::Descending)).await?;
        assert!(down.iter().rev().eq(&expected), "{column}");
    }
    Ok(())
}

/// And checked bounds.
pub async fn cron_pages_have_the_total(backend: Backend) -> Result<()> {
    for n in 1..=3 {
        backend.crons.put(&Scope::local(), cron(n)).await?;
    }
    let page = PageQuery {
        limit: 1,
        offset: 1,
        ..PageQuery::default()
    };
    let found = backend
        .crons
        .search(&Scope::local(), &CronQuery::default(), &page)
        .await?;
    assert_eq!((found.items, found.total), (vec![cron(2)], 3));
    let wrong = PageQuery {
        sort_by: "payload".into(),
        ..PageQuery::default()
    };
    refused(search(&backend, CronQuery::default(), wrong).await, Invalid);
    Ok(())
}

/// Enabled ones of all tenants, not past their end.
pub async fn due_crons_come_oldest_first(backend: Backend) -> Result<()> {
    let rows = [
        Cron {
            next_run_date: Some(at(30)),
            ..cron(1)
        },
        Cron {
            next_run_date: Some(at(10)),
            end_time: Some(at(10)),
            ..cron(2)
        },
        Cron {
            enabled: false,
            ..cron(3)
        },
        Cron {
            next_run_date: None,
            ..cron(4)
        },
        Cron {
            next_run_date: Some(at(5)),
            end_time: Some(at(4)),
            ..cron(5)
        },
    ];
    for row in rows {
        backend.crons.put(&Scope::local(), row).await?;
    }
    backend
        .crons
        .put(
            &stranger(),
            Cron {
                next_run_date: Some(at(20)),
                ..cron(6)
            },
        )
        .await?;
    assert!(due(&backend, 9, 10).await?.is_empty());
    assert_eq!(due(&backend, 10, 10).await?, [2]);
    assert_eq!(due(&backend, 99, 10).await?, [2, 6, 1]);
    assert_eq!(due(&backend, 99, 2).await?, [2, 6]);
    let found = backend.crons.due(at(99), 2).await?;
    assert_eq!(
        found.last().map(|(scope, _)| scope.clone()),
        Some(stranger())
    );
    Ok(())
}

/// Two servers do not fire the same time twice.
pub async fn advancing_compares_first(backend: Backend) -> Result<()> {
    backend.crons.put(&Scope::local(), cron(1)).await?;
    assert!(
        backend
            .crons
            .advance(cron_id(1), at(1), Some(at(60)))
            .await?
    );
    assert!(
        !backend
            .crons
            .advance(cron_id(1), at(1), Some(at(90)))
            .await?
    );
    assert!(!backend.crons.advance(cron_id(2), at(1), None).await?);
    assert_eq!(due(&backend, 60, 9).await?, [1]);
    assert!(backend.crons.advance(cron_id(1), at(60), None).await?);
    assert!(due(&backend, 999, 9).await?.is_empty());
    let row = backend.crons.get(&Scope::local(), cron_id(1)).await?;
    assert_eq!(
        row,
        Some(Cron {
            next_run_date: None,
            ..cron(1)
        })
    );
    Ok(())
}

/// The run and the next date come together, once.
pub async fn a_firing_is_part_of_its_decision(backend: Backend) -> Result<()> {
    let scope = Scope::local();
    backend.crons.put(&scope, cron(1)).await?;
    let fire = |thread: u8, expected: i64| {
        vec![
            Change::AdvanceCron {
                cron_id: cron_id(1),
                expected: at(expected),
                next: Some(at(60)),
            },
            Change::PutThread(Box::new(super::sample::thread(thread))),
            Change::PutRun(Box::new(run(thread, thread))),
        ]
    };
    refused(change(&backend, &scope, 1, fire(1, 2)).await, Conflict);
    refused(change(&backend, &stranger(), 1, fire(1, 1)).await, Conflict);
    change(&backend, &scope, 1, fire(1, 1)).await?;
    refused(change(&backend, &scope, 2, fire(2, 1)).await, Conflict);
    let found = backend.crons.get(&scope, cron_id(1)).await?;
    assert_eq!(found.and_then(|cron| cron.next_run_date), Some(at(60)));
    assert_eq!(backend.threads.get(&scope, thread_id(2)).await?, None);
    let all = RunQuery {
        limit: 9,
        ..RunQuery::default()
    };
    assert_eq!(backend.threads.runs(&scope, &all).await?.len(), 1);

    // A decision that is refused for another reason moves no cron.
    let mut lost = fire(3, 60);
    lost.push(Change::Append(vec![event(2, 3), event(1, 3)]));
    refused(change(&backend, &scope, 3, lost).await, Conflict);
    let found = backend.crons.get(&scope, cron_id(1)).await?;
    assert_eq!(found.and_then(|cron| cron.next_run_date), Some(at(60)));
    Ok(())
}
