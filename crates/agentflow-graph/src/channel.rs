//! Channels: named places of the state, each with a rule for combining writes.

mod reduce;
mod slot;

use std::{fmt, sync::Arc};

use agentflow_types::{Result, Str, Value};

pub use reduce::{add_messages, overwrite};
pub(crate) use reduce::{ensure_ids, is_message_like, is_overwrite, stamp_ids};
pub(crate) use slot::Slot;

/// Combines the current value with one write.
pub type Reducer = Arc<dyn Fn(Value, Value) -> Result<Value> + Send + Sync>;

/// Combines the current value with all writes of one or more supersteps, in order.
pub type BatchReducer = Arc<dyn Fn(Value, Vec<Value>) -> Result<Value> + Send + Sync>;

/// Updates after which a delta channel stores its whole value, unless the channel says otherwise.
pub const SNAPSHOT_FREQUENCY: u32 = 100;

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
    Delta(Delta),
    Barrier {
        names: Arc<[Str]>,
        release: Release,
    },
}

/// The rule of a delta channel.
#[derive(Clone)]
pub(crate) struct Delta {
    pub(crate) default: Value,
    pub(crate) reducer: BatchReducer,
    /// Updates after which the whole value is stored.
    pub(crate) snapshot_frequency: u32,
    pub(crate) items: Items,
}

/// What a delta channel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Items {
    /// Messages and nothing else.
    Messages,
    /// Anything.
    Anything,
}

impl Kind {
    /// Whether the channel stores what changed instead of its value.
    pub(crate) fn is_delta(&self) -> bool {
        matches!(self, Self::Delta(_))
    }

    /// Whether the channel reacts to a superstep without a write.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::AnyValue | Self::Ephemeral(_) | Self::Topic { accumulate: false }
        )
    }

    /// Whether the channel reacts to the end of the graph.
    pub(crate) fn waits_for_end(&self) -> bool {
        let late = Release::AfterFinish;
        matches!(self, Self::LastValueAfterFinish)
            || matches!(self, Self::Barrier { release, .. } if *release == late)
    }

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

    /// A delta channel: a checkpoint stores what changed since the one before, not the value. The
    /// bytes of a superstep then stay the same however large the value grows. Every
    /// [`SNAPSHOT_FREQUENCY`] updates the whole value is stored, so that few writes must be
    /// combined when a thread is loaded.
    ///
    /// `reducer` gets the value and the writes of one *or several* supersteps; it must be
    /// deterministic, and two calls must give what one call with all the writes gives.
    ///
    /// LangGraph's `DeltaChannel`; Python continues such threads, and we Python's.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use agentflow_graph::{Channel, GraphBuilder};
    /// use agentflow_types::Value;
    ///
    /// let count = |total: Value, writes: Vec<Value>| {
    ///     let added: i64 = writes.iter().filter_map(Value::as_i64).sum();
    ///     Ok(Value::Int(total.as_i64().unwrap_or(0) + added))
    /// };
    /// let mut graph = GraphBuilder::new("counter");
    /// graph.channel("total", Channel::delta(Value::Int(0), Arc::new(count)).snapshot_every(50));
    /// ```
    #[must_use]
    pub fn delta(default: Value, reducer: BatchReducer) -> Self {
        Self::delta_of(default, reducer, Items::Anything)
    }

    fn delta_of(default: Value, reducer: BatchReducer, items: Items) -> Self {
        Self::of(Kind::Delta(Delta {
            default,
            reducer,
            snapshot_frequency: SNAPSHOT_FREQUENCY,
            items,
        }))
    }

    /// A list of messages as a [delta channel](Self::delta): same id replaces, `remove` deletes,
    /// anything else is appended. Unlike [`Channel::messages`] it ignores a `remove` of an unknown
    /// id, and there is none for all messages: write an [`overwrite`] instead.
    ///
    /// ```
    /// use agentflow_graph::{Channel, GraphBuilder, Invocation, Runtime, START};
    /// use agentflow_storage::memory::Memory;
    /// use agentflow_types::{Value, value};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let mut builder = GraphBuilder::new("chat");
    /// builder
    ///     .channel("messages", Channel::delta_messages())
    ///     .node("reply", |_, _| async { Ok(value!({"messages": [["ai", "hello"]]}).into()) })
    ///     .edge(START, "reply");
    /// let graph = builder.compile()?;
    /// let runtime = Runtime::with_saver(Memory::open().checkpoints);
    /// for turn in 1..=3 {
    ///     let say = Invocation::new(value!({"messages": [["user", "hi"]]})).thread("t");
    ///     let out = graph.run(&runtime, say, None).await?;
    ///     let messages = out.values.get("messages").and_then(Value::as_list).unwrap();
    ///     assert_eq!(messages.len(), 2 * turn);
    /// }
    /// # Ok::<(), agentflow_types::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn delta_messages() -> Self {
        let reducer = Arc::new(reduce::add_message_batch);
        Self::delta_of(Value::list(Vec::new()), reducer, Items::Messages)
    }

    /// A list to which lists are appended, as a [delta channel](Self::delta); empty at first.
    #[must_use]
    pub fn delta_append() -> Self {
        let reducer =
            |value, writes: Vec<Value>| writes.into_iter().try_fold(value, reduce::append);
        Self::delta(Value::list(Vec::new()), Arc::new(reducer))
    }

    /// How many updates of a delta channel pass until its whole value is stored; at least 1. Other
    /// channels are always stored whole.
    #[must_use]
    pub fn snapshot_every(mut self, updates: u32) -> Self {
        if let Kind::Delta(delta) = &mut self.kind {
            delta.snapshot_frequency = updates.max(1);
        }
        self
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
            Kind::Delta(_) => "delta",
            Kind::Barrier { .. } => "barrier",
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.kind_name()).finish()
    }
}
