//! What feeds all subscriptions of one socket: one reader of the log, so that they see its events in
//! one order.
//!
//! Clients conclude from what they see on one subscription what will not come on another: after the
//! end of a run they wait for no more of its values.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agentflow_runs::service::Subscription;
use agentflow_storage::event::Event;
use agentflow_types::Result;
use tokio::sync::Notify;

use super::{
    Filter,
    command::Caller,
    serve::{Stream, Watching, subscribe},
};
use crate::{
    AppState,
    queue::{Closed, Sender},
};

/// The subscriptions that a client wants on its socket.
#[derive(Default)]
pub(super) struct Wanted {
    /// Ids and filters, oldest first; held for one look or one change.
    list: Mutex<Vec<(String, Filter)>>,
    changed: Notify,
}

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, Vec<(String, Filter)>> {
        // A list is whole after any panic.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one; false if there are `most` already.
    pub(super) fn add(&self, id: &str, filter: Filter, most: usize) -> bool {
        let mut list = self.lock();
        if list.len() >= most {
            return false;
        }
        list.push((id.to_owned(), filter));
        self.changed.notify_one();
        true
    }

    /// Removes one; false if there is none of this id.
    pub(super) fn remove(&self, id: &str) -> bool {
        let mut list = self.lock();
        let before = list.len();
        list.retain(|(known, _)| known != id);
        self.changed.notify_one();
        list.len() < before
    }
}

/// The reader of a socket's thread.
pub(super) struct Trunk {
    app: AppState,
    caller: Arc<Caller>,
    wanted: Arc<Wanted>,
    tx: Sender<String>,
    /// Those that have seen everything up to `position`.
    streams: Vec<(String, Stream)>,
    /// Number of the last event that was passed on.
    position: u64,
}

impl Trunk {
    pub(super) fn new(
        app: AppState,
        caller: Arc<Caller>,
        wanted: Arc<Wanted>,
        tx: Sender<String>,
    ) -> Self {
        Self {
            app,
            caller,
            wanted,
            tx,
            streams: Vec::new(),
            position: 0,
        }
    }

    /// Feeds all subscriptions until the socket closes; waits when it is slow.
    ///
    /// # Errors
    /// Errors of the backend.
    pub(super) async fn feed(mut self) -> Result<()> {
        let closed = self.tx.clone();
        tokio::select! {
            fed = self.feed_on() => fed,
            () = closed.closed() => Ok(()),
        }
    }

    async fn feed_on(&mut self) -> Result<()> {
        loop {
            while self.wanted.lock().is_empty() {
                self.wanted.changed.notified().await;
            }
            let mut events = subscribe(&self.app, &self.caller.scope, self.caller.thread).await?;
            self.position = 0;
            if self.follow(&mut events).await?.is_err() {
                return Ok(());
            }
            // The thread is gone, and with it what was subscribed to.
            self.streams.clear();
            self.wanted.lock().clear();
        }
    }

    /// Passes events on until the thread is gone.
    async fn follow(&mut self, events: &mut Subscription) -> Result<Result<(), Closed>> {
        loop {
            if self.admit(events).await?.is_err() {
                return Ok(Err(Closed));
            }
            let wanted = self.wanted.clone();
            let next = tokio::select! {
                biased;
                () = wanted.changed.notified() => continue,
                next = events.next() => next?,
            };
            let Some(event) = next else { return Ok(Ok(())) };
            self.position = event.seq;
            for (_, stream) in &mut self.streams {
                if tell(stream, &event, &self.tx).await.is_err() {
                    return Ok(Err(Closed));
                }
            }
        }
    }

    /// Lets go of what is no longer wanted, and brings what is new up to where the others are.
    async fn admit(&mut self, events: &Subscription) -> Result<Result<(), Closed>> {
        let wanted = self.wanted.lock().clone();
        self.streams
            .retain(|(id, _)| wanted.iter().any(|(known, _)| known == id));
        let watching = Watching::of(&self.caller.headers);
        for (id, filter) in wanted {
            if self.streams.iter().any(|(known, _)| *known == id) {
                continue;
            }
            let scope = &self.caller.scope;
            let mut stream = Stream::new(&self.app, scope, filter, watching, events).await?;
            let mut after = 0;
            while after < self.position {
                let page = events.passed(after).await?;
                let Some(last) = page.last() else { break };
                after = last.seq;
                for event in &page {
                    if tell(&mut stream, event, &self.tx).await.is_err() {
                        return Ok(Err(Closed));
                    }
                }
            }
            self.streams.push((id, stream));
        }
        Ok(Ok(()))
    }
}

/// Tells a subscription of an event, if it is about it.
async fn tell(
    stream: &mut Stream,
    event: &Event,
    tx: &Sender<String>,
) -> std::result::Result<(), Closed> {
    let gap = stream.gap_before(event);
    let told = stream.take(event).await;
    let texts = told
        .iter()
        .map(|told| serde_json::to_string(told).unwrap_or_default());
    for text in gap.into_iter().chain(texts) {
        let bytes = text.len();
        tx.send(text, bytes).await?;
    }
    Ok(())
}
