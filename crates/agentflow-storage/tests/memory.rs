//! The in-memory backend against every suite.

use agentflow_storage::{conformance::Fresh, memory::Memory};

async fn open() -> Fresh {
    Memory::open().into()
}

agentflow_storage::backend_conformance!(open);
