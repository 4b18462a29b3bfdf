//! A client that follows the stream of a run through restarts of the server.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::sleep;

use super::{Url, base};

/// Most connections that one client opens.
const CONNECTIONS: usize = 10_000;
/// Pause between two connections.
const PAUSE: Duration = Duration::from_millis(20);

/// Number, name and data of an event.
pub type Event = (u64, String, String);

/// What a client received about one run.
pub struct Seen {
    pub thread: String,
    pub run: String,
    /// Events in the order of arrival.
    pub events: Vec<Event>,
    /// The same, read once more in one go after the end of the run.
    pub replayed: Vec<Event>,
    /// Connections beyond the first.
    pub reconnects: usize,
    /// What a stream said instead of events.
    pub errors: Vec<String>,
}

/// Whether a run with this status has ended.
pub fn is_terminal(status: &str) -> bool {
    !matches!(status, "pending" | "running")
}

/// The status of a run; `lost` if there is no such run.
///
/// Fails if the server cannot tell.
pub async fn status(
    client: &reqwest::Client,
    base: &str,
    thread: &str,
    run: &str,
) -> Result<String> {
    let url = format!("{base}/threads/{thread}/runs/{run}");
    let answer = client.get(url).send().await?;
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok("lost".to_owned());
    }
    let run: Value = answer.error_for_status()?.json().await?;
    let status = run["status"].as_str().context("a run without status")?;
    Ok(status.to_owned())
}

/// Reads the stream of a run to its end, each time from the last number that arrived.
pub async fn follow(
    client: reqwest::Client,
    mut url: Url,
    thread: String,
    run: String,
) -> Result<Seen> {
    let mut seen = Seen::of(thread, run);
    for _ in 0..CONNECTIONS {
        let base = base(&mut url).await?;
        // The status comes first: a stream that ends after it was terminal is complete.
        let ended = status(&client, &base, &seen.thread, &seen.run)
            .await
            .is_ok_and(|status| is_terminal(&status));
        let whole = seen.read(&client, &base).await;
        if ended && whole.is_ok() {
            seen.replayed = replay(&client, &mut url, &seen).await?;
            return Ok(seen);
        }
        seen.reconnects += 1;
        sleep(PAUSE).await;
    }
    bail!("run {} was not followed to its end", seen.run)
}

/// Reads the stream of an ended run from its beginning.
async fn replay(client: &reqwest::Client, url: &mut Url, seen: &Seen) -> Result<Vec<Event>> {
    for _ in 0..CONNECTIONS {
        let mut again = Seen::of(seen.thread.clone(), seen.run.clone());
        if again.read(client, &base(url).await?).await.is_ok() {
            return Ok(again.events);
        }
        sleep(PAUSE).await;
    }
    bail!("run {} cannot be replayed", seen.run)
}

impl Seen {
    /// Nothing yet.
    fn of(thread: String, run: String) -> Self {
        Self {
            thread,
            run,
            events: Vec::new(),
            replayed: Vec::new(),
            reconnects: 0,
            errors: Vec::new(),
        }
    }

    /// Reads one connection until it ends; an error if it broke.
    async fn read(&mut self, client: &reqwest::Client, base: &str) -> Result<()> {
        let last = self
            .events
            .last()
            .map_or("-1".into(), |event| event.0.to_string());
        let url = format!("{base}/threads/{}/runs/{}/stream", self.thread, self.run);
        let answer = client.get(url).header("last-event-id", last).send().await?;
        let mut events = answer.error_for_status()?.bytes_stream().eventsource();
        while let Some(event) = events.next().await {
            let event = event?;
            // Heartbeats and the end of the stream have no number.
            if event.id.is_empty() {
                if event.event == "error" {
                    self.errors.push(event.data);
                }
                continue;
            }
            let number = event.id.parse().context("an event id is not a number")?;
            self.events.push((number, event.event, event.data));
        }
        Ok(())
    }
}
