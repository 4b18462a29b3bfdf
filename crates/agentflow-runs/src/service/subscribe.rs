//! Reading the event log: what was stored, then what comes, without gap or duplicate.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use agentflow_storage::{event::Event, record::Run};
use agentflow_types::{Error, Result, RunId, Scope, ThreadId};
use tokio::sync::{
    broadcast::{Receiver, error::RecvError},
    watch,
};

use super::Service;
use crate::{
    hub::{Channel, Elsewhere},
    patience::Trial,
};

/// Events read from storage at once.
const PAGE: u32 = 256;

/// Kind of the last event of a run.
pub const END: &str = "end";

/// What a subscription is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// One run; the subscription ends with it.
    Run(RunId),
    /// All runs of the thread; the subscription does not end by itself.
    Thread,
}

/// A reader of a thread's events.
///
/// Holds no events beyond one page. A reader that is slow misses nothing: when it lags, the
/// events are read from storage.
pub struct Subscription {
    service: Arc<Service>,
    scope: Scope,
    thread: ThreadId,
    topic: Topic,
    rx: Receiver<Arc<Event>>,
    elsewhere: watch::Receiver<Elsewhere>,
    /// Times that something was missed, as far as it was looked for.
    missed: u64,
    _channel: Arc<Channel>,
    last: u64,
    page: VecDeque<Arc<Event>>,
    /// Whether storage may hold events that were not read yet.
    behind: bool,
    /// Whether nothing that is stored may be left out of what is read: something is concluded
    /// from it.
    sure: bool,
    /// Whether the run was terminal when last looked at: after storage is read, that is all.
    over: bool,
    /// How long storage has been away, if it is.
    trial: Option<Trial>,
}

impl Service {
    /// How long a reader believes a silence before it looks at storage.
    fn patience(&self) -> Duration {
        match self.config.exclusive {
            // Everything is heard here; only a removed thread says nothing.
            true => self.config.poll * 10,
            false => self.config.poll,
        }
    }

    /// All that is said from now on; of a thread that nobody wrote to, that is everything.
    pub(super) fn listen(
        self: &Arc<Self>,
        scope: &Scope,
        thread: ThreadId,
        topic: Topic,
    ) -> Subscription {
        let channel = self.hub.channel(thread);
        let elsewhere = channel.elsewhere();
        let missed = elsewhere.borrow().missed;
        Subscription {
            service: self.clone(),
            scope: scope.clone(),
            thread,
            topic,
            rx: channel.listen(),
            elsewhere,
            missed,
            _channel: channel,
            last: 0,
            page: VecDeque::new(),
            behind: false,
            sure: false,
            over: false,
            trial: None,
        }
    }

    /// Events of a run or a thread with numbers greater than `after`; `None` means from now on.
    ///
    /// # Errors
    /// `NotFound` for the thread or the run.
    pub async fn subscribe(
        self: &Arc<Self>,
        scope: &Scope,
        thread: ThreadId,
        topic: Topic,
        after: Option<u64>,
    ) -> Result<Subscription> {
        // Listen first: what happens while storage is read is then not missed.
        let listening = self.listen(scope, thread, topic);
        let over = match topic {
            Topic::Run(id) => self
                .get_run(scope, Some(thread), id)
                .await?
                .status
                .is_terminal(),
            Topic::Thread => {
                self.get_thread(scope, thread).await?;
                false
            }
        };
        let last = match after {
            Some(seq) => seq,
            None => self.backend.events.last_seq(thread).await?,
        };
        Ok(Subscription {
            last,
            behind: true,
            sure: over,
            over,
            ..listening
        })
    }
}

impl Subscription {
    /// The last event that is stored, if the thread has any.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn newest(&self) -> Result<Option<Event>> {
        let events = &self.service.backend.events;
        let Some(before) = events.last_seq(self.thread).await?.checked_sub(1) else {
            return Ok(None);
        };
        let mut found = events.read(self.thread, None, before, 1).await?;
        Ok(found.pop())
    }

    /// A page of the events after `after` that this reader has passed.
    ///
    /// # Errors
    /// Errors of the backend.
    pub async fn passed(&self, after: u64) -> Result<Vec<Event>> {
        let run = match self.topic {
            Topic::Run(id) => Some(id),
            Topic::Thread => None,
        };
        let events = &self.service.backend.events;
        let mut found = events.read(self.thread, run, after, PAGE).await?;
        found.retain(|event| event.seq <= self.last);
        Ok(found)
    }

    /// The next event; `None` when the run ended and everything was read.
    ///
    /// Cancel safe: dropping the future loses no event. A log that is away is waited for.
    ///
    /// # Errors
    /// Errors of the backend while the log is read; of class [`UNAVAILABLE`] if it was away for
    /// too long.
    ///
    /// [`UNAVAILABLE`]: crate::patience::UNAVAILABLE
    pub async fn next(&mut self) -> Result<Option<Arc<Event>>> {
        loop {
            if let Some(event) = self.page.pop_front() {
                self.last = event.seq;
                return Ok(Some(self.note(event)));
            }
            if self.behind {
                let read = self.read_page().await;
                self.bear(read).await?;
                continue;
            }
            if self.over {
                return Ok(None);
            }
            let heard = tokio::select! {
                biased;
                heard = self.rx.recv() => heard,
                Ok(()) = self.elsewhere.changed() => {
                    let known = *self.elsewhere.borrow_and_update();
                    self.sure = known.missed != self.missed;
                    self.missed = known.missed;
                    // What this process wrote itself has passed already.
                    self.behind = self.sure || known.seq > self.last;
                    continue;
                }
                () = tokio::time::sleep(self.service.patience()) => {
                    let looked = self.look().await;
                    self.bear(looked).await?;
                    continue;
                }
            };
            match heard {
                Ok(event) if event.seq <= self.last => {}
                // Another process wrote what is missing in between.
                Ok(event) if event.seq > self.last + 1 => self.behind = true,
                Ok(event) => {
                    self.last = event.seq;
                    if self.concerns(&event) {
                        return Ok(Some(self.note(event)));
                    }
                }
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }

    /// Waits a while after a failure that may pass; what failed is then done again.
    async fn bear(&mut self, result: Result<()>) -> Result<()> {
        match result {
            Ok(()) => {
                self.trial = None;
                Ok(())
            }
            Err(err) => {
                let patience = self.service.config.patience;
                let trial = self.trial.get_or_insert_with(|| patience.begin());
                trial.again(err).await
            }
        }
    }

    /// Looks at storage after a silence: the run may execute elsewhere, or be gone.
    async fn look(&mut self) -> Result<()> {
        let threads = &self.service.backend.threads;
        // First whether it is over, then the log: what it said last is then not missed.
        self.over = match self.topic {
            Topic::Run(id) => {
                let run = threads.run(&self.scope, id).await?;
                run.is_none_or(|run| run.status.is_terminal())
            }
            Topic::Thread => threads.get(&self.scope, self.thread).await?.is_none(),
        };
        (self.behind, self.sure) = (true, true);
        Ok(())
    }

    fn concerns(&self, event: &Event) -> bool {
        match self.topic {
            Topic::Run(id) => event.run_id == id,
            Topic::Thread => true,
        }
    }

    /// Notes that a run's last event passed.
    fn note(&mut self, event: Arc<Event>) -> Arc<Event> {
        if matches!(self.topic, Topic::Run(id) if id == event.run_id) && &*event.kind == END {
            self.over = true;
            self.behind = false;
        }
        event
    }

    async fn read_page(&mut self) -> Result<()> {
        let run = match self.topic {
            Topic::Run(id) => Some(id),
            Topic::Thread => None,
        };
        let events = &self.service.backend.events;
        let found = match self.sure {
            true => events.read_stored(self.thread, run, self.last, PAGE),
            false => events.read(self.thread, run, self.last, PAGE),
        };
        let found = found.await?;
        self.behind = found.len() == PAGE as usize;
        self.sure = self.over || (self.sure && self.behind);
        self.page.extend(found.into_iter().map(Arc::new));
        Ok(())
    }
}

impl Service {
    /// The run; `thread`, when given, must be its thread.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_run(&self, scope: &Scope, thread: Option<ThreadId>, id: RunId) -> Result<Run> {
        let found = self.backend.threads.run(scope, id).await?;
        found
            .filter(|run| thread.is_none_or(|thread| run.thread_id == thread))
            .ok_or_else(|| Error::not_found(format!("Run with ID {id} not found")))
    }
}
