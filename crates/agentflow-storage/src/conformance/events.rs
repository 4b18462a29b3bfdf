//! Cases of [`crate::event::Events`].

use agentflow_types::{
    ErrorKind::{Conflict, NotFound},
    Result, Scope, Timestamp,
};

use super::{
    refused,
    sample::{at, change, event, leased, run, run_id, seed, thread, thread_id},
    suite,
};
use crate::{
    Backend,
    checkpoint::Fence,
    event::Event,
    record::{Change, Run, RunStatus},
};

suite! {
    ($)
    /// Instantiates the cases of the events port.
    event_conformance:
    events_are_read_back,
    reading_continues_after_a_number,
    reading_can_follow_one_run,
    a_number_is_used_once,
    a_refused_append_leaves_nothing,
    the_last_number_never_falls,
    events_need_their_thread,
    an_append_is_fenced,
    events_of_ended_runs_expire,
    large_events_are_kept,
}

async fn seqs(backend: &Backend, after: u64, limit: u32) -> Result<Vec<u64>> {
    let found = backend
        .events
        .read(thread_id(1), None, after, limit)
        .await?;
    Ok(found.iter().map(|event| event.seq).collect())
}

/// Every field, in order.
pub async fn events_are_read_back(backend: Backend) -> Result<()> {
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    assert_eq!(backend.events.last_seq(thread_id(1)).await?, 0);
    assert!(seqs(&backend, 0, 10).await?.is_empty());
    let root = Event {
        ns: Vec::new(),
        kind: "done".into(),
        data: "\"ü\\u0000\"".into(),
        ..event(2, 1)
    };
    let events = vec![event(1, 1), root];
    backend
        .events
        .append(thread_id(1), events.clone(), None)
        .await?;
    assert_eq!(
        backend.events.read(thread_id(1), None, 0, 10).await?,
        events
    );
    assert_eq!(backend.events.last_seq(thread_id(1)).await?, 2);
    backend.events.append(thread_id(1), Vec::new(), None).await
}

/// Up to a limit.
pub async fn reading_continues_after_a_number(backend: Backend) -> Result<()> {
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    let events = [1, 2, 5, 6].map(|seq| event(seq, 1)).to_vec();
    backend.events.append(thread_id(1), events, None).await?;
    assert_eq!(seqs(&backend, 0, 2).await?, [1, 2]);
    assert_eq!(seqs(&backend, 2, 10).await?, [5, 6]);
    assert_eq!(seqs(&backend, 4, 1).await?, [5]);
    assert!(seqs(&backend, 6, 10).await?.is_empty());
    assert!(seqs(&backend, u64::MAX, 10).await?.is_empty());
    Ok(())
}

/// Events of other runs are left out.
pub async fn reading_can_follow_one_run(backend: Backend) -> Result<()> {
    seed(&backend, thread(1), vec![run(1, 1), run(1, 2)]).await?;
    let events = vec![event(1, 1), event(2, 2), event(3, 1)];
    backend.events.append(thread_id(1), events, None).await?;
    let found = backend
        .events
        .read(thread_id(1), Some(run_id(1)), 0, 10)
        .await?;
    assert_eq!(found, [event(1, 1), event(3, 1)]);
    let found = backend
        .events
        .read(thread_id(1), Some(run_id(2)), 2, 10)
        .await?;
    assert!(found.is_empty());
    assert!(
        backend
            .events
            .read(thread_id(2), Some(run_id(1)), 0, 10)
            .await?
            .is_empty()
    );
    Ok(())
}

/// Numbers only grow; each thread has its own.
pub async fn a_number_is_used_once(backend: Backend) -> Result<()> {
    for n in 1..=2 {
        seed(&backend, thread(n), vec![run(n, n)]).await?;
        backend
            .events
            .append(thread_id(n), vec![event(3, n)], None)
            .await?;
    }
    for taken in [
        vec![event(3, 1)],
        vec![event(2, 1)],
        vec![event(4, 1), event(4, 1)],
    ] {
        refused(
            backend.events.append(thread_id(1), taken, None).await,
            Conflict,
        );
    }
    backend
        .events
        .append(thread_id(1), vec![event(4, 1)], None)
        .await?;
    assert_eq!(seqs(&backend, 0, 10).await?, [3, 4]);
    Ok(())
}

/// Not even the events before the one in conflict.
pub async fn a_refused_append_leaves_nothing(backend: Backend) -> Result<()> {
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    let events = vec![event(1, 1), event(2, 1), event(2, 1)];
    refused(
        backend.events.append(thread_id(1), events, None).await,
        Conflict,
    );
    assert!(seqs(&backend, 0, 10).await?.is_empty());
    assert_eq!(backend.events.last_seq(thread_id(1)).await?, 0);
    Ok(())
}

/// Not when events or their run go.
pub async fn the_last_number_never_falls(backend: Backend) -> Result<()> {
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    backend
        .events
        .append(thread_id(1), vec![event(7, 1)], None)
        .await?;
    let scope = Scope::local();
    change(&backend, &scope, 1, vec![Change::DeleteRun(run_id(1))]).await?;
    assert!(seqs(&backend, 0, 10).await?.is_empty());
    assert_eq!(backend.events.last_seq(thread_id(1)).await?, 7);
    refused(
        backend
            .events
            .append(thread_id(1), vec![event(7, 1)], None)
            .await,
        Conflict,
    );
    let again = Change::PutThread(Box::new(thread(1)));
    change(&backend, &scope, 1, vec![again.clone()]).await?;
    assert_eq!(backend.events.last_seq(thread_id(1)).await?, 7);
    change(&backend, &scope, 1, vec![Change::DeleteThread, again]).await?;
    assert_eq!(backend.events.last_seq(thread_id(1)).await?, 0);
    Ok(())
}

/// A thread that is gone gets no events.
pub async fn events_need_their_thread(backend: Backend) -> Result<()> {
    refused(
        backend
            .events
            .append(thread_id(1), vec![event(1, 1)], None)
            .await,
        NotFound,
    );
    assert_eq!(backend.events.last_seq(thread_id(1)).await?, 0);
    assert!(seqs(&backend, 0, 10).await?.is_empty());
    Ok(())
}

/// By the run's lease.
pub async fn an_append_is_fenced(backend: Backend) -> Result<()> {
    seed(&backend, thread(1), vec![leased(run(1, 1), 2, at(60))]).await?;
    let fence = |token| {
        Some(Fence {
            run_id: run_id(1),
            token,
        })
    };
    refused(
        backend
            .events
            .append(thread_id(1), vec![event(1, 1)], fence(1))
            .await,
        Conflict,
    );
    backend
        .events
        .append(thread_id(1), vec![event(1, 1)], fence(2))
        .await?;
    assert_eq!(seqs(&backend, 0, 10).await?, [1]);
    Ok(())
}

/// Only those that ended long enough ago, a few at a time.
pub async fn events_of_ended_runs_expire(backend: Backend) -> Result<()> {
    let ended = |n, updated_at: Timestamp| Run {
        status: RunStatus::Success,
        updated_at,
        ..run(1, n)
    };
    let runs = vec![ended(1, at(1)), ended(2, at(100)), run(1, 3)];
    seed(&backend, thread(1), runs).await?;
    let events = [(1, 1), (2, 2), (3, 3), (4, 1), (5, 1)].map(|(seq, run)| event(seq, run));
    backend
        .events
        .append(thread_id(1), events.to_vec(), None)
        .await?;
    assert_eq!(backend.events.expire(at(50), 2).await?, 2);
    assert_eq!(backend.events.expire(at(50), 2).await?, 1);
    assert_eq!(backend.events.expire(at(50), 2).await?, 0);
    assert_eq!(seqs(&backend, 0, 10).await?, [2, 3]);
    assert_eq!(backend.events.last_seq(thread_id(1)).await?, 5);
    Ok(())
}

/// Five megabytes of text.
pub async fn large_events_are_kept(backend: Backend) -> Result<()> {
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    let large = Event {
        data: "x".repeat(5 << 20).into(),
        ..event(1, 1)
    };
    backend
        .events
        .append(thread_id(1), vec![large.clone()], None)
        .await?;
    let found = backend.events.read(thread_id(1), None, 0, 10).await?;
    assert!(found == [large], "the event differs");
    Ok(())
}
