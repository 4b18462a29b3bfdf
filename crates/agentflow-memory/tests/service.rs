//! The service over records and an index in memory, with a chat model that says what it is told.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use agentflow_memory::{
    Add, Edit, Export, Models, Project, Search, Service, Speech, Which, text::Language,
};
use agentflow_models::chat::{Chat, ChatRequest, ChatResponse, ChatStream};
use agentflow_storage::{
    memories::{JobStatus, NoteQuery, OwnerKind, State},
    memory::{Memory, VectorIndex},
    page::PageQuery,
    vector::Vectors,
};
use agentflow_types::{
    Clock, Error, ErrorKind, Map, Result, Scope, SystemClock, Timestamp, Value, value,
};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

struct Scripted(Mutex<VecDeque<String>>);

#[async_trait]
impl Chat for Scripted {
    fn provider(&self) -> &str {
        "scripted"
    }
    async fn stream(&self, _: ChatRequest, _: CancellationToken) -> Result<ChatStream> {
        Err(Error::bug("nobody streams here"))
    }
    async fn complete(&self, _: ChatRequest, _: CancellationToken) -> Result<ChatResponse> {
        let next = self.0.lock().unwrap().pop_front();
        let text = next.ok_or_else(|| Error::bug("nothing is left to say"))?;
        Ok(ChatResponse {
            text,
            ..ChatResponse::default()
        })
    }
}

fn service(answers: Option<&[&str]>) -> Service {
    over(answers, Arc::new(VectorIndex::default()))
}

fn over(answers: Option<&[&str]>, vectors: Arc<VectorIndex>) -> Service {
    let chat = answers.map(|all| {
        let all = all.iter().map(|text| (*text).to_owned()).collect();
        let chat: Arc<dyn Chat> = Arc::new(Scripted(Mutex::new(all)));
        (chat, "m".to_owned())
    });
    let models = Models {
        chat,
        ..Models::default()
    };
    Service::new(
        Memory::open(),
        vectors,
        models,
        Arc::new(SystemClock),
        Language::English,
    )
}

fn said(user: &str, text: &str, infer: bool) -> Add {
    let mut add = Add {
        messages: vec![Speech {
            role: "user".into(),
            content: text.into(),
            name: None,
        }],
        infer,
        ..Add::default()
    };
    add.owner.set(OwnerKind::User, Some(user.into()));
    add
}

fn filter(json: Value) -> Map {
    json.as_map().cloned().unwrap()
}

async fn search(service: &Service, query: &str, by: Value) -> Vec<String> {
    let search = Search {
        query: query.into(),
        which: Which {
            filter: filter(by),
            ..Which::default()
        },
        threshold: 0.0,
        ..Search::default()
    };
    let found = service.search(&Scope::local(), "p", &search).await.unwrap();
    found.into_iter().map(|one| one.memory.text).collect()
}

#[tokio::test]
async fn without_a_model_the_turns_are_found_at_once() {
    let (service, scope) = (service(None), Scope::local());
    let added = service
        .add(&scope, "p", said("ada", "I love green tea", true))
        .await
        .unwrap();
    assert_eq!(added.job.status, JobStatus::Succeeded);
    assert!(added.job.error.contains("no chat model"));
    service
        .add(&scope, "p", said("victim", "My tea is secret", false))
        .await
        .unwrap();
    assert_eq!(
        search(&service, "tea", value!({"user_id": "ada"})).await,
        ["I love green tea"]
    );
    let escape = value!({"user_id": "ada", "AND": [{"user_id": "victim"}]});
    assert!(search(&service, "tea", escape).await.is_empty());
    let id = added.memories[0].memory_id;
    let edit = Edit {
        text: Some("I love black coffee".into()),
        ..Edit::default()
    };
    service.update(&scope, "p", id, &edit).await.unwrap();
    assert_eq!(
        search(&service, "coffee", value!({"user_id": "ada"}))
            .await
            .len(),
        1
    );
    service.delete(&scope, "p", id, false).await.unwrap();
    assert!(
        search(&service, "coffee", value!({"user_id": "ada"}))
            .await
            .is_empty()
    );
    assert_eq!(service.history(&scope, "p", id).await.unwrap().len(), 3);
    let gone = service.get(&scope, "p", id, None).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(service.check().await.unwrap().missing, 0);
}

#[tokio::test]
async fn a_fact_replaces_another_and_names_its_turn() {
    let first = r#"{"facts":[{"text":"Ada lives in Paris","speaker":"user","sources":[0],"replaces":[],"merges":[],"categories":[]}]}"#;
    let second = r#"{"facts":[{"text":"Ada lives in Rome","speaker":"user","sources":[0],"replaces":[0],"merges":[],"categories":[]}]}"#;
    let (service, scope) = (service(Some(&[first, second])), Scope::local());
    for text in ["I live in Paris", "I moved to Rome"] {
        let added = service
            .add(&scope, "p", said("ada", text, true))
            .await
            .unwrap();
        assert_eq!(added.job.status, JobStatus::Pending);
        assert_eq!(service.work().await.unwrap(), 1);
        let job = service.event(&scope, "p", added.job.job_id).await.unwrap();
        assert_eq!((job.status, job.results.len()), (JobStatus::Succeeded, 1));
    }
    let which = Which {
        filter: filter(value!({"user_id": "ada"})),
        ..Which::default()
    };
    let all = service
        .list(&scope, "p", &which, &PageQuery::default())
        .await
        .unwrap();
    let states: Vec<(&str, State)> = all
        .items
        .iter()
        .map(|one| (one.text.as_str(), one.state))
        .collect();
    assert_eq!(
        states,
        [
            ("Ada lives in Rome", State::Active),
            ("Ada lives in Paris", State::Superseded)
        ]
    );
    let source = all.items[0].sources[0];
    let turn = service.get(&scope, "p", source, None).await.unwrap();
    assert_eq!(turn.text, "I moved to Rome");
}

#[tokio::test]
async fn nothing_that_was_said_is_dropped() {
    let (service, scope) = (service(Some(&["no", "still no"])), Scope::local());
    let added = service
        .add(&scope, "p", said("ada", "I like tea", true))
        .await
        .unwrap();
    service.work().await.unwrap();
    let job = service.event(&scope, "p", added.job.job_id).await.unwrap();
    assert_eq!(job.status, JobStatus::Succeeded);
    assert!(job.error.contains("could not be used"), "{}", job.error);
    assert_eq!(
        search(&service, "tea", value!({"user_id": "ada"})).await,
        ["I like tea"]
    );
}

#[tokio::test]
async fn an_answer_is_found_by_the_words_of_its_question() {
    let (service, scope) = (service(None), Scope::local());
    // Apart, as clients send them, and together.
    for text in [
        "Which instrument do you play?",
        "The cello, since I was six",
    ] {
        let added = service.add(&scope, "p", said("ada", text, false)).await;
        added.unwrap();
    }
    let mut both = said("bob", "What is your favourite dish?", false);
    both.messages.push(Speech {
        role: "user".into(),
        content: "Mushroom risotto".into(),
        name: None,
    });
    service.add(&scope, "p", both).await.unwrap();
    let found = search(&service, "instrument", value!({"user_id": "ada"})).await;
    assert_eq!(found.len(), 2, "{found:?}");
    let found = search(&service, "favourite dish", value!({"user_id": "bob"})).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(service.check().await.unwrap().missing, 0);
}

#[tokio::test]
async fn a_batch_is_done_as_a_whole_or_not_at_all() {
    let (service, scope) = (service(None), Scope::local());
    let mut ids = Vec::new();
    for text in ["I like tea", "I like rum"] {
        let added = service.add(&scope, "p", said("ada", text, false)).await;
        ids.push(added.unwrap().memories[0].memory_id);
    }
    let edit = |text: &str| Edit {
        text: Some(text.into()),
        ..Edit::default()
    };
    let nobody = agentflow_types::MemoryId::mint();
    let wrong = [(ids[0], edit("gin")), (nobody, edit("ale"))];
    let err = service.update_batch(&scope, "p", &wrong).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotFound);
    let twice = service.delete_batch(&scope, "p", &[ids[0], ids[0]]).await;
    assert_eq!(twice.unwrap_err().kind(), ErrorKind::Invalid);
    let tea = service.get(&scope, "p", ids[0], None).await.unwrap();
    assert_eq!(tea.text, "I like tea");
    let right = [(ids[0], edit("gin")), (ids[1], edit("ale"))];
    assert_eq!(service.update_batch(&scope, "p", &right).await.unwrap(), 2);
    assert_eq!(service.delete_batch(&scope, "p", &ids).await.unwrap(), 2);
    let found = search(&service, "gin ale tea rum", value!({"user_id": "ada"})).await;
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn everything_is_removed_only_if_all_four_owners_are_named() {
    let (service, scope) = (service(None), Scope::local());
    for user in ["ada", "bob"] {
        let added = service
            .add(&scope, "p", said(user, "I like tea", false))
            .await;
        added.unwrap();
    }
    let all = |filter: Value| filter.as_map().cloned().unwrap();
    let none = service.delete_all(&scope, "p", &all(value!({}))).await;
    assert_eq!(none.unwrap_err().kind(), ErrorKind::Invalid);
    let apps = value!({"user_id": "*", "agent_id": "*", "app_id": "*"});
    let deleted = service.delete_all(&scope, "p", &all(apps)).await.unwrap();
    assert_eq!(deleted.memories, 0);
    let every = value!({"user_id": "*", "agent_id": "*", "app_id": "*", "run_id": "*"});
    let deleted = service.delete_all(&scope, "p", &all(every)).await.unwrap();
    assert_eq!(deleted.memories, 2);
}

#[tokio::test]
async fn what_was_made_of_memories_goes_with_them() {
    let (service, scope) = (service(None), Scope::local());
    for user in ["ada", "bob"] {
        for text in ["I like tea", "I sail", "I paint"] {
            let added = service.add(&scope, "p", said(user, text, false)).await;
            added.unwrap();
        }
    }
    let mut exports = Vec::new();
    for user in ["ada", "bob"] {
        let export = Export {
            schema: value!({"type": "object"}),
            filter: filter(value!({ "user_id": user })),
            instructions: None,
        };
        let export = service.export(&scope, "p", &export).await.unwrap().job_id;
        let profile = service.describe(&scope, "p", user).await.unwrap().job_id;
        for job in [export, profile] {
            service.work().await.unwrap();
            let job = service.event(&scope, "p", job).await.unwrap();
            assert_eq!(job.status, JobStatus::Succeeded);
        }
        exports.push(export.text());
    }
    let ada = filter(value!({"user_id": "ada"}));
    service.delete_all(&scope, "p", &ada).await.unwrap();
    let is_there = async |export: &str, user: &str| {
        let export = service.exported(&scope, "p", Ok(export)).await;
        let profile = service.profile(&scope, "p", user).await.unwrap();
        (export.is_ok(), profile.is_some())
    };
    assert_eq!(is_there(&exports[0], "ada").await, (false, false));
    assert_eq!(is_there(&exports[1], "bob").await, (true, true));
    let every = value!({"user_id": "*", "agent_id": "*", "app_id": "*", "run_id": "*"});
    service
        .delete_all(&scope, "p", &filter(every))
        .await
        .unwrap();
    assert_eq!(is_there(&exports[1], "bob").await, (false, false));
}

#[tokio::test]
async fn what_was_used_lately_comes_first_where_a_project_wants_it() {
    let scope = Scope::local();
    for wants in [false, true] {
        let service = service(None);
        let project = Project {
            decay: wants,
            ..Project::default()
        };
        service.put_project(&scope, "p", &project).await.unwrap();
        let long_ago = Timestamp(SystemClock.now().0 - 200 * 86_400 * 1_000_000);
        let mut ids = Vec::new();
        for text in ["green tea in a cup", "green tea in a pot"] {
            let mut add = said("ada", text, false);
            add.happened_at = Some(long_ago);
            let added = service.add(&scope, "p", add).await.unwrap();
            ids.push(added.memories[0].memory_id);
        }
        let ada = value!({"user_id": "ada"});
        let one = Search {
            query: "cup".into(),
            which: Which {
                filter: filter(ada.clone()),
                ..Which::default()
            },
            top_k: 1,
            threshold: 0.0,
            ..Search::default()
        };
        for _ in 0..3 {
            let found = service.search(&scope, "p", &one).await.unwrap();
            assert_eq!(found[0].memory.memory_id, ids[0]);
        }
        // The pot fits better; the cup was found often.
        let both = search(&service, "green tea in a pot", ada.clone()).await;
        let first = if wants {
            "green tea in a cup"
        } else {
            "green tea in a pot"
        };
        assert_eq!((both.len(), both[0].as_str()), (2, first), "{wants}");
        let gone = service.delete_all(&scope, "p", &filter(ada)).await.unwrap();
        assert_eq!(gone.memories, 2);
    }
}

#[tokio::test]
async fn a_collection_that_was_lost_is_made_and_filled_again() {
    let vectors = Arc::new(VectorIndex::default());
    let (service, scope) = (over(None, vectors.clone()), Scope::local());
    let add = |text: &str| service.add(&scope, "p", said("ada", text, false));
    add("I like tea").await.unwrap();
    for collection in vectors.collections().await.unwrap() {
        assert!(vectors.drop_collection(&collection.name).await.unwrap());
    }
    // Stored all the same, and found in the records.
    add("I like rum").await.unwrap();
    assert_eq!(
        search(&service, "tea", value!({"user_id": "ada"}))
            .await
            .len(),
        2
    );
    service.deliver().await.unwrap();
    assert_eq!(service.check().await.unwrap().missing, 0);
    let found = search(&service, "rum", value!({"user_id": "ada"})).await;
    assert_eq!(found, ["I like rum"]);
}

#[tokio::test]
async fn the_newest_notes_of_a_kind_are_kept() {
    let (service, scope) = (service(None), Scope::local());
    for key in ["a", "b", "c", "d"] {
        let body = filter(value!({ "of": key }));
        service
            .put_note(&scope, "p", "kind", key, body)
            .await
            .unwrap();
    }
    let other = service.put_note(&scope, "p", "other", "a", Map::new());
    other.await.unwrap();
    service.keep_newest(&scope, "p", "kind", 2).await.unwrap();
    let query = |kind: &str| NoteQuery {
        project: "p".into(),
        kind: kind.into(),
        limit: 10,
        offset: 0,
    };
    let kept = service.notes(&scope, &query("kind")).await.unwrap().items;
    let kept: Vec<&str> = kept.iter().map(|note| &*note.key).collect();
    assert_eq!(kept, ["c", "d"]);
    assert_eq!(
        service.notes(&scope, &query("other")).await.unwrap().total,
        1
    );
    let again = service.put_note(&scope, "p", "kind", "a", Map::new()).await;
    assert!(again.unwrap().body.is_empty());
}
