//! Workers that stop, die, and take over.

use std::{sync::Arc, time::Duration};

use agentflow_runs::{machine::Which, service::ServiceConfig};
use agentflow_storage::record::{CancelAction, LEASE};
use agentflow_types::value;

use crate::world::{World, config, settle, shown};

fn worker_b() -> ServiceConfig {
    ServiceConfig {
        worker_id: "worker-b".into(),
        ..ServiceConfig::default()
    }
}

/// Another process on the database of `world`.
async fn beside(world: &World, config: ServiceConfig) -> World {
    World::over(world.backend.clone(), world.clock.clone(), config, None).await
}

#[tokio::test(start_paused = true)]
async fn runs_wait_for_a_worker() {
    let mut world = World::idle(config()).await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["set", {"n": 1}]]})).await;
    settle().await;
    assert_eq!(world.status(&run).await, "pending");
    world.start_worker().await;
    assert_eq!(world.join(&run).await, value!({"n": 1}));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_lets_runs_end() {
    let mut world = World::new().await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["wait", "g"]]})).await;
    world.host.arrival("g").await;
    let host = world.host.clone();
    world.shutdown.cancel();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        host.open("g");
    });
    world.stop_worker().await;
    assert_eq!(world.status(&run).await, "success");
    let late = world.run(thread, value!({})).await;
    settle().await;
    assert_eq!(world.status(&late).await, "pending", "nothing new is taken");
}

#[tokio::test(start_paused = true)]
async fn what_outlasts_the_drain_is_given_back() {
    let mut world = World::new().await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["wait", "g"]]})).await;
    world.host.arrival("g").await;
    world.stop_worker().await;
    assert_eq!(world.status(&run).await, "pending");
    let mut next = beside(&world, worker_b()).await;
    next.start_worker().await;
    next.host.arrival("g").await;
    // The graph must know that this is not the first attempt.
    assert_eq!(next.host.requests.lock().unwrap()[0].attempt, 2);
    next.host.open("g");
    next.join(&run).await;
    assert_eq!(next.status(&run).await, "success");
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_has_told_what_it_did() {
    let mut world = World::new().await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["last", "words"]]})).await;
    settle().await;
    world.stop_worker().await;
    assert_eq!(world.status(&run).await, "pending");
    let events = world.backend.events.read(thread, None, 0, 10);
    let told: Vec<String> = events.await.unwrap().iter().map(shown).collect();
    assert_eq!(told.last().unwrap(), "custom \"words\"", "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_worker_loses_its_run_when_the_lease_ends() {
    let mut world = World::new().await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["wait", "g"]]})).await;
    world.host.arrival("g").await;
    // Its timers stand still: it renews nothing any more.
    let dead = world.worker.take().unwrap();
    dead.abort();
    let mut next = beside(&world, worker_b()).await;
    next.start_worker().await;
    world.advance(LEASE - Duration::from_secs(1)).await;
    assert!(next.host.names().is_empty());
    world.advance(Duration::from_secs(2)).await;
    next.host.arrival("g").await;
    assert_eq!(next.host.requests.lock().unwrap()[0].attempt, 2);
    // The old holder wakes up and ends its attempt; nothing of that counts.
    world.host.open("g");
    settle().await;
    assert_eq!(next.status(&run).await, "running");
    next.host.open("g");
    next.join(&run).await;
    let events = next.events(thread, run.run_id).await;
    let ends = events
        .iter()
        .filter(|event| event.starts_with("end"))
        .count();
    assert_eq!(ends, 1, "{events:?}");
    assert_eq!(
        events
            .iter()
            .filter(|event| event.starts_with("metadata"))
            .count(),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_worker_takes_over_at_once() {
    let mut world = World::new().await;
    let mut runs = vec![];
    for _ in 0..3 {
        let thread = world.thread().await;
        runs.push(world.run(thread, value!({"do": [["wait", "g"]]})).await);
        world.host.arrival("g").await;
    }
    world.worker.take().unwrap().abort();
    let mut next = beside(
        &world,
        ServiceConfig {
            exclusive: true,
            ..worker_b()
        },
    )
    .await;
    next.start_worker().await;
    for _ in 0..3 {
        next.host.arrival("g").await;
        next.host.open("g");
    }
    for run in &runs {
        next.join(run).await;
        assert_eq!(next.status(run).await, "success");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_kills_its_workers_fails() {
    let first = ServiceConfig {
        max_attempts: 1,
        ..config()
    };
    let mut world = World::idle(first).await;
    world.start_worker().await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["wait", "g"]]})).await;
    world.host.arrival("g").await;
    world.worker.take().unwrap().abort();
    let exclusive = ServiceConfig {
        exclusive: true,
        max_attempts: 1,
        ..worker_b()
    };
    let mut next = beside(&world, exclusive).await;
    next.start_worker().await;
    settle().await;
    let error = value!({
        "error": "WorkerLostError",
        "message": "the worker was lost in each of 1 attempts without a new checkpoint",
    });
    assert_eq!(
        next.join(&run).await,
        value!({"__error__": error.to_json()})
    );
    assert_eq!(next.thread_status(thread).await, "error");
}

#[tokio::test(start_paused = true)]
async fn a_stop_from_another_process_arrives_with_the_heartbeat() {
    let world = World::new().await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["wait", "g"]]})).await;
    world.host.arrival("g").await;
    // Signals between the processes are lost.
    let mut backend = world.backend.clone();
    backend.signals = Arc::<agentflow_storage::signal::Local>::default();
    let other = World::over(backend, world.clock.clone(), worker_b(), None).await;
    tokio::spawn(other.service.clone().hear(other.shutdown.clone()));
    let stop = other.service.cancel_runs(
        &other.scope,
        thread,
        Which::Ids(vec![run.run_id]),
        CancelAction::Interrupt,
    );
    stop.await.unwrap();
    assert_eq!(world.status(&run).await, "running");
    other.join(&run).await;
    assert_eq!(world.status(&run).await, "interrupted");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_leaves_no_run_behind() {
    let world = World::new().await;
    let thread = world.thread().await;
    for polls in 1..6 {
        // The client disconnects after its request was looked at so many times.
        let request = crate::world::request(
            agentflow_runs::config::RunThread::Existing(thread),
            value!({}),
        );
        let mut create = Box::pin(world.service.create_run(&world.scope, request));
        for _ in 0..polls {
            if futures_poll(&mut create).await {
                break;
            }
        }
        drop(create);
        settle().await;
        assert_eq!(
            world.thread_status(thread).await,
            "idle",
            "after {polls} polls"
        );
    }
}

/// Polls once; true if the future is ready.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| {
        let ready = std::pin::Pin::new(&mut *future).poll(context).is_ready();
        std::task::Poll::Ready(ready)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_stop_right_after_creation_is_never_lost() {
    let world = World::new().await;
    for _ in 0..20 {
        let thread = world.thread().await;
        let script = value!({"do": [["wait", "never"]]});
        let run = world.run(thread, script).await;
        let before = tokio::time::Instant::now();
        let ids = Which::Ids(vec![run.run_id]);
        let stop = world
            .service
            .cancel_runs(&world.scope, thread, ids, CancelAction::Interrupt);
        stop.await.unwrap();
        world.join(&run).await;
        assert!(before.elapsed() < Duration::from_millis(5));
        assert_eq!(world.status(&run).await, "interrupted");
    }
}

#[tokio::test(start_paused = true)]
async fn two_workers_share_the_work() {
    let one = ServiceConfig {
        concurrency: 1,
        ..config()
    };
    let mut world = World::idle(one.clone()).await;
    world.start_worker().await;
    let mut other = beside(
        &world,
        ServiceConfig {
            worker_id: "worker-b".into(),
            ..one
        },
    )
    .await;
    other.start_worker().await;
    let mut runs = vec![];
    for _ in 0..6 {
        let thread = world.thread().await;
        runs.push(
            world
                .run(thread, value!({"name": "r", "do": [["wait", "g"]]}))
                .await,
        );
    }
    other.host.arrival("g").await;
    for _ in 0..6 {
        world.host.open("g");
        other.host.open("g");
    }
    for run in &runs {
        world.join(run).await;
        assert_eq!(world.status(run).await, "success");
    }
    let (ours, theirs) = (world.host.names().len(), other.host.names().len());
    assert_eq!(ours + theirs, 6, "each run executed once");
    assert!(ours > 0 && theirs > 0, "{ours} and {theirs}");
    let _: Arc<_> = world.service;
}
