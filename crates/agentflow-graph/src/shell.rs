//! The async shell: runs tasks, calls the saver, sends events. Decides nothing.

mod call;
mod drive;
mod emit;
mod execute;
mod flight;
mod pipeline;
mod run;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use tokio::{sync::mpsc, time::Instant};

use agentflow_types::{
    Map, Result, RunId, Str, Value,
    graph::{Durability, Interrupt, RunConfig},
    message,
};
use tokio_util::sync::CancellationToken;

use crate::{
    context::NodeFailure,
    core::{
        ids::{TaskId, interrupt_id, task_ns},
        machine::{Answer, calls::Caller},
        payload::{MessageSource, Speaker},
        task::Path,
    },
    func::TaskOptions,
    graph::Graph,
    invocation::Runtime,
    layout::NodeId,
    policy::Refresh,
    signal,
};

pub(crate) use call::{Body as CallBody, Request};
pub(crate) use emit::Emitter;
pub(crate) use pipeline::Pipeline;
pub(crate) use run::{outside_context, run_nested, run_root};

/// What all tasks of one run of one graph share.
pub(crate) struct RunShared {
    pub(crate) graph: Arc<Graph>,
    pub(crate) runtime: Runtime,
    pub(crate) config: Arc<RunConfig>,
    pub(crate) thread_id: Option<String>,
    pub(crate) run_id: Option<RunId>,
    pub(crate) attempt: u32,
    pub(crate) cancel: CancellationToken,
    pub(crate) emitter: Emitter,
    pub(crate) subgraphs: emit::Subgraphs,
    pub(crate) pipeline: Option<Arc<Pipeline>>,
    pub(crate) durability: Durability,
    /// Namespace of the graph; empty at the root.
    pub(crate) ns: String,
    pub(crate) answer: Arc<Answer>,
    /// Checkpoints of the graphs above, by namespace.
    pub(crate) parents: Map,
    /// The task that this graph runs in.
    pub(crate) above: Option<Arc<TaskShared>>,
    /// Fires when the run is to stop before its next superstep.
    pub(crate) drain: CancellationToken,
}

/// A replay from an earlier checkpoint: graphs inside tasks start, once each, from what they were
/// before it.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) before: String,
    visited: Mutex<HashSet<String>>,
}

impl Replay {
    fn new(before: String) -> Self {
        Self {
            before,
            visited: Mutex::default(),
        }
    }

    /// Whether the graph of this namespace, task id not counted, comes for the first time.
    fn is_first_visit(&self, ns: &str) -> bool {
        let stable = ns.rsplit_once(':').map_or(ns, |(stable, _)| stable);
        let mut visited = self.visited.lock().unwrap_or_else(PoisonError::into_inner);
        visited.insert(stable.to_owned())
    }
}

/// What a superstep tells graphs inside its tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inherited {
    pub(crate) resuming: Option<bool>,
    pub(crate) replay: Option<Arc<Replay>>,
    pub(crate) resume_map: Option<Arc<Map>>,
}

/// Answers and counters of one task.
#[derive(Debug, Default)]
struct Scratch {
    /// Questions asked in this attempt.
    asked: usize,
    /// Answers, in the order of the questions.
    answers: Vec<Value>,
    /// For each answered question of this attempt, the answers up to it.
    used: Vec<Value>,
}

/// What one task knows.
pub(crate) struct TaskShared {
    pub(crate) run: Arc<RunShared>,
    pub(crate) step: i64,
    pub(crate) stop: i64,
    pub(crate) node: Str,
    pub(crate) node_id: NodeId,
    pub(crate) task_id: TaskId,
    pub(crate) path: Path,
    /// The node that the path names: of a handler, the one that failed.
    pub(crate) path_node: NodeId,
    /// Set if this is a functional task.
    pub(crate) called: Option<Called>,
    /// Of a handler: what it handles.
    pub(crate) failure: Option<NodeFailure>,
    /// What the last run of a function saved.
    pub(crate) previous: Value,
    /// Where functional tasks are asked for; `None` for somebody outside.
    pub(crate) requests: Option<mpsc::Sender<Request>>,
    /// The checkpoint that the task follows.
    pub(crate) checkpoint: u128,
    pub(crate) attempt: AtomicU32,
    pub(crate) inherited: Inherited,
    /// Graphs called in this attempt.
    calls: AtomicUsize,
    /// Functional tasks called in this attempt.
    tasks_called: AtomicUsize,
    ns: OnceLock<String>,
    scratch: Mutex<Scratch>,
    /// Last progress of this attempt.
    progress: Mutex<Option<Instant>>,
}

/// What makes a task a functional one.
pub(crate) struct Called {
    pub(crate) body: CallBody,
    pub(crate) options: Arc<TaskOptions>,
    /// Its own path.
    pub(crate) caller: Caller,
}

impl TaskShared {
    /// A task that stands for somebody outside.
    fn outside(run: Arc<RunShared>, step: i64) -> Self {
        Self {
            run,
            step,
            stop: step + 2,
            node: agentflow_types::graph::START.into(),
            node_id: crate::layout::START_NODE,
            task_id: TaskId::NULL,
            path: Path::Input,
            path_node: crate::layout::START_NODE,
            called: None,
            failure: None,
            previous: Value::Null,
            requests: None,
            checkpoint: 0,
            attempt: AtomicU32::new(1),
            inherited: Inherited::default(),
            calls: AtomicUsize::new(0),
            tasks_called: AtomicUsize::new(0),
            ns: OnceLock::new(),
            scratch: Mutex::default(),
            progress: Mutex::default(),
        }
    }

    /// Namespace of the task.
    pub(crate) fn checkpoint_ns(&self) -> &str {
        self.ns
            .get_or_init(|| task_ns(&self.run.ns, &self.node, self.task_id))
    }

    /// Where in its graph the task is.
    pub(crate) fn place(&self) -> String {
        let node = || &self.run.graph.layout().nodes[self.path_node].name;
        let path = match &self.called {
            Some(called) => called.caller.path_text.clone(),
            None => self.path.text(node()),
        };
        format!("{}:{path}:{}", self.step, self.node)
    }

    /// Starts an attempt: questions and calls count from zero, answers stay.
    fn start_attempt(&self, attempt: u32) {
        self.attempt.store(attempt, Ordering::Relaxed);
        self.calls.store(0, Ordering::Relaxed);
        self.tasks_called.store(0, Ordering::Relaxed);
        if self.watches_progress() {
            self.set_progress();
        }
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        scratch.asked = 0;
        scratch.used.clear();
    }

    /// Whether somebody looks at the progress of this task.
    fn watches_progress(&self) -> bool {
        execute::timeouts(self).idle.is_some()
    }

    fn set_progress(&self) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        *progress = Some(Instant::now());
    }

    /// Last progress of this attempt.
    fn progress(&self) -> Instant {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.unwrap_or_else(Instant::now)
    }

    fn refresh(&self) -> Refresh {
        match &self.called {
            Some(called) => called.options.refresh,
            None => self.run.graph.layout().nodes[self.node_id].options.refresh,
        }
    }

    /// Progress that shows by itself, here and in the tasks around this one.
    pub(crate) fn advances(&self) {
        if self.watches_progress() && self.refresh() == Refresh::Auto {
            self.set_progress();
        }
        if let Some(above) = &self.run.above {
            above.advances();
        }
    }

    /// Progress that the task tells of.
    pub(crate) fn heartbeat(&self) {
        self.set_progress();
        if let Some(above) = &self.run.above {
            above.heartbeat();
        }
    }

    /// Path as LangGraph shows it.
    pub(crate) fn path_value(&self) -> Value {
        match &self.called {
            Some(called) => called.caller.path.clone(),
            None => {
                let layout = self.run.graph.layout();
                self.path.value(&layout.nodes[self.path_node].name)
            }
        }
    }

    /// This task as the caller of functional tasks.
    pub(crate) fn caller(&self) -> Caller {
        match &self.called {
            Some(called) => called.caller.clone(),
            None => Caller {
                ns: self.checkpoint_ns().to_owned(),
                path_text: self
                    .path
                    .text(&self.run.graph.layout().nodes[self.path_node].name),
                path: self.path_value(),
            },
        }
    }

    /// The answers that this attempt used, per question.
    fn used_answers(&self) -> Vec<Value> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut scratch.used)
    }

    /// Answers a question, or makes the signal that stops the task.
    pub(crate) fn interrupt(&self, value: Value, schema: Option<Value>) -> Result<Value> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let at = scratch.asked;
        scratch.asked += 1;
        if at >= scratch.answers.len() {
            match self.run.answer.take() {
                Some(answer) => scratch.answers.push(answer),
                None => {
                    let id = interrupt_id(self.checkpoint_ns(), scratch.answers.len());
                    let question = Interrupt {
                        value,
                        id,
                        response_schema: schema,
                    };
                    return Err(signal::interrupt(vec![question]));
                }
            }
        }
        let at = at.min(scratch.answers.len() - 1);
        let used = Value::list(scratch.answers[..=at].to_vec());
        scratch.used.push(used);
        Ok(scratch.answers[at].clone())
    }

    /// `[message, metadata]` for the `messages` mode; `None` if the node keeps its messages out.
    pub(crate) fn message_event(&self, data: Value, speaker: Speaker) -> Option<Value> {
        let layout = self.run.graph.layout();
        let node = &layout.nodes[self.node_id];
        if node.is_nostream() {
            return None;
        }
        let (message, own) = match data.as_list() {
            Some([message, Value::Map(own)]) => (message.clone(), (**own).clone()),
            _ => (data, Map::new()),
        };
        if let Some(id) = message::id(&message) {
            self.run.emitter.saw(id);
        }
        let mut extra = node.options.metadata.clone();
        extra.extend(own);
        let triggers = if self.called.is_some() || self.path.is_push() {
            vec![Value::str(crate::core::ids::PUSH)]
        } else {
            let names = node.trigger_names.iter();
            names.map(|n| Value::Str(n.clone())).collect()
        };
        let source = MessageSource {
            speaker,
            config: &self.run.config,
            node: &self.node,
            step: self.step,
            triggers,
            path: self.path_value(),
            ns: self.checkpoint_ns(),
            extra: &extra,
        };
        Some(Value::list(vec![message, source.metadata()]))
    }
}
