//! Adding and finding memories: the service in this process, as a library is used.
//!
//! Vectors are made from the texts by hash, around one of a thousand centres, so that no model's
//! time is measured.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use agentflow_embedded::{Embedded, Options};
use agentflow_memory::{Add, Models, Search, Service, Speech, Which, text::Language};
use agentflow_models::chat::Embed;
use agentflow_qdrant::{Access, Qdrant};
use agentflow_storage::{memories::OwnerKind, vector::Vectors};
use agentflow_types::{Map, Result as Served, Scope, SystemClock, Value};
use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use serde_json::json;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

/// Numbers of a vector.
const DIMENSION: usize = 384;
/// Centres of the vectors.
const CENTRES: u64 = 1_000;
/// Project of everything.
const PROJECT: &str = "default";
/// Messages of one add where many are stored before the measurement.
const FILL: usize = 100;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the database; one that is there already is used as it is.
    #[arg(long)]
    folder: PathBuf,
    /// Texts of memories, one per line.
    #[arg(long)]
    texts: PathBuf,
    /// Questions, one per line.
    #[arg(long)]
    questions: PathBuf,
    /// Memories that are there before searches are measured.
    #[arg(long, default_value_t = 10_000)]
    memories: usize,
    /// Whose they are.
    #[arg(long, default_value_t = 1)]
    users: usize,
    /// Adds that are measured one after another, and again by each number of writers.
    #[arg(long, default_value_t = 500)]
    adds: usize,
    /// Writers at once.
    #[arg(long, default_value_t = 16)]
    writers: usize,
    /// A Qdrant server for the index, in place of the database.
    #[arg(long)]
    qdrant: Option<String>,
}

/// An embedder that takes no time.
struct Hashed;

#[async_trait]
impl Embed for Hashed {
    async fn embed(&self, _: &str, texts: &[String]) -> Served<Vec<Vec<f32>>> {
        Ok(texts.iter().map(|text| vector(text)).collect())
    }
}

/// A vector as embeddings have it: around a centre, with most of its spread in few directions.
fn vector(text: &str) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(xxh3_64(text.as_bytes()));
    let mut centre = fastrand::Rng::with_seed(random.u64(..CENTRES));
    // A sum of four is normal enough.
    let normal = |random: &mut fastrand::Rng| (0..4).map(|_| random.f32() - 0.5).sum::<f32>();
    let spread = |i: usize| 6.0 / (4.0 + i as f32).sqrt();
    (0..DIMENSION)
        .map(|i| normal(&mut centre) + normal(&mut random) * spread(i))
        .collect()
}

struct Bench {
    service: Service,
    embedded: Embedded,
    texts: Vec<String>,
    questions: Vec<String>,
    users: usize,
}

/// Measures each case once; one JSON line per case.
pub async fn run(args: Args) -> Result<()> {
    fs::create_dir_all(&args.folder)?;
    let started = Instant::now();
    let embedded = Embedded::open(args.folder.join("memory.db"), Options::default())?;
    let vectors: Arc<dyn Vectors> = match &args.qdrant {
        None => embedded.vectors(),
        Some(url) => Arc::new(Qdrant::new(&Access::new(url.clone()))?),
    };
    let models = Models {
        embed: Some((Arc::new(Hashed), "hashed".into())),
        ..Models::default()
    };
    let backend = embedded.backend();
    let service = Service::new(
        backend,
        vectors,
        models,
        Arc::new(SystemClock),
        Language::English,
    );
    let lines = |path: &PathBuf| -> Result<Vec<String>> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let bench = Arc::new(Bench {
        service,
        embedded,
        texts: lines(&args.texts)?,
        questions: lines(&args.questions)?,
        users: args.users.max(1),
    });
    ensure!(
        !bench.texts.is_empty() && !bench.questions.is_empty(),
        "no texts"
    );
    bench.find(&bench.questions[0]).await?;
    let opened = started.elapsed();
    bench.fill(args.memories).await?;
    if args.qdrant.is_none() {
        let started = Instant::now();
        bench.embedded.link_vectors().await?;
        print(
            "start",
            &[("open_s", opened), ("links_s", started.elapsed())],
        );
    }
    bench.searches().await?;
    bench.adds(args.adds, 1).await?;
    bench.adds(args.adds, args.writers).await?;
    println!(
        "{}",
        json!({"case": "memory", "rss_mb": rss()? as f64 / 1e6})
    );
    Ok(())
}

impl Bench {
    fn text(&self, n: usize) -> String {
        // Each is another one, so that each has a vector of its own.
        let text = &self.texts[n % self.texts.len()];
        format!("{text} ({})", n / self.texts.len() + 1)
    }

    fn add(&self, n: usize, many: usize) -> Add {
        let speech = |n| Speech {
            role: "user".into(),
            content: self.text(n),
            name: None,
        };
        let mut add = Add {
            messages: (n..n + many).map(speech).collect(),
            ..Add::default()
        };
        let user = format!("user-{}", n / many % self.users);
        add.owner.set(OwnerKind::User, Some(user));
        add
    }

    /// Stores memories up to this number.
    async fn fill(self: &Arc<Self>, many: usize) -> Result<()> {
        let scope = Scope::local();
        let which = Which::default();
        let page = agentflow_storage::page::PageQuery::default();
        let there = self.service.list(&scope, PROJECT, &which, &page).await?;
        let there = usize::try_from(there.total)?;
        let started = Instant::now();
        for n in (there..many).step_by(FILL) {
            let add = self.add(n, FILL.min(many - n));
            self.service.add(&scope, PROJECT, add).await?;
        }
        let stored = many.saturating_sub(there);
        let per_second = stored as f64 / started.elapsed().as_secs_f64();
        println!(
            "{}",
            json!({"case": "fill", "memories": stored, "per_second": per_second})
        );
        Ok(())
    }

    async fn find(&self, question: &str) -> Result<usize> {
        let filter: Map = [("user_id".into(), Value::str("user-0"))].into();
        let search = Search {
            query: question.to_owned(),
            which: Which {
                filter,
                ..Which::default()
            },
            ..Search::default()
        };
        let scope = Scope::local();
        let found = self.service.search(&scope, PROJECT, &search).await?;
        Ok(found.len())
    }

    async fn searches(&self) -> Result<()> {
        let mut times = Vec::new();
        let mut hits = 0;
        for question in &self.questions {
            let started = Instant::now();
            hits += self.find(question).await?;
            times.push(started.elapsed());
        }
        ensure!(hits > 0, "nothing was found");
        // The first half finds nothing in any cache.
        let later = times.split_off(times.len() / 2);
        told("search_cold", times);
        told("search", later);
        Ok(())
    }

    /// Adds of one message, by so many writers at once.
    async fn adds(self: &Arc<Self>, many: usize, writers: usize) -> Result<()> {
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for writer in 0..writers {
            let bench = self.clone();
            tasks.spawn(async move {
                let mut times = Vec::new();
                for n in (writer..many).step_by(writers) {
                    let add = bench.add(writers * 1_000_000 + n, 1);
                    let started = Instant::now();
                    bench.service.add(&Scope::local(), PROJECT, add).await?;
                    times.push(started.elapsed());
                }
                Ok::<_, anyhow::Error>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(done) = tasks.join_next().await {
            times.extend(done??);
        }
        let per_second = many as f64 / started.elapsed().as_secs_f64();
        let case = format!("add_{writers}");
        println!("{}", json!({"case": case, "per_second": per_second}));
        told(&case, times);
        Ok(())
    }
}

fn told(case: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    print(case, &[("p50_ms", at(0.5)), ("p99_ms", at(0.99))]);
}

fn print(case: &str, times: &[(&str, Duration)]) {
    let mut line = json!({ "case": case });
    for (name, time) in times {
        let unit = if name.ends_with("_ms") { 1e3 } else { 1.0 };
        line[*name] = json!(time.as_secs_f64() * unit);
    }
    println!("{line}");
}

/// Bytes of this process in memory.
fn rss() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).context("no statm")?;
    Ok(pages.parse::<u64>()? * rustix::param::page_size() as u64)
}
