//! Numbering of events and their live fan-out.
//!
//! Each thread that somebody writes to or listens to has a channel here. An event gets its
//! number, is stored, and only then reaches listeners, all under the channel's lock, so numbers
//! arrive in order. Listeners that fall behind read the log instead; nothing is kept for them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use agentflow_storage::event::Event;
use agentflow_types::{Result, RunId, Str, ThreadId, Timestamp};
use tokio::sync::broadcast;

/// Events that a listener may lag behind before it reads the log instead.
const LAG: usize = 1024;

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

/// The live side of one thread.
pub struct Channel {
    tx: broadcast::Sender<Arc<Event>>,
    /// The greatest number in use; `None` until it was read from storage.
    last: tokio::sync::Mutex<Option<u64>>,
}

impl Channel {
    fn new() -> Self {
        Self {
            tx: broadcast::channel(LAG).0,
            last: tokio::sync::Mutex::new(None),
        }
    }

    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<Event>> {
        self.tx.subscribe()
    }

    /// How many listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.tx.receiver_count()
    }

    /// Numbers the drafts, has `store` keep them, and tells the listeners.
    ///
    /// `last` reads the greatest number from storage and is called once per channel.
    ///
    /// # Errors
    /// What `last` or `store` fails with; then no number is used and nobody is told.
    pub async fn append<T>(
        &self,
        drafts: Vec<Draft>,
        now: Timestamp,
        last: impl Future<Output = Result<u64>>,
        store: impl AsyncFnOnce(Vec<Event>) -> Result<T>,
    ) -> Result<T> {
        let mut guard = self.last.lock().await;
        let start = match *guard {
            Some(seq) => seq,
            None => last.await?,
        };
        let events: Vec<Event> = drafts
            .into_iter()
            .zip(start + 1..)
            .map(|(draft, seq)| Event {
                seq,
                run_id: draft.run_id,
                at: now,
                kind: draft.kind,
                ns: draft.ns,
                data: draft.data,
            })
            .collect();
        // Until the outcome is known the number is unknown too: it is read again next time.
        *guard = None;
        let stored = store(events.clone()).await?;
        *guard = Some(start + events.len() as u64);
        for event in events {
            // Nobody listening is fine.
            let _ = self.tx.send(Arc::new(event));
        }
        Ok(stored)
    }
}

/// The channels of all threads in use.
#[derive(Default)]
pub struct Hub {
    /// Guards the map only; channels live as long as somebody holds them.
    channels: Mutex<HashMap<ThreadId, Weak<Channel>>>,
}

impl Hub {
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
        let channel = Arc::new(Channel::new());
        channels.insert(thread, Arc::downgrade(&channel));
        channel
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ThreadId, Weak<Channel>>> {
        self.channels
            .lock()
            .expect("nothing panics while the map is held")
    }
}
