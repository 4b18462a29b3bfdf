//! Every case of every suite, on a server directly and through PgBouncer in transaction mode, and
//! on a newer server.

mod support;

use agentflow_storage::conformance::Fresh;
use support::{Database, Version, Way};

async fn fresh(version: Version, way: Way) -> Fresh {
    let database = Database::create_on(version).await;
    let postgres = database.open(way).await;
    Fresh {
        backend: postgres.backend(),
        keep: Box::new((postgres, database)),
    }
}

mod direct {
    use super::*;

    async fn open() -> Fresh {
        fresh(Version::Debian, Way::Direct).await
    }

    agentflow_storage::backend_conformance!(open);
}

mod pooled {
    use super::*;

    async fn open() -> Fresh {
        fresh(Version::Debian, Way::Pooled).await
    }

    agentflow_storage::backend_conformance!(open);
}

mod newer {
    use super::*;

    async fn open() -> Fresh {
        fresh(Version::V17, Way::Pooled).await
    }

    agentflow_storage::backend_conformance!(open);
}
