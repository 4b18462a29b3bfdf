//! Every case of every suite: on the newest server directly, as the user with few rights of the
//! documentation; on the others through PgBouncer in transaction mode. `xtask/src/registry.rs` names these modules.

mod support;

use agentflow_storage::conformance::Fresh;
use support::{Database, Version, Way};

async fn pooled(version: Version) -> Fresh {
    let database = Database::create_on(version).await;
    let postgres = database.open(Way::Pooled).await;
    Fresh {
        backend: postgres.backend(),
        keep: Box::new((postgres, database)),
    }
}

mod v15_pooled {
    use super::*;

    async fn open() -> Fresh {
        pooled(Version::Debian).await
    }

    agentflow_storage::backend_conformance!(open);
}

mod v16_pooled {
    use super::*;

    async fn open() -> Fresh {
        pooled(Version::V16).await
    }

    agentflow_storage::backend_conformance!(open);
}

mod v17_direct {
    use super::*;

    async fn open() -> Fresh {
        let (database, options) = Database::create_granted(Version::V17).await;
        let postgres = support::open(options).await;
        Fresh {
            backend: postgres.backend(),
            keep: Box::new((postgres, database)),
        }
    }

    agentflow_storage::backend_conformance!(open);
}
