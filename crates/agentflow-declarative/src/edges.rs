//! Edges: what they mean, whether they make sense, and where they lead.

use std::collections::{BTreeMap, BTreeSet};

use agentflow_graph::{BranchTargets, END, GraphBuilder, START};
use agentflow_types::{Str, graph::Goto};

use crate::{
    codes,
    diagnostic::did_you_mean,
    expression::Expression,
    file::{Edge, EdgeSpec, GraphFile, Node, OneOrMany},
    scope::Scope,
    tree::Span,
    variables::Variables,
};

/// A compiled edge.
pub(crate) enum Route {
    /// After one node follow others.
    Plain { from: Str, to: Vec<Str> },
    /// After several nodes follow others.
    Join { from: Vec<Str>, to: Vec<Str> },
    /// An expression decides.
    When {
        from: Str,
        when: Expression,
        to: Vec<Str>,
        otherwise: Vec<Str>,
    },
    /// The value of an expression decides.
    Switch {
        from: Str,
        value: Expression,
        cases: Vec<(String, Vec<Str>)>,
        default: Vec<Str>,
    },
}

/// Compiles all edges; what is wrong is reported.
pub(crate) fn compile(scope: &Scope<'_>, file: &GraphFile) -> Vec<Route> {
    let mut routes = Vec::new();
    for (at, edge) in file.edges.iter().enumerate() {
        let at = at.to_string();
        match edge {
            Edge::Chain(text) => chain(scope, file, &at, text, &mut routes),
            Edge::Full(spec) => routes.extend(detailed(scope, file, &at, spec)),
        }
    }
    routes
}

/// Which end of an edge a name stands at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    From,
    To,
}

/// The node that a name means; reports if there is none.
fn node(scope: &Scope<'_>, file: &GraphFile, span: Span, name: &str, side: Side) -> Option<Str> {
    let refuse = |message: &str| {
        scope.error(codes::BAD_EDGE, span.clone(), message, None);
        None
    };
    match (name, side) {
        ("START" | START, Side::From) => Some(START.into()),
        ("END" | END, Side::To) => Some(END.into()),
        ("START" | START, Side::To) => refuse("nothing can lead to START"),
        ("END" | END, Side::From) => refuse("nothing can follow END"),
        _ if file.nodes.contains_key(name) => Some(name.into()),
        _ => {
            let ends = match side {
                Side::From => "START",
                Side::To => "END",
            };
            let known = file.nodes.keys().map(String::as_str).chain([ends]);
            let help = did_you_mean(name, known);
            scope.error(
                codes::UNKNOWN_NODE,
                span,
                format!("unknown node `{name}`"),
                help,
            );
            None
        }
    }
}

/// A chain: `START -> a -> b`.
fn chain(scope: &Scope<'_>, file: &GraphFile, at: &str, text: &str, routes: &mut Vec<Route>) {
    let path = ["edges", at];
    let mut parts: Vec<(Span, &str)> = Vec::new();
    let mut offset = 0;
    for part in text.split("->") {
        let start = offset + (part.len() - part.trim_start().len());
        let name = part.trim();
        let begin = scope.inside(&path, text, start).start;
        parts.push((begin..begin + name.len(), name));
        offset += part.len() + "->".len();
    }
    let is_broken = parts.len() < 2 || parts.iter().any(|(_, name)| name.is_empty());
    if is_broken {
        let message = "an edge in one line is `a -> b`";
        let help = "write `START -> first`, `a -> b -> c` or `last -> END`".to_owned();
        scope.error(codes::BAD_EDGE, scope.at(&path), message, help);
        return;
    }
    for pair in parts.windows(2) {
        let from = node(scope, file, pair[0].0.clone(), pair[0].1, Side::From);
        let to = node(scope, file, pair[1].0.clone(), pair[1].1, Side::To);
        if let (Some(from), Some(to)) = (from, to) {
            routes.push(Route::Plain { from, to: vec![to] });
        }
    }
}

/// The nodes of a list of names.
fn nodes(
    scope: &Scope<'_>,
    file: &GraphFile,
    path: &[&str],
    names: &OneOrMany,
    side: Side,
) -> Option<Vec<Str>> {
    let mut found = Vec::new();
    let mut is_sound = true;
    for (at, name) in names.names().enumerate() {
        let at = at.to_string();
        let span = match names {
            OneOrMany::One(_) => scope.at(path),
            OneOrMany::Many(_) => {
                let path: Vec<&str> = path.iter().copied().chain([at.as_str()]).collect();
                scope.at(&path)
            }
        };
        match node(scope, file, span, name, side) {
            Some(name) => found.push(name),
            None => is_sound = false,
        }
    }
    if found.is_empty() && is_sound {
        let message = "the list of nodes is empty";
        scope.error(codes::BAD_EDGE, scope.at(path), message, None);
        return None;
    }
    is_sound.then_some(found)
}

fn detailed(scope: &Scope<'_>, file: &GraphFile, at: &str, spec: &EdgeSpec) -> Option<Route> {
    let path = ["edges", at];
    let below = |name: &'static str| ["edges", at, name];
    let from = nodes(scope, file, &below("from"), &spec.from, Side::From);
    let to = |name: &'static str, names: &Option<OneOrMany>| match names {
        Some(names) => nodes(scope, file, &below(name), names, Side::To),
        None => Some(Vec::new()),
    };
    if let Some(why) = nonsense(spec) {
        scope.error(codes::BAD_EDGE, scope.at(&path), why, None);
        return None;
    }
    let (follow, otherwise, default) = (
        to("to", &spec.to),
        to("else", &spec.otherwise),
        to("default", &spec.default),
    );
    let mut cases = Vec::with_capacity(spec.cases.len());
    for (value, names) in &spec.cases {
        let path = ["edges", at, "cases", value];
        cases.push((value.clone(), nodes(scope, file, &path, names, Side::To)?));
    }
    let text = |name: &'static str, text: &str| scope.expression(&below(name), text, &[]);
    if let Some(when) = &spec.when {
        let when = text("when", when);
        let from = from?.into_iter().next()?;
        return Some(Route::When {
            from,
            when: when?,
            to: follow?,
            otherwise: otherwise?,
        });
    }
    if let Some(value) = &spec.switch {
        let value = text("switch", value);
        let from = from?.into_iter().next()?;
        return Some(Route::Switch {
            from,
            value: value?,
            cases,
            default: default?,
        });
    }
    let (mut from, to) = (from?, follow?);
    if from.len() > 1 {
        if from.iter().any(|name| &**name == START) {
            let message = "START cannot be part of a join";
            scope.error(codes::BAD_EDGE, scope.at(&below("from")), message, None);
            return None;
        }
        return Some(Route::Join { from, to });
    }
    from.pop().map(|from| Route::Plain { from, to })
}

/// Why the fields of an edge do not go together.
fn nonsense(spec: &EdgeSpec) -> Option<&'static str> {
    let conditional = spec.when.is_some() || spec.switch.is_some();
    if spec.when.is_some() && spec.switch.is_some() {
        return Some("an edge has `when` or `switch`, not both");
    }
    if spec.when.is_none() && spec.otherwise.is_some() {
        return Some("`else` needs `when`");
    }
    if spec.switch.is_none() && (!spec.cases.is_empty() || spec.default.is_some()) {
        return Some("`cases` and `default` need `switch`");
    }
    if spec.switch.is_some() && (spec.cases.is_empty() || spec.to.is_some()) {
        return Some("`switch` needs `cases`, and has no `to`");
    }
    if spec.switch.is_none() && spec.to.is_none() {
        return Some("the field `to` is missing");
    }
    if conditional && spec.from.names().count() > 1 {
        return Some("an edge with a condition leaves one node; join first");
    }
    None
}

impl Route {
    /// The nodes that the edge leaves.
    fn sources(&self) -> &[Str] {
        match self {
            Self::Plain { from, .. } | Self::When { from, .. } | Self::Switch { from, .. } => {
                std::slice::from_ref(from)
            }
            Self::Join { from, .. } => from,
        }
    }

    /// Groups of nodes that run side by side if the edge is taken.
    fn groups(&self) -> Vec<&[Str]> {
        match self {
            Self::Plain { to, .. } | Self::Join { to, .. } => vec![to],
            Self::When { to, otherwise, .. } => vec![to, otherwise],
            Self::Switch { cases, default, .. } => cases
                .iter()
                .map(|(_, to)| to.as_slice())
                .chain([default.as_slice()])
                .collect(),
        }
    }

    /// Adds the edge to a graph.
    pub(crate) fn add(self, builder: &mut GraphBuilder) {
        let names = |groups: Vec<&[Str]>| {
            let all: BTreeSet<String> = groups
                .into_iter()
                .flatten()
                .map(|name| name.to_string())
                .collect();
            BranchTargets::Nodes(all.into_iter().collect())
        };
        let goto = |names: &[Str]| names.iter().cloned().map(Goto::Node).collect::<Vec<_>>();
        let targets = names(self.groups());
        match self {
            Self::Plain { from, to } => {
                for to in to {
                    builder.edge(from.clone(), to);
                }
            }
            Self::Join { from, to } => {
                for to in to {
                    builder.join(from.iter().cloned(), to);
                }
            }
            Self::When {
                from,
                when,
                to,
                otherwise,
            } => {
                let path = move |state: &agentflow_types::Value, context: &_| {
                    let holds = when.holds(&Variables::of_node(state, context))?;
                    Ok(if holds { goto(&to) } else { goto(&otherwise) })
                };
                builder.branch(from, path, targets);
            }
            Self::Switch {
                from,
                value,
                cases,
                default,
            } => {
                let path = move |state: &agentflow_types::Value, context: &_| {
                    let found = value.value(&Variables::of_node(state, context))?;
                    let word = found
                        .as_str()
                        .map_or_else(|| found.json_text(), str::to_owned);
                    let case = cases.iter().find(|(name, _)| *name == word);
                    Ok(goto(case.map_or(&default, |(_, to)| to)))
                };
                builder.branch(from, path, targets);
            }
        }
    }
}

/// Reports nodes that nothing leads to.
pub(crate) fn check_reach(scope: &Scope<'_>, file: &GraphFile, routes: &[Route]) {
    if !routes
        .iter()
        .any(|route| route.sources().iter().any(|from| &**from == START))
    {
        let message = "nothing follows START";
        let help = match file.nodes.keys().next() {
            Some(first) => format!("add `START -> {first}`"),
            None => "add a node and `START -> node`".to_owned(),
        };
        scope.error(codes::NO_START, scope.key(&["edges"]), message, help);
        return;
    }
    let mut reached: BTreeSet<&str> = BTreeSet::from([START]);
    // Each round reaches at least one more node, or is the last.
    for _ in 0..=file.nodes.len() {
        let before = reached.len();
        for route in routes {
            if route.sources().iter().any(|from| reached.contains(&**from)) {
                reached.extend(route.groups().into_iter().flatten().map(|name| &**name));
            }
        }
        for (name, node) in &file.nodes {
            if let Node::Map(map) = node
                && reached.contains(name.as_str())
            {
                reached.insert(&map.node);
            }
        }
        if reached.len() == before {
            break;
        }
    }
    let is_end = |name: &str| matches!(name, "START" | "END" | START | END);
    let lost = |name: &&String| !reached.contains(name.as_str()) && !is_end(name);
    for name in file.nodes.keys().filter(lost) {
        let span = scope.key(&["nodes", name]);
        let message = format!("nothing leads to the node `{name}`");
        let help = format!("add an edge to it, for example `START -> {name}`, or remove it");
        scope.error(codes::UNREACHABLE, span, message, help);
    }
}

/// Reports fields without a reducer that are written by nodes which run side by side.
pub(crate) fn check_parallel(
    scope: &Scope<'_>,
    file: &GraphFile,
    routes: &[Route],
    writes: &BTreeMap<String, Vec<String>>,
) {
    let mut groups: Vec<BTreeSet<&str>> = Vec::new();
    let mut by_source: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for route in routes {
        match route {
            Route::Plain { from, to } => {
                by_source
                    .entry(from)
                    .or_default()
                    .extend(to.iter().map(|name| &**name));
            }
            other => groups.extend(
                other
                    .groups()
                    .into_iter()
                    .map(|to| to.iter().map(|name| &**name).collect()),
            ),
        }
    }
    groups.extend(by_source.into_values());
    let single = |field: &str| {
        scope
            .fields
            .get(field)
            .is_some_and(|spec| !crate::state::has_reducer(spec))
    };
    let is_deferred = |name: &str| {
        file.nodes
            .get(name)
            .is_some_and(|node| node.options().defer)
    };
    for group in groups {
        let mut first: BTreeMap<&str, &str> = BTreeMap::new();
        for name in group.into_iter().filter(|name| !is_deferred(name)) {
            for field in writes
                .get(name)
                .into_iter()
                .flatten()
                .filter(|field| single(field))
            {
                if let Some(other) = first.insert(field, name).filter(|other| *other != name) {
                    let message = format!(
                        "`{other}` and `{name}` run side by side, and both write `{field}`"
                    );
                    report_parallel(scope, name, field, message);
                }
            }
        }
    }
    for node in file.nodes.values() {
        let Node::Map(map) = node else { continue };
        for field in writes
            .get(&map.node)
            .into_iter()
            .flatten()
            .filter(|field| single(field))
        {
            let message = format!("`{}` runs once per item, and writes `{field}`", map.node);
            report_parallel(scope, &map.node, field, message);
        }
    }
}

fn report_parallel(scope: &Scope<'_>, node: &str, field: &str, message: String) {
    let help = format!("give `{field}` a reducer, for example `append` or `sum`");
    scope.error(
        codes::PARALLEL_WRITES,
        scope.key(&["nodes", node]),
        message,
        help,
    );
}
