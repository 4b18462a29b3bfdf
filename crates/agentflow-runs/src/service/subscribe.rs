//! Reading the event log: what was stored, then what comes, without gap or duplicate.

use std::{collections::VecDeque, sync::Arc};

use agentflow_storage::{event::Event, record::Run};
use agentflow_types::{Error, Result, RunId, Scope, ThreadId};
use tokio::sync::{
    broadcast::{Receiver, error::RecvError},
    watch,
};

use super::Service;
use crate::{
    hub::{Channel, Elsewhere, Following, News},
    patience::{Trial, UNAVAILABLE},
};

/// Most events that are read from storage at once, and with the first read.
const PAGE: u32 = 256;
const FIRST_PAGE: u32 = 32;
/// Bytes of a page that are held while its events are read one by one; what is beyond is read
/// again, unless a single event is larger.
const PAGE_BYTES: usize = 64 << 10;

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
    rx: Receiver<News>,
    elsewhere: watch::Receiver<Elsewhere>,
    /// What of it was acted upon.
    known: Elsewhere,
    channel: Arc<Channel>,
    _following: Option<Following>,
    last: u64,
    page: VecDeque<Arc<Event>>,
    /// Events that the next page asks for.
    limit: u32,
    /// Whether storage may hold events that were not read yet.
    behind: bool,
    /// Whether nothing that is stored may be left out of what is read: something is concluded
    /// from it.
    sure: bool,
    /// Whether the run was terminal when last looked at: after storage is read, that is all.
    over: bool,
    /// Whether it must be looked at: it is said to be over, or gone.
    doubted: bool,
    /// How long storage has been away, if it is.
    trial: Option<Trial>,
}

impl Service {
    /// All that is said from now on; of a thread that nobody wrote to, that is everything.
    pub(super) fn listen(
        self: &Arc<Self>,
        scope: &Scope,
        thread: ThreadId,
        topic: Topic,
    ) -> Subscription {
        let channel = self.hub.channel(thread);
        let elsewhere = channel.elsewhere();
        let known = *elsewhere.borrow();
        let following = match topic {
            Topic::Run(run) => Some(channel.follow(run)),
            Topic::Thread => None,
        };
        Subscription {
            service: self.clone(),
            scope: scope.clone(),
            thread,
            topic,
            rx: channel.listen(),
            elsewhere,
            known,
            channel,
            _following: following,
            last: 0,
            page: VecDeque::new(),
            limit: FIRST_PAGE,
            behind: false,
            sure: false,
            over: false,
            doubted: false,
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

/// A thread that is not there yet.
pub struct Coming {
    elsewhere: watch::Receiver<Elsewhere>,
    _channel: Arc<Channel>,
}

impl Coming {
    /// Waits until the thread may be there. The first wait may end at once.
    pub async fn there(&mut self) {
        while self.elsewhere.changed().await.is_ok() {
            let known = *self.elsewhere.borrow_and_update();
            if known.there == Some(true) || known.heard > 0 {
                return;
            }
        }
    }
}

impl Service {
    /// Waits for a thread that another process may make.
    #[must_use]
    pub fn coming(&self, thread: ThreadId) -> Coming {
        let channel = self.hub.channel(thread);
        let mut elsewhere = channel.elsewhere();
        elsewhere.mark_changed();
        Coming {
            elsewhere,
            _channel: channel,
        }
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
            if self.doubted {
                let looked = self.look().await;
                self.bear(looked).await?;
                continue;
            }
            let heard = tokio::select! {
                biased;
                heard = self.rx.recv() => heard,
                Ok(()) = self.elsewhere.changed() => {
                    self.learn()?;
                    continue;
                }
            };
            match heard {
                Ok(news) if news.seq <= self.last => {}
                // Another process wrote what is missing in between.
                Ok(news) if news.seq > self.last + 1 => self.behind = true,
                Ok(news) => match news.event() {
                    Some(event) => {
                        self.last = event.seq;
                        if self.concerns(&event) {
                            return Ok(Some(self.note(event)));
                        }
                    }
                    None => self.behind = true,
                },
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

    /// Concludes from what is known of other processes.
    fn learn(&mut self) -> Result<()> {
        let now = *self.elsewhere.borrow_and_update();
        let before = std::mem::replace(&mut self.known, now);
        if now.away != before.away {
            return Err(Error::busy("the event log cannot be read").class(UNAVAILABLE));
        }
        let ended = matches!(self.topic, Topic::Run(_)) && now.over != before.over;
        // The look may have begun before the thread was made.
        self.doubted = ended || now.there == Some(false);
        // A copy of the log may not have what nobody told of.
        self.sure = now.stored > before.stored && now.stored > self.last;
        self.behind = self.sure || now.heard > self.last;
        Ok(())
    }

    /// Looks at storage when the run is said to be over, or gone.
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
        if let (Topic::Run(run), false) = (self.topic, self.over) {
            self.channel.goes_on(run);
        }
        (self.behind, self.sure, self.doubted) = (true, true, false);
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
            true => events.read_stored(self.thread, run, self.last, self.limit),
            false => events.read(self.thread, run, self.last, self.limit),
        };
        let mut found = found.await?;
        let is_full = found.len() == self.limit as usize;
        let fits = fitting(&found);
        let is_cut = fits < found.len();
        found.truncate(fits);
        self.behind = is_full || is_cut;
        self.limit = match (is_cut, is_full) {
            (true, _) => u32::try_from(fits).unwrap_or(PAGE),
            (false, true) => (self.limit * 2).min(PAGE),
            (false, false) => self.limit,
        };
        self.sure = self.over || (self.sure && self.behind);
        self.page.extend(found.into_iter().map(Arc::new));
        Ok(())
    }
}

/// How many of the events are held at once: one at least.
fn fitting(events: &[Event]) -> usize {
    let mut bytes = 0;
    let fit = events.iter().take_while(|event| {
        bytes += event.data.len();
        bytes <= PAGE_BYTES
    });
    fit.count().max(1).min(events.len())
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
