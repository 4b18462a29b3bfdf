//! A process that stores documents is killed again and again; what it acknowledged is there, once.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod samples;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use agentflow_embedded::{Embedded, Options};
use agentflow_rag::service::{Body, Status};
use agentflow_storage::{
    documents::{EntryKind, EntryQuery},
    page::{Order, PageQuery},
};
use agentflow_types::{Clock, Scope, SystemClock};

/// Documents in all.
const DOCUMENTS: u64 = 1_000;
/// Kills.
const KILLS: u64 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_documents_survive_kills() {
    let here = std::env::current_exe().unwrap();
    let examples = here.parent().unwrap().with_file_name("examples");
    let ingester = examples.join("ingester");
    assert!(
        ingester.exists(),
        "build it first: cargo build -p agentflow-rag --example ingester"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agentflow.db");
    let mut acknowledged: BTreeSet<u64> = BTreeSet::new();
    for round in 0..=KILLS {
        let first = (0..).find(|n| !acknowledged.contains(n)).unwrap();
        let mut child = Command::new(&ingester)
            .arg(&path)
            .args([first.to_string(), DOCUMENTS.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        if round == KILLS {
            let last = lines.map(Result::unwrap).last();
            assert!(child.wait().unwrap().success());
            assert_eq!(last.as_deref(), Some("done"));
            break;
        }
        // In the last rounds all are sent, and the kill meets what is left of the work.
        let many = fastrand::usize(5..2 * (DOCUMENTS / KILLS) as usize);
        let seen = lines.by_ref().take(many).map(Result::unwrap);
        acknowledged.extend(seen.filter_map(|line| line.parse::<u64>().ok()));
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..30)));
        child.kill().unwrap();
        child.wait().unwrap();
        // What was on its way was acknowledged, too.
        acknowledged.extend(lines.filter_map(|line| line.ok()?.parse::<u64>().ok()));
    }
    all_are_there_once(&Embedded::open(&path, Options::default()).unwrap()).await;
}

async fn all_are_there_once(opened: &Embedded) {
    let (backend, scope) = (opened.backend(), Scope::local());
    let service = samples::service(opened.backend(), opened.vectors());
    let caller = service.caller(&scope, samples::user(), false).await;
    let caller = caller.unwrap();
    let mut sum = 0;
    for n in 0..DOCUMENTS {
        let document = service.document(&scope, &caller, samples::id(n)).await;
        let document = document.unwrap();
        assert_eq!(document.status(), Status::Success, "{n}");
        let page = PageQuery {
            limit: 1_000,
            sort_by: "position".into(),
            order: Order::Ascending,
            ..PageQuery::default()
        };
        let found = service
            .chunks_of(&scope, &caller, document.id(), &page)
            .await;
        let found = found.unwrap().items;
        let texts: Vec<String> = found
            .iter()
            .map(|(chunk, _)| chunk.text().trim().to_owned())
            .collect();
        let wanted = (0..samples::chunks(n)).map(|k| format!("piece {k} of document {n}"));
        assert_eq!(texts, wanted.collect::<Vec<_>>(), "{n}");
        sum += texts.len() as u64;
        let bytes = service.download(&scope, &caller, document.id()).await;
        let wanted = match samples::upload(n).body {
            Body::Text(text) => text.into_bytes(),
            Body::Chunks(chunks) => serde_json::to_vec(&chunks).unwrap(),
            Body::File { bytes, .. } => bytes,
        };
        assert_eq!(bytes.unwrap(), wanted, "{n}");
    }
    let of_kind = |kind| EntryQuery::of(kind);
    for (kind, wanted) in [(EntryKind::Document, DOCUMENTS), (EntryKind::Chunk, sum)] {
        let totals = backend.documents.totals(&scope, &of_kind(kind)).await;
        assert_eq!(totals.unwrap().entries, wanted);
    }
    let drift = service.check().await.unwrap();
    assert_eq!((drift.records, drift.missing, drift.orphans), (sum, 0, 0));
    assert_eq!(backend.outbox.depth("documents").await.unwrap().waiting, 0);
    // Bytes that were sent when the process was killed belong to nobody, and go.
    let now = SystemClock.now();
    backend.documents.sweep_blobs(now, 10_000).await.unwrap();
    let blobs = backend.documents.blobs(None, 10_000).await.unwrap();
    assert_eq!(blobs.len() as u64, DOCUMENTS);
    assert!(blobs.iter().all(|blob| blob.is_kept));
}
