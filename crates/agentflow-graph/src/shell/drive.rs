//! Superstep after superstep: run what the core says, tell it how it ended.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, AtomicUsize},
    },
    task::{Poll, Waker},
};

use agentflow_storage::checkpoint::CheckpointOp;
use agentflow_types::{
    Error, Result, Value,
    graph::{Durability, Interrupt, StreamEvent, StreamMode},
};
use tokio::task::JoinSet;

use super::{
    Inherited, Replay, RunShared, Scratch, TaskShared, emit::messages_in, execute::execute,
};
use crate::{
    context::NodeContext,
    core::{
        machine::{Effect, Ending, Machine, Tick, step::Finish},
        payload::Speaker,
    },
    output::NodeOutput,
    signal,
};

/// How a task's future ended, with the task's place.
type Ended = (usize, Result<NodeOutput>);

/// Drives one run of one graph.
pub(super) struct Driver {
    machine: Machine,
    run: Arc<RunShared>,
    inherited: Inherited,
    /// Writes that go out with the next batch.
    held: Vec<CheckpointOp>,
}

/// What the tasks of one superstep came to.
#[derive(Default)]
struct Superstep {
    questions: Vec<Interrupt>,
    asked: bool,
    failure: Option<Error>,
}

/// Tasks that were started side by side.
#[derive(Default)]
struct Started {
    running: JoinSet<Ended>,
    /// By place; taken when the task has ended.
    shared: Vec<Option<Arc<TaskShared>>>,
    /// Tasks that ended at once, in order.
    ready: Vec<Ended>,
}

impl Driver {
    pub(super) fn new(machine: Machine, run: Arc<RunShared>, inherited: Inherited) -> Self {
        Self {
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
                Tick::OutOfSteps => return Err(self.machine.recursion_error()),
            }
            let superstep = self.superstep().await?;
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
        let tasks = &self.machine.tasks;
        let open: Vec<usize> = (0..tasks.len())
            .filter(|at| !tasks[*at].is_done())
            .collect();
        let mut superstep = Superstep::default();
        match open.as_slice() {
            [] => {}
            [at] => {
                let (shared, input) = self.shared(*at);
                let cancel = self.run.cancel.clone();
                let result = tokio::select! {
                    biased;
                    result = execute(shared.clone(), input) => result,
                    // What the node had in hand is lost; it has written nothing.
                    () = cancel.cancelled() => return Err(cancelled()),
                };
                self.ended(*at, result, shared, &mut superstep).await;
            }
            many => self.side_by_side(many, &mut superstep).await?,
        }
        Ok(superstep)
    }

    /// Starts several tasks. Each is polled once here, because many end without waiting; the others
    /// become tasks of the async runtime, so that they use all its threads.
    fn start(&self, open: &[usize]) -> Started {
        let mut started = Started::default();
        started
            .shared
            .resize_with(self.machine.tasks.len(), || None);
        let mut poll = std::task::Context::from_waker(Waker::noop());
        for at in open {
            let (shared, input) = self.shared(*at);
            started.shared[*at] = Some(shared.clone());
            let at = *at;
            let mut task = Box::pin(async move { (at, execute(shared, input).await) });
            match task.as_mut().poll(&mut poll) {
                Poll::Ready(ended) => started.ready.push(ended),
                // The runtime polls it again, with a waker that works.
                Poll::Pending => drop(started.running.spawn(task)),
            }
        }
        started
    }

    async fn side_by_side(&mut self, open: &[usize], superstep: &mut Superstep) -> Result<()> {
        let Started {
            mut running,
            mut shared,
            ready,
        } = self.start(open);
        for ended in ready {
            self.joined(Some(Ok(ended)), &mut shared, superstep).await?;
        }
        if !running.is_empty() {
            self.commit(Wait::Queued).await?;
        }
        self.wait_for(&mut running, &mut shared, superstep).await
    }

    async fn wait_for(
        &mut self,
        running: &mut JoinSet<Ended>,
        shared_by_task: &mut [Option<Arc<TaskShared>>],
        superstep: &mut Superstep,
    ) -> Result<()> {
        let cancel = self.run.cancel.clone();
        while !running.is_empty() && superstep.failure.is_none() {
            let ended = tokio::select! {
                biased;
                ended = running.join_next() => ended,
                // Dropping the set aborts the tasks at their next await.
                () = cancel.cancelled() => {
                    self.keep_finished(running, shared_by_task, superstep).await;
                    return Err(cancelled());
                }
            };
            self.joined(ended, shared_by_task, superstep).await?;
            if !running.is_empty() {
                self.commit(Wait::Queued).await?;
            }
        }
        if superstep.failure.is_some() {
            self.keep_finished(running, shared_by_task, superstep).await;
            running.shutdown().await;
        }
        Ok(())
    }

    /// Takes in the tasks that already ended, so that they never run again.
    async fn keep_finished(
        &mut self,
        running: &mut JoinSet<Ended>,
        shared: &mut [Option<Arc<TaskShared>>],
        superstep: &mut Superstep,
    ) {
        while let Some(ended) = running.try_join_next() {
            if self.joined(Some(ended), shared, superstep).await.is_err() {
                return;
            }
        }
    }

    async fn joined(
        &mut self,
        ended: Option<std::result::Result<Ended, tokio::task::JoinError>>,
        shared: &mut [Option<Arc<TaskShared>>],
        superstep: &mut Superstep,
    ) -> Result<()> {
        let (at, result) = match ended {
            Some(Ok(ended)) => ended,
            Some(Err(error)) => return Err(Error::bug("a task was lost").source_err(error)),
            None => return Err(Error::bug("fewer tasks ended than were started")),
        };
        if let Some(shared) = shared[at].take() {
            self.ended(at, result, shared, superstep).await;
        }
        Ok(())
    }

    async fn ended(
        &mut self,
        at: usize,
        result: Result<NodeOutput>,
        shared: Arc<TaskShared>,
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
            Finish::Asked => {
                superstep.asked = true;
                superstep.questions.extend(questions.unwrap_or_default());
            }
            Finish::Failed(error) => {
                superstep.failure.get_or_insert(error);
            }
        }
        self.effects().await;
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
        let shared = TaskShared {
            run: self.run.clone(),
            step: self.machine.step,
            stop: self.machine.stop,
            node: layout.nodes[task.node].name.clone(),
            node_id: task.node,
            task_id: task.id,
            path: task.path,
            checkpoint: self.machine.board.id,
            attempt: AtomicU32::new(1),
            inherited: self.inherited.clone(),
            calls: AtomicUsize::new(0),
            ns: OnceLock::new(),
            scratch: Mutex::new(Scratch {
                answers: task.resume.clone(),
                ..Scratch::default()
            }),
        };
        (Arc::new(shared), task.input.clone())
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
        NodeOutput::Many(outputs) => outputs.iter().for_each(|o| collect_updates(o, updates)),
    }
}
