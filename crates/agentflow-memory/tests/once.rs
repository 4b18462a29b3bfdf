//! What is added under a key is added once.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use agentflow_memory::{Add, Models, Service, Speech, Which, text::Language};
use agentflow_storage::{
    Backend,
    memories::OwnerKind,
    memory::{Memory, VectorIndex},
    page::PageQuery,
};
use agentflow_types::{ErrorKind, MemoryScope, Scope, SystemClock};

fn service() -> Service {
    over(Memory::open())
}

fn over(backend: Backend) -> Service {
    Service::new(
        backend,
        Arc::new(VectorIndex::default()),
        Models::default(),
        Arc::new(SystemClock),
        Language::English,
    )
}

fn said(user: &str, text: &str) -> Add {
    let mut add = Add {
        messages: vec![Speech {
            role: "user".into(),
            content: text.into(),
            name: None,
        }],
        ..Add::default()
    };
    add.owner.set(OwnerKind::User, Some(user.into()));
    add
}

async fn texts(service: &Service, scope: &Scope, project: &str) -> Vec<String> {
    let (which, page) = (Which::default(), PageQuery::default());
    let found = service.list(scope, project, &which, &page);
    let mut texts: Vec<String> = found
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|m| m.text)
        .collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn a_key_adds_once() {
    let (backend, scope) = (Memory::open(), Scope::local());
    let first = over(backend.clone());
    let added = first
        .add_once(&scope, "p", "k", said("ada", "tea"))
        .await
        .unwrap();
    assert_eq!((added.memories.len(), added.job.results.len()), (1, 1));
    // Another process, and a text that came out otherwise.
    let second = over(backend);
    for text in ["tea", "coffee"] {
        let again = second
            .add_once(&scope, "p", "k", said("ada", text))
            .await
            .unwrap();
        assert_eq!((again.job, again.memories), (added.job.clone(), vec![]));
    }
    assert_eq!(texts(&second, &scope, "p").await, ["tea"]);
    // Other keys, projects and tenants are not concerned.
    let other = Scope::new("other", "somebody");
    for (scope, project, key) in [(&scope, "p", "k2"), (&scope, "q", "k"), (&other, "p", "k")] {
        let added = first
            .add_once(scope, project, key, said("ada", "milk"))
            .await
            .unwrap();
        assert_eq!(added.memories.len(), 1);
    }
    assert_eq!(texts(&first, &scope, "p").await, ["milk", "tea"]);
    assert_eq!(texts(&first, &other, "p").await, ["milk"]);
}

#[tokio::test]
async fn many_at_once_add_once() {
    let (service, scope) = (service(), Scope::local());
    let add = |n: usize| {
        let (service, scope) = (service.clone(), scope.clone());
        tokio::spawn(async move {
            let said = said("ada", &format!("tea {n}"));
            service.add_once(&scope, "p", "k", said).await.unwrap().job
        })
    };
    let adds: Vec<_> = (0..16).map(add).collect();
    let mut jobs = Vec::new();
    for add in adds {
        jobs.push(add.await.unwrap());
    }
    assert!(jobs.iter().all(|job| *job == jobs[0]));
    assert_eq!(texts(&service, &scope, "p").await.len(), 1);
}

#[tokio::test]
async fn a_key_that_was_refused_is_free() {
    let service = service();
    let limit = MemoryScope::parse(r#"{"user_id": "alice"}"#).unwrap();
    let alice = Scope::local().within(limit);
    let refused = service.add_once(&alice, "p", "k", said("bob", "tea")).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
    assert!(texts(&service, &Scope::local(), "p").await.is_empty());
    service
        .add_once(&alice, "p", "k", said("alice", "tea"))
        .await
        .unwrap();
    assert_eq!(texts(&service, &alice, "p").await, ["tea"]);
    // What others added under the key is not shown to a limit, and nothing is added.
    let local = Scope::local();
    service
        .add_once(&local, "p", "theirs", said("alice", "secret"))
        .await
        .unwrap();
    let hidden = service
        .add_once(&alice, "p", "theirs", said("alice", "milk"))
        .await;
    assert_eq!(hidden.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(texts(&service, &alice, "p").await, ["secret", "tea"]);
}
