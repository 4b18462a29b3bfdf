//! Numbering of events and their live fan-out.
//!
//! Each thread that somebody writes to or listens to has a channel here. An event gets its
//! number, is stored, and only then reaches listeners, all under the channel's lock, so numbers
//! arrive in order. Listeners that fall behind read the log instead; nothing is kept for them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use agentflow_storage::{
    checkpoint::Fence,
    event::{Event, Events},
    signal::{Signal, Signals},
};
use agentflow_types::{Error, ErrorKind, Result, RunId, Str, ThreadId, Timestamp};
use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, watch};

use crate::patience::Patience;

/// Events that a listener may lag behind before it reads the log instead. Each thread in use
/// holds room for as many.
const LAG: usize = 128;

/// Times that drafts are numbered before other processes are thought to be in the way.
const RENUMBER: usize = 8;

/// An event before it has a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The run that speaks.
    pub run_id: RunId,
    /// What it is.
    pub kind: Str,
    /// Namespace of the subgraph.
    pub ns: Vec<Str>,
    /// JSON text.
    pub data: Arc<str>,
}

/// What other processes did to a thread's log, as far as it was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// The greatest number that one said it wrote.
    pub seq: u64,
    /// Times that something may have been missed.
    pub missed: u64,
}

/// The live side of one thread.
pub struct Channel {
    tx: broadcast::Sender<Arc<Event>>,
    /// The greatest number in use; `None` until it was read from storage.
    last: tokio::sync::Mutex<Option<u64>>,
    /// What is known of other processes.
    elsewhere: watch::Sender<Elsewhere>,
    signals: Option<Arc<dyn Signals>>,
}

impl Channel {
    fn new(signals: Option<Arc<dyn Signals>>) -> Self {
        Self {
            signals,
            tx: broadcast::channel(LAG).0,
            last: tokio::sync::Mutex::new(None),
            elsewhere: watch::Sender::default(),
        }
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Event>> {
        self.tx.subscribe()
    }

    /// Sees how far other processes have written, as far as they said so.
    #[must_use]
    pub fn elsewhere(&self) -> watch::Receiver<Elsewhere> {
        self.elsewhere.subscribe()
    }

    /// Numbers the drafts, has `store` keep them, and tells the listeners.
    ///
    /// The greatest number is read from `log` when it is not known here, and when `store` says
    /// `Conflict`, because another process may have used it. If it has, the drafts get new
    /// numbers and `store` is called again.
    ///
    /// # Errors
    /// What `log` or `store` fails with; then no number is used and nobody is told.
    pub async fn append<'a, T>(
        &self,
        log: (&dyn Events, ThreadId),
        drafts: &[Draft],
        now: Timestamp,
        store: impl Fn(Vec<Event>) -> BoxFuture<'a, Result<T>> + Send,
    ) -> Result<T> {
        let (log, thread) = log;
        let mut guard = self.last.lock().await;
        // Until the outcome is known the number is unknown too: it is read again next time.
        let mut start = match guard.take() {
            Some(seq) => seq,
            None => log.last_seq(thread).await?,
        };
        for _ in 0..RENUMBER {
            let events = numbered(drafts, start, now);
            match store(events.clone()).await {
                Ok(stored) => {
                    *guard = Some(self.publish(thread, start, events));
                    return Ok(stored);
                }
                Err(err) if err.kind() == ErrorKind::Conflict => {
                    let used = log.last_seq(thread).await?;
                    if used <= start {
                        return Err(err);
                    }
                    start = used;
                }
                Err(err) => return Err(err),
            }
        }
        Err(crowded())
    }

    /// Numbers the drafts of a run and stores them under its lease; waits for a log that is away.
    ///
    /// A try whose answer was lost is repeated with the same numbers, so that it is stored once:
    /// if the numbers are taken then, the log tells by whom.
    ///
    /// # Errors
    /// `Conflict` if the lease is lost; what the log fails with after `patience`.
    pub async fn append_patiently(
        &self,
        log: (&dyn Events, ThreadId),
        drafts: &[Draft],
        now: Timestamp,
        fence: Fence,
        patience: Patience,
    ) -> Result<()> {
        let (log, thread) = log;
        let mut guard = self.last.lock().await;
        let mut start = match guard.take() {
            Some(seq) => seq,
            None => patience.ask(|| log.last_seq(thread)).await?,
        };
        let (mut trial, mut in_doubt) = (None, false);
        for _ in 0..RENUMBER {
            let events = numbered(drafts, start, now);
            let stored = loop {
                match log.append(thread, events.clone(), Some(fence)).await {
                    Err(err) if err.kind() == ErrorKind::Conflict => break Err(err),
                    Ok(()) => break Ok(()),
                    Err(err) => {
                        in_doubt |= err.kind() == ErrorKind::Uncertain;
                        let trial = trial.get_or_insert_with(|| patience.begin());
                        trial.again(err).await?;
                    }
                }
            };
            if let Err(err) = stored {
                let used = patience.ask(|| log.last_seq(thread)).await?;
                if used <= start {
                    return Err(err);
                }
                let ours = in_doubt && patience.ask(|| holds(log, thread, &events)).await?;
                if !ours {
                    // What was in doubt cannot be stored any more: its numbers are taken.
                    (start, in_doubt) = (used, false);
                    continue;
                }
            }
            *guard = Some(self.publish(thread, start, events));
            return Ok(());
        }
        Err(crowded())
    }

    /// Tells everybody of what was stored after number `start`; returns the newest number.
    fn publish(&self, thread: ThreadId, start: u64, events: Vec<Event>) -> u64 {
        let newest = start + events.len() as u64;
        if let Some(signals) = &self.signals {
            signals.send(Signal::Log(thread, newest));
        }
        for event in events {
            // Nobody listening is fine.
            let _ = self.tx.send(Arc::new(event));
        }
        newest
    }
}

fn crowded() -> Error {
    Error::busy("other processes write to this thread without a pause")
}

/// Whether the log has exactly these events under their numbers.
async fn holds(log: &dyn Events, thread: ThreadId, events: &[Event]) -> Result<bool> {
    let Some(first) = events.first() else {
        return Ok(true);
    };
    let limit = u32::try_from(events.len()).unwrap_or(u32::MAX);
    let found = log.read(thread, None, first.seq - 1, limit).await?;
    let said = |event: &Event| {
        (
            event.seq,
            event.run_id,
            event.kind.clone(),
            event.data.clone(),
        )
    };
    Ok(found.iter().map(said).eq(events.iter().map(said)))
}

fn numbered(drafts: &[Draft], last: u64, now: Timestamp) -> Vec<Event> {
    let event = |(draft, seq): (&Draft, u64)| Event {
        seq,
        run_id: draft.run_id,
        at: now,
        kind: draft.kind.clone(),
        ns: draft.ns.clone(),
        data: draft.data.clone(),
    };
    drafts.iter().zip(last + 1..).map(event).collect()
}

/// The channels of all threads in use.
pub struct Hub {
    /// Guards the map only; channels live as long as somebody holds them.
    channels: Mutex<HashMap<ThreadId, Weak<Channel>>>,
    signals: Option<Arc<dyn Signals>>,
}

impl Hub {
    /// A hub that tells other processes, if there are any, of what is appended.
    #[must_use]
    pub fn new(signals: Option<Arc<dyn Signals>>) -> Self {
        Self {
            channels: Mutex::default(),
            signals,
        }
    }

    /// The channel of a thread. Keep it while you write or listen.
    #[must_use]
    pub fn channel(&self, thread: ThreadId) -> Arc<Channel> {
        let mut channels = self.lock();
        if let Some(channel) = channels.get(&thread).and_then(Weak::upgrade) {
            return channel;
        }
        // Dead entries go when the map has doubled since they were last looked for.
        if channels.len() == channels.capacity() {
            channels.retain(|_, weak| weak.strong_count() > 0);
        }
        let channel = Arc::new(Channel::new(self.signals.clone()));
        channels.insert(thread, Arc::downgrade(&channel));
        channel
    }

    /// Notes that a thread's log has grown up to `seq`.
    pub fn grown(&self, thread: ThreadId, seq: u64) {
        let channel = self.lock().get(&thread).and_then(Weak::upgrade);
        if let Some(channel) = channel {
            channel.elsewhere.send_if_modified(|known| {
                let is_news = known.seq < seq;
                known.seq = seq.max(known.seq);
                is_news
            });
        }
    }

    /// Notes that any log may have grown.
    pub fn missed(&self) {
        let channels: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        for channel in channels {
            channel.elsewhere.send_modify(|known| known.missed += 1);
        }
    }

    /// How many listen to a thread.
    #[must_use]
    pub fn listeners(&self, thread: ThreadId) -> usize {
        let channel = self.lock().get(&thread).and_then(Weak::upgrade);
        channel.map_or(0, |channel| channel.tx.receiver_count())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ThreadId, Weak<Channel>>> {
        self.channels
            .lock()
            .expect("nothing panics while the map is held")
    }
}
