//! Superstep after superstep: run what the core says, tell it how it ended.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, AtomicUsize},
    },
};

use agentflow_storage::checkpoint::CheckpointOp;
use agentflow_types::{
    Error, Result, Value,
    graph::{Durability, Interrupt, StreamEvent, StreamMode},
};
use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::{
    Called, Inherited, Replay, Request, RunShared, Scratch, TaskShared,
    call::MAX_REQUESTED,
    emit::messages_in,
    execute::execute,
    flight::{Ended, Flight, Job, Superstep},
};
use crate::{
    cache::CachePolicy,
    context::{NodeContext, NodeFailure},
    core::{
        ids::task_ns,
        machine::{Effect, Ending, Machine, Tick, calls::CallEnd, step::Finish},
        payload::Speaker,
        task::Path,
    },
    output::NodeOutput,
    signal,
};

/// Drives one run of one graph.
pub(super) struct Driver {
    machine: Machine,
    run: Arc<RunShared>,
    inherited: Inherited,
    /// Writes that go out with the next batch.
    held: Vec<CheckpointOp>,
    /// Functional tasks that tasks ask for.
    requests: mpsc::Receiver<Request>,
    requester: mpsc::Sender<Request>,
}

impl Driver {
    pub(super) fn new(machine: Machine, run: Arc<RunShared>, inherited: Inherited) -> Self {
        let (requester, requests) = mpsc::channel(MAX_REQUESTED);
        Self {
            requests,
            requester,
            machine,
            run,
            inherited,
            held: Vec::new(),
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first error of a task, of the saver, or of combining writes; `Cancelled`;
    /// `GraphRecursionError`.
    pub(super) async fn drive(mut self) -> (Machine, Result<Ending>) {
        let result = self.supersteps().await;
        let ending = match &result {
            Ok(ending) => ending.clone(),
            Err(_) => Ending::Failed,
        };
        let result = match (result, self.finish(&ending).await) {
            (Ok(ending), Ok(())) => Ok(ending),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        (self.machine, result)
    }

    async fn finish(&mut self, ending: &Ending) -> Result<()> {
        self.machine.end(ending)?;
        self.effects().await;
        self.commit(Wait::Durable).await?;
        match &self.run.pipeline {
            Some(pipeline) => pipeline.flush().await,
            None => Ok(()),
        }
    }

    async fn supersteps(&mut self) -> Result<Ending> {
        if let Some(before) = self.machine.replay_before.take() {
            self.inherited.replay = Some(Arc::new(Replay::new(before)));
        }
        loop {
            self.effects().await;
            self.commit(Wait::AsConfigured).await?;
            if self.run.cancel.is_cancelled() {
                return Err(cancelled());
            }
            let tick = self.machine.tick();
            self.effects().await;
            match tick {
                Tick::Run => {}
                Tick::Done => return Ok(Ending::Done),
                Tick::Interrupted => return Ok(Ending::Interrupted(Vec::new())),
                Tick::Drained => return Err(signal::drained()),
                Tick::OutOfSteps => return Err(self.machine.recursion_error()),
            }
            let span = tracing::info_span!("superstep", step = self.machine.step);
            let superstep = self.superstep().instrument(span).await?;
            if let Some(error) = superstep.failure {
                return Err(error);
            }
            if superstep.asked {
                return Ok(Ending::Interrupted(superstep.questions));
            }
            if self.machine.after_tick()? == Tick::Interrupted {
                return Ok(Ending::Interrupted(Vec::new()));
            }
            tokio::task::consume_budget().await;
        }
    }

    /// Runs the tasks of one superstep that are not done.
    async fn superstep(&mut self) -> Result<Superstep> {
        self.inherited.resuming = self.machine.resuming;
        self.inherited.resume_map = self.machine.resume_map().cloned();
        if let Some(above) = &self.run.above {
            above.advances();
        }
        let mut flight = Flight::default();
        let mut superstep = Superstep::default();
        if self.run.runtime.cache.is_some() {
            self.use_cache(&mut flight).await?;
        }
        let tasks = &self.machine.tasks;
        let open: Vec<usize> = (0..tasks.len())
            .filter(|at| !tasks[*at].is_done())
            .collect();
        self.run.runtime.meter.superstep(open.len());
        match open.as_slice() {
            [] => {}
            [at] => {
                // A task on its own stays here: no other thread has to wake up for it.
                let job = Job::Task(*at);
                let (shared, input) = self.shared(*at);
                flight.put(job, shared.clone());
                let task = execute(shared, input);
                let main = pin!(async move { (job, task.await) });
                self.fly(Some(main), &mut flight, &mut superstep).await?;
            }
            many => {
                let mut ready = Vec::new();
                for at in many {
                    let (shared, input) = self.shared(*at);
                    ready.extend(flight.start(Job::Task(*at), shared, input));
                }
                for ended in ready {
                    self.ended(ended, &mut flight, &mut superstep).await;
                }
                let main: Option<Pin<&mut std::future::Pending<Ended>>> = None;
                self.fly(main, &mut flight, &mut superstep).await?;
            }
        }
        Ok(superstep)
    }

    /// Runs until all tasks have ended, or one failed; starts what they call.
    async fn fly<F>(
        &mut self,
        mut main: Option<Pin<&mut F>>,
        flight: &mut Flight,
        superstep: &mut Superstep,
    ) -> Result<()>
    where
        F: Future<Output = Ended>,
    {
        let cancel = self.run.cancel.clone();
        loop {
            // A task may have called others right before it ended.
            while let Ok(request) = self.requests.try_recv() {
                self.accept(request, flight).await?;
            }
            for handler in std::mem::take(&mut flight.handlers) {
                // After a crash the handler runs, not the task that failed.
                self.commit(Wait::Durable).await?;
                let (shared, input) = self.shared(handler);
                flight.spawn(Job::Task(handler), shared, input);
            }
            let is_over = main.is_none() && flight.is_empty();
            if is_over || superstep.failure.is_some() {
                break;
            }
            if !flight.is_empty() {
                self.commit(Wait::Queued).await?;
            }
            let own = async {
                match &mut main {
                    Some(main) => main.as_mut().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ended = own => {
                    main = None;
                    self.ended(ended, flight, superstep).await;
                }
                Some(request) = self.requests.recv() => self.accept(request, flight).await?,
                ended = flight.next() => self.ended(ended?, flight, superstep).await,
                // Dropping the set aborts the tasks at their next await; they have written nothing.
                () = cancel.cancelled() => {
                    self.keep_finished(flight, superstep).await;
                    return Err(cancelled());
                }
            }
        }
        if superstep.failure.is_some() {
            self.keep_finished(flight, superstep).await;
            flight.stop().await;
            while self.requests.try_recv().is_ok() {}
        }
        Ok(())
    }

    /// Takes in the tasks that already ended, so that they never run again.
    async fn keep_finished(&mut self, flight: &mut Flight, superstep: &mut Superstep) {
        while let Some(ended) = flight.try_next() {
            self.ended(ended, flight, superstep).await;
        }
    }

    async fn ended(&mut self, ended: Ended, flight: &mut Flight, superstep: &mut Superstep) {
        let (job, result) = ended;
        let Some(shared) = flight.take(job) else {
            return;
        };
        match job {
            Job::Task(at) => {
                self.task_ended(at, result, shared, flight, superstep).await;
            }
            Job::Call(at) => self.call_ended(at, result, &shared, flight, superstep),
        }
        if !flight.cache_keys.is_empty() {
            self.remember(job, flight).await;
        }
        self.effects().await;
    }

    async fn task_ended(
        &mut self,
        at: usize,
        result: Result<NodeOutput>,
        shared: Arc<TaskShared>,
        flight: &mut Flight,
        superstep: &mut Superstep,
    ) {
        if self.run.emitter.wants(StreamMode::Messages)
            && let Ok(output) = &result
        {
            self.show_messages(&shared, output).await;
        }
        let resumes = shared.used_answers();
        let questions = match &result {
            Err(error) => signal::interrupts(error).map(<[Interrupt]>::to_vec),
            Ok(_) => None,
        };
        match self
            .machine
            .finish(at, result, resumes, &NodeContext(shared))
        {
            Finish::Wrote => {}
            Finish::Asked => superstep.ask(questions.unwrap_or_default()),
            Finish::Handled(handler) => flight.handlers.push(handler),
            Finish::Failed(error) => {
                superstep.failure.get_or_insert(error);
            }
        }
    }

    fn call_ended(
        &mut self,
        at: usize,
        result: Result<NodeOutput>,
        shared: &TaskShared,
        flight: &mut Flight,
        superstep: &mut Superstep,
    ) {
        let result = result.map(|output| match output {
            NodeOutput::Update(value) => value,
            _ => Value::Null,
        });
        let reply = match self.machine.finish_call(at, result, shared.used_answers()) {
            CallEnd::Over(result) => result,
            CallEnd::Asked(error) => {
                let questions = signal::interrupts(&error).unwrap_or_default();
                superstep.ask(questions.to_vec());
                Err(error)
            }
        };
        let waiting = flight.waiting.remove(&at).unwrap_or_default();
        let mut reply = Some(reply);
        // Of several waiters, which only a retried caller leaves, the last one still listens.
        for waiter in waiting.into_iter().rev() {
            if let Some(reply) = reply.take() {
                let _ = waiter.send(reply);
            }
        }
    }

    /// Starts a functional task, or gives the result that it has.
    async fn accept(&mut self, request: Request, flight: &mut Flight) -> Result<()> {
        let caller = request.parent.caller();
        let at =
            self.machine
                .accept_call(&caller, request.index, &request.name, request.input.clone());
        self.effects().await;
        let job = Job::Call(at);
        let is_open = self.machine.calls[at].writes.is_empty();
        let is_running = flight.has(job);
        if let (Some(policy), true) = (&request.options.cache, is_open && !is_running) {
            let namespace = vec![self.run.graph.name().to_owned(), request.name.to_string()];
            if let Some(writes) = self
                .cached(job, policy, namespace, &request.input, flight)
                .await?
            {
                self.machine.cached_call(at, writes);
                self.effects().await;
            }
        }
        if let Some(result) = self.machine.calls[at].result() {
            let _ = request.reply.send(result);
            return Ok(());
        }
        flight.waiting.entry(at).or_default().push(request.reply);
        if !is_running {
            let shared = self.called(at, &request.parent, request.body, request.options);
            flight.spawn(job, shared, request.input);
        }
        Ok(())
    }

    /// Gives tasks what the cache remembers; notes where the results of the others go.
    async fn use_cache(&mut self, flight: &mut Flight) -> Result<()> {
        let layout = self.run.graph.layout().clone();
        for at in 0..self.machine.tasks.len() {
            let task = &self.machine.tasks[at];
            let Some(policy) = layout.cache(task.node).filter(|_| !task.is_done()) else {
                continue;
            };
            let node = layout.nodes[task.node].name.to_string();
            let namespace = vec![layout.name.to_string(), node];
            let input = task.input.clone();
            let found = self.cached(Job::Task(at), policy, namespace, &input, flight);
            if let Some(writes) = found.await? {
                self.machine.cached(at, writes);
                self.effects().await;
            }
        }
        Ok(())
    }

    async fn cached(
        &self,
        job: Job,
        policy: &CachePolicy,
        namespace: Vec<String>,
        input: &Value,
        flight: &mut Flight,
    ) -> Result<Option<crate::cache::CachedWrites>> {
        let Some(cache) = &self.run.runtime.cache else {
            return Ok(None);
        };
        let key = policy.entry(namespace, input);
        let found = cache.get(&key).await?;
        if found.is_none() {
            flight.cache_keys.insert(job, (key, policy.ttl));
        }
        Ok(found)
    }

    /// Lets the cache remember what a task wrote that ended well.
    async fn remember(&self, job: Job, flight: &mut Flight) {
        let Some((key, ttl)) = flight.cache_keys.remove(&job) else {
            return;
        };
        let writes = match job {
            Job::Task(at) => self.machine.cacheable(&self.machine.tasks[at].writes),
            Job::Call(at) => self.machine.cacheable(&self.machine.calls[at].writes),
        };
        if let (Some(writes), Some(cache)) = (writes, &self.run.runtime.cache)
            && let Err(error) = cache.set(key, writes, ttl).await
        {
            // The result itself is safe; it is only computed again.
            tracing::warn!(%error, "a result was not cached");
        }
    }

    /// Sends the messages of a node's output that nobody has yet.
    async fn show_messages(&self, shared: &Arc<TaskShared>, output: &NodeOutput) {
        let layout = self.run.graph.layout();
        if layout.nodes[shared.node_id].is_hidden() {
            return;
        }
        let mut updates = Vec::new();
        collect_updates(output, &mut updates);
        for message in updates.into_iter().flat_map(messages_in) {
            let is_new = match agentflow_types::message::id(message) {
                Some(id) => self.run.emitter.saw(id),
                None => true,
            };
            if is_new && let Some(data) = shared.message_event(message.clone(), Speaker::Node) {
                let ns = self.run.emitter.ns();
                self.run
                    .emitter
                    .send(StreamEvent {
                        ns,
                        mode: StreamMode::Messages,
                        data,
                    })
                    .await;
            }
        }
    }

    fn shared(&self, at: usize) -> (Arc<TaskShared>, Value) {
        let task = &self.machine.tasks[at];
        let layout = self.run.graph.layout();
        if self.run.emitter.wants(StreamMode::Messages) {
            self.run.emitter.saw_input(&task.input);
        }
        let name = layout.nodes[task.node].name.clone();
        let ns = OnceLock::new();
        let failure = task.failed.as_ref().map(|failed| {
            ns.get_or_init(|| task_ns(&failed.ns, &name, task.id));
            NodeFailure {
                node: layout.nodes[failed.node].name.clone(),
                error: failed.error.clone(),
            }
        });
        let function = layout.function.as_ref();
        let shared = TaskShared {
            node: name,
            node_id: task.node,
            task_id: task.id,
            path: task.path,
            path_node: task.path_node(),
            failure,
            previous: function
                .and_then(|f| self.machine.board.get(f.previous))
                .unwrap_or_default(),
            ns,
            ..self.base(task.resume.clone())
        };
        (Arc::new(shared), task.input.clone())
    }

    /// What a functional task knows.
    fn called(
        &self,
        at: usize,
        parent: &TaskShared,
        body: super::CallBody,
        options: Arc<crate::func::TaskOptions>,
    ) -> Arc<TaskShared> {
        let call = &self.machine.calls[at];
        Arc::new(TaskShared {
            node: call.name.clone(),
            node_id: parent.node_id,
            task_id: call.id,
            called: Some(Called {
                body,
                options,
                caller: call.caller(),
            }),
            ns: OnceLock::from(call.ns.clone()),
            ..self.base(call.resume.clone())
        })
    }

    /// What is the same for all tasks of the superstep.
    fn base(&self, answers: Vec<Value>) -> TaskShared {
        TaskShared {
            run: self.run.clone(),
            step: self.machine.step,
            stop: self.machine.stop,
            node: agentflow_types::graph::START.into(),
            node_id: crate::layout::START_NODE,
            task_id: crate::core::ids::TaskId::NULL,
            path: Path::Input,
            path_node: crate::layout::START_NODE,
            called: None,
            failure: None,
            previous: Value::Null,
            requests: Some(self.requester.clone()),
            checkpoint: self.machine.board.id,
            attempt: AtomicU32::new(1),
            inherited: self.inherited.clone(),
            calls: AtomicUsize::new(0),
            tasks_called: AtomicUsize::new(0),
            ns: OnceLock::new(),
            scratch: Mutex::new(Scratch {
                answers,
                ..Scratch::default()
            }),
            progress: Mutex::default(),
        }
    }

    /// Performs what the core asked for: events are sent, writes are held for the next commit.
    async fn effects(&mut self) {
        if self.machine.effects.is_empty() {
            return;
        }
        for effect in self.machine.take_effects() {
            match effect {
                Effect::Emit(mode, data) => {
                    let ns = self.run.emitter.ns();
                    self.run.emitter.send(StreamEvent { ns, mode, data }).await;
                }
                Effect::Commit(op) => self.held.push(*op),
            }
        }
    }

    async fn commit(&mut self, wait: Wait) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let ops = std::mem::take(&mut self.held);
        let Some(pipeline) = &self.run.pipeline else {
            return Ok(());
        };
        let durable = match wait {
            Wait::Durable => true,
            Wait::Queued => false,
            Wait::AsConfigured => self.run.durability != Durability::Async,
        };
        if durable {
            pipeline.write(ops).await
        } else {
            pipeline.queue(ops).await
        }
    }
}

/// Whether a commit is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Until it is durable.
    Durable,
    /// Until it is queued.
    Queued,
    /// As the run's durability says.
    AsConfigured,
}

/// The error of a run that was stopped.
pub(super) fn cancelled() -> Error {
    Error::cancelled("the run was cancelled")
}

fn collect_updates<'a>(output: &'a NodeOutput, updates: &mut Vec<&'a Value>) {
    match output {
        NodeOutput::Update(update) => updates.push(update),
        NodeOutput::Command(command) => updates.extend(command.update.as_ref()),
        NodeOutput::Final { value, .. } => updates.push(value),
        NodeOutput::Many(outputs) => outputs.iter().for_each(|o| collect_updates(o, updates)),
    }
}
