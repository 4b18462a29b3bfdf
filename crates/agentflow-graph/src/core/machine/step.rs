//! Supersteps: which tasks run, what their ends mean, how their writes are combined.

use std::sync::Arc;

use agentflow_types::{Error, Result, Str, Value, graph::StreamMode};

use super::{Effect, Machine, Tick};
use crate::{
    context::NodeContext,
    core::{
        board::{Foreseen, Versions, WriteSet},
        ids::TaskId,
        payload::{self, Cached, Who},
        task::{ERROR_SOURCE, Pending, Status, Target, Task, Write, interrupt_value, tasks_of},
        writes::Writers,
    },
    layout::Layout,
    output::NodeOutput,
    signal,
};

/// How a task ended.
pub(crate) enum Finish {
    /// It wrote.
    Wrote,
    /// It asks something.
    Asked,
    /// It failed, and the task at this place handles it.
    Handled(usize),
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
            self.handle_again();
        }
        if self
            .board
            .interrupts(&self.setup.interrupt_before, &self.tasks)
        {
            return Tick::Interrupted;
        }
        // After the static interrupts: going on passes those of the next superstep.
        if self.setup.drain.is_cancelled() {
            return Tick::Drained;
        }
        self.announce();
        Tick::Run
    }

    /// Finds the tasks of the superstep and shows the checkpoint that they follow.
    pub(super) fn prepare(&mut self) {
        self.tasks = self.board.prepare(&self.prepared_with());
        self.forget_calls();
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

    /// Tasks that failed in an earlier attempt, and whose handler did not end: the handler runs
    /// again, the task does not.
    fn handle_again(&mut self) {
        let source = |target: &Target| matches!(target, Target::Other(n) if &**n == ERROR_SOURCE);
        let failed = self.pending.iter().filter(|p| source(&p.write.target));
        let failed: Vec<TaskId> = failed.map(|p| p.task).collect();
        for id in failed {
            let of_task = || {
                self.pending
                    .iter()
                    .filter(|p| p.task == id)
                    .map(|p| &p.write)
            };
            let error = of_task().find(|write| write.target == Target::Error);
            let at = self.tasks.iter().position(|task| task.id == id);
            let (Some(error), Some(at)) = (error.cloned(), at) else {
                continue;
            };
            let text = error.value.as_str().unwrap_or_default().to_owned();
            let failure = Arc::new(Error::failed(text));
            let with = self.prepared_with();
            if let Some(handler) = self.board.handler(&with, &self.tasks[at], failure) {
                self.tasks[at].writes.push(error);
                self.tasks.push(handler);
            }
        }
    }

    /// Gives a task what a cache remembers of it.
    pub(crate) fn cached(&mut self, at: usize, writes: Vec<(Str, Value)>) {
        let writes = self.parse_writes(writes);
        self.record_task(at, &writes);
        self.output_writes(at, &writes, Cached::Yes);
        self.tasks[at].writes = writes;
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

    pub(super) fn emit_wrapped(&mut self, mode: StreamMode, kind: &str, step: i64, data: Value) {
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
        let mut writers = Writers {
            board: &self.board,
            rng: &*self.setup.world.rng,
            context,
            foreseen: Foreseen::default(),
        };
        let written = result.and_then(|output| writers.of(node, &output));
        let foreseen = writers.foreseen;
        self.board.foresee(foreseen);
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
        if signal::parent_command(&error).is_some() || signal::is_drained(&error) {
            return Finish::Failed(error);
        }
        let text = error_repr(&error);
        let mut all = used;
        all.push(Write::new(Target::Error, Value::from(text)));
        let error = Arc::new(error);
        let with = self.prepared_with();
        let handler = self.board.handler(&with, &self.tasks[at], error.clone());
        let layout = self.setup.layout.clone();
        if handler.is_some() {
            let name = layout.nodes[self.tasks[at].node].name.clone();
            let target = Target::Other(ERROR_SOURCE.into());
            all.push(Write::new(target, Value::Str(name)));
        }
        self.put_writes(at, all);
        match handler {
            Some(handler) => {
                self.tasks.push(handler);
                Finish::Handled(self.tasks.len() - 1)
            }
            None => Finish::Failed(Arc::into_inner(error).unwrap_or_else(|| {
                // Nobody else has the error of a task that nothing handles.
                Error::bug("the error of a task is held elsewhere")
            })),
        }
    }

    fn record_task(&mut self, at: usize, writes: &[Write]) {
        // The path is text that only a saver needs.
        if self.setup.saves {
            let task = &self.tasks[at];
            let (id, path) = (task.id, task.path_text(&self.setup.layout));
            self.record(id, path, writes);
        }
    }

    /// Keeps, stores and shows the writes of a task that ended.
    fn put_writes(&mut self, at: usize, writes: Vec<Write>) {
        self.record_task(at, &writes);
        self.output_writes(at, &writes, Cached::No);
        self.tasks[at].writes = writes;
    }

    /// Like [`put_writes`](Self::put_writes) for a task that waits: it keeps no writes, so that
    /// it runs again.
    fn put_interrupt(&mut self, at: usize, writes: Vec<Write>) {
        let (id, path) = (
            self.tasks[at].id,
            self.tasks[at].path_text(&self.setup.layout),
        );
        let kept = self.keep_question(id, path, writes);
        self.output_writes(at, &kept, Cached::No);
    }

    /// Keeps and stores the writes of a task that waits; returns what is kept.
    pub(super) fn keep_question(
        &mut self,
        id: TaskId,
        path: String,
        mut writes: Vec<Write>,
    ) -> Vec<Write> {
        // Of several writes to one fixed slot the last one counts.
        let mut kept: Vec<Write> = Vec::with_capacity(2);
        for write in writes.drain(..) {
            match kept.iter_mut().find(|k| k.target == write.target) {
                Some(earlier) => *earlier = write,
                None => kept.push(write),
            }
        }
        self.remember(id, &kept);
        if self.setup.saves && self.saves_writes() {
            self.commit_writes(id, path, &kept);
        }
        kept
    }

    pub(super) fn remember(&mut self, id: TaskId, writes: &[Write]) {
        self.written.push(id);
        if !self.with_writes.insert(id) {
            self.pending.retain(|p| p.task != id);
        }
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
        let task = &self.tasks[at];
        let who = Who {
            id: task.id,
            name: &layout.nodes[task.node].name,
        };
        self.show(&layout, who, writes, cached);
    }

    /// Shows the writes of a task or of a functional task.
    pub(super) fn show(&mut self, layout: &Layout, who: Who<'_>, writes: &[Write], cached: Cached) {
        let modes = self.setup.modes;
        match writes.first().map(|w| &w.target) {
            Some(Target::Interrupt) => self.output_interrupts(writes),
            Some(Target::Error) | None => {}
            _ if modes.has(StreamMode::Updates) => {
                let data = payload::update(layout, who, writes, cached);
                self.emit(StreamMode::Updates, data);
            }
            _ => {}
        }
        if cached == Cached::No && modes.any(&[StreamMode::Tasks, StreamMode::Debug]) {
            let data = payload::task_result(layout, who, writes);
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
            && self.setup.layout.function.is_none()
            && let Value::Map(mut map) = self.output()
        {
            std::sync::Arc::make_mut(&mut map)
                .insert(agentflow_types::graph::INTERRUPT.into(), questions);
            self.emit(StreamMode::Values, Value::Map(map));
        } else if self.wants(StreamMode::Values) {
            let data = Value::object([(agentflow_types::graph::INTERRUPT, questions)]);
            self.emit(StreamMode::Values, data);
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
        self.forget_calls();
        self.pending.clear();
        self.with_writes.clear();
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
        for call in &self.calls {
            self.board.saw_task(&call.name);
        }
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
