//! The index against the suite of vectors, without TLS and without a key.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use agentflow_qdrant::{Access, Qdrant};
use agentflow_storage::{conformance::Fresh, vector::Vectors};
use agentflow_testkit::qdrant::{Options, QdrantServer};

async fn open() -> Fresh<Arc<dyn Vectors>> {
    let server = QdrantServer::start(Options::default()).await.unwrap();
    let index = Qdrant::new(&Access::new(server.url())).unwrap();
    Fresh {
        backend: Arc::new(index),
        keep: Box::new(server),
    }
}

agentflow_storage::vector_conformance!(open);
