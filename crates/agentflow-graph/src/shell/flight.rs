//! The tasks of one superstep while they run.

use std::{collections::HashMap, sync::Arc, task::Poll, time::Duration};

use agentflow_types::{Error, Result, Value, graph::Interrupt};
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinSet},
};

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

fn joined(ended: Option<std::result::Result<Ended, JoinError>>) -> Result<Ended> {
    match ended {
        Some(Ok(ended)) => Ok(ended),
        Some(Err(error)) => Err(Error::bug("a task was lost").source_err(error)),
        None => Err(Error::bug("fewer tasks ended than were started")),
    }
}

/// Who waits for the result of a functional task.
pub(super) type Waiter = oneshot::Sender<Result<Value>>;

/// Tasks that run side by side.
#[derive(Default)]
pub(super) struct Flight {
    running: Option<JoinSet<Ended>>,
    /// By place; taken when the task has ended.
    tasks: Vec<Option<Arc<TaskShared>>>,
    calls: Vec<Option<Arc<TaskShared>>>,
    /// Error handlers that are to start.
    pub(super) handlers: Vec<usize>,
    /// By place of the functional task.
    pub(super) waiting: HashMap<usize, Vec<Waiter>>,
    /// Where the results go that a cache is to remember.
    pub(super) cache_keys: HashMap<Job, (CacheKey, Option<Duration>)>,
}

impl Flight {
    /// Whether nothing runs beside the driver.
    pub(super) fn is_empty(&self) -> bool {
        self.running.as_ref().is_none_or(JoinSet::is_empty)
    }

    /// The next task that ends; waits for ever if none runs.
    ///
    /// # Errors
    /// `Bug` if a task panicked where panics are not caught.
    pub(super) async fn next(&mut self) -> Result<Ended> {
        match self.running.as_mut().filter(|running| !running.is_empty()) {
            Some(running) => joined(running.join_next().await),
            None => std::future::pending().await,
        }
    }

    /// A task that has ended already.
    pub(super) fn try_next(&mut self) -> Option<Ended> {
        self.running.as_mut()?.try_join_next()?.ok()
    }

    /// Stops what still runs.
    pub(super) async fn stop(&mut self) {
        if let Some(running) = &mut self.running {
            running.shutdown().await;
        }
    }

    fn running(&mut self) -> &mut JoinSet<Ended> {
        self.running.get_or_insert_with(JoinSet::new)
    }

    fn shared(&mut self, job: Job) -> &mut Option<Arc<TaskShared>> {
        let (all, at) = match job {
            Job::Task(at) => (&mut self.tasks, at),
            Job::Call(at) => (&mut self.calls, at),
        };
        if all.len() <= at {
            all.resize_with(at + 1, || None);
        }
        &mut all[at]
    }

    /// Notes that a task is under way.
    pub(super) fn put(&mut self, job: Job, shared: Arc<TaskShared>) {
        *self.shared(job) = Some(shared);
    }

    /// What a task that ended knew.
    pub(super) fn take(&mut self, job: Job) -> Option<Arc<TaskShared>> {
        self.shared(job).take()
    }

    /// Whether a task is under way.
    pub(super) fn has(&mut self, job: Job) -> bool {
        self.shared(job).is_some()
    }

    /// Starts a task. It is polled once here, because many end without waiting, and is then
    /// returned; otherwise it becomes a task of the async runtime, so that all threads are used.
    pub(super) fn start(
        &mut self,
        job: Job,
        shared: Arc<TaskShared>,
        input: Value,
    ) -> Option<Ended> {
        self.put(job, shared.clone());
        let task = execute(shared, input);
        let mut task = Box::pin(async move { (job, task.await) });
        let mut poll = std::task::Context::from_waker(std::task::Waker::noop());
        match task.as_mut().poll(&mut poll) {
            Poll::Ready(ended) => Some(ended),
            // The runtime polls it again, with a waker that works.
            Poll::Pending => {
                self.running().spawn(task);
                None
            }
        }
    }

    /// Starts a task that may call others before it ends.
    pub(super) fn spawn(&mut self, job: Job, shared: Arc<TaskShared>, input: Value) {
        self.put(job, shared.clone());
        let task = execute(shared, input);
        self.running().spawn(async move { (job, task.await) });
    }
}
