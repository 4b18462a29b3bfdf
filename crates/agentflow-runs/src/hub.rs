//! Numbering of events and their live fan-out.
//!
//! Each thread that somebody writes to or listens to has a channel here. An event gets its
//! number, is stored, and only then reaches listeners, all under the channel's lock, so numbers
//! arrive in order. Listeners that fall behind read the log instead; nothing is kept for them.
//!
//! What other processes did is learned from their wake-ups, and from looks at storage, one for all
//! threads that are listened to: a silent listener asks nothing by itself.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use agentflow_storage::{
    checkpoint::Fence,
    event::{Event, Events},
    record::Standing,
    signal::{Signal, Signals},
};
use agentflow_types::{Error, ErrorKind, Result, RunId, Str, ThreadId, Timestamp};
use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, watch};

use crate::patience::Patience;

/// Events that a listener may lag behind before it reads the log instead.
const LAG: usize = 128;

/// What an event takes beside its content, about, in bytes.
const EVENT_BYTES: usize = 256;

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

/// What other processes did to a thread, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// The greatest number that one said it wrote.
    pub heard: u64,
    /// The greatest number that was found in storage and neither heard of nor written here.
    pub stored: u64,
    /// Times that a run which somebody listens to was found to be over.
    pub over: u64,
    /// Whether the thread was there when storage was last looked at; `None` before the first look.
    pub there: Option<bool>,
    /// Times that storage could not be looked at for longer than anybody waits.
    pub away: u64,
}

/// A run that somebody listens to.
#[derive(Debug, Default)]
struct Followed {
    listeners: usize,
    /// Whether its listeners were told that it is over.
    told: bool,
}

/// What a look at storage asks about one thread.
pub struct Look {
    /// The thread.
    pub thread: ThreadId,
    /// Its runs that somebody listens to and that are not known to be over.
    pub runs: Vec<RunId>,
    channel: Arc<Channel>,
}

/// What listeners are told of an event.
#[derive(Clone, Debug)]
pub struct News {
    /// Its number.
    pub seq: u64,
    event: Weak<Event>,
}

impl News {
    /// The event; `None` if it is no longer held, so that it must be read from the log.
    #[must_use]
    pub fn event(&self) -> Option<Arc<Event>> {
        self.event.upgrade()
    }
}

/// The newest events of all threads, for those who listen; bounded in bytes, so that listeners
/// that do not keep up hold no memory.
#[derive(Debug)]
struct Recent {
    /// Guards the list; held for one event.
    held: Mutex<(VecDeque<Arc<Event>>, usize)>,
    most_bytes: usize,
}

impl Recent {
    fn hold(&self, event: Arc<Event>) {
        let size = |event: &Event| event.data.len() + EVENT_BYTES;
        let mut held = self
            .held
            .lock()
            .expect("nothing panics while the list is held");
        let (events, bytes) = &mut *held;
        *bytes += size(&event);
        events.push_back(event);
        // The newest one stays, whatever its size: it is being told at this moment.
        while *bytes > self.most_bytes && events.len() > 1 {
            if let Some(oldest) = events.pop_front() {
                *bytes -= size(&oldest);
            }
        }
    }
}

/// The live side of one thread.
pub struct Channel {
    tx: broadcast::Sender<News>,
    recent: Arc<Recent>,
    /// The greatest number in use; `None` until it was read from storage.
    last: tokio::sync::Mutex<Option<u64>>,
    /// What is known of other processes.
    elsewhere: watch::Sender<Elsewhere>,
    /// The greatest number that was written here.
    published: AtomicU64,
    /// Guards the list only.
    followed: Mutex<HashMap<RunId, Followed>>,
    signals: Option<Arc<dyn Signals>>,
}

impl Channel {
    fn new(signals: Option<Arc<dyn Signals>>, recent: Arc<Recent>) -> Self {
        Self {
            signals,
            recent,
            tx: broadcast::channel(LAG).0,
            last: tokio::sync::Mutex::new(None),
            elsewhere: watch::Sender::default(),
            published: AtomicU64::new(0),
            followed: Mutex::default(),
        }
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<News> {
        self.tx.subscribe()
    }

    /// Sees how far other processes have written, as far as they said so.
    #[must_use]
    pub fn elsewhere(&self) -> watch::Receiver<Elsewhere> {
        self.elsewhere.subscribe()
    }

    /// Has looks at storage ask about a run, until the value is dropped.
    #[must_use]
    pub fn follow(self: &Arc<Self>, run: RunId) -> Following {
        self.followed().entry(run).or_default().listeners += 1;
        Following {
            channel: self.clone(),
            run,
        }
    }

    /// Has looks at storage ask again about a run that is not over after all.
    pub fn goes_on(&self, run: RunId) {
        if let Some(run) = self.followed().get_mut(&run) {
            run.told = false;
        }
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<RunId, Followed>> {
        self.followed
            .lock()
            .expect("nothing panics while the list is held")
    }

    /// Those of the runs that are not among `live`; each is named once.
    fn newly_over(&self, asked: &[RunId], live: &[RunId]) -> u64 {
        let mut followed = self.followed();
        let over = asked.iter().filter(|run| live.binary_search(run).is_err());
        let news = over.filter(|run| {
            let run = followed.get_mut(run);
            run.is_some_and(|run| !std::mem::replace(&mut run.told, true))
        });
        news.count() as u64
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
        self.published.fetch_max(newest, Relaxed);
        if let Some(signals) = &self.signals {
            signals.send(Signal::Log(thread, newest));
        }
        if self.tx.receiver_count() == 0 {
            // Who comes now reads the log.
            return newest;
        }
        for event in events {
            let event = Arc::new(event);
            let news = News {
                seq: event.seq,
                event: Arc::downgrade(&event),
            };
            self.recent.hold(event);
            // Nobody listening any more is fine.
            let _ = self.tx.send(news);
        }
        newest
    }
}

/// Somebody listens to a run.
pub struct Following {
    channel: Arc<Channel>,
    run: RunId,
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = self.channel.followed();
        if let Some(run) = followed.get_mut(&self.run) {
            run.listeners -= 1;
            if run.listeners == 0 {
                followed.remove(&self.run);
            }
        }
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
    recent: Arc<Recent>,
    signals: Option<Arc<dyn Signals>>,
}

impl Hub {
    /// A hub that tells other processes, if there are any, of what is appended, and holds so many
    /// bytes of the newest events.
    #[must_use]
    pub fn new(signals: Option<Arc<dyn Signals>>, most_bytes: usize) -> Self {
        Self {
            channels: Mutex::default(),
            recent: Arc::new(Recent {
                held: Mutex::default(),
                most_bytes,
            }),
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
        let channel = Arc::new(Channel::new(self.signals.clone(), self.recent.clone()));
        channels.insert(thread, Arc::downgrade(&channel));
        channel
    }

    /// Notes that another process said that a thread's log has grown up to `seq`.
    pub fn grown(&self, thread: ThreadId, seq: u64) {
        let channel = self.lock().get(&thread).and_then(Weak::upgrade);
        if let Some(channel) = channel {
            channel.elsewhere.send_if_modified(|known| {
                let is_news = known.heard < seq;
                known.heard = seq.max(known.heard);
                is_news
            });
        }
    }

    /// What a look at storage must ask: all threads that somebody listens to.
    #[must_use]
    pub fn looks(&self) -> Vec<Look> {
        let channels = self.lock();
        let listened = channels.iter().filter_map(|(thread, channel)| {
            let channel = channel.upgrade()?;
            (channel.elsewhere.receiver_count() > 0).then_some((*thread, channel))
        });
        let look = |(thread, channel): (ThreadId, Arc<Channel>)| {
            let followed = channel.followed();
            let open = followed.iter().filter(|(_, run)| !run.told);
            let runs = open.map(|(id, _)| *id).collect();
            drop(followed);
            Look {
                thread,
                runs,
                channel,
            }
        };
        listened.map(look).collect()
    }

    /// Tells listeners what a look at storage found.
    pub fn found(&self, looks: &[Look], mut standing: Standing) {
        standing.logs.sort_unstable();
        standing.live.sort_unstable();
        for look in looks {
            let place = standing
                .logs
                .binary_search_by_key(&look.thread, |(thread, _)| *thread);
            let stored = place.ok().map(|place| standing.logs[place].1);
            let channel = &look.channel;
            let over = channel.newly_over(&look.runs, &standing.live);
            let published = channel.published.load(Relaxed);
            channel.elsewhere.send_if_modified(|known| {
                let before = *known;
                known.there = Some(stored.is_some());
                known.over += over;
                let stored = stored.unwrap_or(0);
                if stored > known.heard.max(published) {
                    known.stored = known.stored.max(stored);
                }
                *known != before
            });
        }
    }

    /// Tells listeners that storage cannot be looked at.
    pub fn away(&self, looks: &[Look]) {
        for look in looks {
            look.channel.elsewhere.send_modify(|known| known.away += 1);
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
