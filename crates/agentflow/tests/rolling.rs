//! Two servers are replaced one after the other while clients follow runs: over the legacy stream
//! with `Last-Event-ID`, over protocol v2 with `since`. Nobody sees an error, and what they saw in
//! pieces is what is there as a whole.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use agentflow_testkit::faults::Proxy;
use serde_json::{Value, json};

mod fixture;
use fixture::{Client, Event, Fixture};

/// Clients of each kind.
const FOLLOWERS: usize = 4;
/// Servers that are replaced.
const REPLACED: usize = 4;
/// Steps of a run, long enough for all replacements.
const STEPS: usize = 300;
const STEP_MS: u64 = 60;
/// Pause between two replacements.
const BETWEEN: std::time::Duration = std::time::Duration::from_millis(900);

fn slow() -> Value {
    json!({
        "assistant_id": "slow",
        "input": {"steps": STEPS, "delay_ms": STEP_MS, "log": []},
        "stream_mode": ["updates", "values"], "stream_resumable": true,
    })
}

/// What a follower saw, and how often it had to come back.
type Seen = (String, Vec<Event>, usize);

/// Follows a run as the legacy client does.
async fn legacy(client: Client) -> Seen {
    let thread = client.thread().await;
    let stream = client.stream(&thread, &slow()).await.unwrap();
    let location = stream.location.clone();
    let (seen, resumed) = stream.read_on_whatever_happens().await.unwrap();
    (location, seen, resumed)
}

/// Follows a run as clients of protocol v2 do.
async fn v2(client: Client) -> Seen {
    let thread = client.thread().await;
    client.create(&thread, &slow()).await;
    let (seen, resumed) = client.follow(&thread, vec![], is_end).await.unwrap();
    (thread, seen, resumed)
}

/// Whether an event is the end of the run.
fn is_end(event: &Event) -> bool {
    let data: Value = serde_json::from_str(&event.data).unwrap();
    let params = &data["params"];
    event.name == "lifecycle"
        && params["namespace"] == json!([])
        && params["data"]["event"] == "completed"
}

fn assert_whole(seen: &[Event], whole: &[Event]) {
    let numbers: Vec<u64> = seen.iter().map(|event| event.id).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert_eq!(seen.len(), whole.len(), "events are missing");
    for (event, stored) in seen.iter().zip(whole) {
        assert_eq!(event, stored);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_missing_or_repeated_when_servers_are_replaced() {
    let database = fixture::database();
    let (mut first, mut second) =
        tokio::join!(Fixture::start(&database), Fixture::start(&database));
    // The balancer: new connections go where it says.
    let front = Proxy::start(first.port()).await.unwrap();
    let client = Client::new(front.port());
    let followers: Vec<_> = (0..FOLLOWERS)
        .map(|_| {
            (
                tokio::spawn(legacy(client.clone())),
                tokio::spawn(v2(client.clone())),
            )
        })
        .collect();
    for _ in 0..REPLACED {
        tokio::time::sleep(BETWEEN).await;
        front.switch(second.port());
        first.stop().await;
        first = Fixture::start(&database).await;
        std::mem::swap(&mut first, &mut second);
    }
    let mut resumed = [0, 0];
    for (legacy, v2) in followers {
        let (location, seen, again) = legacy.await.unwrap();
        let whole = client.join_stream(&location, "-1").await.unwrap();
        assert_whole(&seen, &whole.read_all().await.unwrap());
        let updates = seen.iter().filter(|event| event.name == "updates");
        assert_eq!(updates.count(), STEPS);
        resumed[0] += again;
        let (thread, seen, again) = v2.await.unwrap();
        let (whole, _) = client.follow(&thread, vec![], is_end).await.unwrap();
        assert_whole(&seen, &whole);
        resumed[1] += again;
    }
    println!("streams were resumed {resumed:?} times");
    assert!(
        resumed.iter().all(|times| *times >= FOLLOWERS),
        "{resumed:?}"
    );
    let failed = "SELECT count(*) FROM agentflow.runs WHERE status <> 'success'";
    assert_eq!(database.sql(failed).unwrap(), "0");
}
