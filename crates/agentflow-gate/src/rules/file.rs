//! Rules about the file itself.

use super::{Facts, Report};
use crate::{
    problem::Kind,
    tree::{Map, Node, Value},
};

pub(super) fn version(facts: &Facts<'_>, report: &mut Report<'_>) {
    for warning in facts
        .loaded
        .warnings
        .iter()
        .filter(|it| it.path == "version")
    {
        let message = "`version` is obsolete and ignored".to_owned();
        report.add(warning.span, "version", message, "remove the line");
    }
}

pub(super) fn unset(facts: &Facts<'_>, report: &mut Report<'_>) {
    let warnings = facts.loaded.warnings.iter();
    for warning in warnings.filter(|it| it.kind == Kind::Interpolation) {
        let help = "give it a default, `${NAME:-value}`, or demand it, `${NAME:?why}`";
        report.add(
            warning.span,
            warning.path.clone(),
            warning.message.clone(),
            help,
        );
    }
}

/// Numbers in an environment whose text is not what the container sees.
pub(super) fn scalars(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        for (name, entry) in service
            .get("environment")
            .and_then(Node::as_map)
            .into_iter()
            .flatten()
        {
            let node = &entry.node;
            if !matches!(node.value, Value::Int(_) | Value::Float(_)) {
                continue;
            }
            let file = facts.loaded.sources.file(node.span.file);
            let range = node.span.start as usize..node.span.end as usize;
            let written = file
                .and_then(|file| file.text.get(range))
                .unwrap_or_default();
            let seen = node.scalar_text().unwrap_or_default();
            if !written.is_empty() && written != seen {
                let message = format!("`{name}` is written `{written}` and becomes `{seen}`");
                report.service(&service, node.used(), &message, "put the value in quotes");
            }
        }
    }
}

/// Networks, volumes, secrets and configs that no service names.
pub(super) fn unused(facts: &Facts<'_>, report: &mut Report<'_>) {
    let services = facts.project.root.get("services").and_then(Node::as_map);
    let services = || services.into_iter().flatten().map(|(_, entry)| &entry.node);
    for (kind, one) in [
        ("networks", "network"),
        ("volumes", "volume"),
        ("secrets", "secret"),
        ("configs", "config"),
    ] {
        let resources = facts.project.root.get(kind).and_then(Node::as_map);
        for (name, entry) in resources.into_iter().flatten() {
            let implied = kind == "networks" && name == "default";
            if !implied && !services().any(|service| names(service, kind, name)) {
                let message = format!("no service uses the {one} `{name}`");
                let path = format!("{kind}.{name}");
                report.add(entry.key, path, message, "remove it, or use it");
            }
        }
    }
}

fn names(service: &Node, kind: &str, name: &str) -> bool {
    let by_source = |list: Option<&Node>| {
        let items = list.and_then(Node::as_list).unwrap_or_default();
        items
            .iter()
            .any(|it| it.get("source").and_then(Node::as_str) == Some(name))
    };
    let by_key = |map: Option<&Map>| map.is_some_and(|map| map.contains_key(name));
    by_key(service.get(kind).and_then(Node::as_map))
        || by_source(service.get(kind))
        || by_source(service.at(&["build", kind]))
}
