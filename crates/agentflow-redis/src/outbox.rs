//! What is on its way to other servers: events, then the wake-ups that tell of them, in order.
//!
//! Nobody waits for it. What does not fit, or cannot be delivered, is dropped: events are read
//! from the database then, and wake-ups take its way.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use agentflow_storage::{
    event::Event,
    signal::{Signal, Signals},
};
use agentflow_types::{Error, Result, ThreadId};
use futures_util::future::try_join_all;
use indexmap::IndexMap;
use redis::{Pipeline, cmd};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use uuid::Uuid;

use crate::{Inner, link::Repeat, ttl_ms};

/// Most messages that wait.
const QUEUE: usize = 4096;
/// Most bytes of events that wait.
const QUEUE_BYTES: usize = 16 << 20;
/// Most messages that are delivered at once.
const BATCH: usize = 256;
/// A larger event is not copied; readers find it in the database.
const MAX_EVENT_BYTES: usize = 256 << 10;
/// Events that a thread's stream holds at most, roughly.
const MAX_EVENTS: usize = 4096;
/// How long a thread's stream lives after its last event.
const EVENTS_TTL: Duration = Duration::from_secs(15 * 60);
/// Messages that the stream of wake-ups holds at most, roughly. Who was away for longer is told
/// that it missed some.
const MAX_SIGNALS: usize = 10_000;

/// What is to be told.
enum Message {
    Events(ThreadId, Vec<Event>),
    /// The thread's stream is not what the database has any more.
    Forget(ThreadId),
    Signal(Signal),
}

/// Takes messages; never blocks.
pub(crate) struct Outbox {
    queue: Sender<Message>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Bytes of events that wait.
    bytes: AtomicUsize,
    /// Whether something was dropped that others were not told of.
    lost: AtomicBool,
    /// The way of the database.
    fallback: Arc<dyn Signals>,
}

/// Delivers messages; see [`Delivery::run`].
pub(crate) struct Delivery {
    queue: Receiver<Message>,
    shared: Arc<Shared>,
    redis: Arc<Inner>,
    own: Uuid,
}

/// An empty outbox and what delivers from it. `own` is how this process calls itself.
pub(crate) fn outbox(
    redis: Arc<Inner>,
    fallback: Arc<dyn Signals>,
    own: Uuid,
) -> (Outbox, Delivery) {
    let (sender, queue) = channel(QUEUE);
    let shared = Arc::new(Shared {
        bytes: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
        fallback,
    });
    let delivery = Delivery {
        queue,
        shared: shared.clone(),
        redis,
        own,
    };
    let outbox = Outbox {
        queue: sender,
        shared,
    };
    (outbox, delivery)
}

fn bytes(events: &[Event]) -> usize {
    events.iter().map(|event| event.data.len()).sum()
}

impl Outbox {
    /// Events that were stored.
    pub(crate) fn events(&self, thread: ThreadId, events: Vec<Event>) {
        let size = bytes(&events);
        if self.shared.bytes.fetch_add(size, Relaxed) + size > QUEUE_BYTES
            || self
                .queue
                .try_send(Message::Events(thread, events))
                .is_err()
        {
            // What is missing in the stream is noticed by whoever reads it.
            self.shared.bytes.fetch_sub(size, Relaxed);
        }
    }

    /// Events of the thread were removed.
    pub(crate) fn forget(&self, thread: ThreadId) {
        let _ = self.queue.try_send(Message::Forget(thread));
    }

    /// A wake-up.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.queue.try_send(Message::Signal(signal)).is_err() {
            self.shared.lost.store(true, Relaxed);
            self.shared.fallback.send(signal);
        }
    }
}

impl Delivery {
    /// Delivers until the outbox is dropped.
    pub(crate) async fn run(mut self) {
        let mut quiet = false;
        let mut batch = Vec::new();
        while self.queue.recv_many(&mut batch, BATCH).await > 0 {
            let sorted = Sorted::of(std::mem::take(&mut batch));
            self.shared.bytes.fetch_sub(sorted.bytes, Relaxed);
            match self.deliver(&sorted).await {
                Ok(()) => quiet = false,
                Err(err) => {
                    self.shared.lost.store(true, Relaxed);
                    for signal in sorted.signals {
                        self.shared.fallback.send(signal);
                    }
                    // Once per outage: nobody waits for Redis.
                    if !quiet {
                        tracing::warn!(error = %err, "other servers are told by the database for now");
                    }
                    quiet = true;
                }
            }
        }
    }

    async fn deliver(&self, sorted: &Sorted) -> Result<()> {
        let streams = sorted.threads.iter().map(|(thread, news)| async move {
            let all = news.pipeline(&self.redis.keys.events(*thread));
            let done = self.redis.link.run_all::<()>(&all, Repeat::Yes).await;
            match done {
                // A number that is already there: somebody else wrote, or it was repeated.
                Err(err) if is_refused(&err) => Ok(()),
                done => done,
            }
        });
        try_join_all(streams).await?;
        let lost = self.shared.lost.swap(false, Relaxed);
        let mut lines: Vec<String> = sorted.signals.iter().map(Signal::to_string).collect();
        if lost {
            lines.push(Signal::Missed.to_string());
        }
        if lines.is_empty() {
            return Ok(());
        }
        let mut command = cmd("XADD");
        command.arg(self.redis.keys.signals());
        command.arg("MAXLEN").arg("~").arg(MAX_SIGNALS).arg("*");
        command.arg("from").arg(self.own.simple().to_string());
        command.arg("say").arg(lines.join("\n"));
        let _: String = self.redis.link.run(&command, Repeat::Yes).await?;
        Ok(())
    }
}

/// Whether Redis answered, but with a no.
fn is_refused(err: &Error) -> bool {
    err.kind() == agentflow_types::ErrorKind::Bug
}

/// A batch: what each thread's stream gets, and the wake-ups, equal ones once.
#[derive(Default)]
struct Sorted {
    threads: IndexMap<ThreadId, News>,
    signals: Vec<Signal>,
    bytes: usize,
}

#[derive(Default)]
struct News {
    /// Whether what is in the stream goes first.
    forget: bool,
    events: Vec<Event>,
}

impl Sorted {
    fn of(batch: Vec<Message>) -> Self {
        let mut sorted = Self::default();
        let mut seen = HashSet::new();
        for message in batch {
            match message {
                Message::Events(thread, events) => {
                    sorted.bytes += bytes(&events);
                    let news = sorted.threads.entry(thread).or_default();
                    // A thread that begins anew has nothing to do with what its stream holds.
                    news.forget |= events.first().is_some_and(|event| event.seq == 1);
                    news.events.extend(events);
                }
                Message::Forget(thread) => {
                    let news = sorted.threads.entry(thread).or_default();
                    news.forget = true;
                    news.events.clear();
                }
                Message::Signal(signal) => {
                    if seen.insert(signal) {
                        sorted.signals.push(signal);
                    }
                }
            }
        }
        sorted
    }
}

impl News {
    fn pipeline(&self, key: &str) -> Pipeline {
        let mut all = redis::pipe();
        if self.forget {
            all.cmd("DEL").arg(key).ignore();
        }
        for event in &self.events {
            if event.data.len() > MAX_EVENT_BYTES {
                continue;
            }
            let ns: Vec<&str> = event.ns.iter().map(|part| &**part).collect();
            all.cmd("XADD")
                .arg(key)
                .arg("MAXLEN")
                .arg("~")
                .arg(MAX_EVENTS)
                .arg(format!("{}-0", event.seq))
                .arg("run")
                .arg(event.run_id.to_string())
                .arg("at")
                .arg(event.at.0)
                .arg("kind")
                .arg(&*event.kind)
                .arg("ns")
                .arg(serde_json::json!(ns).to_string())
                .arg("data")
                .arg(&*event.data)
                .ignore();
        }
        if !self.events.is_empty() {
            all.cmd("PEXPIRE").arg(key).arg(ttl_ms(EVENTS_TTL)).ignore();
        }
        all
    }
}
