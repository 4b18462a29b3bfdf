//! Rules about PostgreSQL and what stands before it.

use super::{Report, container::memory_limit};
use crate::{
    facts::{self, Engine, Facts, Service, size},
    finding::Severity,
    fix::{Fix, replace},
    tree::Node,
};

/// Connections that PostgreSQL takes if nothing is said.
const USUAL_CONNECTIONS: u64 = 100;
/// Connections that it keeps for superusers.
const RESERVED: u64 = 3;
/// Most shared buffers that help.
const MOST_BUFFERS: u64 = 8 << 30;

fn servers<'a>(facts: &Facts<'a>, engine: Engine) -> impl Iterator<Item = Service<'a>> + use<'a> {
    facts
        .services()
        .filter(move |it| it.engine() == Some(engine))
}

/// Whether the tag of an image is that of PostgreSQL's own version.
fn major(service: &Service<'_>) -> Option<u32> {
    let image = service.image()?;
    let own = matches!(image.last(), "postgres" | "postgresql");
    let named = image.tag.is_some_and(|tag| tag.contains("pg"));
    image
        .major()
        .filter(|it| (own || named) && (8..40).contains(it))
}

pub(super) fn version(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::Postgres) {
        if let (Some(major), Some(image)) = (major(&service), service.get("image"))
            && major < 16
        {
            let message = format!("PostgreSQL {major} is old; 16 and 17 are what is tested");
            report.service(&service, image.used(), &message, "move to 17");
        }
    }
}

/// Where the image keeps its data if nothing is said.
const OLD_DATA: &str = "/var/lib/postgresql/data";
const NEW_DATA: &str = "/var/lib/postgresql";

pub(super) fn data_mount(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::Postgres) {
        let official = service
            .image()
            .is_some_and(|it| matches!(it.last(), "postgres" | "pgvector"));
        if !official {
            continue;
        }
        let is_new = major(&service).is_some_and(|it| it >= 18);
        let said = service.env_text("PGDATA");
        let usual = if is_new { NEW_DATA } else { OLD_DATA };
        let data = said.as_deref().unwrap_or(usual);
        let mounts = || {
            let tmpfs = service.list("tmpfs").iter();
            let volumes = service.list("volumes").iter();
            volumes.chain(tmpfs).filter_map(|it| {
                let at = it.get("target").and_then(Node::as_str).or(it.as_str())?;
                let at = at.split(':').next().unwrap_or(at);
                Some((it, at.trim_end_matches('/')))
            })
        };
        if is_new && said.is_none() {
            if let Some((mount, _)) = mounts().find(|(_, at)| *at == OLD_DATA) {
                let message = "since version 18 the data is in a folder of its version below `/var/lib/postgresql`: this mount keeps it from starting";
                let help = "mount `/var/lib/postgresql`";
                report.service(&service, mount.used(), message, help);
            }
            continue;
        }
        let covered = mounts().any(|(_, at)| data == at || data.starts_with(&format!("{at}/")));
        if !covered {
            let message =
                format!("nothing is mounted at `{data}`, so its data goes with the container");
            let help = "mount a named volume there";
            report
                .service(&service, service.entry.key, &message, help)
                .severity = Severity::Warning;
        }
    }
}

pub(super) fn tls(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::Postgres) {
        let conf = facts::postgres(facts, &service);
        let help = "start it with `-c ssl=on`, a certificate and a key, and `hostssl` lines";
        match conf.get("ssl") {
            Some(("on" | "true" | "yes" | "1", _)) => {}
            Some((_, span)) => {
                report.service(&service, span, "its connections are not encrypted", help);
            }
            None if conf.is_whole() => {
                let key = service.entry.key;
                report.service(&service, key, "its connections are not encrypted", help);
            }
            None => {}
        }
        if let Some((least, span)) = conf.get("ssl_min_protocol_version")
            && matches!(least, "TLSv1" | "TLSv1.1")
        {
            report.service(
                &service,
                span,
                "it takes TLS below 1.2",
                "leave the setting out",
            );
        }
    }
}

pub(super) fn pooling(facts: &Facts<'_>, report: &mut Report<'_>) {
    if servers(facts, Engine::Pooler).next().is_some() {
        return;
    }
    let pools = facts.settings.iter().any(|setting| {
        setting.name.to_ascii_uppercase().contains("POOL") || setting.value.contains("pool_size=")
    });
    if pools {
        return;
    }
    for service in servers(facts, Engine::Postgres) {
        let asked = facts
            .services()
            .any(|it| it.at(&["depends_on", service.name]).is_some());
        if asked {
            let message = "nothing pools the connections to it";
            let help = "put PgBouncer before it, or set the pool of each client";
            report.service(&service, service.entry.key, message, help);
        }
    }
}

pub(super) fn tuning(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::Postgres) {
        let conf = facts::postgres(facts, &service);
        if let Some(("off" | "false" | "no" | "0", span)) = conf.get("autovacuum") {
            report.service(
                &service,
                span,
                "dead rows are never removed",
                "leave `autovacuum` on",
            );
        }
        // Without a unit it is blocks of 8 kB.
        let buffers = conf
            .get("shared_buffers")
            .and_then(|(it, span)| Some((size(it, 8192)?, span)));
        if let Some((buffers, span)) = buffers {
            let limit = memory_limit(&service);
            let much = limit.is_some_and(|limit| buffers > limit / 5 * 2) || buffers > MOST_BUFFERS;
            let little =
                limit.is_some_and(|limit| buffers < limit / 100 * 15) && buffers < MOST_BUFFERS;
            if much || little {
                let message = format!(
                    "`shared_buffers` is too {}",
                    if much { "large" } else { "small" }
                );
                let help = "about a quarter of its memory, at most 8 GB";
                report.service(&service, span, &message, help);
            }
        }
        if let Some((part, span)) = conf.get("checkpoint_completion_target")
            && part.parse::<f64>().is_ok_and(|it| it < 0.7)
        {
            let message = "checkpoints write in bursts";
            report.service(
                &service,
                span,
                message,
                "set `checkpoint_completion_target` to 0.9",
            );
        }
    }
}

pub(super) fn timeouts(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::Postgres) {
        let conf = facts::postgres(facts, &service);
        if !conf.is_whole() {
            continue;
        }
        let bounded = |name: &str| conf.get(name).is_some_and(|(it, _)| it != "0");
        let names = ["statement_timeout", "idle_in_transaction_session_timeout"];
        if !names.iter().any(|it| bounded(it)) {
            let message = "statements and idle transactions may last forever";
            let help = "set `-c idle_in_transaction_session_timeout=60s`, and `statement_timeout` for each client";
            report.service(&service, service.entry.key, message, help);
        }
    }
}

pub(super) fn vector(facts: &Facts<'_>, report: &mut Report<'_>) {
    let needs = servers(facts, Engine::R2r).next().is_some();
    for service in servers(facts, Engine::Postgres).filter(|_| needs) {
        let plain = service
            .image()
            .filter(|it| it.last() == "postgres" && !it.repository.contains("supabase"));
        if let (Some(_), Some(image)) = (plain, service.get("image"))
            && service.get("build").is_none()
        {
            let message = "R2R makes the extension `vector`, which this image does not hold";
            let help = "use `pgvector/pgvector` with the same version";
            report.service(&service, image.used(), message, help);
        }
    }
}

/// A variable of a pooler, under the names that its images know.
fn told<'a>(service: &Service<'a>, name: &str) -> Option<&'a Node> {
    let long = format!("PGBOUNCER_{name}");
    service
        .env(name)
        .or(service.env(&long))
        .filter(|it| !it.is_null())
}

fn has_file(service: &Service<'_>) -> bool {
    let is = |it: &Node| {
        let target = it.get("target").and_then(Node::as_str).unwrap_or_default();
        target.contains("pgbouncer") || target.ends_with(".ini") || target.ends_with(".toml")
    };
    ["volumes", "configs", "secrets"]
        .iter()
        .any(|key| service.list(key).iter().any(is))
}

pub(super) fn pool_size(facts: &Facts<'_>, report: &mut Report<'_>) {
    let most: Vec<u64> = servers(facts, Engine::Postgres)
        .map(|service| {
            let conf = facts::postgres(facts, &service);
            conf.get("max_connections")
                .and_then(|(it, _)| it.parse().ok())
                .unwrap_or(USUAL_CONNECTIONS)
        })
        .collect();
    let [most] = most.as_slice() else {
        return;
    };
    for service in servers(facts, Engine::Pooler) {
        let Some(node) = told(&service, "DEFAULT_POOL_SIZE") else {
            continue;
        };
        let pool: Option<u64> = node.scalar_text().and_then(|it| it.parse().ok());
        if pool.is_some_and(|pool| pool > most.saturating_sub(RESERVED)) {
            let message = format!("its pool is larger than the {most} connections of the server");
            report.service(&service, node.used(), &message, "make the pool smaller");
        }
    }
}

pub(super) fn pool_mode(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::Pooler) {
        let mode = told(&service, "POOL_MODE").and_then(Node::as_str);
        if mode != Some("transaction") {
            continue;
        }
        let kept = told(&service, "MAX_PREPARED_STATEMENTS");
        let none = kept.filter(|it| it.scalar_text().as_deref() == Some("0"));
        let version = service.image().map(|it| it.version()).unwrap_or_default();
        let old = version.first() == Some(&1) && version.get(1).is_some_and(|it| *it < 21);
        let help = "PgBouncer 1.21 or newer with `MAX_PREPARED_STATEMENTS` above 0, or clients that prepare nothing";
        if let Some(node) = none {
            let message = "prepared statements get lost between transactions";
            report.service(&service, node.used(), message, help);
        } else if old && let Some(image) = service.get("image") {
            let message = "this version loses prepared statements between transactions";
            report.service(&service, image.used(), message, help);
        }
    }
}

pub(super) fn pooler_tls(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::Pooler).filter(|it| !has_file(it)) {
        for (name, fine, side) in [
            (
                "CLIENT_TLS_SSLMODE",
                &["require", "verify-ca", "verify-full"][..],
                "clients",
            ),
            ("SERVER_TLS_SSLMODE", &["verify-full"][..], "the server"),
        ] {
            let node = told(&service, name);
            let mode = node.and_then(Node::as_str);
            if mode.is_some_and(|mode| fine.contains(&mode)) {
                continue;
            }
            let message = format!(
                "its connections with {side} are not safe: `{name}` is not {}",
                fine[0]
            );
            let help = format!("set `{name}: {}`", fine[0]);
            let span = node.map_or(service.entry.key, Node::used);
            let edit = node.and_then(|node| replace(facts.sources, node, fine[0]));
            let path = format!("services.{}.environment", service.name);
            report.service(&service, span, &message, &help).fix = Fix::risky(edit, &[path]);
        }
    }
}
