//! Creating, listing, waiting for, and stopping runs.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use agentflow_storage::page::MAX_LIMIT;
use agentflow_storage::record::{
    CancelAction, Change, Run, RunQuery, RunStatus, Thread, ThreadRuns,
};
use agentflow_storage::signal::Signal;
use agentflow_types::{
    Error, ErrorKind, Map, Result, RunId, Scope, Str, ThreadId, Value, graph::INTERRUPT,
};
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::{EARLY_STOPS, END, Ended, Service, Waiter, threads::Refresh};
use crate::{
    config::{self, CreateRun, RunThread},
    hub::Draft,
    machine::{self, Cancelled, Created, Firing, Missing, Which, Worker},
};

/// Carries a value out of a decision, which the backend may run on another thread.
pub(super) struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Slot<T> {
    pub(super) fn new() -> (Self, Self) {
        let cell = Arc::new(Mutex::new(None));
        (Self(cell.clone()), Self(cell))
    }

    pub(super) fn put(&self, value: T) {
        *self
            .0
            .lock()
            .expect("nothing panics while the slot is held") = Some(value);
    }

    pub(super) fn take(&self) -> Result<T> {
        let taken = self
            .0
            .lock()
            .expect("nothing panics while the slot is held")
            .take();
        taken.ok_or_else(|| Error::bug("the backend did not run the decision"))
    }
}

/// A run that is not stored yet.
pub(super) struct NewRun {
    pub(super) planned: config::Planned,
    /// What to do without its thread.
    missing: Missing,
    /// The firing of a cron that is stored together with it.
    firing: Option<Firing>,
}

impl Service {
    /// Creates a run; it starts at once if the thread is idle and there is room here.
    ///
    /// # Errors
    /// `NotFound` for thread or assistant, `Conflict` on a busy thread with strategy `reject`,
    /// `Unprocessable` for a malformed request, `Invalid` for a resume without a thread.
    pub async fn create_run(self: &Arc<Self>, scope: &Scope, request: CreateRun) -> Result<Run> {
        let new = self.plan_run(scope, request).await?;
        self.insert_in_background(scope, new).await
    }

    /// As [`Service::create_run`], together with the firing of a cron, or neither.
    pub(super) async fn create_fired(
        self: &Arc<Self>,
        scope: &Scope,
        request: CreateRun,
        firing: Firing,
    ) -> Result<Run> {
        let mut new = self.plan_run(scope, request).await?;
        new.firing = Some(firing);
        self.insert_in_background(scope, new).await
    }

    /// A run that only has to be stored, by [`Service::insert_in_background`].
    pub(super) async fn plan_run(&self, scope: &Scope, request: CreateRun) -> Result<NewRun> {
        let assistant = self
            .resolve_assistant(scope, &request.assistant)
            .await
            .map_err(|err| match err.kind() {
                ErrorKind::NotFound => Error::not_found("Thread or assistant not found."),
                _ => err,
            })?;
        self.check_webhook(request.webhook.as_deref())?;
        let stateless = matches!(request.thread, RunThread::Temporary | RunThread::Kept);
        if stateless
            && request
                .command
                .get("resume")
                .is_some_and(|resume| !resume.is_null())
        {
            return Err(Error::invalid("Cannot resume a run without a thread_id"));
        }
        let (thread_id, create_missing) = match request.thread {
            RunThread::Existing(id) => (id, false),
            RunThread::CreateIfMissing(id) => (id, true),
            RunThread::Temporary | RunThread::Kept => (ThreadId::mint(), true),
        };
        let existing = match stateless {
            true => None,
            false => self.backend.threads.get(scope, thread_id).await?,
        };
        let now = self.now();
        let missing = match create_missing {
            true => Missing::Create(Box::new(fresh_thread(thread_id, &request, now))),
            false => Missing::Reject,
        };
        self.admit(scope).await?;
        let planned = config::plan(
            scope,
            request,
            &assistant,
            existing.as_ref(),
            thread_id,
            now,
        )?;
        Ok(NewRun {
            planned,
            missing,
            firing: None,
        })
    }

    /// Stores a run in a task of its own, because a client that goes away between the claim and
    /// the start would leave a run that nobody executes until its lease is over.
    pub(super) async fn insert_in_background(
        self: &Arc<Self>,
        scope: &Scope,
        new: NewRun,
    ) -> Result<Run> {
        let (service, scope) = (self.clone(), scope.clone());
        let inserted =
            tokio::spawn(async move { service.insert_run(&scope, new).await }.in_current_span());
        inserted.await.map_err(panicked)?
    }

    async fn insert_run(self: &Arc<Self>, scope: &Scope, new: NewRun) -> Result<Run> {
        let NewRun {
            planned,
            missing,
            firing,
        } = new;
        let now = self.now();
        let thread_id = planned.run.thread_id;
        let permit = self.try_slot();
        let create = machine::Create {
            run: planned.run,
            graph_id: planned.graph_id,
            missing,
            claim: permit.is_some().then(|| self.worker()),
            firing,
        };
        let (inside, outside) = Slot::new();
        let decide = move |found: Option<&ThreadRuns>| {
            let (changes, created) = machine::create(found, create, now)?;
            inside.put(created);
            Ok(changes)
        };
        let threads = &self.backend.threads;
        let decided = threads.decide(scope, thread_id, Box::new(decide)).await;
        let Created {
            run,
            ended,
            stopping,
        } = match decided {
            Err(err) if err.kind() == ErrorKind::Uncertain => {
                self.stored_after_all(scope, outside.take(), err).await?
            }
            decided => decided.and_then(|()| outside.take())?,
        };
        match (run.status, permit) {
            (RunStatus::Running, Some(permit)) => self.start(scope.clone(), run.clone(), permit),
            _ => {
                self.bell.notify_one();
                self.signal(Signal::Queue);
            }
        }
        for (id, action) in stopping {
            self.stop_here(id, action);
            self.signal(Signal::Stop(id));
        }
        if let Err(err) = self.end_without_worker(scope, thread_id, ended).await {
            // The new run exists whatever becomes of the last words of the old ones.
            tracing::warn!(%thread_id, error = %err, "the end of stopped runs was not published");
        }
        // Clients know a run that was just made as pending, wherever it is by now.
        Ok(Run {
            status: RunStatus::Pending,
            ..run
        })
    }

    /// A creation whose answer was lost, if it is there: its client need not know, and a run that
    /// was claimed with it starts at once.
    ///
    /// # Errors
    /// `lost` if it is not there, or cannot be seen.
    async fn stored_after_all(
        &self,
        scope: &Scope,
        created: Result<Created>,
        lost: Error,
    ) -> Result<Created> {
        let Ok(created) = created else {
            return Err(lost);
        };
        let found = self.backend.threads.run(scope, created.run.run_id).await;
        let ours =
            |run: &Run| run.created_at == created.run.created_at && run.lease == created.run.lease;
        match found {
            Ok(Some(run)) if ours(&run) => Ok(created),
            _ => Err(lost),
        }
    }

    pub(super) fn worker(&self) -> Worker {
        Worker {
            id: self.config.worker_id.clone(),
            lease: self.config.lease,
        }
    }

    /// Creates stateless runs; either all are created or the first failure is returned.
    ///
    /// # Errors
    /// As [`Service::create_run`]; runs before the failing one exist.
    pub async fn create_batch(
        self: &Arc<Self>,
        scope: &Scope,
        requests: Vec<CreateRun>,
    ) -> Result<Vec<Run>> {
        let mut runs = Vec::with_capacity(requests.len());
        for request in requests {
            runs.push(self.create_run(scope, request).await?);
        }
        Ok(runs)
    }

    /// Runs of a thread, newest first.
    ///
    /// # Errors
    /// `NotFound` for the thread.
    pub async fn list_runs(&self, scope: &Scope, query: &RunQuery) -> Result<Vec<Run>> {
        if let Some(thread) = query.thread_id {
            self.get_thread(scope, thread).await?;
        }
        self.backend.threads.runs(scope, query).await
    }

    /// Removes a run that is over, with its events. Checkpoints stay.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it is pending or running.
    pub async fn delete_run(&self, scope: &Scope, thread: ThreadId, id: RunId) -> Result<()> {
        self.get_run(scope, Some(thread), id).await?;
        let decide = move |found: Option<&ThreadRuns>| {
            if found.is_some_and(|found| found.live.iter().any(|run| run.run_id == id)) {
                return Err(Error::conflict("the run is in flight; cancel it first"));
            }
            Ok(vec![Change::DeleteRun(id)])
        };
        self.backend
            .threads
            .decide(scope, thread, Box::new(decide))
            .await
    }

    /// Stops runs of a thread. Returns as soon as the wish is stored; [`Service::wait_end`] waits
    /// for the end.
    ///
    /// # Errors
    /// `NotFound` if no live run matches.
    pub async fn cancel_runs(
        self: &Arc<Self>,
        scope: &Scope,
        thread: ThreadId,
        which: Which,
        action: CancelAction,
    ) -> Result<()> {
        // Its own task: what was stored must reach the worker even if the client goes away.
        let (service, scope) = (self.clone(), scope.clone());
        let stopped =
            tokio::spawn(async move { service.stop(&scope, thread, which, action).await });
        stopped.await.map_err(panicked)?
    }

    async fn stop(
        &self,
        scope: &Scope,
        thread: ThreadId,
        which: Which,
        action: CancelAction,
    ) -> Result<()> {
        let now = self.now();
        let (inside, outside) = Slot::new();
        let decide = move |found: Option<&ThreadRuns>| {
            let (changes, cancelled) = machine::cancel(found, &which, action, now)?;
            inside.put(cancelled);
            Ok(changes)
        };
        let threads = &self.backend.threads;
        threads.decide(scope, thread, Box::new(decide)).await?;
        let Cancelled { ended, stopping } = outside.take()?;
        for (id, action) in stopping {
            self.stop_here(id, action);
            self.signal(Signal::Stop(id));
        }
        self.end_without_worker(scope, thread, ended).await
    }

    /// Stops every live run of the scope that has this status; `None` means pending or running.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn cancel_all(
        self: &Arc<Self>,
        scope: &Scope,
        status: Option<RunStatus>,
        action: CancelAction,
    ) -> Result<()> {
        let mut any = false;
        for wanted in [RunStatus::Pending, RunStatus::Running] {
            if status.is_none_or(|status| status == wanted) {
                any |= self.cancel_status(scope, wanted, action).await?;
            }
        }
        match any {
            true => Ok(()),
            false => Err(Error::not_found("No runs found to cancel.")),
        }
    }

    /// Stops live runs of one status; false if there was none.
    async fn cancel_status(
        self: &Arc<Self>,
        scope: &Scope,
        status: RunStatus,
        action: CancelAction,
    ) -> Result<bool> {
        let mut any = false;
        let mut offset = 0;
        loop {
            let query = RunQuery {
                status: Some(status),
                limit: MAX_LIMIT,
                offset,
                ..RunQuery::default()
            };
            let found = self.backend.threads.runs(scope, &query).await?;
            let more = found.len() == MAX_LIMIT as usize;
            let threads: BTreeSet<ThreadId> = found.into_iter().map(|run| run.thread_id).collect();
            for thread in threads {
                let which = Which::Status(status);
                match self.cancel_runs(scope, thread, which, action).await {
                    Ok(()) => any = true,
                    // They ended while we looked.
                    Err(err) if err.kind() == ErrorKind::NotFound => {}
                    Err(err) => return Err(err),
                }
            }
            if !more {
                return Ok(any);
            }
            // Pending runs are gone now; running ones are only told.
            if status == RunStatus::Running {
                offset += u64::from(MAX_LIMIT);
            }
        }
    }

    /// Tells an executing run of this process to stop.
    pub(super) fn stop_here(&self, id: RunId, action: CancelAction) {
        let mut local = self.local();
        let Some(running) = local.running.get_mut(&id) else {
            if local.early_stops.len() >= EARLY_STOPS {
                local.early_stops.shift_remove_index(0);
            }
            local.early_stops.insert(id, action);
            return;
        };
        if running.action != Some(CancelAction::Rollback) {
            running.action = Some(action);
        }
        running.stop.cancel();
    }

    /// Publishes the end of runs that never had a worker of their own.
    pub(super) async fn end_without_worker(
        &self,
        scope: &Scope,
        thread: ThreadId,
        ended: Vec<Run>,
    ) -> Result<()> {
        if ended.is_empty() {
            return Ok(());
        }
        let drafts: Vec<_> = ended.iter().map(|run| end_draft(run, &[])).collect();
        let channel = self.hub.channel(thread);
        let events = &self.backend.events;
        let store = |numbered| events.append(thread, numbered, None);
        let log = (&**events, thread);
        let published = channel.append(log, &drafts, self.now(), store).await;
        for run in ended {
            self.letters_may_wait(&run);
            self.tell_waiters(scope, &run, Value::map(Map::new()));
        }
        self.bell.notify_one();
        published?;
        self.refresh_thread(scope, thread, Refresh::AtRest).await
    }

    /// Registers for the end of a run; nothing that happens later is missed. Who has not been
    /// shown to own the run is only told if it belongs to the tenant.
    pub(super) fn wait_here(&self, scope: &Scope, id: RunId) -> oneshot::Receiver<Arc<Ended>> {
        let (tx, rx) = oneshot::channel();
        let waiter = Waiter {
            tenant: scope.tenant().into(),
            tx,
        };
        self.local().waiters.entry(id).or_default().push(waiter);
        rx
    }

    /// Waits until a run is over and returns its result: the values, with `__interrupt__` if
    /// there are interrupts, or `{"__error__": {error, message}}`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn join(
        self: &Arc<Self>,
        scope: &Scope,
        thread: Option<ThreadId>,
        id: RunId,
    ) -> Result<Value> {
        let mut rx = self.wait_here(scope, id);
        let run = match self.get_run(scope, thread, id).await {
            Ok(run) => run,
            // A stateless run may be over and gone; its result is on its way then.
            Err(err) => match rx.try_recv() {
                Ok(ended) => return Ok(result_of(&ended)),
                Err(_) => {
                    drop(rx);
                    self.forget_waiters(id);
                    return Err(err);
                }
            },
        };
        if !run.status.is_terminal() {
            if let Some(ended) = self.wait_end_of(&run, &mut rx, scope).await? {
                return Ok(result_of(&ended));
            }
        } else if let Ok(ended) = rx.try_recv() {
            return Ok(result_of(&ended));
        }
        drop(rx);
        self.forget_waiters(id);
        self.stored_result(scope, run.thread_id, id).await
    }

    /// Waits here; looks at storage when the run is said to be over, elsewhere perhaps.
    pub(super) async fn wait_end_of(
        &self,
        run: &Run,
        rx: &mut oneshot::Receiver<Arc<Ended>>,
        scope: &Scope,
    ) -> Result<Option<Arc<Ended>>> {
        loop {
            if let Ok(ended) = (&mut *rx).await {
                return Ok(Some(ended));
            }
            // First listen anew, then look: what happens in between is not missed.
            *rx = self.wait_here(scope, run.run_id);
            let threads = &self.backend.threads;
            let look = || threads.run(scope, run.run_id);
            match self.config.patience.ask(look).await? {
                Some(run) if !run.status.is_terminal() => {}
                _ => return Ok(rx.try_recv().ok()),
            }
        }
    }

    pub(super) fn forget_waiters(&self, id: RunId) {
        let mut local = self.local();
        if let Some(waiters) = local.waiters.get_mut(&id) {
            waiters.retain(|waiter| !waiter.tx.is_closed());
            if waiters.is_empty() {
                local.waiters.remove(&id);
            }
        }
    }

    /// The result of a run that ended before anybody waited.
    pub(super) async fn stored_result(
        &self,
        scope: &Scope,
        thread: ThreadId,
        id: RunId,
    ) -> Result<Value> {
        let patience = self.config.patience;
        let run = patience
            .ask(|| self.get_run(scope, Some(thread), id))
            .await?;
        let thread = patience.ask(|| self.get_thread(scope, thread)).await?;
        let interrupts: Vec<_> = thread.interrupts.values().flatten().cloned().collect();
        Ok(result_of(&Ended {
            error: run.error,
            result: wait_result(&thread.values, &interrupts)?,
        }))
    }

    /// Waits until a run is over. A run that does not exist, for example because it was rolled
    /// back, is over.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn wait_end(
        self: &Arc<Self>,
        scope: &Scope,
        thread: ThreadId,
        id: RunId,
    ) -> Result<()> {
        match self.join(scope, Some(thread), id).await {
            Err(err) if err.kind() != ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }
}

pub(super) fn panicked(err: tokio::task::JoinError) -> Error {
    Error::bug("a task of the run service panicked").source_err(err)
}

fn fresh_thread(id: ThreadId, request: &CreateRun, now: agentflow_types::Timestamp) -> Thread {
    let mut metadata = Map::new();
    for (key, value) in &request.metadata {
        metadata.insert(key.clone(), value.clone());
    }
    machine::new_thread(id, metadata, now)
}

pub(super) fn result_of(ended: &Ended) -> Value {
    match ended.error.is_null() {
        true => ended.result.clone(),
        false => Value::object([("__error__", ended.error.clone())]),
    }
}

/// The values with interrupts merged in.
pub(super) fn wait_result(
    values: &Value,
    interrupts: &[agentflow_types::graph::Interrupt],
) -> Result<Value> {
    if interrupts.is_empty() {
        return Ok(match values.is_null() {
            true => Value::map(Map::new()),
            false => values.clone(),
        });
    }
    let mut map = values.as_map().cloned().unwrap_or_default();
    map.insert(Str::from(INTERRUPT), agentflow_types::to_value(interrupts)?);
    Ok(Value::map(map))
}

/// The last event of a run.
pub(super) fn end_draft(run: &Run, interrupts: &[agentflow_types::graph::Interrupt]) -> Draft {
    let mut data = serde_json::json!({ "status": run.status.as_str() });
    if !run.error.is_null() {
        data["error"] = run.error.to_json();
    }
    if !interrupts.is_empty() {
        data["interrupts"] = serde_json::to_value(interrupts).unwrap_or_default();
    }
    Draft {
        run_id: run.run_id,
        kind: END.into(),
        ns: vec![],
        data: data.to_string().into(),
    }
}
