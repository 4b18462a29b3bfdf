//! The in-memory backend against every suite.

use std::sync::Arc;

use agentflow_storage::{
    conformance::Fresh,
    memory::{Memory, VectorIndex},
    vector::Vectors,
};

async fn open() -> Fresh {
    Memory::open().into()
}

async fn open_index() -> Fresh<Arc<dyn Vectors>> {
    let index: Arc<dyn Vectors> = Arc::new(VectorIndex::default());
    index.into()
}

agentflow_storage::backend_conformance!(open);
agentflow_storage::vector_conformance!(open_index);
