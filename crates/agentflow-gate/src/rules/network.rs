//! Rules about who reaches whom.

use std::collections::BTreeSet;

use super::Report;
use crate::{
    facts::{Engine, Facts, Service, Url, all_urls, is_true},
    finding::Severity,
    fix::{Edit, Fix, add_key},
    source::Span,
    tree::Node,
};

/// Parts of names of networks that hold nothing for the outside.
const INNER: [&str; 7] = [
    "backend", "database", "db", "data", "internal", "private", "storage",
];
/// Parts of names of networks at the edge.
const OUTER: [&str; 7] = [
    "public", "edge", "frontend", "front", "proxy", "web", "ingress",
];
/// Variables that mean a model or a service somewhere else.
const HOSTED: [&str; 12] = [
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "COHERE_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "HF_TOKEN",
    "TAVILY_API_KEY",
    "LANGSMITH_API_KEY",
    "TOGETHER_API_KEY",
];

fn named(name: &str, words: &[&str]) -> bool {
    name.split(['-', '_', '.'])
        .any(|part| words.contains(&part.to_ascii_lowercase().as_str()))
}

/// Published ports of a service, with the address and port on the host.
fn published<'a>(service: &Service<'a>) -> impl Iterator<Item = (&'a Node, &'a str, &'a str)> {
    service.list("ports").iter().map(|port| {
        let text = |key: &str| port.get(key).and_then(Node::as_str).unwrap_or_default();
        (port, text("host_ip"), text("published"))
    })
}

fn is_loopback(address: &str) -> bool {
    address.starts_with("127.") || address == "::1"
}

/// Stores and what is published in one network.
pub(super) fn segmented(facts: &Facts<'_>, report: &mut Report<'_>) {
    let outside: Vec<Service<'_>> = facts
        .services()
        .filter(|it| facts.is_edge(it) && !it.list("ports").is_empty())
        .collect();
    for service in facts.services() {
        if !service.engine().is_some_and(|engine| engine.is_store()) {
            continue;
        }
        let inside = service.networks().unwrap_or_default();
        for other in &outside {
            let shared = other.networks().unwrap_or_default();
            if let Some(network) = shared.iter().find(|it| inside.contains(it)) {
                let message = format!(
                    "it shares the network `{network}` with `{}` at the edge",
                    other.name
                );
                let help = "put the store into a network of its own, with those that ask it";
                let found = report.service(&service, service.entry.key, &message, help);
                found
                    .related
                    .push((other.entry.key, "this is at the edge".to_owned()));
                break;
            }
        }
    }
}

pub(super) fn internal_flag(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (name, entry) in facts.top("networks").into_iter().flatten() {
        let flag = |key: &str| entry.node.get(key).is_some_and(is_true);
        if !named(name, &INNER) || flag("internal") || flag("external") {
            continue;
        }
        let message = format!("the network `{name}` lets its services out and is not `internal`");
        let path = format!("networks.{name}");
        let edit = add_key(facts.sources, entry, "internal: true");
        let fix = Fix::risky(edit, &[format!("{path}.internal")]);
        report
            .add(entry.key, path, message, "add `internal: true`")
            .fix = fix;
    }
}

pub(super) fn canonical_names(facts: &Facts<'_>, report: &mut Report<'_>) {
    let Some(networks) = facts.top("networks") else {
        return;
    };
    let own: Vec<_> = networks
        .iter()
        .filter(|(name, _)| *name != "default")
        .collect();
    if own.len() < 2 || own.iter().any(|(name, _)| named(name, &OUTER)) {
        return;
    }
    let message =
        "no network is named for the edge: `public`, `backend`, `database` say who is where";
    report.add(
        own[0].1.key,
        "networks",
        message,
        "name the one of published services `public`",
    );
}

pub(super) fn ports_only_on_edge(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services().filter(|it| !facts.is_edge(it)) {
        let is_store = service.engine().is_some_and(|engine| engine.is_store());
        for (port, address, _) in published(&service) {
            let what = if is_store {
                "a store"
            } else {
                "it is not at the edge and"
            };
            let message = format!("{what} publishes a port of the host");
            let help = "use `expose`, or mark the service with `x-agentflow: {edge: true}`";
            let severity = match (is_loopback(address), is_store) {
                (true, _) => Severity::Note,
                (false, true) => Severity::Error,
                (false, false) => Severity::Warning,
            };
            report
                .service(&service, port.used(), &message, help)
                .severity = severity;
        }
    }
}

pub(super) fn prefer_expose(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        let is_store = service.engine().is_some_and(|engine| engine.is_store());
        let said = service.list("expose").len() + service.list("ports").len();
        if is_store && said == 0 && service.networks().is_some() {
            let help = "add `expose`; it opens nothing and tells readers the port";
            report.service(
                &service,
                service.entry.key,
                "it does not say its port",
                help,
            );
        }
    }
}

pub(super) fn every_interface(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services().filter(|it| !facts.is_edge(it)) {
        for (port, address, published) in published(&service) {
            if !matches!(address, "" | "0.0.0.0" | "::") || published.is_empty() {
                continue;
            }
            let help = "write `127.0.0.1:` before the port; Docker passes firewalls of the host by";
            let written = facts.sources.text(port.span).unwrap_or_default();
            let plain = written.trim_matches(['"', '\'']);
            let is_short = plain.split('/').next().is_some_and(|it| {
                it.split(':').count() == 2 && it.chars().all(|c| c.is_ascii_digit() || c == ':')
            });
            let edit = match is_short {
                true => Some(Edit {
                    span: port.span,
                    text: format!("\"127.0.0.1:{plain}\""),
                })
                .filter(|_| port.alias.is_none()),
                false => None,
            };
            let path = format!("services.{}.ports", service.name);
            report
                .service(
                    &service,
                    port.used(),
                    "its port is open on every interface",
                    help,
                )
                .fix = Fix::risky(edit, &[path]);
        }
    }
}

/// Whom a service talks to, by what it waits for and by addresses in its environment.
fn peers<'a>(facts: &Facts<'a>, service: &Service<'a>) -> Vec<(Service<'a>, Span)> {
    let mut found: Vec<(Service<'a>, Span)> = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, entry) in service.map("depends_on") {
        let condition = entry.node.get("condition").and_then(Node::as_str);
        if condition == Some("service_completed_successfully") {
            continue;
        }
        if let Some(other) = facts.service(name)
            && seen.insert(name.clone())
        {
            found.push((other, entry.key));
        }
    }
    let own = facts.settings.iter().filter(|it| it.owner == service.name);
    for setting in own {
        for url in all_urls(&setting.value) {
            if let Some(other) = facts.service(url.host)
                && other.name != service.name
                && seen.insert(url.host.to_owned())
            {
                found.push((other, setting.span));
            }
        }
    }
    found
}

pub(super) fn disjoint(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        let Some(mine) = service.networks() else {
            continue;
        };
        let hosts = service.texts("extra_hosts").map(|(it, _)| it);
        let hosts: Vec<&str> = hosts.collect();
        for (other, span) in peers(facts, &service) {
            let known = hosts.iter().any(|it| it.starts_with(other.name));
            let Some(theirs) = other.networks().filter(|_| !known) else {
                continue;
            };
            if mine.iter().any(|it| theirs.contains(it)) {
                continue;
            }
            let message = format!(
                "it needs `{}`, but shares no network with it: {} against {}",
                other.name,
                mine.join(", "),
                theirs.join(", ")
            );
            let help =
                "put both on one network; `depends_on` orders the start and connects nothing";
            let found = report.service(&service, span, &message, help);
            found
                .related
                .push((other.entry.key, "not reachable".to_owned()));
        }
    }
}

pub(super) fn shut_in_ports(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        if facts.is_shut_in(&service) != Some(true) {
            continue;
        }
        for (port, ..) in published(&service) {
            let message =
                "it publishes a port, but all its networks are internal: nobody reaches it";
            let help = "add a network that is not internal, or take the port away";
            report.service(&service, port.used(), message, help);
        }
    }
}

pub(super) fn no_way_out(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        if facts.is_shut_in(&service) != Some(true) {
            continue;
        }
        let own = facts.settings.iter().filter(|it| it.owner == service.name);
        let needs = own.into_iter().find(|setting| {
            let outside = |url: Url<'_>| {
                url.scheme == "https" && url.is_public() && facts.service(url.host).is_none()
            };
            HOSTED.contains(&setting.name.as_str()) || all_urls(&setting.value).any(outside)
        });
        if let Some(setting) = needs {
            let message = format!(
                "`{}` points outside, but all its networks are internal",
                setting.name
            );
            let help = "add a network for what goes out, without `internal`";
            report.service(&service, setting.key, &message, help);
        }
    }
}

/// Names of services that somebody outside wants to reach.
const ASKED: [&str; 9] = [
    "api", "app", "web", "frontend", "server", "gateway", "console", "ui", "backend",
];

pub(super) fn no_way_in(facts: &Facts<'_>, report: &mut Report<'_>) {
    let reachable = |service: Service<'_>| {
        let labels = service
            .map("labels")
            .any(|(name, _)| name.starts_with("traefik"));
        let outside = service.network_outside(facts);
        let is_tunnel = service.image().is_some_and(|it| it.last() == "cloudflared");
        labels
            || is_tunnel
            || outside && !service.list("ports").is_empty()
            || service.networks().is_none()
    };
    let external = facts
        .top("networks")
        .into_iter()
        .flatten()
        .any(|(_, entry)| entry.node.get("external").is_some_and(is_true));
    if external || facts.services().any(reachable) {
        return;
    }
    if let Some(service) = facts.services().find(|it| named(it.name, &ASKED)) {
        let help = "publish a port of the service at the edge, on a network that is not internal";
        let message = "nothing of the project can be reached from outside";
        report.service(&service, service.entry.key, message, help);
    }
}

impl Service<'_> {
    /// Whether one of its networks is not internal.
    fn network_outside(&self, facts: &Facts<'_>) -> bool {
        facts.is_shut_in(self) != Some(true)
    }
}

/// Ports by which servers are known.
fn usual_port(service: &Service<'_>) -> Option<&'static str> {
    Some(match service.engine()? {
        Engine::Postgres => "5432",
        Engine::Pooler => "6432",
        Engine::Redis => "6379",
        Engine::Qdrant => "6333",
        Engine::R2r => "7272",
        Engine::OtherStore => return None,
    })
}

pub(super) fn odd_addresses(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        if let Some(links) = service.get("links") {
            let help = "put both on one network; the name of a service is its address";
            report.service(&service, links.used(), "`links` is a leftover", help);
        }
        for (_, entry) in service.map("networks") {
            for key in ["ipv4_address", "ipv6_address"] {
                if let Some(address) = entry.node.get(key).filter(|it| !it.is_null()) {
                    let help = "use the name of the service";
                    report
                        .service(&service, address.used(), "its address is fixed", help)
                        .severity = Severity::Note;
                }
            }
        }
        if service.networks().is_none() {
            continue;
        }
        for setting in facts.settings.iter().filter(|it| it.owner == service.name) {
            for url in all_urls(&setting.value).filter(|url| url.is_local()) {
                let mut others = facts.services().filter(|it| it.name != service.name);
                let meant = others.find(|it| url.port.is_some() && usual_port(it) == url.port);
                if let Some(other) = meant {
                    let message = format!(
                        "`{}` names this container itself; `{}` is meant",
                        setting.name, other.name
                    );
                    let help = format!("write `{}` for the host", other.name);
                    report.service(&service, setting.span, &message, &help);
                }
            }
        }
    }
}

/// The ports that a text names: one, or a range.
fn range(text: &str) -> Option<(u32, u32)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    Some((from.parse().ok()?, to.parse().ok()?))
}

/// Ports of the host that a service takes.
struct Taken<'a> {
    service: Service<'a>,
    port: &'a Node,
    address: &'a str,
    ports: (u32, u32),
    protocol: &'a str,
}

pub(super) fn same_port(facts: &Facts<'_>, report: &mut Report<'_>) {
    let mut taken: Vec<Taken<'_>> = Vec::new();
    for service in facts.services() {
        for (port, address, published) in published(&service) {
            let Some(ports) = range(published).filter(|(from, _)| *from > 0) else {
                continue;
            };
            let protocol = port.get("protocol").and_then(Node::as_str).unwrap_or("tcp");
            let open = |it: &str| matches!(it, "" | "0.0.0.0" | "::");
            let before = taken.iter().find(|other| {
                let apart =
                    other.service.name != service.name && never_together(&other.service, &service);
                let meet = other.address == address || open(other.address) || open(address);
                let overlap = ports.0 <= other.ports.1 && other.ports.0 <= ports.1;
                !apart && meet && other.protocol == protocol && overlap
            });
            if let Some(first) = before {
                let message = format!("the port {published} of the host is taken twice");
                let help = "publish one of both elsewhere";
                let found = report.service(&service, port.used(), &message, help);
                found
                    .related
                    .push((first.port.used(), "taken here".to_owned()));
            }
            let entry = Service {
                name: service.name,
                entry: service.entry,
            };
            taken.push(Taken {
                service: entry,
                port,
                address,
                ports,
                protocol,
            });
        }
    }
}

/// Whether profiles keep two services apart.
fn never_together(a: &Service<'_>, b: &Service<'_>) -> bool {
    let profiles = |service: &Service<'_>| -> BTreeSet<String> {
        service
            .texts("profiles")
            .map(|(it, _)| it.to_owned())
            .collect()
    };
    let (a, b) = (profiles(a), profiles(b));
    !a.is_empty() && !b.is_empty() && a.is_disjoint(&b)
}

pub(super) fn missing_depends_on(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        for (other, span) in peers(facts, &service) {
            let waits = service.at(&["depends_on", other.name]).is_some();
            let back = other.at(&["depends_on", service.name]).is_some();
            if !waits && !back {
                let message = format!("it asks `{}`, and does not wait for it", other.name);
                let help = "add it to `depends_on` with `condition: service_healthy`";
                report.service(&service, span, &message, help);
            }
        }
    }
}
