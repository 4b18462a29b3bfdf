//! Short forms written out, and what is left out filled in.

use super::{
    merge::started,
    port::{self, MAX_PORTS},
    volume,
};
use crate::{
    problem::{Kind, Problem},
    source::Span,
    tree::{Entry, Map, Node, Path, Value},
};

/// What to do with a short form that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It holds variables that are not filled in: leave it.
    Keep,
    Refuse,
}

/// Writes out every short form.
///
/// # Errors
/// A short form cannot be read.
pub(super) fn expand(
    node: &mut Node,
    path: &Path<'_>,
    unreadable: Unreadable,
) -> Result<(), Problem> {
    let refuse = |node: &Node, wanted: &str| {
        let message = format!("expected {wanted}, found a {}", node.type_name());
        Err(Problem::new(Kind::Schema, node.used(), message).at(path.dotted()))
    };
    match path.parts().as_slice() {
        ["services", _, "build", "secrets", _] | ["services", _, "secrets" | "configs", _] => {
            long_form(node, "source", path)?;
        }
        ["services", _, "build", "provenance" | "sbom"] => {
            if let Some(text) = node.scalar_text() {
                node.value = Value::Text(text);
            }
        }
        ["services", _, "build", "additional_contexts"] => contexts(node, path, unreadable)?,
        ["services", _, "depends_on"] => depends_on(node, path)?,
        ["services", _, "env_file"] => env_file(node, path)?,
        ["services", _, "label_file" | "dns"]
        | ["services", _, "develop", "watch", _, "ignore" | "include"] => {
            if let Value::Text(_) = node.value {
                let item = node.clone();
                node.value = Value::List(vec![item]);
            }
        }
        ["services", _, "extends"] => long_form(node, "service", path)?,
        ["services", _, "gpus"] => match &node.value {
            Value::Text(_) => {
                let all = Node::map(node.span, [("count", Value::Text("all".to_owned()))]);
                node.value = Value::List(vec![all]);
            }
            Value::List(_) => {}
            _ => return refuse(node, "`all` or a list"),
        },
        ["services", _, "networks" | "models"] => names_to_map(node),
        ["services", _, "volumes", _] => mount(node, path, unreadable)?,
        ["services", _, "devices", _] => device(node, path, unreadable)?,
        ["services", _, "ports"] => ports(node, path, unreadable)?,
        ["services", _, "build"] => {
            let is_long = node.as_map().is_some();
            long_form(node, "context", path)?;
            if is_long {
                return expand_children(node, path, unreadable);
            }
        }
        ["services", _, "build", "ssh"] => ssh(node, path)?,
        ["services", _, "ulimits", _] | ["services", _, "build", "ulimits", _] => {
            if !matches!(node.value, Value::Map(_) | Value::Int(_)) {
                return refuse(node, "a whole number or a mapping");
            }
        }
        ["volumes" | "networks" | "secrets" | "configs", _] => external(node, path)?,
        _ => return expand_children(node, path, unreadable),
    }
    Ok(())
}

/// A text as a map that holds it under its key.
fn long_form(node: &mut Node, key: &str, path: &Path<'_>) -> Result<(), Problem> {
    match std::mem::replace(&mut node.value, Value::Null) {
        Value::Text(text) => *node = Node::map(node.span, [(key, Value::Text(text))]),
        value @ Value::Map(_) => node.value = value,
        _ => {
            let message = format!("expected text or a mapping with `{key}`");
            return Err(Problem::new(Kind::Schema, node.used(), message).at(path.dotted()));
        }
    }
    Ok(())
}

fn expand_children(
    node: &mut Node,
    path: &Path<'_>,
    unreadable: Unreadable,
) -> Result<(), Problem> {
    match &mut node.value {
        Value::Map(map) => {
            for (name, entry) in map.iter_mut() {
                expand(&mut entry.node, &path.child(name), unreadable)?;
            }
        }
        Value::List(items) => {
            for item in items {
                expand(item, &path.child("[]"), unreadable)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// `[key=value]` as a map.
fn contexts(node: &mut Node, path: &Path<'_>, unreadable: Unreadable) -> Result<(), Problem> {
    let Value::List(items) = &node.value else {
        return Ok(());
    };
    let mut map = Map::with_capacity(items.len());
    for item in items {
        match item.as_str().and_then(|text| text.split_once('=')) {
            Some((key, value)) => {
                map.insert(
                    key.to_owned(),
                    Entry::new(item.span, Node::text(value, item.span)),
                );
            }
            None if unreadable == Unreadable::Keep => return Ok(()),
            None => {
                let message = "expected `name=context`";
                return Err(Problem::new(Kind::Schema, item.span, message).at(path.dotted()));
            }
        }
    }
    node.value = Value::Map(map);
    Ok(())
}

fn depends_on(node: &mut Node, path: &Path<'_>) -> Result<(), Problem> {
    match &mut node.value {
        Value::List(items) => {
            let entries = items.iter().filter_map(|item| {
                let name = item.as_str()?.to_owned();
                Some((name, Entry::new(item.span, started(item.span))))
            });
            node.value = Value::Map(entries.collect());
        }
        Value::Map(map) => {
            for (name, entry) in map.iter_mut() {
                let span = entry.node.span;
                let Some(fields) = entry.node.as_map_mut() else {
                    let message = "expected a mapping with `condition`";
                    let path = format!("{}.{name}", path.dotted());
                    return Err(Problem::new(Kind::Schema, span, message).at(path));
                };
                fill(fields, span, "condition", || {
                    Value::Text("service_started".to_owned())
                });
                fill(fields, span, "required", || Value::Bool(true));
            }
        }
        _ => {
            let message = "expected a list or a mapping of services";
            return Err(Problem::new(Kind::Schema, node.used(), message).at(path.dotted()));
        }
    }
    Ok(())
}

/// Sets a key that is absent.
pub(super) fn fill(map: &mut Map, span: Span, key: &str, value: impl FnOnce() -> Value) {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), Entry::new(span, Node::new(value(), span)));
    }
}

fn env_file(node: &mut Node, path: &Path<'_>) -> Result<(), Problem> {
    if let Value::Text(_) = node.value {
        let item = node.clone();
        node.value = Value::List(vec![item]);
    }
    let Value::List(items) = &mut node.value else {
        let message = "expected a path or a list of paths";
        return Err(Problem::new(Kind::Schema, node.used(), message).at(path.dotted()));
    };
    for item in items {
        let span = item.span;
        match &mut item.value {
            Value::Text(file) => {
                let file = std::mem::take(file);
                let required = ("required", Value::Bool(true));
                *item = Node::map(span, [("path", Value::Text(file)), required]);
            }
            Value::Map(map) => fill(map, span, "required", || Value::Bool(true)),
            _ => item.value = Value::Null,
        }
    }
    Ok(())
}

fn names_to_map(node: &mut Node) {
    if let Value::List(items) = &node.value {
        let entries = items.iter().filter_map(|item| {
            let nothing = Node::new(Value::Null, item.span);
            Some((item.as_str()?.to_owned(), Entry::new(item.span, nothing)))
        });
        node.value = Value::Map(entries.collect());
    }
}

fn mount(node: &mut Node, path: &Path<'_>, unreadable: Unreadable) -> Result<(), Problem> {
    let spec = match &node.value {
        Value::Map(_) => return Ok(()),
        Value::Text(spec) => spec,
        _ => {
            let message = "expected a mount";
            return Err(Problem::new(Kind::Schema, node.used(), message).at(path.dotted()));
        }
    };
    let parsed = match volume::parse(spec) {
        Ok(parsed) => parsed,
        Err(_) if unreadable == Unreadable::Keep => return Ok(()),
        Err(message) => {
            return Err(Problem::new(Kind::Schema, node.span, message).at(path.dotted()));
        }
    };
    let span = node.span;
    let mut map = Map::new();
    let mut set = |key: &str, value| fill(&mut map, span, key, || value);
    set(
        "type",
        Value::Text(if parsed.is_bind { "bind" } else { "volume" }.to_owned()),
    );
    if !parsed.source.is_empty() {
        set("source", Value::Text(parsed.source));
    }
    if !parsed.target.is_empty() {
        set("target", Value::Text(volume::clean(&parsed.target)));
    }
    if parsed.read_only {
        set("read_only", Value::Bool(true));
    }
    let mut bind = Map::new();
    if let Some(propagation) = parsed.propagation {
        fill(&mut bind, span, "propagation", || Value::Text(propagation));
    }
    if let Some(selinux) = parsed.selinux {
        fill(&mut bind, span, "selinux", || Value::Text(selinux));
    }
    if parsed.is_bind {
        fill(&mut bind, span, "create_host_path", || Value::Bool(true));
    }
    if parsed.is_bind || !bind.is_empty() {
        set("bind", Value::Map(bind));
    }
    if parsed.nocopy {
        set(
            "volume",
            Value::Map(Node::map(span, [("nocopy", Value::Bool(true))]).into_map()),
        );
    } else if !parsed.is_bind && !parsed.is_bare {
        set("volume", Value::Map(Map::new()));
    }
    node.value = Value::Map(map);
    Ok(())
}

fn device(node: &mut Node, path: &Path<'_>, unreadable: Unreadable) -> Result<(), Problem> {
    let refuse =
        |span, message: &str| Err(Problem::new(Kind::Schema, span, message).at(path.dotted()));
    let spec = match &node.value {
        Value::Map(_) => return Ok(()),
        Value::Text(spec) => spec,
        _ => return refuse(node.used(), "expected a device"),
    };
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, permissions) = match parts.as_slice() {
        [source] => (*source, "", "rwm"),
        [source, target] => (*source, *target, "rwm"),
        [source, target, permissions] => (*source, *target, *permissions),
        _ if unreadable == Unreadable::Keep => ("", "", "rwm"),
        _ => return refuse(node.span, "too many colons; write the device as a mapping"),
    };
    let target = if target.is_empty() { source } else { target };
    let text = |text: &str| Value::Text(text.to_owned());
    *node = Node::map(
        node.span,
        [
            ("source", text(source)),
            ("target", text(target)),
            ("permissions", text(permissions)),
        ],
    );
    Ok(())
}

fn ports(node: &mut Node, path: &Path<'_>, unreadable: Unreadable) -> Result<(), Problem> {
    let refuse =
        |span, message: &str| Err(Problem::new(Kind::Schema, span, message).at(path.dotted()));
    let Value::List(items) = &node.value else {
        return refuse(node.used(), "expected a list of ports");
    };
    let mut expanded = Vec::with_capacity(items.len());
    for item in items {
        let (spec, keep) = match &item.value {
            Value::Map(_) => {
                expanded.push(item.clone());
                continue;
            }
            Value::Int(number) => (number.to_string(), false),
            Value::Text(spec) => (spec.clone(), unreadable == Unreadable::Keep),
            _ => return refuse(item.used(), "a port is text, a whole number or a mapping"),
        };
        let parsed = match port::parse(&spec) {
            Ok(parsed) => parsed,
            Err(_) if keep => return Ok(()),
            Err(message) => return refuse(item.span, &message),
        };
        if expanded.len() + parsed.len() > MAX_PORTS {
            let message = format!("the ranges stand for more than {MAX_PORTS} ports");
            return Err(Problem::new(Kind::Limit, item.span, message).at(path.dotted()));
        }
        expanded.extend(parsed.into_iter().map(|port| long_port(port, item.span)));
    }
    node.value = Value::List(expanded);
    Ok(())
}

fn long_port(port: port::Port, span: Span) -> Node {
    let mut map = Map::with_capacity(5);
    let mut set = |key: &str, value| fill(&mut map, span, key, || value);
    set("mode", Value::Text("ingress".to_owned()));
    if !port.address.is_empty() {
        set("host_ip", Value::Text(port.address));
    }
    if port.target != 0 {
        set("target", Value::Int(i64::from(port.target)));
    }
    if !port.published.is_empty() {
        set("published", Value::Text(port.published));
    }
    set("protocol", Value::Text(port.protocol.to_owned()));
    Node::new(Value::Map(map), span)
}

fn ssh(node: &mut Node, path: &Path<'_>) -> Result<(), Problem> {
    let refuse =
        |span, message: &str| Err(Problem::new(Kind::Schema, span, message).at(path.dotted()));
    let items = match &node.value {
        Value::Map(_) => return Ok(()),
        Value::List(items) => items,
        _ => return refuse(node.used(), "expected a list or a mapping of keys"),
    };
    let mut map = Map::with_capacity(items.len());
    for item in items {
        let (id, value) = match item.as_str().map(|text| (text, text.split_once('='))) {
            Some((_, Some((id, path)))) => (id, Value::Text(path.to_owned())),
            Some(("default", None)) => ("default", Value::Null),
            _ => return refuse(item.span, "expected `default` or `id=path`"),
        };
        map.insert(
            id.to_owned(),
            Entry::new(item.span, Node::new(value, item.span)),
        );
    }
    node.value = Value::Map(map);
    Ok(())
}

/// The old form `external: {name: x}`.
fn external(node: &mut Node, path: &Path<'_>) -> Result<(), Problem> {
    let span = node.span;
    let Some(map) = node.as_map_mut() else {
        return Ok(());
    };
    let Some(old) = map.get("external").and_then(|entry| entry.node.as_map()) else {
        return Ok(());
    };
    let name = old.get("name").cloned();
    if let Some(entry) = map.get_mut("external") {
        entry.node.value = Value::Bool(true);
    }
    match (name, map.get("name")) {
        (Some(old), Some(new)) if old.node.value != new.node.value => {
            let message = "`name` and `external.name` differ; use `name` alone";
            Err(Problem::new(Kind::Schema, span, message).at(path.dotted()))
        }
        (Some(old), None) => {
            map.insert("name".to_owned(), old);
            Ok(())
        }
        _ => Ok(()),
    }
}
