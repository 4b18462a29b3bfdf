//! The compiled form of a graph: channels and nodes as dense indexes.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use agentflow_types::{Result, Rng, Str, Value, graph::GraphSchemas};

use crate::{
    builder::{Body, BranchFn, BranchTargets, NodeOptions, Persistence, Role},
    cache::CachePolicy,
    channel::{Items, Kind, ensure_ids, stamp_ids},
    invocation::InterruptAt,
    managed::Managed,
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
    pub(crate) role: Role,
    /// The node that runs when this one failed.
    pub(crate) handler: Option<NodeId>,
    /// Whether it reads the run's input instead of the state.
    pub(crate) reads_input: bool,
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
    pub(crate) cache: Option<CachePolicy>,
    /// Keys that nodes read and the library computes.
    pub(crate) managed: Vec<(Str, Managed)>,
    /// Set if the graph is a function: one node, one result.
    pub(crate) function: Option<Function>,
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

/// The channels of a graph that is a function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    /// `__end__`: the result.
    pub(crate) result: ChanId,
    /// `__previous__`: what the next run gets.
    pub(crate) previous: ChanId,
}

impl Layout {
    /// Nodes that the graph's author named as such.
    pub(crate) fn shown_nodes(&self) -> impl Iterator<Item = &NodeDef> {
        let work = |node: &&NodeDef| node.body.is_some() && node.role == Role::Work;
        self.nodes.iter().filter(work)
    }

    /// What a node reads, with the values that the library computes.
    pub(crate) fn with_managed(&self, state: Value, step: i64, stop: i64) -> Value {
        if self.managed.is_empty() {
            return state;
        }
        let mut map = state.as_map().cloned().unwrap_or_default();
        for (name, value) in &self.managed {
            map.insert(name.clone(), value.value(step, stop));
        }
        Value::map(map)
    }

    /// The cache policy of a node.
    pub(crate) fn cache(&self, node: NodeId) -> Option<&CachePolicy> {
        let own = self.nodes[node].options.cache.as_ref();
        own.or(self.cache.as_ref())
    }

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

    /// The graph that runs inside a node, if its state is stored.
    pub(crate) fn stored_subgraph(&self, node: NodeId) -> Option<&Arc<crate::graph::Graph>> {
        let stored =
            |graph: &&Arc<crate::graph::Graph>| graph.layout().persistence != Persistence::None;
        self.subgraph(node).filter(stored)
    }

    /// The retry policies of a node, in order.
    pub(crate) fn retries(&self, node: NodeId) -> Vec<RetryPolicy> {
        let options = &self.nodes[node].options;
        let own: Vec<RetryPolicy> = options
            .retry
            .iter()
            .chain(&options.more_retries)
            .cloned()
            .collect();
        if own.is_empty() {
            self.retry.iter().cloned().collect()
        } else {
            own
        }
    }
}
