//! What a server calls.

mod add;
mod before;
mod cards;
mod change;
mod derived;
mod find;
mod insight;
mod jobs;
mod notes;
mod place;
mod projects;
mod used;
mod work;

use std::sync::Arc;

use agentflow_models::{
    chat::{SharedChat, SharedEmbed},
    rerank::SharedRerank,
};
use agentflow_storage::{
    Backend,
    memories::{Change, Memory},
    outbox::Settled,
    vector::Vectors,
};
use agentflow_types::{Clock, Error, ErrorKind, MemoryId, Result, Scope, Timestamp};
use md5::{Digest, Md5};
use tokio::sync::Notify;

pub use add::{Add, Added, Speech};
pub(crate) use before::Before;
pub use change::{Deleted, Edit};
pub use find::{Found, MAX_QUERY_BYTES, Search, Which};
pub use insight::{Export, Profile, ProfileSettings, ProfileStatus};
pub use notes::Project;
pub use projects::{DEFAULT_PROJECT, Feedback, Verdict, Webhook, WebhookPatch};

use crate::{
    fence,
    index::{self, Drift, Index, IndexState, Lasting, Reach, Reembed, Step},
    text::Language,
};

/// How often a decision is made anew when somebody else was faster.
const DECISIONS: u32 = 16;

/// Models that the service may use; everything works without them, if less well.
#[derive(Clone, Default)]
pub struct Models {
    /// Reads facts out of turns; without it the turns themselves are the memories.
    pub chat: Option<(SharedChat, String)>,
    /// Makes vectors; without it words and entities find.
    pub embed: Option<(SharedEmbed, String)>,
    /// Judges hits once more.
    pub rerank: Option<SharedRerank>,
}

/// The models in use.
#[derive(Clone, Copy, Debug)]
pub struct ModelsUsed<'a> {
    /// Provider and model of what reads facts.
    pub chat: Option<(&'a str, &'a str)>,
    /// Model of what makes vectors.
    pub embed: Option<&'a str>,
}

/// Long-term memory. Clones share it.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    index: Index,
    models: Models,
    clock: Arc<dyn Clock>,
    usual: Language,
    /// Rings when there is a job.
    jobs: Notify,
    /// Rings when an attempt of a job ended.
    ended: Notify,
    /// The last turns of conversations.
    recent: before::Recent,
    cards: cards::Cards,
    wanting: used::Wanting,
}

impl Service {
    /// A service over records and an index. Work in the background begins with
    /// [`Service::run`].
    ///
    /// `usual`: language of texts that do not show another.
    #[must_use]
    pub fn new(
        backend: Backend,
        vectors: Arc<dyn Vectors>,
        models: Models,
        clock: Arc<dyn Clock>,
        usual: Language,
    ) -> Self {
        Self::over(backend, vectors, models, clock, usual, None)
    }

    /// A service whose index outlives the process.
    #[must_use]
    pub fn lasting(
        backend: Backend,
        vectors: Arc<dyn Vectors>,
        models: Models,
        (clock, usual): (Arc<dyn Clock>, Language),
        lasting: Lasting,
    ) -> Self {
        Self::over(backend, vectors, models, clock, usual, Some(lasting))
    }

    fn over(
        backend: Backend,
        vectors: Arc<dyn Vectors>,
        models: Models,
        clock: Arc<dyn Clock>,
        usual: Language,
        lasting: Option<Lasting>,
    ) -> Self {
        let (fenced, vectors) = fence::around(&backend, vectors);
        let embed = models.embed.clone();
        // What is written into the index is what the records say, whoever may read them.
        let index = Index::new(vectors, embed, (backend, usual), clock.clone(), lasting);
        Self {
            inner: Arc::new(Inner {
                backend: fenced,
                index,
                models,
                clock,
                usual,
                jobs: Notify::new(),
                ended: Notify::new(),
                recent: before::Recent::default(),
                cards: cards::Cards::default(),
                wanting: used::Wanting::default(),
            }),
        }
    }

    /// Delivers letters to the index that are due; how many there were.
    ///
    /// # Errors
    /// Those of the outbox; those of the index keep the letter.
    pub async fn deliver(&self) -> Result<usize> {
        self.inner.index.deliver(self.now()).await
    }

    /// Compares records and index.
    ///
    /// # Errors
    /// Those of the records and of the index.
    pub async fn check(&self) -> Result<Drift> {
        self.inner.index.reconcile(false).await
    }

    /// Compares records and index, and repairs the index; tells what it found.
    ///
    /// # Errors
    /// Those of the records and of the index.
    pub async fn reconcile(&self) -> Result<Drift> {
        self.inner.index.reconcile(true).await
    }

    /// Begins to embed all memories with the configured model, or gives it up. The work is done by
    /// [`Service::run`] of some process, or by [`Service::step`].
    ///
    /// # Errors
    /// `Invalid` for an index that does not outlive the process; those of the records and of the
    /// embedder.
    pub async fn reembed(&self, how: Reembed) -> Result<IndexState> {
        let shelf = self.inner.index.reembed(how).await?;
        Ok(shelf.state())
    }

    /// Does a part of what the index needs.
    ///
    /// # Errors
    /// Those of the records, the embedder and the index; it may be tried again.
    pub async fn step(&self) -> Result<Step> {
        self.inner.index.step().await
    }

    /// How the index is, as far as this process knows; `None` before it was needed.
    #[must_use]
    pub fn index_state(&self) -> Option<IndexState> {
        self.inner.index.loaded().map(|shelf| shelf.state())
    }

    /// The models in use.
    #[must_use]
    pub fn models_used(&self) -> ModelsUsed<'_> {
        let models = &self.inner.models;
        let chat = models.chat.as_ref();
        let embed = models.embed.as_ref();
        ModelsUsed {
            chat: chat.map(|(chat, model)| (chat.provider(), model.as_str())),
            embed: embed.map(|(_, model)| model.as_str()),
        }
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    fn backend(&self) -> &Backend {
        &self.inner.backend
    }

    /// Stores changes with the letter for the index, and writes the index at once.
    async fn commit(&self, scope: &Scope, mut changes: Vec<Change>) -> Result<()> {
        let ids: Vec<MemoryId> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Put(memory) => Some(memory.memory_id),
                _ => None,
            })
            .collect();
        if ids.is_empty() {
            return self.backend().memories.apply(scope, changes).await;
        }
        let (letter, post) = index::letter(&ids, self.now());
        changes.push(post);
        self.backend().memories.apply(scope, changes).await?;
        self.inner.cards.forget(&ids);
        let (index, now) = (&self.inner.index, self.now());
        if index.is_away(now) {
            return Ok(());
        }
        let refreshed = index.refresh(scope, &ids).await;
        index.note(now, &refreshed);
        match refreshed {
            Ok(Reach::Serving) => {}
            Ok(Reach::All) => {
                let settled = self.backend().outbox.settle(letter, 0, Settled::Delivered);
                if let Err(err) = settled.await {
                    tracing::warn!(error = %err, "a letter will be delivered twice");
                }
            }
            Err(err) => tracing::warn!(error = %err, "the index is written later"),
        }
        Ok(())
    }

    /// A memory of the project.
    async fn memory(&self, scope: &Scope, project: &str, id: MemoryId) -> Result<Memory> {
        let found = self.backend().memories.get(scope, &[id], None).await?;
        found
            .into_iter()
            .find(|memory| memory.project == project)
            .ok_or_else(not_found)
    }
}

fn not_found() -> Error {
    Error::not_found("Memory not found!")
}

/// Whether a decision is worth making anew.
fn was_late(err: &Error, tries: u32) -> bool {
    err.kind() == ErrorKind::Conflict && tries < DECISIONS
}

/// MD5 in hexadecimal digits, as Mem0 marks texts.
fn hash(text: &str) -> String {
    let digest = Md5::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
