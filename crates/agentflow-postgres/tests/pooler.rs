//! An address for wake-ups that is a pooler's.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use agentflow_postgres::{Dsn, Hearing, Listen, Options, Postgres};
use agentflow_storage::signal::Signal;
use agentflow_testkit::{
    servers::{
        pgbouncer::{self, Bouncer},
        postgres::{self as server, Database, Version},
    },
    waiting,
};
use agentflow_types::Result;

/// What takes longer counts as never.
const PATIENCE: Duration = Duration::from_secs(30);

fn database() -> Database {
    server::shared(Version::Debian)
        .unwrap()
        .create_database()
        .unwrap()
}

/// Opens an address that is used for everything.
async fn open(url: &str) -> Postgres {
    let options = Options {
        listen: Listen::Same,
        ..Options::new(Dsn::parse(url).unwrap())
    };
    Postgres::open(options).await.unwrap()
}

async fn settled(db: &Postgres) -> Hearing {
    let known = async || db.hearing() != Hearing::Away;
    waiting::until(PATIENCE, known).await.unwrap();
    db.hearing()
}

#[tokio::test]
async fn an_address_of_the_server_is_heard_from() -> Result<()> {
    let database = database();
    let db = open(&database.url()).await;
    assert_eq!(settled(&db).await, Hearing::On);
    Ok(())
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_noticed() -> Result<()> {
    let database = database();
    // With one connection for all, the second client is served by the first one's.
    for pool in [20, 1] {
        let options = pgbouncer::Options::new(database.address().port).pool(pool);
        let bouncer = Bouncer::start(&options)?;
        let url = database.bouncer_url(bouncer.address());
        let db = open(&url).await;
        assert_eq!(settled(&db).await, Hearing::Pooled, "a pool of {pool}");
        // Nobody listens on the connections of the pool, and the own process hears itself.
        let listening = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        assert_eq!(database.sql(listening)?, "0");
        let signals = db.backend().signals;
        let mut heard = signals.listen();
        signals.send(Signal::Queue);
        assert_eq!(heard.recv().await.unwrap(), Signal::Queue);
    }
    Ok(())
}

#[tokio::test]
async fn a_pooler_in_session_mode_is_as_good_as_the_server() -> Result<()> {
    let database = database();
    let options = pgbouncer::Options::new(database.address().port).set("pool_mode", "session");
    let bouncer = Bouncer::start(&options)?;
    let db = open(&database.bouncer_url(bouncer.address())).await;
    assert_eq!(settled(&db).await, Hearing::On);
    Ok(())
}
