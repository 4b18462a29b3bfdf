//! What a run does when things go wrong or stop: errors, panics, timeouts, cancelling, savers
//! that fail, and what is left to go on from.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use agentflow_graph::{
    Channel, Graph, GraphBuilder, Input, InterruptAt, Invocation, NodeContext, NodeOptions,
    RetryPolicy, Runtime, START, StateUpdate, channel::overwrite, goto,
};
use agentflow_storage::{
    checkpoint::{
        CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Checkpoints, Fence, Prune,
    },
    memory::Memory,
};
use agentflow_types::{
    Error, ErrorKind, Result, RunId, Value,
    graph::{CheckpointRef, Durability, RunConfig, StreamEvent, StreamMode},
    value,
};
use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};

fn builder() -> GraphBuilder {
    let mut g = GraphBuilder::new("test");
    g.channel("value", Channel::last_value());
    g.channel("items", Channel::append());
    g
}

fn saved() -> Runtime {
    Runtime::with_saver(Memory::open().checkpoints)
}

fn on_thread(input: impl Into<Input>) -> Invocation {
    Invocation::new(input).thread("t")
}

fn thread() -> CheckpointRef {
    CheckpointRef {
        thread_id: "t".into(),
        ..CheckpointRef::default()
    }
}

/// A saver that fails at a certain commit, and notes what it was given.
struct Faulty {
    inner: Arc<dyn Checkpoints>,
    commits: AtomicU32,
    fail_at: Option<u32>,
    sizes: Mutex<Vec<usize>>,
}

impl Faulty {
    fn new(fail_at: Option<u32>) -> Arc<Self> {
        Arc::new(Self {
            inner: Memory::open().checkpoints,
            commits: AtomicU32::new(0),
            fail_at,
            sizes: Mutex::default(),
        })
    }
}

#[async_trait]
impl Checkpoints for Faulty {
    async fn get(&self, key: &CheckpointKey) -> Result<Option<CheckpointTuple>> {
        self.inner.get(key).await
    }
    async fn list(&self, query: &CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        self.inner.list(query).await
    }
    async fn commit(&self, ops: Vec<CheckpointOp>, fence: Option<Fence>) -> Result<()> {
        let number = self.commits.fetch_add(1, Ordering::SeqCst);
        self.sizes.lock().unwrap().push(ops.len());
        if self.fail_at == Some(number) {
            return Err(Error::conflict("the lease is gone"));
        }
        self.inner.commit(ops, fence).await
    }
    async fn delete_thread(&self, thread_id: &str) -> Result<()> {
        self.inner.delete_thread(thread_id).await
    }
    async fn copy_thread(&self, from: &str, to: &str) -> Result<()> {
        self.inner.copy_thread(from, to).await
    }
    async fn delete_for_runs(&self, run_ids: &[String]) -> Result<()> {
        self.inner.delete_for_runs(run_ids).await
    }
    async fn prune(&self, thread_ids: &[String], strategy: Prune) -> Result<()> {
        self.inner.prune(thread_ids, strategy).await
    }
}

fn chain() -> Arc<Graph> {
    let mut g = builder();
    for name in ["a", "b", "c"] {
        g.node(name, move |_, _| async move {
            Ok(value!({"items": [name]}).into())
        });
    }
    g.edge(START, "a").edge("a", "b").edge("b", "c");
    g.compile().unwrap()
}

#[tokio::test]
async fn a_superstep_with_one_task_is_one_commit() {
    let saver = Faulty::new(None);
    let runtime = Runtime::with_saver(saver.clone());
    let invocation = Invocation {
        durability: Durability::Sync,
        ..on_thread(value!({}))
    };
    chain().run(&runtime, invocation, None).await.unwrap();
    // The input checkpoint; then, for the start and three nodes, writes and checkpoint together.
    assert_eq!(*saver.sizes.lock().unwrap(), [1, 2, 2, 2, 2]);
}

#[tokio::test]
async fn a_run_that_stores_only_its_end_commits_once() {
    let saver = Faulty::new(None);
    let runtime = Runtime::with_saver(saver.clone());
    let invocation = Invocation {
        durability: Durability::Exit,
        ..on_thread(value!({}))
    };
    chain().run(&runtime, invocation, None).await.unwrap();
    assert_eq!(*saver.sizes.lock().unwrap(), [1]);
}

#[tokio::test]
async fn an_error_of_the_saver_ends_the_run_in_every_durability() {
    for durability in [Durability::Sync, Durability::Async, Durability::Exit] {
        let runtime = Runtime::with_saver(Faulty::new(Some(0)));
        let invocation = Invocation {
            durability,
            ..on_thread(value!({}))
        };
        let error = chain().run(&runtime, invocation, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{durability:?}");
    }
}

#[tokio::test]
async fn a_panic_is_an_error_of_the_run() {
    let mut g = builder();
    g.node("bad", |state: Value, _| async move {
        assert!(state.is_null(), "state is not null");
        Ok(().into())
    });
    g.edge(START, "bad");
    let error = g
        .compile()
        .unwrap()
        .invoke(value!({"value": 1}))
        .await
        .unwrap_err();
    assert_eq!(error.class_name(), "PanicError");
    assert!(error.message().contains("state is not null"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_takes_too_long_is_stopped() {
    let mut g = builder();
    let options = NodeOptions {
        timeout: Some(Duration::from_secs(2)),
        ..NodeOptions::default()
    };
    g.node_with("slow", options, |_, _| async {
        std::future::pending::<()>().await;
        Ok(().into())
    });
    g.edge(START, "slow");
    let error = g
        .compile()
        .unwrap()
        .invoke(value!({"value": 1}))
        .await
        .unwrap_err();
    assert_eq!(error.class_name(), "NodeTimeoutError");
}

#[tokio::test(start_paused = true)]
async fn only_errors_that_the_policy_names_are_retried() {
    let tries = Arc::new(AtomicU32::new(0));
    let run = |kind: ErrorKind| {
        let tries = tries.clone();
        tries.store(0, Ordering::SeqCst);
        let mut g = builder();
        let retry = RetryPolicy {
            retry_on: Some(Arc::new(|error| error.kind() == ErrorKind::Busy)),
            ..RetryPolicy::attempts(4)
        };
        let options = NodeOptions {
            retry: Some(retry),
            ..NodeOptions::default()
        };
        g.node_with("fails", options, move |_, ctx: NodeContext| {
            assert_eq!(ctx.attempt(), tries.fetch_add(1, Ordering::SeqCst) + 1);
            async move { Err(Error::new(kind, "no")) }
        });
        g.edge(START, "fails");
        g.compile().unwrap()
    };
    run(ErrorKind::Busy)
        .invoke(value!({"value": 1}))
        .await
        .unwrap_err();
    assert_eq!(tries.load(Ordering::SeqCst), 4);
    run(ErrorKind::Failed)
        .invoke(value!({"value": 1}))
        .await
        .unwrap_err();
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

/// A quick node that counts its runs, and one that waits until it is let go.
fn quick_and_waiting(runs: &Arc<AtomicU32>, gate: &Arc<Notify>) -> Arc<Graph> {
    let mut g = builder();
    let runs = runs.clone();
    g.node("quick", move |_, _| {
        runs.fetch_add(1, Ordering::SeqCst);
        async { Ok(value!({"items": ["quick"]}).into()) }
    });
    let gate = gate.clone();
    g.node("waiting", move |_, _| {
        let gate = gate.clone();
        async move {
            gate.notified().await;
            Ok(value!({"items": ["waiting"]}).into())
        }
    });
    g.edge(START, "quick").edge(START, "waiting");
    g.compile().unwrap()
}

#[tokio::test]
async fn a_cancelled_run_keeps_what_is_complete_and_runs_it_never_again() {
    let (runs, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let graph = quick_and_waiting(&runs, &gate);
    let runtime = saved();
    let invocation = Invocation {
        modes: vec![StreamMode::Updates],
        ..on_thread(value!({"value": 1}))
    };
    let cancel = invocation.cancel.clone();
    let (sink, mut events) = mpsc::channel(16);
    let running = tokio::spawn({
        let (graph, runtime) = (graph.clone(), runtime.clone());
        async move { graph.run(&runtime, invocation, Some(sink)).await }
    });
    let first: StreamEvent = events.recv().await.unwrap();
    assert!(first.data.get("quick").is_some(), "{first:?}");
    cancel.cancel();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);

    let state = graph.state(&runtime, &thread(), false).await.unwrap();
    assert_eq!(state.next, ["waiting".into()]);
    gate.notify_one();
    let outcome = graph
        .run(&runtime, on_thread(Input::None), None)
        .await
        .unwrap();
    assert_eq!(
        outcome.values.get("items"),
        Some(&value!(["quick", "waiting"]))
    );
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_second_attempt_of_a_run_goes_on_and_ignores_its_input() {
    let runs = Arc::new(AtomicU32::new(0));
    let mut g = builder();
    let count = runs.clone();
    g.node("once", move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok(value!({"items": ["once"]}).into()) }
    });
    g.node("breaks", {
        let tries = AtomicU32::new(0);
        move |_, _| {
            let failed = tries.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                if failed {
                    Err(Error::failed("lost"))
                } else {
                    Ok(().into())
                }
            }
        }
    });
    g.edge(START, "once").edge("once", "breaks");
    let graph = g.compile().unwrap();
    let runtime = saved();
    let run_id = Some(RunId::mint());
    let attempt = |attempt| Invocation {
        run_id,
        attempt,
        ..on_thread(value!({"items": ["in"]}))
    };
    graph.run(&runtime, attempt(1), None).await.unwrap_err();
    let outcome = graph.run(&runtime, attempt(2), None).await.unwrap();
    assert_eq!(outcome.values.get("items"), Some(&value!(["in", "once"])));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_saver_needs_a_thread_and_an_answer_needs_a_saver() {
    let graph = chain();
    let error = graph
        .run(&saved(), Invocation::new(value!({})), None)
        .await
        .unwrap_err();
    assert!(error.message().contains("thread_id"), "{error}");
    let none = Runtime::default();
    let error = graph
        .run(&none, on_thread(Input::resume(1)), None)
        .await
        .unwrap_err();
    assert_eq!(
        error.message(),
        "Cannot use Command(resume=...) without checkpointer"
    );
    let error = graph
        .run(&none, Invocation::default(), None)
        .await
        .unwrap_err();
    assert_eq!(error.class_name(), "EmptyInputError");
}

#[tokio::test]
async fn values_of_untracked_channels_last_as_long_as_the_run() {
    let mut g = builder();
    g.channel("secret", Channel::untracked());
    g.node("a", |_, _| async { Ok(value!({"secret": "s"}).into()) });
    g.node("b", |state: Value, _| async move {
        Ok(value!({"items": [state.get("secret").cloned().unwrap_or_default()]}).into())
    });
    g.edge(START, "a").edge("a", "b");
    let runtime = saved();
    let graph = g.compile().unwrap();
    let outcome = graph
        .run(&runtime, on_thread(value!({"value": 1})), None)
        .await
        .unwrap();
    assert_eq!(outcome.values.get("items"), Some(&value!(["s"])));
    let all = runtime
        .saver
        .unwrap()
        .list(&CheckpointQuery::default())
        .await
        .unwrap();
    for stored in &all {
        assert!(!stored.checkpoint.channel_values.contains_key("secret"));
        assert!(
            stored
                .pending_writes
                .iter()
                .all(|write| &*write.channel != "secret")
        );
    }
    assert!(!all.is_empty());
}

#[tokio::test]
async fn two_overwrites_in_one_superstep_are_refused() {
    let mut g = builder();
    for name in ["a", "b"] {
        g.node(name, |_, _| async {
            Ok(Value::object([("items", overwrite(value!([1])))]).into())
        });
        g.edge(START, name);
    }
    let error = g
        .compile()
        .unwrap()
        .invoke(value!({"value": 1}))
        .await
        .unwrap_err();
    assert_eq!(error.class_name(), "InvalidUpdateError");
}

#[tokio::test]
async fn mistakes_of_a_builder_are_named_together() {
    let mut g = builder();
    g.channel("__x", Channel::last_value());
    g.node("a|b", |_, _| async { Ok(().into()) });
    g.node("lonely", |_, _| async { Ok(().into()) });
    g.edge("lonely", "nowhere");
    g.interrupt_before(InterruptAt::Nodes(vec!["ghost".into()]));
    let error = g.compile().unwrap_err();
    for part in [
        "'__x' is reserved",
        "'|' is a reserved character",
        "nowhere",
        "entrypoint",
        "ghost",
    ] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn a_stream_yields_events_and_then_the_error() {
    use futures_util::StreamExt;
    let mut g = builder();
    g.node("a", |_, _| async { Ok(value!({"value": 1}).into()) });
    g.node("b", |_, _| async { Err(Error::failed("boom")) });
    g.edge(START, "a").edge("a", "b");
    let graph = g.compile().unwrap();
    let invocation = Invocation::new(value!({"value": 0})).modes([StreamMode::Updates]);
    let all: Vec<Result<StreamEvent>> = graph
        .stream(&Runtime::default(), invocation)
        .collect()
        .await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].as_ref().unwrap().data, value!({"a": {"value": 1}}));
    assert_eq!(all[1].as_ref().unwrap_err().message(), "boom");
}

#[tokio::test]
async fn subgraphs_with_memory_remember_over_runs() {
    let mut inner = builder();
    inner.persistence(agentflow_graph::Persistence::Persistent);
    inner.node("note", |_, _| async {
        Ok(value!({"items": ["note"]}).into())
    });
    inner.edge(START, "note");
    let inner = inner.compile().unwrap();
    let mut g = GraphBuilder::new("outer");
    g.channel("value", Channel::last_value());
    g.node("call", move |_, ctx: NodeContext| {
        let inner = inner.clone();
        async move {
            let out = ctx.invoke(&inner, value!({})).await?;
            let notes = out
                .get("items")
                .and_then(Value::as_list)
                .map_or(0, <[Value]>::len);
            Ok(Value::object([("value", Value::Int(notes as i64))]).into())
        }
    });
    g.edge(START, "call");
    let (graph, runtime) = (g.compile().unwrap(), saved());
    for want in 1..=3 {
        let outcome = graph
            .run(&runtime, on_thread(value!({"value": 0})), None)
            .await
            .unwrap();
        assert_eq!(outcome.values, value!({"value": want}));
    }
}

#[tokio::test]
async fn an_update_with_a_command_goes_where_it_says() {
    let (graph, runtime) = (chain(), saved());
    graph
        .run(&runtime, on_thread(value!({})), None)
        .await
        .unwrap();
    let command = agentflow_types::graph::Command {
        goto: vec![goto("b")],
        ..agentflow_types::graph::Command::default()
    };
    let update = StateUpdate {
        values: value!({"value": "by hand"}),
        command: Some(command),
        as_node: Some("c".into()),
        task_id: None,
    };
    let config = RunConfig::default();
    graph
        .update_state(&runtime, &thread(), update, &config)
        .await
        .unwrap();
    let state = graph.state(&runtime, &thread(), false).await.unwrap();
    assert_eq!(state.next, ["b".into()]);
    assert_eq!(state.values.get("value"), Some(&value!("by hand")));
}

#[tokio::test]
async fn messages_of_models_are_sent_once() {
    let mut g = GraphBuilder::new("chat");
    g.channel("messages", Channel::messages());
    g.node("model", |_, ctx: NodeContext| async move {
        let message = agentflow_types::message::with_id(&agentflow_types::message::ai("hi"), "m1");
        ctx.emit(StreamMode::Messages, message.clone()).await;
        Ok(Value::object([("messages", message)]).into())
    });
    g.edge(START, "model");
    let (sink, mut events) = mpsc::channel(16);
    let invocation = Invocation::new(value!({"messages": ["hello"]})).modes([StreamMode::Messages]);
    g.compile()
        .unwrap()
        .run(&Runtime::default(), invocation, Some(sink))
        .await
        .unwrap();
    let event: StreamEvent = events.recv().await.unwrap();
    let pair = event.data.as_list().unwrap();
    assert_eq!(pair[0].get("id"), Some(&value!("m1")));
    assert_eq!(pair[1].get("langgraph_node"), Some(&value!("model")));
    assert!(events.recv().await.is_none(), "the message was sent twice");
}

#[tokio::test]
async fn drawings_show_branches_ends_and_inner_graphs() {
    let mut g = builder();
    g.subgraph("sub", chain());
    g.node("end", |_, _| async { Ok(().into()) });
    g.edge(START, "sub");
    g.branch(
        "sub",
        |_, _| Ok(vec![goto("end")]),
        [("go", "end"), ("stop", "__end__")],
    );
    let graph = g.compile().unwrap();
    let flat = graph.drawing(0);
    let edges: Vec<(&str, &str)> = flat
        .edges
        .iter()
        .map(|e| (e.source.as_str(), e.target.as_str()))
        .collect();
    assert_eq!(
        edges,
        [
            ("__start__", "sub"),
            ("sub", "end"),
            ("sub", "__end__"),
            ("end", "__end__")
        ]
    );
    assert_eq!(flat.edges[1].data.as_deref(), Some("go"));
    let deep = graph.drawing(1);
    let ids: Vec<&str> = deep.nodes.iter().map(|n| n.id.as_str()).collect();
    assert_eq!(
        ids,
        ["__start__", "sub:a", "sub:b", "sub:c", "end", "__end__"]
    );
    assert_eq!(graph.subgraphs().len(), 1);
}

/// A graph of three nodes, of which the second asks something.
fn asking(runs: &Arc<AtomicU32>) -> Arc<Graph> {
    let mut g = builder();
    let runs = runs.clone();
    g.node("a", move |_, _| {
        runs.fetch_add(1, Ordering::SeqCst);
        async { Ok(value!({"items": ["a"]}).into()) }
    });
    g.node("ask", |_, ctx: NodeContext| async move {
        let answer = ctx.interrupt("?")?;
        Ok(value!({"items": [answer]}).into())
    });
    g.node("c", |_, _| async { Ok(value!({"items": ["c"]}).into()) });
    g.edge(START, "a").edge("a", "ask").edge("ask", "c");
    g.compile().unwrap()
}

/// Tries a run until it is through, as a server does after a lost lease.
async fn until_through(graph: &Arc<Graph>, runtime: &Runtime, first: &Invocation) -> Value {
    const MOST_ATTEMPTS: u32 = 4;
    for attempt in 1..=MOST_ATTEMPTS {
        let invocation = Invocation {
            attempt,
            ..first.clone()
        };
        if let Ok(outcome) = graph.run(runtime, invocation, None).await {
            return outcome.values;
        }
    }
    panic!("the run is never through");
}

#[tokio::test]
async fn whichever_commit_fails_a_retried_run_comes_to_the_same_end() {
    const MORE_COMMITS_THAN_THERE_ARE: u32 = 14;
    for durability in [Durability::Sync, Durability::Async, Durability::Exit] {
        for fail_at in 0..MORE_COMMITS_THAN_THERE_ARE {
            let runs = Arc::new(AtomicU32::new(0));
            let graph = asking(&runs);
            let runtime = Runtime::with_saver(Faulty::new(Some(fail_at)));
            let start = |input: Input| Invocation {
                durability,
                run_id: Some(RunId::mint()),
                ..on_thread(input)
            };
            let case = format!("{durability:?}, commit {fail_at} fails");
            until_through(&graph, &runtime, &start(value!({"items": ["in"]}).into())).await;
            let end = until_through(&graph, &runtime, &start(Input::resume("yes"))).await;
            assert_eq!(
                end.get("items"),
                Some(&value!(["in", "a", "yes", "c"])),
                "{case}"
            );
            assert!(runs.load(Ordering::SeqCst) <= 2, "{case}");
        }
    }
}

#[tokio::test]
async fn a_second_attempt_does_not_answer_the_next_question_too() {
    let mut g = builder();
    g.node("ask", |_, ctx: NodeContext| async move {
        let first = ctx.interrupt("delete the draft?")?;
        let second = ctx.interrupt("delete everything?")?;
        Ok(value!({"items": [first, second]}).into())
    });
    g.edge(START, "ask");
    let (graph, runtime) = (g.compile().unwrap(), saved());
    graph
        .run(&runtime, on_thread(value!({"value": 1})), None)
        .await
        .unwrap();
    let run_id = Some(RunId::mint());
    for attempt in 1..=3 {
        let answer = Invocation {
            run_id,
            attempt,
            ..on_thread(Input::resume("yes"))
        };
        let outcome = graph.run(&runtime, answer, None).await.unwrap();
        assert_eq!(
            outcome.interrupts[0].value,
            value!("delete everything?"),
            "{attempt}"
        );
    }
}

#[tokio::test]
async fn a_reader_that_never_reads_does_not_hold_a_cancelled_run() {
    let graph = chain();
    let runtime = saved();
    let invocation = Invocation {
        modes: vec![StreamMode::Updates],
        ..on_thread(value!({"value": 1}))
    };
    let cancel = invocation.cancel.clone();
    let (sink, mut events) = mpsc::channel(1);
    let watched = sink.clone();
    let running = tokio::spawn(async move { graph.run(&runtime, invocation, Some(sink)).await });
    while watched.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(events.try_recv().is_ok());
}

#[tokio::test]
async fn an_endless_loop_without_waiting_can_be_cancelled() {
    let mut g = builder();
    g.node("spin", |_, _| async { Ok(goto("spin").into()) });
    g.edge(START, "spin");
    let graph = g.compile().unwrap();
    let mut invocation = Invocation::new(value!({"value": 1}));
    invocation.config.recursion_limit = Some(u64::MAX);
    let cancel = invocation.cancel.clone();
    let running =
        tokio::spawn(async move { graph.run(&Runtime::default(), invocation, None).await });
    tokio::task::yield_now().await;
    cancel.cancel();
    assert_eq!(
        running.await.unwrap().unwrap_err().kind(),
        ErrorKind::Cancelled
    );
}
