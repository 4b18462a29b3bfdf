//! Sending events to whoever reads them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use agentflow_types::{
    Str, Value,
    graph::{StreamEvent, StreamMode},
    message,
};

use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use crate::{channel::is_message_like, core::payload::Modes, invocation::EventSink};

/// Most message ids that one run remembers as already sent; beyond it the oldest knowledge is
/// dropped and a message may be sent twice.
const MAX_SEEN: usize = 100_000;

/// Sends the events of one graph.
#[derive(Clone)]
pub(crate) struct Emitter {
    sink: Option<EventSink>,
    cancel: CancellationToken,
    modes: Modes,
    ns: Vec<Str>,
    /// Ids of messages that readers have, or had before the run.
    seen: Arc<Mutex<HashSet<String>>>,
}

impl Emitter {
    /// For the outermost graph.
    pub(crate) fn root(
        sink: Option<EventSink>,
        modes: &[StreamMode],
        cancel: CancellationToken,
    ) -> Self {
        let modes = if sink.is_some() {
            Modes::of(modes)
        } else {
            Modes::NONE
        };
        Self {
            sink,
            cancel,
            modes,
            ns: Vec::new(),
            seen: Arc::default(),
        }
    }

    /// For a graph inside a task. Without `subgraphs` only what nodes send themselves passes.
    pub(crate) fn nested(&self, ns: &str, subgraphs: Subgraphs) -> Self {
        match subgraphs {
            Subgraphs::Shown => Self {
                ns: ns.split('|').map(Str::from).collect(),
                ..self.clone()
            },
            Subgraphs::Hidden => Self {
                modes: self.modes.and(Modes::of(&[StreamMode::Custom])),
                ..self.clone()
            },
        }
    }

    /// The modes that are read.
    pub(crate) fn modes(&self) -> Modes {
        self.modes
    }

    /// Whether a mode is read.
    pub(crate) fn wants(&self, mode: StreamMode) -> bool {
        self.modes.has(mode)
    }

    /// Namespace of the events.
    pub(crate) fn ns(&self) -> Vec<Str> {
        self.ns.clone()
    }

    /// Sends; waits while the reader's buffer is full, unless the run is cancelled. A reader that
    /// went away misses it.
    pub(crate) async fn send(&self, event: StreamEvent) {
        let Some(sink) = &self.sink else { return };
        let Err(TrySendError::Full(event)) = sink.try_send(event) else {
            return;
        };
        tokio::select! {
            biased;
            _ = sink.send(event) => {}
            // The event is lost; nobody read for so long that somebody gave up.
            () = self.cancel.cancelled() => {}
        }
    }

    /// Remembers that readers have a message; tells whether that is new.
    pub(crate) fn saw(&self, id: &str) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_SEEN {
            seen.clear();
        }
        seen.insert(id.to_owned())
    }

    /// Remembers the messages that a task gets: they are not news.
    pub(crate) fn saw_input(&self, input: &Value) {
        for message in messages_in(input) {
            if let Some(id) = message::id(message) {
                self.saw(id);
            }
        }
    }
}

/// Whether events of graphs inside tasks are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subgraphs {
    Shown,
    Hidden,
}

/// Messages among the entries of a map, or in lists among them.
pub(crate) fn messages_in(value: &Value) -> Vec<&Value> {
    match value {
        one if is_message_like(one) => vec![one],
        Value::Map(map) => map.values().flat_map(listed_messages).collect(),
        other => listed_messages(other),
    }
}

fn listed_messages(value: &Value) -> Vec<&Value> {
    match value {
        Value::List(items) => items.iter().filter(|item| is_message_like(item)).collect(),
        one if is_message_like(one) => vec![one],
        _ => Vec::new(),
    }
}
