//! Reading the event log while it is written.

use std::{sync::Arc, time::Duration};

use agentflow_runs::{
    config::RunThread,
    service::{ServiceConfig, Topic},
};
use agentflow_types::{ErrorKind, ManualClock, RunId, Value, value};

use crate::world::{NOON, World, config, request, settle, shown};

#[tokio::test(start_paused = true)]
async fn a_reader_gets_the_past_then_the_present() {
    let world = World::new().await;
    let thread = world.thread().await;
    let script = value!({"do": [["emit", "custom", 1], ["wait", "g"], ["emit", "custom", 2]]});
    let run = world.run(thread, script).await;
    world.host.arrival("g").await;
    settle().await;
    let topic = Topic::Run(run.run_id);
    let subscribe = |after| world.service.subscribe(&world.scope, thread, topic, after);
    let mut all = subscribe(Some(0)).await.unwrap();
    let mut rest = subscribe(Some(2)).await.unwrap();
    let mut live = subscribe(None).await.unwrap();
    let first = all.next().await.unwrap().unwrap();
    assert_eq!((first.seq, &*first.kind), (1, "metadata"));
    world.host.open("g");
    for (reader, expected) in [
        (&mut all, vec![2, 3, 4, 5]),
        (&mut rest, vec![3, 4, 5]),
        (&mut live, vec![3, 4, 5]),
    ] {
        let mut numbers = vec![];
        while let Some(event) = reader.next().await.unwrap() {
            numbers.push(event.seq);
        }
        assert_eq!(numbers, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_misses_nothing() {
    let world = World::new().await;
    let thread = world.thread().await;
    let run = world
        .run(thread, value!({"do": [["wait", "g"], ["many", 5000]]}))
        .await;
    world.host.arrival("g").await;
    let topic = Topic::Run(run.run_id);
    let mut slow = world
        .service
        .subscribe(&world.scope, thread, topic, Some(0))
        .await
        .unwrap();
    slow.next().await.unwrap();
    world.host.open("g");
    // The run does not wait for its reader.
    world.join(&run).await;
    let mut last = 1;
    while let Some(event) = slow.next().await.unwrap() {
        assert_eq!(event.seq, last + 1);
        last = event.seq;
    }
    assert_eq!(last, 5003);
}

#[tokio::test(start_paused = true)]
async fn readers_in_the_middle_of_a_run_see_each_event_once() {
    let world = World::new().await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["many", 600]]})).await;
    let mut readers = vec![];
    for after in [0, 1, 300] {
        let (service, scope) = (world.service.clone(), world.scope.clone());
        readers.push(tokio::spawn(async move {
            let topic = Topic::Run(run.run_id);
            let mut reader = service
                .subscribe(&scope, thread, topic, Some(after))
                .await
                .unwrap();
            let mut numbers = vec![];
            while let Some(event) = reader.next().await.unwrap() {
                numbers.push(event.seq);
            }
            assert_eq!(numbers, (after + 1..=603).collect::<Vec<_>>());
        }));
        tokio::task::yield_now().await;
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_thread_is_read_across_its_runs() {
    let world = World::new().await;
    let thread = world.thread().await;
    let mut reader = world
        .service
        .subscribe(&world.scope, thread, Topic::Thread, None)
        .await
        .unwrap();
    for _ in 0..2 {
        let run = world.run(thread, Value::Null).await;
        world.join(&run).await;
    }
    let mut events = vec![];
    for n in 1..=6 {
        let event = reader.next().await.unwrap().unwrap();
        assert_eq!(event.seq, n);
        events.push(event);
    }
    let ends = events
        .iter()
        .filter(|event| shown(event) == r#"end {"status":"success"}"#);
    assert_eq!(ends.count(), 2);
    // It goes on until the thread goes.
    let more = tokio::time::timeout(Duration::from_secs(30), reader.next()).await;
    assert!(more.is_err());
    world
        .service
        .delete_thread(&world.scope, thread)
        .await
        .unwrap();
    assert!(reader.next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_reader_in_another_process_sees_the_end() {
    let shared = World::idle(config()).await;
    let clock = Arc::new(ManualClock::at(NOON));
    let other = ServiceConfig {
        worker_id: "worker-b".into(),
        ..config()
    };
    let mut other = World::over(shared.backend.clone(), clock, other, None).await;
    other.start_worker().await;
    let thread = shared.thread().await;
    let run = shared
        .run(thread, value!({"do": [["emit", "custom", 1]]}))
        .await;
    let events = shared.events(thread, run.run_id).await;
    assert_eq!(events.len(), 4);
    assert_eq!(events[3], r#"end {"status":"success"}"#);
    assert_eq!(shared.join(&run).await, value!({}));
}

#[tokio::test(start_paused = true)]
async fn unknown_runs_are_not_read() {
    let world = World::new().await;
    let thread = world.thread().await;
    let topic = Topic::Run(RunId(uuid::Uuid::from_u128(9)));
    let read = world
        .service
        .subscribe(&world.scope, thread, topic, None)
        .await;
    assert_eq!(read.err().unwrap().kind(), ErrorKind::NotFound);
    // The run of another thread neither.
    let run = world
        .create(request(RunThread::Kept, Value::Null))
        .await
        .unwrap();
    let topic = Topic::Run(run.run_id);
    let read = world
        .service
        .subscribe(&world.scope, thread, topic, None)
        .await;
    assert_eq!(read.err().unwrap().kind(), ErrorKind::NotFound);
}
