//! What goes with a run or a thread, and what strangers cannot reach.

use agentflow_types::{Error, ErrorKind::Conflict, Result, Scope, value};

use super::{
    super::{
        refused,
        sample::{
            at, change, checkpoint_id, event, key, put, run, run_id, seed, stranger, thread,
            thread_id, writes,
        },
    },
    runs,
};
use crate::{
    Backend,
    checkpoint::CheckpointQuery,
    page::PageQuery,
    record::{Candidate, Change, Run, RunQuery, RunStatus, Thread, ThreadQuery, ThreadTtl},
};

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

/// Threads that rest go with all they have; busy ones, strangers' and unknown ones stay as they
/// are.
pub async fn only_resting_threads_are_removed_together(backend: Backend) -> Result<()> {
    let name = with_checkpoints(&backend).await?;
    let over = |n| Run {
        status: RunStatus::Success,
        ..run(2, n)
    };
    seed(&backend, thread(2), vec![over(3)]).await?;
    seed(&backend, thread(3), vec![]).await?;
    let candidate = |scope: Scope, n| Candidate {
        scope,
        thread_id: thread_id(n),
    };
    let mine = |n| candidate(Scope::local(), n);
    let gone = [mine(1), mine(2), candidate(stranger(), 3), mine(9)];
    backend.threads.remove_resting(&gone).await?;
    let left = async |n| backend.threads.get(&Scope::local(), thread_id(n)).await;
    assert_eq!(left(1).await?, Some(thread(1)));
    assert_eq!(checkpoints_of(&backend, &name).await?.len(), 4);
    assert_eq!(left(2).await?, None);
    assert_eq!(backend.threads.run(&Scope::local(), run_id(3)).await?, None);
    assert_eq!(left(3).await?, Some(thread(3)));
    Ok(())
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
