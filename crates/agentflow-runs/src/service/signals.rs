//! Telling other processes, and hearing them.

use std::sync::Arc;

use agentflow_storage::signal::Signal;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Service;

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
        self.hub.missed();
        for running in self.local().running.values() {
            running.nudge.notify_one();
        }
    }

    /// Hears other processes until `stop` fires. Without it everything works too, after at most
    /// [`super::ServiceConfig::poll`].
    pub async fn hear(self: Arc<Self>, stop: CancellationToken) {
        if self.config.exclusive {
            return;
        }
        let mut signals = self.backend.signals.listen();
        loop {
            let heard = tokio::select! {
                () = stop.cancelled() => return,
                heard = signals.recv() => heard,
            };
            match heard {
                Ok(Signal::Queue) => self.bell.notify_one(),
                Ok(Signal::Log(thread, seq)) => self.hub.grown(thread, seq),
                Ok(Signal::Stop(run)) => {
                    if let Some(running) = self.local().running.get(&run) {
                        running.nudge.notify_one();
                    }
                }
                Ok(Signal::Ended(run)) => {
                    // Whoever waits finds nobody to wait for, and reads the result from storage.
                    self.local().waiters.remove(&run);
                }
                Ok(Signal::Missed) | Err(RecvError::Lagged(_)) => self.look_everywhere(),
                Err(RecvError::Closed) => return,
            }
        }
    }
}
