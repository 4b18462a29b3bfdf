//! Rules about health checks.

use super::{Facts, Report, Service};
use crate::{
    source::Span,
    tree::{Node, Value},
};

/// A health check as one line, with its place; nothing if there is none or it is off.
fn test<'a>(service: &Service<'a>) -> Option<(String, Span)> {
    let off = service.at(&["healthcheck", "disable"]);
    if off.is_some_and(|it| it.value == Value::Bool(true)) {
        return None;
    }
    let test = service.at(&["healthcheck", "test"])?;
    let line = match &test.value {
        Value::Text(line) => line.clone(),
        Value::List(words) => {
            let words: Vec<&str> = words.iter().filter_map(Node::as_str).collect();
            match words.split_first() {
                None | Some((&"NONE", _)) => return None,
                Some((&("CMD" | "CMD-SHELL"), rest)) => rest.join(" "),
                Some(_) => words.join(" "),
            }
        }
        _ => return None,
    };
    Some((line, test.used())).filter(|(line, _)| !line.trim().is_empty())
}

/// Whether others wait until the service is through.
fn runs_once(facts: &Facts<'_>, name: &str) -> bool {
    facts.services().any(|other| {
        let condition = other.at(&["depends_on", name, "condition"]);
        condition.and_then(Node::as_str) == Some("service_completed_successfully")
    })
}

pub(super) fn missing(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        let once = service.get("restart").and_then(Node::as_str) == Some("no");
        if service.get("provider").is_some() || once || runs_once(facts, service.name) {
            continue;
        }
        if test(&service).is_none() {
            let help = "add `healthcheck` with a `test` that fails when the service cannot work";
            report.service(&service, service.entry.key, "it has no health check", help);
        }
    }
}

pub(super) fn cannot_fail(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        let Some((line, span)) = test(&service) else {
            continue;
        };
        let line = line.trim();
        let is = |word: &str| {
            line.split_whitespace()
                .next()
                .is_some_and(|it| it.ends_with(word))
        };
        let flags = || line.split_whitespace().filter(|it| it.starts_with('-'));
        let short = |c: char| flags().any(|it| !it.starts_with("--") && it.contains(c));
        let alone = !line.contains(['|', '&', ';']);
        let why = if line == "true"
            || line == "exit 0"
            || line.ends_with("|| true")
            || line.ends_with("; true")
            || line.ends_with("|| exit 0")
            || line.ends_with("; exit 0")
        {
            "its health check always passes"
        } else if is("redis-cli") && line.contains("ping") && alone && !short('e') {
            "`redis-cli ping` passes when it is refused; add `| grep -q PONG`"
        } else if is("curl") && alone && !short('f') && !flags().any(|it| it.starts_with("--fail"))
        {
            "`curl` without `-f` passes when the server answers with an error"
        } else {
            continue;
        };
        report.service(
            &service,
            span,
            why,
            "let the check fail when the service cannot work",
        );
    }
}

pub(super) fn dev_tcp(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        if let Some((line, span)) = test(&service)
            && line.contains("/dev/tcp")
            && !line.contains("bash")
        {
            let why = "`/dev/tcp` is known to bash only; other shells always fail";
            report.service(
                &service,
                span,
                why,
                "start the check with `[CMD, bash, -c, …]`",
            );
        }
    }
}

/// Waiting until a service is healthy that never says so.
pub(super) fn waits_in_vain(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        let needed = service.get("depends_on").and_then(Node::as_map);
        for (name, entry) in needed.into_iter().flatten() {
            let condition = entry.node.get("condition");
            let Some(condition) = condition.filter(|it| it.as_str() == Some("service_healthy"))
            else {
                continue;
            };
            let Some(other) = facts.services().find(|other| other.name == name) else {
                continue;
            };
            // An image that we do not build may bring a check of its own; one that is switched
            // off is off all the same.
            let off = other.get("healthcheck").is_some() && test(&other).is_none();
            if off || (other.get("healthcheck").is_none() && other.get("build").is_none()) {
                let message =
                    format!("it waits until `{name}` is healthy, which has no health check");
                report.service(
                    &service,
                    condition.used(),
                    &message,
                    "give that service a `healthcheck`",
                );
            }
        }
    }
}
