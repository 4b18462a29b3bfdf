//! Two server processes on one PostgreSQL database: what one starts the other can read, stop and
//! finish; they are replaced one after the other under load; one that was suspended writes
//! nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use agentflow_testkit::{faults::Proxy, servers::postgres::Database, waiting};
use serde_json::{Value, json};

mod fixture;
use fixture::{Client, Fixture, LEASE};

/// What takes longer counts as never, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clients that work while servers are replaced.
const CLIENTS: usize = 6;

/// A run of the slow graph.
fn slow(steps: u64, delay_ms: u64) -> Value {
    json!({
        "assistant_id": "slow", "input": {"steps": steps, "delay_ms": delay_ms, "log": []},
        "stream_mode": ["updates"], "stream_resumable": true,
    })
}

/// The steps that the state of a thread says were done, each once.
async fn steps(client: &Client, thread: &str) -> usize {
    let state = client.get(&format!("/threads/{thread}/state")).await;
    let log = state["values"]["log"].as_array().unwrap().clone();
    let mut once = log.clone();
    once.dedup();
    assert_eq!(once, log, "a step was done twice");
    log.len()
}

async fn status(client: &Client, thread: &str, run: &str) -> String {
    let run = client.get(&format!("/threads/{thread}/runs/{run}")).await;
    run["status"].as_str().unwrap().to_owned()
}

/// Events of a run that are stored.
fn events(database: &Database, run: &str) -> usize {
    let sql = format!("SELECT count(*) FROM agentflow.events WHERE run_id = '{run}'");
    database.sql(&sql).unwrap().parse().unwrap()
}

/// Waits until so many events of a run are stored.
async fn grown(database: &Database, run: &str, least: usize) {
    waiting::until(PATIENCE, async || events(database, run) >= least)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_started_on_one_server_is_joined_on_the_other() {
    let database = fixture::database();
    let (first, second) = tokio::join!(Fixture::start(&database), Fixture::start(&database));
    let thread = first.client().thread().await;
    let started = first.client().stream(&thread, &slow(20, 30)).await.unwrap();
    // From the beginning, while it goes on or after it.
    let joined = second
        .client()
        .join_stream(&started.location, "-1")
        .await
        .unwrap();
    let started = started.read_all().await.unwrap();
    let joined = joined.read_all().await.unwrap();
    assert_eq!(started, joined);
    let updates = joined.iter().filter(|event| event.name == "updates");
    assert_eq!(updates.count(), 20);
    assert_eq!(steps(&second.client(), &thread).await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_on_one_server_stops_the_run_on_the_other() {
    let database = fixture::database();
    let (first, second) = tokio::join!(Fixture::start(&database), Fixture::start(&database));
    let thread = first.client().thread().await;
    let run = first.client().create(&thread, &slow(100_000, 20)).await;
    grown(&database, &run, 3).await;
    let begun = std::time::Instant::now();
    let path = format!("/threads/{thread}/runs/{run}/cancel?wait=true");
    second.client().post(&path, &json!({})).await.unwrap();
    assert_eq!(status(&second.client(), &thread, &run).await, "interrupted");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let stored = events(&database, &run);
    // The holder has stopped: it starts something new at once and says no more about this one.
    let next = first.client().create(&thread, &slow(1, 1)).await;
    let ended = async || status(&first.client(), &thread, &next).await == "success";
    waiting::until(PATIENCE, ended).await.unwrap();
    assert_eq!(events(&database, &run), stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_server_loses_its_run_and_writes_nothing() {
    let database = fixture::database();
    let (first, second) = tokio::join!(Fixture::start(&database), Fixture::start(&database));
    let thread = first.client().thread().await;
    let run = first.client().create(&thread, &slow(60, 100)).await;
    grown(&database, &run, 5).await;
    first.signal("STOP").await;
    let ended = async || status(&second.client(), &thread, &run).await == "success";
    waiting::until(PATIENCE, ended).await.unwrap();
    let stored = events(&database, &run);
    assert_eq!(steps(&second.client(), &thread).await, 60);
    first.signal("CONT").await;
    let refused = async || first.said("a run was taken over");
    waiting::until(PATIENCE, refused).await.unwrap();
    assert_eq!(events(&database, &run), stored);
    assert_eq!(steps(&first.client(), &thread).await, 60);
    let claims = "SELECT count(*) FROM agentflow.events WHERE kind = 'metadata'";
    assert_eq!(database.sql(claims).unwrap(), "2");
    // It is well otherwise.
    let next = first.client().create(&thread, &slow(1, 1)).await;
    let ended = async || status(&first.client(), &thread, &next).await == "success";
    waiting::until(PATIENCE, ended).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_a_dead_server_goes_on_when_its_lease_is_over() {
    let database = fixture::database();
    let (first, second) = tokio::join!(Fixture::start(&database), Fixture::start(&database));
    let thread = first.client().thread().await;
    let run = first.client().create(&thread, &slow(40, 50)).await;
    grown(&database, &run, 5).await;
    let begun = std::time::Instant::now();
    first.kill().await;
    let ended = async || status(&second.client(), &thread, &run).await == "success";
    waiting::until(PATIENCE, ended).await.unwrap();
    // Not before: a server that is alive may not lose its run.
    let again = "SELECT max(at) - min(at) > interval '1 second' FROM agentflow.events
        WHERE kind = 'metadata'";
    assert_eq!(database.sql(again).unwrap(), "t");
    assert!(begun.elapsed() >= LEASE / 3);
    assert_eq!(steps(&second.client(), &thread).await, 40);
}

/// What clients did while servers were replaced.
#[derive(Default)]
struct Work {
    done: Vec<AtomicUsize>,
    resumed: AtomicUsize,
    stop: AtomicBool,
}

impl Work {
    /// Runs one after the other, each streamed to its end.
    async fn stream(&self, client: &Client, number: usize) {
        while !self.stop.load(SeqCst) {
            let thread = client.thread().await;
            let stream = client.stream(&thread, &slow(8, 40)).await.unwrap();
            let (seen, resumed) = stream.read_on_whatever_happens().await.unwrap();
            let numbers: Vec<u64> = seen.iter().map(|event| event.id).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
            let updates = seen.iter().filter(|event| event.name == "updates");
            assert_eq!(updates.count(), 8, "{seen:?}");
            assert_eq!(steps(client, &thread).await, 8);
            self.resumed.fetch_add(resumed, SeqCst);
            self.done[number].fetch_add(1, SeqCst);
        }
    }

    /// Runs one after the other, each waited for.
    async fn wait(&self, client: &Client, number: usize) {
        while !self.stop.load(SeqCst) {
            let thread = client.thread().await;
            let result = client.wait(&thread, &slow(8, 40)).await.unwrap();
            assert_eq!(result["log"].as_array().unwrap().len(), 8, "{result}");
            self.done[number].fetch_add(1, SeqCst);
        }
    }

    /// Waits until every client has come to the end of two more runs.
    async fn goes_on(&self) {
        let count = |at: &AtomicUsize| at.load(SeqCst);
        let before: Vec<usize> = self.done.iter().map(count).collect();
        let more = async || {
            let now = self.done.iter().map(count);
            now.zip(&before).all(|(now, before)| now > before + 1)
        };
        waiting::until(PATIENCE, more).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_replaced_one_after_the_other_and_no_client_notices() {
    let database = fixture::database();
    let (mut first, mut second) =
        tokio::join!(Fixture::start(&database), Fixture::start(&database));
    // The balancer: new connections go where it says.
    let front = Proxy::start(first.port()).await.unwrap();
    let client = Client::new(front.port());
    let work = Arc::new(Work {
        done: (0..CLIENTS).map(|_| AtomicUsize::new(0)).collect(),
        ..Work::default()
    });
    let clients = (0..CLIENTS).map(|number| {
        let (work, client) = (work.clone(), client.clone());
        tokio::spawn(async move {
            match number % 3 {
                0 => work.wait(&client, number).await,
                _ => work.stream(&client, number).await,
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    // One that outlasts the time that a server has to stop: the other goes on with it.
    let thread = client.thread().await;
    let long = client.stream(&thread, &slow(150, 100)).await.unwrap();
    let long = tokio::spawn(long.read_on_whatever_happens());
    for _ in 0..2 {
        work.goes_on().await;
        front.switch(second.port());
        first.stop().await;
        first = Fixture::start(&database).await;
        std::mem::swap(&mut first, &mut second);
    }
    work.goes_on().await;
    work.stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    let (seen, resumed) = long.await.unwrap().unwrap();
    let updates = seen.iter().filter(|event| event.name == "updates");
    assert_eq!((updates.count(), steps(&client, &thread).await), (150, 150));
    assert!(resumed > 0, "the long stream was not interrupted");
    let failed = "SELECT count(*) FROM agentflow.runs WHERE status <> 'success'";
    assert_eq!(database.sql(failed).unwrap(), "0");
}
