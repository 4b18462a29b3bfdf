//! Rules about Redis.

use super::{Report, container::memory_limit};
use crate::{
    facts::{self, Engine, Facts, ServerConf, Service, size},
    finding::Severity,
    tree::Node,
};

fn servers<'a>(facts: &Facts<'a>) -> Vec<(Service<'a>, ServerConf)> {
    let all = facts
        .services()
        .filter(|it| it.engine() == Some(Engine::Redis));
    all.map(|service| {
        let conf = facts::redis(facts, &service);
        (service, conf)
    })
    .collect()
}

/// Reports what is absent: as a note if the file that may say it could not be read.
fn absent(
    report: &mut Report<'_>,
    service: &Service<'_>,
    conf: &ServerConf,
    message: &str,
    help: &str,
) {
    let message = match conf.is_whole() {
        true => message.to_owned(),
        false => format!("{message}, unless what we cannot read says otherwise"),
    };
    let found = report.service(service, service.entry.key, &message, help);
    if !conf.is_whole() {
        found.severity = Severity::Note;
    }
}

pub(super) fn auth(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (service, conf) in servers(facts) {
        let help = "give it `aclfile` with the default user off, mounted as a secret";
        if let Some((_, span)) = conf.get("requirepass")
            && span != service.entry.key
        {
            let written = facts.sources.text(span).unwrap_or_default();
            if !written.contains('$') {
                report.hide(span);
            }
            let message = "its password is in the list of processes";
            report.service(&service, span, message, help).severity = Severity::Warning;
            continue;
        }
        let users: Vec<&str> = conf.all("user").collect();
        let open = |user: &&str| user.starts_with("default ") && user.contains("nopass");
        if users.iter().any(open) {
            let key = service.entry.key;
            report.service(&service, key, "its default user needs no password", help);
        } else if !conf.has("requirepass") && !conf.has("aclfile") && users.is_empty() {
            absent(report, &service, &conf, "it lets everybody in", help);
        }
    }
}

pub(super) fn tls(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (service, conf) in servers(facts) {
        let help = "set `port 0`, `tls-port 6379` and certificate, key and authority";
        match conf.get("tls-port") {
            None => absent(
                report,
                &service,
                &conf,
                "its connections are not encrypted",
                help,
            ),
            Some(_) if conf.get("port").is_none_or(|(it, _)| it != "0") => {
                absent(report, &service, &conf, "it also listens without TLS", help);
            }
            Some(_) => {}
        }
        if let Some((protocols, span)) = conf.get("tls-protocols")
            && (protocols.contains("TLSv1.1")
                || protocols.split_whitespace().any(|it| it == "TLSv1"))
        {
            report.service(
                &service,
                span,
                "it takes TLS below 1.2",
                "name TLSv1.2 and TLSv1.3",
            );
        }
    }
}

pub(super) fn protected_mode(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (service, conf) in servers(facts) {
        let help = "say `protected-mode yes`: the official image switches it off";
        match conf.get("protected-mode") {
            Some(("yes", _)) => {}
            Some((_, span)) => {
                report.service(&service, span, "its protected mode is off", help);
            }
            None => absent(report, &service, &conf, "its protected mode is off", help),
        }
    }
}

pub(super) fn bind(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (service, conf) in servers(facts) {
        let help = "name the interfaces; in a container `* -::*` together with a password and TLS";
        match conf.get("bind") {
            Some(("127.0.0.1" | "127.0.0.1 -::1" | "127.0.0.1 ::1" | "localhost", span)) => {
                let message = "no other container reaches it: it listens on its own loopback only";
                report.service(&service, span, message, help).severity = Severity::Error;
            }
            Some(_) => {}
            None if conf.is_whole() => {
                let key = service.entry.key;
                report.service(&service, key, "it does not say where it listens", help);
            }
            None => {}
        }
    }
}

pub(super) fn memory(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (service, conf) in servers(facts) {
        let help = "set `maxmemory` to at most three quarters of its limit, and `maxmemory-policy`";
        match conf.get("maxmemory") {
            None if conf.is_whole() => {
                let key = service.entry.key;
                report.service(&service, key, "it takes memory without end", help);
            }
            None => {}
            Some((text, span)) => {
                let most = size(text, 1);
                let limit = memory_limit(&service);
                if let (Some(most), Some(limit)) = (most, limit)
                    && most > limit / 4 * 3
                {
                    let message = "`maxmemory` leaves too little of its limit for all else";
                    report.service(&service, span, message, help);
                }
                if !conf.has("maxmemory-policy") && conf.is_whole() {
                    let message = "it does not say what goes when memory is full";
                    report.service(&service, span, message, help);
                }
            }
        }
    }
}

pub(super) fn persistence(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (service, conf) in servers(facts) {
        let mount = |it: &Node| {
            let at = it.get("target").and_then(Node::as_str).unwrap_or_default();
            at == "/data" || at.contains("redis/data") || at.contains("valkey/data")
        };
        let mounted = service.list("volumes").iter().any(mount);
        let keeps = conf.get("appendonly").is_some_and(|(it, _)| it == "yes");
        let off = conf.get("save").is_some_and(|(it, _)| it.is_empty());
        if keeps && !mounted {
            let message = "it keeps a log, but nothing is mounted at `/data`";
            report.service(
                &service,
                service.entry.key,
                message,
                "mount a named volume at `/data`",
            );
        } else if mounted && !keeps && conf.is_whole() {
            let help = "say `appendonly yes`, or take the volume away if all of it may be lost";
            let message = match off {
                true => "it has a volume and writes nothing there",
                false => "it has a volume, but only a copy from time to time goes there",
            };
            report.service(&service, service.entry.key, message, help);
        }
    }
}

pub(super) fn keepalive(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (service, conf) in servers(facts) {
        if let Some(("0", span)) = conf.get("tcp-keepalive") {
            let message = "it never notices that a client is gone";
            report.service(&service, span, message, "leave `tcp-keepalive` at 300");
        }
    }
}

pub(super) fn modules(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (service, _) in servers(facts) {
        let Some(image) = service.image() else {
            continue;
        };
        let old = image.last() == "redis" && image.major().is_some_and(|it| it < 8);
        if let Some(node) = service
            .get("image")
            .filter(|_| old || image.last() == "valkey")
        {
            let message =
                "LangGraph's own Redis checkpointer does not work there: it needs JSON and Search";
            let help = "Redis 8 or Redis Stack; AgentFlow's checkpointer needs neither";
            report.service(&service, node.used(), message, help);
        }
    }
}

pub(super) fn alone(facts: &Facts<'_>, report: &mut Report<'_>) {
    let all = servers(facts);
    let [(service, conf)] = all.as_slice() else {
        return;
    };
    let sentinel = service
        .words("command")
        .iter()
        .any(|(it, _)| it.contains("sentinel"));
    if !conf.has("replicaof") && !conf.has("cluster-enabled") && !sentinel {
        let message = "it is one server: when it is down, all that it holds is";
        report.service(
            service,
            service.entry.key,
            message,
            "add a replica and sentinels, or live with it",
        );
    }
}
