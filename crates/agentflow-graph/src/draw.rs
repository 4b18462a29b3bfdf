//! Pictures of graphs.

use agentflow_types::{
    Str, Value,
    graph::{Drawing, DrawnEdge, DrawnNode, END, NS_END, START},
};

use crate::{builder::BranchTargets, layout::Layout};

/// Kind of real nodes.
const RUNNABLE: &str = "runnable";

/// Draws a graph; `depth` levels of subgraphs in place of their nodes.
pub(crate) fn draw(layout: &Layout, depth: u32) -> Drawing {
    let mut drawing = Drawing::default();
    drawing.nodes.push(virtual_node(START));
    for node in layout.shown_nodes() {
        drawing
            .nodes
            .push(real_node(&node.name, &node.name, &node.options.metadata));
    }
    edges(layout, &mut drawing);
    if depth > 0 {
        for (id, node) in layout.nodes.iter().enumerate() {
            if let Some(graph) = layout.subgraph(id) {
                expand(&mut drawing, &node.name, draw(graph.layout(), depth - 1));
            }
        }
    }
    drawing
}

fn virtual_node(id: &str) -> DrawnNode {
    DrawnNode {
        id: id.to_owned(),
        kind: None,
        data: None,
    }
}

fn real_node(id: &str, name: &str, metadata: &agentflow_types::Map) -> DrawnNode {
    let mut data = vec![(Str::from("name"), Value::str(name))];
    if !metadata.is_empty() {
        data.push(("metadata".into(), Value::map(metadata.clone())));
    }
    DrawnNode {
        id: id.to_owned(),
        kind: Some(RUNNABLE),
        data: Some(Value::object(data)),
    }
}

fn edge(source: &str, target: &str) -> DrawnEdge {
    DrawnEdge {
        source: source.to_owned(),
        target: target.to_owned(),
        conditional: None,
        data: None,
    }
}

fn maybe(source: &str, target: &str, label: Option<&str>) -> DrawnEdge {
    DrawnEdge {
        conditional: Some(true),
        data: label.filter(|label| *label != target).map(str::to_owned),
        ..edge(source, target)
    }
}

fn edges(layout: &Layout, drawing: &mut Drawing) {
    let edges = &mut drawing.edges;
    edges.extend(layout.edges.iter().map(|(from, to)| edge(from, to)));
    for (from, to) in &layout.joins {
        edges.extend(from.iter().map(|from| edge(from, to)));
    }
    for (branch, source) in layout.branches.iter().zip(&layout.branch_sources) {
        match &branch.targets {
            BranchTargets::Nodes(nodes) => {
                edges.extend(nodes.iter().map(|node| maybe(source, node, None)));
            }
            BranchTargets::Labels(labels) => edges.extend(
                labels
                    .iter()
                    .map(|(label, node)| maybe(source, node, Some(label))),
            ),
            BranchTargets::Any => {
                let real = layout.shown_nodes();
                edges.extend(real.map(|node| maybe(source, &node.name, None)));
                edges.push(maybe(source, END, None));
            }
        }
    }
    for node in &layout.nodes {
        for to in &node.options.destinations {
            edges.push(maybe(&node.name, to, None));
        }
    }
    // A node that nothing follows ends the graph.
    for node in layout.shown_nodes() {
        if !edges.iter().any(|edge| *edge.source == *node.name) {
            edges.push(edge(&node.name, END));
        }
    }
    if edges.iter().any(|edge| edge.target == END) {
        drawing.nodes.push(virtual_node(END));
    }
}

/// Replaces a node by the graph inside it; its inner ends disappear into the outer edges.
fn expand(drawing: &mut Drawing, name: &str, inner: Drawing) {
    let inner_id = |id: &str| format!("{name}{NS_END}{id}");
    let firsts: Vec<DrawnEdge> = inner
        .edges
        .iter()
        .filter(|e| e.source == START)
        .cloned()
        .collect();
    let lasts: Vec<DrawnEdge> = inner
        .edges
        .iter()
        .filter(|e| e.target == END)
        .cloned()
        .collect();
    if firsts.len() != 1 || lasts.len() != 1 {
        // With several ways in or out the virtual ends stay, so that edges keep one source.
        return expand_with_ends(drawing, name, inner);
    }
    let (first, last) = (inner_id(&firsts[0].target), inner_id(&lasts[0].source));
    for edge in &mut drawing.edges {
        if edge.source == name {
            edge.source.clone_from(&last);
        }
        if edge.target == name {
            edge.target.clone_from(&first);
        }
    }
    let at = drawing
        .nodes
        .iter()
        .position(|n| n.id == name)
        .unwrap_or(drawing.nodes.len());
    let nodes = inner
        .nodes
        .into_iter()
        .filter(|n| n.id != START && n.id != END);
    let nodes: Vec<DrawnNode> = nodes
        .map(|n| DrawnNode {
            id: inner_id(&n.id),
            ..n
        })
        .collect();
    drawing.nodes.splice(at..=at, nodes);
    let edges = inner
        .edges
        .into_iter()
        .filter(|e| e.source != START && e.target != END);
    drawing.edges.extend(edges.map(|e| DrawnEdge {
        source: inner_id(&e.source),
        target: inner_id(&e.target),
        ..e
    }));
}

fn expand_with_ends(drawing: &mut Drawing, name: &str, inner: Drawing) {
    let inner_id = |id: &str| format!("{name}{NS_END}{id}");
    for edge in &mut drawing.edges {
        if edge.source == name {
            edge.source = inner_id(END);
        }
        if edge.target == name {
            edge.target = inner_id(START);
        }
    }
    let at = drawing
        .nodes
        .iter()
        .position(|n| n.id == name)
        .unwrap_or(drawing.nodes.len());
    let nodes: Vec<DrawnNode> = inner
        .nodes
        .into_iter()
        .map(|n| DrawnNode {
            id: inner_id(&n.id),
            ..n
        })
        .collect();
    drawing.nodes.splice(at..=at, nodes);
    drawing
        .edges
        .extend(inner.edges.into_iter().map(|e| DrawnEdge {
            source: inner_id(&e.source),
            target: inner_id(&e.target),
            ..e
        }));
}
