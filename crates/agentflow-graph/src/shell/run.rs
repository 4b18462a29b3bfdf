//! Starting runs: of the outermost graph, and of graphs inside tasks.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use agentflow_storage::checkpoint::{CheckpointKey, CheckpointQuery, CheckpointTuple};
use agentflow_types::{
    Error, Map, Result, Value,
    graph::{CheckpointRef, Durability, NS_SEPARATOR, RunConfig, RunOutcome},
};

use super::{Emitter, Inherited, Pipeline, RunShared, TaskShared, drive::Driver, emit::Subgraphs};
use tokio_util::sync::CancellationToken;

use crate::{
    builder::Persistence,
    context::NodeContext,
    core::{
        World,
        ids::{checkpoint_text, lasting_ns},
        machine::{Answer, Ending, Level, Machine, Setup},
    },
    graph::Graph,
    inspect::{load, rebuild_deltas},
    invocation::{EventSink, Input, InterruptAt, Invocation, Runtime},
    layout::Layout,
    signal,
};

/// What a saver needs and does not get.
const NO_THREAD: &str = "Checkpointer requires one or more of the following 'configurable' keys: thread_id, checkpoint_ns, checkpoint_id";

/// Static interrupts of the graph and of the run.
fn both(graph: &InterruptAt, run: &InterruptAt) -> InterruptAt {
    match (graph, run) {
        (InterruptAt::All, _) | (_, InterruptAt::All) => InterruptAt::All,
        (InterruptAt::Never, other) | (other, InterruptAt::Never) => other.clone(),
        (InterruptAt::Nodes(a), InterruptAt::Nodes(b)) => {
            InterruptAt::Nodes(a.iter().chain(b).cloned().collect())
        }
    }
}

/// Runs the outermost graph.
///
/// # Errors
/// As [`Graph::run`].
pub(crate) async fn run_root(
    graph: &Arc<Graph>,
    runtime: &Runtime,
    mut invocation: Invocation,
    sink: Option<EventSink>,
) -> Result<RunOutcome> {
    let emitter = Emitter::root(sink, &invocation.modes, invocation.cancel.clone());
    let input = std::mem::take(&mut invocation.input);
    let thread_id = thread_of(&invocation);
    let layout = graph.layout().clone();
    take_over(runtime, &invocation, thread_id.as_deref()).await?;
    let start = Start::load(&layout, runtime, &invocation, thread_id.as_deref()).await?;
    let config = Arc::new(std::mem::take(&mut invocation.config));
    let answer = Arc::new(Answer::default());
    let subgraphs = if invocation.subgraphs {
        Subgraphs::Shown
    } else {
        Subgraphs::Hidden
    };
    let pipeline = runtime
        .saver
        .clone()
        .map(|saver| Arc::new(Pipeline::new(saver, invocation.fence)));
    let setup = Setup {
        world: World::of(runtime),
        level: Level::Root,
        ns: String::new(),
        thread_id: thread_id.clone(),
        config: config.clone(),
        modes: emitter.modes(),
        saves: pipeline.is_some(),
        durability: invocation.durability,
        interrupt_before: both(&layout.interrupt_before, &invocation.interrupt_before),
        interrupt_after: both(&layout.interrupt_after, &invocation.interrupt_after),
        run_id: invocation.run_id.map(|id| id.text()),
        attempt: invocation.attempt,
        resuming: None,
        addressed: start.addressed,
        superseded: start.superseded,
        resume_map: None,
        parents: Map::new(),
        answer: answer.clone(),
        drain: invocation.drain.clone(),
        layout,
    };
    let machine = Machine::start(setup, start.saved, input)?;
    let run = Arc::new(RunShared {
        graph: graph.clone(),
        runtime: runtime.clone(),
        config,
        thread_id,
        run_id: invocation.run_id,
        attempt: invocation.attempt.max(1),
        cancel: invocation.cancel.clone(),
        emitter,
        subgraphs,
        pipeline,
        durability: invocation.durability,
        ns: String::new(),
        answer,
        parents: Map::new(),
        above: None,
        drain: invocation.drain.clone(),
    });
    let (machine, ending) = Driver::new(machine, run, Inherited::default())
        .drive()
        .await;
    ending.map(|ending| outcome(&machine, ending))
}

/// Keeps earlier holders of the thread's lease from storing anything, before the state is read.
async fn take_over(
    runtime: &Runtime,
    invocation: &Invocation,
    thread_id: Option<&str>,
) -> Result<()> {
    match (&runtime.saver, invocation.fence, thread_id) {
        (Some(saver), Some(fence), Some(thread)) => saver.take_over(thread, fence).await,
        _ => Ok(()),
    }
}

/// What the caller of a run gets.
fn outcome(machine: &Machine, ending: Ending) -> RunOutcome {
    match ending {
        Ending::Interrupted(interrupts) => RunOutcome {
            values: machine.output(),
            interrupts,
            next: machine.next(),
        },
        _ => RunOutcome {
            values: machine.output(),
            ..RunOutcome::default()
        },
    }
}

/// The thread of a run.
fn thread_of(invocation: &Invocation) -> Option<String> {
    let named = invocation.checkpoint.as_ref().map(|c| c.thread_id.as_str());
    let configured = || match invocation.config.configurable.get("thread_id")? {
        Value::Str(text) => Some(text.to_string()),
        other if other.is_null() => None,
        other => Some(other.json_text()),
    };
    named
        .filter(|thread| !thread.is_empty())
        .map(str::to_owned)
        .or_else(configured)
}

/// What a run starts from.
struct Start {
    saved: Option<CheckpointTuple>,
    addressed: bool,
    superseded: bool,
}

impl Start {
    async fn load(
        layout: &Layout,
        runtime: &Runtime,
        invocation: &Invocation,
        thread_id: Option<&str>,
    ) -> Result<Self> {
        let nothing = Self {
            saved: None,
            addressed: false,
            superseded: false,
        };
        let Some(saver) = &runtime.saver else {
            return Ok(nothing);
        };
        let Some(thread_id) = thread_id else {
            return Err(Error::invalid(NO_THREAD));
        };
        let configured = || {
            let id = invocation.config.configurable.get("checkpoint_id")?;
            id.as_str().map(str::to_owned)
        };
        let named = invocation
            .checkpoint
            .as_ref()
            .and_then(|c| c.checkpoint_id.clone());
        let wanted = named.or_else(configured).filter(|id| !id.is_empty());
        let key = |checkpoint_id: Option<String>| CheckpointKey {
            thread_id: thread_id.to_owned(),
            checkpoint_ns: String::new(),
            checkpoint_id,
        };
        let Some(id) = wanted else {
            return Ok(Self {
                saved: load(&**saver, layout, &key(None)).await?,
                ..nothing
            });
        };
        let saved = load(&**saver, layout, &key(Some(id.clone()))).await?;
        if saved.is_none() {
            return Err(Error::not_found("checkpoint not found").with("checkpoint_id", id));
        }
        let newest = saver.get(&key(None)).await?;
        let superseded = newest.is_some_and(|newest| newest.checkpoint.id != id);
        Ok(Self {
            saved,
            addressed: true,
            superseded,
        })
    }
}

/// Runs a graph inside a task.
///
/// # Errors
/// Whatever the graph fails with; the signal of its interrupts.
pub(crate) fn run_nested<'a>(
    graph: &'a Arc<Graph>,
    task: &'a Arc<TaskShared>,
    input: Value,
) -> Pin<Box<dyn Future<Output = Result<Value>> + Send + 'a>> {
    // A graph may run itself inside itself; boxing keeps the future's size finite.
    Box::pin(nested(graph.clone(), task.clone(), input))
}

/// Namespace of the next graph that a task runs.
fn nested_ns(task: &TaskShared, persistence: Persistence) -> String {
    let call = task.calls.fetch_add(1, Ordering::Relaxed);
    let mut ns = task.checkpoint_ns().to_owned();
    if call > 0 {
        ns.push(NS_SEPARATOR);
        ns.push_str(&call.to_string());
    }
    match persistence {
        Persistence::Persistent => lasting_ns(&ns),
        _ => ns,
    }
}

/// Checkpoints of the graphs around a graph inside a task, by namespace.
fn parents_of(task: &TaskShared) -> Map {
    let mut parents = task.run.parents.clone();
    let id = Value::from(checkpoint_text(task.checkpoint));
    parents.insert(task.run.ns.as_str().into(), id);
    parents
}

async fn nested(graph: Arc<Graph>, task: Arc<TaskShared>, input: Value) -> Result<Value> {
    let above = &task.run;
    let layout = graph.layout().clone();
    let ns = nested_ns(&task, layout.persistence);
    let pipeline = match layout.persistence {
        Persistence::None => None,
        _ => above.pipeline.clone(),
    };
    let saved = match &pipeline {
        Some(pipeline) => load_nested(pipeline, &layout, &task, &ns).await?,
        None => None,
    };
    let emitter = above.emitter.nested(&ns, above.subgraphs);
    let answer = Arc::new(Answer::below(Some(above.answer.clone())));
    let parents = parents_of(&task);
    let is_replay = task.inherited.replay.is_some() && pipeline.is_some();
    let setup = Setup {
        world: World::of(&above.runtime),
        level: Level::Nested,
        ns: ns.clone(),
        thread_id: above.thread_id.clone(),
        config: above.config.clone(),
        modes: emitter.modes(),
        saves: pipeline.is_some(),
        durability: above.durability,
        interrupt_before: layout.interrupt_before.clone(),
        interrupt_after: layout.interrupt_after.clone(),
        run_id: above.run_id.map(|id| id.text()),
        attempt: above.attempt,
        resuming: if is_replay {
            None
        } else {
            task.inherited.resuming
        },
        addressed: is_replay,
        superseded: false,
        resume_map: task.inherited.resume_map.clone(),
        parents: parents.clone(),
        answer: answer.clone(),
        drain: above.drain.clone(),
        layout,
    };
    let machine = Machine::start(setup, saved, Input::Value(input))?;
    let run = Arc::new(RunShared {
        graph: graph.clone(),
        runtime: above.runtime.clone(),
        config: above.config.clone(),
        thread_id: above.thread_id.clone(),
        run_id: above.run_id,
        attempt: above.attempt,
        cancel: above.cancel.clone(),
        emitter,
        subgraphs: above.subgraphs,
        pipeline,
        durability: above.durability,
        ns,
        answer,
        parents,
        above: Some(task.clone()),
        drain: above.drain.clone(),
    });
    let (machine, ending) = Driver::new(machine, run, task.inherited.clone())
        .drive()
        .await;
    match ending? {
        Ending::Interrupted(questions) => Err(signal::interrupt(questions)),
        _ => Ok(machine.output()),
    }
}

/// The checkpoint that a graph inside a task goes on from.
async fn load_nested(
    pipeline: &Pipeline,
    layout: &Layout,
    task: &TaskShared,
    ns: &str,
) -> Result<Option<CheckpointTuple>> {
    let thread_id = task.run.thread_id.clone().unwrap_or_default();
    // A new run of the same thread may have left something in the queue.
    if task.run.durability == Durability::Async {
        pipeline.flush().await?;
    }
    if let Some(replay) = &task.inherited.replay
        && replay.is_first_visit(ns)
    {
        let query = CheckpointQuery {
            thread_id: Some(thread_id),
            checkpoint_ns: Some(ns.to_owned()),
            before: Some(replay.before.clone()),
            limit: Some(1),
            ..CheckpointQuery::default()
        };
        let mut found = pipeline.saver().list(&query).await?.into_iter().next();
        if let Some(found) = &mut found {
            rebuild_deltas(&**pipeline.saver(), layout, found).await?;
        }
        return Ok(found);
    }
    let key = CheckpointKey {
        thread_id,
        checkpoint_ns: ns.to_owned(),
        checkpoint_id: None,
    };
    load(&**pipeline.saver(), layout, &key).await
}

/// The context that branches see when somebody outside changes the state.
pub(crate) fn outside_context(
    graph: &Arc<Graph>,
    runtime: &Runtime,
    config: &RunConfig,
    at: &CheckpointRef,
    step: i64,
) -> NodeContext {
    let run = RunShared {
        graph: graph.clone(),
        runtime: runtime.clone(),
        config: Arc::new(config.clone()),
        thread_id: Some(at.thread_id.clone()),
        run_id: None,
        attempt: 1,
        cancel: CancellationToken::new(),
        emitter: Emitter::root(None, &[], CancellationToken::new()),
        subgraphs: Subgraphs::Hidden,
        pipeline: None,
        durability: Durability::Sync,
        ns: at.checkpoint_ns.clone(),
        answer: Arc::default(),
        parents: Map::new(),
        above: None,
        drain: CancellationToken::new(),
    };
    NodeContext(Arc::new(TaskShared::outside(Arc::new(run), step)))
}
