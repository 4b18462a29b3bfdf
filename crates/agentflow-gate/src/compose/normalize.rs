//! What Compose makes explicit: the default network, dependencies that other keys imply, the
//! names of networks, volumes, secrets and configs.

use super::{Environment, canonical::fill, volume::clean};
use crate::{
    source::Span,
    tree::{Entry, Map, Node, Value},
};

/// Makes explicit what a project implies.
pub(super) fn normalize(project: &mut Map, name: &str, environment: &Environment) {
    default_network(project);
    if let Some(services) = project
        .get_mut("services")
        .and_then(|it| it.node.as_map_mut())
    {
        for entry in services.values_mut() {
            let span = entry.node.span;
            if let Some(service) = entry.node.as_map_mut() {
                normalize_service(service, span, environment);
            }
        }
    }
    for kind in ["networks", "volumes", "configs", "secrets"] {
        if let Some(resources) = project.get_mut(kind).and_then(|it| it.node.as_map_mut()) {
            for (key, entry) in resources.iter_mut() {
                name_resource(key, &mut entry.node, name);
            }
        }
    }
}

fn default_network(project: &mut Map) {
    let mut used = None;
    if let Some(services) = project
        .get_mut("services")
        .and_then(|it| it.node.as_map_mut())
    {
        for entry in services.values_mut() {
            let key = entry.key;
            let Some(service) = entry.node.as_map_mut() else {
                continue;
            };
            if service.contains_key("provider") || service.contains_key("network_mode") {
                continue;
            }
            let joined = service.get("networks").and_then(|it| it.node.as_map());
            if joined.is_none_or(Map::is_empty) {
                let default = Node::map(key, [("default", Value::Null)]);
                service.insert("networks".to_owned(), Entry::new(key, default));
                used.get_or_insert(key);
            } else if joined.is_some_and(|it| it.contains_key("default")) {
                used.get_or_insert(key);
            }
        }
    }
    let Some(span) = used else {
        if project.get("networks").is_some_and(|it| it.node.is_null()) {
            project.shift_remove("networks");
        }
        return;
    };
    let empty = || Entry::new(span, Node::new(Value::Map(Map::new()), span));
    let networks = project.entry("networks".to_owned()).or_insert_with(empty);
    if let Some(networks) = networks.node.as_map_mut() {
        fill(networks, span, "default", || Value::Null);
    }
}

fn normalize_service(service: &mut Map, span: Span, environment: &Environment) {
    if let Some(policy) = service.get_mut("pull_policy")
        && policy.node.as_str() == Some("if_not_present")
    {
        policy.node.value = Value::Text("missing".to_owned());
    }
    if let Some(entry) = service.get_mut("build") {
        let span = entry.node.span;
        if let Some(build) = entry.node.as_map_mut() {
            let absent = |build: &Map, key: &str| build.get(key).is_none_or(|it| it.node.is_null());
            if absent(build, "context") {
                build.shift_remove("context");
                fill(build, span, "context", || Value::Text(".".to_owned()));
            }
            if absent(build, "dockerfile") && absent(build, "dockerfile_inline") {
                build.shift_remove("dockerfile");
                fill(build, span, "dockerfile", || {
                    Value::Text("Dockerfile".to_owned())
                });
            }
            if let Some(args) = build.get_mut("args") {
                from_environment(&mut args.node, environment, Unset::Drop);
            }
        }
    }
    if let Some(entry) = service.get_mut("environment") {
        from_environment(&mut entry.node, environment, Unset::Keep);
    }
    let mounts = service
        .get_mut("volumes")
        .map(|entry| &mut entry.node.value);
    if let Some(Value::List(mounts)) = mounts {
        for target in mounts
            .iter_mut()
            .filter_map(|it| it.as_map_mut()?.get_mut("target"))
        {
            if let Value::Text(text) = &mut target.node.value {
                *text = clean(text);
            }
        }
    }
    implied(service, span);
}

/// Dependencies that links and shared namespaces imply.
fn implied(service: &mut Map, span: Span) {
    let mut found: Vec<(String, Span, bool)> = Vec::new();
    let texts = |key: &str| {
        let list = service.get(key).and_then(|entry| entry.node.as_list());
        list.unwrap_or_default()
            .iter()
            .filter_map(|it| Some((it.as_str()?, it.span)))
    };
    for (link, span) in texts("links") {
        let name = match link.split_once(':') {
            Some((name, alias)) if !alias.contains(':') => name,
            _ => link,
        };
        found.push((name.to_owned(), span, true));
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(node) = service.get(key).map(|entry| &entry.node)
            && let Some(name) = node.as_str().and_then(|it| it.strip_prefix("service:"))
        {
            found.push((name.to_owned(), node.span, true));
        }
    }
    for (from, span) in texts("volumes_from") {
        if !from.starts_with("container:") {
            let name = from.split(':').next().unwrap_or(from);
            found.push((name.to_owned(), span, false));
        }
    }
    if found.is_empty() {
        return;
    }
    let empty = || Entry::new(span, Node::new(Value::Map(Map::new()), span));
    let entry = service.entry("depends_on".to_owned()).or_insert_with(empty);
    let Some(known) = entry.node.as_map_mut() else {
        return;
    };
    for (name, span, restart) in found {
        if known.contains_key(&name) {
            continue;
        }
        let dependency = Node::map(
            span,
            [
                ("condition", Value::Text("service_started".to_owned())),
                ("restart", Value::Bool(restart)),
                ("required", Value::Bool(true)),
            ],
        );
        known.insert(name, Entry::new(span, dependency));
    }
}

/// What becomes of a variable that is named only and has no value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unset {
    Keep,
    Drop,
}

/// Variables that are named only take their value from the environment.
fn from_environment(node: &mut Node, environment: &Environment, unset: Unset) {
    match &mut node.value {
        Value::List(items) => {
            items.retain_mut(|item| match &mut item.value {
                Value::Text(text) if !text.contains('=') => match environment.get(text.as_str()) {
                    Some(value) => {
                        *text = format!("{text}={value}");
                        true
                    }
                    None => unset == Unset::Keep,
                },
                Value::Text(_) => true,
                _ => false,
            });
        }
        Value::Map(map) => {
            map.retain(|name, entry| {
                if !entry.node.is_null() {
                    return true;
                }
                match environment.get(name) {
                    Some(value) => {
                        entry.node.value = Value::Text(value.clone());
                        true
                    }
                    None => unset == Unset::Keep,
                }
            });
        }
        _ => {}
    }
}

fn name_resource(key: &str, node: &mut Node, project: &str) {
    if node.is_null() {
        node.value = Value::Map(Map::new());
    }
    let span = node.span;
    let Some(map) = node.as_map_mut() else {
        return;
    };
    if map.get("name").is_some_and(|entry| !entry.node.is_null()) {
        return;
    }
    let external = map
        .get("external")
        .and_then(|entry| entry.node.scalar_text());
    let is_external = matches!(
        external.as_deref(),
        Some("1" | "t" | "T" | "TRUE" | "true" | "True")
    );
    map.shift_remove("name");
    let name = match is_external {
        true => key.to_owned(),
        false => format!("{project}_{key}"),
    };
    fill(map, span, "name", || Value::Text(name));
}
