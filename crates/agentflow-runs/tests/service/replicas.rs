//! Two processes on one database: one takes requests, the other executes.

use std::{sync::Arc, time::Duration};

use agentflow_runs::{
    config::RunThread,
    machine::Which,
    service::{ServiceConfig, Topic},
};
use agentflow_storage::{
    memory::Memory,
    record::{CancelAction, RunStatus},
};
use agentflow_types::{ManualClock, value};

use crate::world::{NOON, World, request, settle, shown};

/// Long enough that nothing in these tests can be due to it.
const NEVER: Duration = Duration::from_secs(100_000);
/// What counts as at once.
const SOON: Duration = Duration::from_secs(5);

/// A process without a worker and one with.
async fn two() -> (World, World) {
    let (database, clock) = (Memory::new(), Arc::new(ManualClock::at(NOON)));
    let config = |id: &str| ServiceConfig {
        worker_id: id.into(),
        poll: NEVER,
        lease: NEVER,
        ..ServiceConfig::default()
    };
    let front = World::over(database.backend(), clock.clone(), config("a"), None).await;
    tokio::spawn(front.service.clone().hear(front.shutdown.clone()));
    let mut back = World::over(database.backend(), clock, config("b"), None).await;
    back.start_worker().await;
    (front, back)
}

#[tokio::test(start_paused = true)]
async fn a_run_that_executes_elsewhere_is_read_and_joined_at_once() {
    let (front, back) = two().await;
    let started = tokio::time::Instant::now();
    let thread = front.thread().await;
    let script = value!({"do": [["emit", "custom", 1], ["wait", "g"], ["set", {"n": 1}]]});
    let run = front.run(thread, script).await;
    let topic = Topic::Run(run.run_id);
    let mut reader = front
        .service
        .subscribe(&front.scope, thread, topic, Some(0))
        .await
        .unwrap();
    let mut events = vec![];
    for _ in 0..2 {
        events.push(reader.next().await.unwrap().unwrap().seq);
    }
    back.host.open("g");
    let joined = front.join(&run).await;
    while let Some(event) = reader.next().await.unwrap() {
        events.push(event.seq);
    }
    assert_eq!(events, [1, 2, 3, 4]);
    assert_eq!(joined, value!({"n": 1}));
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stateless_run_that_executes_elsewhere_is_joined() {
    let (front, _back) = two().await;
    let request = request(RunThread::Temporary, value!({"do": [["set", {"n": 1}]]}));
    let run = front.create(request).await.unwrap();
    assert_eq!(front.join(&run).await, value!({"n": 1}));
}

#[tokio::test(start_paused = true)]
async fn a_stop_reaches_the_process_that_executes() {
    let (front, back) = two().await;
    let thread = front.thread().await;
    let run = front.run(thread, value!({"do": [["wait", "g"]]})).await;
    back.host.arrival("g").await;
    let started = tokio::time::Instant::now();
    let which = Which::Ids(vec![run.run_id]);
    let action = CancelAction::Interrupt;
    front
        .service
        .cancel_runs(&front.scope, thread, which, action)
        .await
        .unwrap();
    front
        .service
        .wait_end(&front.scope, thread, run.run_id)
        .await
        .unwrap();
    assert_eq!(front.status(&run).await, RunStatus::Interrupted.as_str());
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn numbers_that_another_process_used_are_not_used_again() {
    let (front, back) = two().await;
    let thread = back.thread().await;
    let waits = value!({"do": [["wait", "g"], ["emit", "custom", 1]]});
    let first = back.run(thread, waits).await;
    back.host.arrival("g").await;
    // The other process speaks for a run that never had a worker, while the first one executes.
    let second = front.run(thread, value!({"do": []})).await;
    let which = Which::Ids(vec![second.run_id]);
    let action = CancelAction::Interrupt;
    front
        .service
        .cancel_runs(&front.scope, thread, which, action)
        .await
        .unwrap();
    settle().await;
    back.host.open("g");
    back.join(&first).await;
    let log = back
        .backend
        .events
        .read(thread, None, 0, 100)
        .await
        .unwrap();
    let numbers: Vec<u64> = log.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let said: Vec<String> = log.iter().map(shown).collect();
    assert!(said.iter().any(|line| line == "custom 1"), "{said:?}");
    assert_eq!(
        said.iter().filter(|line| line.starts_with("end")).count(),
        2
    );
}

/// Workers see the same queue; each claim that finds nothing left is work for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_seldom_try_what_another_one_has_claimed() {
    const RUNS: u64 = 300;
    let (database, clock) = (Memory::new(), Arc::new(ManualClock::at(NOON)));
    let config = |id: &str| ServiceConfig {
        worker_id: id.into(),
        lease: NEVER,
        ..ServiceConfig::default()
    };
    let front = World::over(database.backend(), clock.clone(), config("front"), None).await;
    tokio::spawn(front.service.clone().hear(front.shutdown.clone()));
    let mut runs = vec![];
    for _ in 0..RUNS {
        let thread = front.thread().await;
        runs.push(front.run(thread, value!({"do": []})).await);
    }
    let mut workers = vec![];
    for id in ["a", "b", "c"] {
        workers.push(World::over(database.backend(), clock.clone(), config(id), None).await);
    }
    let stops: Vec<_> = workers
        .iter()
        .map(|world| {
            let (service, stop) = (world.service.clone(), world.shutdown.clone());
            tokio::spawn(async move { service.run_worker(stop).await })
        })
        .collect();
    let (mut tried, mut missed) = (0, 0);
    for run in &runs {
        front.join(run).await;
    }
    for (world, stop) in workers.iter().zip(stops) {
        world.shutdown.cancel();
        stop.await.unwrap().unwrap();
        let counts = world.service.counts().await.unwrap();
        tried += counts.claims_tried;
        missed += counts.claims_missed;
    }
    println!("{tried} claims tried, {missed} missed");
    assert_eq!(tried - missed, RUNS);
    assert!(
        missed < RUNS / 2,
        "{missed} of {tried} claims found nothing"
    );
}
