//! A thread's state is changed at the very moment in which a run begins: what was acknowledged is
//! there, once, and what was refused is not.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::time::Duration;

use serde_json::{Value, json};

mod fixture;
use fixture::{Client, Fixture};

/// Races. Without the check a few in a hundred lose what was acknowledged.
const RACES: usize = 150;
/// Steps of the run before the race, and after both.
const FIRST: usize = 1;
const BOTH: usize = 6;

/// A run that goes on until there are so many entries.
fn run(entries: usize) -> Value {
    json!({
        "assistant_id": "slow", "input": {"steps": entries, "delay_ms": 0},
        "durability": "async",
    })
}

/// By how much the head start changes from race to race.
const NUDGE: Duration = Duration::from_micros(400);

/// Races on threads of their own; returns how often the change was acknowledged.
///
/// Whoever won has a worse start in the next race. So the two meet about where either may win,
/// however fast the machine is.
async fn race(updater: &Client, runner: &Client) -> usize {
    let mut acknowledged = 0;
    let (mut of_run, mut of_update) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..RACES {
        let thread = runner.thread().await;
        runner.wait(&thread, &run(FIRST)).await.unwrap();
        let path = format!("/threads/{thread}/state");
        let update = json!({ "values": {"log": ["update"]} });
        let run = run(BOTH);
        let (updated, ran) = tokio::join!(
            async {
                tokio::time::sleep(of_run.saturating_sub(of_update)).await;
                updater.post(&path, &update).await
            },
            async {
                tokio::time::sleep(of_update.saturating_sub(of_run)).await;
                runner.wait(&thread, &run).await
            }
        );
        let ran = ran.unwrap();
        let state = runner.get(&path).await;
        let log = state["values"]["log"].as_array().unwrap();
        let updates = log.iter().filter(|entry| **entry == "update").count();
        let was_updated = match &updated {
            Ok(_) => true,
            Err(said) => {
                assert!(said.contains("409"), "{said}");
                false
            }
        };
        assert_eq!(updates, usize::from(was_updated), "{updated:?}: {log:?}");
        match was_updated {
            true => of_run += NUDGE,
            false => of_update += NUDGE,
        }
        // And the run lost nothing.
        let steps = |log: &Value| -> Vec<Value> {
            let all = log.as_array().unwrap().iter();
            all.filter(|entry| entry.is_number()).cloned().collect()
        };
        let stepped = steps(&ran["log"]);
        assert!(stepped.len() > FIRST, "{ran}");
        assert_eq!(
            steps(&state["values"]["log"]),
            stepped,
            "{updated:?}: {ran}"
        );
        acknowledged += updates;
    }
    println!("{acknowledged} of {RACES} changes were acknowledged");
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_state_meets_a_run_on_sqlite() {
    let data = tempfile::tempdir().unwrap();
    let server = Fixture::with(&["--data", data.path().to_str().unwrap()]).await;
    let client = server.client();
    assert!(race(&client, &client).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_state_meets_a_run_of_another_server() {
    let database = fixture::database();
    let (first, second) = tokio::join!(Fixture::start(&database), Fixture::start(&database));
    assert!(race(&first.client(), &second.client()).await > 0);
}
