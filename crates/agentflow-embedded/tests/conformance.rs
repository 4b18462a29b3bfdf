//! The embedded backend against every suite, each case on a file of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use agentflow_embedded::{Embedded, Options};
use agentflow_storage::conformance::Fresh;

async fn open() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agentflow.db");
    let backend = Embedded::open(
        path,
        Options {
            readers: 2,
            ..Options::default()
        },
    )
    .unwrap();
    Fresh {
        backend: backend.backend(),
        keep: Box::new(folder),
    }
}

agentflow_storage::backend_conformance!(open);
