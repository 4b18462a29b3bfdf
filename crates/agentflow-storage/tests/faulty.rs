//! The fault wrapper: every suite with faults off, and what each fault does.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use agentflow_storage::{
    checkpoint::CheckpointQuery,
    conformance::{Fresh, refused, sample::put},
    faulty::{self, Fault},
    memory::Memory,
};
use agentflow_types::{
    ErrorKind::{Busy, Uncertain},
    value,
};

async fn open() -> Fresh {
    faulty::wrap(Memory::open(), Arc::new(|_| Fault::None)).into()
}

agentflow_storage::backend_conformance!(open);

#[tokio::test]
async fn each_fault_does_what_it_says() {
    for (fault, kind, written, alive) in [
        (Fault::Busy, Busy, 0, true),
        (Fault::Lost, Uncertain, 0, true),
        (Fault::Uncertain, Uncertain, 1, true),
        (Fault::CrashBefore, Uncertain, 0, false),
        (Fault::CrashAfter, Uncertain, 1, false),
    ] {
        let database = Memory::new();
        let backend = faulty::wrap(database.backend(), Arc::new(move |_| fault));
        let op = put("t", "", 1, value!({}));
        refused(backend.checkpoints.commit(vec![op], None).await, kind);
        let query = CheckpointQuery::default();
        assert_eq!(
            backend.checkpoints.list(&query).await.is_ok(),
            alive,
            "{fault:?}"
        );
        let reopened = database.snapshot().backend();
        assert_eq!(
            reopened.checkpoints.list(&query).await.unwrap().len(),
            written,
            "{fault:?}"
        );
    }
}
