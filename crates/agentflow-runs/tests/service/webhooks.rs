//! Ends of runs that somebody outside hears of.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use agentflow_runs::{
    config::RunThread,
    letter::Call,
    machine::Which,
    service::{CreateCron, MissedFirings, ServiceConfig, Webhook},
};
use agentflow_storage::{
    faulty::{self, Fault, Write},
    memory::Memory,
    record::{CancelAction, Run},
};
use agentflow_types::{
    Error, ErrorKind, LetterId, ManualClock, Map, Result, Scope, Timestamp, Value, value,
};
use async_trait::async_trait;

use crate::{
    host::GRAPH,
    world::{NOON, World, config, refused, request, settle},
};

const URL: &str = "https://example.org/hook";

/// Remembers calls, and refuses the first ones.
#[derive(Default)]
struct Mailbox {
    calls: Mutex<Vec<(LetterId, Call, Timestamp)>>,
    refusals: AtomicUsize,
    denies: bool,
}

impl Mailbox {
    fn refusing(times: usize) -> Arc<Self> {
        Arc::new(Self {
            refusals: AtomicUsize::new(times),
            ..Self::default()
        })
    }

    fn calls(&self) -> Vec<(LetterId, Call, Timestamp)> {
        self.calls.lock().unwrap().clone()
    }

    /// Seconds after noon of each call.
    fn times(&self) -> Vec<u64> {
        let times = self.calls().into_iter();
        times.map(|(.., at)| at.since(NOON).as_secs()).collect()
    }

    /// Status that each run's calls told, by run.
    fn told(&self) -> BTreeMap<String, Vec<String>> {
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (_, call, _) in self.calls() {
            let text = |key: &str| call.body[key].as_str().unwrap().to_owned();
            told.entry(text("run_id")).or_default().push(text("status"));
        }
        told
    }
}

#[async_trait]
impl Webhook for Mailbox {
    fn check(&self, url: &str) -> Result<()> {
        match url.starts_with("https:") {
            true => Ok(()),
            false => Err(Error::unprocessable("webhook: must be https")),
        }
    }

    async fn call(&self, id: LetterId, call: &Call, now: Timestamp) -> Result<()> {
        self.calls.lock().unwrap().push((id, call.clone(), now));
        if self.denies {
            return Err(Error::denied("not there"));
        }
        let left = self.refusals.load(Ordering::SeqCst);
        if left > 0 {
            self.refusals.store(left - 1, Ordering::SeqCst);
            return Err(Error::busy("500"));
        }
        Ok(())
    }
}

async fn world(mailbox: &Arc<Mailbox>) -> World {
    over(&Memory::new(), mailbox, config()).await
}

async fn over(database: &Memory, mailbox: &Arc<Mailbox>, config: ServiceConfig) -> World {
    let clock = Arc::new(ManualClock::at(NOON));
    let webhook = Some(mailbox.clone() as Arc<dyn Webhook>);
    let mut world = World::over(database.backend(), clock, config, webhook).await;
    world.start_worker().await;
    world
}

async fn hooked(world: &World, thread: RunThread, script: Value) -> Run {
    let mut run = request(thread, script);
    run.webhook = Some(URL.into());
    world.create(run).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_with_the_run_and_its_values() {
    let mailbox = Arc::new(Mailbox::default());
    let world = world(&mailbox).await;
    let script = value!({"do": [["set", {"n": 1}]]});
    let run = hooked(&world, RunThread::Temporary, script).await;
    world.join(&run).await;
    settle().await;
    let calls = mailbox.calls();
    let [(id, call, _)] = calls.as_slice() else {
        panic!("one call: {calls:?}")
    };
    assert_eq!((id.0, call.url.as_str()), (run.run_id.0, URL));
    let noon = value!("2026-01-01T12:00:00.000000+00:00");
    for (key, want) in [
        ("run_id", value!(run.run_id.text())),
        ("thread_id", value!(run.thread_id.text())),
        ("assistant_id", value!(run.assistant_id.text())),
        ("status", value!("success")),
        ("values", value!({"n": 1})),
        ("error", Value::Null),
        ("run_started_at", noon.clone()),
        ("run_ended_at", noon.clone()),
        ("webhook_sent_at", noon.clone()),
    ] {
        assert_eq!(call.body[key], want, "{key}");
    }
    assert_eq!(world.service.webhook_depth().await.unwrap().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn every_end_is_told_once() {
    let mailbox = Arc::new(Mailbox::default());
    let world = world(&mailbox).await;
    let thread = world.thread().await;
    let on = || RunThread::Existing(thread);
    let failing = hooked(&world, on(), value!({"do": [["fail", "broken"]]})).await;
    world.join(&failing).await;
    let held = hooked(&world, on(), value!({"do": [["wait", "g"]]})).await;
    let pending = hooked(&world, on(), Value::Null).await;
    world.host.arrival("g").await;
    let which = Which::Ids(vec![pending.run_id]);
    let (service, scope) = (&world.service, &world.scope);
    let cancelled = service.cancel_runs(scope, thread, which, CancelAction::Interrupt);
    cancelled.await.unwrap();
    let rolled_back = service.cancel_runs(scope, thread, Which::All, CancelAction::Rollback);
    rolled_back.await.unwrap();
    let ended = service.wait_end(scope, thread, held.run_id).await;
    ended.unwrap();
    let gone = hooked(&world, on(), value!({"do": [["wait", "h"]]})).await;
    world.host.arrival("h").await;
    service.delete_thread(scope, thread).await.unwrap();
    world.advance(Duration::from_secs(60)).await;
    let told = mailbox.told();
    let want = [
        (failing, "error"),
        (held, "interrupted"),
        (pending, "interrupted"),
        (gone, "interrupted"),
    ];
    for (run, status) in &want {
        assert_eq!(told[&run.run_id.text()], [*status], "{}", run.run_id);
    }
    assert_eq!(told.len(), want.len());
}

#[tokio::test(start_paused = true)]
async fn calls_are_repeated_with_pauses_that_grow_then_given_up() {
    let mailbox = Mailbox::refusing(usize::MAX);
    let world = world(&mailbox).await;
    let run = hooked(&world, RunThread::Kept, Value::Null).await;
    world.join(&run).await;
    for _ in 0..6 * 3600 {
        world.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        if mailbox.calls().len() == 8 {
            break;
        }
    }
    world.advance(Duration::from_secs(86_400)).await;
    let times = mailbox.times();
    assert_eq!(times.len(), 8, "{times:?}");
    for (n, pair) in times.windows(2).enumerate() {
        let (pause, least) = (pair[1] - pair[0], 5 << n);
        assert!(pause >= least && pause <= least * 5 / 4 + 2, "{times:?}");
    }
    let ids: Vec<LetterId> = mailbox.calls().iter().map(|(id, ..)| *id).collect();
    assert!(ids.iter().all(|id| id.0 == run.run_id.0));

    let (service, scope) = (&world.service, &world.scope);
    let dead = service.dead_webhooks(scope, 10, 0).await.unwrap();
    let row = &dead.items[0];
    assert_eq!((dead.total, row.attempt, row.error.as_str()), (1, 8, "500"));
    let stranger = Scope::new("other", "x");
    let unseen = service.dead_webhooks(&stranger, 10, 0).await.unwrap();
    assert_eq!(unseen.total, 0);
    let id = row.letter.letter_id;
    let stolen = service.retry_webhook(&stranger, id).await;
    let text = format!("Dead webhook with ID {id} not found");
    refused(stolen, ErrorKind::NotFound, &text);
    mailbox.refusals.store(0, Ordering::SeqCst);
    service.retry_webhook(scope, id).await.unwrap();
    world.advance(Duration::from_secs(1)).await;
    assert_eq!(mailbox.calls().len(), 9);
    assert_eq!(service.webhook_depth().await.unwrap(), Default::default());
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_called_is_given_up_at_once() {
    let mailbox = Arc::new(Mailbox {
        denies: true,
        ..Mailbox::default()
    });
    let world = world(&mailbox).await;
    let run = hooked(&world, RunThread::Temporary, Value::Null).await;
    world.join(&run).await;
    world.advance(Duration::from_secs(3600)).await;
    assert_eq!(mailbox.calls().len(), 1);
    let dead = world.service.dead_webhooks(&world.scope, 10, 0).await;
    let id = dead.unwrap().items[0].letter.letter_id;
    let discarded = world.service.discard_webhook(&world.scope, id).await;
    discarded.unwrap();
    assert_eq!(world.service.webhook_depth().await.unwrap().dead, 0);
}

#[tokio::test(start_paused = true)]
async fn bad_urls_are_refused_where_they_are_given() {
    let none = World::new().await;
    let mut run = request(RunThread::Temporary, Value::Null);
    run.webhook = Some(URL.into());
    let text = "webhooks are not available on this server";
    refused(
        none.create(run.clone()).await,
        ErrorKind::Unprocessable,
        text,
    );

    let world = world(&Arc::new(Mailbox::default())).await;
    run.webhook = Some("http://example.org".into());
    let text = "webhook: must be https";
    refused(world.create(run).await, ErrorKind::Unprocessable, text);
    let mut cron = hourly();
    cron.payload = map(value!({"webhook": "http://example.org"}));
    let made = world.service.create_cron(&world.scope, cron).await;
    refused(made, ErrorKind::Unprocessable, text);
}

#[tokio::test(start_paused = true)]
async fn two_processes_share_the_calls() {
    let (database, mailbox) = (Memory::new(), Mailbox::refusing(20));
    let named = |id: &str| ServiceConfig {
        worker_id: id.into(),
        ..config()
    };
    let one = over(&database, &mailbox, named("a")).await;
    let two = over(&database, &mailbox, named("b")).await;
    for n in 0..100 {
        let world = [&one, &two][n % 2];
        let run = hooked(world, RunThread::Temporary, Value::Null).await;
        world.join(&run).await;
    }
    for _ in 0..60 {
        one.clock.advance(Duration::from_secs(1));
        two.advance(Duration::from_secs(1)).await;
    }
    let told = mailbox.told();
    assert_eq!(told.len(), 100);
    assert_eq!(mailbox.calls().len(), 120, "20 were refused once");
    assert_eq!(one.service.webhook_depth().await.unwrap().waiting, 0);
}

/// Plays a life whose `nth` write is hit by `fault`, and then one without faults.
async fn crash_at(nth: usize, fault: Fault, mailbox: &Arc<Mailbox>, fires: bool) -> (bool, World) {
    let (database, count) = (Memory::new(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    let faults = move |_: Write| match counted.fetch_add(1, Ordering::SeqCst) {
        n if n == nth => fault,
        _ => Fault::None,
    };
    let clock = Arc::new(ManualClock::at(NOON));
    let webhook = Some(mailbox.clone() as Arc<dyn Webhook>);
    let backend = database.backend();
    let before = World::over(backend, clock.clone(), config(), webhook.clone()).await;
    if fires {
        let cron = before.service.create_cron(&before.scope, hourly()).await;
        cron.unwrap();
        clock.advance(Duration::from_secs(3601));
    } else {
        // The worker of the first life finds it.
        hooked(&before, RunThread::Kept, Value::Null).await;
    }
    let backend = faulty::wrap(database.backend(), Arc::new(faults));
    let mut first = World::over(backend, clock.clone(), config(), webhook.clone()).await;
    first.start_worker().await;
    first.advance(Duration::from_secs(5)).await;
    let was_hit = count.load(Ordering::SeqCst) > nth;
    // What is left of it stands still: every call fails.
    let mut second = World::over(database.backend(), clock, config(), webhook).await;
    second.start_worker().await;
    for _ in 0..24 {
        second.advance(Duration::from_secs(5)).await;
    }
    (was_hit, second)
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_whenever_the_process_stops() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        let mut nth = 0;
        loop {
            let mailbox = Arc::new(Mailbox::default());
            let (was_hit, world) = crash_at(nth, fault, &mailbox, false).await;
            let told: Vec<Vec<String>> = mailbox.told().into_values().collect();
            assert_eq!(told.len(), 1, "{fault:?} at write {nth}");
            // A call whose end could not be noted is repeated, under the same id.
            assert!(told[0].len() <= 2, "{fault:?} at write {nth}: {told:?}");
            assert!(told[0].iter().all(|status| status == "success"));
            let depth = world.service.webhook_depth().await.unwrap();
            assert_eq!((depth.waiting, depth.dead), (0, 0));
            if !was_hit {
                break;
            }
            nth += 1;
        }
        assert!(nth > 4, "{nth} writes were hit");
    }
}

fn map(value: Value) -> Map {
    value.as_map().unwrap().clone()
}

fn hourly() -> CreateCron {
    CreateCron {
        assistant: GRAPH.into(),
        schedule: "0 * * * *".into(),
        payload: map(value!({"webhook": URL})),
        on_run_completed: Some("keep".into()),
        enabled: true,
        ..CreateCron::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_cron_fires_once_whenever_the_process_stops() {
    for fault in [
        Fault::CrashBefore,
        Fault::CrashAfter,
        Fault::Uncertain,
        Fault::Lost,
        Fault::Busy,
    ] {
        let mut nth = 0;
        loop {
            let mailbox = Arc::new(Mailbox::default());
            let (was_hit, _world) = crash_at(nth, fault, &mailbox, true).await;
            assert_eq!(mailbox.told().len(), 1, "{fault:?} at write {nth}");
            if !was_hit || nth > 12 {
                break;
            }
            nth += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_processes_fire_a_cron_once() {
    let (database, mailbox) = (Memory::new(), Arc::new(Mailbox::default()));
    let mut worlds = vec![];
    for n in 0..5 {
        let config = ServiceConfig {
            worker_id: format!("worker-{n}"),
            ..config()
        };
        worlds.push(over(&database, &mailbox, config).await);
    }
    for _ in 0..10 {
        let made = worlds[0].service.create_cron(&worlds[0].scope, hourly());
        made.await.unwrap();
    }
    for _ in 0..3 {
        for world in &worlds {
            world.clock.advance(Duration::from_secs(3600));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(mailbox.told().len(), 30);
    assert_eq!(mailbox.calls().len(), 30);
}

#[tokio::test(start_paused = true)]
async fn missed_firings_follow_the_policy() {
    for (missed, want) in [
        (MissedFirings::Once, 2),
        (MissedFirings::Skip, 1),
        (MissedFirings::All, 5),
    ] {
        let mailbox = Arc::new(Mailbox::default());
        let config = ServiceConfig { missed, ..config() };
        let world = over(&Memory::new(), &mailbox, config).await;
        let made = world.service.create_cron(&world.scope, hourly()).await;
        let id = made.unwrap().cron_id;
        world.advance(Duration::from_secs(3601)).await;
        assert_eq!(mailbox.told().len(), 1, "{missed:?}");
        world.clock.advance(Duration::from_secs(4 * 3600 + 120));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(mailbox.told().len(), want, "{missed:?}");
        let cron = world.service.get_cron(&world.scope, id).await.unwrap();
        let next = cron.next_run_date.unwrap().to_string();
        assert_eq!(next, "2026-01-01T18:00:00.000000+00:00", "{missed:?}");
    }
}
