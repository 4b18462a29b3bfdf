//! Decisions and what they store.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use agentflow_types::{
    Error,
    ErrorKind::{Bug, Conflict, NotFound},
    Result, Scope, Value,
    graph::Interrupt,
    value,
};
use futures_util::future::join_all;

use super::{
    super::{
        crons::{cron, cron_id},
        refused,
        sample::{at, change, event, leased, map, run, run_id, seed, stranger, thread, thread_id},
    },
    search,
};
use crate::{
    Backend,
    record::{
        CancelAction, Change, MultitaskStrategy, Run, RunStatus, Thread, ThreadQuery, ThreadStatus,
        ThreadTtl,
    },
};

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

/// Whatever became of the first one, and on whichever thread; a refused one changes nothing.
pub async fn a_run_is_inserted_once(backend: Backend) -> Result<()> {
    let scope = Scope::local();
    let insert = |run: Run| Change::InsertRun(Box::new(run));
    let put = |n| Change::PutThread(Box::new(thread(n)));
    change(&backend, &scope, 1, vec![put(1), insert(run(1, 1))]).await?;
    let ended = Run {
        status: RunStatus::Success,
        ..run(1, 1)
    };
    for known in [run(1, 1), ended] {
        seed(&backend, thread(1), vec![known.clone()]).await?;
        let again = vec![insert(run(1, 1))];
        refused(change(&backend, &scope, 1, again).await, Conflict);
        let elsewhere = vec![put(2), insert(run(2, 1))];
        refused(change(&backend, &scope, 2, elsewhere).await, Conflict);
        let elsewhere = vec![put(3), insert(run(3, 1))];
        refused(change(&backend, &stranger(), 3, elsewhere).await, Conflict);
        assert_eq!(backend.threads.run(&scope, run_id(1)).await?, Some(known));
        assert_eq!(backend.threads.get(&scope, thread_id(2)).await?, None);
    }
    let foreign = vec![insert(run(2, 2))];
    refused(change(&backend, &scope, 1, foreign).await, Bug);
    let orphan = vec![insert(run(9, 2))];
    refused(change(&backend, &scope, 9, orphan).await, Bug);
    change(&backend, &scope, 1, vec![insert(run(1, 2))]).await
}

/// Together with the run, or neither; also when the cron is gone.
pub async fn a_decision_fires_a_cron_once(backend: Backend) -> Result<()> {
    let scope = Scope::local();
    backend.crons.put(&scope, cron(1)).await?;
    let fire = |id, number, expected, next| {
        let advance = Change::AdvanceCron {
            cron_id: cron_id(id),
            expected: at(expected),
            next,
        };
        let put = Change::PutThread(Box::new(thread(1)));
        let run = Change::InsertRun(Box::new(run(1, number)));
        change(&backend, &scope, 1, vec![put, run, advance])
    };
    fire(1, 1, 1, Some(at(60))).await?;
    refused(fire(1, 2, 1, Some(at(90))).await, Conflict);
    refused(fire(2, 2, 1, None).await, Conflict);
    assert_eq!(backend.threads.run(&scope, run_id(2)).await?, None);
    fire(1, 2, 60, None).await?;
    refused(fire(1, 3, 60, None).await, Conflict);
    let left = backend.crons.get(&scope, cron_id(1)).await?;
    assert_eq!(left.and_then(|cron| cron.next_run_date), None);
    assert!(backend.threads.run(&scope, run_id(2)).await?.is_some());
    Ok(())
}
