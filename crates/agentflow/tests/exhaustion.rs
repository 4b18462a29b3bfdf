//! More runs than the database has connections: nobody is refused, and the waits can be seen.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use agentflow_testkit::servers::{
    pgbouncer::{self, Bouncer},
    postgres::{self, Own, Version},
};
use futures_util::future::join_all;
use serde_json::json;

mod fixture;
use fixture::Fixture;

/// Connections that the database takes, three of them for the superuser.
const MOST: &str = "30";
/// Connections that a server would like to have.
const WANTED: &str = "40";
/// Runs at once.
const RUNS: usize = 500;

/// Has a server execute so many runs at once; returns the longest queue for a connection.
async fn crowd(server: &Fixture, runs: usize) {
    let client = server.client();
    let body = json!({
        "assistant_id": "slow", "input": {"steps": 3, "delay_ms": 20, "log": []},
    });
    let all = (0..runs).map(|_| {
        let (client, body) = (client.clone(), body.clone());
        tokio::spawn(async move { client.post("/runs/wait", &body).await })
    });
    for answer in join_all(all).await {
        let text = answer.unwrap().unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let done = value["log"].as_array().map(Vec::len);
        assert_eq!(done, Some(3), "{text}\n{}", server.tail());
    }
}

/// A figure of the server.
async fn figure(server: &Fixture, name: &str) -> f64 {
    let url = format!("http://127.0.0.1:{}/metrics", server.port());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    value.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_runs_through_a_pooler_with_twenty_connections() {
    let own = Own::start(&postgres::Options::new(Version::Debian).set("max_connections", MOST));
    let own = own.unwrap();
    let database = own.address().create_database().unwrap();
    let options = pgbouncer::Options::new(own.address().port).pool(20);
    let bouncer = Bouncer::start(&options).unwrap();
    let pooled = bouncer.address().url(database.name());
    let direct = database.url();
    let concurrency = RUNS.to_string();
    let server = Fixture::with(&[
        "--database-url",
        &pooled,
        "--listen-url",
        &direct,
        "--max-connections",
        WANTED,
        "--concurrency",
        &concurrency,
    ])
    .await;
    crowd(&server, RUNS).await;
    assert!(figure(&server, "agentflow_database_wait_seconds_count").await > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_makes_do_with_the_connections_that_it_gets() {
    let own = Own::start(&postgres::Options::new(Version::Debian).set("max_connections", MOST));
    let own = own.unwrap();
    let database = own.address().create_database().unwrap();
    let direct = database.url();
    let options = ["--database-url", &direct, "--max-connections", WANTED];
    let server = Fixture::with(&options).await;
    crowd(&server, 200).await;
}
