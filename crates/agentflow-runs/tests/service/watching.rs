//! Two processes that do not hear each other: what one does, the other finds by looking.

use std::{sync::Arc, time::Duration};

use agentflow_runs::{
    machine::Which,
    service::{CreateThread, ServiceConfig, Subscription, Topic},
};
use agentflow_storage::{
    Backend,
    memory::Memory,
    record::CancelAction,
    signal::{Local, Signal, Signals},
};
use agentflow_types::{ManualClock, ThreadId, value};
use tokio::sync::broadcast;

use crate::world::{NOON, World, settle};

/// Wake-ups that never arrive.
#[derive(Default)]
struct Lost(Local);

impl Signals for Lost {
    fn send(&self, _: Signal) {}

    fn listen(&self) -> broadcast::Receiver<Signal> {
        self.0.listen()
    }
}

/// A process that only listens, and one that executes.
async fn two() -> (World, World) {
    let (database, clock) = (Memory::new(), Arc::new(ManualClock::at(NOON)));
    let deaf = || Backend {
        signals: Arc::new(Lost::default()),
        ..database.backend()
    };
    let config = |id: &str| ServiceConfig {
        worker_id: id.into(),
        ..ServiceConfig::default()
    };
    let front = World::over(deaf(), clock.clone(), config("a"), None).await;
    tokio::spawn(front.service.clone().hear(front.shutdown.clone()));
    let mut back = World::over(deaf(), clock, config("b"), None).await;
    back.start_worker().await;
    (front, back)
}

async fn listen(world: &World, thread: ThreadId, topic: Topic) -> Subscription {
    let listening = world
        .service
        .subscribe(&world.scope, thread, topic, Some(0));
    listening.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn events_arrive_without_wake_ups() {
    let (front, back) = two().await;
    let thread = front.thread().await;
    let mut whole = listen(&front, thread, Topic::Thread).await;
    let script = value!({"do": [["emit", "custom", 1], ["wait", "g"], ["set", {"n": 1}]]});
    let run = front.run(thread, script).await;
    let mut reader = listen(&front, thread, Topic::Run(run.run_id)).await;
    let mut seen = vec![];
    for _ in 0..2 {
        seen.push(reader.next().await.unwrap().unwrap().seq);
    }
    back.host.open("g");
    while let Some(event) = reader.next().await.unwrap() {
        seen.push(event.seq);
    }
    assert_eq!(seen, [1, 2, 3, 4]);
    for number in 1..=4 {
        assert_eq!(whole.next().await.unwrap().unwrap().seq, number);
    }
    // The next one too, after a silence.
    tokio::time::sleep(Duration::from_secs(60)).await;
    back.run(thread, value!({"do": []})).await;
    assert_eq!(whole.next().await.unwrap().unwrap().seq, 5);
}

#[tokio::test(start_paused = true)]
async fn ends_are_noticed_without_wake_ups() {
    let (front, back) = two().await;
    let thread = front.thread().await;
    let run = back.run(thread, value!({"do": [["wait", "g"]]})).await;
    back.host.arrival("g").await;
    let mut of_run = listen(&front, thread, Topic::Run(run.run_id)).await;
    let mut of_thread = listen(&front, thread, Topic::Thread).await;
    let waits = {
        let (service, scope) = (front.service.clone(), front.scope.clone());
        tokio::spawn(async move { service.join(&scope, Some(thread), run.run_id).await })
    };
    settle().await;
    // A run that is rolled back takes its events along and says nothing.
    let which = Which::Ids(vec![run.run_id]);
    let action = CancelAction::Rollback;
    let cancelled = back
        .service
        .cancel_runs(&back.scope, thread, which, action)
        .await;
    cancelled.unwrap();
    while of_run.next().await.unwrap().is_some() {}
    assert!(
        waits.await.unwrap().is_err(),
        "a run that is gone has no result"
    );
    back.service
        .delete_thread(&back.scope, thread)
        .await
        .unwrap();
    while of_thread.next().await.unwrap().is_some() {}
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_run_elsewhere_gets_its_result() {
    let (front, back) = two().await;
    let thread = front.thread().await;
    let run = back
        .run(thread, value!({"do": [["wait", "g"], ["set", {"n": 1}]]}))
        .await;
    back.host.arrival("g").await;
    let joins: Vec<_> = (0..3)
        .map(|_| {
            let (service, scope) = (front.service.clone(), front.scope.clone());
            tokio::spawn(async move { service.join(&scope, Some(thread), run.run_id).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(30)).await;
    back.host.open("g");
    for join in joins {
        assert_eq!(join.await.unwrap().unwrap(), value!({"n": 1}));
    }
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_is_made_elsewhere_is_noticed() {
    let (front, back) = two().await;
    let thread = ThreadId::mint();
    let mut coming = front.service.coming(thread);
    let early = tokio::time::timeout(Duration::from_secs(30), coming.there()).await;
    assert!(early.is_err(), "there is no thread yet");
    let create = CreateThread {
        thread_id: Some(thread),
        ..CreateThread::default()
    };
    back.service
        .create_thread(&back.scope, create)
        .await
        .unwrap();
    coming.there().await;
    listen(&front, thread, Topic::Thread).await;
}
