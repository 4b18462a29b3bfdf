//! Measures vectors: points stored per second, searches, the start, memory.
//!
//! `cargo run --release -p agentflow-embedded --example vector_speed -- POINTS [TENANTS [WIDTH [FILE]]]`
//!
//! Points are made: 384 numbers around one of a thousand centres, with most of their spread in few
//! directions, as embeddings have it; 12 words, common ones more often; a payload of a memory's
//! size. A file that is there is used as it is.
#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use agentflow_embedded::{Embedded, Options};
use agentflow_storage::{
    condition::{Condition, Field, Order},
    vector::{Collection, Hit, Kind, Point, Probe, Search, Sparse, Vectors},
};
use agentflow_types::{Scope, value};
use uuid::Uuid;

const NAME: &str = "notes";
const DIMENSION: usize = 384;
const CENTRES: u64 = 1_000;
const WORDS: usize = 12;
const BATCH: usize = 1_000;
const SEARCHES: u64 = 1_000;
const RECALLED: u64 = 200;

fn normal(random: &mut fastrand::Rng) -> f32 {
    // A sum of four is near enough.
    (0..4).map(|_| random.f32() - 0.5).sum::<f32>() * 1.73
}

fn vector(seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut centre = fastrand::Rng::with_seed(random.u64(..CENTRES) + (1 << 60));
    (0..DIMENSION)
        .map(|i| normal(&mut centre) + normal(&mut random) * 6.0 / (4.0 + i as f32).sqrt())
        .collect()
}

fn words(seed: u64) -> Sparse {
    let mut random = fastrand::Rng::with_seed(seed);
    Sparse::of((0..WORDS).map(|_| {
        let word = 30_000_f32.powf(random.f32()) as u32;
        (word, 1.0 + random.f32())
    }))
}

fn point(n: u64) -> Point {
    let text = "The quick brown fox jumps over the lazy dog and thinks about it. ".repeat(2);
    let moment = format!("2026-05-{:02}T{:02}:00:00.000000+00:00", 1 + n % 28, n % 24);
    let shown = value!({
        "user_id": (format!("user-{}", n % 100)), "project": "default", "state": "active",
        "kind": (if n.is_multiple_of(3) { "turn" } else { "fact" }), "text": text,
        "created_at": moment, "hash": (format!("{n:032x}")), "n": (n as i64),
    });
    Point {
        id: Uuid::from_u64_pair(fastrand::Rng::with_seed(n).u64(..), n),
        version: 1,
        dense: BTreeMap::from([("dense".into(), vector(n))]),
        sparse: BTreeMap::from([("words".into(), words(n))]),
        payload: shown.as_map().cloned().unwrap(),
    }
}

fn shape() -> Collection {
    let kinds = [
        ("user_id", Kind::Text),
        ("project", Kind::Text),
        ("state", Kind::Text),
        ("kind", Kind::Text),
        ("created_at", Kind::Moment),
    ];
    Collection {
        name: NAME.into(),
        dense: [("dense".into(), DIMENSION as u32)].into(),
        sparse: ["words".into()].into(),
        indexed: kinds.map(|(name, kind)| (Field::of(name), kind)).into(),
    }
}

fn tenant(n: u64) -> Scope {
    Scope::new(&format!("tenant-{n}"), "measurement")
}

fn is(field: &str, value: &str) -> Condition {
    Condition::Equals(Field::of(field), value.into())
}

fn memory_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let kb = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kb.unwrap_or(0) / 1024
}

async fn fill(index: &Arc<dyn Vectors>, points: u64, tenants: u64) {
    let (mut spent, mut done) = (Duration::ZERO, 0);
    for start in (0..points).step_by(BATCH) {
        let batch: Vec<Point> = (start..points.min(start + BATCH as u64))
            .map(point)
            .collect();
        let scope = tenant(start / BATCH as u64 % tenants);
        done += batch.len();
        let begun = Instant::now();
        index.upsert(&scope, NAME, batch).await.unwrap();
        spent += begun.elapsed();
    }
    let rate = done as f64 / spent.as_secs_f64();
    println!("stored {done} in {spent:.1?}: {rate:.0} points/s");
}

/// p50 and p99 of a search.
async fn measure(index: &Arc<dyn Vectors>, what: &str, tenants: u64, make: impl Fn(u64) -> Search) {
    let mut times = Vec::new();
    let (mut hits, mut least) = (0, f32::MAX);
    for n in 0..SEARCHES {
        let (scope, search) = (tenant(n % tenants), [make(n)]);
        let begun = Instant::now();
        let found = index.search(&scope, NAME, &search).await.unwrap();
        times.push(begun.elapsed());
        hits += found[0].len();
        least = least.min(found[0].first().map_or(0.0, |hit| hit.score));
    }
    times.sort_unstable();
    let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    let hits = hits as f64 / SEARCHES as f64;
    println!("{what}: p50 {half:.2?}, p99 {most:.2?}; {hits:.1} hits, least best score {least:.2}");
}

fn dense(n: u64, condition: Option<Condition>) -> Search {
    Search {
        probe: Probe::Dense("dense".into(), vector((1 << 40) + n)),
        condition,
        limit: 10,
        threshold: None,
        payload: true,
    }
}

async fn measure_all(index: &Arc<dyn Vectors>, tenants: u64) {
    let user = |n: u64| {
        let name = format!("user-{}", n % 100);
        Condition::All(vec![is("project", "default"), is("user_id", &name)])
    };
    let since = |n: u64| {
        let day = format!("2026-05-{:02}", 1 + n % 28);
        Condition::Compares(
            Field::of("created_at"),
            Order::GreaterOrEqual,
            day.as_str().into(),
        )
    };
    let unindexed = Condition::Compares(Field::of("n"), Order::Greater, 100.into());
    measure(index, "dense, warm-up", tenants, |n| dense(n, None)).await;
    measure(index, "dense", tenants, |n| dense(n, None)).await;
    let project = || Condition::All(vec![is("project", "default"), is("state", "active")]);
    measure(index, "dense, project", tenants, |n| {
        dense(n, Some(project()))
    })
    .await;
    measure(index, "dense, kind (2/3)", tenants, |n| {
        dense(n, Some(is("kind", "fact")))
    })
    .await;
    measure(index, "dense, user (1/100)", tenants, |n| {
        dense(n, Some(user(n)))
    })
    .await;
    measure(index, "dense, since", tenants, |n| dense(n, Some(since(n)))).await;
    measure(index, "dense, unindexed", tenants, |n| {
        dense(n, Some(unindexed.clone()))
    })
    .await;
    let sparse = |n: u64, condition| Search {
        probe: Probe::Sparse("words".into(), words((1 << 40) + n)),
        ..dense(n, condition)
    };
    measure(index, "words", tenants, |n| sparse(n, None)).await;
    measure(index, "words, user", tenants, |n| sparse(n, Some(user(n)))).await;
}

/// What searches find without links, as far as they found it with them.
async fn recall(file: &Path, found: &[Vec<Hit>], tenants: u64) {
    let mut options = Options::default();
    options.vectors.exact_limit = u64::MAX;
    let index = Embedded::open(file, options).unwrap().vectors();
    let (mut all, mut same, mut times) = (0, 0, Vec::new());
    for (n, found) in (0..).zip(found) {
        let (scope, search) = (tenant(n % tenants), [dense(n, None)]);
        let begun = Instant::now();
        let exact = index.search(&scope, NAME, &search).await.unwrap();
        times.push(begun.elapsed());
        all += exact[0].len();
        same += exact[0]
            .iter()
            .filter(|hit| found.iter().any(|f| f.id == hit.id))
            .count();
    }
    let part = same as f64 / all as f64;
    times.sort_unstable();
    let half = times[times.len() / 2];
    println!(
        "recall at 10, over {} searches: {part:.4}; looking at each: p50 {half:.2?}",
        found.len()
    );
}

#[tokio::main]
async fn main() {
    let mut given = std::env::args().skip(1);
    let points: u64 = given.next().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let tenants: u64 = given.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    let width = given.next().and_then(|n| n.parse().ok());
    let folder = tempfile::tempdir().unwrap();
    let file = given
        .next()
        .map_or(folder.path().join("a.db"), PathBuf::from);
    let mut options = Options::default();
    options.vectors.search_width = width.unwrap_or(options.vectors.search_width);
    let open = || Embedded::open(&file, options.clone()).unwrap();
    println!("{points} points of {DIMENSION} numbers, {tenants} tenants");
    if !file.exists() {
        let index = open().vectors();
        index.ensure(&shape()).await.unwrap();
        fill(&index, points, tenants).await;
    }
    let size = std::fs::metadata(&file).unwrap().len() >> 20;
    let begun = Instant::now();
    let database = open();
    let index = database.vectors();
    index.collections().await.unwrap();
    println!(
        "loaded in {:.2?}; file {size} MB, process {} MB",
        begun.elapsed(),
        memory_mb()
    );
    measure(&index, "dense, while links are made", tenants, |n| {
        dense(n, None)
    })
    .await;
    database.link_vectors().await.unwrap();
    println!(
        "linked {:.2?} after the start; process {} MB",
        begun.elapsed(),
        memory_mb()
    );
    measure_all(&index, tenants).await;
    let mut found = Vec::new();
    for n in 0..RECALLED {
        let search = [dense(n, None)];
        let mut hits = index
            .search(&tenant(n % tenants), NAME, &search)
            .await
            .unwrap();
        found.push(hits.remove(0));
    }
    drop((index, database));
    recall(&file, &found, tenants).await;
}
