//! Rules about what a container may do and use.

use super::Report;
use crate::{
    facts::{Facts, Image, Part, Service},
    finding::Severity,
    fix::{Edit, Fix, add_key, before_value, quoted},
    tree::{Node, Value},
};

pub(super) fn limits(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services().filter(|it| it.get("provider").is_none()) {
        let limit = |key: &str| service.at(&["deploy", "resources", "limits", key]);
        let memory = service.get("mem_limit").or(limit("memory"));
        let cpus = service.get("cpus").or(limit("cpus"));
        let message = match (memory, cpus) {
            (Some(_), Some(_)) => continue,
            (None, Some(_)) => "it may use all memory",
            (Some(_), None) => "it may use all processors",
            (None, None) => "it may use all memory and all processors",
        };
        let help = "set `deploy.resources.limits` with `memory` and `cpus`";
        report.service(&service, service.entry.key, message, help);
    }
}

/// Adds a value to a list of a service, which it may not have yet.
fn with_value(facts: &Facts<'_>, service: &Service<'_>, key: &str, value: &str) -> Option<Edit> {
    let sources = facts.sources;
    match service.entry.node.get(key) {
        Some(list) => before_value(sources, list, &quoted(value)),
        None => add_key(
            sources,
            service.entry,
            &format!("{key}: [{}]", quoted(value)),
        ),
    }
}

pub(super) fn no_new_privileges(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services().filter(|it| it.get("provider").is_none()) {
        let set = service.texts("security_opt").any(|(option, _)| {
            matches!(
                option,
                "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true"
            )
        });
        if !set {
            let help = "add `security_opt: [no-new-privileges:true]`";
            let fix = Fix::safe(
                with_value(facts, &service, "security_opt", "no-new-privileges:true"),
                &[format!("services.{}.security_opt", service.name)],
            );
            report
                .service(
                    &service,
                    service.entry.key,
                    "its processes may gain privileges",
                    help,
                )
                .fix = fix;
        }
    }
}

pub(super) fn capabilities(facts: &Facts<'_>, report: &mut Report<'_>) {
    let is_all = |text: &str| matches!(text.to_ascii_uppercase().as_str(), "ALL" | "CAP_ALL");
    for service in facts.services().filter(|it| it.get("provider").is_none()) {
        if let Some((_, span)) = service.texts("cap_add").find(|(it, _)| is_all(it)) {
            report.service(
                &service,
                span,
                "it has every capability",
                "name those that it needs",
            );
        } else if !service.texts("cap_drop").any(|(it, _)| is_all(it)) {
            let help = "add `cap_drop: [ALL]`, and `cap_add` for those that it needs";
            let fix = Fix::risky(
                with_value(facts, &service, "cap_drop", "ALL"),
                &[format!("services.{}.cap_drop", service.name)],
            );
            report
                .service(
                    &service,
                    service.entry.key,
                    "it keeps capabilities that it may not need",
                    help,
                )
                .fix = fix;
        }
    }
}

pub(super) fn privileged(facts: &Facts<'_>, report: &mut Report<'_>) {
    let help = "take it away, or move what needs it into a service of its own";
    for service in facts.services() {
        if let Some(node) = service.get("privileged")
            && node.value == Value::Bool(true)
        {
            report.service(&service, node.used(), "it is privileged", help);
        }
        for key in ["network_mode", "pid", "ipc", "uts", "userns_mode"] {
            if let Some(node) = service.get(key)
                && node.as_str() == Some("host")
            {
                let message = format!("`{key}` is shared with the host");
                report.service(&service, node.used(), &message, help);
            }
        }
        for (option, span) in service.texts("security_opt") {
            if option.ends_with("unconfined") || matches!(option, "label:disable" | "label=disable")
            {
                let message = format!("`{option}` takes a protection away");
                report.service(&service, span, &message, help);
            }
        }
    }
}

pub(super) fn docker_socket(facts: &Facts<'_>, report: &mut Report<'_>) {
    let help = "who reaches the socket is root on the host; put a proxy that filters before it";
    for service in facts.services() {
        for mount in service
            .get("volumes")
            .and_then(Node::as_list)
            .unwrap_or_default()
        {
            let source = mount
                .get("source")
                .and_then(Node::as_str)
                .unwrap_or_default();
            if source.ends_with("docker.sock") || source.ends_with(r"pipe\docker_engine") {
                report.service(&service, mount.used(), "it holds Docker's socket", help);
            }
        }
        if let Some(node) = service.get("use_api_socket")
            && node.value == Value::Bool(true)
        {
            report.service(&service, node.used(), "it holds Docker's socket", help);
        }
    }
}

/// The base images of a Dockerfile.
fn floating_base(facts: &Facts<'_>, report: &mut Report<'_>) {
    let Part::Dockerfile(instructions) = &facts.part else {
        return;
    };
    let mut stages: Vec<String> = Vec::new();
    for from in instructions.iter().filter(|it| it.name == "FROM") {
        let mut words = from
            .arguments
            .split_whitespace()
            .filter(|it| !it.starts_with("--"));
        let base = words.next().unwrap_or_default();
        if base != "scratch"
            && !stages.iter().any(|it| it.eq_ignore_ascii_case(base))
            && let Some(why) = floats(base)
        {
            let help = "name a version, better its digest";
            report.add(from.span, "FROM", why, help);
        }
        stages.extend(words.next_back().map(str::to_owned));
    }
}

/// Why the same name may mean another image tomorrow.
fn floats(image: &str) -> Option<String> {
    let image = Image::parse(image).filter(|image| !image.pinned)?;
    match image.tag {
        None => Some("its image has no tag".to_owned()),
        Some(tag @ ("latest" | "stable" | "main" | "master" | "edge" | "nightly")) => {
            Some(format!("the tag `{tag}` of its image moves"))
        }
        Some(_) => None,
    }
}

/// Whether a tag names only the first number of a version.
fn names_major(image: &str) -> bool {
    let image = Image::parse(image).filter(|image| !image.pinned);
    let tag = image.and_then(|image| image.tag).unwrap_or_default();
    let number = tag.split('-').next().unwrap_or_default();
    !number.is_empty() && number.len() < 5 && number.chars().all(|c| c.is_ascii_digit())
}

pub(super) fn floating_image(facts: &Facts<'_>, report: &mut Report<'_>) {
    floating_base(facts, report);
    for service in facts.services().filter(|it| it.get("build").is_none()) {
        let Some(node) = service.get("image") else {
            continue;
        };
        let image = node.as_str().unwrap_or_default();
        let message = match floats(image) {
            Some(message) => message,
            None if names_major(image) => {
                let message = "its tag names only the first number of a version, so it moves";
                report
                    .service(&service, node.used(), message, "name the whole version")
                    .severity = Severity::Note;
                continue;
            }
            None => continue,
        };
        report.service(
            &service,
            node.used(),
            &message,
            "name a version, better its digest",
        );
    }
}
