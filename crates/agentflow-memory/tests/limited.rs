//! A scope that is limited to some memories reads, changes and adds nothing else, whatever it
//! asks with; over SQLite.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use agentflow_embedded::{Embedded, Options};
use agentflow_memory::{
    Add, Edit, Export, Feedback, Models, Project, Search, Service, Speech, Verdict, WebhookPatch,
    Which, text::Language,
};
use agentflow_storage::{
    memories::{JobQuery, JobStatus, OwnerKind},
    page::PageQuery,
};
use agentflow_types::{
    ErrorKind, Map, MemoryId, MemoryScope, Result, Scope, SystemClock, Value, value,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

const PROJECT: &str = "default";

struct Open {
    service: Service,
    alice: MemoryId,
    victim: MemoryId,
    // Closed and removed after the service.
    _database: Embedded,
    _folder: tempfile::TempDir,
}

fn limited() -> Scope {
    Scope::local().within(MemoryScope::parse(r#"{"user_id":"alice"}"#).unwrap())
}

fn said(user: &str, team: &str) -> Add {
    let mut add = Add {
        messages: vec![Speech {
            role: "user".into(),
            content: format!("tea is what {user} likes"),
            name: None,
        }],
        metadata: [("team".into(), Value::str(team))].into(),
        ..Add::default()
    };
    add.owner.set(OwnerKind::User, Some(user.into()));
    add
}

async fn open() -> Open {
    let folder = tempfile::tempdir().unwrap();
    let database = Embedded::open(folder.path().join("m.db"), Options::default()).unwrap();
    let service = Service::new(
        database.backend(),
        database.vectors(),
        Models::default(),
        Arc::new(SystemClock),
        Language::English,
    );
    let mut ids = Vec::new();
    for user in ["alice", "victim"] {
        let added = service
            .add(&Scope::local(), PROJECT, said(user, "red"))
            .await;
        ids.push(added.unwrap().memories[0].memory_id);
    }
    Open {
        service,
        alice: ids[0],
        victim: ids[1],
        _database: database,
        _folder: folder,
    }
}

fn map(value: &Value) -> Map {
    value.as_map().unwrap().clone()
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

async fn users(service: &Service, scope: &Scope, filter: Map) -> Result<Vec<Option<String>>> {
    let which = Which {
        filter,
        include_sources: true,
        show_expired: true,
        include_merged: true,
        ..Which::default()
    };
    let search = Search {
        query: "tea".into(),
        which: which.clone(),
        threshold: 0.0,
        explain: true,
        ..Search::default()
    };
    let found = service.search(scope, PROJECT, &search).await?;
    let page = PageQuery::default();
    let listed = service.list(scope, PROJECT, &which, &page).await?.items;
    let found = found.into_iter().map(|one| one.memory);
    Ok(found.chain(listed).map(|one| one.owner.user_id).collect())
}

/// Any filter: it need not name anybody.
fn filter() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(value!({})),
        Just(value!({"user_id": "victim"})),
        Just(value!({"userId": "victim"})),
        Just(value!({"user_id": "*"})),
        Just(value!({"user_id": {"in": ["victim", "alice"]}})),
        Just(value!({"user_id": {"ne": "alice"}})),
        Just(value!({"user_id": {"nin": ["alice"]}})),
        Just(value!({"metadata": {"team": "red"}})),
        Just(value!({"metadata": {"user_id": "victim"}})),
        Just(value!({"keywords": {"icontains": "TEA"}})),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let many = prop::collection::vec(inner.clone(), 0..4).prop_map(Value::list);
        prop_oneof![
            many.clone().prop_map(|all| Value::object([("AND", all)])),
            many.clone().prop_map(|all| Value::object([("OR", all)])),
            many.prop_map(|all| Value::object([("NOT", all)])),
            (inner.clone(), inner).prop_map(|(a, b)| {
                let mut both = map(&a);
                both.extend(map(&b));
                Value::map(both)
            }),
        ]
    })
}

#[test]
fn no_filter_leads_out_of_a_limit() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let opened = runtime.block_on(open());
    let config = Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let checked = TestRunner::new(config).run(&filter(), |filter| {
        let scope = limited();
        let found = users(&opened.service, &scope, map(&filter));
        for owner in runtime.block_on(found).into_iter().flatten() {
            prop_assert_eq!(owner.as_deref(), Some("alice"));
        }
        Ok(())
    });
    checked.unwrap();
    let all = |scope: Scope| {
        let found = users(&opened.service, &scope, Map::new());
        runtime.block_on(found).unwrap()
    };
    let alice = Some("alice".to_owned());
    assert_eq!(all(limited()), [alice.clone(), alice]);
    assert_eq!(all(Scope::local()).len(), 4, "both are there");
}

#[tokio::test]
async fn what_is_outside_is_not_there() {
    let opened = open().await;
    let (service, scope, id) = (&opened.service, limited(), opened.victim);
    let edit = Edit {
        text: Some("coffee".into()),
        ..Edit::default()
    };
    let gone = ErrorKind::NotFound;
    assert_eq!(kind(service.get(&scope, PROJECT, id, None).await), gone);
    assert_eq!(kind(service.update(&scope, PROJECT, id, &edit).await), gone);
    assert_eq!(kind(service.delete(&scope, PROJECT, id, true).await), gone);
    let both = [(opened.alice, edit.clone()), (id, edit.clone())];
    assert_eq!(
        kind(service.update_batch(&scope, PROJECT, &both).await),
        gone
    );
    let both = [opened.alice, id];
    assert_eq!(
        kind(service.delete_batch(&scope, PROJECT, &both).await),
        gone
    );
    let feedback = Feedback {
        memory_id: id,
        feedback: Some(Verdict::Negative),
        reason: None,
    };
    assert_eq!(
        kind(service.feedback(&scope, PROJECT, &feedback).await),
        gone
    );
    let history = service.history(&scope, PROJECT, id).await;
    assert!(history.is_err() || history.unwrap().is_empty());
    let changes = service.changes(&scope, PROJECT, 100, 0).await.unwrap();
    assert_eq!(
        (changes.total, changes.items[0].memory_id),
        (1, opened.alice)
    );
    let entities = service
        .entities(&scope, PROJECT, None, 100, 0)
        .await
        .unwrap();
    assert_eq!((entities.total, &*entities.items[0].name), (1, "alice"));
    // Its own is as always.
    service
        .update(&scope, PROJECT, opened.alice, &edit)
        .await
        .unwrap();
    assert_eq!(
        service
            .history(&scope, PROJECT, opened.alice)
            .await
            .unwrap()
            .len(),
        2
    );
    let still = service
        .get(&Scope::local(), PROJECT, id, None)
        .await
        .unwrap();
    assert_eq!(still.version, 1);
}

#[tokio::test]
async fn what_is_added_and_changed_stays_within() {
    let opened = open().await;
    let service = &opened.service;
    let denied = ErrorKind::Denied;
    assert_eq!(
        kind(
            service
                .add(&limited(), PROJECT, said("victim", "red"))
                .await
        ),
        denied
    );
    let mut nobody = said("alice", "red");
    nobody.owner.set(OwnerKind::User, None);
    nobody.owner.set(OwnerKind::Agent, Some("alice".into()));
    assert_eq!(kind(service.add(&limited(), PROJECT, nobody).await), denied);
    service
        .add(&limited(), PROJECT, said("alice", "blue"))
        .await
        .unwrap();
    let red = MemoryScope::parse(r#"{"user_id":"alice","metadata":{"team":"red"}}"#).unwrap();
    let red = Scope::local().within(red);
    assert_eq!(
        kind(service.add(&red, PROJECT, said("alice", "blue")).await),
        denied
    );
    let leave = Edit {
        metadata: Some([("team".into(), Value::str("blue"))].into()),
        ..Edit::default()
    };
    assert_eq!(
        kind(service.update(&red, PROJECT, opened.alice, &leave).await),
        denied
    );
    let found = users(service, &red, Map::new()).await.unwrap();
    assert_eq!(found.len(), 2, "the blue one is neither found nor listed");
    // A star is a name, not everybody's.
    let star = Scope::local().within(MemoryScope::parse(r#"{"user_id":"*"}"#).unwrap());
    assert_eq!(users(service, &star, Map::new()).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_wipe_takes_what_is_within_at_once_and_in_the_background() {
    for in_background in [false, true] {
        let opened = open().await;
        let service = &opened.service;
        let every = OwnerKind::ALL
            .map(|kind| (kind.field().into(), Value::str("*")))
            .into();
        match in_background {
            false => {
                let deleted = service
                    .delete_all(&limited(), PROJECT, &every)
                    .await
                    .unwrap();
                assert_eq!(deleted.memories, 1);
            }
            true => {
                let job = service.forget(&limited(), PROJECT, &every).await.unwrap();
                assert_eq!(service.work().await.unwrap(), 1);
                let job = service
                    .event(&limited(), PROJECT, job.job_id)
                    .await
                    .unwrap();
                assert_eq!(job.status, JobStatus::Succeeded);
            }
        }
        let left = users(service, &Scope::local(), Map::new()).await.unwrap();
        assert_eq!(left, [Some("victim".into()), Some("victim".into())]);
    }
}

#[tokio::test]
async fn work_exports_and_profiles_of_others_are_not_shown() {
    let opened = open().await;
    let (service, all, scope) = (&opened.service, Scope::local(), limited());
    let export = |user: &str| Export {
        schema: value!({"type": "object"}),
        filter: map(&value!({"user_id": user})),
        instructions: None,
    };
    let theirs = service
        .export(&all, PROJECT, &export("victim"))
        .await
        .unwrap();
    let own = service
        .export(&scope, PROJECT, &export("alice"))
        .await
        .unwrap();
    let crossing = service
        .export(&scope, PROJECT, &export("victim"))
        .await
        .unwrap();
    service.work().await.unwrap();
    let text = |id: String| async move {
        let found = service.exported(&limited(), PROJECT, Ok(&id)).await;
        found.map(|value| value.json_text())
    };
    assert_eq!(kind(text(theirs.job_id.text()).await), ErrorKind::NotFound);
    assert!(text(own.job_id.text()).await.unwrap().contains("alice"));
    assert!(
        !text(crossing.job_id.text())
            .await
            .unwrap()
            .contains("victim")
    );
    let victims = export("victim").filter;
    let by_filter = service
        .exported(&scope, PROJECT, Err(&victims))
        .await
        .unwrap();
    assert!(
        !by_filter.json_text().contains("tea"),
        "its own crossing one: {by_filter}"
    );
    let query = JobQuery {
        project: PROJECT.into(),
        limit: 100,
        ..JobQuery::default()
    };
    let jobs = service.events(&scope, &query).await.unwrap();
    assert_eq!(jobs.total, 2);
    assert_eq!(
        kind(service.event(&scope, PROJECT, theirs.job_id).await),
        ErrorKind::NotFound
    );
    service.describe(&all, PROJECT, "victim").await.unwrap();
    service.describe(&scope, PROJECT, "alice").await.unwrap();
    service.work().await.unwrap();
    assert_eq!(
        service.profile(&scope, PROJECT, "victim").await.unwrap(),
        None
    );
    assert!(
        service
            .profile(&scope, PROJECT, "alice")
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(
        kind(service.describe(&scope, PROJECT, "victim").await),
        ErrorKind::Denied
    );
    let summary = service
        .summary(&scope, PROJECT, &export("victim").filter)
        .await
        .unwrap();
    assert_eq!(summary, "");
}

#[tokio::test]
async fn settings_and_webhooks_are_for_who_is_not_limited() {
    let opened = open().await;
    let (service, scope) = (&opened.service, limited());
    let hook = WebhookPatch {
        name: None,
        url: Some("https://evil.example/".into()),
        event_types: Some(vec!["memory_add".into()]),
    };
    let denied = ErrorKind::Denied;
    assert_eq!(
        kind(service.create_webhook(&scope, PROJECT, hook.clone()).await),
        denied
    );
    assert_eq!(kind(service.webhooks(&scope, PROJECT).await), denied);
    let made = service
        .create_webhook(&Scope::local(), PROJECT, hook.clone())
        .await
        .unwrap();
    let id = made.webhook_id.as_str();
    assert_eq!(kind(service.update_webhook(&scope, id, hook).await), denied);
    assert_eq!(kind(service.delete_webhook(&scope, id).await), denied);
    assert_eq!(kind(service.create_project(&scope, "p", "").await), denied);
    let settings = Project::default();
    assert_eq!(
        kind(service.put_project(&scope, PROJECT, &settings).await),
        denied
    );
    // The webhook of the project still hears of what a limited scope adds.
    service
        .add(&scope, PROJECT, said("alice", "red"))
        .await
        .unwrap();
}
