//! Functional tasks: work that a task calls and waits for, with a result of its own.

use agentflow_types::{Error, Result, Str, Value, graph::StreamMode};

use super::{Machine, step::error_repr};
use crate::{
    core::{
        board::Prepare,
        ids::{PUSH, TaskId, TaskIds, task_ns},
        payload::{self, Cached, Who},
        task::{RETURN, Status, Target, Write, interrupt_value},
        writes::stored_answers,
    },
    signal,
};

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Namespace of the calling task.
    pub(crate) ns: String,
    pub(crate) path_text: String,
    pub(crate) path: Value,
}

/// A functional task of this superstep.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: TaskId,
    pub(crate) name: Str,
    /// Its own namespace.
    pub(crate) ns: String,
    pub(crate) path_text: String,
    pub(crate) path: Value,
    /// Answers that it already has.
    pub(crate) resume: Vec<Value>,
    /// What it wrote; not empty once it ended.
    pub(crate) writes: Vec<Write>,
}

impl Call {
    /// The result, if the task ended well.
    pub(crate) fn result(&self) -> Option<Result<Value>> {
        if let Some(write) = self.writes.iter().find(|w| payload::is_return(&w.target)) {
            return Some(Ok(write.value.clone()));
        }
        let error = self.writes.iter().find(|w| w.target == Target::Error)?;
        let text = error.value.as_str().unwrap_or_default().to_owned();
        Some(Err(Error::failed(text)))
    }

    /// The caller of tasks that this one calls.
    pub(crate) fn caller(&self) -> Caller {
        Caller {
            ns: self.ns.clone(),
            path_text: self.path_text.clone(),
            path: self.path.clone(),
        }
    }

    fn who(&self) -> Who<'_> {
        Who {
            id: self.id,
            name: &self.name,
        }
    }
}

/// How a functional task ended.
pub(crate) enum CallEnd {
    /// With a result, or with an error for its caller.
    Over(Result<Value>),
    /// It asks something; the error is the signal for its caller.
    Asked(Error),
}

impl Machine {
    /// Takes in the `index`-th call of a task; returns its place among the calls. The same call
    /// again (from a retried caller) has the same place; one that ended in an earlier attempt of
    /// the run has its writes.
    pub(crate) fn accept_call(
        &mut self,
        caller: &Caller,
        index: usize,
        name: &Str,
        input: Value,
    ) -> usize {
        let mut ids = TaskIds::new(self.board.id, &caller.ns, self.step);
        let id = ids.call(name, &caller.path_text, index);
        if let Some(known) = self.calls.iter().position(|call| call.id == id) {
            return known;
        }
        let with = Prepare {
            ns: &caller.ns,
            ..self.prepared_with()
        };
        let resume = stored_answers(&with, id, name);
        let mut call = Call {
            id,
            name: name.clone(),
            ns: task_ns(&caller.ns, name, id),
            path_text: format!("~{PUSH}, {}, {index:010}, {:010}", caller.path_text, 1),
            path: Value::list(vec![
                Value::str(PUSH),
                caller.path.clone(),
                Value::Int(i64::try_from(index).unwrap_or(i64::MAX)),
                Value::Bool(true),
            ]),
            resume,
            writes: Vec::new(),
        };
        if self.wants(StreamMode::Tasks) || self.wants(StreamMode::Debug) {
            let data = payload::call_start(call.who(), input, &self.setup.config);
            self.emit_wrapped(StreamMode::Tasks, "task", self.step, data);
        }
        if !self.is_replaying
            && let Some(status) = Status::read(&self.pending, id)
        {
            call.writes = status.output;
            self.hands_back_to(id);
        }
        self.calls.push(call);
        self.calls.len() - 1
    }

    /// Gives a functional task what a cache remembers of it.
    pub(crate) fn cached_call(&mut self, at: usize, writes: Vec<(Str, Value)>) {
        let writes = self.parse_writes(writes);
        self.put_call(at, writes, Cached::Yes);
    }

    /// Takes in how a functional task ended. `resumes`: the answers that it used, per question.
    pub(crate) fn finish_call(
        &mut self,
        at: usize,
        result: Result<Value>,
        resumes: Vec<Value>,
    ) -> CallEnd {
        let used = resumes
            .into_iter()
            .map(|answers| Write::new(Target::Resume, answers));
        match result {
            Ok(value) => {
                let returned = Write::new(Target::Other(RETURN.into()), value.clone());
                let writes = used.chain([returned]).collect();
                self.put_call(at, writes, Cached::No);
                CallEnd::Over(Ok(value))
            }
            Err(error) => {
                if let Some(questions) = signal::interrupts(&error) {
                    let questions = questions.iter().map(interrupt_value).collect();
                    let asked = Write::new(Target::Interrupt, Value::list(questions));
                    let call = &self.calls[at];
                    let (id, path) = (call.id, call.path_text.clone());
                    // The caller shows the question as its own.
                    self.keep_question(id, path, std::iter::once(asked).chain(used).collect());
                    return CallEnd::Asked(error);
                }
                let text = Value::from(error_repr(&error));
                let writes = used.chain([Write::new(Target::Error, text)]).collect();
                self.put_call(at, writes, Cached::No);
                CallEnd::Over(Err(error))
            }
        }
    }

    fn put_call(&mut self, at: usize, writes: Vec<Write>, cached: Cached) {
        let call = &self.calls[at];
        let (id, path) = (call.id, call.path_text.clone());
        self.record(id, path, &writes);
        let layout = self.setup.layout.clone();
        let who = self.calls[at].clone();
        self.show(&layout, who.who(), &writes, cached);
        self.calls[at].writes = writes;
    }

    /// Writes of a task as a cache keeps them; `None` if the task did not end well.
    pub(crate) fn cacheable(&self, writes: &[Write]) -> Option<Vec<(Str, Value)>> {
        let failed = |w: &Write| matches!(w.target, Target::Interrupt | Target::Error);
        if writes.is_empty() || writes.iter().any(failed) {
            return None;
        }
        let layout = &self.setup.layout;
        let named = writes
            .iter()
            .map(|w| (w.target.name(layout), w.value.clone()));
        Some(named.collect())
    }

    /// Writes that somebody stored by name.
    pub(super) fn parse_writes(&self, writes: Vec<(Str, Value)>) -> Vec<Write> {
        let layout = &self.setup.layout;
        let parse = |(name, value): (Str, Value)| Write::new(Target::parse(layout, &name), value);
        writes.into_iter().map(parse).collect()
    }

    /// What the tasks of the current superstep are prepared with.
    pub(super) fn prepared_with(&self) -> Prepare<'_> {
        Prepare {
            ns: &self.setup.ns,
            step: self.step,
            stop: self.stop,
            pending: &self.pending,
            resume_map: self.resume_map.as_deref(),
        }
    }
}
