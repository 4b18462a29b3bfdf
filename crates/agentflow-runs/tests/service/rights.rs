//! What runs may do: what their creators may, whenever, wherever and however often they run.

use std::time::Duration;

use agentflow_runs::{
    config::{Kwargs, RunThread, shown},
    service::{CreateCron, PatchCron, ServiceConfig},
};
use agentflow_types::{Map, MemoryScope, Permissions, Rights, Scope, Value, value};

use crate::{
    host::{GRAPH, Scripted},
    world::{World, config, request, settle},
};

/// Somebody with these permissions, limited to the memories of alice.
fn limited(words: &[&str]) -> Scope {
    let limit = MemoryScope::parse(r#"{"user_id": "alice"}"#).unwrap();
    somebody(words).within(limit)
}

fn somebody(words: &[&str]) -> Scope {
    let permissions = Permissions::parse(words.iter().copied()).unwrap();
    Scope::authenticated("default", "somebody", permissions, Map::new())
}

/// The rights that the host was given, run by run.
fn seen(host: &Scripted) -> Vec<Rights> {
    let requests = host.requests.lock().unwrap();
    let rights = requests.iter().map(|request| Rights::of(&request.scope));
    rights.collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_may_what_its_creator_may() {
    let mut world = World::new().await;
    for scope in [
        limited(&["memories:read", "runs:*"]),
        somebody(&["runs:*"]),
        Scope::local(),
    ] {
        world.scope = scope.clone();
        let run = request(RunThread::Temporary, value!({"do": []}));
        let run = world.create(run).await.unwrap();
        world.join(&run).await;
        assert_eq!(seen(&world.host).pop(), Some(Rights::of(&scope)));
    }
}

#[tokio::test(start_paused = true)]
async fn rights_wait_in_the_queue_and_go_from_worker_to_worker() {
    let mut world = World::idle(config()).await;
    let scope = limited(&["memories:*"]);
    world.scope = scope.clone();
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["wait", "g"]]})).await;
    world.start_worker().await;
    world.host.arrival("g").await;
    world.worker.take().unwrap().abort();
    let exclusive = ServiceConfig {
        exclusive: true,
        ..config()
    };
    let (backend, clock) = (world.backend.clone(), world.clock.clone());
    let mut next = World::over(backend, clock, exclusive, None).await;
    next.start_worker().await;
    next.host.arrival("g").await;
    next.host.open("g");
    next.join(&run).await;
    assert_eq!(next.host.requests.lock().unwrap()[0].attempt, 2);
    for host in [&world.host, &next.host] {
        assert_eq!(seen(host), [Rights::of(&scope)]);
    }
}

/// All that a client can write, with rights that it does not have.
fn forged() -> Map {
    let more = Rights::of(&Scope::local()).to_value();
    let words = value!(["memories:read", "memories:write"]);
    let all = value!({
        "rights": more.clone(), "permissions": words.clone(), "memories": null,
        "scope": {"permissions": words.clone()}, "kwargs": {"rights": more.clone()},
        "__rights__": more, "langgraph_auth_permissions": words.clone(),
        "langgraph_auth_user": {"permissions": words},
    });
    all.as_map().cloned().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sends_is_no_right() {
    let mut world = World::new().await;
    world.scope = somebody(&["runs:*"]);
    let rights = Rights::of(&world.scope);
    let mut config = forged();
    config.insert("configurable".into(), Value::map(forged()));
    config.insert("metadata".into(), Value::map(forged()));
    let in_config = agentflow_runs::config::CreateRun {
        config,
        metadata: forged(),
        headers: forged(),
        input: Value::map(forged()),
        ..request(RunThread::Temporary, Value::Null)
    };
    let in_context = agentflow_runs::config::CreateRun {
        context: forged(),
        ..request(RunThread::Temporary, Value::map(forged()))
    };
    for forgery in [in_config, in_context] {
        let run = world.create(forgery).await.unwrap();
        world.join(&run).await;
        assert_eq!(seen(&world.host).pop(), Some(rights.clone()));
        let told = &world.host.requests.lock().unwrap().pop().unwrap().config;
        let told = told.configurable.get("langgraph_auth_permissions");
        assert_eq!(told, Some(&value!(["runs:read", "runs:write"])));
        assert_eq!(Rights::of_value(&Kwargs::of(&run).unwrap().rights), rights);
        assert!(!shown(run.kwargs).contains_key("rights"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_stored_without_rights_has_none() {
    let world = World::idle(config()).await;
    let run = request(RunThread::Temporary, value!({"do": []}));
    let mut run = world.create(run).await.unwrap();
    run.kwargs.shift_remove("rights");
    let stored = Kwargs::of(&run).unwrap();
    assert_eq!(Rights::of_value(&stored.rights), Rights::default());
}

fn hourly() -> CreateCron {
    CreateCron {
        assistant: GRAPH.into(),
        schedule: "0 * * * *".into(),
        payload: [
            ("input".into(), value!({"name": "tick"})),
            ("rights".into(), Rights::of(&Scope::local()).to_value()),
        ]
        .into(),
        enabled: true,
        ..CreateCron::default()
    }
}

#[tokio::test(start_paused = true)]
async fn runs_of_a_cron_may_what_all_may_who_wrote_it() {
    let world = World::new().await;
    let maker = limited(&["memories:*", "runs:*", "crons:*"]);
    let cron = world.service.create_cron(&maker, hourly()).await.unwrap();
    world.advance(Duration::from_secs(3601)).await;
    assert_eq!(seen(&world.host), [Rights::of(&maker)]);

    // Somebody who may more changes it, then somebody who may less, then the maker once more.
    let patch = || PatchCron {
        payload: [("rights".into(), Rights::of(&Scope::local()).to_value())].into(),
        ..PatchCron::default()
    };
    let fewer = somebody(&["memories:read", "crons:*"]);
    for (changer, want) in [
        (Scope::local(), Rights::of(&maker)),
        (fewer, Rights::of(&limited(&["memories:read", "crons:*"]))),
        (maker, Rights::of(&limited(&["memories:read", "crons:*"]))),
    ] {
        let (service, id) = (&world.service, cron.cron_id);
        service.update_cron(&changer, id, patch()).await.unwrap();
        world.advance(Duration::from_secs(3600)).await;
        settle().await;
        assert_eq!(seen(&world.host).pop(), Some(want));
    }
    assert_eq!(world.host.names().len(), 4);
}
