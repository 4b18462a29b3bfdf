//! Rules about the file itself.

use super::Report;
use crate::{
    facts::{Facts, is_true},
    find::DEFAULTS,
    fix::{Fix, delete_entry, quoted, replace},
    problem::Kind,
    tree::{Map, Node, Value},
};

pub(super) fn version(facts: &Facts<'_>, report: &mut Report<'_>) {
    for warning in facts.warnings.iter().filter(|it| it.path == "version") {
        let message = "`version` is obsolete and ignored".to_owned();
        let edit = delete_entry(facts.sources, warning.span);
        report
            .add(warning.span, "version", message, "remove the line")
            .fix = Fix::safe(edit, &[]);
    }
}

pub(super) fn unset(facts: &Facts<'_>, report: &mut Report<'_>) {
    let warnings = facts.warnings.iter();
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
        for (name, entry) in service.map("environment") {
            let node = &entry.node;
            if !matches!(node.value, Value::Int(_) | Value::Float(_)) {
                continue;
            }
            let written = facts.sources.text(node.span).unwrap_or_default();
            let seen = node.scalar_text().unwrap_or_default();
            if !written.is_empty() && written != seen {
                let message = format!("`{name}` is written `{written}` and becomes `{seen}`");
                let path = format!("services.{}.environment.{name}", service.name);
                let edit = replace(facts.sources, node, quoted(written));
                report
                    .service(&service, node.used(), &message, "put the value in quotes")
                    .fix = Fix::risky(edit, &[path]);
            }
        }
    }
}

/// Networks, volumes, secrets and configs that no service names.
pub(super) fn unused(facts: &Facts<'_>, report: &mut Report<'_>) {
    let services = facts.top("services");
    let services = || services.into_iter().flatten().map(|(_, entry)| &entry.node);
    for (kind, one) in [
        ("networks", "network"),
        ("volumes", "volume"),
        ("secrets", "secret"),
        ("configs", "config"),
    ] {
        let resources = facts.top(kind);
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

/// The folder's files, as far as their names are text.
fn siblings(facts: &Facts<'_>) -> Vec<String> {
    let listed = facts.files.list(&facts.folder).unwrap_or_default();
    let names = listed.iter().filter(|it| !it.is_dir);
    names
        .filter_map(|it| Some(it.path.file_name()?.to_str()?.to_owned()))
        .collect()
}

/// The name of the first file of a project, if it is one that Docker finds by itself.
fn default_name<'a>(facts: &'a Facts<'_>) -> Option<&'a str> {
    facts.project()?;
    let name = facts.paths.first()?.file_name()?.to_str()?;
    DEFAULTS.contains(&name).then_some(name)
}

pub(super) fn name(facts: &Facts<'_>, report: &mut Report<'_>) {
    if let Some(name) = default_name(facts).filter(|it| *it != DEFAULTS[0]) {
        let message = format!("the file has the old name `{name}`");
        report.add(
            facts.beginning(),
            "",
            message,
            "rename it to `compose.yaml`",
        );
    }
}

pub(super) fn no_overlay(facts: &Facts<'_>, report: &mut Report<'_>) {
    if default_name(facts).is_none() || facts.paths.len() > 1 {
        return;
    }
    let is_overlay = |name: &String| {
        let stem = name
            .strip_suffix(".yaml")
            .or(name.strip_suffix(".yml"))
            .unwrap_or_default();
        stem.ends_with(".prod") || stem.ends_with(".production")
    };
    if !siblings(facts).iter().any(is_overlay) {
        let message = "there is no file for what differs in production";
        report.add(
            facts.beginning(),
            "",
            message,
            "put it into `compose.prod.yaml`",
        );
    }
}

pub(super) fn ambiguous(facts: &Facts<'_>, report: &mut Report<'_>) {
    let Some(name) = default_name(facts) else {
        return;
    };
    let all = siblings(facts);
    let others: Vec<&str> = DEFAULTS
        .into_iter()
        .filter(|it| *it != name && all.iter().any(|name| name == it))
        .collect();
    if !others.is_empty() {
        let message = format!("Docker reads `{name}` and passes {} by", others.join(", "));
        report.add(facts.beginning(), "", message, "keep one of them");
    }
}

pub(super) fn project_name(facts: &Facts<'_>, report: &mut Report<'_>) {
    let Some(project) = facts.project() else {
        return;
    };
    let entry = project.root.as_map().and_then(|map| map.get("name"));
    let written = entry.and_then(|entry| facts.sources.text(entry.key));
    if written.is_none_or(|it| it.trim_matches(['"', '\'']) != "name") {
        let message = "the project has no name of its own, so the folder names it";
        report.add(facts.beginning(), "name", message, "add `name:` at the top");
    }
}

/// Keys that Docker Compose takes and does nothing with.
pub(super) fn ignored(facts: &Facts<'_>, report: &mut Report<'_>) {
    let help = "take it away; only Swarm knows it";
    for service in facts.services() {
        let deploy = |path: &[&str]| {
            let whole: Vec<&str> = std::iter::once("deploy")
                .chain(path.iter().copied())
                .collect();
            service.at(&whole)
        };
        for path in [
            &["resources", "reservations", "cpus"][..],
            &["placement"],
            &["update_config"],
            &["rollback_config"],
            &["endpoint_mode"],
        ] {
            let empty = |it: &Node| it.as_map().is_some_and(Map::is_empty);
            if let Some(node) = deploy(path).filter(|it| !empty(it)) {
                let message = format!("`deploy.{}` is ignored", path.join("."));
                report.service(&service, node.used(), &message, help);
            }
        }
        for grant in service.list("secrets") {
            for key in ["uid", "gid", "mode"] {
                let from_file = grant
                    .get("source")
                    .and_then(Node::as_str)
                    .and_then(|name| facts.top("secrets")?.get(name)?.node.get("file"));
                if let (Some(node), Some(_)) =
                    (grant.get(key).filter(|it| !it.is_null()), from_file)
                {
                    let message = format!("`{key}` of a secret from a file is ignored");
                    let help = "set owner and rights of the file itself";
                    report.service(&service, node.used(), &message, help);
                }
            }
        }
    }
    for (name, entry) in facts.top("secrets").into_iter().flatten() {
        if entry.node.get("external").is_some_and(is_true) {
            let message = format!("Docker Compose cannot mount the external secret `{name}`");
            report.add(
                entry.key,
                format!("secrets.{name}"),
                message,
                "use `file` or `environment`",
            );
        }
    }
}

/// Files that are mounted and are not there: Docker makes folders of them.
pub(super) fn missing_source(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        for mount in service.list("volumes") {
            let text = |key: &str| mount.get(key).and_then(Node::as_str).unwrap_or_default();
            let (source, target) = (text("source"), text("target"));
            let made = mount.at(&["bind", "create_host_path"]);
            let has_end = |path: &str| {
                let name = path.rsplit('/').next().unwrap_or_default();
                name.trim_start_matches('.').contains('.')
            };
            // Only what is below the project can be judged from here.
            let inside = std::path::Path::new(source).starts_with(&facts.folder);
            let path = std::path::Path::new(source);
            let there = facts.files.is_file(path) || facts.files.is_dir(path);
            let file = has_end(source) && has_end(target) && !target.ends_with(".d");
            if text("type") == "bind" && inside && file && !there && made.is_none_or(is_true) {
                let message =
                    "the file that it mounts is not there, so Docker makes a folder of that name";
                let help =
                    "add the file, or write the mount with `bind: {create_host_path: false}`";
                report.service(&service, mount.used(), message, help);
            }
        }
    }
}
