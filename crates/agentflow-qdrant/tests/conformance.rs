//! The index against the suite of vectors: without TLS and key, and with a private authority, a
//! client certificate and a key.
//!
//! With `AGENTFLOW_QDRANT_URL` set, the suite at the top runs against that server instead of the
//! stand-in; `cargo xtask conformance vectors` sets it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;

use agentflow_qdrant::{Access, Qdrant};
use agentflow_storage::{conformance::Fresh, vector::Vectors};
use agentflow_testkit::qdrant::{Options, QdrantServer};

async fn open() -> Fresh<Arc<dyn Vectors>> {
    if let Some(access) = support::real() {
        let index = Qdrant::new(&access).unwrap();
        index.check().await.unwrap();
        return Fresh {
            backend: Arc::new(index),
            keep: Box::new(support::Tidy(access)),
        };
    }
    let server = QdrantServer::start(Options::default()).await.unwrap();
    let index = Qdrant::new(&Access::new(server.url())).unwrap();
    Fresh {
        backend: Arc::new(index),
        keep: Box::new(server),
    }
}

agentflow_storage::vector_conformance!(open);

mod over_tls {
    use super::*;

    async fn open() -> Fresh<Arc<dyn Vectors>> {
        let secured = support::Secured::start().await;
        let index = Qdrant::new(&secured.access()).unwrap();
        Fresh {
            backend: Arc::new(index),
            keep: Box::new(secured),
        }
    }

    agentflow_storage::vector_conformance!(open);
}
