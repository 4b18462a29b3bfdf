//! What must hold after every step, whatever happened in it.

use std::collections::{BTreeMap, HashMap, HashSet};

use agentflow_storage::{
    Backend,
    checkpoint::CheckpointQuery,
    page::MAX_LIMIT,
    record::{CancelAction, Run, RunQuery, RunStatus, Thread, ThreadStatus},
};
use agentflow_types::{RunId, Scope, ThreadId, Timestamp, value};

/// What was seen of one thread.
#[derive(Default)]
struct Seen {
    runs: BTreeMap<RunId, Run>,
    /// Data of every event ever seen, by number.
    events: BTreeMap<u64, std::sync::Arc<str>>,
}

/// Watches the database and remembers what it saw.
pub struct Model {
    truth: Backend,
    scope: Scope,
    max_attempts: u32,
    seen: HashMap<ThreadId, Seen>,
    tokens: HashMap<RunId, i64>,
    /// Runs that a client was told exist.
    acknowledged: HashSet<RunId>,
    /// Runs that somebody asked to remove.
    removable: HashSet<RunId>,
}

type Check = std::result::Result<(), String>;

impl Model {
    /// Watches `truth`, the database without faults.
    pub fn new(truth: Backend, scope: Scope, max_attempts: u32) -> Self {
        Self {
            truth,
            scope,
            max_attempts,
            seen: HashMap::new(),
            tokens: HashMap::new(),
            acknowledged: HashSet::new(),
            removable: HashSet::new(),
        }
    }

    /// A client was told that the run exists.
    pub fn acknowledge(&mut self, run: RunId) {
        self.acknowledged.insert(run);
    }

    /// Whoever is live on the thread now may be removed.
    pub async fn allow_removal(&mut self, thread: ThreadId) {
        let live = self.rows(thread).await;
        self.removable.extend(
            live.iter()
                .filter(|r| !r.status.is_terminal())
                .map(|r| r.run_id),
        );
    }

    /// The token under which a run is leased now.
    pub async fn token(&self, run: RunId) -> Option<i64> {
        let run = self
            .truth
            .threads
            .run(&self.scope, run)
            .await
            .expect("reads do not fail")?;
        let running = run.status == RunStatus::Running;
        run.lease.filter(|_| running).map(|lease| lease.token)
    }

    async fn rows(&self, thread: ThreadId) -> Vec<Run> {
        let query = RunQuery {
            thread_id: Some(thread),
            limit: MAX_LIMIT,
            ..RunQuery::default()
        };
        self.truth
            .threads
            .runs(&self.scope, &query)
            .await
            .expect("reads do not fail")
    }

    /// Checks every invariant of a thread.
    pub async fn check(&mut self, id: ThreadId, now: Timestamp) -> Check {
        let rows = self.rows(id).await;
        let thread = self
            .truth
            .threads
            .get(&self.scope, id)
            .await
            .expect("reads do not fail");
        let Some(thread) = thread else {
            return if rows.is_empty() && !self.seen.contains_key(&id) {
                Ok(())
            } else {
                Err("a thread vanished".into())
            };
        };
        let running = rows
            .iter()
            .filter(|run| run.status == RunStatus::Running)
            .count();
        if running > 1 {
            return Err(format!("{running} runs of one thread are running"));
        }
        check_status(&thread, &rows)?;
        for run in &rows {
            self.check_run(id, run, &rows, now)?;
        }
        self.check_removed(id, &rows).await?;
        self.check_events(id).await?;
        self.seen.entry(id).or_default().runs =
            rows.into_iter().map(|run| (run.run_id, run)).collect();
        Ok(())
    }

    fn check_run(&mut self, thread: ThreadId, run: &Run, rows: &[Run], now: Timestamp) -> Check {
        let old = self
            .seen
            .get(&thread)
            .and_then(|seen| seen.runs.get(&run.run_id));
        if let Some(old) = old
            && old.status.is_terminal()
            && old != run
        {
            return Err(format!("an ended run changed: {old:?} to {run:?}"));
        }
        if run.status.is_terminal() && run.cancel == Some(CancelAction::Rollback) {
            return Err("a run that was to be removed ended but stayed".into());
        }
        if run.attempt > self.max_attempts {
            return Err(format!("attempt {} of {}", run.attempt, self.max_attempts));
        }
        if (run.status == RunStatus::Running) != run.lease.is_some() {
            return Err(format!(
                "a lease without running, or the other way round: {run:?}"
            ));
        }
        let token = run.lease.as_ref().map(|lease| lease.token);
        let before = old
            .and_then(|old| old.lease.as_ref())
            .map(|lease| lease.token);
        let Some(token) = token.filter(|token| before != Some(*token)) else {
            return Ok(());
        };
        // The run was claimed in this step.
        if self
            .tokens
            .insert(run.run_id, token)
            .is_some_and(|last| last >= token)
        {
            return Err("a fencing token did not grow".into());
        }
        if old.is_some_and(|old| old.cancel.is_some()) {
            return Err("a run that was to be stopped was started again".into());
        }
        let place = (run.created_at, run.run_id);
        let passed_over = rows.iter().any(|other| {
            other.status == RunStatus::Pending
                && other.created_at <= now
                && (other.created_at, other.run_id) < place
        });
        if passed_over || run.created_at > now {
            return Err("a run was claimed out of turn".into());
        }
        Ok(())
    }

    async fn check_removed(&self, id: ThreadId, rows: &[Run]) -> Check {
        let Some(seen) = self.seen.get(&id) else {
            return Ok(());
        };
        for run in seen
            .runs
            .keys()
            .filter(|id| rows.iter().all(|row| row.run_id != **id))
        {
            if !self.removable.contains(run) {
                return Err("a run vanished that nobody asked to remove".into());
            }
            let metadata = value!({"run_id": run.text()})
                .as_map()
                .cloned()
                .unwrap_or_default();
            let query = CheckpointQuery {
                metadata,
                ..CheckpointQuery::default()
            };
            let left = self
                .truth
                .checkpoints
                .list(&query)
                .await
                .expect("reads do not fail");
            if !left.is_empty() {
                return Err("a removed run left checkpoints behind".into());
            }
        }
        Ok(())
    }

    async fn check_events(&mut self, id: ThreadId) -> Check {
        let seen = self.seen.entry(id).or_default();
        let newest = seen.events.keys().next_back().copied().unwrap_or(0);
        let events = self
            .truth
            .events
            .read(id, None, 0, MAX_LIMIT)
            .await
            .expect("reads do not fail");
        let mut last = 0;
        for event in events {
            if event.seq <= last {
                return Err(format!("event {} follows {last}", event.seq));
            }
            last = event.seq;
            match seen.events.get(&event.seq) {
                Some(data) if *data == event.data => {}
                None if event.seq > newest => {
                    seen.events.insert(event.seq, event.data);
                }
                _ => return Err(format!("event number {} was used twice", event.seq)),
            }
        }
        let last = self
            .truth
            .events
            .last_seq(id)
            .await
            .expect("reads do not fail");
        if last < newest {
            Err("the last event number fell".into())
        } else {
            Ok(())
        }
    }

    /// Checks that everything that was promised came to its end.
    pub async fn check_end(&self) -> Check {
        for id in &self.acknowledged {
            let run = self
                .truth
                .threads
                .run(&self.scope, *id)
                .await
                .expect("reads do not fail");
            match run {
                Some(run) if run.status.is_terminal() => {}
                Some(run) => return Err(format!("an acknowledged run never ended: {run:?}")),
                None if self.removable.contains(id) => {}
                None => return Err("an acknowledged run vanished".into()),
            }
        }
        Ok(())
    }
}

fn check_status(thread: &Thread, rows: &[Run]) -> Check {
    let live = rows.iter().any(|run| !run.status.is_terminal());
    let expected = match () {
        () if live => ThreadStatus::Busy,
        () if !thread.error.is_null() => ThreadStatus::Error,
        () if !thread.interrupts.is_empty() => ThreadStatus::Interrupted,
        () => ThreadStatus::Idle,
    };
    if thread.status == expected {
        Ok(())
    } else {
        Err(format!(
            "the thread is {:?} but should be {expected:?}",
            thread.status
        ))
    }
}
