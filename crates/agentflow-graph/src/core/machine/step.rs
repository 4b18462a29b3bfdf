//! Supersteps: which tasks run, what their ends mean, how their writes are combined.

use agentflow_types::{Error, Result, Value, graph::StreamMode};

use super::{Effect, Machine, Tick};
use crate::{
    context::NodeContext,
    core::{
        board::{Prepare, Versions, WriteSet},
        ids::TaskId,
        payload::{self, Cached},
        task::{Pending, Status, Target, Task, Write, interrupt_value, tasks_of},
        writes::Writers,
    },
    output::NodeOutput,
    signal,
};

/// How a task ended.
pub(crate) enum Finish {
    /// It wrote.
    Wrote,
    /// It asks something.
    Asked,
    /// It failed, or steers the graph above.
    Failed(Error),
}

impl Machine {
    /// Decides what the next superstep is.
    pub(crate) fn tick(&mut self) -> Tick {
        self.prepare();
        if self.step > self.stop {
            return Tick::OutOfSteps;
        }
        if self.tasks.is_empty() {
            return Tick::Done;
        }
        if !self.is_replaying && !self.pending.is_empty() {
            self.hand_back();
        }
        if self
            .board
            .interrupts(&self.setup.interrupt_before, &self.tasks)
        {
            return Tick::Interrupted;
        }
        self.announce();
        Tick::Run
    }

    /// Finds the tasks of the superstep and shows the checkpoint that they follow.
    pub(super) fn prepare(&mut self) {
        let with = Prepare {
            ns: &self.setup.ns,
            step: self.step,
            pending: &self.pending,
            resume_map: self.resume_map.as_deref(),
        };
        self.tasks = self.board.prepare(&with);
        if self.setup.saves
            && self
                .setup
                .modes
                .any(&[StreamMode::Checkpoints, StreamMode::Debug])
        {
            let data = self.checkpoint_payload();
            self.emit_wrapped(StreamMode::Checkpoints, "checkpoint", self.step - 1, data);
        }
    }

    /// Gives tasks that already ran the writes that were stored for them.
    fn hand_back(&mut self) {
        for id in tasks_of(&self.pending) {
            let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) else {
                continue;
            };
            if let Some(status) = Status::read(&self.pending, id) {
                task.writes.extend(status.output);
                self.hands_back_to(id);
            }
        }
    }

    fn announce(&mut self) {
        let modes = self.setup.modes;
        if modes.any(&[StreamMode::Tasks, StreamMode::Debug]) {
            for at in 0..self.tasks.len() {
                let layout = self.setup.layout.clone();
                if layout.nodes[self.tasks[at].node].is_hidden() {
                    continue;
                }
                let data = payload::task_start(&layout, &self.tasks[at], &self.setup.config);
                self.emit_wrapped(StreamMode::Tasks, "task", self.step, data);
            }
        }
        for at in 0..self.tasks.len() {
            if self.tasks[at].is_done() {
                let writes = self.tasks[at].writes.clone();
                self.output_writes(at, &writes, Cached::Yes);
            }
        }
    }

    fn emit_wrapped(&mut self, mode: StreamMode, kind: &str, step: i64, data: Value) {
        let debug = self
            .wants(StreamMode::Debug)
            .then(|| payload::debug(step, self.timestamp(), kind, data.clone()));
        if self.wants(mode) {
            self.emit(mode, data);
        }
        if let Some(debug) = debug {
            self.emit(StreamMode::Debug, debug);
        }
    }

    /// Takes in how a task ended. `resumes`: the answers that it used, per question.
    pub(crate) fn finish(
        &mut self,
        at: usize,
        result: Result<NodeOutput>,
        resumes: Vec<Value>,
        context: &NodeContext,
    ) -> Finish {
        let task = &self.tasks[at];
        let node = task.node;
        let written = result.and_then(|output| {
            let writers = Writers {
                board: &self.board,
                rng: &*self.setup.world.rng,
                context,
            };
            writers.of(node, &output)
        });
        let used = resumes
            .into_iter()
            .map(|answers| Write::new(Target::Resume, answers));
        match written {
            Ok(writes) => {
                let mut all = if used.len() == 0 {
                    writes
                } else {
                    used.chain(writes).collect()
                };
                if all.iter().all(|w| w.target.is_control()) {
                    all.push(Write::new(Target::NoWrites, Value::Null));
                }
                self.put_writes(at, all);
                Finish::Wrote
            }
            Err(error) => self.finish_error(at, error, used.collect()),
        }
    }

    fn finish_error(&mut self, at: usize, error: Error, used: Vec<Write>) -> Finish {
        if let Some(interrupts) = signal::interrupts(&error) {
            if !interrupts.is_empty() {
                let questions = interrupts.iter().map(interrupt_value).collect();
                let mut all = vec![Write::new(Target::Interrupt, Value::list(questions))];
                all.extend(used);
                self.put_interrupt(at, all);
            }
            return Finish::Asked;
        }
        if signal::parent_command(&error).is_none() {
            let text = error_repr(&error);
            let mut all = used;
            all.push(Write::new(Target::Error, Value::from(text)));
            self.put_writes(at, all);
        }
        Finish::Failed(error)
    }

    /// Keeps, stores and shows the writes of a task that ended.
    fn put_writes(&mut self, at: usize, writes: Vec<Write>) {
        let id = self.tasks[at].id;
        if self.setup.saves {
            self.remember(id, &writes);
            self.commit_task(at, &writes);
        }
        self.output_writes(at, &writes, Cached::No);
        self.tasks[at].writes = writes;
    }

    /// Like [`put_writes`](Self::put_writes) for a task that waits: it keeps no writes, so that
    /// it runs again.
    fn put_interrupt(&mut self, at: usize, mut writes: Vec<Write>) {
        // Of several writes to one fixed slot the last one counts.
        let mut kept: Vec<Write> = Vec::with_capacity(2);
        for write in writes.drain(..) {
            match kept.iter_mut().find(|k| k.target == write.target) {
                Some(earlier) => *earlier = write,
                None => kept.push(write),
            }
        }
        let id = self.tasks[at].id;
        self.remember(id, &kept);
        if self.setup.saves {
            self.commit_task(at, &kept);
        }
        self.output_writes(at, &kept, Cached::No);
    }

    fn remember(&mut self, id: TaskId, writes: &[Write]) {
        self.written.push(id);
        self.pending.retain(|p| p.task != id);
        let fresh = writes.iter().map(|write| Pending {
            task: id,
            write: write.clone(),
        });
        self.pending.extend(fresh);
    }

    /// Shows the writes of one task.
    fn output_writes(&mut self, at: usize, writes: &[Write], cached: Cached) {
        let layout = self.setup.layout.clone();
        let modes = self.setup.modes;
        if modes == payload::Modes::NONE || layout.nodes[self.tasks[at].node].is_hidden() {
            return;
        }
        match writes.first().map(|w| &w.target) {
            Some(Target::Interrupt) => self.output_interrupts(writes),
            Some(Target::Error) | None => {}
            _ if modes.has(StreamMode::Updates) => {
                let data = payload::update(&layout, &self.tasks[at], writes, cached);
                self.emit(StreamMode::Updates, data);
            }
            _ => {}
        }
        if cached == Cached::No && modes.any(&[StreamMode::Tasks, StreamMode::Debug]) {
            let data = payload::task_result(&layout, &self.tasks[at], writes);
            self.emit_wrapped(StreamMode::Tasks, "task_result", self.step, data);
        }
    }

    fn output_interrupts(&mut self, writes: &[Write]) {
        let questions = Value::list(payload::interrupt_list(writes));
        if self.wants(StreamMode::Updates) {
            let data = Value::object([(agentflow_types::graph::INTERRUPT, questions.clone())]);
            self.emit(StreamMode::Updates, data);
        }
        if self.wants(StreamMode::Values)
            && let Value::Map(mut map) = self.output()
        {
            std::sync::Arc::make_mut(&mut map)
                .insert(agentflow_types::graph::INTERRUPT.into(), questions);
            self.emit(StreamMode::Values, Value::Map(map));
        }
    }

    /// Ends the superstep: combines all writes, stores the checkpoint. Tells whether a static
    /// interrupt stops the graph now.
    ///
    /// # Errors
    /// `Invalid` if a channel refuses its writes.
    pub(crate) fn after_tick(&mut self) -> Result<Tick> {
        self.before_combining();
        let updated = self.apply_tasks()?;
        if self.wants(StreamMode::Values) && payload::touches_output(&self.setup.layout, &updated) {
            let values = self.output();
            self.emit(StreamMode::Values, values);
        }
        self.board.updated = Some(updated);
        self.collect_exit();
        self.pending.clear();
        self.setup.answer.set(None);
        self.answer_is_new = false;
        self.is_replaying = false;
        self.put_checkpoint("loop")?;
        if self
            .board
            .interrupts(&self.setup.interrupt_after, &self.tasks)
        {
            self.prepare();
            return Ok(Tick::Interrupted);
        }
        self.resuming = None;
        Ok(Tick::Run)
    }

    /// Applies the writes of all tasks; those of tasks stay empty afterwards.
    pub(super) fn apply_tasks(&mut self) -> Result<Vec<usize>> {
        let mut sets: Vec<WriteSet> = self
            .tasks
            .iter_mut()
            .map(|task: &mut Task| WriteSet {
                path: task.path,
                node: Some(task.node),
                writes: std::mem::take(&mut task.writes),
            })
            .collect();
        self.board
            .apply(&mut sets, Versions::Bump, &*self.setup.world.rng)
    }

    /// The effects so far, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }
}

/// The text under which Python would store an error.
pub(crate) fn error_repr(error: &Error) -> String {
    let message = error.to_string();
    let quote = if message.contains('\'') && !message.contains('"') {
        '"'
    } else {
        '\''
    };
    let escaped = message.replace('\\', "\\\\").replace('\n', "\\n");
    let escaped = if quote == '\'' {
        escaped.replace('\'', "\\'")
    } else {
        escaped
    };
    format!("{}({quote}{escaped}{quote})", error.class_name())
}
