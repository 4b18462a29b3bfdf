//! Defaults, and what must hold once every file is laid over the others.

use super::{canonical::fill, port::is_address};
use crate::{
    problem::{Kind, Problem},
    tree::{Map, Node, Path, Value},
};

/// Fills in what a project leaves out.
///
/// # Errors
/// A part has a type that cannot hold its default.
pub(super) fn defaults(node: &mut Node, path: &Path<'_>) -> Result<(), Problem> {
    let span = node.span;
    let refuse = || {
        let message = "expected a mapping";
        Err(Problem::new(Kind::Schema, span, message).at(path.dotted()))
    };
    match path.parts().as_slice() {
        ["services", _, "build"] => {
            if let Some(map) = node.as_map_mut() {
                fill(map, span, "context", || Value::Text(".".to_owned()));
            }
        }
        ["services", _, "secrets", _] => {
            let source = node.get("source").and_then(Node::as_str).unwrap_or("<nil>");
            let target = format!("/run/secrets/{source}");
            match node.as_map_mut() {
                Some(map) => fill(map, span, "target", || Value::Text(target)),
                None => return refuse(),
            }
        }
        ["services", _, "ports", _] => {
            if let Some(map) = node.as_map_mut() {
                fill(map, span, "protocol", || Value::Text("tcp".to_owned()));
                fill(map, span, "mode", || Value::Text("ingress".to_owned()));
            }
        }
        [
            "services",
            _,
            "deploy",
            "resources",
            "reservations",
            "devices",
            _,
        ]
        | ["services", _, "gpus", _] => match node.as_map_mut() {
            Some(map) => {
                if !map.contains_key("device_ids") {
                    fill(map, span, "count", || Value::Text("all".to_owned()));
                }
            }
            None => return refuse(),
        },
        _ => match &mut node.value {
            Value::Map(map) => {
                for (name, entry) in map.iter_mut() {
                    defaults(&mut entry.node, &path.child(name))?;
                }
            }
            Value::List(items) => {
                for item in items {
                    defaults(item, &path.child("[]"))?;
                }
            }
            _ => {}
        },
    }
    Ok(())
}

/// Checks what the schema cannot say.
pub(super) fn check(node: &Node, path: &Path<'_>, found: &mut Vec<Problem>) {
    let mut report = |node: &Node, message: String| {
        found.push(Problem::new(Kind::Schema, node.used(), message).at(path.dotted()));
    };
    match (path.parts().as_slice(), &node.value) {
        (["volumes", _], Value::Map(map)) => match map.get("external").map(|it| &it.node) {
            Some(Node {
                value: Value::Bool(true),
                ..
            }) => {
                let allowed =
                    |name: &str| matches!(name, "name" | "external") || name.starts_with("x-");
                if let Some((name, entry)) = map.iter().find(|(name, _)| !allowed(name)) {
                    let message = format!("an external volume cannot have `{name}`");
                    report(&entry.node, message);
                }
            }
            Some(Node {
                value: Value::Bool(false),
                ..
            })
            | None => {}
            Some(other) => report(other, "`external` must be true or false".to_owned()),
        },
        (["configs", _], Value::Map(map)) => {
            one_of(map, node, &["file", "environment", "content"], &mut report);
        }
        (["secrets", _], Value::Map(map)) => {
            one_of(map, node, &["file", "environment"], &mut report)
        }
        (["services", _, "ports", _], Value::Map(map)) => {
            if let Some(address) = map.get("host_ip").map(|entry| &entry.node)
                && !address.as_str().is_some_and(is_address)
            {
                report(address, "`host_ip` is not an IP address".to_owned());
            }
        }
        (["services", _, "develop", "watch", _, "path"], Value::Text(text)) if text.is_empty() => {
            report(node, "a path cannot be empty".to_owned());
        }
        (
            [
                "services",
                _,
                "deploy",
                "resources",
                "reservations",
                "devices",
                _,
            ]
            | ["services", _, "gpus", _],
            Value::Map(map),
        ) if map.contains_key("count") && map.contains_key("device_ids") => {
            let message = "`count` and `device_ids` exclude each other";
            report(node, message.to_owned());
        }
        (_, Value::Map(map)) => {
            for (name, entry) in map {
                check(&entry.node, &path.child(name), found);
            }
        }
        (_, Value::List(items)) => {
            for item in items {
                check(item, &path.child("[]"), found);
            }
        }
        _ => {}
    }
}

fn one_of(map: &Map, node: &Node, keys: &[&str], report: &mut dyn FnMut(&Node, String)) {
    let given = keys.iter().filter(|key| map.contains_key(**key)).count();
    let elsewhere = map.contains_key("driver") || map.contains_key("external");
    let names = keys.join("`, `");
    if given > 1 {
        report(node, format!("`{names}` exclude each other"));
    } else if given == 0 && !elsewhere {
        report(node, format!("one of `{names}` must be set"));
    }
}
