//! The suites of what Redis holds, over TLS as the user of the ACL file that is shipped; and all of
//! them on Valkey.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use agentflow_redis::Keeping;
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

/// Redis has the checkpoints too.
mod checkpointer {
    use super::*;

    async fn open() -> Fresh {
        let redis = support::open().await;
        let kept = redis.keep_checkpoints(Memory::open(), Keeping::default());
        redis.over(kept).into()
    }

    agentflow_storage::checkpoint_conformance!(open);
    agentflow_storage::thread_conformance!(open);
    agentflow_storage::outbox_conformance!(open);
}

/// Valkey instead of Redis, with the checkpoints.
mod valkey {
    use super::*;

    async fn open() -> Fresh {
        let valkey = support::open_valkey().await;
        valkey.check_checkpoints().await.unwrap();
        let kept = valkey.keep_checkpoints(Memory::open(), Keeping::default());
        valkey.over(kept).into()
    }

    agentflow_storage::checkpoint_conformance!(open);
    agentflow_storage::session_conformance!(open);
    agentflow_storage::counter_conformance!(open);
    agentflow_storage::cache_conformance!(open);
    agentflow_storage::signal_conformance!(open);
    agentflow_storage::event_conformance!(open);
    agentflow_storage::thread_conformance!(open);
    agentflow_storage::outbox_conformance!(open);
}
