//! The suites of what Redis holds, over TLS as the user of the ACL file that is shipped.

mod support;

use agentflow_storage::{conformance::Fresh, memory::Memory};

async fn open() -> Fresh {
    let redis = support::open().await;
    redis.over(Memory::open()).into()
}

agentflow_storage::session_conformance!(open);
agentflow_storage::counter_conformance!(open);
agentflow_storage::cache_conformance!(open);
agentflow_storage::signal_conformance!(open);
agentflow_storage::event_conformance!(open);
agentflow_storage::thread_conformance!(open);
