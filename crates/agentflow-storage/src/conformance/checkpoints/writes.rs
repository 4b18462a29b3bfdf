//! Writes of tasks, fences, and the transaction around them.

use agentflow_types::{
    ErrorKind::{Conflict, Invalid},
    Result, Scope, Value, value,
};

use super::{
    super::{
        refused,
        sample::{
            at, change, key, leased, pending, put, run, run_id, seed, thread, thread_id, writes,
        },
    },
    get,
};
use crate::{
    Backend,
    checkpoint::{CheckpointOp, CheckpointQuery, Fence, Rest, special},
    record::Change,
};

/// A resume value in the first place has its own slot, yet takes the position.
pub async fn slots_are_special_or_positions(backend: Backend) -> Result<()> {
    let first = vec![
        (special::RESUME, value!("yes")),
        ("a", value!(1)),
        ("b", value!(2)),
    ];
    let second = vec![("c", value!(3)), ("d", value!(4))];
    let ops = vec![
        put("t", "", 1, value!({})),
        writes("t", 1, ("", "task"), first),
        writes("t", 1, ("", "task"), second),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    let expected = [
        "task __resume__ \"yes\"",
        "task c 3",
        "task a 1",
        "task b 2",
    ];
    assert_eq!(pending(tuple.as_ref()), expected);
    Ok(())
}

/// Ordinary writes never change.
pub async fn the_first_write_to_a_slot_wins(backend: Backend) -> Result<()> {
    let ops = vec![
        put("t", "", 1, value!({})),
        writes("t", 1, ("p", "task"), vec![("a", value!(1))]),
        writes(
            "t",
            1,
            ("p", "task"),
            vec![("b", value!(2)), ("c", Value::Null)],
        ),
        writes("t", 1, ("p", "other"), vec![("a", value!(3))]),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    assert_eq!(
        pending(tuple.as_ref()),
        ["other a 3", "task a 1", "task c null"]
    );
    Ok(())
}

/// Errors, interrupts and answers hold their last value.
pub async fn special_writes_replace(backend: Backend) -> Result<()> {
    let mut ops = vec![put("t", "", 1, value!({}))];
    for n in 1..=2 {
        for channel in [
            special::ERROR,
            special::SCHEDULED,
            special::INTERRUPT,
            special::RESUME,
        ] {
            ops.push(writes("t", 1, ("", "task"), vec![(channel, value!(n))]));
        }
    }
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    let expected = [
        "task __resume__ 2",
        "task __interrupt__ 2",
        "task __scheduled__ 2",
        "task __error__ 2",
    ];
    assert_eq!(pending(tuple.as_ref()), expected);
    Ok(())
}

/// With one ordinary channel in the list, special ones do not replace either.
pub async fn mixed_writes_do_not_replace(backend: Backend) -> Result<()> {
    let ops = vec![
        put("t", "", 1, value!({})),
        writes("t", 1, ("", "task"), vec![(special::RESUME, value!(1))]),
        writes(
            "t",
            1,
            ("", "task"),
            vec![(special::RESUME, value!(2)), ("a", value!(3))],
        ),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    assert_eq!(pending(tuple.as_ref()), ["task __resume__ 1", "task a 3"]);
    Ok(())
}

/// The order in which reducers see them.
pub async fn writes_sort_by_path_task_and_slot(backend: Backend) -> Result<()> {
    let list = |n: u8| vec![("x", value!(n)), ("y", value!(n))];
    let ops = vec![
        put("t", "", 1, value!({})),
        writes("t", 1, ("~b", "1"), list(1)),
        writes("t", 1, ("~a", "3"), list(2)),
        writes("t", 1, ("~a", "2"), list(3)),
        writes("t", 1, ("", "9"), list(4)),
    ];
    backend.checkpoints.commit(ops, None).await?;
    let tuple = get(&backend, "t", None).await?;
    let expected = [
        "9 x 4", "9 y 4", "2 x 3", "2 y 3", "3 x 2", "3 y 2", "1 x 1", "1 y 1",
    ];
    assert_eq!(pending(tuple.as_ref()), expected);
    Ok(())
}

/// With `async` durability a task may end before its checkpoint is stored.
pub async fn writes_need_no_checkpoint(backend: Backend) -> Result<()> {
    let early = writes("t", 1, ("", "task"), vec![("a", value!(1))]);
    backend.checkpoints.commit(vec![early], None).await?;
    assert_eq!(get(&backend, "t", None).await?, None);
    backend
        .checkpoints
        .commit(vec![put("t", "", 1, value!({}))], None)
        .await?;
    assert_eq!(
        pending(get(&backend, "t", None).await?.as_ref()),
        ["task a 1"]
    );
    Ok(())
}

/// Only the worker that holds the lease may write.
pub async fn a_fence_must_hold(backend: Backend) -> Result<()> {
    let fence = |token| {
        Some(Fence {
            run_id: run_id(1),
            token,
        })
    };
    let op = || vec![put("t", "", 1, value!({}))];
    let commit = |token| backend.checkpoints.commit(op(), fence(token));
    refused(commit(1).await, Conflict);
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    refused(commit(1).await, Conflict);
    let held = Change::PutRun(Box::new(leased(run(1, 1), 2, at(60))));
    change(&backend, &Scope::local(), 1, vec![held]).await?;
    refused(commit(1).await, Conflict);
    assert_eq!(get(&backend, "t", None).await?, None);
    commit(2).await?;
    assert!(get(&backend, "t", None).await?.is_some());
    let ended = crate::record::Run {
        status: crate::record::RunStatus::Success,
        ..leased(run(1, 1), 2, at(60))
    };
    change(
        &backend,
        &Scope::local(),
        1,
        vec![Change::PutRun(Box::new(ended))],
    )
    .await?;
    refused(commit(2).await, Conflict);
    Ok(())
}

/// Somebody outside of a run writes only while none is running, nor has been since he looked.
pub async fn a_thread_must_rest(backend: Backend) -> Result<()> {
    let name = thread_id(1).text();
    let seen = thread(1).updated_at;
    let commit = |updated_at, n| {
        let thread_id = thread_id(1);
        let rest = Rest {
            thread_id,
            updated_at,
        };
        let op = vec![put(&name, "", n, value!({}))];
        let threads = backend.threads.clone();
        let commit = backend.checkpoints.commit_at_rest(op, rest);
        async move {
            let rests = threads.rests(rest).await?;
            let done = commit.await;
            assert_eq!(rests, done.is_ok());
            done
        }
    };
    refused(commit(seen, 1).await, Conflict);
    seed(&backend, thread(1), vec![]).await?;
    commit(seen, 1).await?;
    refused(commit(at(77), 2).await, Conflict);
    // One that waits sees what was written when it begins.
    seed(&backend, thread(1), vec![run(1, 1)]).await?;
    commit(seen, 3).await?;
    seed(&backend, thread(1), vec![leased(run(1, 1), 2, at(60))]).await?;
    refused(commit(seen, 4).await, Conflict);
    assert_eq!(
        backend.checkpoints.get(&key(&name, "", Some(4))).await?,
        None
    );
    let ended = crate::record::Run {
        status: crate::record::RunStatus::Success,
        ..leased(run(1, 1), 2, at(60))
    };
    let touched = crate::record::Thread {
        updated_at: at(78),
        ..thread(1)
    };
    seed(&backend, touched, vec![ended]).await?;
    refused(commit(seen, 5).await, Conflict);
    commit(at(78), 6).await?;
    let newest = backend.checkpoints.get(&key(&name, "", None)).await?;
    assert_eq!(newest.map(|found| found.key), Some(key(&name, "", Some(6))));
    Ok(())
}

/// A refused commit leaves nothing of any of its writes.
pub async fn a_commit_is_all_or_nothing(backend: Backend) -> Result<()> {
    let deep = (0..=crate::msgpack::MAX_DEPTH).fold(Value::Null, |v, _| Value::list(vec![v]));
    let ops = vec![
        put("t", "", 1, value!({})),
        writes("t", 1, ("", "task"), vec![("a", value!(1))]),
        put("t", "", 2, value!({})),
    ];
    let fence = Fence {
        run_id: run_id(9),
        token: 1,
    };
    refused(
        backend.checkpoints.commit(ops.clone(), Some(fence)).await,
        Conflict,
    );
    let too_deep = writes("t", 1, ("", "task"), vec![("deep", deep)]);
    let with_deep: Vec<CheckpointOp> = ops.into_iter().chain([too_deep]).collect();
    refused(backend.checkpoints.commit(with_deep, None).await, Invalid);
    assert!(
        backend
            .checkpoints
            .list(&CheckpointQuery::default())
            .await?
            .is_empty()
    );
    backend
        .checkpoints
        .commit(vec![put("t", "", 1, value!({}))], None)
        .await?;
    assert!(pending(get(&backend, "t", None).await?.as_ref()).is_empty());
    Ok(())
}

/// No writes at all.
pub async fn an_empty_commit_is_fine(backend: Backend) -> Result<()> {
    backend.checkpoints.commit(Vec::new(), None).await?;
    let none = writes("t", 1, ("", "task"), Vec::new());
    backend.checkpoints.commit(vec![none], None).await
}
