//! The memory service with its records on PostgreSQL, through PgBouncer in transaction mode.

mod support;

use std::sync::Arc;

use agentflow_memory::{Models, Service, conformance, text::Language};
use agentflow_postgres::Postgres;
use agentflow_storage::memory::VectorIndex;
use agentflow_types::SystemClock;
use support::{Database, Version, Way};

async fn open() -> (Service, Postgres, Database) {
    let database = Database::create_on(Version::V17).await;
    let postgres = database.open(Way::Pooled).await;
    let service = Service::new(
        postgres.backend(),
        Arc::new(VectorIndex::default()),
        Models::default(),
        Arc::new(SystemClock),
        Language::English,
    );
    (service, postgres, database)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_writers_of_a_hundred_tenants_lose_nothing() {
    let (service, _postgres, _database) = open().await;
    conformance::ten_writers_of_a_hundred_tenants_lose_nothing(service)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_one_memory_lose_no_update() {
    let (service, _postgres, _database) = open().await;
    conformance::writers_of_one_memory_lose_no_update(service)
        .await
        .unwrap();
}
