//! Scopes hold whatever a filter says, and whoever writes at the same time; over SQLite.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use agentflow_embedded::{Embedded, Options};
use agentflow_memory::{Add, Models, Search, Service, Speech, Which, conformance, text::Language};
use agentflow_storage::{memories::OwnerKind, page::PageQuery};
use agentflow_types::{Map, Result, Scope, SystemClock, Value, value};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

const PROJECT: &str = "p";

struct Open {
    service: Service,
    // Closed and removed after the service.
    _database: Embedded,
    _folder: tempfile::TempDir,
}

fn open() -> Open {
    let folder = tempfile::tempdir().unwrap();
    let database = Embedded::open(folder.path().join("m.db"), Options::default()).unwrap();
    let service = Service::new(
        database.backend(),
        database.vectors(),
        Models::default(),
        Arc::new(SystemClock),
        Language::English,
    );
    Open {
        service,
        _database: database,
        _folder: folder,
    }
}

fn said(user: &str, text: &str) -> Add {
    let mut add = Add {
        messages: vec![Speech {
            role: "user".into(),
            content: text.into(),
            name: None,
        }],
        metadata: [("colour".into(), Value::str("red"))].into(),
        ..Add::default()
    };
    add.owner.set(OwnerKind::User, Some(user.into()));
    add
}

fn search(filter: Map) -> Search {
    Search {
        query: "tea".into(),
        which: Which {
            filter,
            ..Which::default()
        },
        threshold: 0.0,
        ..Search::default()
    }
}

/// A part of a filter that somebody makes up: names of others, negations, stars, metadata.
fn part() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(value!({"user_id": "victim"})),
        Just(value!({"userId": "victim"})),
        Just(value!({"user_id": "*"})),
        Just(value!({"user_id": {"in": ["victim", "alice"]}})),
        Just(value!({"user_id": {"ne": "alice"}})),
        Just(value!({"user_id": {"nin": ["alice"]}})),
        Just(value!({"metadata": {"colour": "red"}})),
        Just(value!({"metadata": {"user_id": "victim"}})),
        Just(value!({"colour": "red"})),
        Just(value!({"project": "p"})),
        Just(value!({"tenant": "default"})),
        Just(value!({"categories": {"in": ["x"]}})),
        Just(value!({"keywords": {"icontains": "TEA"}})),
        Just(value!({})),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let many = prop::collection::vec(inner.clone(), 0..4).prop_map(Value::list);
        prop_oneof![
            many.clone().prop_map(|all| Value::object([("AND", all)])),
            many.clone().prop_map(|all| Value::object([("OR", all)])),
            many.prop_map(|all| Value::object([("NOT", all)])),
            inner.clone().prop_map(|one| Value::object([("NOT", one)])),
            (inner.clone(), inner).prop_map(|(a, b)| {
                let mut both = a.as_map().cloned().unwrap_or_default();
                both.extend(b.as_map().cloned().unwrap_or_default());
                Value::map(both)
            }),
        ]
    })
}

/// Filters that name alice at the root, and something else besides.
fn relative() -> impl Strategy<Value = Map> {
    let alice = prop_oneof![
        Just(value!({"user_id": "alice"})),
        Just(value!({"user_id": {"eq": "alice"}})),
        Just(value!({"user_id": {"in": ["alice"]}})),
        Just(value!({"AND": [{"user_id": "alice"}]})),
    ];
    (
        alice,
        prop::sample::select(vec!["AND", "OR", "NOT"]),
        part(),
    )
        .prop_map(|(alice, word, part)| {
            let mut root = alice.as_map().cloned().unwrap_or_default();
            let more = Value::list(vec![part]);
            match root.get("AND").and_then(Value::as_list) {
                // The name stays one of what must hold.
                Some(all) if word == "AND" => {
                    let all = all.iter().cloned().chain([more]).collect();
                    let flat: Vec<Value> = flattened(all);
                    root.insert("AND".into(), Value::list(flat));
                }
                _ => {
                    root.insert(word.into(), more);
                }
            }
            root
        })
}

fn flattened(all: Vec<Value>) -> Vec<Value> {
    all.into_iter()
        .flat_map(|one| match one.as_list() {
            Some(list) => list.to_vec(),
            None => vec![one],
        })
        .collect()
}

async fn owners_of_hits(service: &Service, filter: &Map) -> Result<Vec<Option<String>>> {
    let scope = Scope::local();
    let found = service
        .search(&scope, PROJECT, &search(filter.clone()))
        .await?;
    let which = search(filter.clone()).which;
    let listed = service
        .list(&scope, PROJECT, &which, &PageQuery::default())
        .await?;
    let found = found.into_iter().map(|one| one.memory);
    Ok(found
        .chain(listed.items)
        .map(|one| one.owner.user_id)
        .collect())
}

#[test]
fn two_hundred_filters_never_leave_their_scope() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let opened = open();
    runtime.block_on(async {
        for user in ["alice", "victim"] {
            let added = opened
                .service
                .add(&Scope::local(), PROJECT, said(user, "my tea"))
                .await;
            added.unwrap();
        }
    });
    let mut hits = 0;
    let config = Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let checked = runner.run(&relative(), |filter| {
        let owners = runtime.block_on(owners_of_hits(&opened.service, &filter));
        // A filter may be refused; what is answered is alice's.
        for owner in owners.into_iter().flatten() {
            prop_assert_eq!(owner.as_deref(), Some("alice"));
        }
        Ok(())
    });
    checked.unwrap();
    let plain = value!({"user_id": "alice"});
    let found = runtime.block_on(owners_of_hits(&opened.service, plain.as_map().unwrap()));
    hits += found.unwrap().len();
    assert_eq!(hits, 2, "alice's own memory is found and listed");
    let escape = value!({"user_id": "alice", "AND": [{"user_id": "victim"}]});
    let found = runtime.block_on(owners_of_hits(&opened.service, escape.as_map().unwrap()));
    assert_eq!(found.unwrap(), Vec::<Option<String>>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_writers_of_a_hundred_tenants_lose_nothing() {
    conformance::ten_writers_of_a_hundred_tenants_lose_nothing(open().service)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_one_memory_lose_no_update() {
    conformance::writers_of_one_memory_lose_no_update(open().service)
        .await
        .unwrap();
}
