//! A database that is away for a while, or that loses answers.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use agentflow_runs::{
    patience::Patience,
    service::{CreateCron, ServiceConfig},
};
use agentflow_storage::{
    faulty::{self, Fault, Write},
    memory::Memory,
    record::{LEASE, RunQuery, RunStatus},
};
use agentflow_types::{ErrorKind, ManualClock, value};
use tokio::time::Instant;

use crate::{
    host::GRAPH,
    world::{NOON, World, config, settle},
};

/// What happens to the next writes of each kind.
#[derive(Default)]
struct Plan {
    next: HashMap<Write, VecDeque<Fault>>,
    always: HashMap<Write, Fault>,
}

/// Shared with the backend.
#[derive(Clone, Default)]
struct Weather(Arc<Mutex<Plan>>);

impl Weather {
    fn next(&self, write: Write, faults: &[Fault]) {
        let mut plan = self.0.lock().unwrap();
        plan.next.entry(write).or_default().extend(faults);
    }

    fn always(&self, write: Write, fault: Fault) {
        self.0.lock().unwrap().always.insert(write, fault);
    }

    fn of(&self, write: Write) -> Fault {
        let mut plan = self.0.lock().unwrap();
        let next = plan.next.get_mut(&write).and_then(VecDeque::pop_front);
        next.or_else(|| plan.always.get(&write).copied())
            .unwrap_or_default()
    }
}

async fn world(config: ServiceConfig) -> (World, Weather) {
    let weather = Weather::default();
    let faults = weather.clone();
    let backend = faulty::wrap(Memory::open(), Arc::new(move |write| faults.of(write)));
    let clock = Arc::new(ManualClock::at(NOON));
    (World::over(backend, clock, config, None).await, weather)
}

async fn working() -> (World, Weather) {
    let (mut world, weather) = world(config()).await;
    world.start_worker().await;
    (world, weather)
}

const FAULTS: [Fault; 3] = [Fault::Busy, Fault::Uncertain, Fault::Lost];

#[tokio::test(start_paused = true)]
async fn events_are_stored_once_whatever_becomes_of_the_answers() {
    let (world, weather) = working().await;
    for faults in [
        vec![Fault::Busy],
        vec![Fault::Uncertain],
        vec![Fault::Lost],
        vec![Fault::Uncertain, Fault::Busy, Fault::Uncertain],
        vec![Fault::Lost, Fault::Uncertain, Fault::Lost],
    ] {
        let thread = world.thread().await;
        let script = value!({"do": [
            ["wait", "a"], ["emit", "custom", 1], ["wait", "b"], ["emit", "custom", 2],
        ]});
        let run = world.run(thread, script).await;
        for gate in ["a", "b"] {
            world.host.arrival(gate).await;
            settle().await;
            weather.next(Write::Append, &faults);
            world.host.open(gate);
        }
        world.join(&run).await;
        assert_eq!(world.status(&run).await, "success", "{faults:?}");
        let kinds: Vec<String> = world.events(thread, run.run_id).await;
        let kinds: Vec<&str> = kinds
            .iter()
            .filter(|event| !event.starts_with("metadata") && !event.starts_with("values"))
            .map(String::as_str)
            .collect();
        let end = r#"end {"status":"success"}"#;
        assert_eq!(kinds, ["custom 1", "custom 2", end], "{faults:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_once_whatever_becomes_of_the_answer() {
    let (world, weather) = working().await;
    for fault in FAULTS {
        let thread = world.thread().await;
        let run = world.run(thread, value!({"do": [["wait", "g"]]})).await;
        world.host.arrival("g").await;
        weather.next(Write::Decide, &[fault]);
        world.host.open("g");
        world.join(&run).await;
        assert_eq!(world.status(&run).await, "success", "{fault:?}");
        let events = world.events(thread, run.run_id).await;
        let ends = events.iter().filter(|event| event.starts_with("end"));
        assert_eq!(ends.count(), 1, "{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_is_stored_is_acknowledged_and_starts() {
    let (world, weather) = working().await;
    let thread = world.thread().await;
    weather.next(Write::Decide, &[Fault::Uncertain]);
    let started = Instant::now();
    let run = world.run(thread, value!({"do": [["set", {"n": 1}]]})).await;
    assert_eq!(world.join(&run).await, value!({"n": 1}));
    assert!(started.elapsed() < LEASE, "{:?}", started.elapsed());
    weather.next(Write::Decide, &[Fault::Lost]);
    let request = crate::world::request(
        agentflow_runs::config::RunThread::Existing(thread),
        value!({}),
    );
    let lost = world.create(request).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Uncertain);
    settle().await;
    assert_eq!(world.thread_status(thread).await, "idle");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_stored_starts_at_once() {
    let (mut world, weather) = world(config()).await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["set", {"n": 1}]]})).await;
    weather.next(Write::Decide, &[Fault::Uncertain]);
    let started = Instant::now();
    world.start_worker().await;
    assert_eq!(world.join(&run).await, value!({"n": 1}));
    assert!(started.elapsed() < LEASE, "{:?}", started.elapsed());
    assert_eq!(world.host.requests.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_lease_cannot_be_renewed_stops_and_is_taken_up_again() {
    let (world, weather) = working().await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["wait", "g"]]})).await;
    world.host.arrival("g").await;
    let started = Instant::now();
    weather.always(Write::Heartbeat, Fault::Busy);
    world.host.arrival("g").await;
    let waited = started.elapsed();
    assert!(waited >= LEASE && waited < 2 * LEASE, "{waited:?}");
    weather.always(Write::Heartbeat, Fault::None);
    assert_eq!(world.host.requests.lock().unwrap()[1].attempt, 2);
    world.host.open("g");
    world.join(&run).await;
    assert_eq!(world.status(&run).await, "success");
}

#[tokio::test(start_paused = true)]
async fn a_run_outlives_a_database_that_is_away_for_longer_than_anybody_waits() {
    let (mut world, weather) = world(ServiceConfig {
        patience: Patience(Duration::from_secs(5)),
        ..config()
    })
    .await;
    world.start_worker().await;
    let thread = world.thread().await;
    let script = value!({"do": [["wait", "g"], ["emit", "custom", 1], ["wait", "h"]]});
    let run = world.run(thread, script).await;
    world.host.arrival("g").await;
    weather.always(Write::Append, Fault::Busy);
    world.host.open("g");
    // Given back, taken up again, and so on.
    let attempts = || world.host.requests.lock().unwrap().len();
    while attempts() < 4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(["pending", "running"].contains(&world.status(&run).await));
    }
    weather.always(Write::Append, Fault::None);
    world.host.open("g");
    world.host.open("h");
    world.join(&run).await;
    assert_eq!(world.status(&run).await, "success");
}

#[tokio::test(start_paused = true)]
async fn a_firing_is_neither_lost_nor_done_twice() {
    for fault in FAULTS {
        let (world, weather) = world(config()).await;
        let create = CreateCron {
            assistant: GRAPH.into(),
            schedule: "0 * * * *".into(),
            on_run_completed: Some("keep".into()),
            enabled: true,
            ..CreateCron::default()
        };
        let cron = world.service.create_cron(&world.scope, create).await;
        let first = cron.unwrap().next_run_date;
        world.clock.advance(Duration::from_secs(3700));
        weather.next(Write::Decide, &[fault]);
        // The first try may fail; the next round does what is left.
        let _ = world.service.fire_crons().await;
        world.service.fire_crons().await.unwrap();
        let query = RunQuery {
            status: Some(RunStatus::Pending),
            limit: 10,
            ..RunQuery::default()
        };
        let runs = world.service.list_runs(&world.scope, &query).await.unwrap();
        assert_eq!(runs.len(), 1, "{fault:?}, {first:?}");
    }
}
