//! What the suite of vectors does not cover: what is there after a restart, what a caller that
//! gave up left, how much is kept.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use agentflow_embedded::{Embedded, Options, VectorOptions};
use agentflow_storage::{
    condition::{Condition, Field, Order},
    conformance::refused,
    vector::{Collection, Hit, Kind, Point, Probe, Search, Sparse, Vectors, rarity},
};
use agentflow_types::{ErrorKind, Scope, Value, value};
use futures_util::FutureExt;
use rusqlite::Connection;
use uuid::Uuid;

const NAME: &str = "notes";
const DIMENSION: u32 = 8;

fn open(path: &Path) -> Arc<dyn Vectors> {
    Embedded::open(path, Options::default()).unwrap().vectors()
}

fn shape() -> Collection {
    Collection {
        name: NAME.into(),
        dense: [("text".into(), DIMENSION)].into(),
        sparse: ["words".into()].into(),
        indexed: [(Field::of("user"), Kind::Text)].into(),
    }
}

fn id(n: u32) -> Uuid {
    Uuid::from_u128(n.into())
}

/// Whose dense vector looks its own way, and who has one word of three others'.
fn point(n: u32, version: u64) -> Point {
    let mut random = fastrand::Rng::with_seed(n.into());
    let vector = (0..DIMENSION).map(|_| random.f32() - 0.5).collect();
    Point {
        id: id(n),
        version,
        dense: BTreeMap::from([("text".into(), vector)]),
        sparse: BTreeMap::from([("words".into(), Sparse::of([(n / 4, 1.0)]))]),
        payload: value!({ "user": (format!("u{}", n % 10)), "n": n, "v": version })
            .as_map()
            .cloned()
            .unwrap(),
    }
}

fn like(n: u32, condition: Option<Condition>) -> Search {
    Search {
        probe: Probe::Dense("text".into(), point(n, 1).dense["text"].clone()),
        condition,
        limit: 5,
        threshold: None,
        payload: true,
    }
}

fn word(n: u32) -> Search {
    Search {
        probe: Probe::Sparse("words".into(), Sparse::of([(n / 4, 1.0)])),
        ..like(n, None)
    }
}

async fn search(index: &Arc<dyn Vectors>, search: Search) -> Vec<Hit> {
    let mut hits = index
        .search(&Scope::local(), NAME, &[search])
        .await
        .unwrap();
    hits.remove(0)
}

fn found(hits: &[Hit]) -> Vec<u32> {
    hits.iter().map(|hit| hit.id.as_u128() as u32).collect()
}

async fn fill(index: &Arc<dyn Vectors>, numbers: impl Iterator<Item = u32>, version: u64) {
    index.ensure(&shape()).await.unwrap();
    let points = numbers.map(|n| point(n, version)).collect();
    index.upsert(&Scope::local(), NAME, points).await.unwrap();
}

#[tokio::test]
async fn what_was_stored_and_removed_is_so_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let index = open(&path);
    fill(&index, 0..400, 1).await;
    fill(&index, (0..400).step_by(2), 2).await;
    let gone: Vec<Uuid> = (0..400).step_by(5).map(id).collect();
    index.delete(&Scope::local(), NAME, &gone).await.unwrap();
    let before = (
        search(&index, like(7, None)).await,
        search(&index, word(6)).await,
        index.marks(NAME, None, 1000).await.unwrap(),
    );
    drop(index);
    let index = open(&path);
    assert_eq!(index.collections().await.unwrap(), [shape()]);
    let after = (
        search(&index, like(7, None)).await,
        search(&index, word(6)).await,
        index.marks(NAME, None, 1000).await.unwrap(),
    );
    assert_eq!(after, before);
    assert_eq!(found(&after.0)[0], 7);
    assert_eq!(found(&after.1), [4, 6, 7]);
    assert_eq!(after.1[0].score, rarity(320, 3));
    assert_eq!(after.1[1].payload.get("v"), Some(&Value::Int(2)));
    assert_eq!(after.2.len(), 320);
}

/// Points that change again and again leave no trace in what is found.
#[tokio::test]
async fn changed_points_are_found_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(&folder.path().join("a.db"));
    for version in 1..=12 {
        fill(&index, 0..300, version).await;
    }
    for n in [0, 17, 299] {
        let user = Condition::Equals(Field::of("user"), format!("u{}", n % 10).into());
        let hits = search(&index, like(n, Some(user.clone()))).await;
        assert_eq!((found(&hits)[0], hits[0].version), (n, 12));
        assert!(hits[0].score > 0.9999);
        assert!(hits.iter().all(|hit| user.holds(&hit.payload)));
        let hits = search(&index, word(n)).await;
        let first = n / 4 * 4;
        assert_eq!(
            found(&hits),
            (first..first + 4).filter(|n| *n < 300).collect::<Vec<_>>()
        );
        assert_eq!(hits[0].score, rarity(300, hits.len() as u64));
    }
    let all = Condition::Exists(Field::of("n"));
    assert_eq!(
        index
            .count(&Scope::local(), NAME, Some(&all))
            .await
            .unwrap(),
        300
    );
}

/// Whoever gives up waiting has stored, or has not; the index knows either way.
#[tokio::test]
async fn a_call_that_nobody_waits_for_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let database = Embedded::open(folder.path().join("a.db"), Options::default()).unwrap();
    let index = database.vectors();
    fill(&index, 0..1, 1).await;
    for n in 1..50 {
        let scope = Scope::local();
        let call = index.upsert(&scope, NAME, vec![point(n, 1)]);
        // Queued, then dropped.
        assert!(call.now_or_never().is_none());
        let stored = index.get(&scope, NAME, &[id(n)]).await.unwrap();
        let hits = search(&index, like(n, None)).await;
        assert!(stored.is_empty() || found(&hits)[0] == n);
    }
    // What was queued before is stored before; what nobody waits for may be lost by closing.
    fill(&index, 50..51, 1).await;
    database.check_integrity().await.unwrap();
    drop((index, database));
    let index = open(&folder.path().join("a.db"));
    assert_eq!(index.count(&Scope::local(), NAME, None).await.unwrap(), 51);
}

#[tokio::test]
async fn more_than_fits_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        vectors: VectorOptions {
            max_bytes: 10_000,
            ..VectorOptions::default()
        },
        ..Options::default()
    };
    let index = Embedded::open(folder.path().join("a.db"), options)
        .unwrap()
        .vectors();
    fill(&index, 0..100, 1).await;
    let more = index
        .upsert(&Scope::local(), NAME, vec![point(100, 1)])
        .await;
    refused(more, ErrorKind::Busy);
    let all: Vec<Uuid> = (0..100).map(id).collect();
    index.delete(&Scope::local(), NAME, &all).await.unwrap();
    fill(&index, 0..1, 1).await;
}

/// A crash between the removal of a collection and that of its points leaves nothing behind.
#[tokio::test]
async fn points_of_a_dropped_collection_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let index = open(&path);
    fill(&index, 0..10, 1).await;
    drop(index);
    let db = Connection::open(&path).unwrap();
    db.execute("DELETE FROM agentflow_vector_collections", [])
        .unwrap();
    let index = open(&path);
    assert!(index.collections().await.unwrap().is_empty());
    let left = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        db.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(left("agentflow_points"), 0);
    assert_eq!(left("agentflow_point_vectors"), 0);
    fill(&index, 0..3, 1).await;
    assert_eq!(index.count(&Scope::local(), NAME, None).await.unwrap(), 3);
}

/// 64 numbers around one of 40 centres, most of the spread in few directions, as embeddings have.
fn clustered(seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut centre = fastrand::Rng::with_seed(random.u64(..40));
    (0..64)
        .map(|i| {
            let spread = 3.0 / (1.0 + i as f32).sqrt();
            centre.f32() - 0.5 + (random.f32() - 0.5) * spread
        })
        .collect()
}

/// Of what looking at each point finds, a walk finds nearly all: with a condition and without,
/// with removed points, changed ones and those that have no links yet among them.
#[tokio::test]
async fn a_walk_finds_what_looking_at_each_does() {
    const POINTS: u32 = 6_500;
    const SEARCHES: u64 = 100;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let open = |exact_limit| {
        let vectors = VectorOptions {
            exact_limit,
            // Narrow, so that with this few points walking is less work.
            search_width: 48,
            ..VectorOptions::default()
        };
        let options = Options {
            vectors,
            ..Options::default()
        };
        Embedded::open(&path, options).unwrap()
    };
    let shape = Collection {
        dense: [("text".into(), 64)].into(),
        ..shape()
    };
    let point = |n: u32, version: u64| Point {
        dense: BTreeMap::from([("text".into(), clustered(u64::from(n) + version * 1_000_000))]),
        ..point(n, version)
    };
    let many = Condition::In(
        Field::of("user"),
        ["u0", "u1", "u2", "u3", "u4", "u5", "u6"]
            .map(Value::str)
            .into(),
    );
    let old = Condition::Compares(Field::of("n"), Order::Less, Value::Int(5_000));
    let search = |n: u64| Search {
        probe: Probe::Dense("text".into(), clustered((1 << 40) + n)),
        condition: match n % 4 {
            0 => Some(many.clone()),
            1 => Some(old.clone()),
            _ => None,
        },
        limit: 10,
        threshold: None,
        payload: true,
    };

    let database = open(100);
    let index = database.vectors();
    let scope = Scope::local();
    index.ensure(&shape).await.unwrap();
    let store = async |numbers: std::ops::Range<u32>, version| {
        let points = numbers.map(|n| point(n, version)).collect();
        index.upsert(&scope, NAME, points).await.unwrap();
    };
    store(0..POINTS, 1).await;
    database.link_vectors().await.unwrap();
    store(100..600, 2).await;
    let gone: Vec<Uuid> = (0..POINTS).step_by(9).map(id).collect();
    index.delete(&scope, NAME, &gone).await.unwrap();

    let mut walked = Vec::new();
    for n in 0..SEARCHES {
        let hits = index.search(&scope, NAME, &[search(n)]).await.unwrap();
        walked.extend(hits);
    }
    drop((index, database));
    let index = open(u64::MAX).vectors();
    let (mut all, mut same) = (0, 0);
    for (n, walked) in (0..).zip(&walked) {
        let exact = index.search(&scope, NAME, &[search(n)]).await.unwrap();
        assert_eq!((exact[0].len(), walked.len()), (10, 10));
        assert!(walked.is_sorted_by(|a, b| a.score >= b.score));
        let condition = search(n).condition;
        assert!(
            walked
                .iter()
                .all(|hit| condition.as_ref().is_none_or(|c| c.holds(&hit.payload)))
        );
        all += exact[0].len();
        same += exact[0].iter().filter(|hit| walked.contains(hit)).count();
    }
    let recall = f64::from(same as u32) / all as f64;
    println!("recall at 10 over {SEARCHES} searches of {POINTS} points: {recall:.4}");
    assert!(recall >= 0.98, "{recall}");
}
