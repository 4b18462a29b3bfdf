//! Channels: named places of the state, each with a rule for combining writes.

mod reduce;
mod slot;

use std::{fmt, sync::Arc};

use agentflow_types::{Result, Str, Value};

pub use reduce::{add_messages, overwrite};
pub(crate) use reduce::{ensure_ids, is_message_like};
pub(crate) use slot::Slot;

/// Combines the current value with one write.
pub type Reducer = Arc<dyn Fn(Value, Value) -> Result<Value> + Send + Sync>;

/// Whether a channel accepts several writes in one superstep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// One write; a second one is an error.
    One,
    /// Any number; the last one wins.
    Many,
}

/// Whether a channel waits for the end of the graph before it shows its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// At once.
    AtOnce,
    /// When nothing else is left to do.
    AfterFinish,
}

/// The rule of a channel.
#[derive(Clone)]
pub(crate) enum Kind {
    LastValue,
    LastValueAfterFinish,
    AnyValue,
    Ephemeral(Guard),
    Untracked(Guard),
    Topic {
        accumulate: bool,
    },
    Reduce {
        default: Option<Value>,
        reducer: Reducer,
    },
    Messages,
    Barrier {
        names: Arc<[Str]>,
        release: Release,
    },
}

impl Kind {
    /// Whether the channel is stored in checkpoints.
    pub(crate) fn is_tracked(&self) -> bool {
        !matches!(self, Self::Untracked(_))
    }
}

/// How one key of the state combines writes.
///
/// ```
/// use agentflow_graph::{Channel, GraphBuilder};
///
/// let mut graph = GraphBuilder::new("agent");
/// graph.channel("question", Channel::last_value());
/// graph.channel("messages", Channel::messages());
/// graph.channel("sources", Channel::append());
/// ```
#[derive(Clone)]
pub struct Channel {
    pub(crate) kind: Kind,
}

impl Channel {
    fn of(kind: Kind) -> Self {
        Self { kind }
    }

    fn reducing(
        default: Option<Value>,
        f: impl Fn(Value, Value) -> Result<Value> + Send + Sync + 'static,
    ) -> Self {
        Self::of(Kind::Reduce {
            default,
            reducer: Arc::new(f),
        })
    }

    /// Holds the last write; two writes in one superstep are an error.
    #[must_use]
    pub fn last_value() -> Self {
        Self::of(Kind::LastValue)
    }

    /// Holds the last write; of several in one superstep any; empty when a superstep passes
    /// without one.
    #[must_use]
    pub fn any_value() -> Self {
        Self::of(Kind::AnyValue)
    }

    /// Holds a write for one superstep; a second write in the same superstep is an error.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self::of(Kind::Ephemeral(Guard::One))
    }

    /// Holds the last write while the run lasts; never stored.
    #[must_use]
    pub fn untracked() -> Self {
        Self::of(Kind::Untracked(Guard::Many))
    }

    /// Collects the writes of one superstep in a list.
    #[must_use]
    pub fn topic() -> Self {
        Self::of(Kind::Topic { accumulate: false })
    }

    /// Collects all writes in a list, over all supersteps.
    #[must_use]
    pub fn accumulating_topic() -> Self {
        Self::of(Kind::Topic { accumulate: true })
    }

    /// A list of messages: same id replaces, `remove` deletes, anything else is appended.
    #[must_use]
    pub fn messages() -> Self {
        Self::of(Kind::Messages)
    }

    /// A list to which lists are appended; empty at first.
    #[must_use]
    pub fn append() -> Self {
        Self::reducing(Some(Value::list(Vec::new())), reduce::append)
    }

    /// A number to which numbers are added; zero at first.
    #[must_use]
    pub fn sum() -> Self {
        Self::reducing(Some(Value::Int(0)), reduce::sum)
    }

    /// Text to which text is appended; empty at first.
    #[must_use]
    pub fn concat() -> Self {
        Self::reducing(Some(Value::str("")), reduce::concat)
    }

    /// The greatest of all writes (numbers or text); empty at first.
    #[must_use]
    pub fn max() -> Self {
        Self::reducing(None, |a, b| reduce::pick(a, b, std::cmp::Ordering::Greater))
    }

    /// The smallest of all writes (numbers or text); empty at first.
    #[must_use]
    pub fn min() -> Self {
        Self::reducing(None, |a, b| reduce::pick(a, b, std::cmp::Ordering::Less))
    }

    /// A map into which maps are merged, later keys winning; empty at first.
    #[must_use]
    pub fn merge() -> Self {
        Self::reducing(Some(Value::map(agentflow_types::Map::new())), reduce::merge)
    }

    /// Any other rule. `default` is the value before the first write.
    #[must_use]
    pub fn reducer(default: Value, reducer: Reducer) -> Self {
        Self::of(Kind::Reduce {
            default: Some(default),
            reducer,
        })
    }

    /// The word for this kind in pictures and errors.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::LastValue => "last_value",
            Kind::LastValueAfterFinish => "last_value_after_finish",
            Kind::AnyValue => "any_value",
            Kind::Ephemeral(_) => "ephemeral",
            Kind::Untracked(_) => "untracked",
            Kind::Topic { .. } => "topic",
            Kind::Reduce { .. } => "reducer",
            Kind::Messages => "messages",
            Kind::Barrier { .. } => "barrier",
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.kind_name()).finish()
    }
}
