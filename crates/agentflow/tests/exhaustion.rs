//! More runs than the database has connections: nobody is refused, and the waits can be seen.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::time::Duration;

use agentflow_testkit::servers::{
    pgbouncer::{self, Bouncer},
    postgres::{self, Own, Version},
};
use futures_util::future::join_all;
use serde_json::json;

/// Pause between two looks at the figures.
const LOOK: Duration = Duration::from_millis(20);

mod fixture;
use fixture::Fixture;

/// Connections that the database takes, three of them for the superuser.
const MOST: &str = "30";
/// Connections that a server would like to have.
const WANTED: &str = "40";
/// How long the server waits for a connection, a statement and a lease, in seconds: the test is
/// about what callers see of the queue, not about how fast the machine works it off.
const PATIENCE: &str = "120";
/// Runs at once.
const RUNS: usize = 500;

/// Has a server execute so many runs at once; every client gets its result.
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

/// All figures of the server.
async fn metrics(server: &Fixture) -> String {
    let url = format!("http://127.0.0.1:{}/metrics", server.port());
    let answer = reqwest::get(url).await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}\n{}", server.tail());
    text
}

/// A figure among them.
fn figure(metrics: &str, name: &str) -> f64 {
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no {name} in\n{metrics}"));
    value.parse().unwrap()
}

/// Looks at the figures until told to stop; returns the longest queue that was seen.
async fn watch(server: &Fixture, until: impl Future<Output = ()>) -> f64 {
    let mut longest = 0_f64;
    let looking = async {
        loop {
            let now = figure(&metrics(server).await, "agentflow_database_waiting");
            longest = longest.max(now);
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = looking => {}
        () = until => {}
    }
    longest
}

/// Has a server execute so many runs at once, and looks whether what it tells of them is true:
/// callers waited for a connection, which could be seen while it was so; nobody waited in vain;
/// no run and no request failed.
async fn check(server: &Fixture, runs: usize, wanted: f64) {
    let longest = watch(server, crowd(server, runs)).await;
    let told = metrics(server).await;
    let database = |name: &str| figure(&told, &format!("agentflow_database_{name}"));
    println!(
        "{} waits of {} s together, at most {longest} at once, {} connections",
        database("wait_seconds_count"),
        database("wait_seconds_sum"),
        database("connections"),
    );
    assert!(longest > 0.0, "nobody was seen to wait");
    assert!(database("wait_seconds_count") > 0.0);
    assert!(database("wait_seconds_sum") > 0.0);
    assert_eq!(database("waiting"), 0.0);
    assert_eq!(database("wait_timeouts_total"), 0.0);
    assert_eq!(database("statement_timeouts_total"), 0.0);
    assert!(database("connections") <= wanted);
    for line in told.lines() {
        let failed = ["error", "timeout", "interrupted"];
        let is_failed = failed
            .iter()
            .any(|status| line.starts_with(&format!("agentflow_runs{{status=\"{status}\"}}")));
        let is_zero = line.ends_with(" 0");
        assert!(!is_failed || is_zero, "{line}");
        let is_request = line.starts_with("agentflow_api_http_requests_total");
        let is_refused = line.contains("status=\"4") || line.contains("status=\"5");
        assert!(!(is_request && is_refused) || is_zero, "{line}");
    }
    for words in [" ERROR ", " WARN "] {
        assert!(!server.said(words), "{}", server.tail());
    }
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
        "--acquire-timeout-seconds",
        PATIENCE,
        "--statement-timeout-seconds",
        PATIENCE,
        "--lease-seconds",
        PATIENCE,
    ])
    .await;
    check(&server, RUNS, 40.0).await;
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
    let told = metrics(&server).await;
    assert!(figure(&told, "agentflow_database_wait_seconds_count") > 0.0);
    assert_eq!(figure(&told, "agentflow_database_wait_timeouts_total"), 0.0);
}
