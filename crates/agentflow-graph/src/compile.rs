//! Validation of a builder's parts, and their layout.

use std::collections::HashSet;

use agentflow_types::{
    Error, Result, Str, Value,
    graph::{END, NS_END, NS_SEPARATOR, START},
};

use crate::{
    builder::{BranchTargets, DEFAULT_HANDLER, GraphBuilder, NodeOptions, Role, handler_name},
    channel::{Guard, Kind, Release},
    graph::Graph,
    invocation::InterruptAt,
    layout::{BranchDef, ChanId, ChannelDef, Layout, NameMap, NodeDef, START_NODE, Writer},
};

/// Name of the channel that holds what `Send` asks for.
pub(crate) const TASKS: &str = "__pregel_tasks";

/// Compiles.
///
/// # Errors
/// `Invalid`, naming every mistake.
pub(crate) fn compile(builder: &GraphBuilder) -> Result<Graph> {
    let mistakes = check(builder);
    if !mistakes.is_empty() {
        return Err(Error::invalid(mistakes.join("; ")).with("graph", &builder.name));
    }
    let mut layout = Layouter::new(builder);
    layout.add_nodes();
    layout.add_edges();
    Ok(Graph::new(layout.finish()))
}

/// All mistakes, in the order of the parts.
fn check(builder: &GraphBuilder) -> Vec<String> {
    let mut mistakes = builder.mistakes.clone();
    for name in builder.nodes.keys() {
        if matches!(&**name, START | END) {
            mistakes.push(format!("Node `{name}` is reserved."));
        }
        if let Some(sign) = name.chars().find(|c| [NS_SEPARATOR, NS_END].contains(c)) {
            mistakes.push(format!(
                "'{sign}' is a reserved character and is not allowed in the node names."
            ));
        }
        if builder.channels.contains_key(name) {
            mistakes.push(format!("'{name}' is already being used as a state key"));
        }
    }
    let handled = builder
        .nodes
        .keys()
        .filter_map(|name| name.strip_prefix("__error_handler__"));
    for node in handled.filter(|node| !builder.nodes.contains_key(*node)) {
        mistakes.push(format!("an error handler is for unknown node '{node}'"));
    }
    for name in builder
        .managed
        .keys()
        .filter(|n| builder.channels.contains_key(*n))
    {
        mistakes.push(format!("'{name}' is managed, and a channel"));
    }
    for name in builder.channels.keys() {
        if name.starts_with("__") || name.contains(NS_END) {
            mistakes.push(format!("channel name '{name}' is reserved"));
        }
    }
    check_edges(builder, &mut mistakes);
    check_names(builder, &mut mistakes);
    check_reach(builder, &mut mistakes);
    mistakes
}

fn check_edges(builder: &GraphBuilder, mistakes: &mut Vec<String>) {
    let known = |name: &str| builder.nodes.contains_key(name);
    let ends = builder.edges.iter().map(|(a, b)| (a, b));
    let joined = builder
        .joins
        .iter()
        .flat_map(|(from, to)| from.iter().map(move |f| (f, to)));
    for (from, to) in ends.chain(joined) {
        if &**from == END {
            mistakes.push("END cannot be a start node".to_owned());
        } else if &**from != START && !known(from) {
            mistakes.push(format!("Found edge starting at unknown node '{from}'"));
        }
        if &**to == START {
            mistakes.push("START cannot be an end node".to_owned());
        } else if &**to != END && !known(to) {
            mistakes.push(format!("Found edge ending at unknown node `{to}`"));
        }
    }
    for branch in &builder.branches {
        if &*branch.source != START && !known(&branch.source) {
            mistakes.push(format!(
                "Found edge starting at unknown node '{}'",
                branch.source
            ));
        }
        for target in target_nodes(&branch.targets) {
            if target != END && !known(target) {
                mistakes.push(format!(
                    "At '{}' node, a branch found unknown target '{target}'",
                    branch.source
                ));
            }
        }
    }
    let starts = builder.edges.iter().any(|(from, _)| &**from == START)
        || builder.branches.iter().any(|b| &*b.source == START);
    if !starts {
        mistakes.push(
            "Graph must have an entrypoint: add at least one edge from START to another node"
                .to_owned(),
        );
    }
}

fn check_names(builder: &GraphBuilder, mistakes: &mut Vec<String>) {
    let channel = |name: &String| builder.channels.contains_key(name.as_str());
    let lists = [
        ("input", &builder.input_channels),
        ("output", &builder.output_channels),
    ];
    for (what, names) in lists {
        for name in names.iter().flatten().filter(|n| !channel(n)) {
            mistakes.push(format!("unknown {what} channel '{name}'"));
        }
    }
    for (node, spec) in &builder.nodes {
        for name in spec.options.reads.iter().flatten().filter(|n| !channel(n)) {
            mistakes.push(format!("node '{node}' reads unknown channel '{name}'"));
        }
        for to in &spec.options.destinations {
            if to != END && !builder.nodes.contains_key(to.as_str()) {
                mistakes.push(format!("node '{node}' has unknown destination '{to}'"));
            }
        }
    }
    for at in [&builder.interrupt_before, &builder.interrupt_after] {
        if let InterruptAt::Nodes(names) = at {
            for name in names
                .iter()
                .filter(|n| !builder.nodes.contains_key(n.as_str()))
            {
                mistakes.push(format!("Interrupt node `{name}` not found"));
            }
        }
    }
}

/// A node that no edge, branch or destination leads to, in a graph without branches that may go
/// anywhere, can only be meant for commands; those declare their destinations.
fn check_reach(builder: &GraphBuilder, mistakes: &mut Vec<String>) {
    let open = builder
        .branches
        .iter()
        .any(|b| b.targets == BranchTargets::Any)
        || builder
            .nodes
            .values()
            .any(|n| matches!(n.body, crate::builder::Body::Function(_)));
    if open {
        return;
    }
    let mut reached: HashSet<&str> = HashSet::new();
    reached.extend(builder.edges.iter().map(|(_, to)| &**to));
    reached.extend(builder.joins.iter().map(|(_, to)| &**to));
    reached.extend(
        builder
            .branches
            .iter()
            .flat_map(|b| target_nodes(&b.targets)),
    );
    reached.extend(
        builder
            .nodes
            .values()
            .flat_map(|n| n.options.destinations.iter().map(String::as_str)),
    );
    let work = builder
        .nodes
        .iter()
        .filter(|(_, spec)| spec.role == Role::Work);
    for name in work
        .map(|(name, _)| name)
        .filter(|n| !reached.contains(&***n))
    {
        mistakes.push(format!("Node '{name}' is not reachable"));
    }
}

/// The nodes that a branch declares.
pub(crate) fn target_nodes(targets: &BranchTargets) -> Vec<&str> {
    match targets {
        BranchTargets::Any => Vec::new(),
        BranchTargets::Nodes(nodes) => nodes.iter().map(String::as_str).collect(),
        BranchTargets::Labels(labels) => labels.iter().map(|(_, node)| node.as_str()).collect(),
    }
}

/// Name of the channel that triggers a node.
pub(crate) fn entry_name(node: &str) -> Str {
    format!("branch:to:{node}").into()
}

struct Layouter<'a> {
    builder: &'a GraphBuilder,
    channels: Vec<ChannelDef>,
    channel_ids: NameMap,
    nodes: Vec<NodeDef>,
    node_ids: NameMap,
    branches: Vec<BranchDef>,
    start: ChanId,
}

impl<'a> Layouter<'a> {
    fn new(builder: &'a GraphBuilder) -> Self {
        let mut this = Self {
            builder,
            channels: Vec::new(),
            channel_ids: NameMap::default(),
            nodes: Vec::new(),
            node_ids: NameMap::default(),
            branches: Vec::new(),
            start: 0,
        };
        let listed = |list: &Option<Vec<String>>, name: &str| {
            list.as_ref()
                .is_none_or(|names| names.iter().any(|n| n == name))
        };
        for (name, channel) in &builder.channels {
            let id = this.channel(name.clone(), channel.kind.clone());
            this.channels[id].is_state = true;
            this.channels[id].is_output = listed(&builder.output_channels, name);
            this.channels[id].is_input = listed(&builder.input_channels, name);
        }
        this.start = this.channel(START.into(), Kind::Ephemeral(Guard::One));
        this
    }

    fn channel(&mut self, name: Str, kind: Kind) -> ChanId {
        if let Some(id) = self.channel_ids.get(&name) {
            return *id;
        }
        let id = self.channels.len();
        self.channel_ids.insert(name.clone(), id);
        self.channels.push(ChannelDef {
            name,
            kind,
            wakes: Vec::new(),
            is_state: false,
            is_output: false,
            is_input: false,
        });
        id
    }

    fn add_nodes(&mut self) {
        let start = NodeDef {
            name: START.into(),
            body: None,
            options: NodeOptions::default(),
            triggers: vec![self.start],
            trigger_names: Vec::new(),
            reads: None,
            writers: Vec::new(),
            rank: 0,
            entry: None,
            role: Role::Work,
            handler: None,
            reads_input: true,
        };
        self.node_ids.insert(start.name.clone(), START_NODE);
        self.nodes.push(start);
        for (name, spec) in &self.builder.nodes {
            let kind = if spec.options.defer {
                Kind::LastValueAfterFinish
            } else {
                Kind::Ephemeral(Guard::Many)
            };
            let entry = self.channel(entry_name(name), kind);
            let reads = spec.options.reads.as_ref().map(|names| {
                names
                    .iter()
                    .filter_map(|n| self.channel_ids.get(n.as_str()).copied())
                    .collect()
            });
            self.node_ids.insert(name.clone(), self.nodes.len());
            self.nodes.push(NodeDef {
                name: name.clone(),
                body: Some(spec.body.clone()),
                options: spec.options.clone(),
                triggers: vec![entry],
                trigger_names: Vec::new(),
                reads,
                writers: Vec::new(),
                rank: 0,
                entry: Some(entry),
                role: spec.role,
                handler: None,
                reads_input: false,
            });
        }
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            if node.body.is_none() || node.role == Role::Handler {
                continue;
            }
            let own = self.node_ids.get(handler_name(&node.name).as_str());
            let handler = own.or_else(|| self.node_ids.get(DEFAULT_HANDLER)).copied();
            self.nodes[at].handler = handler;
        }
    }

    fn add_edges(&mut self) {
        let builder = self.builder;
        let mut seen = HashSet::new();
        for (from, to) in builder.edges.iter().filter(|(_, to)| &**to != END) {
            if !seen.insert((from, to)) {
                continue;
            }
            let entry = self.channel_ids[&entry_name(to)];
            let from = self.node_ids[from];
            self.nodes[from]
                .writers
                .push(Writer::Channel(entry, Value::Null));
        }
        for (from, to) in builder.joins.iter().filter(|(_, to)| &**to != END) {
            self.add_join(from, to);
        }
        for branch in &builder.branches {
            let from = self.node_ids[&branch.source];
            self.nodes[from]
                .writers
                .push(Writer::Branch(self.branches.len()));
            self.branches.push(BranchDef {
                path: branch.path.clone(),
                targets: branch.targets.clone(),
            });
        }
    }

    fn add_join(&mut self, from: &[Str], to: &Str) {
        let target = self.node_ids[to];
        let parts: Vec<&str> = from.iter().map(|n| &**n).collect();
        let name: Str = format!("join:{}:{to}", parts.join("+")).into();
        if self.channel_ids.contains_key(&name) {
            return;
        }
        let release = if self.nodes[target].options.defer {
            Release::AfterFinish
        } else {
            Release::AtOnce
        };
        let mut names: Vec<Str> = from.to_vec();
        names.sort();
        names.dedup();
        let channel = self.channel(
            name,
            Kind::Barrier {
                names: names.clone().into(),
                release,
            },
        );
        self.nodes[target].triggers.push(channel);
        for start in names {
            let start_id = self.node_ids[&start];
            self.nodes[start_id]
                .writers
                .push(Writer::Channel(channel, Value::Str(start)));
        }
    }

    /// Ranks nodes by name, sorts the names of triggers, and tells channels whom they wake.
    fn sort_names(&mut self) {
        let mut by_name: Vec<usize> = (0..self.nodes.len()).collect();
        by_name.sort_by(|a, b| self.nodes[*a].name.cmp(&self.nodes[*b].name));
        for (rank, node) in by_name.into_iter().enumerate() {
            self.nodes[node].rank = rank;
        }
        for (id, node) in self.nodes.iter_mut().enumerate() {
            let names = node.triggers.iter().map(|t| self.channels[*t].name.clone());
            node.trigger_names = names.collect();
            node.trigger_names.sort();
            for trigger in &node.triggers {
                self.channels[*trigger].wakes.push(id);
            }
        }
    }

    fn finish(mut self) -> Layout {
        let tasks = self.channel(TASKS.into(), Kind::Topic { accumulate: false });
        self.sort_names();
        let pick = |wanted: fn(&ChannelDef) -> bool| -> Vec<ChanId> {
            self.channels
                .iter()
                .enumerate()
                .filter(|(_, c)| wanted(c))
                .map(|(id, _)| id)
                .collect()
        };
        let mut outputs = pick(|c| c.is_output);
        if let Some(names) = &self.builder.output_channels {
            outputs = names.iter().map(|n| self.channel_ids[n.as_str()]).collect();
        }
        let mut schemas = self.builder.schemas.clone();
        schemas.input_schema = schemas
            .input_schema
            .or_else(|| schemas.state_schema.clone());
        schemas.output_schema = schemas
            .output_schema
            .or_else(|| schemas.state_schema.clone());
        Layout {
            name: self.builder.name.clone(),
            state: pick(|c| c.is_state),
            transient: pick(|c| c.kind.is_transient()),
            finishing: pick(|c| c.kind.waits_for_end()),
            deltas: pick(|c| c.kind.is_delta()),
            has_untracked: self.channels.iter().any(|c| !c.kind.is_tracked()),
            outputs,
            channels: self.channels,
            channel_ids: self.channel_ids,
            nodes: self.nodes,
            node_ids: self.node_ids,
            branches: self.branches,
            start: self.start,
            tasks,
            schemas,
            interrupt_before: self.builder.interrupt_before.clone(),
            interrupt_after: self.builder.interrupt_after.clone(),
            persistence: self.builder.persistence,
            retry: self.builder.retry.clone(),
            cache: self.builder.cache.clone(),
            managed: self
                .builder
                .managed
                .iter()
                .map(|(n, m)| (n.clone(), *m))
                .collect(),
            function: None,
            edges: self.builder.edges.clone(),
            joins: self.builder.joins.clone(),
            branch_sources: self
                .builder
                .branches
                .iter()
                .map(|b| b.source.clone())
                .collect(),
        }
    }
}
