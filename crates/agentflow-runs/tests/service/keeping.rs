//! What is kept and for how long, and what happens by itself: items, crons, expiry.

use std::time::Duration;

use agentflow_runs::{
    config::RunThread,
    service::{CreateCron, CreateThread, PatchCron, ServiceConfig, Topic},
};
use agentflow_storage::{
    cache::CacheKey,
    cron::CronQuery,
    page::PageQuery,
    record::{RunQuery, ThreadTtl},
    store::{ItemQuery, NamespaceQuery, PutItem, Refresh},
};
use agentflow_types::{Clock as _, ErrorKind, Map, Value, value};

use crate::{
    host::GRAPH,
    world::{World, config, refused, request},
};

fn map(value: Value) -> Map {
    value.as_map().unwrap().clone()
}

fn labels(text: &str) -> Vec<String> {
    text.split('/').map(str::to_owned).collect()
}

fn item(namespace: &str, key: &str) -> PutItem {
    PutItem {
        namespace: labels(namespace),
        key: key.into(),
        value: map(value!({"v": key})),
        ttl_minutes: None,
    }
}

#[tokio::test]
async fn items_are_kept_in_namespaces() {
    let world = World::idle(config()).await;
    let (service, scope) = (&world.service, &world.scope);
    service.put_item(scope, item("a/b", "k")).await.unwrap();
    service.put_item(scope, item("ab", "l")).await.unwrap();
    let found = service
        .get_item(scope, &labels("a/b"), "k", Refresh::Yes)
        .await
        .unwrap();
    assert_eq!(found.unwrap().value, map(value!({"v": "k"})));
    let none = service
        .get_item(scope, &labels("a/b"), "x", Refresh::Yes)
        .await
        .unwrap();
    assert_eq!(none, None);
    let query = ItemQuery {
        namespace_prefix: labels("a"),
        limit: 10,
        ..ItemQuery::default()
    };
    assert_eq!(service.search_items(scope, &query).await.unwrap().len(), 1);
    let query = NamespaceQuery {
        limit: 10,
        ..NamespaceQuery::default()
    };
    let namespaces = service.namespaces(scope, &query).await.unwrap();
    assert_eq!(namespaces, [labels("a/b"), labels("ab")]);
    service
        .delete_item(scope, &labels("a/b"), "k")
        .await
        .unwrap();
    let none = service
        .get_item(scope, &labels("a/b"), "k", Refresh::Yes)
        .await
        .unwrap();
    assert_eq!(none, None);
}

#[tokio::test]
async fn bad_namespaces_are_refused() {
    let world = World::idle(config()).await;
    let check = async |namespace: &[&str], text: &str| {
        let namespace = namespace.iter().map(|label| (*label).to_owned()).collect();
        let bad = PutItem {
            namespace,
            ..item("a", "k")
        };
        let put = world.service.put_item(&world.scope, bad).await;
        refused(put, ErrorKind::Unprocessable, text);
    };
    check(&[], "Namespace cannot be empty.").await;
    check(
        &["a", ""],
        "Namespace labels cannot be empty strings. Got [\"a\", \"\"]",
    )
    .await;
    let text = "Invalid namespace label 'a.b' found in [\"a.b\"]. Namespace labels cannot contain \
                periods ('.').";
    check(&["a.b"], text).await;
    check(
        &["langgraph"],
        "Root label for namespace cannot be \"langgraph\".",
    )
    .await;
}

fn hourly() -> CreateCron {
    CreateCron {
        assistant: GRAPH.into(),
        schedule: "0 * * * *".into(),
        payload: map(value!({"input": {"name": "tick"}})),
        on_run_completed: Some("keep".into()),
        enabled: true,
        ..CreateCron::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_cron_fires_and_missed_firings_count_once() {
    let world = World::new().await;
    let cron = world
        .service
        .create_cron(&world.scope, hourly())
        .await
        .unwrap();
    assert_eq!(
        cron.next_run_date.unwrap().to_string(),
        "2026-01-01T13:00:00.000000+00:00"
    );
    world.advance(Duration::from_secs(3599)).await;
    assert!(world.host.names().is_empty());
    world.advance(Duration::from_secs(2)).await;
    assert_eq!(world.host.names(), ["tick"]);
    world.advance(Duration::from_secs(5 * 3600)).await;
    assert_eq!(world.host.names(), ["tick", "tick"]);
    let cron = world
        .service
        .get_cron(&world.scope, cron.cron_id)
        .await
        .unwrap();
    assert_eq!(
        cron.next_run_date.unwrap().to_string(),
        "2026-01-01T19:00:00.000000+00:00"
    );
    let runs = RunQuery {
        limit: 10,
        ..RunQuery::default()
    };
    let runs = world.service.list_runs(&world.scope, &runs).await.unwrap();
    assert_ne!(runs[0].thread_id, runs[1].thread_id);
    assert_eq!(runs[0].metadata["cron_id"], value!(cron.cron_id.text()));
}

#[tokio::test(start_paused = true)]
async fn a_cron_ends_and_can_be_switched_off() {
    let world = World::new().await;
    let thread = world.thread().await;
    let end = "2026-01-01T14:30:00+00:00".parse().unwrap();
    let create = CreateCron {
        thread_id: Some(thread),
        end_time: Some(end),
        ..hourly()
    };
    let cron = world
        .service
        .create_cron(&world.scope, create)
        .await
        .unwrap();
    let off = PatchCron {
        enabled: Some(false),
        ..PatchCron::default()
    };
    world
        .service
        .update_cron(&world.scope, cron.cron_id, off)
        .await
        .unwrap();
    world.advance(Duration::from_secs(3601)).await;
    assert!(world.host.names().is_empty());
    let on = PatchCron {
        enabled: Some(true),
        ..PatchCron::default()
    };
    world
        .service
        .update_cron(&world.scope, cron.cron_id, on)
        .await
        .unwrap();
    for _ in 0..3 {
        world.advance(Duration::from_secs(3600)).await;
    }
    assert_eq!(world.host.names(), ["tick"], "14:00 only");
    let cron = world
        .service
        .get_cron(&world.scope, cron.cron_id)
        .await
        .unwrap();
    assert_eq!(cron.next_run_date, None);
    let on_thread = CronQuery {
        thread_id: Some(thread),
        ..CronQuery::default()
    };
    let page = PageQuery::default();
    let found = world
        .service
        .search_crons(&world.scope, &on_thread, &page)
        .await
        .unwrap();
    assert_eq!(found.total, 1);
    world
        .service
        .delete_cron(&world.scope, cron.cron_id)
        .await
        .unwrap();
    let gone = world.service.get_cron(&world.scope, cron.cron_id).await;
    refused(
        gone,
        ErrorKind::NotFound,
        &format!("Cron with ID {} not found", cron.cron_id),
    );
}

#[tokio::test]
async fn bad_crons_are_refused() {
    let world = World::idle(config()).await;
    let nonsense = CreateCron {
        schedule: "nonsense".into(),
        ..hourly()
    };
    let made = world.service.create_cron(&world.scope, nonsense).await;
    refused(made, ErrorKind::Unprocessable, "invalid cron schedule");
    let mars = CreateCron {
        timezone: Some("Mars/Base".into()),
        ..hourly()
    };
    let made = world.service.create_cron(&world.scope, mars).await;
    refused(made, ErrorKind::Unprocessable, "unknown time zone");
}

fn ttl(strategy: &str) -> Option<ThreadTtl> {
    Some(ThreadTtl {
        strategy: strategy.into(),
        ttl_minutes: 10.0,
    })
}

#[tokio::test(start_paused = true)]
async fn threads_go_when_their_time_is_over_unless_in_use() {
    let world = World::new().await;
    let thread = async |strategy| {
        let create = CreateThread {
            ttl: ttl(strategy),
            ..CreateThread::default()
        };
        world
            .service
            .create_thread(&world.scope, create)
            .await
            .unwrap()
            .thread_id
    };
    let (idle, busy, kept) = (
        thread("delete").await,
        thread("delete").await,
        thread("keep_latest").await,
    );
    for n in [1, 2] {
        let run = world.run(kept, value!({"do": [["set", {"n": n}]]})).await;
        world.join(&run).await;
    }
    let run = world.run(busy, value!({"do": [["wait", "g"]]})).await;
    world.clock.advance(Duration::from_secs(601));
    world.service.remove_expired().await.unwrap();
    let gone = world.service.get_thread(&world.scope, idle).await;
    refused(
        gone,
        ErrorKind::NotFound,
        &format!("Thread with ID {idle} not found"),
    );
    assert_eq!(world.thread_status(busy).await, "busy");
    let query = agentflow_runs::host::HistoryQuery {
        limit: 10,
        ..Default::default()
    };
    let history = world
        .service
        .history(&world.scope, kept, query)
        .await
        .unwrap();
    assert_eq!(history.len(), 1);
    world.host.open("g");
    world.join(&run).await;
    world.clock.advance(Duration::from_secs(601));
    world.service.remove_expired().await.unwrap();
    let gone = world.service.get_thread(&world.scope, busy).await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn events_of_ended_runs_are_kept_for_a_while() {
    let config = ServiceConfig {
        event_retention: Duration::from_secs(3600),
        ..config()
    };
    let mut world = World::idle(config).await;
    world.start_worker().await;
    let run = world
        .create(request(RunThread::Kept, Value::Null))
        .await
        .unwrap();
    world.join(&run).await;
    world.clock.advance(Duration::from_secs(3599));
    world.service.remove_expired().await.unwrap();
    assert_eq!(world.events(run.thread_id, run.run_id).await.len(), 3);
    world.clock.advance(Duration::from_secs(2));
    world.service.remove_expired().await.unwrap();
    assert!(world.events(run.thread_id, run.run_id).await.is_empty());
    // Numbers go on after those that are gone.
    let next = world.run(run.thread_id, Value::Null).await;
    world.join(&next).await;
    let topic = Topic::Run(next.run_id);
    let read = world
        .service
        .subscribe(&world.scope, run.thread_id, topic, Some(0))
        .await;
    assert_eq!(read.unwrap().next().await.unwrap().unwrap().seq, 4);
}

/// What nodes wrote goes when it is too old; the rest stays.
#[tokio::test(start_paused = true)]
async fn results_that_are_too_old_are_swept() {
    let world = World::idle(config()).await;
    let cache = &world.backend.cache;
    for (name, seconds) in [("short", 10), ("long", 1000)] {
        let key = CacheKey {
            namespace: labels("graph/node"),
            key: name.into(),
        };
        let (ttl, now) = (Some(Duration::from_secs(seconds)), world.clock.now());
        cache.put(&key, vec![1], ttl, now).await.unwrap();
    }
    world.clock.advance(Duration::from_secs(11));
    world.service.remove_expired().await.unwrap();
    let now = world.clock.now();
    assert_eq!(cache.sweep(now, 10).await.unwrap(), 0, "nothing was left");
    let later = now.plus(Duration::from_secs(1000));
    assert_eq!(cache.sweep(later, 10).await.unwrap(), 1);
}
