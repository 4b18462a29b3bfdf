//! Threads and their state.

use agentflow_runs::{
    host::HistoryQuery,
    service::{CreateThread, IfExists, PatchThread, StateUpdate},
};
use agentflow_storage::{
    checkpoint::Prune,
    page::PageQuery,
    record::{ThreadQuery, ThreadStatus},
};
use agentflow_types::{ErrorKind, Map, ThreadId, Value, graph::CheckpointRef, value};

use crate::{
    host::GRAPH,
    world::{World, config, refused},
};

fn map(value: Value) -> Map {
    value.as_map().unwrap().clone()
}

#[tokio::test]
async fn a_thread_is_created_once() {
    let world = World::idle(config()).await;
    let thread = world.thread().await;
    let again = |if_exists| CreateThread {
        thread_id: Some(thread),
        metadata: map(value!({"new": 1})),
        if_exists,
        ..CreateThread::default()
    };
    let refusal = world
        .service
        .create_thread(&world.scope, again(IfExists::Raise))
        .await;
    refused(
        refusal,
        ErrorKind::Conflict,
        &format!("Thread with ID {thread} already exists"),
    );
    let found = world
        .service
        .create_thread(&world.scope, again(IfExists::DoNothing))
        .await;
    assert_eq!(found.unwrap().metadata, Map::new());
}

#[tokio::test]
async fn metadata_is_merged() {
    let world = World::idle(config()).await;
    let create = CreateThread {
        metadata: map(value!({"a": 1, "b": 1})),
        ..Default::default()
    };
    let id = world
        .service
        .create_thread(&world.scope, create)
        .await
        .unwrap()
        .thread_id;
    let patch = PatchThread {
        metadata: Some(map(value!({"b": 2}))),
        ttl: None,
    };
    let patched = world
        .service
        .patch_thread(&world.scope, id, patch)
        .await
        .unwrap();
    assert_eq!(patched.metadata, map(value!({"a": 1, "b": 2})));
    let query = ThreadQuery {
        metadata: map(value!({"b": 2})),
        ..ThreadQuery::default()
    };
    let found = world
        .service
        .search_threads(&world.scope, &query, &PageQuery::default())
        .await;
    assert_eq!(found.unwrap().items[0].thread_id, id);
}

#[tokio::test]
async fn an_unused_thread_has_an_empty_state() {
    let world = World::idle(config()).await;
    let id = world.thread().await;
    let state = world
        .service
        .state(&world.scope, id, None, false)
        .await
        .unwrap();
    assert_eq!((state.values, state.created_at), (value!({}), None));
    assert_eq!(state.checkpoint.thread_id, id.text());
    let query = HistoryQuery {
        limit: 10,
        ..HistoryQuery::default()
    };
    let history = world
        .service
        .history(&world.scope, id, query)
        .await
        .unwrap();
    assert!(history.is_empty());
    let update = StateUpdate {
        values: value!({"n": 1}),
        ..StateUpdate::default()
    };
    let refusal = world.service.update_state(&world.scope, id, update).await;
    let text = format!(
        "Thread '{id}' has no assigned graph ID. This usually occurs when no runs have been \
         made on this particular thread."
    );
    refused(refusal, ErrorKind::Invalid, &text);
}

#[tokio::test(start_paused = true)]
async fn state_is_changed_and_looked_back_at() {
    let world = World::new().await;
    let thread = world.thread().await;
    let run = world
        .run(
            thread,
            value!({"do": [["set", {"n": 1}], ["fail", "boom"]]}),
        )
        .await;
    world.join(&run).await;
    let update = StateUpdate {
        values: value!({"n": 2}),
        ..StateUpdate::default()
    };
    let written = world
        .service
        .update_state(&world.scope, thread, update)
        .await
        .unwrap();
    let row = world
        .service
        .get_thread(&world.scope, thread)
        .await
        .unwrap();
    assert_eq!(
        (row.status, row.values, row.error),
        (ThreadStatus::Idle, value!({"n": 2}), Value::Null)
    );
    let query = HistoryQuery {
        limit: 10,
        ..HistoryQuery::default()
    };
    let history = world
        .service
        .history(&world.scope, thread, query)
        .await
        .unwrap();
    let values: Vec<Value> = history.iter().map(|state| state.values.clone()).collect();
    assert_eq!(values, [value!({"n": 2}), value!({"n": 1})]);
    let at = Some(history[1].checkpoint.clone());
    let old = world
        .service
        .state(&world.scope, thread, at, false)
        .await
        .unwrap();
    assert_eq!(old.values, value!({"n": 1}));
    assert_eq!(written, history[0].checkpoint);
    let nowhere = CheckpointRef {
        checkpoint_id: Some("none".into()),
        ..CheckpointRef::default()
    };
    let missing = world
        .service
        .state(&world.scope, thread, Some(nowhere), false)
        .await;
    refused(missing, ErrorKind::NotFound, "Checkpoint not found.");
}

#[tokio::test(start_paused = true)]
async fn the_state_of_a_busy_thread_is_not_changed() {
    let world = World::new().await;
    let thread = world.thread().await;
    world.run(thread, value!({"do": [["wait", "g"]]})).await;
    let update = StateUpdate {
        values: value!({"n": 1}),
        ..StateUpdate::default()
    };
    let refusal = world
        .service
        .update_state(&world.scope, thread, update)
        .await;
    let text = "Thread is busy with a running job. Cannot update state while a run is in flight.";
    refused(refusal, ErrorKind::Conflict, text);
}

#[tokio::test]
async fn a_thread_may_start_with_a_state() {
    let world = World::idle(config()).await;
    let steps = [1, 2].map(|n| vec![(value!({"n": n}), None, Some("asker".to_owned()))]);
    let create = CreateThread {
        graph_id: Some(GRAPH.into()),
        supersteps: steps.to_vec(),
        ..CreateThread::default()
    };
    let thread = world
        .service
        .create_thread(&world.scope, create.clone())
        .await
        .unwrap();
    assert_eq!(thread.values, value!({"n": 2}));
    let query = HistoryQuery {
        limit: 10,
        ..HistoryQuery::default()
    };
    let history = world
        .service
        .history(&world.scope, thread.thread_id, query)
        .await
        .unwrap();
    assert_eq!(history.len(), 2);
    let without = CreateThread {
        graph_id: None,
        ..create
    };
    let refusal = world.service.create_thread(&world.scope, without).await;
    refused(
        refusal,
        ErrorKind::Invalid,
        "supersteps need a graph: set metadata.graph_id",
    );
}

#[tokio::test(start_paused = true)]
async fn a_copy_has_its_own_life() {
    let world = World::new().await;
    let thread = world.thread().await;
    let run = world.run(thread, value!({"do": [["set", {"n": 1}]]})).await;
    world.join(&run).await;
    let copy = world
        .service
        .copy_thread(&world.scope, thread)
        .await
        .unwrap()
        .thread_id;
    let more = world.run(copy, value!({"do": [["set", {"m": 2}]]})).await;
    assert_eq!(world.join(&more).await, value!({"n": 1, "m": 2}));
    let old = world
        .service
        .state(&world.scope, thread, None, false)
        .await
        .unwrap();
    assert_eq!(old.values, value!({"n": 1}));
    let missing = ThreadId(uuid::Uuid::from_u128(9));
    let refusal = world.service.copy_thread(&world.scope, missing).await;
    assert_eq!(refusal.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn pruning_passes_over_what_is_unknown_or_busy() {
    let world = World::new().await;
    let (one, busy) = (world.thread().await, world.thread().await);
    for n in [1, 2] {
        let run = world.run(one, value!({"do": [["set", {"n": n}]]})).await;
        world.join(&run).await;
    }
    world.run(busy, value!({"do": [["wait", "g"]]})).await;
    let unknown = ThreadId(uuid::Uuid::from_u128(9));
    let ids = [one, busy, unknown];
    let pruned = world
        .service
        .prune_threads(&world.scope, &ids, Prune::KeepLatest)
        .await;
    assert_eq!(pruned.unwrap(), 1);
    let query = HistoryQuery {
        limit: 10,
        ..HistoryQuery::default()
    };
    let history = world
        .service
        .history(&world.scope, one, query)
        .await
        .unwrap();
    assert_eq!(history.len(), 1);
    let pruned = world
        .service
        .prune_threads(&world.scope, &ids, Prune::Delete)
        .await
        .unwrap();
    assert_eq!(pruned, 1);
    let gone = world.service.get_thread(&world.scope, one).await;
    refused(
        gone,
        ErrorKind::NotFound,
        &format!("Thread with ID {one} not found"),
    );
}
