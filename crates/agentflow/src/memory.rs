//! Long-term memory as the configuration wants it: models, index, service.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use agentflow_memory::{
    Begins, Drift, Embedders, IndexState, Lasting, Models, Reembed, Service, Step,
};
use agentflow_minilm::{CrossEncoder, Embedder, Files, Workers};
use agentflow_models::{
    Registry, SharedEmbed,
    chat::Embed,
    hub::{ALL_MINILM_L6_V2, Cache, Network},
    rerank::{ChatRerank, Cohere, SharedRerank},
};
use agentflow_server::{Part, Wellness};
use agentflow_storage::vector::Vectors;
use agentflow_types::{Clock, Error, Result, SystemClock};
use async_trait::async_trait;
use tokio::sync::OnceCell;

use crate::{
    app::Keep,
    config::{
        Config, MemorySection,
        memory::{LOCAL, OFF, Reembedding},
    },
    database::{self, Database},
    models,
};

/// Name of the local embedding model.
const MINILM: &str = "all-MiniLM-L6-v2";

/// The memory service; `None` if the configuration wants none. Models come from a registry, with
/// the model of who names none.
///
/// `grace`: how long an index stays after it was replaced.
///
/// # Errors
/// `Invalid` for a model that does not exist, `NotFound` if a file of a local one is missing.
pub(crate) async fn open(
    config: &Config,
    database: &Database,
    (registry, default): (Option<&Arc<Registry>>, Option<&str>),
    grace: Duration,
) -> Result<Option<Service>> {
    let section = &config.memory;
    if !section.enabled {
        return Ok(None);
    }
    let chat = match (section.model.as_str(), default) {
        (OFF, _) | ("", None) => None,
        ("", Some(spec)) | (spec, _) => Some(known(registry)?.resolve(spec)?),
    };
    let rerank = reranker(section, registry, chat.as_ref())?;
    let found = Found {
        section: section.clone(),
        registry: registry.cloned(),
    };
    let models = Models {
        embed: found.embedder(&section.embedding)?,
        chat,
        rerank,
    };
    let vectors: Arc<dyn Vectors> = database.vectors.clone();
    let language = section.language()?;
    let clock = Arc::new(SystemClock);
    let backend = database.backend.clone();
    if !database.keeps_vectors {
        let service = Service::new(backend, vectors, models, clock, language);
        return Ok(Some(service));
    }
    let lasting = Lasting {
        // The files of the local model may be away for a while: that is no wish.
        wish: match (section.embedding.as_str(), &models.embed) {
            ("", None) => None,
            ("", Some(_)) => Some(LOCAL.to_owned()),
            (spec, _) => Some(spec.to_owned()),
        },
        embedders: Arc::new(found),
        begins: match section.reembed {
            Reembedding::Auto if database.is_exclusive => Begins::ByItself,
            Reembedding::Auto | Reembedding::Ask => Begins::WhenTold,
        },
        is_alone: database.is_exclusive,
        grace,
    };
    let about = (clock as Arc<dyn Clock>, language);
    Ok(Some(Service::lasting(
        backend, vectors, models, about, lasting,
    )))
}

/// What the banner says about it.
pub(crate) fn told(service: Option<&Service>) -> String {
    let Some(service) = service else {
        return "off".into();
    };
    let used = service.models_used();
    let kept = match used.chat {
        Some((_, model)) => format!("facts by {model}"),
        None => "messages as they are said".into(),
    };
    match used.embed {
        Some(model) => format!("{kept}, found by words and {model}"),
        None => format!("{kept}, found by words; hint: `agentflow models pull` adds vectors"),
    }
}

fn known(registry: Option<&Arc<Registry>>) -> Result<&Registry> {
    registry
        .map(|registry| &**registry)
        .ok_or_else(|| Error::invalid("memory names a model, and this program has none"))
}

/// The embedder that a section names in the words of `memory.embedding`, and its model; `None` for
/// words alone.
///
/// # Errors
/// As [`open`].
pub(crate) fn embedder(
    config: &Config,
    registry: Option<&Arc<Registry>>,
    spec: &str,
) -> Result<Option<(SharedEmbed, String)>> {
    let found = Found {
        section: config.memory.clone(),
        registry: registry.cloned(),
    };
    found.embedder(spec)
}

/// Finds embedders as the configuration names them.
struct Found {
    section: MemorySection,
    registry: Option<Arc<Registry>>,
}

impl Found {
    fn embedder(&self, spec: &str) -> Result<Option<(SharedEmbed, String)>> {
        let files = match spec {
            OFF => return Ok(None),
            LOCAL => local(&self.section)?.ok_or_else(|| {
                Error::not_found(
                    "the files of the local embedding model are not there: fetch them with \
                    `agentflow models pull`, or set memory.embedding_folder",
                )
            })?,
            "" => match local(&self.section)? {
                Some(files) => files,
                None => return Ok(None),
            },
            spec => {
                return known(self.registry.as_ref())?.resolve_embed(spec).map(Some);
            }
        };
        let embed = Late {
            files,
            loaded: OnceCell::new(),
        };
        Ok(Some((Arc::new(embed), MINILM.to_owned())))
    }
}

#[async_trait]
impl Embedders for Found {
    async fn find(&self, spec: &str) -> Result<Option<(SharedEmbed, String)>> {
        self.embedder(spec)
    }
}

/// The files of the local embedding model, if they are there.
fn local(section: &MemorySection) -> Result<Option<Files>> {
    if let Some(folder) = database::file(&section.embedding_folder) {
        return Files::in_folder(folder).map(Some);
    }
    let Ok(cache) = Cache::from_env(|name| std::env::var(name).ok()) else {
        return Ok(None);
    };
    let model = ALL_MINILM_L6_V2;
    let found = cache.find(model.repo, Some(model.revision));
    let found = found.or_else(|| cache.find(model.repo, None));
    found.map(Files::in_folder).transpose()
}

fn reranker(
    section: &MemorySection,
    registry: Option<&Arc<Registry>>,
    chat: Option<&(agentflow_models::SharedChat, String)>,
) -> Result<Option<SharedRerank>> {
    Ok(Some(match section.reranker.as_str() {
        "" | OFF => return Ok(None),
        LOCAL => {
            let files = Files::in_folder(&section.reranker_folder)?;
            Arc::new(CrossEncoder::load(&files, Workers::default())?)
        }
        "llm" => {
            let (chat, model) = chat.ok_or_else(|| {
                Error::invalid("memory.reranker = \"llm\" needs a chat model: set memory.model")
            })?;
            Arc::new(ChatRerank::new(chat.clone(), model.clone()))
        }
        spec => {
            let wrong = || {
                Error::invalid(
                    "memory.reranker must be local, llm, or provider:model of a known provider",
                )
                .with("found", spec)
            };
            let (name, model) = spec.split_once(':').ok_or_else(wrong)?;
            let provider = known(registry)?.provider(name).ok_or_else(wrong)?;
            Arc::new(Cohere::new(provider, model)?)
        }
    }))
}

/// The local embedding model, read when it is needed first: a server that keeps no memories need
/// not hold it.
struct Late {
    files: Files,
    loaded: OnceCell<Embedder>,
}

#[async_trait]
impl Embed for Late {
    async fn embed(&self, model: &str, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let load = || async {
            let files = self.files.clone();
            let load = move || Embedder::load(MINILM, &files, Workers::default());
            tokio::task::spawn_blocking(load)
                .await
                .map_err(|err| Error::bug("reading the model panicked").source_err(err))?
        };
        let embedder = self.loaded.get_or_try_init(load).await?;
        embedder.embed(model, texts).await
    }
}

/// Fetches the local embedding model into the Hugging Face cache; where it is then.
///
/// # Errors
/// As [`Cache::fetch`].
pub(crate) async fn pull() -> Result<PathBuf> {
    let cache = Cache::from_env(|name| std::env::var(name).ok())?;
    let cache = cache.network(Network::Allowed);
    let files = Files::locate(None, &cache, &ALL_MINILM_L6_V2).await?;
    Ok(files.folder().to_owned())
}

/// How long an index stays after it was replaced: longer than searches that look at it.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// How often the command tells how far it is.
const TELL: Duration = Duration::from_secs(2);
/// How often it looks whether others have done the work.
const LOOK: Duration = Duration::from_secs(1);

/// The index in `/health`.
pub(crate) struct Health(pub(crate) Service);

#[async_trait]
impl Part for Health {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn wellness(&self) -> Wellness {
        let state = self.0.index_state();
        Wellness::Ok(state.map_or_else(|| "nothing is kept yet".into(), |state| line(&state)))
    }
}

/// One line about the index.
fn line(state: &IndexState) -> String {
    let serving = &state.serving;
    match (&state.filling, state.progress) {
        (Some(next), Some((done, total))) => {
            format!("found by {serving}; {done} of {total} memories are embedded by {next}")
        }
        (None, Some((done, total))) => {
            format!("found by {serving}; {done} of {total} memories are there")
        }
        _ => format!("found by {serving}"),
    }
}

/// Embeds all memories with the configured model, or gives that up; tells how far it is.
///
/// # Errors
/// `Busy` if a server uses the embedded database; `Invalid` if memory is off or its index does not
/// outlive a process.
pub(crate) async fn reembed(
    config: &Config,
    how: Reembed,
    tell: impl Fn(&str),
) -> Result<IndexState> {
    let found = models::from_config(&config.models).await?;
    let database = database::open(config, Keep::OnDisk).await?;
    let grace = match database.is_exclusive {
        true => Duration::ZERO,
        false => GRACE,
    };
    let models = (Some(&found.registry), found.default.as_deref());
    let service = open(config, &database, models, grace).await?;
    let service = service.ok_or_else(|| Error::invalid("memory.enabled is false"))?;
    let mut state = service.reembed(how).await?;
    let mut told: Option<Instant> = None;
    while state.progress.is_some() || state.retired > 0 {
        if told.is_none_or(|at| at.elapsed() >= TELL) {
            tell(&line(&state));
            told = Some(Instant::now());
        }
        if service.step().await? == Step::Idle {
            // Another process does it, or searches of others may still look at the old index.
            tokio::time::sleep(LOOK).await;
        }
        state = service.index_state().unwrap_or(state);
    }
    Ok(state)
}

/// Compares the index of memories with the records, and repairs it unless it is only a check.
///
/// # Errors
/// `Busy` if a server uses the embedded database; `Invalid` if memory is off.
pub(crate) async fn reconcile(config: &Config, check: bool) -> Result<Drift> {
    let found = models::from_config(&config.models).await?;
    let database = database::open(config, Keep::OnDisk).await?;
    let models = (Some(&found.registry), found.default.as_deref());
    let service = open(config, &database, models, GRACE).await?;
    let service = service.ok_or_else(|| Error::invalid("memory.enabled is false"))?;
    match check {
        true => service.check().await,
        false => service.reconcile().await,
    }
}
