//! The run-scoped streams: events of the log become the frames that a client asked for.
//!
//! Pure. One encoder serves one reader of one run; it sees every event of the run in order.

mod events;
mod messages;
mod mode;

use agentflow_storage::event::Event;
use serde_json::Value;

pub use mode::{Mode, graph_modes, parse_modes};

use crate::sse::Frame;

/// Key under which interrupts travel.
const INTERRUPT: &str = "__interrupt__";

/// What an encoder must know about its run.
#[derive(Clone, Debug, Default)]
pub struct RunFacts {
    /// The run.
    pub run_id: String,
    /// Its graph.
    pub graph_id: String,
    /// Its input.
    pub input: Value,
    /// Modes as the client named them.
    pub modes: Vec<Mode>,
    /// Whether frames carry ids.
    pub resumable: bool,
}

/// Encodes the events of one run.
pub struct Encoder {
    facts: RunFacts,
    messages: messages::Partials,
    events: events::Trace,
}

impl Encoder {
    /// An encoder for a run, at its first event.
    #[must_use]
    pub fn new(facts: RunFacts) -> Self {
        let events = events::Trace::new(&facts);
        Self {
            facts,
            messages: messages::Partials::default(),
            events,
        }
    }

    /// Whether the encoder must see a run from its beginning to encode what comes later.
    #[must_use]
    pub fn is_stateful(modes: &[Mode]) -> bool {
        modes
            .iter()
            .any(|mode| matches!(mode, Mode::Messages | Mode::Events))
    }

    /// The frames of an event; none if nobody asked for it.
    pub fn encode(&mut self, event: &Event) -> Vec<Frame> {
        let mut frames = Vec::new();
        match &*event.kind {
            "metadata" | "error" => frames.push(Frame::new(&*event.kind, &*event.data)),
            "updates" => self.updates(event, &mut frames),
            "messages" => self.messages(event, &mut frames),
            "values" => self.plain(Mode::Values, event, &mut frames),
            "custom" => self.plain(Mode::Custom, event, &mut frames),
            "tasks" => self.plain(Mode::Tasks, event, &mut frames),
            "checkpoints" => self.plain(Mode::Checkpoints, event, &mut frames),
            "debug" => self.plain(Mode::Debug, event, &mut frames),
            _ => {}
        }
        if self.wants(Mode::Events) {
            frames.extend(self.events.encode(event));
        }
        // Only the last frame carries the number: a client that resumes there has them all.
        if self.facts.resumable
            && let Some(last) = frames.last_mut()
        {
            last.id = Some(event.seq);
        }
        frames
    }

    fn wants(&self, mode: Mode) -> bool {
        self.facts.modes.contains(&mode)
    }

    fn plain(&self, mode: Mode, event: &Event, frames: &mut Vec<Frame>) {
        if self.wants(mode) {
            frames.push(Frame::new(name(event, &event.kind), &*event.data));
        }
    }

    /// Without `updates`, interrupts still arrive, as `values`.
    fn updates(&self, event: &Event, frames: &mut Vec<Frame>) {
        if self.wants(Mode::Updates) {
            frames.push(Frame::new(name(event, "updates"), &*event.data));
        } else if event.data.contains(INTERRUPT)
            && serde_json::from_str::<Value>(&event.data)
                .is_ok_and(|data| data.get(INTERRUPT).is_some())
        {
            frames.push(Frame::new(name(event, "values"), &*event.data));
        }
    }

    fn messages(&mut self, event: &Event, frames: &mut Vec<Frame>) {
        if self.wants(Mode::MessagesTuple) {
            frames.push(Frame::new(name(event, "messages"), &*event.data));
        }
        if self.wants(Mode::Messages) {
            for (kind, data) in self.messages.take(&event.data) {
                frames.push(Frame::new(name(event, kind), data.to_string()));
            }
        }
    }
}

/// Name of an event on the wire: the mode, then the namespace.
fn name(event: &Event, mode: &str) -> String {
    let mut name = mode.to_owned();
    for part in &event.ns {
        name.push('|');
        name.push_str(part);
    }
    name
}

/// Whether a frame passes a filter of modes; no filter lets all pass.
///
/// A mode is matched before the first `|`, so that events of subgraphs pass with their mode.
#[must_use]
pub fn passes(frame: &Frame, filter: &[Mode]) -> bool {
    let mode = frame.event.split('|').next().unwrap_or_default();
    filter.is_empty()
        || matches!(mode, "metadata" | "error")
        || filter.iter().any(|wanted| match wanted {
            Mode::MessagesTuple => mode == "messages",
            Mode::Messages => mode == "messages" || mode.starts_with("messages/"),
            other => mode == other.as_str(),
        })
}

#[cfg(test)]
mod tests;
