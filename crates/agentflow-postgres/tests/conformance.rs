//! Every case of every suite, on a server directly and through PgBouncer in transaction mode.

mod support;

use agentflow_storage::conformance::Fresh;
use support::{Database, Way};

async fn fresh(way: Way) -> Fresh {
    let database = Database::create().await;
    let postgres = database.open(way).await;
    Fresh {
        backend: postgres.backend(),
        keep: Box::new((postgres, database)),
    }
}

mod direct {
    use super::*;

    async fn open() -> Fresh {
        fresh(Way::Direct).await
    }

    agentflow_storage::backend_conformance!(open);
}

mod pooled {
    use super::*;

    async fn open() -> Fresh {
        fresh(Way::Pooled).await
    }

    agentflow_storage::backend_conformance!(open);
}
