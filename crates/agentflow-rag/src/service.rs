//! Documents of users: uploads, chunks, collections, search.
//!
//! Records come first: a document is acknowledged when its bytes and a letter about the work are
//! committed. The work is done in steps that go on where the last one stopped, by whichever
//! process has the letter. The index is derived from the records; what it finds is read from them
//! again, and must be visible there to who asks.

mod access;
mod chunks;
mod collections;
mod documents;
mod filter;
pub mod ids;
mod index;
mod ingest;
mod search;
mod state;
mod work;

use std::sync::Arc;

use agentflow_models::chat::SharedEmbed;
use agentflow_storage::{Backend, documents::Documents, vector::Vectors};
use agentflow_text::Language;
use agentflow_types::{Clock, Timestamp};
use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{Declared, Parsed, Refusal, Sandbox};

pub use access::{Caller, MAX_COLLECTIONS};
pub use collections::Collection;
pub use documents::{Body, MAX_CHUNKS, Upload};
pub use index::Drift;
pub use search::{Fusion, Hit, MAX_RESULTS, Search};
pub use state::{Chunk, Document, Form, Status, VERSION};

use index::Index;

/// Reads files.
#[async_trait]
pub trait Parse: Send + Sync {
    /// The text of a file.
    ///
    /// # Errors
    /// Why there is none.
    async fn parse(&self, bytes: &[u8], declared: &Declared) -> Result<Parsed, Refusal>;
}

#[async_trait]
impl Parse for Sandbox {
    async fn parse(&self, bytes: &[u8], declared: &Declared) -> Result<Parsed, Refusal> {
        Self::parse(self, bytes, declared).await
    }
}

/// The document service.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    index: Index,
    parser: Arc<dyn Parse>,
    clock: Arc<dyn Clock>,
    /// There is work.
    work: Notify,
    /// A document changed.
    progress: Notify,
}

impl Service {
    /// A service over records and an index.
    ///
    /// `embed`: what makes vectors, with its model; without it words alone find. `usual`: language
    /// of texts that do not show another.
    #[must_use]
    pub fn new(
        backend: Backend,
        vectors: Arc<dyn Vectors>,
        embed: Option<(SharedEmbed, String)>,
        parser: Arc<dyn Parse>,
        (clock, usual): (Arc<dyn Clock>, Language),
    ) -> Self {
        let index = Index::new(backend.documents.clone(), vectors, embed, usual);
        Self {
            inner: Arc::new(Inner {
                backend,
                index,
                parser,
                clock,
                work: Notify::new(),
                progress: Notify::new(),
            }),
        }
    }

    /// Compares records and index, without changing anything.
    ///
    /// # Errors
    /// Those of the records and of the index.
    pub async fn check(&self) -> agentflow_types::Result<Drift> {
        self.inner.index.compare(false).await
    }

    /// Compares records and index, and brings the index to what the records say.
    ///
    /// # Errors
    /// Those of the records, the embedder and the index.
    pub async fn reconcile(&self) -> agentflow_types::Result<Drift> {
        self.inner.index.compare(true).await
    }

    fn records(&self) -> &dyn Documents {
        &*self.inner.backend.documents
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    fn wake(&self) {
        self.inner.work.notify_one();
    }
}
