//! Searches of threads and runs.

use agentflow_types::{ErrorKind::Invalid, Result, Scope, Value, value};

use super::{
    super::{
        refused,
        sample::{at, map, run, run_id, seed, thread, thread_id},
    },
    paged, runs, search,
};
use crate::{
    Backend,
    filter::THREAD_COLUMNS,
    page::{Order, PageQuery},
    record::{Run, RunQuery, RunStatus, Thread, ThreadQuery, ThreadStatus},
};

/// By id and status.
pub async fn search_finds_threads(backend: Backend) -> Result<()> {
    for n in 1..=4 {
        let status = if n % 2 == 0 {
            ThreadStatus::Busy
        } else {
            ThreadStatus::Idle
        };
        seed(
            &backend,
            Thread {
                status,
                ..thread(n)
            },
            vec![],
        )
        .await?;
    }
    let all = ThreadQuery::default;
    assert_eq!(search(&backend, all()).await?, [4, 3, 2, 1]);
    let some = ThreadQuery {
        ids: vec![thread_id(9), thread_id(1), thread_id(2)],
        ..all()
    };
    assert_eq!(search(&backend, some.clone()).await?, [2, 1]);
    let busy = ThreadQuery {
        status: Some(ThreadStatus::Busy),
        ..all()
    };
    assert_eq!(search(&backend, busy).await?, [4, 2]);
    let both = ThreadQuery {
        status: Some(ThreadStatus::Busy),
        ..some
    };
    assert_eq!(search(&backend, both).await?, [2]);
    Ok(())
}

/// In metadata and in values.
pub async fn search_contains_json(backend: Backend) -> Result<()> {
    let rows = [
        (
            value!({"a": 1, "tags": ["x", "y"]}),
            value!({"m": [{"role": "ai", "n": 1}]}),
        ),
        (
            value!({"a": 1.0, "deep": {"b": {"c": 1, "d": 2}}}),
            Value::Null,
        ),
        (value!({"a": "1", "none": null}), value!([1])),
    ];
    for (n, (metadata, values)) in (1..).zip(rows) {
        seed(
            &backend,
            Thread {
                metadata: map(metadata),
                values,
                ..thread(n)
            },
            vec![],
        )
        .await?;
    }
    let none = || value!({});
    for (metadata, values, expected) in [
        (value!({"a": 1}), none(), vec![2, 1]),
        (value!({"tags": ["y"]}), none(), vec![1]),
        (value!({"tags": ["y", "z"]}), none(), vec![]),
        (value!({"tags": "y"}), none(), vec![]),
        (value!({"deep": {"b": {"c": 1}}}), none(), vec![2]),
        (value!({"none": null}), none(), vec![3]),
        (none(), value!({"m": [{"role": "ai"}]}), vec![1]),
        (none(), value!({"m": []}), vec![1]),
        (value!({"a": "1"}), value!({"m": []}), vec![]),
    ] {
        let query = ThreadQuery {
            metadata: map(metadata),
            values: map(values),
            ..Default::default()
        };
        assert_eq!(
            search(&backend, query.clone()).await?,
            expected,
            "{query:?}"
        );
    }
    Ok(())
}

/// In both directions; ties by id in the same direction.
pub async fn threads_sort_by_every_column(backend: Backend) -> Result<()> {
    let rows = [
        Thread {
            created_at: at(9),
            status: ThreadStatus::Error,
            ..thread(1)
        },
        Thread {
            updated_at: at(0),
            status: ThreadStatus::Busy,
            ..thread(2)
        },
        Thread {
            state_updated_at: at(1),
            status: ThreadStatus::Error,
            ..thread(3)
        },
    ];
    for row in rows {
        seed(&backend, row, vec![]).await?;
    }
    for (column, expected) in [
        ("thread_id", [1, 2, 3]),
        ("status", [2, 1, 3]),
        ("created_at", [2, 3, 1]),
        ("updated_at", [2, 1, 3]),
        ("state_updated_at", [1, 3, 2]),
    ] {
        assert!(THREAD_COLUMNS.contains(&column));
        let page = |order| PageQuery {
            sort_by: column.into(),
            order,
            ..PageQuery::default()
        };
        let up = paged(&backend, ThreadQuery::default(), page(Order::Ascending)).await?;
        assert_eq!(up, expected, "{column}");
        let down = paged(&backend, ThreadQuery::default(), page(Order::Descending)).await?;
        assert!(down.iter().rev().eq(&expected), "{column}");
    }
    Ok(())
}

/// And checked bounds.
pub async fn thread_pages_have_the_total(backend: Backend) -> Result<()> {
    for n in 1..=5 {
        seed(&backend, thread(n), vec![]).await?;
    }
    let page = PageQuery {
        limit: 2,
        offset: 3,
        ..PageQuery::default()
    };
    let query = ThreadQuery::default();
    let found = backend
        .threads
        .search(&Scope::local(), &query, &page)
        .await?;
    assert_eq!((found.items, found.total), (vec![thread(2), thread(1)], 5));
    for wrong in [
        PageQuery {
            sort_by: "metadata".into(),
            ..PageQuery::default()
        },
        PageQuery {
            limit: 0,
            ..PageQuery::default()
        },
    ] {
        refused(
            paged(&backend, ThreadQuery::default(), wrong).await,
            Invalid,
        );
    }
    Ok(())
}

/// By thread, ids and status, a page at a time.
pub async fn runs_are_found_newest_first(backend: Backend) -> Result<()> {
    let ended = Run {
        status: RunStatus::Success,
        ..run(1, 2)
    };
    seed(&backend, thread(1), vec![run(1, 1), ended, run(1, 4)]).await?;
    seed(&backend, thread(2), vec![run(2, 3)]).await?;
    let all = || RunQuery {
        limit: 10,
        ..RunQuery::default()
    };
    assert_eq!(runs(&backend, all()).await?, [4, 3, 2, 1]);
    assert_eq!(
        runs(
            &backend,
            RunQuery {
                limit: 2,
                offset: 1,
                ..all()
            }
        )
        .await?,
        [3, 2]
    );
    let of_thread = || RunQuery {
        thread_id: Some(thread_id(1)),
        ..all()
    };
    assert_eq!(runs(&backend, of_thread()).await?, [4, 2, 1]);
    let pending = RunQuery {
        status: Some(RunStatus::Pending),
        ..of_thread()
    };
    assert_eq!(runs(&backend, pending).await?, [4, 1]);
    let some = RunQuery {
        run_ids: vec![run_id(1), run_id(3), run_id(9)],
        ..all()
    };
    assert_eq!(runs(&backend, some).await?, [3, 1]);
    Ok(())
}
