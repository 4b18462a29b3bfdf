//! Telling other processes, hearing them, and looking for what was not heard.

use std::sync::{Arc, Weak};

use agentflow_storage::signal::Signal;
use agentflow_types::{Result, RunId, ThreadId};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::Service;
use crate::patience::Trial;

/// How many times as rarely an exclusive process looks at storage: it hears everything, and only
/// that a thread is gone is said by nobody.
const SELDOM: u32 = 10;

impl Service {
    /// Tells other processes, if there can be any.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.config.exclusive {
            self.backend.signals.send(signal);
        }
    }

    /// Wakes whoever waits for another process: signals may have been lost.
    fn look_everywhere(&self) {
        self.bell.notify_one();
        self.look.notify_one();
        for running in self.local().running.values() {
            running.nudge.notify_one();
        }
    }

    /// Hears other processes, and looks at storage once per [`super::ServiceConfig::poll`] for
    /// what was not heard, until `stop` fires or the service is dropped. Who listens to events, or
    /// waits for the end of a run that executes elsewhere, depends on it.
    pub async fn hear(self: Arc<Self>, stop: CancellationToken) {
        let signals = (!self.config.exclusive).then(|| self.backend.signals.listen());
        // Whoever drops the service last may wait for it to be gone.
        let service = Arc::downgrade(&self);
        drop(self);
        let hearing = async {
            if let Some(signals) = signals {
                heed(&service, signals).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = async { tokio::join!(hearing, watch(&service)) } => {}
        }
    }

    fn heard(&self, signal: Signal) {
        match signal {
            Signal::Queue => self.bell.notify_one(),
            Signal::Log(thread, seq) => self.hub.grown(thread, seq),
            Signal::Stop(run) => {
                if let Some(running) = self.local().running.get(&run) {
                    running.nudge.notify_one();
                }
            }
            Signal::Ended(run) => {
                // Whoever waits finds nobody to wait for, and reads the result from storage.
                self.local().waiters.remove(&run);
            }
            Signal::Missed => self.look_everywhere(),
        }
    }

    /// Asks storage, at once, about everything that somebody listens to or waits for, and tells
    /// them.
    async fn look(&self, trial: &mut Option<Trial>) -> Result<()> {
        let looks = self.hub.looks();
        let waited = self.awaited_elsewhere();
        if looks.is_empty() && waited.is_empty() {
            return Ok(());
        }
        let threads: Vec<ThreadId> = looks.iter().map(|look| look.thread).collect();
        let followed = looks.iter().flat_map(|look| &look.runs);
        let mut runs: Vec<RunId> = followed.chain(&waited).copied().collect();
        runs.sort_unstable();
        runs.dedup();
        let mut found = loop {
            match self.backend.threads.standing(&threads, &runs).await {
                Ok(found) => break found,
                Err(err) => {
                    let patience = self.config.patience;
                    let asked = trial.get_or_insert_with(|| patience.begin());
                    if let Err(err) = asked.again(err).await {
                        *trial = None;
                        self.hub.away(&looks);
                        return Err(err);
                    }
                }
            }
        };
        *trial = None;
        found.live.sort_unstable();
        {
            let mut local = self.local();
            let over = waited
                .iter()
                .filter(|run| found.live.binary_search(run).is_err());
            for run in over {
                // Who waits looks now.
                local.waiters.remove(run);
            }
        }
        self.hub.found(&looks, found);
        Ok(())
    }

    /// Runs whose end is waited for and that do not execute here.
    fn awaited_elsewhere(&self) -> Vec<RunId> {
        let local = self.local();
        let waited = local.waiters.keys();
        let elsewhere = waited.filter(|run| !local.running.contains_key(run));
        elsewhere.copied().collect()
    }
}

/// Heeds the signals of other processes while the service is there.
async fn heed(service: &Weak<Service>, mut signals: Receiver<Signal>) {
    loop {
        let signal = match signals.recv().await {
            Ok(signal) => signal,
            Err(RecvError::Lagged(_)) => Signal::Missed,
            Err(RecvError::Closed) => return,
        };
        let Some(service) = service.upgrade() else {
            return;
        };
        service.heard(signal);
    }
}

/// Looks at storage from time to time, and when signals were lost, while the service is there.
async fn watch(service: &Weak<Service>) {
    let mut trial = None;
    loop {
        let Some((bell, pause)) = service.upgrade().map(|service| {
            let pause = match service.config.exclusive {
                true => service.config.poll * SELDOM,
                false => service.config.poll,
            };
            (service.look.clone(), pause)
        }) else {
            return;
        };
        tokio::select! {
            () = bell.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        let Some(service) = service.upgrade() else {
            return;
        };
        if let Err(err) = service.look(&mut trial).await {
            tracing::error!(error = %err, "what other servers did could not be looked for");
        }
    }
}
