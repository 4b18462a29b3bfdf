//! The compiled form of a graph: channels and nodes as dense indexes.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use agentflow_types::{Result, Rng, Str, Value, graph::GraphSchemas};

use crate::{
    builder::{Body, BranchFn, BranchTargets, NodeOptions, Persistence},
    channel::{Items, Kind, ensure_ids, stamp_ids},
    invocation::InterruptAt,
    policy::RetryPolicy,
};

/// Index of a channel.
pub(crate) type ChanId = usize;
/// Index of a node; 0 is `__start__`.
pub(crate) type NodeId = usize;

/// The node `__start__`.
pub(crate) const START_NODE: NodeId = 0;

/// Tag of nodes that streams do not show.
pub(crate) const TAG_HIDDEN: &str = "langsmith:hidden";
/// Tags of nodes whose messages streams do not show.
pub(crate) const TAGS_NOSTREAM: [&str; 2] = ["nostream", "langsmith:nostream"];

/// FNV-1a, for short names that the graph's author chose.
#[derive(Clone, Copy)]
pub(crate) struct NameHasher(u64);

impl Default for NameHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Names to indexes.
pub(crate) type NameMap = HashMap<Str, usize, BuildHasherDefault<NameHasher>>;

/// A channel.
pub(crate) struct ChannelDef {
    pub(crate) name: Str,
    pub(crate) kind: Kind,
    /// Nodes that a write wakes.
    pub(crate) wakes: Vec<NodeId>,
    /// Whether it is a key of the state.
    pub(crate) is_state: bool,
    /// Whether it is a key of the output.
    pub(crate) is_output: bool,
    /// Whether it is a key of the input.
    pub(crate) is_input: bool,
}

/// What a node writes after its own output.
pub(crate) enum Writer {
    /// A value to a channel.
    Channel(ChanId, Value),
    /// Whatever a branch decides.
    Branch(usize),
}

/// A branch.
pub(crate) struct BranchDef {
    pub(crate) path: BranchFn,
    pub(crate) targets: BranchTargets,
}

/// A node.
pub(crate) struct NodeDef {
    pub(crate) name: Str,
    /// `None` for `__start__`.
    pub(crate) body: Option<Body>,
    pub(crate) options: NodeOptions,
    pub(crate) triggers: Vec<ChanId>,
    /// Trigger names, sorted, as they enter the task id.
    pub(crate) trigger_names: Vec<Str>,
    /// State keys that the node reads; `None` for all.
    pub(crate) reads: Option<Vec<ChanId>>,
    pub(crate) writers: Vec<Writer>,
    /// Place of the node when nodes are sorted by name.
    pub(crate) rank: usize,
    /// `branch:to:<node>`; `None` for `__start__`.
    pub(crate) entry: Option<ChanId>,
}

impl NodeDef {
    /// Whether streams do not show the node.
    pub(crate) fn is_hidden(&self) -> bool {
        self.body.is_none() || self.options.tags.iter().any(|t| t == TAG_HIDDEN)
    }

    /// Whether the `messages` mode does not show the node's messages.
    pub(crate) fn is_nostream(&self) -> bool {
        self.options
            .tags
            .iter()
            .any(|tag| TAGS_NOSTREAM.contains(&tag.as_str()))
    }
}

/// A compiled graph's parts.
pub(crate) struct Layout {
    pub(crate) name: Str,
    pub(crate) channels: Vec<ChannelDef>,
    pub(crate) channel_ids: NameMap,
    pub(crate) nodes: Vec<NodeDef>,
    pub(crate) node_ids: NameMap,
    pub(crate) branches: Vec<BranchDef>,
    /// State keys, in order.
    pub(crate) state: Vec<ChanId>,
    /// Output keys, in order.
    pub(crate) outputs: Vec<ChanId>,
    /// `__start__`.
    pub(crate) start: ChanId,
    /// `__pregel_tasks`.
    pub(crate) tasks: ChanId,
    /// Channels that react to a superstep without a write.
    pub(crate) transient: Vec<ChanId>,
    /// Channels that react to the end of the graph.
    pub(crate) finishing: Vec<ChanId>,
    /// Delta channels.
    pub(crate) deltas: Vec<ChanId>,
    /// Whether a channel is never stored.
    pub(crate) has_untracked: bool,
    pub(crate) schemas: GraphSchemas,
    pub(crate) interrupt_before: InterruptAt,
    pub(crate) interrupt_after: InterruptAt,
    pub(crate) persistence: Persistence,
    pub(crate) retry: Option<RetryPolicy>,
    /// Edges as the builder was told, for pictures and old checkpoints.
    pub(crate) edges: Vec<(Str, Str)>,
    pub(crate) joins: Vec<(Vec<Str>, Str)>,
    /// Source node of each branch.
    pub(crate) branch_sources: Vec<Str>,
}

impl ChannelDef {
    /// The form in which a write to this channel is stored: messages have ids.
    ///
    /// # Errors
    /// `Invalid` if it is a channel of messages and something is not a message.
    pub(crate) fn settled(&self, value: &Value, rng: &dyn Rng) -> Result<Value> {
        match &self.kind {
            Kind::Messages => ensure_ids(value, rng),
            Kind::Delta(delta) if delta.items == Items::Messages => ensure_ids(value, rng),
            Kind::Delta(_) => Ok(stamp_ids(value, rng)),
            _ => Ok(value.clone()),
        }
    }
}

impl Layout {
    /// The channel of this name.
    pub(crate) fn channel(&self, name: &str) -> Option<ChanId> {
        self.channel_ids.get(name).copied()
    }

    /// The node of this name, `__start__` included.
    pub(crate) fn node(&self, name: &str) -> Option<NodeId> {
        self.node_ids.get(name).copied()
    }

    /// The graph that runs inside a node.
    pub(crate) fn subgraph(&self, node: NodeId) -> Option<&Arc<crate::graph::Graph>> {
        match &self.nodes[node].body {
            Some(Body::Graph(graph)) => Some(graph),
            _ => None,
        }
    }

    /// The retry policy of a node.
    pub(crate) fn retry(&self, node: NodeId) -> Option<&RetryPolicy> {
        self.nodes[node]
            .options
            .retry
            .as_ref()
            .or(self.retry.as_ref())
    }
}
