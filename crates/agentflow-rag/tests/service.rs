//! The document service over the in-memory backend and SQLite.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agentflow_models::chat::Embed;
use agentflow_rag::{
    Declared, Limits, Parsed, Refusal, Service, parse,
    service::{Body, Caller, Document, Fusion, Parse, Search, Status, Upload, ids},
};
use agentflow_storage::{
    Backend,
    documents::EntryKind,
    memory::{Memory, VectorIndex},
    page::PageQuery,
    vector::Vectors,
};
use agentflow_text::Language;
use agentflow_types::{
    Clock, Error, ErrorKind, ManualClock, Map, Result, Scope, Timestamp, Value, value,
};
use async_trait::async_trait;
use uuid::Uuid;

/// Words as directions, so that texts with words in common are near each other.
#[derive(Default)]
struct Words {
    is_away: AtomicBool,
}

#[async_trait]
impl Embed for Words {
    async fn embed(&self, _: &str, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Error::busy("the model is away"));
        }
        let vector = |text: &String| {
            let mut vector = vec![0.01_f32; 64];
            for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()) {
                let sum: usize = word.bytes().map(usize::from).sum();
                vector[sum % 64] += word.len() as f32;
            }
            vector
        };
        Ok(texts.iter().map(vector).collect())
    }
}

/// Reads in this process: what is tested here is not the parser.
struct Here;

#[async_trait]
impl Parse for Here {
    async fn parse(&self, bytes: &[u8], declared: &Declared) -> Result<Parsed, Refusal> {
        parse(bytes, declared, &Limits::default())
    }
}

struct Setting {
    service: Service,
    backend: Backend,
    vectors: Arc<dyn Vectors>,
    words: Arc<Words>,
    clock: Arc<ManualClock>,
}

fn over(backend: Backend, vectors: Arc<dyn Vectors>) -> Setting {
    let words = Arc::new(Words::default());
    let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000_000)));
    let embed = Some((words.clone() as _, "words".to_owned()));
    let about = (clock.clone() as Arc<dyn Clock>, Language::English);
    let service = Service::new(
        backend.clone(),
        vectors.clone(),
        embed,
        Arc::new(Here),
        about,
    );
    Setting {
        service,
        backend,
        vectors,
        words,
        clock,
    }
}

fn setting() -> Setting {
    over(Memory::open(), Arc::new(VectorIndex::default()))
}

async fn caller(setting: &Setting, name: &str) -> Caller {
    let user = ids::user(name);
    setting
        .service
        .caller(&Scope::local(), user, false)
        .await
        .unwrap()
}

fn text(text: &str) -> Upload {
    Upload {
        id: None,
        body: Body::Text(text.into()),
        collections: None,
        metadata: Map::new(),
        settings: Default::default(),
    }
}

fn map(json: Value) -> Map {
    json.as_map().cloned().unwrap()
}

fn search(query: &str) -> Search {
    Search {
        query: query.into(),
        semantic: true,
        full_text: true,
        filters: Map::new(),
        limit: 10,
        offset: 0,
        fusion: Fusion::default(),
    }
}

impl Setting {
    async fn add(&self, caller: &Caller, upload: Upload) -> Document {
        let made = self.service.create(&Scope::local(), caller, upload).await;
        let id = made.unwrap().id();
        self.service.work().await.unwrap();
        let scope = Scope::local();
        let found = self.service.document(&scope, caller, id).await;
        found.unwrap()
    }

    async fn found(&self, caller: &Caller, query: &str) -> Vec<String> {
        let (scope, search) = (Scope::local(), search(query));
        let hits = self.service.search(&scope, caller, &search).await;
        let hits = hits.unwrap();
        hits.iter().map(|hit| hit.chunk.text().to_owned()).collect()
    }

    /// Records and index agree, and nothing is kept that no document names.
    async fn is_clean(&self) {
        let drift = self.service.check().await.unwrap();
        assert_eq!((drift.missing, drift.orphans), (0, 0), "{drift:?}");
        let documents = &self.backend.documents;
        let named = documents.marks(EntryKind::Document, None, 1_000).await;
        let kept = documents.blobs(None, 1_000).await.unwrap();
        let kept = kept.iter().filter(|blob| blob.is_kept).count();
        assert_eq!(named.unwrap().len(), kept);
    }
}

#[tokio::test]
async fn a_text_is_stored_found_and_removed() {
    let setting = setting();
    let ada = caller(&setting, "ada@example.com").await;
    let long = "Aristotle taught Alexander. ".repeat(100);
    let document = setting.add(&ada, text(&long)).await;
    assert_eq!(document.status(), Status::Success);
    assert_eq!(document.size(), long.len() as u64);
    assert_eq!(
        document.collections(),
        [ids::default_collection(ids::user("ada@example.com"))]
    );
    let (done, all) = document.progress();
    assert!(done > 2 && all == Some(done), "{done} {all:?}");
    let found = setting.found(&ada, "Who taught Alexander?").await;
    assert_eq!(found.len(), done as usize);
    let bytes = setting
        .service
        .download(&Scope::local(), &ada, document.id())
        .await;
    assert_eq!(bytes.unwrap(), long.as_bytes());
    setting.is_clean().await;
    let scope = Scope::local();
    setting
        .service
        .delete(&scope, &ada, document.id())
        .await
        .unwrap();
    assert!(setting.found(&ada, "Alexander").await.is_empty());
    assert!(
        setting
            .backend
            .documents
            .blobs(None, 9)
            .await
            .unwrap()
            .is_empty()
    );
    setting.is_clean().await;
    setting.service.work().await.unwrap();
    let gone = setting.service.document(&scope, &ada, document.id()).await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn files_are_read_by_what_they_are() {
    let setting = setting();
    let ada = caller(&setting, "ada").await;
    let file = |name: &str, bytes: &[u8], metadata| Upload {
        body: Body::File {
            name: name.into(),
            mime: None,
            bytes: bytes.to_vec(),
        },
        metadata,
        ..text("")
    };
    // A title without an extension does not hide what the file is.
    let titled = map(value!({"title": "My report"}));
    let html = b"<html><body><h1>Rivers</h1><p>The Rhine is long.</p></body></html>";
    let page = setting.add(&ada, file("page.html", html, titled)).await;
    assert_eq!((page.status(), page.kind()), (Status::Success, "html"));
    assert_eq!(page.title(), Some("My report"));
    let hits = setting
        .service
        .search(&Scope::local(), &ada, &search("Rhine"))
        .await
        .unwrap();
    let metadata = hits[0].chunk.metadata(&hits[0].document);
    assert_eq!(metadata.get("title"), Some(&"My report".into()));
    assert_eq!(metadata.get("chunk_order"), Some(&Value::Int(0)));
    // NUL bytes in a text do not leave it half done.
    let nul = setting
        .add(
            &ada,
            file("nul.txt", b"before\0after the Danube", Map::new()),
        )
        .await;
    assert!(nul.status().is_over(), "{:?}", nul.status());
    let broken = setting
        .add(&ada, file("broken.pdf", b"%PDF-1.7 nothing", Map::new()))
        .await;
    assert_eq!(broken.status(), Status::Failed);
    let failure = broken.metadata().get("failure").and_then(Value::as_str);
    assert!(failure.unwrap().contains("PDF"), "{failure:?}");
    let empty = setting.add(&ada, file("empty.txt", b"", Map::new())).await;
    assert_eq!(empty.status(), Status::Failed);
    setting.is_clean().await;
}

#[tokio::test]
async fn what_exists_is_not_replaced_and_what_failed_is() {
    let setting = setting();
    let (ada, eve) = (caller(&setting, "ada").await, caller(&setting, "eve").await);
    let scope = Scope::local();
    let id = Uuid::from_u128(7);
    let named = |words: &str| Upload {
        id: Some(id),
        ..text(words)
    };
    let pending = setting.service.create(&scope, &ada, named("first")).await;
    assert_eq!(pending.unwrap().status(), Status::Pending);
    let again = setting.service.create(&scope, &ada, named("second")).await;
    let err = again.unwrap_err();
    assert!(err.message().contains("currently ingesting"), "{err}");
    setting.service.work().await.unwrap();
    for who in [&ada, &eve] {
        let again = setting.service.create(&scope, who, named("second")).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
    }
    // What was refused left the original as it was, and its own bytes are swept.
    let bytes = setting.service.download(&scope, &ada, id).await;
    assert_eq!(bytes.unwrap(), b"first");
    let foreign = setting.service.download(&scope, &eve, id).await;
    assert_eq!(foreign.unwrap_err().kind(), ErrorKind::NotFound);
    setting.clock.advance(Duration::from_secs(7_200));
    let now = setting.clock.now();
    setting.backend.documents.sweep_blobs(now, 9).await.unwrap();
    assert_eq!(
        setting
            .backend
            .documents
            .blobs(None, 9)
            .await
            .unwrap()
            .len(),
        1
    );
    // A failed one is sent again.
    let broken = Upload {
        id: Some(Uuid::from_u128(8)),
        body: Body::File {
            name: "a.pdf".into(),
            mime: None,
            bytes: b"%PDF-1.7 nothing".to_vec(),
        },
        ..text("")
    };
    let failed = setting.add(&ada, broken).await;
    assert_eq!(failed.status(), Status::Failed);
    let mended = Upload {
        id: Some(Uuid::from_u128(8)),
        ..text("whole again")
    };
    assert_eq!(setting.add(&ada, mended).await.status(), Status::Success);
    assert_eq!(setting.found(&ada, "whole").await[0], "whole again");
    setting.is_clean().await;
}

#[tokio::test]
async fn documents_are_seen_by_their_owner_and_by_members() {
    let setting = setting();
    let (ada, eve) = (caller(&setting, "ada").await, caller(&setting, "eve").await);
    let (service, scope) = (&setting.service, Scope::local());
    let shared = service
        .create_collection(&scope, &ada, "shared", None)
        .await;
    let shared = shared.unwrap().id;
    let ada = caller(&setting, "ada").await;
    let document = setting.add(&ada, text("the secret of the Nile")).await;
    let (id, kind) = (document.id(), ErrorKind::NotFound);
    assert!(setting.found(&eve, "Nile").await.is_empty());
    let read = service.document(&scope, &eve, id).await;
    assert_eq!(read.unwrap_err().kind(), kind);
    // Nobody lets himself in, and nobody puts in what he does not see.
    let joined = service.add_member(&scope, &eve, shared, eve.user).await;
    assert_eq!(joined.unwrap_err().kind(), ErrorKind::Denied);
    let own = ids::default_collection(eve.user);
    let stolen = service.place(&scope, &eve, (own, id), true).await;
    assert_eq!(stolen.unwrap_err().kind(), kind);
    service
        .place(&scope, &ada, (shared, id), true)
        .await
        .unwrap();
    service
        .add_member(&scope, &ada, shared, eve.user)
        .await
        .unwrap();
    let eve = caller(&setting, "eve").await;
    setting.service.work().await.unwrap();
    assert_eq!(setting.found(&eve, "Nile").await.len(), 1);
    // A member reads, and changes nothing.
    let chunks = service
        .chunks_of(&scope, &eve, id, &PageQuery::default())
        .await;
    let chunk = chunks.unwrap().items[0].0.id();
    for refused in [
        service.delete(&scope, &eve, id).await,
        service.delete_chunk(&scope, &eve, chunk).await,
        service
            .describe(&scope, &eve, id, (Map::new(), true))
            .await
            .map(drop),
        service
            .update_chunk(&scope, &eve, chunk, ("mine", None))
            .await
            .map(drop),
        service.place(&scope, &eve, (own, id), true).await.map(drop),
        service.delete_collection(&scope, &eve, shared).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
    }
    let told = service.collection(&scope, &eve, shared).await.unwrap();
    assert_eq!((told.users, told.documents), (2, 1));
    // Without the collection the document stays, with its chunks.
    service
        .delete_collection(&scope, &ada, shared)
        .await
        .unwrap();
    let eve = caller(&setting, "eve").await;
    assert!(setting.found(&eve, "Nile").await.is_empty());
    setting.service.work().await.unwrap();
    let left = service.document(&scope, &ada, id).await.unwrap();
    assert_eq!(left.collections().len(), 1);
    assert_eq!(setting.found(&ada, "Nile").await.len(), 1);
    setting.is_clean().await;
    // Another tenant sees none of it, not even as its superuser.
    let other = Scope::new("other", "x");
    let root = service.caller(&other, ada.user, true).await.unwrap();
    let hits = service.search(&other, &root, &search("Nile")).await;
    assert!(hits.unwrap().is_empty());
}

#[tokio::test]
async fn filters_choose_and_changes_are_seen() {
    let setting = setting();
    let ada = caller(&setting, "ada").await;
    let (service, scope) = (&setting.service, Scope::local());
    for year in [2023, 2024] {
        let upload = Upload {
            metadata: map(value!({"year": year})),
            ..text(&format!("report of {year}"))
        };
        setting.add(&ada, upload).await;
    }
    let by = |filters| Search {
        filters: map(filters),
        ..search("report")
    };
    let late = by(value!({"year": {"$gt": 2023}}));
    let hits = service.search(&scope, &ada, &late).await.unwrap();
    assert_eq!(hits.len(), 1);
    let id = hits[0].document.id();
    // What is said about a document later counts, too.
    let year = (map(value!({"year": 1999})), false);
    service.describe(&scope, &ada, id, year).await.unwrap();
    setting.service.work().await.unwrap();
    let old = by(value!({"year": {"$lt": 2000}}));
    assert_eq!(service.search(&scope, &ada, &old).await.unwrap().len(), 1);
    let chunk = hits[0].chunk.id();
    let changed = service.update_chunk(&scope, &ada, chunk, ("an essay on pears", None));
    changed.await.unwrap();
    assert_eq!(setting.found(&ada, "pears").await[0], "an essay on pears");
    service.delete_chunk(&scope, &ada, chunk).await.unwrap();
    assert_eq!(setting.found(&ada, "report").await, ["report of 2023"]);
    assert!(service.document(&scope, &ada, id).await.is_ok());
    setting.is_clean().await;
    let wrong = by(value!({"year": {"$near": 1}}));
    let err = service.search(&scope, &ada, &wrong).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Invalid);
    let none = service.delete_where(&scope, &ada, &Map::new()).await;
    assert_eq!(none.unwrap_err().kind(), ErrorKind::Invalid);
    let filter = map(value!({"year": {"$lte": 2023}}));
    assert_eq!(
        service.delete_where(&scope, &ada, &filter).await.unwrap(),
        2
    );
    setting.is_clean().await;
}

#[tokio::test]
async fn work_goes_on_when_the_model_is_back() {
    let setting = setting();
    let ada = caller(&setting, "ada").await;
    let scope = Scope::local();
    setting.add(&ada, text("warm")).await;
    setting.words.is_away.store(true, Ordering::SeqCst);
    let chunks = (0..300).map(|n| format!("piece {n}")).collect();
    let upload = Upload {
        body: Body::Chunks(chunks),
        ..text("")
    };
    let waiting = setting.add(&ada, upload).await;
    assert_eq!(waiting.status(), Status::Storing);
    setting.words.is_away.store(false, Ordering::SeqCst);
    setting.clock.advance(Duration::from_secs(120));
    setting.service.work().await.unwrap();
    let done = setting.service.document(&scope, &ada, waiting.id()).await;
    let done = done.unwrap();
    assert_eq!(
        (done.status(), done.progress()),
        (Status::Success, (300, Some(300)))
    );
    let query = PageQuery {
        limit: 1_000,
        sort_by: "position".into(),
        order: agentflow_storage::page::Order::Ascending,
        ..PageQuery::default()
    };
    let chunks = setting.service.chunks_of(&scope, &ada, done.id(), &query);
    let chunks = chunks.await.unwrap();
    let texts: Vec<&str> = chunks.items.iter().map(|(chunk, _)| chunk.text()).collect();
    assert_eq!((texts.len(), texts[299]), (300, "piece 299"));
    setting.is_clean().await;
    // An index that was lost is filled from the records.
    for collection in setting.vectors.collections().await.unwrap() {
        setting
            .vectors
            .drop_collection(&collection.name)
            .await
            .unwrap();
    }
    let fresh = over(setting.backend.clone(), setting.vectors.clone());
    assert_eq!(fresh.service.check().await.unwrap().missing, 301);
    fresh.service.reconcile().await.unwrap();
    fresh.is_clean().await;
}

#[tokio::test]
async fn who_comes_after_a_crash_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agentflow.db");
    let opened = agentflow_embedded::Embedded::open(&path, Default::default()).unwrap();
    let first = over(opened.backend(), opened.vectors());
    let ada = caller(&first, "ada").await;
    first.words.is_away.store(true, Ordering::SeqCst);
    let chunks = (0..200).map(|n| format!("piece {n}")).collect();
    let upload = Upload {
        body: Body::Chunks(chunks),
        ..text("")
    };
    let scope = Scope::local();
    let made = first.service.create(&scope, &ada, upload).await.unwrap();
    // The first batch is stored, and the index of it is not: here the process ends.
    first.service.work().await.unwrap();
    let second = over(opened.backend(), opened.vectors());
    second.clock.advance(Duration::from_secs(300));
    second.service.work().await.unwrap();
    let done = second.service.document(&scope, &ada, made.id()).await;
    assert_eq!(done.unwrap().status(), Status::Success);
    assert_eq!(second.found(&ada, "piece 199").await[0], "piece 199");
    second.is_clean().await;
}
