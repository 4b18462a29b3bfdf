//! Delta channels, functions, error handlers, caches, timeouts and drain where they are hard:
//! what is stored, what runs again, and what does not.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use agentflow_graph::{
    CachePolicy, Channel, Graph, GraphBuilder, HistoryQuery, Input, Invocation, MemoryCache,
    NodeContext, NodeFailure, NodeOptions, Refresh, RetryPolicy, Runtime, START, Task,
    cache::{Cache, CacheKey, CachedWrites},
    entrypoint,
};
use agentflow_storage::{
    checkpoint::{
        CheckpointKey, CheckpointOp, CheckpointQuery, CheckpointTuple, Checkpoints, Fence, Prune,
    },
    memory::Memory,
    msgpack::{checkpoint, typed},
};
use agentflow_types::{
    Error, ErrorKind, Result, Value,
    graph::{CheckpointRef, Durability, RunOutcome},
    value,
};
use async_trait::async_trait;

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

async fn run(graph: &Arc<Graph>, runtime: &Runtime, input: impl Into<Input>) -> Result<RunOutcome> {
    graph.run(runtime, on_thread(input), None).await
}

/// A saver that counts the bytes of each commit, as SQLite would store them.
struct Scale {
    inner: Arc<dyn Checkpoints>,
    bytes: Mutex<Vec<usize>>,
}

fn size(op: &CheckpointOp) -> usize {
    match op {
        CheckpointOp::Put { checkpoint, .. } => checkpoint::encode(checkpoint).unwrap().len(),
        CheckpointOp::Writes { writes, .. } => {
            let sizes = writes.iter().map(|(_, v)| typed::dump(v).unwrap().1.len());
            sizes.sum()
        }
    }
}

#[async_trait]
impl Checkpoints for Scale {
    async fn get(&self, key: &CheckpointKey) -> Result<Option<CheckpointTuple>> {
        self.inner.get(key).await
    }
    async fn list(&self, query: &CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        self.inner.list(query).await
    }
    async fn commit(&self, ops: Vec<CheckpointOp>, fence: Option<Fence>) -> Result<()> {
        let bytes = ops.iter().map(size).sum();
        self.bytes.lock().unwrap().push(bytes);
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

fn chat(messages: Channel) -> Arc<Graph> {
    let mut g = GraphBuilder::new("chat");
    g.channel("messages", messages);
    g.node("reply", |_, _| async {
        Ok(value!({"messages": [["ai", "x".repeat(500)]]}).into())
    });
    g.edge(START, "reply");
    g.compile().unwrap()
}

/// Bytes of the last turns of a conversation, each turn one number.
async fn turn_bytes(messages: Channel, turns: usize) -> Vec<usize> {
    let graph = chat(messages);
    let scale = Arc::new(Scale {
        inner: Memory::open().checkpoints,
        bytes: Mutex::default(),
    });
    let runtime = Runtime::with_saver(scale.clone());
    let mut all = Vec::new();
    for turn in 1..=turns {
        let say = value!({"messages": [["user", "hello"]]});
        let out = run(&graph, &runtime, say).await.unwrap();
        let messages = out.values.get("messages").and_then(Value::as_list).unwrap();
        assert_eq!(messages.len(), 2 * turn);
        all.push(scale.bytes.lock().unwrap().drain(..).sum());
    }
    all
}

#[tokio::test]
async fn the_bytes_of_a_turn_stay_the_same_while_a_conversation_grows() {
    let whole = turn_bytes(Channel::messages(), 40).await;
    assert!(whole[39] > 5 * whole[4], "{whole:?}");
    let delta = turn_bytes(Channel::delta_messages(), 40).await;
    let (early, late) = (delta[4], delta[39]);
    assert!(late < early + early / 20, "{delta:?}");
}

#[tokio::test]
async fn a_pruned_thread_with_a_delta_channel_goes_on() {
    let graph = chat(Channel::delta_messages().snapshot_every(7));
    let runtime = saved();
    let say = || value!({"messages": [["user", "hello"]]});
    for _ in 0..5 {
        run(&graph, &runtime, say()).await.unwrap();
    }
    let all = |snapshot: agentflow_types::graph::StateSnapshot| {
        let messages = snapshot.values.get("messages").and_then(Value::as_list);
        messages.unwrap().to_vec()
    };
    let at = CheckpointRef {
        thread_id: "t".into(),
        ..CheckpointRef::default()
    };
    let before = all(graph.state(&runtime, &at, false).await.unwrap());
    let saver = runtime.saver.clone().unwrap();
    saver.prune(&["t".into()], Prune::KeepLatest).await.unwrap();
    assert_eq!(
        all(graph.state(&runtime, &at, false).await.unwrap()),
        before
    );
    let query = HistoryQuery {
        checkpoint: at.clone(),
        ..HistoryQuery::default()
    };
    let left = graph.history(&runtime, &query).await.unwrap().len();
    assert!((2..15).contains(&left), "{left} checkpoints are left");
    run(&graph, &runtime, say()).await.unwrap();
    let after = all(graph.state(&runtime, &at, false).await.unwrap());
    assert_eq!(after.len(), 12);
    assert_eq!(after[..10], before[..]);
}

#[tokio::test]
async fn writes_of_a_run_that_was_left_do_not_come_back() {
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let mut g = GraphBuilder::new("test");
    g.channel("log", Channel::delta_append());
    g.node("good", |_, _| async {
        Ok(value!({"log": ["good"]}).into())
    });
    g.node("bad", move |_, _| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::task::yield_now().await;
            if n == 0 {
                return Err(Error::invalid("first"));
            }
            Ok(value!({"log": ["bad"]}).into())
        }
    });
    g.edge(START, "good").edge(START, "bad");
    let graph = g.compile().unwrap();
    for durability in [Durability::Sync, Durability::Exit] {
        calls.store(0, Ordering::Relaxed);
        let runtime = saved();
        let start = |input: Value| Invocation {
            durability,
            ..on_thread(input)
        };
        let first = start(value!({"log": ["1"]}));
        graph.run(&runtime, first, None).await.unwrap_err();
        // New input instead of another try: what `good` wrote then is gone, here and on reading.
        let second = start(value!({"log": ["2"]}));
        let out = graph.run(&runtime, second, None).await.unwrap();
        let want = value!({"log": ["1", "2", "bad", "good"]});
        assert_eq!(out.values, want, "{durability:?}");
        let at = CheckpointRef {
            thread_id: "t".into(),
            ..CheckpointRef::default()
        };
        let state = graph.state(&runtime, &at, false).await.unwrap();
        assert_eq!(state.values, want, "{durability:?}");
    }
}

#[tokio::test]
async fn a_task_that_ended_does_not_run_again_when_its_caller_is_retried() {
    let runs = Arc::new(AtomicU32::new(0));
    let count = runs.clone();
    let pay = Task::new("pay", move |amount: i64, _| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { Ok(amount) }
    });
    let tries = Arc::new(AtomicU32::new(0));
    let body = move |amount: i64, ctx: NodeContext| {
        let (pay, tries) = (pay.clone(), tries.clone());
        async move {
            let paid = pay.call(&ctx, amount).await?;
            if tries.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(Error::busy("not now"));
            }
            Ok(paid + i64::from(ctx.attempt()))
        }
    };
    let options = NodeOptions {
        retry: Some(RetryPolicy {
            jitter: false,
            initial_interval: Duration::from_millis(1),
            ..RetryPolicy::default()
        }),
        ..NodeOptions::default()
    };
    let graph = entrypoint("shop", body).options(options).compile();
    let out = run(&graph, &saved(), value!(40)).await.unwrap();
    assert_eq!(out.values, value!(42));
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_task_that_nobody_waits_for_ends_before_the_superstep() {
    let log = Task::new("log", async |text: String, _| {
        tokio::task::yield_now().await;
        Ok(text)
    });
    let body = move |text: String, ctx: NodeContext| {
        drop(log.call(&ctx, text));
        async move { Ok("done") }
    };
    let graph = entrypoint("f", body).compile();
    let runtime = saved();
    run(&graph, &runtime, value!("x")).await.unwrap();
    let saver = runtime.saver.unwrap();
    let all = saver.list(&CheckpointQuery::default()).await.unwrap();
    let returned = all.iter().flat_map(|saved| &saved.pending_writes);
    let returned: Vec<&Value> = returned
        .filter(|w| &*w.channel == "__return__")
        .map(|w| &w.value)
        .collect();
    assert_eq!(returned, [&value!("x")]);
}

#[tokio::test]
async fn questions_of_parallel_tasks_are_answered_by_id() {
    let ask = Task::new("ask", async |who: String, ctx: NodeContext| {
        let answer = ctx.interrupt(who.as_str())?;
        Ok(format!("{who}: {}", answer.as_str().unwrap()))
    });
    let body = move |_: Value, ctx: NodeContext| {
        let ask = ask.clone();
        async move {
            let (a, b) = (ask.call(&ctx, "a".into()), ask.call(&ctx, "b".into()));
            // Both are waited for, so that both ask.
            let (a, b) = (a.await, b.await);
            Ok([a?, b?])
        }
    };
    let graph = entrypoint("f", body).compile();
    let runtime = saved();
    let asked = run(&graph, &runtime, value!(1)).await.unwrap();
    assert_eq!(asked.interrupts.len(), 2);
    let error = run(&graph, &runtime, Input::resume("?")).await.unwrap_err();
    assert!(error.message().contains("multiple pending interrupts"));
    let answers = asked.interrupts.iter().map(|question| {
        let answer = format!("to {}", question.value.as_str().unwrap());
        (question.id.clone(), Value::from(answer))
    });
    let answers = Input::resume(Value::object(answers));
    let out = run(&graph, &runtime, answers).await.unwrap();
    assert_eq!(out.values, value!(["a: to a", "b: to b"]));
}

#[tokio::test]
async fn a_function_may_call_thousands_of_tasks_at_once_and_none_of_them_twice() {
    const CALLS: i64 = 2_000;
    let runs = Arc::new(AtomicU32::new(0));
    let count = runs.clone();
    let work = Task::new("work", move |n: i64, _| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { Ok(n) }
    });
    let body = move |_: Value, ctx: NodeContext| {
        let work = work.clone();
        async move {
            let calls: Vec<_> = (0..CALLS).map(|n| work.call(&ctx, n)).collect();
            let mut sum = 0;
            for call in calls {
                sum += call.await?;
            }
            ctx.interrupt("more?")?;
            Ok(sum)
        }
    };
    let graph = entrypoint("f", body).compile();
    for durability in [Durability::Async, Durability::Exit] {
        runs.store(0, Ordering::Relaxed);
        let runtime = saved();
        let start = |input: Input| Invocation {
            durability,
            ..on_thread(input)
        };
        let first = start(value!(1).into());
        graph.run(&runtime, first, None).await.unwrap();
        let last = start(Input::resume(1));
        let out = graph.run(&runtime, last, None).await.unwrap();
        assert_eq!(out.values, value!(CALLS * (CALLS - 1) / 2));
        assert_eq!(i64::from(runs.load(Ordering::Relaxed)), CALLS);
    }
}

#[tokio::test]
async fn what_does_not_fit_is_an_error_of_the_task() {
    let number = Task::new("number", async |n: i64, _| Ok(n));
    let body = move |_: Value, ctx: NodeContext| {
        let text = Task::<String, i64>::new("number", async |_: String, _| Ok(1));
        let number = number.clone();
        async move {
            number.call(&ctx, 1).await?;
            text.call(&ctx, "x".into()).await
        }
    };
    let graph = entrypoint("f", body).compile();
    assert_eq!(graph.invoke(value!(1)).await.unwrap(), value!(1));
    let strict = entrypoint("g", async |n: i64, _| Ok(n)).compile();
    let error = strict.invoke(value!("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

fn timed(
    options: NodeOptions,
    body: impl Fn(NodeContext) -> Step + Send + Sync + 'static,
) -> Arc<Graph> {
    let mut g = builder();
    g.node_with("work", options, move |_, ctx| body(ctx));
    g.edge(START, "work");
    g.compile().unwrap()
}

type Step = std::pin::Pin<Box<dyn Future<Output = Result<agentflow_graph::NodeOutput>> + Send>>;

#[tokio::test(start_paused = true)]
async fn an_idle_timeout_starts_again_with_each_sign_of_life() {
    let slow = |sign: fn(&NodeContext)| {
        move |ctx: NodeContext| -> Step {
            Box::pin(async move {
                for _ in 0..10 {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    sign(&ctx);
                }
                ctx.write("half").await;
                Ok(value!({"value": "done"}).into())
            })
        }
    };
    let options = |refresh| NodeOptions {
        idle_timeout: Some(Duration::from_secs(3)),
        refresh,
        ..NodeOptions::default()
    };
    let alive = timed(options(Refresh::Heartbeat), slow(NodeContext::heartbeat));
    let out = alive.invoke(value!({"value": "x"})).await.unwrap();
    assert_eq!(out.get("value"), Some(&value!("done")));
    let quiet = timed(options(Refresh::Auto), slow(|_| ()));
    let error = quiet.invoke(value!({"value": "x"})).await.unwrap_err();
    assert_eq!(error.class_name(), "NodeTimeoutError");
    assert_eq!(
        error.message(),
        "Node 'work' exceeded its idle timeout of 3.000s without making progress (elapsed: 3.000s)."
    );
}

#[tokio::test(start_paused = true)]
async fn events_and_inner_graphs_are_signs_of_life_unless_only_heartbeats_count() {
    let mut inner = builder();
    for at in 0..5 {
        inner.node(format!("n{at}"), |_, _| async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(value!({"value": "x"}).into())
        });
    }
    inner.edge(START, "n0");
    (0..4).for_each(|at| {
        inner.edge(format!("n{at}"), format!("n{}", at + 1));
    });
    let inner = inner.compile().unwrap();
    for (refresh, is_fine) in [(Refresh::Auto, true), (Refresh::Heartbeat, false)] {
        let mut g = builder();
        let options = NodeOptions {
            idle_timeout: Some(Duration::from_secs(3)),
            refresh,
            ..NodeOptions::default()
        };
        g.subgraph_with("inner", options, inner.clone());
        g.edge(START, "inner");
        let result = g.compile().unwrap().invoke(value!({"value": "x"})).await;
        assert_eq!(result.is_ok(), is_fine, "{refresh:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_retry_policy_that_fits_an_error_counts() {
    let quick = |kind, max_attempts| RetryPolicy {
        max_attempts,
        ..RetryPolicy::on([kind])
    };
    for (kind, attempts) in [
        (ErrorKind::Busy, 4),
        (ErrorKind::Failed, 2),
        (ErrorKind::NotFound, 1),
    ] {
        let runs = Arc::new(AtomicU32::new(0));
        let count = runs.clone();
        let options = NodeOptions {
            retry: Some(quick(ErrorKind::Busy, 4)),
            more_retries: vec![quick(ErrorKind::Failed, 2)],
            ..NodeOptions::default()
        };
        let graph = timed(options, move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { Err(Error::new(kind, "no")) })
        });
        graph.invoke(value!({"value": "x"})).await.unwrap_err();
        assert_eq!(runs.load(Ordering::Relaxed), attempts, "{kind:?}");
    }
}

#[tokio::test]
async fn a_failure_is_stored_before_its_handler_runs() {
    let runtime = saved();
    let saver = runtime.saver.clone().unwrap();
    let mut g = builder();
    g.node("bad", |_, _| async { Err(Error::failed("broken")) });
    g.error_handler("bad", move |_, failure: NodeFailure, _| {
        let saver = saver.clone();
        async move {
            let key = CheckpointKey {
                thread_id: "t".into(),
                ..CheckpointKey::default()
            };
            let found = saver.get(&key).await?.unwrap().pending_writes;
            if found.iter().any(|w| &*w.channel == "__error_source_node__") {
                return Ok(value!({"items": [failure.error.message()]}).into());
            }
            Err(Error::bug("the failure was not stored"))
        }
    });
    g.edge(START, "bad");
    let graph = g.compile().unwrap();
    let out = run(&graph, &runtime, value!({"items": []})).await.unwrap();
    assert_eq!(out.values, value!({"items": ["broken"]}));
}

/// A cache that notes how often it is asked and told.
#[derive(Default)]
struct Counting {
    inner: MemoryCache,
    gets: AtomicU32,
    sets: AtomicU32,
}

#[async_trait]
impl Cache for Counting {
    async fn get(&self, key: &CacheKey) -> Result<Option<CachedWrites>> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key).await
    }
    async fn set(&self, key: CacheKey, writes: CachedWrites, ttl: Option<Duration>) -> Result<()> {
        self.sets.fetch_add(1, Ordering::Relaxed);
        self.inner.set(key, writes, ttl).await
    }
    async fn clear(&self, namespace: &[String]) -> Result<()> {
        self.inner.clear(namespace).await
    }
}

#[tokio::test]
async fn failures_and_questions_are_not_cached() {
    let runs = Arc::new(AtomicU32::new(0));
    let count = runs.clone();
    let cache = Arc::new(Counting::default());
    let runtime = Runtime {
        cache: Some(cache.clone()),
        ..saved()
    };
    let options = NodeOptions {
        cache: Some(CachePolicy::default()),
        ..NodeOptions::default()
    };
    let graph = timed(options, move |ctx| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match n {
                0 => Err(Error::failed("first")),
                1 | 2 => ctx
                    .interrupt("second")
                    .map(|_| value!({"value": "x"}).into()),
                _ => Err(Error::bug("the result was not cached")),
            }
        })
    });
    let input = || value!({"value": "x"});
    run(&graph, &runtime, input()).await.unwrap_err();
    let asked = run(&graph, &runtime, Value::Null).await.unwrap();
    assert_eq!(asked.interrupts.len(), 1);
    assert_eq!(cache.sets.load(Ordering::Relaxed), 0);
    run(&graph, &runtime, Input::resume(1)).await.unwrap();
    assert_eq!(cache.sets.load(Ordering::Relaxed), 1);
    run(&graph, &runtime, input()).await.unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    assert_eq!(cache.gets.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_drained_run_goes_on_where_it_stopped() {
    let mut g = builder();
    g.node("a", |_, _| async { Ok(value!({"items": ["a"]}).into()) });
    g.node("b", |_, _| async { Ok(value!({"items": ["b"]}).into()) });
    g.edge(START, "a").edge("a", "b");
    let graph = g.compile().unwrap();
    for durability in [Durability::Sync, Durability::Async, Durability::Exit] {
        let runtime = saved();
        let invocation = Invocation {
            durability,
            ..on_thread(value!({"items": []}))
        };
        invocation.drain.cancel();
        let error = graph.run(&runtime, invocation, None).await.unwrap_err();
        assert_eq!(error.class_name(), "GraphDrained");
        let at = CheckpointRef {
            thread_id: "t".into(),
            ..CheckpointRef::default()
        };
        let state = graph.state(&runtime, &at, false).await.unwrap();
        assert_eq!(state.next.len(), 1, "{durability:?}");
        assert!(state.tasks.iter().all(|task| task.error.is_none()));
        let out = run(&graph, &runtime, Value::Null).await.unwrap();
        assert_eq!(out.values, value!({"items": ["a", "b"]}), "{durability:?}");
    }
}
