//! The dispatcher: delivers what decisions have put into the outbox.

use std::{sync::Arc, time::Duration};

use agentflow_storage::{
    outbox::{Depth, Posted, Settled},
    page::Page,
};
use agentflow_types::{Error, ErrorKind, LetterId, Map, Result, Scope, Str, Timestamp, Value};
use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Service;
use crate::letter::{Call, WEBHOOK};

/// Deliveries at once in this process.
const AT_ONCE: usize = 32;
/// Added to twice the time of one delivery: after that a letter whose dispatcher said nothing is
/// delivered by another one.
const SLACK: Duration = Duration::from_secs(5);
/// Pauses vary by up to this part, so that letters that failed together do not come back together.
const SPREAD: f64 = 0.25;
/// Most characters of an error that are kept with a letter.
const ERROR_CHARS: usize = 500;

/// Calls URLs.
#[async_trait]
pub trait Webhook: Send + Sync {
    /// Whether a run may name this URL.
    ///
    /// # Errors
    /// `Unprocessable` if not, with the reason.
    fn check(&self, url: &str) -> Result<()>;

    /// Calls the URL once.
    ///
    /// # Errors
    /// `Denied` if it must not be called, then no further attempt is made; anything else if it did
    /// not answer with success.
    async fn call(&self, id: LetterId, call: &Call, now: Timestamp) -> Result<()>;
}

/// How often and how long calls are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Attempts before a call counts as dead, at least 1.
    pub max_attempts: u32,
    /// Pause after the first attempt; doubled each time.
    pub retry: Duration,
    /// Longest pause.
    pub longest_retry: Duration,
    /// Longest time of one attempt.
    pub timeout: Duration,
    /// How long dead letters are kept.
    pub keep_dead: Duration,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            max_attempts: 8,
            retry: Duration::from_secs(5),
            longest_retry: Duration::from_secs(3600),
            timeout: Duration::from_secs(10),
            keep_dead: Duration::from_secs(30 * 86_400),
        }
    }
}

impl Delivery {
    /// How long a claim hides a letter from others.
    fn lease(&self) -> Duration {
        self.timeout * 2 + SLACK
    }

    /// The pause after an attempt, from 1.
    fn pause(&self, id: LetterId, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        let pause = self.retry.saturating_mul(1 << doublings);
        let pause = pause.min(self.longest_retry);
        // Random enough: ids are.
        let bits = (id.0.as_u128() >> (attempt % 8 * 8)) & 0xff;
        pause.mul_f64(1.0 + SPREAD * bits as f64 / 255.0)
    }
}

impl Service {
    /// Delivers letters until `stop` fires, then lets calls that are under way end.
    pub(super) async fn dispatch(self: Arc<Self>, stop: CancellationToken) {
        let Some(webhook) = self.webhook.clone() else {
            return;
        };
        let mut calls = JoinSet::new();
        while !stop.is_cancelled() {
            while calls.try_join_next().is_some() {}
            match self.claim_letters(AT_ONCE - calls.len()).await {
                Ok(claimed) => {
                    for posted in claimed {
                        let (service, webhook) = (self.clone(), webhook.clone());
                        calls.spawn(async move { service.deliver(&*webhook, posted).await });
                    }
                }
                Err(err) => tracing::error!(error = %err, "the outbox could not be read"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Some(_) = calls.join_next() => {}
                () = self.letters.notified() => {}
                () = tokio::time::sleep(self.config.poll) => {}
            }
        }
        while calls.join_next().await.is_some() {}
    }

    async fn claim_letters(&self, room: usize) -> Result<Vec<Posted>> {
        let limit = u32::try_from(room).unwrap_or(u32::MAX);
        if limit == 0 {
            return Ok(vec![]);
        }
        let now = self.now();
        let until = now.plus(self.config.delivery.lease());
        self.backend.outbox.claim(WEBHOOK, now, until, limit).await
    }

    /// One attempt.
    async fn deliver(&self, webhook: &dyn Webhook, posted: Posted) {
        let (id, attempt) = (posted.letter.letter_id, posted.attempt);
        let outcome = match Call::of(&posted.letter) {
            None => Err(Error::denied("the letter is not a call")),
            Some(mut call) => {
                sent(&mut call.body, self.now());
                let called = webhook.call(id, &call, self.now());
                tokio::time::timeout(self.config.delivery.timeout, called)
                    .await
                    .unwrap_or_else(|_| Err(Error::uncertain("no answer in time")))
            }
        };
        let settled = self.outcome(&posted, outcome);
        if let Err(err) = self.backend.outbox.settle(id, attempt, settled).await {
            // It is delivered once more when the claim is over; its id tells the addressee.
            tracing::warn!(letter_id = %id, error = %err, "a delivery was not noted");
        }
    }

    fn outcome(&self, posted: &Posted, outcome: Result<()>) -> Settled {
        let (id, attempt) = (posted.letter.letter_id, posted.attempt);
        let Err(err) = outcome else {
            tracing::debug!(letter_id = %id, attempt, "a webhook was delivered");
            return Settled::Delivered;
        };
        let now = self.now();
        let text: String = err.to_string().chars().take(ERROR_CHARS).collect();
        let is_last = attempt >= self.config.delivery.max_attempts;
        if is_last || err.kind() == ErrorKind::Denied {
            tracing::warn!(run_id = %id, attempt, error = %text, "a webhook was given up");
            return Settled::Dead(now, text);
        }
        tracing::info!(run_id = %id, attempt, error = %text, "a webhook is tried again");
        Settled::Again(now.plus(self.config.delivery.pause(id, attempt)), text)
    }

    /// Checks the URL that a run or a cron wants to be called.
    pub fn check_webhook(&self, url: Option<&str>) -> Result<()> {
        match (url, &self.webhook) {
            (None, _) => Ok(()),
            (Some(url), Some(webhook)) => webhook.check(url),
            (Some(_), None) => Err(Error::unprocessable(
                "webhooks are not available on this server",
            )),
        }
    }

    /// Calls of the scope that were given up, last first.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn dead_webhooks(
        &self,
        scope: &Scope,
        limit: u32,
        offset: u64,
    ) -> Result<Page<Posted>> {
        let outbox = &self.backend.outbox;
        outbox.dead(scope, WEBHOOK, limit, offset).await
    }

    /// Tries a call that was given up once more.
    ///
    /// # Errors
    /// `NotFound` if there is no such dead call.
    pub async fn retry_webhook(&self, scope: &Scope, id: LetterId) -> Result<()> {
        let revived = self.backend.outbox.revive(scope, id, self.now()).await?;
        self.letters.notify_one();
        known(revived, id)
    }

    /// Removes a call that was given up.
    ///
    /// # Errors
    /// `NotFound` if there is no such dead call.
    pub async fn discard_webhook(&self, scope: &Scope, id: LetterId) -> Result<()> {
        known(self.backend.outbox.discard(scope, id).await?, id)
    }

    /// How many calls wait and were given up, of all tenants.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn webhook_depth(&self) -> Result<Depth> {
        self.backend.outbox.depth(WEBHOOK).await
    }
}

fn known(was_there: bool, id: LetterId) -> Result<()> {
    match was_there {
        true => Ok(()),
        false => Err(Error::not_found(format!(
            "Dead webhook with ID {id} not found"
        ))),
    }
}

/// Says in a body when it is sent.
fn sent(body: &mut Map, now: Timestamp) {
    body.insert(Str::from("webhook_sent_at"), Value::str(now.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        let delivery = Delivery::default();
        let id = LetterId(uuid::Uuid::from_u128(0));
        let pauses = [1, 2, 3, 11, 99].map(|attempt| delivery.pause(id, attempt).as_secs());
        assert_eq!(pauses, [5, 10, 20, 3600, 3600]);
        let other = LetterId(uuid::Uuid::from_u128(u128::MAX));
        let longest = delivery.longest_retry.mul_f64(1.0 + SPREAD);
        assert_eq!(delivery.pause(other, 99), longest);
    }
}
