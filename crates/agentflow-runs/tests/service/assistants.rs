//! Assistants and their versions.

use agentflow_runs::service::{CreateAssistant, DeleteThreads, IfExists, PatchAssistant};
use agentflow_storage::{page::PageQuery, record::AssistantQuery};
use agentflow_types::{AssistantId, ErrorKind, Map, Value, value};

use crate::{
    host::GRAPH,
    world::{World, config, refused},
};

fn map(value: Value) -> Map {
    value.as_map().unwrap().clone()
}

fn create() -> CreateAssistant {
    CreateAssistant {
        graph_id: GRAPH.into(),
        ..CreateAssistant::default()
    }
}

#[tokio::test]
async fn each_graph_has_an_assistant_from_the_start() {
    let world = World::idle(config()).await;
    let found = world
        .service
        .resolve_assistant(&world.scope, GRAPH)
        .await
        .unwrap();
    assert_eq!(found.assistant_id, AssistantId::system(GRAPH));
    assert_eq!(found.metadata, map(value!({"created_by": "system"})));
    let drawing = world.service.drawing(&world.scope, GRAPH, 2).await.unwrap();
    assert_eq!(drawing.nodes[0].id, "asker 2");
    let (graph, schemas) = world.service.schemas(&world.scope, GRAPH).await.unwrap();
    assert_eq!(graph, GRAPH);
    assert!(schemas.input_schema.is_some());
    let subgraphs = world
        .service
        .subgraphs(&world.scope, GRAPH, Some("b"), true)
        .await
        .unwrap();
    assert_eq!(subgraphs[0].0, "b");
}

#[tokio::test]
async fn an_assistant_is_created_once() {
    let world = World::idle(config()).await;
    let first = world
        .service
        .create_assistant(&world.scope, create())
        .await
        .unwrap();
    assert_eq!((first.name.as_str(), first.version), ("Untitled", 1));
    let again = || CreateAssistant {
        assistant_id: Some(first.assistant_id),
        ..create()
    };
    let refusal = world.service.create_assistant(&world.scope, again()).await;
    let text = format!("Assistant with ID {} already exists", first.assistant_id);
    refused(refusal, ErrorKind::Conflict, &text);
    let lenient = CreateAssistant {
        if_exists: IfExists::DoNothing,
        ..again()
    };
    let found = world
        .service
        .create_assistant(&world.scope, lenient)
        .await
        .unwrap();
    assert_eq!(found, first);
}

#[tokio::test]
async fn an_unknown_graph_is_named() {
    let world = World::idle(config()).await;
    let unknown = CreateAssistant {
        graph_id: "zzz".into(),
        ..CreateAssistant::default()
    };
    let created = world.service.create_assistant(&world.scope, unknown).await;
    let text = "Graph 'zzz' not found. Expected one of: [\"scripted\"]";
    refused(created, ErrorKind::NotFound, text);
}

#[tokio::test]
async fn settings_and_context_mirror_each_other() {
    let world = World::idle(config()).await;
    let by_context = CreateAssistant {
        context: map(value!({"a": 1})),
        ..create()
    };
    let made = world
        .service
        .create_assistant(&world.scope, by_context)
        .await
        .unwrap();
    assert_eq!(made.config, map(value!({"configurable": {"a": 1}})));
    let by_config = CreateAssistant {
        config: map(value!({"configurable": {"b": 1}})),
        ..create()
    };
    let made = world
        .service
        .create_assistant(&world.scope, by_config)
        .await
        .unwrap();
    assert_eq!(made.context, map(value!({"b": 1})));
    let both = CreateAssistant {
        config: map(value!({"configurable": {"b": 1}})),
        context: map(value!({"a": 1})),
        ..create()
    };
    let text = "Cannot specify both configurable and context. Prefer setting context alone.";
    let made = world.service.create_assistant(&world.scope, both).await;
    refused(made, ErrorKind::Invalid, text);
}

#[tokio::test]
async fn a_change_is_a_new_version() {
    let world = World::idle(config()).await;
    let first = CreateAssistant {
        metadata: map(value!({"a": 1})),
        ..create()
    };
    let id = world
        .service
        .create_assistant(&world.scope, first)
        .await
        .unwrap()
        .assistant_id;
    let patch = PatchAssistant {
        name: Some("Two".into()),
        metadata: Some(map(value!({"b": 2}))),
        ..PatchAssistant::default()
    };
    let second = world
        .service
        .update_assistant(&world.scope, id, patch)
        .await
        .unwrap();
    assert_eq!((second.version, second.name.as_str()), (2, "Two"));
    assert_eq!(second.metadata, map(value!({"a": 1, "b": 2})));
    let versions = world
        .service
        .assistant_versions(&world.scope, id, &Map::new(), 10, 0)
        .await
        .unwrap();
    assert_eq!(
        versions.iter().map(|v| v.version).collect::<Vec<_>>(),
        [2, 1]
    );
    let old = world.service.set_latest(&world.scope, id, 1).await.unwrap();
    assert_eq!((old.version, old.name.as_str()), (1, "Untitled"));
    let selected = world.service.get_assistant(&world.scope, id).await.unwrap();
    assert_eq!(selected.version, 1);
    let none = world.service.set_latest(&world.scope, id, 9).await;
    assert_eq!(none.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn assistants_are_searched() {
    let world = World::idle(config()).await;
    let named = CreateAssistant {
        name: Some("Bird".into()),
        ..create()
    };
    world
        .service
        .create_assistant(&world.scope, named)
        .await
        .unwrap();
    let query = AssistantQuery {
        name: Some("bir".into()),
        ..AssistantQuery::default()
    };
    let page = PageQuery::default();
    let found = world
        .service
        .search_assistants(&world.scope, &query, &page)
        .await
        .unwrap();
    assert_eq!((found.total, found.items[0].name.as_str()), (1, "Bird"));
}

#[tokio::test(start_paused = true)]
async fn an_assistant_may_take_its_threads_along() {
    let world = World::new().await;
    let thread = world.thread().await;
    let run = world.run(thread, Value::Null).await;
    world.join(&run).await;
    let id = run.assistant_id;
    world
        .service
        .delete_assistant(&world.scope, id, DeleteThreads::Yes)
        .await
        .unwrap();
    let gone = world.service.get_thread(&world.scope, thread).await;
    refused(
        gone,
        ErrorKind::NotFound,
        &format!("Thread with ID {thread} not found"),
    );
    let gone = world
        .service
        .delete_assistant(&world.scope, id, DeleteThreads::No)
        .await;
    refused(
        gone,
        ErrorKind::NotFound,
        &format!("Assistant with ID {id} not found"),
    );
}
