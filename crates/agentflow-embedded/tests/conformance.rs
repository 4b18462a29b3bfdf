//! The embedded backend against every suite, each case on a file of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{path::Path, sync::Arc};

use agentflow_embedded::{Embedded, Options};
use agentflow_storage::{conformance::Fresh, vector::Vectors};

fn open_in(folder: &Path) -> Embedded {
    let options = Options {
        readers: 2,
        ..Options::default()
    };
    Embedded::open(folder.join("agentflow.db"), options).unwrap()
}

async fn open() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    Fresh {
        backend: open_in(folder.path()).backend(),
        keep: Box::new(folder),
    }
}

async fn open_index() -> Fresh<Arc<dyn Vectors>> {
    let folder = tempfile::tempdir().unwrap();
    Fresh {
        backend: open_in(folder.path()).vectors(),
        keep: Box::new(folder),
    }
}

agentflow_storage::backend_conformance!(open);
agentflow_storage::vector_conformance!(open_index);
