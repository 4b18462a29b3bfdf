//! Lists in which a later value takes the place of an earlier one with the same key.

use std::collections::HashMap;

use super::volume;
use crate::{
    problem::{Kind, Problem},
    tree::{Node, Path, Value},
};

/// What makes two values of a list the same.
#[derive(Clone, Copy)]
enum By {
    /// The part before `=`.
    Key,
    /// The target of a mount.
    Target,
    /// The target of a device.
    Device,
    /// The whole value, text or number.
    Whole,
    /// The target of a secret or config; the folder of those that name none.
    File(&'static str),
    /// Address, published port, target and protocol.
    Port,
    /// The path of an environment file.
    EnvFile,
}

fn rule(path: &Path<'_>) -> Option<By> {
    Some(match path.parts().as_slice() {
        ["networks", _, "labels"]
        | ["networks", _, "ipam", "options"]
        | [
            "services",
            _,
            "build",
            "args" | "additional_contexts" | "platform" | "tags" | "labels",
        ]
        | [
            "services",
            _,
            "annotations" | "cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search"
            | "environment" | "labels" | "links" | "profiles" | "sysctls" | "tmpfs",
        ]
        | ["services", _, "deploy", "labels"]
        | ["services", _, "networks", _, "aliases" | "link_local_ips"] => By::Key,
        ["services", _, "configs"] => By::File(""),
        ["services", _, "secrets"] => By::File("/run/secrets"),
        ["services", _, "devices"] => By::Device,
        ["services", _, "env_file"] => By::EnvFile,
        ["services", _, "expose"] => By::Whole,
        ["services", _, "ports"] => By::Port,
        ["services", _, "volumes"] => By::Target,
        _ => return None,
    })
}

/// Whether an empty list at this path is printed as a list; elsewhere Docker prints null.
pub(super) fn stays_list(path: &Path<'_>) -> bool {
    let resolved = matches!(
        path.parts().as_slice(),
        ["services", _, "environment"] | ["services", _, "build", "args"]
    );
    rule(path).is_some() && !resolved
}

/// Makes every list unique that is to be.
///
/// # Errors
/// A value has a type that the list cannot hold.
pub(super) fn enforce(node: &mut Node, path: &Path<'_>) -> Result<(), Problem> {
    match &mut node.value {
        Value::Map(map) => {
            for (name, entry) in map.iter_mut() {
                enforce(&mut entry.node, &path.child(name))?;
            }
        }
        Value::List(items) => {
            if let Some(by) = rule(path) {
                unique(items, by, path)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn unique(items: &mut Vec<Node>, by: By, path: &Path<'_>) -> Result<(), Problem> {
    let mut known: HashMap<String, usize> = HashMap::with_capacity(items.len());
    let mut kept: Vec<Node> = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        let key = key(&item, by, path)?;
        match known.get(&key) {
            Some(at) => kept[*at] = item,
            None => {
                known.insert(key, kept.len());
                kept.push(item);
            }
        }
    }
    *items = kept;
    Ok(())
}

fn key(item: &Node, by: By, path: &Path<'_>) -> Result<String, Problem> {
    let refuse = |wanted: &str| {
        let message = format!("expected {wanted}, found a {}", item.type_name());
        Err(Problem::new(Kind::Schema, item.span, message).at(path.dotted()))
    };
    let field = |name: &str| item.get(name).map(|node| node.to_json().to_string());
    Ok(match (by, &item.value) {
        (By::Key, Value::Text(text)) => match text.split_once('=') {
            Some((key, _)) => key.to_owned(),
            None => text.clone(),
        },
        (By::Key, _) => return refuse("text"),
        (By::Target | By::Device, Value::Map(map)) => {
            match map.get("target").and_then(|entry| entry.node.as_str()) {
                Some(target) => target.to_owned(),
                None => return refuse("a mount with its target"),
            }
        }
        (By::Target, Value::Text(text)) => match volume::parse(text) {
            Ok(volume) => volume.target,
            Err(message) => {
                return Err(Problem::new(Kind::Schema, item.span, message).at(path.dotted()));
            }
        },
        (By::Device, Value::Text(text)) => {
            let mut parts = text.split(':');
            let source = parts.next().unwrap_or_default();
            parts.next().unwrap_or(source).to_owned()
        }
        (By::Whole, Value::Text(text)) => text.clone(),
        (By::Whole, Value::Int(number)) => number.to_string(),
        (By::Whole, _) => return refuse("text or a whole number"),
        (By::File(folder), Value::Text(name)) => format!("{folder}/{name}"),
        (By::File(folder), Value::Map(map)) => match map.get("target").map(|it| &it.node) {
            Some(target) => match target.as_str() {
                Some(target) => target.to_owned(),
                None => return refuse("a target that is text"),
            },
            None => {
                let source = item
                    .get("source")
                    .and_then(Node::as_str)
                    .unwrap_or_default();
                format!("{folder}/{source}")
            }
        },
        (By::File(_), _) => return refuse("a name or a mapping"),
        (By::Port, Value::Map(map)) => {
            if !map.contains_key("target") {
                return refuse("a port with its target");
            }
            let host = field("host_ip").unwrap_or_else(|| "\"0.0.0.0\"".to_owned());
            let protocol = field("protocol").unwrap_or_else(|| "\"tcp\"".to_owned());
            let (published, target) = (field("published"), field("target"));
            format!("{host}:{published:?}:{target:?}/{protocol}")
        }
        (By::EnvFile, Value::Map(map)) => {
            match map.get("path").and_then(|entry| entry.node.as_str()) {
                Some(path) => path.to_owned(),
                None => return refuse("a file with its path"),
            }
        }
        (By::Port | By::EnvFile, Value::Text(text)) => text.clone(),
        (By::Port, Value::Int(number)) => number.to_string(),
        // Docker takes all others of these lists for one value; the schema refuses them.
        _ => String::new(),
    })
}
