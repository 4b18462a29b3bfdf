//! The real servers start, are shared, and go away.

use agentflow_testkit::servers::postgres::{self, Version};

#[test]
fn a_shared_postgres_gives_databases() {
    for version in Version::ALL {
        let started = std::time::Instant::now();
        let server = postgres::shared(version).unwrap();
        println!("{version:?} {:?}", started.elapsed());
        let started = std::time::Instant::now();
        let database = server.create_database().unwrap();
        println!("create {:?}", started.elapsed());
        let started = std::time::Instant::now();
        assert_eq!(database.sql("SELECT 1").unwrap(), "1");
        println!("select {:?}", started.elapsed());
        let bouncer = server.bouncer().unwrap();
        println!(
            "bouncer {:?} {}",
            started.elapsed(),
            database.bouncer_url(&bouncer)
        );
    }
}
