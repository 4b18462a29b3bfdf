//! The run state machine: what happens to a thread and its live runs.
//!
//! Every function is pure: it sees the thread with its live runs and returns the changes to
//! apply, or refuses. The shell stores them in one transaction (`Threads::decide`).

mod lost;

use std::time::Duration;

use agentflow_storage::{
    event::Event,
    record::{
        CancelAction, Change, Lease, MultitaskStrategy, Run, RunStatus, Thread, ThreadRuns,
        ThreadStatus, ThreadTtl,
    },
};
use agentflow_types::{CronId, Error, Map, Result, RunId, Timestamp, Value, graph::Interrupt};
use indexmap::IndexMap;

pub use lost::Progress;
use lost::{forgive, requeue};

use crate::letter;

/// Minutes that the thread of a stateless run stays for readers that are still reading; it goes
/// at once when there are none.
const TEMPORARY_THREAD_MINUTES: f64 = 1.0;

/// Low bits of a fencing token that hold the attempt; the others hold microseconds.
const ATTEMPT_BITS: u32 = 8;

/// Text of the refusal when a thread is busy, as LangGraph's server words it.
pub const BUSY: &str = "Thread is already running a task. Wait for it to finish or choose a \
                        different multitask strategy.";

/// What to do when the thread of a new run does not exist.
#[derive(Clone, Debug)]
pub enum Missing {
    /// Refuse.
    Reject,
    /// Make this one.
    Create(Box<Thread>),
}

/// A worker that wants work.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its name.
    pub id: String,
    /// Length of its leases.
    pub lease: Duration,
}

/// A run that is to be created.
#[derive(Clone, Debug)]
pub struct Create {
    /// The run, pending.
    pub run: Run,
    /// Graph, mirrored into the thread's metadata.
    pub graph_id: String,
    /// What to do without a thread.
    pub missing: Missing,
    /// Claims the run in the same decision if the thread is idle and the run is due.
    pub claim: Option<Worker>,
    /// The firing of a cron that it is for: both are stored or neither.
    pub firing: Option<Firing>,
}

/// One firing of a cron.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firing {
    /// The cron.
    pub cron_id: CronId,
    /// When it was to fire.
    pub expected: Timestamp,
    /// When it fires next.
    pub next: Option<Timestamp>,
}

impl Firing {
    fn advance(self) -> Change {
        Change::AdvanceCron {
            cron_id: self.cron_id,
            expected: self.expected,
            next: self.next,
        }
    }
}

/// What a creation did besides its changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Created {
    /// The run as stored.
    pub run: Run,
    /// Runs that ended by it without ever having a worker.
    pub ended: Vec<Run>,
    /// Running runs that are to be stopped now.
    pub stopping: Vec<(RunId, CancelAction)>,
}

/// Creates a run, applying its multitask strategy to the others.
///
/// # Errors
/// `NotFound` without a thread, `Conflict` if the thread is busy and the strategy is `reject`. The
/// store refuses an id that is taken, and a firing that is past, with `Conflict`.
pub fn create(
    found: Option<&ThreadRuns>,
    create: Create,
    now: Timestamp,
) -> Result<(Vec<Change>, Created)> {
    let Create {
        mut run,
        graph_id,
        missing,
        claim,
        firing,
    } = create;
    let mut changes = Vec::new();
    let mut created = Created {
        run: run.clone(),
        ended: vec![],
        stopping: vec![],
    };
    let (mut thread, live) = match (found, missing) {
        (Some(found), _) => (found.thread.clone(), found.live.as_slice()),
        (None, Missing::Create(thread)) => (*thread, [].as_slice()),
        (None, Missing::Reject) => return Err(Error::not_found("Thread or assistant not found.")),
    };
    if live.iter().any(|other| other.run_id == run.run_id) {
        return Err(Error::conflict("run id is taken").with("run_id", run.run_id));
    }
    let mut waits = !live.is_empty();
    match run.multitask_strategy {
        MultitaskStrategy::Reject if waits => return Err(Error::conflict(BUSY)),
        MultitaskStrategy::Reject | MultitaskStrategy::Enqueue => {}
        strategy => {
            let action = match strategy {
                MultitaskStrategy::Rollback => CancelAction::Rollback,
                _ => CancelAction::Interrupt,
            };
            for other in live {
                cancel_one(other, action, now, &mut changes, &mut created);
            }
            waits = !created.stopping.is_empty();
        }
    }
    thread
        .metadata
        .insert("graph_id".into(), Value::str(graph_id));
    thread
        .metadata
        .insert("assistant_id".into(), Value::str(run.assistant_id.text()));
    thread.status = ThreadStatus::Busy;
    thread.updated_at = now;
    if let Some(worker) = claim
        && !waits
        && run.created_at <= now
    {
        take(&mut run, &worker, now);
    }
    created.run = run.clone();
    changes.push(Change::PutThread(Box::new(thread)));
    // Whether the id is taken, also by a run that has ended, is decided with the rest.
    changes.push(Change::InsertRun(Box::new(run)));
    changes.extend(firing.map(Firing::advance));
    Ok((changes, created))
}

/// Ends a pending run, or marks a running one to be stopped.
fn cancel_one(
    run: &Run,
    action: CancelAction,
    now: Timestamp,
    changes: &mut Vec<Change>,
    created: &mut Created,
) {
    let mut run = run.clone();
    run.updated_at = now;
    if run.status == RunStatus::Running {
        // A rollback wins over an interrupt that was asked for before.
        if run.cancel != Some(CancelAction::Rollback) {
            run.cancel = Some(action);
        }
        created.stopping.push((run.run_id, action));
        changes.push(Change::PutRun(Box::new(run)));
        return;
    }
    run.status = RunStatus::Interrupted;
    created.ended.push(run.clone());
    changes.extend(letter::of_end(&run, None, no_values(), now));
    changes.push(match action {
        CancelAction::Interrupt => Change::PutRun(Box::new(run)),
        CancelAction::Rollback => Change::RollbackRun(run.run_id),
    });
}

/// What a run says that ended without a result.
fn no_values() -> Value {
    Value::map(Map::new())
}

/// When the attempt that holds the lease began; see [`take`].
pub(crate) fn started_at(run: &Run) -> Option<Timestamp> {
    run.lease.as_ref().map(claimed_at)
}

/// Gives a run to a worker.
fn take(run: &mut Run, worker: &Worker, now: Timestamp) {
    run.status = RunStatus::Running;
    run.attempt += 1;
    run.updated_at = now;
    run.lease = Some(Lease {
        worker: worker.id.clone(),
        // Time in the high bits makes tokens grow over restarts; the attempt keeps two claims of
        // one microsecond apart.
        token: (now.micros() << ATTEMPT_BITS) | i64::from(run.attempt & 0xff),
        expires_at: now.plus(worker.lease),
    });
}

/// When the worker took the run, by its own clock, which also dates its checkpoints.
fn claimed_at(lease: &Lease) -> Timestamp {
    Timestamp(lease.token >> ATTEMPT_BITS)
}

/// What a claim found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claimed {
    /// The run that the worker now holds.
    pub run: Option<Run>,
    /// A run whose worker was lost: nothing was changed, and the claim is to be made again with
    /// its [`Progress`].
    pub lost: Option<RunId>,
    /// Runs that ended because their worker was lost too often, or was to be stopped anyway.
    pub ended: Vec<Run>,
}

/// Re-queues runs whose lease is over, then takes the oldest due run if none is running.
///
/// A run is given up after `max_attempts` attempts in a row that ended with the loss of their
/// worker and made no checkpoint: one that gets on, however slowly, is not what kills the workers.
pub fn claim(
    found: &ThreadRuns,
    worker: &Worker,
    max_attempts: u32,
    progress: Option<Progress>,
    now: Timestamp,
) -> (Vec<Change>, Claimed) {
    let mut changes = Vec::new();
    let mut claimed = Claimed::default();
    let mut live = Vec::with_capacity(found.live.len());
    for run in &found.live {
        let expired = run.status == RunStatus::Running
            && run
                .lease
                .as_ref()
                .is_none_or(|lease| lease.expires_at <= now);
        if !expired {
            live.push(run.clone());
            continue;
        }
        let Some(known) = progress.filter(|known| known.run_id == run.run_id) else {
            let lost = Some(run.run_id);
            let again = Claimed {
                lost,
                ..Claimed::default()
            };
            return (Vec::new(), again);
        };
        let mut run = run.clone();
        let started = started_at(&run);
        forgive(&mut run, known);
        run.updated_at = now;
        let goes_on = requeue(&mut run, max_attempts);
        if goes_on {
            live.push(run.clone());
        } else {
            changes.extend(letter::of_end(&run, started, no_values(), now));
            claimed.ended.push(run.clone());
        }
        changes.push(match run.cancel {
            Some(CancelAction::Rollback) => Change::RollbackRun(run.run_id),
            Some(CancelAction::Interrupt) | None => Change::PutRun(Box::new(run)),
        });
    }
    let running = live.iter().any(|run| run.status == RunStatus::Running);
    let due = live
        .iter_mut()
        .find(|run| run.status == RunStatus::Pending && run.created_at <= now);
    if let (false, Some(run)) = (running, due) {
        take(run, worker, now);
        changes.push(Change::PutRun(Box::new(run.clone())));
        claimed.run = Some(run.clone());
    }
    if live.is_empty() && !claimed.ended.is_empty() {
        changes.push(Change::PutThread(Box::new(settle(
            &found.thread,
            &claimed.ended,
            now,
        ))));
    }
    (changes, claimed)
}

/// A thread whose last runs ended without a result.
fn settle(thread: &Thread, ended: &[Run], now: Timestamp) -> Thread {
    let mut thread = thread.clone();
    let mut newest_first = ended.iter().rev();
    if let Some(failed) = newest_first.find(|run| run.status == RunStatus::Error) {
        thread.error = failed.error.clone();
    }
    thread.status = status_at_rest(&thread);
    expire_temporary(&mut thread, ended);
    thread.updated_at = now;
    thread
}

/// What a thread is doing when it has no live run, by what its last run left.
fn status_at_rest(thread: &Thread) -> ThreadStatus {
    match () {
        () if !thread.error.is_null() => ThreadStatus::Error,
        () if !thread.interrupts.is_empty() => ThreadStatus::Interrupted,
        () => ThreadStatus::Idle,
    }
}

fn expire_temporary(thread: &mut Thread, ended: &[Run]) {
    if ended.iter().any(|run| run.temporary_thread) {
        thread.ttl = Some(ThreadTtl {
            strategy: "delete".into(),
            ttl_minutes: TEMPORARY_THREAD_MINUTES,
        });
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// The run.
    pub run_id: RunId,
    /// Token of the lease.
    pub token: i64,
    /// Terminal status.
    pub status: RunStatus,
    /// `{error, message}`; null unless it failed.
    pub error: Value,
    /// State after the run; `None` if it could not be read.
    pub values: Option<Value>,
    /// What those who wait get.
    pub result: Value,
    /// Unanswered interrupts by task id.
    pub interrupts: IndexMap<String, Vec<Interrupt>>,
    /// Whether nodes would run next.
    pub has_next: bool,
}

/// What a finish did besides its changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The run as it ended.
    pub run: Run,
    /// Whether the run and its checkpoints were removed, so that the thread's values must be
    /// read anew.
    pub rolled_back: bool,
    /// Whether other runs of the thread are pending.
    pub more: bool,
}

/// Ends a run. `events` are stored in the same transaction.
///
/// A stop that was asked for meanwhile decides the status: a run that ended well keeps
/// `success` under `interrupt`, and is removed under `rollback`.
///
/// # Errors
/// `Conflict` if the lease is not held under that token any more.
pub fn finish(
    found: Option<&ThreadRuns>,
    finish: Finish,
    events: Vec<Event>,
    now: Timestamp,
) -> Result<(Vec<Change>, Finished)> {
    let (found, run) = held(found, finish.run_id, finish.token)?;
    let mut run = run.clone();
    let started = started_at(&run);
    let rolled_back = run.cancel == Some(CancelAction::Rollback);
    run.status = finish.status;
    run.error = finish.error.clone();
    run.lease = None;
    run.updated_at = now;

    let mut thread = found.thread.clone();
    thread.updated_at = now;
    if !rolled_back {
        if let Some(values) = finish.values {
            thread.values = values;
            thread.state_updated_at = now;
        }
        thread.interrupts = finish.interrupts;
        thread.error = finish.error;
    }
    let others = found.live.iter().any(|other| other.run_id != run.run_id);
    thread.status = match finish.status {
        _ if others => ThreadStatus::Busy,
        _ if rolled_back => status_at_rest(&thread),
        RunStatus::Error | RunStatus::Timeout => ThreadStatus::Error,
        _ if finish.has_next || !thread.interrupts.is_empty() => ThreadStatus::Interrupted,
        _ => ThreadStatus::Idle,
    };
    if !others {
        expire_temporary(&mut thread, std::slice::from_ref(&run));
    }
    let mut changes = vec![
        Change::PutThread(Box::new(thread)),
        Change::PutRun(Box::new(run.clone())),
    ];
    changes.extend(letter::of_end(&run, started, finish.result, now));
    if !events.is_empty() {
        changes.push(Change::Append(events));
    }
    if rolled_back {
        changes.push(Change::RollbackRun(run.run_id));
    }
    Ok((
        changes,
        Finished {
            run,
            rolled_back,
            more: others,
        },
    ))
}

/// Gives a run back, so that another worker takes it up: the worker is shutting down. A run that
/// was to be stopped ends instead, and is returned.
///
/// # Errors
/// `Conflict` if the lease is not held under that token any more.
pub fn release(
    found: Option<&ThreadRuns>,
    run_id: RunId,
    token: i64,
    now: Timestamp,
) -> Result<(Vec<Change>, Option<Run>)> {
    let (found, run) = held(found, run_id, token)?;
    let mut run = run.clone();
    let started = started_at(&run);
    run.lease = None;
    run.updated_at = now;
    let Some(action) = run.cancel else {
        run.status = RunStatus::Pending;
        // A shutdown is not the run's fault; but what comes next is not the first attempt.
        run.attempt = run.attempt.saturating_sub(1).max(1);
        return Ok((vec![Change::PutRun(Box::new(run))], None));
    };
    run.status = RunStatus::Interrupted;
    let mut changes = vec![match action {
        CancelAction::Interrupt => Change::PutRun(Box::new(run.clone())),
        CancelAction::Rollback => Change::RollbackRun(run_id),
    }];
    changes.extend(letter::of_end(&run, started, no_values(), now));
    if found.live.len() == 1 {
        let thread = settle(&found.thread, std::slice::from_ref(&run), now);
        changes.push(Change::PutThread(Box::new(thread)));
    }
    Ok((changes, Some(run)))
}

/// Gives a run back whose attempt ended with the loss of what executed its graph. Nothing changes
/// if that was one time too many, or if the run was to be stopped: then it is over.
///
/// # Errors
/// `Conflict` if the lease is not held under that token any more.
pub fn crashed(
    found: Option<&ThreadRuns>,
    token: i64,
    progress: Progress,
    max_attempts: u32,
    now: Timestamp,
) -> Result<Vec<Change>> {
    let (_, run) = held(found, progress.run_id, token)?;
    let mut run = run.clone();
    forgive(&mut run, progress);
    if !requeue(&mut run, max_attempts) {
        return Ok(vec![]);
    }
    run.updated_at = now;
    Ok(vec![Change::PutRun(Box::new(run))])
}

fn held(found: Option<&ThreadRuns>, run_id: RunId, token: i64) -> Result<(&ThreadRuns, &Run)> {
    let lost =
        || Error::conflict("the lease of this run is held by somebody else").with("run_id", run_id);
    let found = found.ok_or_else(lost)?;
    let run = found
        .live
        .iter()
        .find(|run| run.run_id == run_id)
        .ok_or_else(lost)?;
    match &run.lease {
        Some(lease) if lease.token == token && run.status == RunStatus::Running => Ok((found, run)),
        _ => Err(lost()),
    }
}

/// Which live runs to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// These.
    Ids(Vec<RunId>),
    /// Those of this status.
    Status(RunStatus),
    /// All.
    All,
}

/// What a cancellation did besides its changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cancelled {
    /// Pending runs that ended at once.
    pub ended: Vec<Run>,
    /// Running runs that are to be stopped now.
    pub stopping: Vec<(RunId, CancelAction)>,
}

/// Stops runs: pending ones end at once, running ones are told.
///
/// # Errors
/// `NotFound` if no live run matches.
pub fn cancel(
    found: Option<&ThreadRuns>,
    which: &Which,
    action: CancelAction,
    now: Timestamp,
) -> Result<(Vec<Change>, Cancelled)> {
    let none = || Error::not_found("No matching runs to cancel. They may have finished already.");
    let found = found.ok_or_else(none)?;
    let matches = |run: &&Run| match which {
        Which::Ids(ids) => ids.contains(&run.run_id),
        Which::Status(status) => run.status == *status,
        Which::All => true,
    };
    let mut changes = Vec::new();
    let unused = found.live.first().ok_or_else(none)?.clone();
    let mut done = Created {
        run: unused,
        ended: vec![],
        stopping: vec![],
    };
    for run in found.live.iter().filter(matches) {
        cancel_one(run, action, now, &mut changes, &mut done);
    }
    if done.ended.is_empty() && done.stopping.is_empty() {
        return Err(none());
    }
    if done.ended.len() == found.live.len() {
        changes.push(Change::PutThread(Box::new(settle(
            &found.thread,
            &done.ended,
            now,
        ))));
    }
    Ok((
        changes,
        Cancelled {
            ended: done.ended,
            stopping: done.stopping,
        },
    ))
}

/// The letter about a live run that goes with its thread, if its creator wants one.
#[must_use]
pub fn lost(run: &Run, now: Timestamp) -> Option<Change> {
    let mut run = run.clone();
    let started = started_at(&run);
    run.status = RunStatus::Interrupted;
    run.updated_at = now;
    letter::of_end(&run, started, no_values(), now)
}

/// A new thread row.
#[must_use]
pub fn new_thread(thread_id: agentflow_types::ThreadId, metadata: Map, now: Timestamp) -> Thread {
    Thread {
        thread_id,
        created_at: now,
        updated_at: now,
        state_updated_at: now,
        metadata,
        config: Map::new(),
        status: ThreadStatus::Idle,
        values: Value::Null,
        interrupts: IndexMap::new(),
        error: Value::Null,
        ttl: None,
    }
}

#[cfg(test)]
mod tests {
    use agentflow_types::{AssistantId, ThreadId};

    use super::*;

    const MOST: u32 = 3;
    const NOON: Timestamp = Timestamp(1_767_268_800_000_000);

    fn after(seconds: u64) -> Timestamp {
        NOON.plus(Duration::from_secs(seconds))
    }

    fn worker() -> Worker {
        Worker {
            id: "w".into(),
            lease: Duration::from_secs(30),
        }
    }

    /// A run that was claimed at noon.
    fn running() -> Run {
        let mut run = Run {
            run_id: RunId::mint(),
            thread_id: ThreadId::mint(),
            assistant_id: AssistantId::system("g"),
            created_at: NOON,
            updated_at: NOON,
            status: RunStatus::Pending,
            metadata: Map::new(),
            kwargs: Map::new(),
            multitask_strategy: MultitaskStrategy::Enqueue,
            attempt: 0,
            cancel: None,
            lease: None,
            error: Value::Null,
            temporary_thread: false,
        };
        take(&mut run, &worker(), NOON);
        run
    }

    /// Loses the worker again and again; each attempt makes a checkpoint, or not. Returns the
    /// attempts that were started, the first included, and whether the run was given up.
    fn lose(gets_on: &[bool]) -> (Vec<u32>, bool) {
        let mut run = running();
        let mut attempts = vec![run.attempt];
        let mut newest = None;
        for (lost, gets_on) in (0..).zip(gets_on) {
            if *gets_on {
                newest = Some(after(100 * lost + 10));
            }
            let found = ThreadRuns {
                thread: new_thread(run.thread_id, Map::new(), NOON),
                live: vec![run.clone()],
            };
            let now = after(100 * (lost + 1));
            let (changes, claimed) = claim(&found, &worker(), MOST, None, now);
            assert_eq!((changes, claimed.lost), (vec![], Some(run.run_id)));
            let progress = Progress {
                run_id: run.run_id,
                newest,
            };
            let (_, claimed) = claim(&found, &worker(), MOST, Some(progress), now);
            match claimed.run {
                Some(again) => run = again,
                None => return (attempts, claimed.ended.len() == 1),
            }
            attempts.push(run.attempt);
        }
        (attempts, false)
    }

    #[test]
    fn only_attempts_without_a_new_checkpoint_count() {
        assert_eq!(lose(&[false; 5]), (vec![1, 2, 3], true));
        assert_eq!(lose(&[true; 5]), (vec![1, 2, 2, 2, 2, 2], false));
        let now_and_then = [true, false, true, false, false, false];
        assert_eq!(lose(&now_and_then), (vec![1, 2, 3, 2, 3], true));
    }

    #[test]
    fn a_run_that_kills_what_executes_it_is_given_up() {
        let mut run = running();
        let mut attempts = vec![];
        let mut crash = |newest: Option<Timestamp>| {
            let found = ThreadRuns {
                thread: new_thread(run.thread_id, Map::new(), NOON),
                live: vec![run.clone()],
            };
            let token = run.lease.as_ref().map_or(0, |lease| lease.token);
            let progress = Progress {
                run_id: run.run_id,
                newest,
            };
            attempts.push(run.attempt);
            let stale = crashed(Some(&found), token + 1, progress, MOST, after(1));
            assert_eq!(
                stale.unwrap_err().kind(),
                agentflow_types::ErrorKind::Conflict
            );
            let changes = crashed(Some(&found), token, progress, MOST, after(1)).unwrap();
            let [Change::PutRun(back)] = changes.as_slice() else {
                assert!(changes.is_empty());
                return false;
            };
            assert_eq!((back.status, &back.lease), (RunStatus::Pending, &None));
            run = (**back).clone();
            take(&mut run, &worker(), after(2));
            true
        };
        assert!(crash(None));
        assert!(crash(Some(after(5))), "it got on");
        assert!(crash(None));
        assert!(!crash(None));
        assert_eq!(attempts, [1, 2, 2, 3]);
    }

    #[test]
    fn an_attempt_that_was_given_back_is_not_the_first() {
        let run = running();
        let found = ThreadRuns {
            thread: new_thread(run.thread_id, Map::new(), NOON),
            live: vec![run.clone()],
        };
        let token = run.lease.as_ref().map_or(0, |lease| lease.token);
        let (changes, ended) = release(Some(&found), run.run_id, token, after(1)).unwrap();
        let [Change::PutRun(back)] = changes.as_slice() else {
            panic!("{changes:?}");
        };
        assert_eq!(
            (back.attempt, back.status, ended),
            (1, RunStatus::Pending, None)
        );
    }
}
