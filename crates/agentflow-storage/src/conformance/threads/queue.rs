//! The queue's view: candidates, leases, counts.

use agentflow_types::{ErrorKind::Conflict, Result, Scope};

use super::{
    super::{
        refused,
        sample::{at, change, event, leased, run, run_id, seed, stranger, thread, thread_id},
    },
    candidates,
};
use crate::{
    Backend,
    checkpoint::Fence,
    record::{Ages, CancelAction, Change, Run, RunStatus, Standing},
};

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
    let holds = |token| {
        let run_id = run_id(1);
        backend.threads.holds(Fence { run_id, token })
    };
    refused(beat(1).await, Conflict);
    assert!(!holds(1).await?);
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    refused(beat(1).await, Conflict);
    assert!(!holds(1).await?);
    seed(&backend, thread(1), vec![leased(run(1, 1), 2, at(60))]).await?;
    refused(beat(1).await, Conflict);
    assert!(!holds(1).await?);
    assert!(holds(2).await?);
    beat(2).await?;
    let ended = Run {
        status: RunStatus::Timeout,
        ..leased(run(1, 1), 2, at(60))
    };
    seed(&backend, thread(1), vec![ended]).await?;
    refused(beat(2).await, Conflict);
    assert!(!holds(2).await?);
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

/// Threads with their numbers, runs that are not over; whatever tenant's.
pub async fn what_is_watched_is_asked_about_at_once(backend: Backend) -> Result<()> {
    let over = Run {
        status: RunStatus::Success,
        ..run(1, 2)
    };
    let held = leased(run(1, 3), 1, at(60));
    seed(&backend, thread(1), vec![run(1, 1), over, held]).await?;
    let events = vec![event(1, 1), event(7, 1)];
    backend.events.append(thread_id(1), events, None).await?;
    let theirs = vec![
        Change::PutThread(Box::new(thread(2))),
        Change::PutRun(Box::new(run(2, 4))),
    ];
    change(&backend, &stranger(), 2, theirs).await?;
    let ask = async |threads: &[u8], runs: &[u8]| {
        let threads: Vec<_> = threads.iter().map(|n| thread_id(*n)).collect();
        let runs: Vec<_> = runs.iter().map(|n| run_id(*n)).collect();
        let mut found = backend.threads.standing(&threads, &runs).await?;
        found.logs.sort_unstable();
        found.live.sort_unstable();
        Ok::<_, agentflow_types::Error>(found)
    };
    let all = ask(&[1, 2, 9], &[1, 2, 3, 4, 9]).await?;
    assert_eq!(all.logs, [(thread_id(1), 7), (thread_id(2), 0)]);
    assert_eq!(all.live, [run_id(1), run_id(3), run_id(4)]);
    let one = ask(&[2], &[]).await?;
    assert_eq!((one.logs.len(), one.live.len()), (1, 0));
    assert_eq!(ask(&[], &[]).await?, Standing::default());
    // Numbers outlive their events, and go with the thread.
    change(
        &backend,
        &Scope::local(),
        1,
        vec![Change::DeleteRun(run_id(1))],
    )
    .await?;
    let rest = ask(&[1], &[1, 3]).await?;
    assert_eq!(
        (rest.logs, rest.live),
        (vec![(thread_id(1), 7)], vec![run_id(3)])
    );
    change(&backend, &Scope::local(), 1, vec![Change::DeleteThread]).await?;
    assert_eq!(ask(&[1], &[1, 3]).await?, Standing::default());
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

/// Of all tenants; what is over does not count.
pub async fn ages_are_of_what_is_not_over(backend: Backend) -> Result<()> {
    assert_eq!(backend.threads.ages().await?, Ages::default());
    let ended = Run {
        status: RunStatus::Success,
        ..run(1, 1)
    };
    let executing = Run {
        updated_at: at(7),
        ..leased(run(2, 2), 1, at(60))
    };
    seed(&backend, thread(1), vec![ended, run(1, 9)]).await?;
    seed(&backend, thread(2), vec![executing, run(2, 8)]).await?;
    let theirs = vec![
        Change::PutThread(Box::new(thread(3))),
        Change::PutRun(Box::new(run(3, 5))),
    ];
    change(&backend, &stranger(), 3, theirs).await?;
    let want = Ages {
        pending_since: Some(at(5)),
        running_since: Some(at(7)),
    };
    assert_eq!(backend.threads.ages().await?, want);
    Ok(())
}
