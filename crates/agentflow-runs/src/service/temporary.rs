//! Threads of stateless runs, which go when the run is over and nobody reads it any more.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use agentflow_storage::record::Candidate;
use agentflow_types::{Scope, ThreadId};
use tokio::time::Instant;

use super::Service;

/// How long a stateless run can still be joined or streamed after its end.
const GRACE: Duration = Duration::from_secs(1);
/// Time in which threads gather that are removed together.
const GATHER: Duration = Duration::from_millis(100);
/// Most threads that are removed together: others wait for the writer meanwhile.
const TOGETHER: usize = 64;
/// Most threads that wait for their removal; the time to live of further ones removes them.
const WAITING: usize = 65_536;

/// Threads that are to go, the next first.
#[derive(Default)]
pub(super) struct Leaving {
    line: VecDeque<(Instant, Candidate)>,
    /// Whether a task looks after them.
    is_watched: bool,
}

impl Leaving {
    /// Takes what is due, at most [`TOGETHER`].
    fn due(&mut self, now: Instant) -> Vec<Candidate> {
        let many = self.line.iter().take(TOGETHER);
        let many = many.take_while(|(at, _)| *at <= now).count();
        self.line.drain(..many).map(|(_, thread)| thread).collect()
    }
}

impl Service {
    /// Removes the thread of a stateless run once nobody reads it any more. If the process ends
    /// before, the thread's time to live does it.
    pub(super) fn remove_later(self: &Arc<Self>, scope: Scope, thread_id: ThreadId) {
        let at = Instant::now() + self.grace();
        let mut local = self.local();
        let leaving = &mut local.leaving;
        if leaving.line.len() >= WAITING {
            return;
        }
        leaving.line.push_back((at, Candidate { scope, thread_id }));
        if !std::mem::replace(&mut leaving.is_watched, true) {
            tokio::spawn(self.clone().remove_temporary());
        }
    }

    fn grace(&self) -> Duration {
        match self.config.exclusive {
            true => GRACE,
            // Other processes may have readers, who look once per poll.
            false => GRACE + self.config.poll * 10,
        }
    }

    /// Removes what is due until nothing is left to remove.
    async fn remove_temporary(self: Arc<Self>) {
        loop {
            let next = {
                let mut local = self.local();
                let next = local.leaving.line.front().map(|(at, _)| *at);
                local.leaving.is_watched = next.is_some();
                next
            };
            let Some(next) = next else { return };
            tokio::time::sleep_until(next + GATHER).await;
            loop {
                let due = self.local().leaving.due(Instant::now());
                if due.is_empty() {
                    break;
                }
                self.remove_unread(due).await;
            }
        }
    }

    async fn remove_unread(self: &Arc<Self>, due: Vec<Candidate>) {
        let is_read = |thread: &Candidate| self.hub.listeners(thread.thread_id) > 0;
        let (read, gone): (Vec<_>, Vec<_>) = due.into_iter().partition(is_read);
        for Candidate { scope, thread_id } in read {
            self.remove_later(scope, thread_id);
        }
        if let Err(err) = self.backend.threads.remove_resting(&gone).await {
            // Their time to live removes them.
            tracing::debug!(error = %err, many = gone.len(), "temporary threads stay");
        }
    }
}
