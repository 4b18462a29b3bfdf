//! Parts that are right alone and wrong together, and texts that stand for no value.

mod graph;
mod resources;

use std::collections::HashMap;

use super::{Project, units};
use crate::{
    problem::{Kind, Problem},
    source::Span,
    tree::{Map, Node, Path, Value},
};

/// Everything that makes Docker Compose refuse the whole.
pub(super) fn check(project: &Project) -> Vec<Problem> {
    let mut found = Vec::new();
    for (name, service) in project.services() {
        let mut checker = Checker {
            project,
            name,
            service,
            found: &mut found,
        };
        checker.build();
        checker.networks();
        checker.health();
        checker.references();
        checker.dependencies();
        checker.mounts();
        checker.watch();
        resources::check(&mut checker);
    }
    if let Some(services) = project.root.get("services") {
        texts(services, &Path::ROOT.child("services"), &mut found);
    }
    for (name, entry) in project
        .root
        .get("secrets")
        .and_then(Node::as_map)
        .into_iter()
        .flatten()
    {
        let secret = &entry.node;
        let is_set = |key: &str| {
            secret
                .get(key)
                .and_then(Node::as_str)
                .is_some_and(|it| !it.is_empty())
        };
        if !is_true(secret.get("external")) && !is_set("file") && !is_set("environment") {
            let message = "a secret needs `file` or `environment`";
            let problem = Problem::new(Kind::Consistency, entry.key, message);
            found.push(problem.at(format!("secrets.{name}")));
        }
    }
    graph::check(project, &mut found);
    found
}

/// Whether a flag is on.
fn is_true(node: Option<&Node>) -> bool {
    node.is_some_and(|node| match &node.value {
        Value::Bool(flag) => *flag,
        Value::Text(text) => text.eq_ignore_ascii_case("true"),
        _ => false,
    })
}

struct Checker<'a> {
    project: &'a Project,
    name: &'a str,
    service: &'a Node,
    found: &'a mut Vec<Problem>,
}

impl<'a> Checker<'a> {
    fn report(&mut self, span: Span, message: impl Into<String>) {
        let path = format!("services.{}", self.name);
        let problem = Problem::new(Kind::Consistency, span, message).at(path);
        self.found.push(problem);
    }

    fn get(&self, key: &str) -> Option<&'a Node> {
        self.service.get(key)
    }

    fn text(&self, key: &str) -> Option<(&'a str, Span)> {
        let node = self.get(key)?;
        let text = node.as_str().filter(|text| !text.is_empty())?;
        Some((text, node.span))
    }

    /// Whether the project has such a resource.
    fn has(&self, kind: &str, name: &str) -> bool {
        self.project.root.at(&[kind, name]).is_some()
    }

    fn other(&self, name: &str) -> Option<&'a Node> {
        self.project.root.at(&["services", name])
    }

    fn is_on(&self, name: &str) -> bool {
        self.other(name)
            .is_some_and(|service| self.project.is_on(service))
    }

    fn build(&mut self) {
        let build = self.get("build").and_then(Node::as_map);
        if build.is_none() && self.text("image").is_none() && self.get("provider").is_none() {
            let message = "a service needs `image` or `build`";
            self.report(self.service.span, message);
        }
        let Some(build) = build else {
            return;
        };
        let set = |key: &str| {
            build
                .get(key)
                .filter(|it| it.node.as_str().is_some_and(|s| !s.is_empty()))
        };
        if let (Some(inline), Some(_)) = (set("dockerfile_inline"), set("dockerfile")) {
            self.report(
                inline.key,
                "`dockerfile` and `dockerfile_inline` exclude each other",
            );
        }
        let contexts = build
            .get("additional_contexts")
            .and_then(|it| it.node.as_map());
        for (name, entry) in contexts.into_iter().flatten() {
            let Some(target) = entry
                .node
                .as_str()
                .and_then(|it| it.strip_prefix("service:"))
            else {
                continue;
            };
            let builds = self
                .other(target)
                .filter(|_| self.is_on(target))
                .map(|it| it.get("build").is_some());
            if builds != Some(true) {
                let message =
                    format!("the context `{name}` needs a service `{target}` that is built");
                self.report(entry.node.span, message);
            }
        }
        let platforms = build
            .get("platforms")
            .and_then(|it| it.node.as_list())
            .unwrap_or_default();
        if let Some((platform, span)) = self.text("platform")
            && !platforms.is_empty()
            && !platforms.iter().any(|it| it.as_str() == Some(platform))
        {
            self.report(span, format!("`build.platforms` lacks `{platform}`"));
        }
    }

    fn networks(&mut self) {
        let networks = self.get("networks").and_then(Node::as_map);
        if let Some((mode, span)) = self.text("network_mode") {
            if networks.is_some_and(|it| !it.is_empty()) {
                self.report(span, "`network_mode` and `networks` exclude each other");
            }
            if let Some(name) = mode.strip_prefix("service:")
                && !self.is_on(name)
            {
                self.report(span, format!("there is no service `{name}`"));
            }
        }
        for (name, entry) in networks.into_iter().flatten() {
            if !self.has("networks", name) {
                self.report(entry.key, format!("there is no network `{name}`"));
            }
        }
    }

    fn health(&mut self) {
        let test = self.service.at(&["healthcheck", "test"]);
        let first = test.and_then(Node::as_list).and_then(<[Node]>::first);
        if let Some(first) = first
            && !matches!(first.as_str(), Some("CMD" | "CMD-SHELL" | "NONE"))
        {
            let message = "a health check begins with `CMD`, `CMD-SHELL` or `NONE`";
            self.report(first.span, message);
        }
    }

    fn references(&mut self) {
        for (key, kind) in [("configs", "config"), ("secrets", "secret")] {
            let own = self.get(key).and_then(Node::as_list).unwrap_or_default();
            let built = self
                .service
                .at(&["build", key])
                .and_then(Node::as_list)
                .unwrap_or_default();
            for mount in own.iter().chain(built) {
                let source = mount
                    .get("source")
                    .and_then(Node::as_str)
                    .unwrap_or_default();
                if !self.has(key, source) {
                    self.report(mount.used(), format!("there is no {kind} `{source}`"));
                }
            }
        }
        for (name, entry) in self
            .get("models")
            .and_then(Node::as_map)
            .into_iter()
            .flatten()
        {
            if !self.has("models", name) {
                self.report(entry.key, format!("there is no model `{name}`"));
            }
        }
        for mount in self
            .get("volumes")
            .and_then(Node::as_list)
            .unwrap_or_default()
        {
            if mount.get("type").and_then(Node::as_str) != Some("volume") {
                continue;
            }
            let source = mount
                .get("source")
                .and_then(Node::as_str)
                .unwrap_or_default();
            if !source.is_empty() && !self.has("volumes", source) {
                self.report(mount.used(), format!("there is no volume `{source}`"));
            }
        }
    }

    fn dependencies(&mut self) {
        for (name, entry) in self
            .get("depends_on")
            .and_then(Node::as_map)
            .into_iter()
            .flatten()
        {
            let optional = matches!(
                entry.node.get("required").map(|it| &it.value),
                Some(Value::Bool(false))
            );
            let message = match self.other(name) {
                None => format!("there is no service `{name}`"),
                Some(_) if self.is_on(name) || optional => continue,
                Some(_) => format!("the profiles switch the service `{name}` off"),
            };
            self.report(entry.key, message);
        }
    }

    fn mounts(&mut self) {
        let mut known: HashMap<&str, Span> = HashMap::new();
        let tmpfs = match self.get("tmpfs").map(|node| (&node.value, node)) {
            Some((Value::List(items), _)) => items.as_slice(),
            Some((Value::Text(_), node)) => std::slice::from_ref(node),
            _ => &[],
        };
        let tmpfs = tmpfs.iter().filter_map(|item| {
            let text = item.as_str()?;
            Some((text.split(':').next().unwrap_or(text), item.span))
        });
        let volumes = self
            .get("volumes")
            .and_then(Node::as_list)
            .unwrap_or_default();
        let volumes = volumes.iter().map(|mount| {
            let target = mount.get("target").and_then(Node::as_str);
            (target.unwrap_or_default(), mount.used())
        });
        for (target, span) in tmpfs.chain(volumes) {
            if let Some(before) = known.insert(target, span) {
                let message = format!("`{target}` is mounted twice");
                let path = format!("services.{}", self.name);
                let problem = Problem::new(Kind::Consistency, span, message).at(path);
                self.found.push(problem.related(before, "first here"));
            }
        }
    }

    fn watch(&mut self) {
        let watches = self
            .service
            .at(&["develop", "watch"])
            .and_then(Node::as_list);
        for watch in watches.unwrap_or_default() {
            let target = watch
                .get("target")
                .and_then(Node::as_str)
                .unwrap_or_default();
            let action = watch.get("action").and_then(Node::as_str);
            if target.is_empty() && !matches!(action, Some("rebuild" | "restart")) {
                self.report(watch.used(), "this action needs a `target`");
            }
        }
    }
}

/// What a text must stand for.
#[derive(Clone, Copy)]
enum Meaning {
    Time,
    Size,
    /// A size, or a whole number with its sign.
    SizeOrNumber,
    Number,
    CommandLine,
    Flag,
    /// The rights of a file.
    Mode,
    /// A name and its address.
    Host,
}

impl Meaning {
    fn of(path: &[&str]) -> Option<Self> {
        let ["services", _, path @ ..] = path else {
            return None;
        };
        Some(match path {
            ["stop_grace_period"]
            | [
                "healthcheck",
                "interval" | "timeout" | "start_period" | "start_interval",
            ]
            | [
                "deploy",
                "update_config" | "rollback_config",
                "delay" | "monitor",
            ]
            | ["deploy", "restart_policy", "delay" | "window"] => Self::Time,
            ["mem_limit" | "mem_reservation" | "shm_size"]
            | ["build", "shm_size"]
            | ["deploy", "resources", "limits" | "reservations", "memory"]
            | ["volumes", _, "tmpfs", "size"] => Self::Size,
            ["memswap_limit" | "mem_swappiness"] => Self::SizeOrNumber,
            ["deploy", "resources", "limits" | "reservations", "cpus"] => Self::Number,
            ["command" | "entrypoint"] => Self::CommandLine,
            ["attach"]
            | ["build", "no_cache" | "pull" | "privileged"]
            | ["depends_on", _, "restart"]
            | ["env_file", _, "required"]
            | ["post_start" | "pre_stop", _, "privileged"]
            | ["volumes", _, "bind", "create_host_path"] => Self::Flag,
            ["secrets" | "configs", _, "mode"] | ["build", "secrets", _, "mode"] => Self::Mode,
            ["extra_hosts", "[]"] | ["build", "extra_hosts", "[]"] => Self::Host,
            _ => return None,
        })
    }

    /// What the text should be, if it is not that.
    fn wanted(self, text: &str) -> Option<&'static str> {
        let (fits, wanted) = match self {
            Self::Time => (units::seconds(text).is_some(), "a time, as `1m30s`"),
            Self::Size => (units::bytes(text).is_some(), "a size, as `512m`"),
            Self::SizeOrNumber => {
                let fits = units::bytes(text).is_some() || text.parse::<i64>().is_ok();
                (fits, "a size, as `512m`")
            }
            Self::Number => (text.parse::<f64>().is_ok(), "a number"),
            Self::CommandLine => {
                let wanted = "a command line whose quotes are closed";
                (units::is_command_line(text), wanted)
            }
            Self::Flag => (units::flag(text).is_some(), "true or false"),
            Self::Mode => {
                let fits = i64::from_str_radix(text, 8).is_ok();
                (fits, "the rights of a file, as `0440`")
            }
            Self::Host => {
                let name = text.split_once('=').or_else(|| text.split_once(':'));
                let fits =
                    name.is_some_and(|(name, _)| !name.is_empty() && !name.contains([':', '=']));
                (fits, "a name and an address, as `name=10.0.0.1`")
            }
        };
        (!fits).then_some(wanted)
    }
}

/// Texts that must stand for a time, a size or a command line.
fn texts(node: &Node, path: &Path<'_>, found: &mut Vec<Problem>) {
    match &node.value {
        Value::Text(text) => {
            let meaning = Meaning::of(path.parts().as_slice());
            if let Some(wanted) = meaning.and_then(|meaning| meaning.wanted(text)) {
                let message = format!("must be {wanted}");
                found.push(Problem::new(Kind::Consistency, node.span, message).at(path.dotted()));
            }
        }
        Value::List(items) => {
            if matches!(path.parts().as_slice(), ["services", _, "environment"]) {
                spaces(items, path, found);
            }
            for item in items {
                texts(item, &path.child("[]"), found);
            }
        }
        Value::Map(map) => children(map, path, found),
        _ => {}
    }
}

/// `NAME =value` names a variable with a space.
fn spaces(items: &[Node], path: &Path<'_>, found: &mut Vec<Problem>) {
    for item in items {
        let name = item.as_str().and_then(|text| text.split('=').next());
        if name.is_some_and(|name| name.ends_with(char::is_whitespace)) {
            let message = "a space stands before the `=`";
            found.push(Problem::new(Kind::Consistency, item.span, message).at(path.dotted()));
        }
    }
}

fn children(map: &Map, path: &Path<'_>, found: &mut Vec<Problem>) {
    for (name, entry) in map {
        if !name.starts_with("x-") {
            texts(&entry.node, &path.child(name), found);
        }
    }
}
