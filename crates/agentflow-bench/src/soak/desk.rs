//! Where the actors of the soak send their requests, and what they were promised.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::actors::Kind;
use crate::drive::{Url, follow};

/// Longest time until a request is done by one of the servers.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest silence within an answer.
const SILENCE: Duration = Duration::from_secs(20);
/// Pause before a request is sent again.
const AGAIN: Duration = Duration::from_millis(20);

/// What has happened so far.
#[derive(Clone, Default)]
pub struct Ledger {
    /// Rounds that actors finished, by kind.
    pub rounds: BTreeMap<Kind, usize>,
    /// Runs that a server said yes to.
    pub runs: usize,
    /// Requests that were sent again.
    pub again: usize,
    /// Answers that asked to come again.
    pub busy: usize,
    /// Acknowledged runs whose end was not seen yet, as thread and run.
    open: Vec<(String, String)>,
}

/// Both servers, as one client sees them.
pub struct Desk {
    pub http: reqwest::Client,
    pub urls: [Url; 2],
    ledger: Mutex<Ledger>,
    closed: AtomicBool,
}

impl Desk {
    pub fn new(urls: [Url; 2]) -> Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().read_timeout(SILENCE).build()?,
            urls,
            ledger: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// Lets actors finish what they do, and then stop.
    pub fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    pub fn is_open(&self) -> bool {
        !self.closed.load(Relaxed)
    }

    pub fn ledger(&self) -> Ledger {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn round(&self, kind: Kind) {
        *self.lock().rounds.entry(kind).or_default() += 1;
    }

    /// Notes a run that a server said yes to.
    pub fn acknowledged(&self, thread: &str, run: &str) {
        let mut ledger = self.lock();
        ledger.runs += 1;
        ledger.open.push((thread.to_owned(), run.to_owned()));
    }

    /// Notes that the end of a run was seen.
    pub fn ended(&self, run: &str) {
        self.lock().open.retain(|(_, open)| open != run);
    }

    /// Sends a request to one of the servers until one answers it: status and body.
    pub async fn send(
        &self,
        rng: &mut fastrand::Rng,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let server = rng.usize(..self.urls.len());
            let base = self.urls[server].borrow().clone();
            if let Some(base) = base {
                let mut request = self.http.request(method.clone(), format!("{base}{path}"));
                if let Some(body) = body {
                    request = request.json(body);
                }
                if let Some(answer) = self.answer(request).await {
                    return Ok(answer);
                }
                self.lock().again += 1;
            }
            ensure!(
                Instant::now() < deadline,
                "{method} {path}: no server answers"
            );
            sleep(AGAIN).await;
        }
    }

    /// The answer, unless the server is gone or asks to come again.
    async fn answer(&self, request: reqwest::RequestBuilder) -> Option<(u16, Value)> {
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        if status >= 500 {
            self.lock().busy += 1;
            return None;
        }
        let bytes = answer.bytes().await.ok()?;
        let body = match bytes.is_empty() {
            true => Value::Null,
            // A body that ends early is an answer that was lost.
            false => serde_json::from_slice(&bytes).ok()?,
        };
        Some((status, body))
    }

    /// Sends a request that must succeed; the body of the answer.
    pub async fn ask(
        &self,
        rng: &mut fastrand::Rng,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let (status, answer) = self.send(rng, method.clone(), path, body).await?;
        ensure!(status < 300, "{method} {path} answered {status}: {answer}");
        Ok(answer)
    }

    /// Waits until a run has ended; its status.
    pub async fn end(&self, rng: &mut fastrand::Rng, thread: &str, run: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let path = format!("/threads/{thread}/runs/{run}");
            let found = self.ask(rng, Method::GET, &path, None).await?;
            let status = found["status"].as_str().context("no status")?;
            if follow::is_terminal(status) {
                self.ended(run);
                return Ok(status.to_owned());
            }
            if Instant::now() > deadline {
                bail!("run {run} of thread {thread} is still {status}");
            }
            sleep(AGAIN).await;
        }
    }

    /// Waits for all runs whose end nobody saw; those that do not come to one.
    pub async fn settle(&self, patience: Duration) -> Result<Vec<String>> {
        let open = std::mem::take(&mut self.lock().open);
        let deadline = Instant::now() + patience;
        let mut rng = fastrand::Rng::new();
        let mut lost = Vec::new();
        for (thread, run) in open {
            let path = format!("/threads/{thread}/runs/{run}");
            loop {
                let (status, found) = self.send(&mut rng, Method::GET, &path, None).await?;
                let state = found["status"].as_str().unwrap_or_default();
                if status == 200 && follow::is_terminal(state) {
                    break;
                }
                if status == 404 || Instant::now() > deadline {
                    lost.push(format!("run {run} of thread {thread}: {status} {state}"));
                    break;
                }
                sleep(AGAIN).await;
            }
        }
        Ok(lost)
    }
}
