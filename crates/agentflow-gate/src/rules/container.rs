//! Rules about how a container runs.

use super::Report;
use crate::{
    facts::{Engine, Facts, Image, Instruction, Part, Service, is_true},
    finding::Severity,
    fix::{Fix, add_key},
    source::Span,
    tree::{Node, Value},
};

fn containers<'a>(facts: &Facts<'a>) -> impl Iterator<Item = Service<'a>> + use<'a> {
    facts.services().filter(|it| it.get("provider").is_none())
}

/// A number of bytes, as the model holds it.
pub(super) fn bytes(node: &Node) -> Option<u64> {
    match &node.value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// The most memory that a service gets.
pub(super) fn memory_limit(service: &Service<'_>) -> Option<u64> {
    let limit = service.get("mem_limit");
    let limit = limit.or(service.at(&["deploy", "resources", "limits", "memory"]));
    limit.and_then(bytes).filter(|it| *it > 0)
}

pub(super) fn reservations(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in containers(facts) {
        let reserved = service.get("mem_reservation");
        let reserved = reserved.or(service.at(&["deploy", "resources", "reservations", "memory"]));
        let Some(reserved) = reserved else {
            let help = "set `deploy.resources.reservations.memory`";
            report.service(&service, service.entry.key, "it reserves no memory", help);
            continue;
        };
        if let (Some(least), Some(most)) = (bytes(reserved), memory_limit(&service))
            && least > most
        {
            let help = "reserve at most what the limit allows";
            let message = "it reserves more memory than it may use";
            report
                .service(&service, reserved.used(), message, help)
                .severity = Severity::Error;
        }
    }
}

pub(super) fn pids(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in containers(facts) {
        let limit = service.get("pids_limit");
        if limit
            .or(service.at(&["deploy", "resources", "limits", "pids"]))
            .is_none()
        {
            let edit = add_key(facts.sources, service.entry, "pids_limit: 512");
            let path = format!("services.{}.pids_limit", service.name);
            report
                .service(
                    &service,
                    service.entry.key,
                    "it may start processes without end",
                    "set `pids_limit`",
                )
                .fix = Fix::risky(edit, &[path]);
        }
    }
}

fn is_root(user: &str) -> bool {
    matches!(user.split(':').next().unwrap_or_default(), "root" | "0")
}

pub(super) fn as_root(facts: &Facts<'_>, report: &mut Report<'_>) {
    if let Part::Dockerfile(instructions) = &facts.part {
        if let Some((span, message)) = root_of_stage(instructions) {
            report.add(
                span,
                "USER",
                message,
                "end with `USER` and a number that is not 0",
            );
        }
        return;
    }
    for service in containers(facts) {
        if let Some(user) = service.get("user") {
            let text = user.scalar_text().unwrap_or_default();
            if is_root(&text) {
                let help = "name a user that is not root";
                report.service(&service, user.used(), "it runs as root", help);
            }
            continue;
        }
        // Qdrant has a rule of its own.
        if service.engine() == Some(Engine::Qdrant) {
            continue;
        }
        let (image, built) = (service.image(), service.get("build"));
        if let Some(build) = built {
            built_as_root(facts, &service, build, report);
            continue;
        }
        let Some(image) = image.filter(|image| !image.is_unprivileged()) else {
            continue;
        };
        let known = image.user();
        // R2R's image names no user either, and no user is known that it runs as.
        let is_root = known.is_some() || service.engine() == Some(Engine::R2r);
        let message = match is_root {
            true => "its image starts as root, and it names no `user`",
            false => "it names no `user`, so it is root unless its image says otherwise",
        };
        let help = match known {
            Some(user) => {
                format!("add `user: \"{user}\"`; the files that it mounts must be theirs")
            }
            None => "add `user` with numbers that are not 0".to_owned(),
        };
        let edit = known
            .and_then(|user| add_key(facts.sources, service.entry, &format!("user: \"{user}\"")));
        let path = format!("services.{}.user", service.name);
        let found = report.service(&service, service.entry.key, message, &help);
        found.fix = Fix::risky(edit, &[path]);
        if !is_root {
            found.severity = Severity::Warning;
        }
    }
}

/// A service whose Dockerfile is there and ends as root.
fn built_as_root(facts: &Facts<'_>, service: &Service<'_>, build: &Node, report: &mut Report<'_>) {
    let text = |key: &str| build.get(key).and_then(Node::as_str);
    let Some(context) = text("context").filter(|it| !it.contains("://")) else {
        return;
    };
    if text("target").is_some() {
        return;
    }
    let name = text("dockerfile").unwrap_or("Dockerfile");
    let path = std::path::Path::new(context).join(name);
    let Some(content) = facts.read(&path.display().to_string()) else {
        return;
    };
    let mut sources = crate::source::Sources::default();
    let file = sources.add(name, content);
    let instructions = crate::facts::instructions(&sources, file);
    if root_of_stage(&instructions).is_some() {
        let help = "end its Dockerfile with `USER`, or add `user`";
        report.service(
            service,
            service.entry.key,
            "its Dockerfile ends as root",
            help,
        );
    }
}

/// Where the last stage of a Dockerfile is left as root, and how.
fn root_of_stage(instructions: &[Instruction]) -> Option<(Span, &'static str)> {
    let last = instructions.iter().rposition(|it| it.name == "FROM")?;
    let stage = &instructions[last..];
    match stage.iter().rev().find(|it| it.name == "USER") {
        Some(user) if is_root(&user.arguments) => Some((user.span, "the image runs as root")),
        Some(_) => None,
        None => {
            let mut words = stage[0]
                .arguments
                .split_whitespace()
                .filter(|it| !it.starts_with("--"));
            let base = words.next().unwrap_or_default();
            let earlier = instructions[..last].iter().any(|it| {
                it.name == "FROM" && it.arguments.split_whitespace().last() == Some(base)
            });
            let safe = Image::parse(base).is_none_or(|it| it.is_unprivileged());
            (!earlier && !safe).then_some((
                stage[0].span,
                "no `USER` is named, so the image runs as root",
            ))
        }
    }
}

pub(super) fn read_only(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in containers(facts).filter(|it| !it.get("read_only").is_some_and(is_true)) {
        let help = "add `read_only: true`, and `tmpfs` where it must write";
        report.service(
            &service,
            service.entry.key,
            "it may write to its own files",
            help,
        );
    }
}

/// Folders of the host that hold it all.
const SENSITIVE: [&str; 12] = [
    "/etc",
    "/proc",
    "/sys",
    "/root",
    "/boot",
    "/dev",
    "/var/run",
    "/run",
    "/var/lib/docker",
    "/usr",
    "/lib",
    "/home",
];

pub(super) fn host_path(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in containers(facts) {
        for mount in service.list("volumes") {
            let text = |key: &str| mount.get(key).and_then(Node::as_str).unwrap_or_default();
            if text("type") != "bind" {
                continue;
            }
            let source = text("source");
            let secret = source.ends_with("/.ssh")
                || source.ends_with("/.aws")
                || source.ends_with("/.kube");
            if SENSITIVE.contains(&source) || source == "/" || secret {
                let message = format!("it holds `{source}` of the host");
                let help = "mount only what it needs";
                report.service(&service, mount.used(), &message, help);
            }
            let propagation = mount.at(&["bind", "propagation"]).and_then(Node::as_str);
            if propagation.is_some_and(|it| it.contains("shared")) {
                let help = "leave `propagation` out";
                report.service(
                    &service,
                    mount.used(),
                    "what it mounts appears on the host",
                    help,
                );
            }
        }
        for device in service.list("devices") {
            let source = device
                .get("source")
                .and_then(Node::as_str)
                .unwrap_or_default();
            let disk = ["/dev/sd", "/dev/nvme", "/dev/vd", "/dev/mem", "/dev/kmem"];
            if disk.iter().any(|it| source.starts_with(it)) {
                let message = format!("it holds the device `{source}`");
                report.service(&service, device.used(), &message, "take it away");
            }
        }
    }
}

pub(super) fn restart(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in containers(facts).filter(|it| !facts.runs_once(it)) {
        let policy = service
            .get("restart")
            .or(service.at(&["deploy", "restart_policy"]));
        if policy.is_none() {
            let edit = add_key(facts.sources, service.entry, "restart: unless-stopped");
            let path = format!("services.{}.restart", service.name);
            report
                .service(
                    &service,
                    service.entry.key,
                    "it stays down when it ends",
                    "add `restart: unless-stopped`",
                )
                .fix = Fix::risky(edit, &[path]);
        }
    }
}

pub(super) fn logging(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in containers(facts) {
        let driver = service.at(&["logging", "driver"]).and_then(Node::as_str);
        let bound = service.at(&["logging", "options", "max-size"]).is_some();
        if driver.is_none_or(|it| it == "json-file") && !bound {
            let help =
                "add `logging: {driver: json-file, options: {max-size: 10m, max-file: \"3\"}}`";
            report.service(
                &service,
                service.entry.key,
                "its log grows without end",
                help,
            );
        }
    }
}
