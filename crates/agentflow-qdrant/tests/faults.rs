//! A server that goes away, comes back, loses answers, or keeps silent.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use agentflow_qdrant::{Access, Limits, Qdrant};
use agentflow_storage::{
    condition::{Case, Condition, Field},
    vector::{Collection, Kind, Point, Probe, Search, Vectors as _},
};
use agentflow_testkit::{
    faults::Proxy,
    qdrant::{Fault, Options, QdrantServer},
};
use agentflow_types::{ErrorKind, Scope, Value};
use support::quick;
use tonic::Code;
use uuid::Uuid;

const NAME: &str = "notes";

fn shape() -> Collection {
    Collection {
        name: NAME.into(),
        dense: [("d".to_owned(), 2)].into(),
        indexed: [(Field::of("user"), Kind::Text)].into(),
        ..Collection::default()
    }
}

fn point(n: u128, version: u64) -> Point {
    Point {
        id: Uuid::from_u128(n),
        version,
        dense: [("d".to_owned(), vec![1.0, n as f32])].into(),
        payload: [("user".into(), Value::str("Ann"))].into_iter().collect(),
        ..Point::default()
    }
}

fn near(condition: Option<Condition>) -> Search {
    Search {
        probe: Probe::Dense("d".into(), vec![1.0, 0.0]),
        condition,
        limit: 10,
        threshold: None,
        payload: true,
    }
}

async fn started() -> (QdrantServer, Qdrant) {
    let server = QdrantServer::start(Options::default()).await.unwrap();
    let index = Qdrant::new(&quick(server.url())).unwrap();
    index.ensure(&shape()).await.unwrap();
    (server, index)
}

fn faults(method: &'static str, code: Code, is_done: bool, times: usize) -> Vec<Fault> {
    let fault = Fault {
        method,
        code,
        is_done,
    };
    vec![fault; times]
}

fn called(server: &QdrantServer, method: &str) -> usize {
    server
        .calls()
        .iter()
        .filter(|call| **call == method)
        .count()
}

async fn count(index: &Qdrant) -> u64 {
    index.count(&Scope::local(), NAME, None).await.unwrap()
}

#[tokio::test]
async fn reads_are_tried_again_and_not_for_ever() {
    let (server, index) = started().await;
    let scope = Scope::local();
    server.fail(faults("query_batch", Code::Unavailable, false, 2));
    let hits = index.search(&scope, NAME, &[near(None)]).await.unwrap();
    assert_eq!(hits, [vec![]]);
    assert_eq!(called(&server, "query_batch"), 3);
    server.fail(faults("count", Code::DeadlineExceeded, false, 10));
    let err = index.count(&scope, NAME, None).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Busy, "{err:?}");
    assert_eq!(called(&server, "count"), 1 + Limits::default().retries);
    // What another try does not mend is told at once.
    server.fail(faults("scroll", Code::ResourceExhausted, false, 1));
    let err = index.scroll(&scope, NAME, None, None, 1).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Busy, "{err:?}");
    assert_eq!(called(&server, "scroll"), 1);
}

#[tokio::test]
async fn an_upsert_whose_answer_was_lost_is_repeated() {
    let (server, index) = started().await;
    server.fail(faults("update_batch", Code::Unavailable, true, 2));
    let points = vec![point(1, 3), point(2, 1)];
    index.upsert(&Scope::local(), NAME, points).await.unwrap();
    assert_eq!(called(&server, "update_batch"), 3);
    assert_eq!(count(&index).await, 2);
    server.fail(faults("update_batch", Code::Unavailable, true, 10));
    let points = vec![point(3, 1)];
    let err = index
        .upsert(&Scope::local(), NAME, points)
        .await
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Uncertain, "{err:?}");
}

/// A removal that is repeated late could take what was stored anew.
#[tokio::test]
async fn a_removal_whose_answer_was_lost_is_not_repeated() {
    let (server, index) = started().await;
    let scope = Scope::local();
    index.upsert(&scope, NAME, vec![point(1, 1)]).await.unwrap();
    server.fail(faults("delete", Code::Unavailable, true, 1));
    let ids = [Uuid::from_u128(1)];
    let err = index.delete(&scope, NAME, &ids).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Uncertain, "{err:?}");
    assert_eq!(called(&server, "delete"), 1);
    assert_eq!(count(&index).await, 0);
}

#[tokio::test]
async fn a_collection_that_was_made_by_a_lost_call_is_found() {
    let server = QdrantServer::start(Options::default()).await.unwrap();
    let index = Qdrant::new(&quick(server.url())).unwrap();
    server.fail(faults("create", Code::Unavailable, true, 1));
    server.fail(faults("create_field_index", Code::Unavailable, true, 1));
    index.ensure(&shape()).await.unwrap();
    assert_eq!(called(&server, "create"), 2);
    assert_eq!(index.collections().await.unwrap(), [shape()]);
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let (mut server, index) = started().await;
    let scope = Scope::local();
    index.upsert(&scope, NAME, vec![point(1, 1)]).await.unwrap();
    for _ in 0..3 {
        server.pause().await;
        let err = index.count(&scope, NAME, None).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Busy, "{err:?}");
        // There was no connection, so nothing was written.
        let write = index.delete(&scope, NAME, &[Uuid::from_u128(9)]).await;
        assert_eq!(write.unwrap_err().kind(), ErrorKind::Busy);
        server.resume().await.unwrap();
        assert_eq!(count(&index).await, 1);
    }
}

#[tokio::test]
async fn broken_connections_are_replaced_and_silent_ones_given_up() {
    let (server, _) = started().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let access = Access {
        limits: Limits {
            read_timeout: Duration::from_millis(200),
            write_timeout: Duration::from_millis(200),
            retries: 2,
            ..quick("").limits
        },
        ..quick(format!("http://127.0.0.1:{}", proxy.port()))
    };
    let index = Qdrant::new(&access).unwrap();
    let scope = Scope::local();
    for n in 0..5 {
        assert_eq!(count(&index).await, n);
        proxy.reset();
        let points = vec![point(u128::from(n), 1)];
        index.upsert(&scope, NAME, points).await.unwrap();
    }
    proxy.stall();
    let err = index.count(&scope, NAME, None).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Busy, "{err:?}");
    let err = index.delete(&scope, NAME, &[Uuid::from_u128(1)]).await;
    let err = err.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Uncertain, "{err:?}");
    proxy.reset();
    proxy.heal().await;
    // The removal may have arrived or not.
    assert!((4..=5).contains(&count(&index).await));
}

/// The server decides in one step which version stays, whoever comes last.
#[tokio::test]
async fn the_newest_version_wins_whatever_the_order() {
    let (server, _) = started().await;
    let writers = (0..4_u64).map(|writer| {
        let index = Qdrant::new(&quick(server.url())).unwrap();
        tokio::spawn(async move {
            let mut versions: Vec<u64> = (1..=20).map(|n| n * 4 - writer).collect();
            fastrand::Rng::with_seed(writer).shuffle(&mut versions);
            for version in versions {
                let points = vec![point(1, version)];
                index.upsert(&Scope::local(), NAME, points).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let index = Qdrant::new(&quick(server.url())).unwrap();
    let marks = index.marks(NAME, None, 10).await.unwrap();
    assert_eq!((marks.len(), marks[0].version), (1, 80));
}

#[tokio::test]
async fn a_collection_that_somebody_made_anew_is_looked_at_again() {
    let (server, index) = started().await;
    let scope = Scope::local();
    let other = Qdrant::new(&quick(server.url())).unwrap();
    let mut wider = shape();
    wider.dense.insert("d".into(), 3);
    other.drop_collection(NAME).await.unwrap();
    let err = index.count(&scope, NAME, None).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::NotFound, "{err:?}");
    other.ensure(&wider).await.unwrap();
    let mut wide = point(1, 1);
    wide.dense.insert("d".into(), vec![1.0; 3]);
    index.upsert(&scope, NAME, vec![wide]).await.unwrap();
    assert_eq!(count(&index).await, 1);
}

/// What the filter cannot say is judged here, for a bounded number of points.
#[tokio::test]
async fn a_search_that_would_look_at_too_much_is_refused() {
    let (_server, index) = started().await;
    let scope = Scope::local();
    for piece in [0..6_000_u128, 6_000..10_010] {
        let points = piece.map(|n| point(n, 1)).collect();
        index.upsert(&scope, NAME, points).await.unwrap();
    }
    let includes = |text: &str| {
        let user = Field::of("user");
        Some(Condition::Includes(user, text.into(), Case::Ignored))
    };
    let found = index.search(&scope, NAME, &[near(includes("ANN"))]).await;
    assert_eq!(found.unwrap()[0].len(), 10);
    let none = index.search(&scope, NAME, &[near(includes("bob"))]).await;
    assert_eq!(none.unwrap_err().kind(), ErrorKind::Invalid);
    let counted = index.count(&scope, NAME, includes("bob").as_ref()).await;
    assert_eq!(counted.unwrap(), 0);
    let all = includes("ANN").unwrap();
    index.delete_where(&scope, NAME, &all).await.unwrap();
    assert_eq!(count(&index).await, 0);
}
