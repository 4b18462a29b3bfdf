//! How one Compose file is laid over another.
//!
//! Maps are merged, lists are joined, scalars replaced; the paths named here differ. What two
//! files say of one key is joined first and made unique after, see [`super::unicity`].

use crate::{
    problem::{Kind, Problem},
    source::Span,
    tree::{Entry, Map, Node, Path, Value, float_text, same},
};

/// Lays `over` over `base`.
///
/// # Errors
/// The two have types that cannot be merged.
pub(super) fn merge(base: Node, over: Node, path: &Path<'_>) -> Result<Node, Problem> {
    match path.parts().as_slice() {
        ["networks", _, "ipam", "config"] => return ipam(base, over, path),
        ["networks" | "volumes", _, "labels"]
        | [
            "services",
            _,
            "annotations" | "dns" | "dns_opt" | "dns_search" | "env_file" | "label_file"
            | "environment" | "labels" | "sysctls" | "tmpfs",
        ]
        | [
            "services",
            _,
            "build",
            "args" | "additional_contexts" | "labels",
        ]
        | ["services", _, "deploy", "labels"]
        | ["services", _, "volumes", _, "volume", "labels"] => return Ok(join(base, over)),
        ["services", _, "extra_hosts"] | ["services", _, "build", "extra_hosts"] => {
            return Ok(join_new(base, over));
        }
        ["services", _, "build"] => return merge_maps(build(base), build(over), path),
        ["services", _, "command" | "entrypoint"]
        | ["services", _, "healthcheck", "test"]
        | ["services", _, "ulimits", _] => return Ok(over),
        ["services", _, "depends_on"] => {
            return merge_maps(named(base, started), named(over, started), path);
        }
        ["services", _, "models" | "networks"] => {
            return merge_maps(named(base, nothing), named(over, nothing), path);
        }
        ["services", _, "logging"] => return logging(base, over, path),
        _ => {}
    }
    match (base.value, over.value) {
        (value, Value::Null) => Ok(Node { value, ..base }),
        (Value::Map(a), Value::Map(b)) => {
            let merged = merge_entries(a, b, path)?;
            Ok(Node {
                value: Value::Map(merged),
                ..base
            })
        }
        (Value::List(mut a), Value::List(b)) => {
            a.extend(b);
            Ok(Node {
                value: Value::List(a),
                ..base
            })
        }
        (Value::Map(_) | Value::List(_), _) => Err(refuse(base.span, over.span, path)),
        (_, value) => Ok(Node { value, ..over }),
    }
}

fn refuse(base: Span, over: Span, path: &Path<'_>) -> Problem {
    let message = "this cannot be laid over what stands there; the types differ";
    Problem::new(Kind::Merge, over, message)
        .at(path.dotted())
        .related(base, "laid over this")
}

fn merge_entries(mut base: Map, over: Map, path: &Path<'_>) -> Result<Map, Problem> {
    for (name, entry) in over {
        let Some(slot) = base.get_mut(&name) else {
            base.insert(name, entry);
            continue;
        };
        let empty = Node::new(Value::Null, slot.node.span);
        let before = std::mem::replace(&mut slot.node, empty);
        if !matches!(
            entry.node.value,
            Value::Map(_) | Value::List(_) | Value::Null
        ) {
            slot.key = entry.key;
        }
        slot.node = merge(before, entry.node, &path.child(&name))?;
    }
    Ok(base)
}

fn merge_maps(base: Node, over: Node, path: &Path<'_>) -> Result<Node, Problem> {
    let (base_span, over_span) = (base.span, over.span);
    match (base.value, over.value) {
        (value @ Value::Map(_), Value::Null) => Ok(Node { value, ..base }),
        (Value::Null, value @ Value::Map(_)) => Ok(Node { value, ..over }),
        (Value::Map(a), Value::Map(b)) => {
            let merged = merge_entries(a, b, path)?;
            Ok(Node {
                value: Value::Map(merged),
                ..base
            })
        }
        _ => Err(refuse(base_span, over_span, path)),
    }
}

/// Options stay together with the driver that they are for.
fn logging(base: Node, over: Node, path: &Path<'_>) -> Result<Node, Problem> {
    if base.as_map().is_none() || over.as_map().is_none() {
        return Err(refuse(base.span, over.span, path));
    }
    let differ = match (base.get("driver"), over.get("driver")) {
        (Some(a), Some(b)) => !same(a, b),
        _ => false,
    };
    match differ {
        true => Ok(over),
        false => merge_maps(base, over, path),
    }
}

/// Address ranges are merged by their subnet.
fn ipam(base: Node, over: Node, path: &Path<'_>) -> Result<Node, Problem> {
    let (base_span, over_span) = (base.span, over.span);
    let (Value::List(bases), Value::List(overs)) = (base.value, over.value) else {
        return Err(refuse(base_span, over_span, path));
    };
    let subnet = |node: &Node| node.get("subnet").map(Node::to_json);
    let mut merged: Vec<Node> = Vec::new();
    for mut range in bases {
        for over in &overs {
            if subnet(over) != subnet(&range) && !merged.iter().any(|it| subnet(it) == subnet(over))
            {
                merged.push(over.clone());
                continue;
            }
            range = merge_maps(range, over.clone(), path)?;
            match merged.iter().position(|it| subnet(it) == subnet(&range)) {
                Some(at) => merged[at] = range.clone(),
                None => merged.push(range.clone()),
            }
        }
    }
    Ok(Node::new(Value::List(merged), base_span))
}

/// The short form of `build` as the long one.
fn build(node: Node) -> Node {
    match node.value {
        Value::Text(context) => Node::map(node.span, [("context", Value::Text(context))]),
        _ => node,
    }
}

fn nothing(span: Span) -> Node {
    Node::new(Value::Null, span)
}

/// What the short form of `depends_on` means.
pub(super) fn started(span: Span) -> Node {
    let condition = Value::Text("service_started".to_owned());
    Node::map(
        span,
        [("condition", condition), ("required", Value::Bool(true))],
    )
}

/// A list of names as a map, each with what the short form means.
fn named(node: Node, fill: fn(Span) -> Node) -> Node {
    let Value::List(items) = node.value else {
        return node;
    };
    let mut map = Map::with_capacity(items.len());
    for item in items {
        let span = item.span;
        match item.value {
            Value::Text(name) => drop(map.insert(name, Entry::new(span, fill(span)))),
            // What is no name is left for the schema to refuse, under a name that none has.
            _ => drop(map.insert(String::new(), Entry::new(span, fill(span)))),
        }
    }
    Node::new(Value::Map(map), node.span)
}

/// Both as lists of `key=value`, one after the other.
fn join(base: Node, over: Node) -> Node {
    let span = base.span;
    let mut items = sequence(base);
    items.extend(sequence(over));
    Node::new(Value::List(items), span)
}

/// Like [`join`], without what the first list has already.
fn join_new(base: Node, over: Node) -> Node {
    let span = base.span;
    let mut items = sequence(base);
    let new: Vec<Node> = sequence(over)
        .into_iter()
        .filter(|item| !items.iter().any(|known| same(known, item)))
        .collect();
    items.extend(new);
    Node::new(Value::List(items), span)
}

/// A map as sorted texts `key=value`, a text as a list of one.
fn sequence(node: Node) -> Vec<Node> {
    let mut items = Vec::new();
    match node.value {
        Value::List(list) => return list,
        Value::Text(_) => return vec![node],
        Value::Map(map) => {
            for (name, entry) in map {
                let span = entry.span();
                match entry.node.value {
                    Value::Null => items.push(Node::text(name, span)),
                    Value::List(values) => items.extend(
                        values
                            .iter()
                            .map(|value| Node::text(format!("{name}={}", printed(value)), span)),
                    ),
                    _ => items.push(Node::text(format!("{name}={}", printed(&entry.node)), span)),
                }
            }
        }
        _ => {}
    }
    items.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    items
}

fn printed(node: &Node) -> String {
    match &node.value {
        Value::Float(number) => float_text(*number),
        Value::List(_) | Value::Map(_) => node.to_json().to_string(),
        _ => node.scalar_text().unwrap_or_default(),
    }
}
