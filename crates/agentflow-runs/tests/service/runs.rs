//! Runs from creation to end.

use std::time::Duration;

use agentflow_runs::{
    config::RunThread,
    machine::{BUSY, Which},
    service::{CreateThread, PatchThread, ServiceConfig},
};
use agentflow_storage::record::{CancelAction, MultitaskStrategy, RunQuery, RunStatus};
use agentflow_types::{ErrorKind, RunId, ThreadId, Value, graph::StreamMode, value};

use crate::world::{NOON, World, config, refused, request, settle};

#[tokio::test(start_paused = true)]
async fn a_run_speaks_ends_and_leaves_its_values() {
    let world = World::new().await;
    let thread = world.thread().await;
    let script = value!({"do": [["emit", "updates", {"a": 1}], ["set", {"n": 2}]]});
    let run = world.run(thread, script).await;
    assert_eq!(
        run.status,
        RunStatus::Pending,
        "clients know a new run as pending"
    );
    assert_eq!(world.join(&run).await, value!({"n": 2}));
    assert_eq!(world.status(&run).await, "success");
    let id = run.run_id;
    assert_eq!(
        world.events(thread, id).await,
        [
            format!(r#"metadata {{"run_id":"{id}","attempt":1}}"#),
            r#"updates {"a":1}"#.into(),
            r#"values {"n":2}"#.into(),
            r#"end {"status":"success"}"#.into(),
        ]
    );
    let row = world
        .service
        .get_thread(&world.scope, thread)
        .await
        .unwrap();
    assert_eq!(
        (row.status.as_str(), row.values),
        ("idle", value!({"n": 2}))
    );
    assert_eq!(row.metadata["graph_id"], value!("scripted"));
    // Joining again reads what was stored.
    assert_eq!(world.join(&run).await, value!({"n": 2}));
}

#[tokio::test(start_paused = true)]
async fn a_question_interrupts_the_thread_and_an_answer_goes_on() {
    let world = World::new().await;
    let thread = world.thread().await;
    let run = world
        .run(thread, value!({"do": [["set", {"n": 1}], ["ask", "ok?"]]}))
        .await;
    let asked = value!([{"value": "ok?", "id": "ask", "response_schema": null}]);
    assert_eq!(
        world.join(&run).await,
        value!({"n": 1, "__interrupt__": asked.to_json()})
    );
    assert_eq!(world.status(&run).await, "success");
    assert_eq!(world.thread_status(thread).await, "interrupted");
    let row = world
        .service
        .get_thread(&world.scope, thread)
        .await
        .unwrap();
    assert_eq!(row.interrupts["task"][0].value, value!("ok?"));
    let last = world.events(thread, run.run_id).await.pop().unwrap();
    assert_eq!(
        last,
        format!(r#"end {{"status":"success","interrupts":{asked}}}"#)
    );
    assert_eq!(
        world.join(&run).await,
        value!({"n": 1, "__interrupt__": asked.to_json()}),
        "a later join reads it from the thread"
    );

    let mut answer = request(RunThread::Existing(thread), Value::Null);
    answer.command = value!({"resume": "yes"});
    let answer = world.create(answer).await.unwrap();
    assert_eq!(world.join(&answer).await, value!({"n": 1, "answer": "yes"}));
    assert_eq!(world.thread_status(thread).await, "idle");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_to_everybody() {
    let world = World::new().await;
    let thread = world.thread().await;
    let run = world
        .run(
            thread,
            value!({"do": [["set", {"n": 1}], ["fail", "boom"]]}),
        )
        .await;
    let error = value!({"error": "ScriptError", "message": "boom"});
    assert_eq!(
        world.join(&run).await,
        value!({"__error__": error.to_json()})
    );
    assert_eq!(world.status(&run).await, "error");
    let row = world
        .service
        .get_thread(&world.scope, thread)
        .await
        .unwrap();
    assert_eq!((row.status.as_str(), &row.error), ("error", &error));
    assert_eq!(row.values, value!({"n": 1}), "what was done before stays");
    let events = world.events(thread, run.run_id).await;
    assert_eq!(
        events[1..],
        [
            format!("error {error}"),
            format!(r#"end {{"status":"error","error":{error}}}"#)
        ]
    );
    // The next run that ends well clears it.
    let next = world.run(thread, Value::Null).await;
    world.join(&next).await;
    let row = world
        .service
        .get_thread(&world.scope, thread)
        .await
        .unwrap();
    assert_eq!((row.status.as_str(), row.error), ("idle", Value::Null));
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_even_if_its_state_is_unreadable() {
    let world = World::new().await;
    let thread = world.thread().await;
    world
        .host
        .unreadable
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let run = world.run(thread, value!({"do": [["fail", "boom"]]})).await;
    world.join(&run).await;
    assert_eq!(world.status(&run).await, "error");
}

#[tokio::test(start_paused = true)]
async fn runs_of_a_thread_wait_for_each_other() {
    let world = World::new().await;
    let thread = world.thread().await;
    let first = world
        .run(thread, value!({"name": "a", "do": [["wait", "g"]]}))
        .await;
    world.host.arrival("g").await;
    let second = world.run(thread, value!({"name": "b"})).await;
    let third = world.run(thread, value!({"name": "c"})).await;
    settle().await;
    assert_eq!(world.status(&second).await, "pending");
    assert_eq!(world.thread_status(thread).await, "busy");
    world.host.open("g");
    world.join(&third).await;
    assert_eq!(world.host.names(), ["a", "b", "c"]);
    let runs = RunQuery {
        thread_id: Some(thread),
        limit: 10,
        ..RunQuery::default()
    };
    let listed = world.service.list_runs(&world.scope, &runs).await.unwrap();
    let ids: Vec<RunId> = listed.iter().map(|run| run.run_id).collect();
    assert_eq!(
        ids,
        [third.run_id, second.run_id, first.run_id],
        "newest first"
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_thread_rejects() {
    let world = World::new().await;
    let thread = world.thread().await;
    world.run(thread, value!({"do": [["wait", "g"]]})).await;
    let mut second = request(RunThread::Existing(thread), Value::Null);
    second.multitask = MultitaskStrategy::Reject;
    refused(world.create(second).await, ErrorKind::Conflict, BUSY);
}

#[tokio::test(start_paused = true)]
async fn a_new_run_can_interrupt_the_others() {
    let world = World::new().await;
    let thread = world.thread().await;
    let running = world
        .run(thread, value!({"do": [["set", {"n": 1}], ["wait", "g"]]}))
        .await;
    world.host.arrival("g").await;
    let pending = world.run(thread, value!({"name": "never"})).await;
    let mut new = request(RunThread::Existing(thread), value!({"name": "new"}));
    new.multitask = MultitaskStrategy::Interrupt;
    let new = world.create(new).await.unwrap();
    assert_eq!(
        world.join(&new).await,
        value!({"n": 1}),
        "what was done stays"
    );
    assert_eq!(world.status(&running).await, "interrupted");
    assert_eq!(world.status(&pending).await, "interrupted");
    assert_eq!(world.host.names(), ["new"]);
    assert_eq!(
        world.events(thread, pending.run_id).await,
        [r#"end {"status":"interrupted"}"#]
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_run_can_roll_the_others_back() {
    let world = World::new().await;
    let thread = world.thread().await;
    let done = world.run(thread, value!({"do": [["set", {"n": 0}]]})).await;
    world.join(&done).await;
    let running = world
        .run(thread, value!({"do": [["set", {"n": 1}], ["wait", "g"]]}))
        .await;
    world.host.arrival("g").await;
    let pending = world.run(thread, Value::Null).await;
    let mut new = request(RunThread::Existing(thread), Value::Null);
    new.multitask = MultitaskStrategy::Rollback;
    let new = world.create(new).await.unwrap();
    assert_eq!(
        world.join(&new).await,
        value!({"n": 0}),
        "as if the others had not been"
    );
    for gone in [running, pending] {
        let found = world
            .service
            .get_run(&world.scope, Some(thread), gone.run_id)
            .await;
        let text = format!("Run with ID {} not found", gone.run_id);
        refused(found, ErrorKind::NotFound, &text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_run_is_stopped_at_once() {
    let world = World::new().await;
    let thread = world.thread().await;
    let run = world
        .run(thread, value!({"do": [["set", {"n": 1}], ["wait", "g"]]}))
        .await;
    world.host.arrival("g").await;
    let before = tokio::time::Instant::now();
    let ids = Which::Ids(vec![run.run_id]);
    let action = CancelAction::Interrupt;
    world
        .service
        .cancel_runs(&world.scope, thread, ids, action)
        .await
        .unwrap();
    assert_eq!(world.join(&run).await, value!({"n": 1}));
    assert!(
        before.elapsed() < Duration::from_millis(5),
        "no heartbeat had to come"
    );
    assert_eq!(world.status(&run).await, "interrupted");
    assert_eq!(world.thread_status(thread).await, "idle");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_can_be_rolled_back() {
    let world = World::new().await;
    let thread = world.thread().await;
    let first = world
        .run(thread, value!({"do": [["set", {"n": 0}], ["ask", "ok?"]]}))
        .await;
    world.join(&first).await;
    let run = world
        .run(thread, value!({"do": [["set", {"n": 1}], ["wait", "g"]]}))
        .await;
    world.host.arrival("g").await;
    let action = CancelAction::Rollback;
    world
        .service
        .cancel_runs(&world.scope, thread, Which::All, action)
        .await
        .unwrap();
    let ended = world.service.wait_end(&world.scope, thread, run.run_id);
    ended.await.unwrap();
    settle().await;
    let row = world
        .service
        .get_thread(&world.scope, thread)
        .await
        .unwrap();
    assert_eq!(
        (row.status.as_str(), row.values),
        ("interrupted", value!({"n": 0}))
    );
    let gone = world
        .service
        .get_run(&world.scope, Some(thread), run.run_id)
        .await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
    let states = world
        .service
        .state(&world.scope, thread, None, false)
        .await
        .unwrap();
    assert_eq!(states.values, value!({"n": 0}));
}

#[tokio::test(start_paused = true)]
async fn stopping_nothing_is_refused() {
    let world = World::new().await;
    let thread = world.thread().await;
    let run = world.run(thread, Value::Null).await;
    world.join(&run).await;
    let ids = Which::Ids(vec![run.run_id]);
    let action = CancelAction::Interrupt;
    let stopped = world
        .service
        .cancel_runs(&world.scope, thread, ids, action)
        .await;
    let text = "No matching runs to cancel. They may have finished already.";
    refused(stopped, ErrorKind::NotFound, text);
    let all = world.service.cancel_all(&world.scope, None, action).await;
    refused(all, ErrorKind::NotFound, "No runs found to cancel.");
}

#[tokio::test(start_paused = true)]
async fn all_runs_of_a_status_can_be_stopped() {
    let world = World::new().await;
    let (one, two) = (world.thread().await, world.thread().await);
    let running = world.run(one, value!({"do": [["wait", "g"]]})).await;
    world.run(two, value!({"do": [["wait", "g"]]})).await;
    world.host.arrival("g").await;
    world.host.arrival("g").await;
    let pending = world.run(two, Value::Null).await;
    let (scope, action) = (&world.scope, CancelAction::Interrupt);
    world
        .service
        .cancel_all(scope, Some(RunStatus::Pending), action)
        .await
        .unwrap();
    assert_eq!(world.status(&pending).await, "interrupted");
    assert_eq!(world.status(&running).await, "running");
    world.service.cancel_all(scope, None, action).await.unwrap();
    world.join(&running).await;
    assert_eq!(world.status(&running).await, "interrupted");
}

#[tokio::test(start_paused = true)]
async fn a_delayed_run_waits_for_its_time() {
    let world = World::new().await;
    let thread = world.thread().await;
    let mut later = request(RunThread::Existing(thread), value!({"name": "later"}));
    later.after_seconds = Some(60.0);
    let later = world.create(later).await.unwrap();
    assert_eq!(later.created_at, NOON.plus(Duration::from_secs(60)));
    let sooner = world.run(thread, value!({"name": "sooner"})).await;
    world.join(&sooner).await;
    world.advance(Duration::from_secs(59)).await;
    assert_eq!(world.status(&later).await, "pending");
    world.advance(Duration::from_secs(2)).await;
    world.join(&later).await;
    assert_eq!(world.host.names(), ["sooner", "later"]);
    let mut bad = request(RunThread::Existing(thread), Value::Null);
    bad.after_seconds = Some(-1.0);
    let text = "after_seconds must be zero or more";
    refused(world.create(bad).await, ErrorKind::Unprocessable, text);
}

#[tokio::test(start_paused = true)]
async fn a_stateless_run_takes_its_thread_along() {
    let mut world = World::idle(ServiceConfig {
        exclusive: true,
        ..config()
    })
    .await;
    world.start_worker().await;
    let script = value!({"do": [["set", {"n": 1}]]});
    let run = world
        .create(request(RunThread::Temporary, script.clone()))
        .await
        .unwrap();
    assert_eq!(world.join(&run).await, value!({"n": 1}));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let gone = world.service.get_thread(&world.scope, run.thread_id).await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);

    let kept = world
        .create(request(RunThread::Kept, script))
        .await
        .unwrap();
    world.join(&kept).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.thread_status(kept.thread_id).await, "idle");
}

#[tokio::test(start_paused = true)]
async fn a_stateless_run_that_was_over_before_anybody_came_can_still_be_read() {
    let world = World::new().await;
    let script = value!({"do": [["set", {"n": 1}]]});
    let run = world
        .create(request(RunThread::Temporary, script))
        .await
        .unwrap();
    settle().await;
    assert_eq!(world.status(&run).await, "success");
    assert_eq!(world.events(run.thread_id, run.run_id).await.len(), 3);
    let joined = world
        .service
        .join(&world.scope, None, run.run_id)
        .await
        .unwrap();
    assert_eq!(joined, value!({"n": 1}));
}

#[tokio::test(start_paused = true)]
async fn a_batch_makes_several_runs() {
    let world = World::new().await;
    let one = || request(RunThread::Temporary, Value::Null);
    let runs = world
        .service
        .create_batch(&world.scope, vec![one(), one()])
        .await
        .unwrap();
    assert_eq!(runs.len(), 2);
    assert_ne!(runs[0].thread_id, runs[1].thread_id);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_named() {
    let world = World::new().await;
    let missing = ThreadId(uuid::Uuid::from_u128(9));
    let run = world
        .create(request(RunThread::Existing(missing), Value::Null))
        .await;
    refused(run, ErrorKind::NotFound, "Thread or assistant not found.");
    let mut unknown = request(RunThread::Temporary, Value::Null);
    unknown.assistant = missing.text();
    let run = world.create(unknown).await;
    refused(run, ErrorKind::NotFound, "Thread or assistant not found.");
    let mut nonsense = request(RunThread::Temporary, Value::Null);
    nonsense.assistant = "nope".into();
    let text = "Invalid assistant: 'nope'. Must be either:\n- A valid assistant UUID, or\n\
                - One of the registered graphs: scripted";
    refused(world.create(nonsense).await, ErrorKind::Unprocessable, text);
    let made = request(RunThread::CreateIfMissing(missing), Value::Null);
    let run = world.create(made).await.unwrap();
    assert_eq!(run.thread_id, missing);
}

#[tokio::test(start_paused = true)]
async fn an_answer_needs_a_thread() {
    let world = World::new().await;
    let mut answer = request(RunThread::Temporary, Value::Null);
    answer.command = value!({"resume": 1});
    let text = "Cannot resume a run without a thread_id";
    refused(world.create(answer).await, ErrorKind::Invalid, text);
}

#[tokio::test(start_paused = true)]
async fn a_run_id_is_used_once() {
    let world = World::new().await;
    let thread = world.thread().await;
    let mut first = request(RunThread::Existing(thread), Value::Null);
    first.run_id = Some(RunId(uuid::Uuid::from_u128(7)));
    let again = first.clone();
    let run = world.create(first).await.unwrap();
    world.join(&run).await;
    refused(
        world.create(again).await,
        ErrorKind::Conflict,
        "run id is taken",
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_in_flight_is_not_deleted() {
    let world = World::new().await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["wait", "g"]]})).await;
    let deleted = world
        .service
        .delete_run(&world.scope, thread, run.run_id)
        .await;
    refused(
        deleted,
        ErrorKind::Conflict,
        "the run is in flight; cancel it first",
    );
    world.host.open("g");
    world.join(&run).await;
    world
        .service
        .delete_run(&world.scope, thread, run.run_id)
        .await
        .unwrap();
    let deleted = world
        .service
        .delete_run(&world.scope, thread, run.run_id)
        .await;
    let text = format!("Run with ID {} not found", run.run_id);
    refused(deleted, ErrorKind::NotFound, &text);
}

#[tokio::test(start_paused = true)]
async fn a_run_may_take_too_long() {
    let config = ServiceConfig {
        run_timeout: Duration::from_secs(5),
        ..config()
    };
    let mut world = World::idle(config).await;
    world.start_worker().await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["wait", "g"]]})).await;
    let result = world.join(&run).await;
    let error = value!({"error": "TimeoutError", "message": "the run took too long"});
    assert_eq!(result, value!({"__error__": error.to_json()}));
    assert_eq!(world.status(&run).await, "timeout");
    assert_eq!(world.thread_status(thread).await, "error");
}

#[tokio::test(start_paused = true)]
async fn configuration_and_metadata_come_in_layers() {
    let world = World::new().await;
    let map = |value: Value| value.as_map().unwrap().clone();
    let assistant = agentflow_runs::service::CreateAssistant {
        graph_id: "scripted".into(),
        config: map(
            value!({"tags": ["a"], "recursion_limit": 7, "configurable": {"x": 1, "y": 1}}),
        ),
        metadata: map(value!({"who": "assistant", "a": 1})),
        ..Default::default()
    };
    let assistant = world
        .service
        .create_assistant(&world.scope, assistant)
        .await
        .unwrap();
    let create = CreateThread {
        metadata: map(value!({"who": "thread", "t": 1})),
        ..Default::default()
    };
    let thread = world
        .service
        .create_thread(&world.scope, create)
        .await
        .unwrap()
        .thread_id;
    let mut run = request(RunThread::Existing(thread), Value::Null);
    run.assistant = assistant.assistant_id.text();
    run.config = map(value!({"configurable": {"y": 2}, "metadata": {"c": 1, "who": "config"}}));
    run.metadata = map(value!({"who": "run"}));
    run.headers = map(value!({"x-trace": "t1"}));
    run.modes = vec![StreamMode::Updates];
    let run = world.create(run).await.unwrap();
    world.join(&run).await;

    let requests = world.host.requests.lock().unwrap();
    let config = &requests[0].config;
    let setting = |key: &str| config.configurable.get(key).cloned().unwrap_or_default();
    assert_eq!((setting("x"), setting("y")), (value!(1), value!(2)));
    assert_eq!(
        config.context,
        value!({"x": 1, "y": 2}),
        "context mirrors what was said"
    );
    assert_eq!(setting("thread_id"), value!(thread.text()));
    assert_eq!(setting("run_id"), value!(run.run_id.text()));
    assert_eq!(
        setting("assistant_id"),
        value!(assistant.assistant_id.text())
    );
    assert_eq!(setting("graph_id"), value!("scripted"));
    assert_eq!(setting("x-trace"), value!("t1"));
    assert_eq!(
        (config.tags.as_slice(), config.recursion_limit),
        (&["a".to_owned()][..], Some(7))
    );
    let said = |key: &str| config.metadata.get(key).cloned().unwrap_or_default();
    assert_eq!(
        (said("who"), said("a"), said("t"), said("c")),
        (value!("run"), 1.into(), 1.into(), 1.into())
    );
    assert_eq!(said("run_attempt"), value!(1));
    assert_eq!(requests[0].modes, [StreamMode::Updates]);
    assert_eq!(run.metadata["who"], value!("run"));
}

#[tokio::test(start_paused = true)]
async fn settings_and_context_exclude_each_other() {
    let world = World::new().await;
    let mut run = request(RunThread::Temporary, Value::Null);
    run.config = value!({"configurable": {"x": 1}}).as_map().unwrap().clone();
    run.context = value!({"x": 1}).as_map().unwrap().clone();
    let text = "Cannot specify both configurable and context. Prefer setting context alone.";
    refused(world.create(run).await, ErrorKind::Invalid, text);
}

#[tokio::test(start_paused = true)]
async fn runs_of_many_threads_execute_side_by_side_up_to_the_limit() {
    let config = ServiceConfig {
        concurrency: 2,
        ..config()
    };
    let mut world = World::idle(config).await;
    world.start_worker().await;
    let mut runs = vec![];
    for _ in 0..3 {
        let thread = world.thread().await;
        runs.push(world.run(thread, value!({"do": [["wait", "g"]]})).await);
    }
    settle().await;
    assert_eq!(world.service.counts().await.unwrap().executing, 2);
    (0..3).for_each(|_| world.host.open("g"));
    for run in &runs {
        world.join(run).await;
    }
    let counts = world.service.counts().await.unwrap();
    assert_eq!(counts.runs, [(RunStatus::Success, 3)]);
}

#[tokio::test(start_paused = true)]
async fn deleting_a_thread_stops_its_run() {
    let world = World::new().await;
    let thread = world.thread().await;
    world.run(thread, value!({"do": [["wait", "g"]]})).await;
    world.host.arrival("g").await;
    world
        .service
        .delete_thread(&world.scope, thread)
        .await
        .unwrap();
    settle().await;
    assert_eq!(world.service.counts().await.unwrap().executing, 0);
    let patched = world
        .service
        .patch_thread(&world.scope, thread, PatchThread::default())
        .await;
    assert_eq!(patched.unwrap_err().kind(), ErrorKind::NotFound);
}
