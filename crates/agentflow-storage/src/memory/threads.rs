//! Threads, runs and events in memory.

use std::{cmp::Ordering, collections::BTreeMap};

use agentflow_types::{CronId, Error, Result, RunId, Scope, ThreadId, Timestamp, graph::Interrupt};
use async_trait::async_trait;

use super::{Memory, Tables, ThreadRow, check_seq, holds_lease, records::paged};
use crate::{
    checkpoint::{Fence, Rest},
    event::{Event, Events},
    filter,
    page::{Page, PageQuery},
    record::{
        Ages, Candidate, Change, Decide, Heartbeat, Run, RunQuery, RunStatus, Standing, Thread,
        ThreadQuery, ThreadRuns, Threads,
    },
};

fn normal_thread(thread: Thread) -> Thread {
    Thread {
        metadata: filter::normal_map(&thread.metadata),
        config: filter::normal_map(&thread.config),
        values: filter::normal(&thread.values),
        error: filter::normal(&thread.error),
        interrupts: thread
            .interrupts
            .into_iter()
            .map(normal_interrupts)
            .collect(),
        ..thread
    }
}

fn normal_interrupts(entry: (String, Vec<Interrupt>)) -> (String, Vec<Interrupt>) {
    let (task, mut interrupts) = entry;
    for interrupt in &mut interrupts {
        interrupt.value = filter::normal(&interrupt.value);
        interrupt.response_schema = interrupt.response_schema.as_ref().map(filter::normal);
    }
    (task, interrupts)
}

fn normal_run(run: Run) -> Run {
    Run {
        metadata: filter::normal_map(&run.metadata),
        kwargs: filter::normal_map(&run.kwargs),
        error: filter::normal(&run.error),
        ..run
    }
}

fn matches(query: &ThreadQuery, thread: &Thread) -> bool {
    (query.ids.is_empty() || query.ids.contains(&thread.thread_id))
        && query.status.is_none_or(|status| status == thread.status)
        && filter::contains_map(&thread.metadata, &query.metadata)
        && (query.values.is_empty()
            || thread
                .values
                .as_map()
                .is_some_and(|v| filter::contains_map(v, &query.values)))
}

/// When the thread's next work is due; `None` if there is none.
fn due_at(row: &ThreadRow, now: Timestamp) -> Option<Timestamp> {
    let running: Vec<&Run> = row
        .runs
        .values()
        .filter(|run| run.status == RunStatus::Running)
        .collect();
    if running.is_empty() {
        let pending = row
            .runs
            .values()
            .filter(|run| run.status == RunStatus::Pending);
        return pending
            .map(|run| run.created_at)
            .filter(|due| *due <= now)
            .min();
    }
    let expiry = |run: &&Run| run.lease.as_ref().map_or(run.created_at, |l| l.expires_at);
    running.iter().map(expiry).filter(|end| *end < now).min()
}

impl ThreadRow {
    fn live(&self) -> ThreadRuns {
        let mut live: Vec<Run> = self
            .runs
            .values()
            .filter(|run| !run.status.is_terminal())
            .cloned()
            .collect();
        live.sort_by_key(|run| (run.created_at, run.run_id));
        ThreadRuns {
            thread: self.thread.clone(),
            live,
        }
    }

    fn append(&mut self, events: Vec<Event>) {
        for event in events {
            self.last_seq = self.last_seq.max(event.seq);
            self.events.insert(event.seq, event);
        }
    }
}

fn taken(run: RunId) -> Error {
    Error::conflict("run id is taken").with("run_id", run)
}

impl Tables {
    /// Checks that every change can be applied, so that applying them cannot fail half way.
    fn check_changes(&self, scope: &Scope, id: ThreadId, changes: &[Change]) -> Result<()> {
        let row = self.threads.get(&id);
        let foreign = row.is_some_and(|row| &*row.tenant != scope.tenant());
        let mut exists = row.is_some() && !foreign;
        let mut last_seq = if exists {
            row.map_or(0, |row| row.last_seq)
        } else {
            0
        };
        for change in changes {
            match change {
                Change::PutThread(thread) if thread.thread_id != id => {
                    return Err(Error::bug("a decision names another thread"));
                }
                Change::PutThread(_) if foreign => {
                    return Err(Error::conflict("thread already exists").with("thread_id", id));
                }
                Change::PutThread(_) => exists = true,
                Change::PutRun(run) | Change::InsertRun(run) if run.thread_id != id => {
                    return Err(Error::bug("a decision names another thread"));
                }
                Change::PutRun(_) | Change::InsertRun(_) if !exists => {
                    return Err(Error::bug("a run needs its thread"));
                }
                Change::PutRun(run) => self.check_run_id(id, run.run_id)?,
                Change::InsertRun(run) => {
                    if self.run_threads.contains_key(&run.run_id) {
                        return Err(taken(run.run_id));
                    }
                }
                Change::AdvanceCron {
                    cron_id, expected, ..
                } => self.check_firing(scope, *cron_id, *expected)?,
                Change::Append(_) if !exists => {
                    return Err(Error::not_found("thread not found").with("thread_id", id));
                }
                Change::Append(events) => last_seq = check_seq(last_seq, events)?,
                Change::DeleteThread => (exists, last_seq) = (false, 0),
                Change::RollbackRun(_) | Change::DeleteRun(_) | Change::Post(_) => {}
            }
        }
        Ok(())
    }

    fn check_run_id(&self, thread: ThreadId, run: RunId) -> Result<()> {
        match self.run_threads.get(&run) {
            Some(other) if *other != thread => Err(taken(run)),
            _ => Ok(()),
        }
    }

    fn check_firing(&self, scope: &Scope, id: CronId, expected: Timestamp) -> Result<()> {
        let row = self.crons.get(&id);
        let row = row.filter(|row| &*row.tenant == scope.tenant());
        match row.and_then(|row| row.cron.next_run_date) {
            Some(next) if next == expected => Ok(()),
            _ => Err(Error::conflict("the firing is past").with("cron_id", id)),
        }
    }

    fn apply_change(&mut self, scope: &Scope, id: ThreadId, change: Change) {
        // Another tenant's thread of this id was refused unless nothing touches it.
        let row = self
            .threads
            .get_mut(&id)
            .filter(|row| &*row.tenant == scope.tenant());
        match change {
            Change::PutThread(thread) => {
                let thread = normal_thread(*thread);
                match row {
                    Some(row) => row.thread = thread,
                    None => {
                        let row = ThreadRow {
                            tenant: scope.tenant().into(),
                            thread,
                            runs: BTreeMap::new(),
                            events: BTreeMap::new(),
                            last_seq: 0,
                        };
                        self.threads.insert(id, row);
                    }
                }
            }
            Change::AdvanceCron { cron_id, next, .. } => {
                if let Some(row) = self.crons.get_mut(&cron_id) {
                    row.cron.next_run_date = next;
                }
            }
            Change::PutRun(run) | Change::InsertRun(run) => {
                if let Some(row) = row {
                    self.run_threads.insert(run.run_id, id);
                    row.runs.insert(run.run_id, normal_run(*run));
                }
            }
            Change::DeleteRun(run) => self.remove_run(scope, id, run),
            Change::RollbackRun(run) => {
                let owned = row.is_some();
                self.remove_run(scope, id, run);
                if owned {
                    self.rollback(&id.text(), &run.text());
                }
            }
            Change::DeleteThread => {
                if row.is_some() {
                    self.remove_thread(id);
                }
            }
            Change::Append(events) => {
                if let Some(row) = row {
                    row.append(events);
                }
            }
            Change::Post(letter) => self.post(scope, *letter),
        }
    }

    fn remove_run(&mut self, scope: &Scope, id: ThreadId, run: RunId) {
        let row = self
            .threads
            .get_mut(&id)
            .filter(|row| &*row.tenant == scope.tenant());
        let Some(row) = row else { return };
        row.events.retain(|_, event| event.run_id != run);
        if row.runs.remove(&run).is_some() {
            self.run_threads.remove(&run);
        }
    }

    fn remove_thread(&mut self, id: ThreadId) {
        if let Some(row) = self.threads.remove(&id) {
            for run in row.runs.keys() {
                self.run_threads.remove(run);
            }
            self.checkpoints.remove(&id.text());
        }
    }

    fn candidates_by<K: Ord + Copy>(
        &self,
        limit: u32,
        key: impl Fn(&ThreadRow) -> Option<K>,
    ) -> Vec<Candidate> {
        let rows = self
            .threads
            .values()
            .filter_map(|row| Some((key(row)?, row)));
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|(key, row)| (*key, row.thread.thread_id));
        let first = rows.into_iter().take(limit as usize);
        first
            .map(|(_, row)| Candidate {
                // Work found in the queue is done in the tenant's name, not a person's.
                scope: Scope::new(&row.tenant, crate::record::QUEUE_PRINCIPAL),
                thread_id: row.thread.thread_id,
            })
            .collect()
    }
}

#[async_trait]
impl Threads for Memory {
    async fn get(&self, scope: &Scope, id: ThreadId) -> Result<Option<Thread>> {
        let tables = self.lock();
        let row = tables
            .threads
            .get(&id)
            .filter(|row| &*row.tenant == scope.tenant());
        Ok(row.map(|row| row.thread.clone()))
    }

    async fn decide(&self, scope: &Scope, id: ThreadId, decide: Decide) -> Result<()> {
        let mut tables = self.lock();
        let row = tables
            .threads
            .get(&id)
            .filter(|row| &*row.tenant == scope.tenant());
        let changes = decide(row.map(ThreadRow::live).as_ref())?;
        tables.check_changes(scope, id, &changes)?;
        for change in changes {
            tables.apply_change(scope, id, change);
        }
        Ok(())
    }

    async fn search(
        &self,
        scope: &Scope,
        query: &ThreadQuery,
        page: &PageQuery,
    ) -> Result<Page<Thread>> {
        filter::check_page(page, filter::THREAD_COLUMNS)?;
        let query = ThreadQuery {
            metadata: filter::normal_map(&query.metadata),
            values: filter::normal_map(&query.values),
            ..query.clone()
        };
        let tables = self.lock();
        let rows = tables
            .threads
            .values()
            .filter(|row| &*row.tenant == scope.tenant());
        let rows = rows
            .map(|row| &row.thread)
            .filter(|thread| matches(&query, thread))
            .collect();
        Ok(paged(rows, page, |a, b| {
            let by_column = match page.sort_by.as_str() {
                "status" => a.status.as_str().cmp(b.status.as_str()),
                "created_at" => a.created_at.cmp(&b.created_at),
                "updated_at" => a.updated_at.cmp(&b.updated_at),
                "state_updated_at" => a.state_updated_at.cmp(&b.state_updated_at),
                _ => Ordering::Equal,
            };
            by_column.then_with(|| a.thread_id.cmp(&b.thread_id))
        }))
    }

    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>> {
        let tables = self.lock();
        let row = tables
            .run_threads
            .get(&id)
            .and_then(|thread| tables.threads.get(thread));
        let row = row.filter(|row| &*row.tenant == scope.tenant());
        Ok(row.and_then(|row| row.runs.get(&id).cloned()))
    }

    async fn runs(&self, scope: &Scope, query: &RunQuery) -> Result<Vec<Run>> {
        let tables = self.lock();
        let mut rows: Vec<&Run> = tables
            .threads
            .values()
            .filter(|row| &*row.tenant == scope.tenant())
            .filter(|row| query.thread_id.is_none_or(|id| id == row.thread.thread_id))
            .flat_map(|row| row.runs.values())
            .filter(|run| query.run_ids.is_empty() || query.run_ids.contains(&run.run_id))
            .filter(|run| query.status.is_none_or(|status| status == run.status))
            .collect();
        rows.sort_by_key(|run| std::cmp::Reverse((run.created_at, run.run_id)));
        let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
        Ok(rows
            .into_iter()
            .skip(offset)
            .take(query.limit as usize)
            .cloned()
            .collect())
    }

    async fn candidates(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        Ok(self.lock().candidates_by(limit, |row| due_at(row, now)))
    }

    async fn heartbeat(&self, run_id: RunId, token: i64, until: Timestamp) -> Result<Heartbeat> {
        let mut tables = self.lock();
        let run = tables.run_mut(run_id).filter(|run| holds_lease(run, token));
        let Some(run) = run else {
            return Err(crate::checkpoint::fenced(Fence { run_id, token }));
        };
        if let Some(lease) = &mut run.lease {
            lease.expires_at = until;
        }
        Ok(Heartbeat { cancel: run.cancel })
    }

    async fn standing(&self, threads: &[ThreadId], runs: &[RunId]) -> Result<Standing> {
        let mut tables = self.lock();
        let logs = threads.iter().filter_map(|id| {
            let row = tables.threads.get(id)?;
            Some((*id, row.last_seq))
        });
        let logs = logs.collect();
        let live = runs.iter().filter(|id| {
            let run = tables.run_mut(**id);
            run.is_some_and(|run| !run.status.is_terminal())
        });
        Ok(Standing {
            live: live.copied().collect(),
            logs,
        })
    }

    async fn ages(&self) -> Result<Ages> {
        let tables = self.lock();
        let runs = || tables.threads.values().flat_map(|row| row.runs.values());
        let of = |status| runs().filter(move |run| run.status == status);
        Ok(Ages {
            pending_since: of(RunStatus::Pending).map(|run| run.created_at).min(),
            running_since: of(RunStatus::Running).map(|run| run.updated_at).min(),
        })
    }

    async fn rests(&self, rest: Rest) -> Result<bool> {
        Ok(self.lock().rests(rest))
    }

    async fn holds(&self, fence: Fence) -> Result<bool> {
        Ok(self.lock().check_fence(Some(fence)).is_ok())
    }

    async fn counts(&self) -> Result<Vec<(RunStatus, u64)>> {
        let tables = self.lock();
        let mut counts: BTreeMap<&str, (RunStatus, u64)> = BTreeMap::new();
        for run in tables.threads.values().flat_map(|row| row.runs.values()) {
            counts
                .entry(run.status.as_str())
                .or_insert((run.status, 0))
                .1 += 1;
        }
        Ok(counts.into_values().collect())
    }

    async fn expired(&self, now: Timestamp, limit: u32) -> Result<Vec<Candidate>> {
        Ok(self.lock().candidates_by(limit, |row| {
            row.thread.expires_at().filter(|end| *end < now)
        }))
    }
}

#[async_trait]
impl Events for Memory {
    async fn append(
        &self,
        thread_id: ThreadId,
        events: Vec<Event>,
        fence: Option<Fence>,
    ) -> Result<()> {
        let mut tables = self.lock();
        tables.check_fence(fence)?;
        let row = tables
            .threads
            .get_mut(&thread_id)
            .ok_or_else(|| Error::not_found("thread not found").with("thread_id", thread_id))?;
        check_seq(row.last_seq, &events)?;
        row.append(events);
        Ok(())
    }

    async fn read(
        &self,
        thread_id: ThreadId,
        run: Option<RunId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>> {
        let tables = self.lock();
        let (Some(row), Some(first)) = (tables.threads.get(&thread_id), after.checked_add(1))
        else {
            return Ok(Vec::new());
        };
        let wanted = row.events.range(first..).map(|(_, event)| event);
        let wanted = wanted.filter(|event| run.is_none_or(|id| id == event.run_id));
        Ok(wanted.take(limit as usize).cloned().collect())
    }

    async fn last_seq(&self, thread_id: ThreadId) -> Result<u64> {
        Ok(self
            .lock()
            .threads
            .get(&thread_id)
            .map_or(0, |row| row.last_seq))
    }

    async fn expire(&self, before: Timestamp, limit: u32) -> Result<u64> {
        let mut tables = self.lock();
        let mut left = u64::from(limit);
        for row in tables.threads.values_mut() {
            let runs = &row.runs;
            row.events.retain(|_, event| {
                let ended = runs
                    .get(&event.run_id)
                    .is_none_or(|run| run.status.is_terminal() && run.updated_at < before);
                let goes = ended && left > 0;
                left -= u64::from(goes);
                !goes
            });
        }
        Ok(u64::from(limit) - left)
    }
}
