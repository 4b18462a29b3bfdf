//! Rules about health checks.

use super::Report;
use crate::{
    facts::{Engine, Facts, Service, all_urls},
    finding::Severity,
    fix::{Edit, Fix, add_key, after_value, quoted, replace, replace_list},
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

pub(super) fn missing(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        if service.get("provider").is_some() || facts.runs_once(&service) {
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
        let help = "let the check fail when the service cannot work";
        let fix = Fix::safe(
            able_to_fail(facts, &service),
            &[format!("services.{}.healthcheck.test", service.name)],
        );
        report.service(&service, span, why, help).fix = fix;
    }
}

/// The check with what it lacks: `-f` for `curl`, a look at the answer for `redis-cli ping`.
fn able_to_fail(facts: &Facts<'_>, service: &Service<'_>) -> Option<Edit> {
    let sources = facts.sources;
    let node = service.at(&["healthcheck", "test"])?;
    let (line, _) = test(service)?;
    let first = line.split_whitespace().next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:= ".contains(c);
    if first.ends_with("redis-cli") && line.chars().all(plain) {
        let asked = quoted(&format!("{line} | grep -q PONG"));
        return match node.as_list() {
            Some(_) => replace_list(sources, node, format!("[\"CMD-SHELL\", {asked}]")),
            None => replace(sources, node, asked),
        };
    }
    if !first.ends_with("curl") {
        return None;
    }
    let items = node.as_list()?;
    let is_curl = |it: &Node| it.as_str().is_some_and(|it| it.ends_with("curl"));
    let at = items.iter().position(is_curl)?;
    after_value(sources, node, at, "\"-f\"")
}

pub(super) fn dev_tcp(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        if let Some((line, span)) = test(&service)
            && line.contains("/dev/tcp")
            && !line.contains("bash")
        {
            let why = "`/dev/tcp` is known to bash only; other shells always fail";
            let help = "start the check with `[CMD, bash, -c, …]`";
            let node = service.at(&["healthcheck", "test"]);
            let bash = format!("[\"CMD\", \"bash\", \"-c\", {}]", quoted(&line));
            let edit = node.and_then(|node| match node.as_list() {
                Some(items) if items.len() == 2 => replace_list(facts.sources, node, bash),
                Some(_) => None,
                None => replace(facts.sources, node, bash),
            });
            let path = format!("services.{}.healthcheck.test", service.name);
            report.service(&service, span, why, help).fix = Fix::safe(edit, &[path]);
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

/// A time as Compose writes it, in milliseconds.
fn milliseconds(node: &Node) -> Option<u64> {
    let text = node.scalar_text()?;
    let mut rest = text.as_str();
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let end = unit
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(unit.len());
        total += number
            * match &unit[..end] {
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" => 1000.0,
                "ms" => 1.0,
                "us" | "µs" | "ns" => 0.0,
                _ => return None,
            };
        rest = &unit[end..];
    }
    Some(total as u64)
}

/// Shortest pause between checks.
const LEAST_INTERVAL_MS: u64 = 1000;
/// Longest pause between checks.
const MOST_INTERVAL_MS: u64 = 60_000;
/// Longest time until a dead service counts as unhealthy.
const MOST_BLIND_MS: u64 = 300_000;

pub(super) fn timing(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services().filter(|it| test(it).is_some()) {
        let part = |key: &str| service.at(&["healthcheck", key]);
        let time = |key: &str| Some((part(key)?, part(key).and_then(milliseconds)?));
        let retries = part("retries").and_then(Node::scalar_text);
        let retries: u64 = retries.and_then(|it| it.parse().ok()).unwrap_or(3);
        let interval = time("interval");
        let help = "check every 5 to 60 seconds, with a timeout below that and 2 to 10 retries";
        if let Some((node, pause)) = interval {
            let message = match pause {
                0..LEAST_INTERVAL_MS => "it is checked more than once in a second",
                MOST_INTERVAL_MS.. if pause > MOST_INTERVAL_MS => {
                    "it is checked less than once a minute"
                }
                _ if pause * retries > MOST_BLIND_MS => {
                    "it may be dead for more than five minutes before it counts as unhealthy"
                }
                _ => "",
            };
            if !message.is_empty() {
                report.service(&service, node.used(), message, help);
            }
        }
        if let (Some((_, pause)), Some((node, timeout))) = (interval, time("timeout"))
            && timeout > pause
        {
            let message = "a check may take longer than the pause between checks";
            report.service(&service, node.used(), message, help);
        }
        if let Some(node) = part("retries")
            && retries < 2
        {
            let message = "one failed check makes it unhealthy";
            report.service(&service, node.used(), message, help);
        }
    }
}

pub(super) fn start_period(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services().filter(|it| test(it).is_some()) {
        let Some(check) = service.get("healthcheck") else {
            continue;
        };
        if check.get("start_period").is_some() {
            continue;
        }
        let is_store = service.engine().is_some_and(|engine| engine.is_store());
        let help = "add `start_period` with the time that a start may take";
        let key = service
            .entry
            .node
            .as_map()
            .and_then(|map| map.get("healthcheck"));
        let entry = key.unwrap_or(service.entry);
        let edit = add_key(facts.sources, entry, "start_period: 30s");
        let path = format!("services.{}.healthcheck.start_period", service.name);
        let message = "checks count while it still starts";
        let found = report.service(&service, entry.key, message, help);
        found.fix = Fix::risky(edit, &[path]);
        if !is_store {
            found.severity = Severity::Note;
        }
    }
}

/// The programs that a check starts, as far as they are plain words.
fn programs(line: &str) -> impl Iterator<Item = &str> {
    let parts = line.split(['|', ';', '&']);
    parts.filter_map(|part| {
        let mut words = part.split_whitespace();
        let first = words.next()?;
        first.rsplit('/').next()
    })
}

pub(super) fn tool_missing(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        let Some((line, span)) = test(&service) else {
            continue;
        };
        let Some(image) = service.image().filter(|_| service.get("build").is_none()) else {
            continue;
        };
        let missing = programs(&line).find_map(|program| Some((program, image.lacks(program)?)));
        if let Some((program, why)) = missing {
            let message = format!("its check starts `{program}`, but {why}");
            let help = match service.engine() {
                Some(Engine::Qdrant) => {
                    "ask with what the image holds: `[CMD, bash, -c, \"exec 3<>/dev/tcp/127.0.0.1/6333 && …\"]`"
                }
                _ => "check with a program that the image holds",
            };
            report.service(&service, span, &message, help);
        } else if programs(&line).any(|it| it == "curl")
            && service.engine().is_none_or(|it| it == Engine::R2r)
        {
            let message = "its check starts `curl`, which many images do not hold";
            let help = "make sure that the image holds it";
            report.service(&service, span, message, help).severity = Severity::Note;
        }
    }
}

pub(super) fn wrong_endpoint(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        let Some((line, span)) = test(&service) else {
            continue;
        };
        let right = match service.engine() {
            Some(Engine::Qdrant) => "/readyz",
            Some(Engine::R2r) => "/v3/health",
            _ => continue,
        };
        if !all_urls(&line).any(|url| url.path.trim_end_matches('/') == "/health") {
            continue;
        }
        let message =
            format!("`/health` does not exist there; its check always fails, `{right}` is meant");
        let node = service.at(&["healthcheck", "test"]);
        let edit = node.and_then(|node| within(facts, node, "/health", right));
        let path = format!("services.{}.healthcheck.test", service.name);
        report
            .service(&service, span, &message, &format!("ask `{right}`"))
            .fix = Fix::safe(edit, &[path]);
    }
}

/// Other text in the place of a word of a value that stands where it is used.
fn within(facts: &Facts<'_>, node: &Node, word: &str, other: &str) -> Option<Edit> {
    let written = facts.sources.text(node.span)?;
    let at = written.find(word)?;
    let next = written[at + word.len()..].chars().next();
    let ends = next.is_none_or(|c| !c.is_ascii_alphanumeric());
    if node.alias.is_some() || !ends || written.matches(word).count() != 1 {
        return None;
    }
    let start = node.span.start + at as u32;
    Some(Edit {
        span: Span {
            start,
            end: start + word.len() as u32,
            ..node.span
        },
        text: other.to_owned(),
    })
}

pub(super) fn init_race(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        if service.engine() != Some(Engine::Postgres) {
            continue;
        }
        let Some((line, span)) = test(&service) else {
            continue;
        };
        let asks = line.contains("pg_isready");
        let says = line
            .split_whitespace()
            .any(|it| it.starts_with("-h") || it.starts_with("--host"));
        if !asks || says {
            continue;
        }
        let node = service.at(&["healthcheck", "test"]);
        let edit = node.and_then(|node| with_host(facts, node));
        let path = format!("services.{}.healthcheck.test", service.name);
        let message =
            "`pg_isready` also finds the server that only runs the scripts of the first start";
        report
            .service(
                &service,
                span,
                message,
                "ask over TCP: `pg_isready -h 127.0.0.1`",
            )
            .fix = Fix::safe(edit, &[path]);
    }
}

fn with_host(facts: &Facts<'_>, node: &Node) -> Option<Edit> {
    let items = node.as_list().unwrap_or_default();
    let is_words = items.first().and_then(Node::as_str) == Some("CMD");
    let alone = items
        .iter()
        .position(|it| it.as_str() == Some("pg_isready"));
    match (is_words, alone) {
        (true, Some(at)) => after_value(facts.sources, node, at, "\"--host=127.0.0.1\""),
        _ => within(facts, node, "pg_isready", "pg_isready -h 127.0.0.1"),
    }
}

pub(super) fn shape(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        let Some(items) = service.at(&["healthcheck", "test"]).and_then(Node::as_list) else {
            continue;
        };
        if items.first().and_then(Node::as_str) != Some("CMD") {
            continue;
        }
        let signs = ["||", "&&", "|", ">", "2>&1", ";"];
        let shell = items.iter().any(|it| {
            let text = it.as_str().unwrap_or_default();
            text == "-c" || text == "-lc" || text == "-ec"
        });
        let sign = items
            .iter()
            .find(|it| it.as_str().is_some_and(|it| signs.contains(&it)));
        if let Some(sign) = sign.filter(|_| !shell) {
            let message = "`CMD` starts no shell, so this sign is a word like any other";
            report.service(
                &service,
                sign.used(),
                message,
                "begin with `CMD-SHELL` and one text",
            );
        }
    }
}
