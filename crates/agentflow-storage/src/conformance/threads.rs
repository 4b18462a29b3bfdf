//! Cases of [`crate::record::Threads`].

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use agentflow_types::{
    Error,
    ErrorKind::{Bug, Conflict, Invalid, NotFound},
    Result, Scope, Value,
    graph::Interrupt,
    value,
};
use futures_util::future::join_all;

use super::{
    refused,
    sample::{
        at, change, checkpoint_id, event, key, leased, map, put, run, run_id, seed, stranger,
        thread, thread_id, writes,
    },
    suite,
};
use crate::{
    Backend,
    checkpoint::CheckpointQuery,
    filter::THREAD_COLUMNS,
    page::{Order, PageQuery},
    record::{
        CancelAction, Change, MultitaskStrategy, Run, RunQuery, RunStatus, Thread, ThreadQuery,
        ThreadStatus, ThreadTtl,
    },
};

suite! {
    ($)
    /// Instantiates the cases of the threads port.
    thread_conformance:
    a_thread_is_read_back,
    a_run_is_read_back,
    a_decision_sees_the_live_runs,
    a_failed_decision_writes_nothing,
    a_refused_change_undoes_the_others,
    a_decision_stays_on_its_thread,
    decisions_about_a_thread_do_not_interleave,
    a_decision_appends_events,
    rolling_back_removes_the_run_and_its_checkpoints,
    deleting_a_run_keeps_its_checkpoints,
    deleting_a_thread_removes_everything,
    strangers_see_no_thread,
    search_finds_threads,
    search_contains_json,
    threads_sort_by_every_column,
    thread_pages_have_the_total,
    runs_are_found_newest_first,
    candidates_are_threads_with_work,
    a_heartbeat_needs_the_lease,
    a_heartbeat_extends_the_lease,
    runs_are_counted_by_status,
    threads_expire,
}

async fn search(backend: &Backend, query: ThreadQuery) -> Result<Vec<u8>> {
    paged(backend, query, PageQuery::default()).await
}

async fn paged(backend: &Backend, query: ThreadQuery, page: PageQuery) -> Result<Vec<u8>> {
    let found = backend
        .threads
        .search(&Scope::local(), &query, &page)
        .await?;
    Ok(found
        .items
        .iter()
        .map(|row| row.thread_id.0.as_bytes()[15])
        .collect())
}

async fn runs(backend: &Backend, query: RunQuery) -> Result<Vec<u8>> {
    let found = backend.threads.runs(&Scope::local(), &query).await?;
    Ok(found
        .iter()
        .map(|row| row.run_id.0.as_bytes()[15])
        .collect())
}

async fn candidates(backend: &Backend, seconds: i64, limit: u32) -> Result<Vec<u8>> {
    let found = backend.threads.candidates(at(seconds), limit).await?;
    Ok(found
        .iter()
        .map(|row| row.thread_id.0.as_bytes()[15])
        .collect())
}

/// Every field, set and unset, new and changed.
pub async fn a_thread_is_read_back(backend: Backend) -> Result<()> {
    assert_eq!(
        backend.threads.get(&Scope::local(), thread_id(1)).await?,
        None
    );
    let interrupt = Interrupt {
        value: value!({"q": [1, 1.0]}),
        id: "i".into(),
        response_schema: Some(value!({"type": "string"})),
    };
    let full = Thread {
        updated_at: at(2),
        state_updated_at: at(3),
        metadata: map(value!({"graph_id": "g", "n": 1.0})),
        config: map(value!({"configurable": {"a": 1}})),
        status: ThreadStatus::Interrupted,
        values: value!({"messages": [{"type": "human"}], "n": u64::MAX}),
        interrupts: [("task".to_owned(), vec![interrupt])].into_iter().collect(),
        error: value!({"error": "E", "message": "m"}),
        ttl: Some(ThreadTtl {
            strategy: "delete".into(),
            ttl_minutes: 1.5,
        }),
        ..thread(1)
    };
    for row in [thread(1), full, thread(1)] {
        seed(&backend, row.clone(), vec![]).await?;
        assert_eq!(
            backend.threads.get(&Scope::local(), thread_id(1)).await?,
            Some(row)
        );
    }
    Ok(())
}

/// Every field, set and unset, new and changed.
pub async fn a_run_is_read_back(backend: Backend) -> Result<()> {
    let full = Run {
        updated_at: at(9),
        metadata: map(value!({"a": {"b": null}})),
        multitask_strategy: MultitaskStrategy::Rollback,
        attempt: 3,
        cancel: Some(CancelAction::Rollback),
        error: value!({"error": "E"}),
        temporary_thread: true,
        ..leased(run(1, 1), i64::MAX, at(60))
    };
    for row in [run(1, 1), full, run(1, 1)] {
        seed(&backend, thread(1), vec![row.clone()]).await?;
        assert_eq!(
            backend.threads.run(&Scope::local(), run_id(1)).await?,
            Some(row)
        );
    }
    assert_eq!(backend.threads.run(&Scope::local(), run_id(2)).await?, None);
    Ok(())
}

/// Pending and running ones, by creation and then id.
pub async fn a_decision_sees_the_live_runs(backend: Backend) -> Result<()> {
    let scope = Scope::local();
    let none = Box::new(|state: Option<&crate::record::ThreadRuns>| {
        assert_eq!(state, None);
        Ok(Vec::new())
    });
    backend.threads.decide(&scope, thread_id(1), none).await?;
    let ended = Run {
        status: RunStatus::Error,
        ..run(1, 2)
    };
    let same_time = Run {
        created_at: at(9),
        ..leased(run(1, 3), 1, at(60))
    };
    let listed = vec![
        Run {
            created_at: at(9),
            ..run(1, 4)
        },
        ended,
        same_time,
        run(1, 1),
    ];
    seed(&backend, thread(1), listed).await?;
    seed(&backend, thread(2), vec![run(2, 9)]).await?;
    let look = Box::new(|state: Option<&crate::record::ThreadRuns>| {
        let state = state.ok_or_else(|| Error::bug("no thread"))?;
        assert_eq!(state.thread, thread(1));
        let ids: Vec<_> = state.live.iter().map(|run| run.run_id).collect();
        assert_eq!(ids, [run_id(1), run_id(3), run_id(4)]);
        Ok(Vec::new())
    });
    backend.threads.decide(&scope, thread_id(1), look).await
}

/// And its error reaches the caller.
pub async fn a_failed_decision_writes_nothing(backend: Backend) -> Result<()> {
    let refuse = Box::new(|_: Option<&crate::record::ThreadRuns>| Err(Error::unprocessable("no")));
    let outcome = backend
        .threads
        .decide(&Scope::local(), thread_id(1), refuse)
        .await;
    refused(outcome, agentflow_types::ErrorKind::Unprocessable);
    assert!(search(&backend, ThreadQuery::default()).await?.is_empty());
    Ok(())
}

/// Whatever came before it in the list.
pub async fn a_refused_change_undoes_the_others(backend: Backend) -> Result<()> {
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    seed(&backend, thread(2), vec![run(2, 2)]).await?;
    backend
        .events
        .append(thread_id(1), vec![event(1, 1)], None)
        .await?;
    let changed = Thread {
        status: ThreadStatus::Busy,
        ..thread(1)
    };
    let before = [
        Change::PutThread(Box::new(changed)),
        Change::DeleteRun(run_id(1)),
        Change::PutRun(Box::new(run(1, 3))),
    ];
    for last in [
        Change::PutRun(Box::new(run(1, 2))),
        Change::Append(vec![event(2, 1), event(1, 1)]),
    ] {
        let changes = before.iter().cloned().chain([last]).collect();
        refused(
            change(&backend, &Scope::local(), 1, changes).await,
            Conflict,
        );
        let row = backend.threads.get(&Scope::local(), thread_id(1)).await?;
        assert_eq!(row, Some(thread(1)));
        assert_eq!(
            backend.threads.run(&Scope::local(), run_id(1)).await?,
            Some(run(1, 1))
        );
        assert_eq!(backend.threads.run(&Scope::local(), run_id(3)).await?, None);
        assert_eq!(
            backend.events.read(thread_id(1), None, 0, 9).await?,
            [event(1, 1)]
        );
    }
    Ok(())
}

/// A change that names another thread is a defect of the caller.
pub async fn a_decision_stays_on_its_thread(backend: Backend) -> Result<()> {
    let scope = Scope::local();
    let put_thread = |n| Change::PutThread(Box::new(thread(n)));
    refused(change(&backend, &scope, 1, vec![put_thread(2)]).await, Bug);
    let foreign = Change::PutRun(Box::new(run(2, 1)));
    refused(
        change(&backend, &scope, 1, vec![put_thread(1), foreign]).await,
        Bug,
    );
    let orphan = Change::PutRun(Box::new(run(1, 1)));
    refused(change(&backend, &scope, 1, vec![orphan.clone()]).await, Bug);
    let gone = vec![put_thread(1), Change::DeleteThread, orphan];
    refused(change(&backend, &scope, 1, gone).await, Bug);
    refused(
        change(&backend, &scope, 1, vec![Change::Append(vec![event(1, 1)])]).await,
        NotFound,
    );
    change(
        &backend,
        &scope,
        1,
        vec![Change::DeleteThread, Change::DeleteRun(run_id(1))],
    )
    .await?;
    assert!(search(&backend, ThreadQuery::default()).await?.is_empty());
    Ok(())
}

/// Many callers count up; none is lost, and each decision runs once.
pub async fn decisions_about_a_thread_do_not_interleave(backend: Backend) -> Result<()> {
    const CALLERS: usize = 50;
    seed(&backend, thread(1), vec![]).await?;
    let calls = Arc::new(AtomicUsize::new(0));
    let decide = |_| {
        let (threads, calls) = (backend.threads.clone(), calls.clone());
        async move {
            let count_up = Box::new(move |state: Option<&crate::record::ThreadRuns>| {
                calls.fetch_add(1, SeqCst);
                let mut row = state
                    .map(|s| s.thread.clone())
                    .ok_or_else(|| Error::bug("gone"))?;
                let n = row.metadata.get("n").and_then(Value::as_i64).unwrap_or(0);
                row.metadata.insert("n".into(), (n + 1).into());
                Ok(vec![Change::PutThread(Box::new(row))])
            });
            threads
                .decide(&Scope::local(), thread_id(1), count_up)
                .await
        }
    };
    for outcome in join_all((0..CALLERS).map(decide)).await {
        outcome?;
    }
    let row = backend.threads.get(&Scope::local(), thread_id(1)).await?;
    let counted = row.and_then(|row| row.metadata.get("n").and_then(Value::as_i64));
    assert_eq!(counted, Some(CALLERS as i64));
    assert_eq!(calls.load(SeqCst), CALLERS);
    Ok(())
}

/// In the same transaction, with the same rules as an append.
pub async fn a_decision_appends_events(backend: Backend) -> Result<()> {
    let changes = vec![
        Change::PutThread(Box::new(thread(1))),
        Change::PutRun(Box::new(run(1, 1))),
        Change::Append(vec![event(1, 1), event(2, 1)]),
        Change::Append(vec![event(4, 1)]),
    ];
    change(&backend, &Scope::local(), 1, changes).await?;
    assert_eq!(backend.events.last_seq(thread_id(1)).await?, 4);
    let taken = vec![Change::Append(vec![event(4, 1)])];
    refused(change(&backend, &Scope::local(), 1, taken).await, Conflict);
    assert_eq!(
        backend.events.read(thread_id(1), None, 0, 9).await?.len(),
        3
    );
    Ok(())
}

async fn with_checkpoints(backend: &Backend) -> Result<String> {
    seed(backend, thread(1), vec![run(1, 1), run(1, 2)]).await?;
    let name = thread_id(1).text();
    for n in 1..=2 {
        let metadata = value!({"run_id": run_id(n).text()});
        let ops = vec![
            put(&name, "", n, metadata.clone()),
            put(&name, "sub", n, metadata.clone()),
            put("elsewhere", "", n, metadata),
            writes(&name, n, ("", "task"), vec![("a", value!(n))]),
        ];
        backend.checkpoints.commit(ops, None).await?;
        backend
            .events
            .append(thread_id(1), vec![event(n.into(), n)], None)
            .await?;
    }
    Ok(name)
}

async fn checkpoints_of(backend: &Backend, thread: &str) -> Result<Vec<String>> {
    let query = CheckpointQuery {
        thread_id: Some(thread.into()),
        ..Default::default()
    };
    let found = backend.checkpoints.list(&query).await?;
    Ok(found
        .into_iter()
        .filter_map(|tuple| tuple.key.checkpoint_id)
        .collect())
}

/// In this thread only; the other run keeps everything.
pub async fn rolling_back_removes_the_run_and_its_checkpoints(backend: Backend) -> Result<()> {
    let name = with_checkpoints(&backend).await?;
    change(
        &backend,
        &Scope::local(),
        1,
        vec![Change::RollbackRun(run_id(2))],
    )
    .await?;
    assert_eq!(backend.threads.run(&Scope::local(), run_id(2)).await?, None);
    assert_eq!(
        checkpoints_of(&backend, &name).await?,
        vec![checkpoint_id(1); 2]
    );
    assert_eq!(checkpoints_of(&backend, "elsewhere").await?.len(), 2);
    assert_eq!(
        backend.events.read(thread_id(1), None, 0, 9).await?,
        [event(1, 1)]
    );
    backend
        .checkpoints
        .commit(vec![put(&name, "", 2, value!({}))], None)
        .await?;
    let again = backend.checkpoints.get(&key(&name, "", Some(2))).await?;
    assert_eq!(again.map(|tuple| tuple.pending_writes.len()), Some(0));
    change(
        &backend,
        &Scope::local(),
        1,
        vec![Change::RollbackRun(run_id(2))],
    )
    .await
}

/// Its events go.
pub async fn deleting_a_run_keeps_its_checkpoints(backend: Backend) -> Result<()> {
    let name = with_checkpoints(&backend).await?;
    change(
        &backend,
        &Scope::local(),
        1,
        vec![Change::DeleteRun(run_id(1))],
    )
    .await?;
    assert_eq!(backend.threads.run(&Scope::local(), run_id(1)).await?, None);
    assert_eq!(checkpoints_of(&backend, &name).await?.len(), 4);
    assert_eq!(
        backend.events.read(thread_id(1), None, 0, 9).await?,
        [event(2, 2)]
    );
    Ok(())
}

/// Nothing of it is left; ids may be used again.
pub async fn deleting_a_thread_removes_everything(backend: Backend) -> Result<()> {
    let name = with_checkpoints(&backend).await?;
    seed(&backend, thread(2), vec![run(2, 3)]).await?;
    change(&backend, &Scope::local(), 1, vec![Change::DeleteThread]).await?;
    assert_eq!(
        backend.threads.get(&Scope::local(), thread_id(1)).await?,
        None
    );
    assert_eq!(backend.threads.run(&Scope::local(), run_id(1)).await?, None);
    assert!(checkpoints_of(&backend, &name).await?.is_empty());
    assert!(
        backend
            .events
            .read(thread_id(1), None, 0, 9)
            .await?
            .is_empty()
    );
    let all = RunQuery {
        limit: 10,
        ..RunQuery::default()
    };
    assert_eq!(runs(&backend, all).await?, [3]);
    seed(&backend, thread(2), vec![run(2, 1)]).await
}

/// No call of another tenant reads or changes anything.
pub async fn strangers_see_no_thread(backend: Backend) -> Result<()> {
    with_checkpoints(&backend).await?;
    let other = stranger();
    assert_eq!(backend.threads.get(&other, thread_id(1)).await?, None);
    assert_eq!(backend.threads.run(&other, run_id(1)).await?, None);
    let all = RunQuery {
        limit: 10,
        ..RunQuery::default()
    };
    assert!(backend.threads.runs(&other, &all).await?.is_empty());
    let of_thread = RunQuery {
        thread_id: Some(thread_id(1)),
        ..all
    };
    assert!(backend.threads.runs(&other, &of_thread).await?.is_empty());
    let query = ThreadQuery {
        ids: vec![thread_id(1)],
        ..ThreadQuery::default()
    };
    let found = backend
        .threads
        .search(&other, &query, &PageQuery::default())
        .await?;
    assert_eq!((found.items.len(), found.total), (0, 0));
    let blind = Box::new(|state: Option<&crate::record::ThreadRuns>| {
        assert_eq!(state, None);
        Ok(vec![
            Change::RollbackRun(run_id(1)),
            Change::DeleteRun(run_id(2)),
            Change::DeleteThread,
        ])
    });
    backend.threads.decide(&other, thread_id(1), blind).await?;
    let steal = vec![Change::PutThread(Box::new(thread(1)))];
    refused(change(&backend, &other, 1, steal).await, Conflict);
    let mine = vec![
        Change::PutThread(Box::new(thread(2))),
        Change::PutRun(Box::new(run(2, 1))),
    ];
    refused(change(&backend, &other, 2, mine).await, Conflict);
    assert_eq!(
        backend.threads.get(&Scope::local(), thread_id(1)).await?,
        Some(thread(1))
    );
    assert_eq!(
        backend.threads.run(&Scope::local(), run_id(1)).await?,
        Some(run(1, 1))
    );
    assert_eq!(
        backend.events.read(thread_id(1), None, 0, 9).await?.len(),
        2
    );
    Ok(())
}

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

/// Due and not running, or running without a worker.
pub async fn candidates_are_threads_with_work(backend: Backend) -> Result<()> {
    let expired = leased(run(3, 3), 1, at(20));
    let held = leased(run(4, 4), 1, at(1000));
    let ended = Run {
        status: RunStatus::Success,
        ..run(5, 5)
    };
    seed(
        &backend,
        thread(1),
        vec![Run {
            created_at: at(30),
            ..run(1, 1)
        }],
    )
    .await?;
    seed(
        &backend,
        thread(2),
        vec![
            Run {
                created_at: at(10),
                ..run(2, 2)
            },
            run(2, 20),
        ],
    )
    .await?;
    seed(&backend, thread(3), vec![expired]).await?;
    seed(&backend, thread(4), vec![held, run(4, 14)]).await?;
    seed(&backend, thread(5), vec![ended]).await?;
    let theirs = vec![
        Change::PutThread(Box::new(thread(6))),
        Change::PutRun(Box::new(Run {
            created_at: at(15),
            ..run(6, 6)
        })),
    ];
    change(&backend, &stranger(), 6, theirs).await?;
    assert!(candidates(&backend, 9, 10).await?.is_empty());
    assert_eq!(candidates(&backend, 20, 10).await?, [2, 6]);
    assert_eq!(candidates(&backend, 500, 10).await?, [2, 6, 3, 1]);
    assert_eq!(candidates(&backend, 500, 2).await?, [2, 6]);
    let found = backend.threads.candidates(at(20), 10).await?;
    let tenants: Vec<_> = found.iter().map(|c| c.scope.tenant()).collect();
    assert_eq!(tenants, [Scope::local().tenant(), stranger().tenant()]);
    Ok(())
}

/// Of that very token, while the run is running.
pub async fn a_heartbeat_needs_the_lease(backend: Backend) -> Result<()> {
    let beat = |token| backend.threads.heartbeat(run_id(1), token, at(90));
    refused(beat(1).await, Conflict);
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    refused(beat(1).await, Conflict);
    seed(&backend, thread(1), vec![leased(run(1, 1), 2, at(60))]).await?;
    refused(beat(1).await, Conflict);
    beat(2).await?;
    let ended = Run {
        status: RunStatus::Timeout,
        ..leased(run(1, 1), 2, at(60))
    };
    seed(&backend, thread(1), vec![ended]).await?;
    refused(beat(2).await, Conflict);
    Ok(())
}

/// And learns whether somebody wants the run to stop.
pub async fn a_heartbeat_extends_the_lease(backend: Backend) -> Result<()> {
    let row = leased(run(1, 1), 2, at(60));
    seed(&backend, thread(1), vec![row.clone()]).await?;
    let beat = backend.threads.heartbeat(run_id(1), 2, at(90)).await?;
    assert_eq!(beat.cancel, None);
    let read = backend.threads.run(&Scope::local(), run_id(1)).await?;
    assert_eq!(read, Some(leased(run(1, 1), 2, at(90))));
    assert!(candidates(&backend, 90, 1).await?.is_empty());
    let cancelled = Run {
        cancel: Some(CancelAction::Interrupt),
        ..row
    };
    seed(&backend, thread(1), vec![cancelled]).await?;
    let beat = backend.threads.heartbeat(run_id(1), 2, at(120)).await?;
    assert_eq!(beat.cancel, Some(CancelAction::Interrupt));
    Ok(())
}

/// Of all tenants.
pub async fn runs_are_counted_by_status(backend: Backend) -> Result<()> {
    assert!(backend.threads.counts().await?.is_empty());
    let ended = Run {
        status: RunStatus::Success,
        ..run(1, 2)
    };
    seed(&backend, thread(1), vec![run(1, 1), ended, run(1, 3)]).await?;
    let theirs = vec![
        Change::PutThread(Box::new(thread(2))),
        Change::PutRun(Box::new(run(2, 4))),
    ];
    change(&backend, &stranger(), 2, theirs).await?;
    let counts = backend.threads.counts().await?;
    assert_eq!(counts, [(RunStatus::Pending, 3), (RunStatus::Success, 1)]);
    Ok(())
}

/// By their last change and their own time to live.
pub async fn threads_expire(backend: Backend) -> Result<()> {
    let ttl = |minutes| {
        Some(ThreadTtl {
            strategy: "delete".into(),
            ttl_minutes: minutes,
        })
    };
    for (n, ttl) in [(1, ttl(2.0)), (2, ttl(1.0)), (3, None)] {
        seed(
            &backend,
            Thread {
                updated_at: at(0),
                ttl,
                ..thread(n)
            },
            vec![],
        )
        .await?;
    }
    let expired = |seconds, limit| {
        let threads = backend.threads.clone();
        async move {
            let found = threads.expired(at(seconds), limit).await?;
            Ok::<_, Error>(found.iter().map(|c| c.thread_id).collect::<Vec<_>>())
        }
    };
    assert!(expired(60, 10).await?.is_empty());
    assert_eq!(expired(61, 10).await?, [thread_id(2)]);
    assert_eq!(expired(500, 10).await?, [thread_id(2), thread_id(1)]);
    assert_eq!(expired(500, 1).await?, [thread_id(2)]);
    let touched = Thread {
        updated_at: at(490),
        ttl: ttl(1.0),
        ..thread(2)
    };
    seed(&backend, touched, vec![]).await?;
    assert_eq!(expired(500, 10).await?, [thread_id(1)]);
    Ok(())
}
