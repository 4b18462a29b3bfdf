//! The tasks of one superstep while they run.

use std::{collections::HashMap, sync::Arc, task::Poll, time::Duration};

use agentflow_types::{Error, Result, Value, graph::Interrupt};
use tokio::{sync::oneshot, task::JoinSet};

use super::{TaskShared, execute::execute};
use crate::{cache::CacheKey, output::NodeOutput};

/// A task of the superstep, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Job {
    /// A node.
    Task(usize),
    /// A functional task.
    Call(usize),
}

/// How a task's future ended.
pub(super) type Ended = (Job, Result<NodeOutput>);

/// What the tasks of one superstep came to.
#[derive(Default)]
pub(super) struct Superstep {
    pub(super) questions: Vec<Interrupt>,
    pub(super) asked: bool,
    pub(super) failure: Option<Error>,
}

impl Superstep {
    /// Takes in the questions of a task; its caller asks the same ones.
    pub(super) fn ask(&mut self, questions: Vec<Interrupt>) {
        self.asked = true;
        for question in questions {
            if !self.questions.iter().any(|known| known.id == question.id) {
                self.questions.push(question);
            }
        }
    }
}

/// Who waits for the result of a functional task.
pub(super) type Waiter = oneshot::Sender<Result<Value>>;

/// Tasks that run side by side.
#[derive(Default)]
pub(super) struct Flight {
    pub(super) running: JoinSet<Ended>,
    /// Taken when the task has ended.
    pub(super) shared: HashMap<Job, Arc<TaskShared>>,
    /// By place of the functional task.
    pub(super) waiting: HashMap<usize, Vec<Waiter>>,
    /// Where the results go that a cache is to remember.
    pub(super) cache_keys: HashMap<Job, (CacheKey, Option<Duration>)>,
}

impl Flight {
    /// Starts a task. It is polled once here, because many end without waiting, and is then
    /// returned; otherwise it becomes a task of the async runtime, so that all threads are used.
    pub(super) fn start(
        &mut self,
        job: Job,
        shared: Arc<TaskShared>,
        input: Value,
    ) -> Option<Ended> {
        self.shared.insert(job, shared.clone());
        let mut task = Box::pin(async move { (job, execute(shared, input).await) });
        let mut poll = std::task::Context::from_waker(std::task::Waker::noop());
        match task.as_mut().poll(&mut poll) {
            Poll::Ready(ended) => Some(ended),
            // The runtime polls it again, with a waker that works.
            Poll::Pending => {
                self.running.spawn(task);
                None
            }
        }
    }

    /// Starts a task that may call others before it ends.
    pub(super) fn spawn(&mut self, job: Job, shared: Arc<TaskShared>, input: Value) {
        self.shared.insert(job, shared.clone());
        self.running
            .spawn(async move { (job, execute(shared, input).await) });
    }
}
