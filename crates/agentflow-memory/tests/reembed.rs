//! A change of the embedder while memories are added and looked for.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use agentflow_embedded::{Embedded, Options};
use agentflow_memory::{
    Add, Begins, Drift, Embedders, Lasting, Models, Reembed, Search, Service, Speech, Step, Which,
    text::Language,
};
use agentflow_models::{SharedEmbed, chat::Embed};
use agentflow_storage::{
    Backend,
    memories::OwnerKind,
    memory::{Memory, VectorIndex},
    vector::Vectors,
};
use agentflow_types::{Error, Map, Result, Scope, SystemClock, Value};
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// Vectors that only the same text has, of so many numbers.
struct Hashed {
    dimension: AtomicUsize,
    /// Texts that were embedded.
    many: AtomicUsize,
    is_away: AtomicBool,
}

impl Hashed {
    fn new(dimension: usize) -> Arc<Self> {
        Arc::new(Self {
            dimension: dimension.into(),
            many: 0.into(),
            is_away: false.into(),
        })
    }
}

#[async_trait]
impl Embed for Hashed {
    async fn embed(&self, model: &str, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(Error::busy("the embedder is away"));
        }
        self.many.fetch_add(texts.len(), Ordering::Relaxed);
        let dimension = self.dimension.load(Ordering::Relaxed);
        let vector = |text: &String| {
            let mut state = model.bytes().chain(text.bytes()).fold(17_u64, |sum, byte| {
                sum.wrapping_mul(1_099_511_628_211) ^ u64::from(byte)
            });
            let number = |_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
            };
            (0..dimension).map(number).collect()
        };
        Ok(texts.iter().map(vector).collect())
    }
}

struct Known(BTreeMap<&'static str, Arc<Hashed>>);

#[async_trait]
impl Embedders for Known {
    async fn find(&self, spec: &str) -> Result<Option<(SharedEmbed, String)>> {
        if spec == "off" {
            return Ok(None);
        }
        let found = self.0.get(spec).cloned();
        let found = found.ok_or_else(|| Error::invalid("no such embedder"))?;
        Ok(Some((found, spec.to_owned())))
    }
}

/// What outlives a process.
#[derive(Clone)]
struct World {
    backend: Backend,
    vectors: Arc<dyn Vectors>,
    _embedded: Option<Embedded>,
}

impl World {
    fn in_memory() -> Self {
        Self {
            backend: Memory::open(),
            vectors: Arc::new(VectorIndex::default()),
            _embedded: None,
        }
    }

    fn on_disk(folder: &std::path::Path) -> Self {
        let opened = Embedded::open(folder.join("db"), Options::default()).unwrap();
        Self {
            backend: opened.backend(),
            vectors: opened.vectors(),
            _embedded: Some(opened),
        }
    }

    /// A process whose configuration wants the embedder of this name, and which has these.
    fn process(&self, wish: &str, known: &[(&'static str, &Arc<Hashed>)]) -> Service {
        self.configured(wish, known, Begins::ByItself, true)
    }

    fn configured(
        &self,
        wish: &str,
        known: &[(&'static str, &Arc<Hashed>)],
        begins: Begins,
        is_alone: bool,
    ) -> Service {
        self.patient(wish, known, (begins, is_alone), Duration::ZERO)
    }

    fn patient(
        &self,
        wish: &str,
        known: &[(&'static str, &Arc<Hashed>)],
        (begins, is_alone): (Begins, bool),
        grace: Duration,
    ) -> Service {
        let known: BTreeMap<_, _> = known
            .iter()
            .map(|(name, embed)| (*name, (*embed).clone()))
            .collect();
        let embed = known.get(wish).cloned();
        let models = Models {
            embed: embed.map(|embed| (embed as SharedEmbed, wish.to_owned())),
            ..Models::default()
        };
        let lasting = Lasting {
            wish: Some(wish.to_owned()),
            embedders: Arc::new(Known(known)),
            begins,
            is_alone,
            grace,
        };
        Service::lasting(
            self.backend.clone(),
            self.vectors.clone(),
            models,
            (Arc::new(SystemClock), Language::English),
            lasting,
        )
    }

    async fn names(&self) -> Vec<String> {
        let all = self.vectors.collections().await.unwrap();
        all.into_iter().map(|one| one.name).collect()
    }
}

async fn add(service: &Service, text: &str) {
    let mut add = Add {
        messages: vec![Speech {
            role: "user".into(),
            content: text.into(),
            name: None,
        }],
        ..Add::default()
    };
    add.owner.set(OwnerKind::User, Some("ada".into()));
    service.add(&Scope::local(), "p", add).await.unwrap();
}

/// The part of the meaning in the score of exactly this text, which must be found; `None` if words
/// alone found it.
async fn cosine(service: &Service, text: &str) -> Option<f32> {
    let mut filter = Map::new();
    filter.insert("user_id".into(), Value::str("ada"));
    let search = Search {
        query: text.into(),
        which: Which {
            filter,
            ..Which::default()
        },
        threshold: 0.0,
        ..Search::default()
    };
    let found = service.search(&Scope::local(), "p", &search).await;
    let found = found.unwrap();
    let same = found.iter().find(|one| one.memory.text == text);
    let dense = same
        .unwrap_or_else(|| panic!("{text} is not found"))
        .parts
        .dense;
    (dense > 0.0).then_some(dense)
}

/// Works until there is nothing to do.
async fn settle(service: &Service) {
    while service.step().await.unwrap() == Step::Worked {}
}

/// Whether the embedder of this name serves and nothing else is there.
fn is_served(service: &Service, name: &str) -> bool {
    let state = service.index_state();
    state.is_some_and(|state| {
        state.serving.starts_with(name) && state.progress.is_none() && state.retired == 0
    })
}

fn clean(drift: Drift, many: u64) {
    let wanted = Drift {
        records: many,
        ..Drift::default()
    };
    assert_eq!(drift, wanted);
}

/// Another model, with other dimensions: searches find all the time, by vectors, and what is added
/// meanwhile is found by both.
async fn change_while_used(world: World) {
    const BEFORE: usize = 700;
    let (a, b) = (Hashed::new(8), Hashed::new(24));
    let known = [("a", &a), ("b", &b)];
    let old = world.process("a", &known);
    for number in 0..BEFORE {
        add(&old, &format!("zq{number} is old")).await;
    }
    drop(old);

    // No search takes longer.
    let grace = Duration::from_secs(1);
    let service = world.patient("b", &known, (Begins::ByItself, true), grace);
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (service, stop) = (service.clone(), stop.clone());
        async move { service.run(stop).await }
    });
    let mut added = 0;
    while !is_served(&service, "b") {
        let text = format!("zq{added} is new");
        add(&service, &text).await;
        added += 1;
        for text in [text, format!("zq{} is old", added % BEFORE)] {
            let dense = cosine(&service, &text).await;
            assert!(dense.is_some(), "{text} is found by words alone");
        }
        // In memory nothing waits by itself.
        tokio::task::yield_now().await;
    }
    stop.cancel();
    running.await.unwrap();
    assert!(added > 0);
    let names = world.names().await;
    assert!(
        names.len() == 1 && names[0].starts_with("memories-b-24-"),
        "{names:?}"
    );
    clean(service.check().await.unwrap(), (BEFORE + added) as u64);
    assert!(cosine(&service, "zq5 is old").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn embedders_change_while_memories_are_used_in_memory() {
    change_while_used(World::in_memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedders_change_while_memories_are_used_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    change_while_used(World::on_disk(folder.path())).await;
}

#[tokio::test]
async fn who_comes_after_a_crash_goes_on_where_it_stopped() {
    const MANY: usize = 1_000;
    let world = World::in_memory();
    let (a, b) = (Hashed::new(8), Hashed::new(24));
    let known = [("a", &a), ("b", &b)];
    let old = world.process("a", &known);
    for number in 0..MANY {
        add(&old, &format!("zq{number}")).await;
    }
    let first = world.process("b", &known);
    first.reembed(Reembed::Beside).await.unwrap();
    // The claim, and two pages.
    for _ in 0..3 {
        assert_eq!(first.step().await.unwrap(), Step::Worked);
    }
    let progress = first.index_state().unwrap().progress;
    assert_eq!(progress, Some((512, 1_000)));
    drop(first);
    let second = world.process("b", &known);
    // What is needed is read; what was done is not done again.
    cosine(&second, "zq7").await;
    assert_eq!(second.index_state().unwrap().progress, progress);
    settle(&second).await;
    assert!(second.index_state().unwrap().serving.starts_with("b "));
    let embedded = b.many.load(Ordering::Relaxed);
    assert!((MANY..MANY + 20).contains(&embedded), "{embedded} texts");
    clean(second.check().await.unwrap(), MANY as u64);
    assert_eq!(world.names().await.len(), 1);
}

#[tokio::test]
async fn a_process_that_knows_nothing_of_the_change_loses_nothing() {
    let world = World::in_memory();
    let (a, b) = (Hashed::new(8), Hashed::new(24));
    let known = [("a", &a), ("b", &b)];
    // Its configuration is the old one, and it looks at the plan never again.
    let ignorant = world.configured("a", &known, Begins::WhenTold, false);
    add(&ignorant, "zq1 before").await;
    let told = world.configured("b", &known, Begins::WhenTold, false);
    told.reembed(Reembed::Beside).await.unwrap();
    let claimed = told.step().await.unwrap();
    assert_eq!(claimed, Step::Worked);
    add(&ignorant, "zq2 meanwhile").await;
    assert_eq!(told.step().await.unwrap(), Step::Worked);
    assert!(told.index_state().unwrap().filling.is_none());
    add(&ignorant, "zq3 late").await;
    settle(&told).await;
    for text in ["zq1 before", "zq2 meanwhile", "zq3 late"] {
        assert!(cosine(&told, text).await.is_some(), "{text}");
    }
    let drift = told.check().await.unwrap();
    assert_eq!((drift.missing, drift.orphans), (0, 0));
    // Its collection is gone: it learns of the new one, and finds by it.
    cosine(&ignorant, "zq1 before").await;
    ignorant.deliver().await.unwrap();
    assert!(cosine(&ignorant, "zq1 before").await.is_some());
    assert_eq!(world.names().await.len(), 1);
}

#[tokio::test]
async fn words_find_while_the_old_embedder_is_gone() {
    let world = World::in_memory();
    let (a, b) = (Hashed::new(8), Hashed::new(24));
    let old = world.process("a", &[("a", &a)]);
    add(&old, "zq1 tea").await;
    drop(old);
    let service = world.configured("b", &[("b", &b)], Begins::WhenTold, true);
    add(&service, "zq2 tea").await;
    for text in ["zq1 tea", "zq2 tea"] {
        assert_eq!(cosine(&service, text).await, None);
    }
    // What has no vector counts as stale, so that it is written once somebody can.
    assert_eq!(service.check().await.unwrap().missing, 1);
    let old = world.process("a", &[("a", &a)]);
    old.reconcile().await.unwrap();
    assert!(cosine(&old, "zq2 tea").await.is_some());
    clean(old.check().await.unwrap(), 2);
    // Thrown away at once, and filled again.
    service.reembed(Reembed::AtOnce).await.unwrap();
    settle(&service).await;
    assert!(cosine(&service, "zq1 tea").await.is_some());
    clean(service.check().await.unwrap(), 2);
    assert_eq!(world.names().await.len(), 1);
}

#[tokio::test]
async fn a_model_that_changes_its_dimension_is_noticed() {
    let world = World::in_memory();
    let a = Hashed::new(8);
    let known = [("a", &a)];
    let old = world.process("a", &known);
    add(&old, "zq1 tea").await;
    a.dimension.store(16, Ordering::Relaxed);
    // Nothing fails; words find.
    add(&old, "zq2 tea").await;
    assert_eq!(cosine(&old, "zq2 tea").await, None);
    drop(old);
    let service = world.process("a", &known);
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (service, stop) = (service.clone(), stop.clone());
        async move { service.run(stop).await }
    });
    while !is_served(&service, "a (16 numbers)") {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    running.await.unwrap();
    assert!(cosine(&service, "zq2 tea").await.is_some());
    clean(service.check().await.unwrap(), 2);
}

#[tokio::test]
async fn an_embedder_that_is_away_delays_the_change_only() {
    let world = World::in_memory();
    let (a, b) = (Hashed::new(8), Hashed::new(24));
    let known = [("a", &a), ("b", &b)];
    let old = world.process("a", &known);
    add(&old, "zq1 tea").await;
    let service = world.process("b", &known);
    service.reembed(Reembed::Beside).await.unwrap();
    b.is_away.store(true, Ordering::Relaxed);
    // Adds and searches do not notice.
    add(&service, "zq2 tea").await;
    assert!(cosine(&service, "zq2 tea").await.is_some());
    assert_eq!(service.step().await.unwrap(), Step::Worked);
    assert!(service.step().await.is_err());
    b.is_away.store(false, Ordering::Relaxed);
    settle(&service).await;
    assert!(service.index_state().unwrap().serving.starts_with("b "));
    clean(service.check().await.unwrap(), 2);
    // And back, which is given up.
    let back = world.configured("a", &known, Begins::WhenTold, true);
    back.reembed(Reembed::Beside).await.unwrap();
    let state = back.reembed(Reembed::Stop).await.unwrap();
    assert_eq!((state.filling, state.progress), (None, None));
    settle(&back).await;
    assert_eq!(world.names().await.len(), 1);
    assert!(cosine(&back, "zq1 tea").await.is_some());
}
