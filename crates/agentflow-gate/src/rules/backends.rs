//! Rules about Qdrant, R2R, and addresses of backends.

use super::Report;
use crate::{
    facts::{Engine, Facts, Service, Setting, Url, all_urls, is_true},
    finding::Severity,
    fix::{Edit, Fix, add_key},
    source::Span,
    tree::Node,
};

fn servers<'a>(facts: &Facts<'a>, engine: Engine) -> impl Iterator<Item = Service<'a>> + use<'a> {
    facts
        .services()
        .filter(move |it| it.engine() == Some(engine))
}

/// Whether a file of its configuration is mounted, which may say what the environment does not.
fn has_config(service: &Service<'_>, folders: &[&str]) -> bool {
    let is = |node: &Node| {
        let at = node
            .get("target")
            .and_then(Node::as_str)
            .unwrap_or_default();
        folders.iter().any(|it| at.starts_with(it))
    };
    ["volumes", "configs", "secrets"]
        .iter()
        .any(|key| service.list(key).iter().any(is))
}

pub(super) fn qdrant_tls(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::Qdrant) {
        if has_config(&service, &["/qdrant/config", "/etc/qdrant"]) {
            continue;
        }
        let key = service.entry.key;
        if !service
            .env("QDRANT__SERVICE__ENABLE_TLS")
            .is_some_and(is_true)
        {
            let help = "set `QDRANT__SERVICE__ENABLE_TLS: \"true\"` and `QDRANT__TLS__CERT`, `QDRANT__TLS__KEY`";
            report.service(&service, key, "its connections are not encrypted", help);
        }
        if service.env("QDRANT__SERVICE__API_KEY").is_none() {
            let help = "give it `service.api_key` in a file at `/qdrant/config/production.yaml`, mounted as a secret";
            report.service(&service, key, "it needs no API key", help);
        }
    }
}

pub(super) fn qdrant_ports(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::Qdrant) {
        for setting in &facts.settings {
            for url in all_urls(&setting.value).filter(|url| url.host == service.name) {
                if url
                    .port
                    .is_some_and(|it| !matches!(it, "6333" | "6334") && !it.contains('$'))
                {
                    let message = format!(
                        "`{}` asks a port on which Qdrant does not listen",
                        setting.name
                    );
                    let help = "6333 for HTTP, 6334 for gRPC";
                    report.add(setting.span, setting.path.clone(), message, help);
                }
            }
        }
    }
}

pub(super) fn qdrant_user(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::Qdrant) {
        let Some(image) = service.image() else {
            continue;
        };
        let user = service.get("user").and_then(Node::scalar_text);
        if user.is_some() || image.is_unprivileged() {
            continue;
        }
        let edit = add_key(facts.sources, service.entry, "user: \"1000:1000\"");
        let path = format!("services.{}.user", service.name);
        let help =
            "use its tag with `-unprivileged`, or `user: \"1000:1000\"`; its volume must be theirs";
        report
            .service(&service, service.entry.key, "it runs as root", help)
            .fix = Fix::risky(edit, &[path]);
    }
}

pub(super) fn r2r_environment(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::R2r) {
        let files = !service.list("env_file").is_empty();
        let key = service.entry.key;
        let port = service.env_text("R2R_PORT");
        let used = |text: &str| text.contains("7272");
        let asked = service
            .list("ports")
            .iter()
            .filter_map(|it| it.get("target").and_then(Node::scalar_text))
            .any(|it| it == "7272")
            || facts.settings.iter().any(|it| {
                all_urls(&it.value).any(|url| url.host == service.name && url.port == Some("7272"))
            });
        let checked =
            service
                .at(&["healthcheck", "test"])
                .is_some_and(|test| match test.as_list() {
                    Some(items) => items.iter().any(|it| it.as_str().is_some_and(used)),
                    None => test.as_str().is_some_and(used),
                });
        if port.as_deref() != Some("7272") && (asked || checked) && !files {
            let message = "it listens on 8000 unless `R2R_PORT` says 7272, which is asked";
            report.service(&service, key, message, "set `R2R_PORT: 7272`");
        }
        let postgres = service
            .map("environment")
            .any(|(name, _)| name.starts_with("R2R_POSTGRES_"));
        if !postgres && !files {
            let message = "it is not told where PostgreSQL is";
            let help =
                "set `R2R_POSTGRES_HOST`, `R2R_POSTGRES_USER`, `R2R_POSTGRES_DBNAME` and the rest";
            report.service(&service, key, message, help);
        }
        if service.env("R2R_SECRET_KEY").is_none() && !files {
            let message = "it signs tokens with a key that everybody knows";
            report
                .service(
                    &service,
                    key,
                    message,
                    "set `R2R_SECRET_KEY`, another for each environment",
                )
                .severity = Severity::Warning;
        }
    }
}

pub(super) fn r2r_parts(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::R2r) {
        let Some(config) = service
            .env("R2R_CONFIG_NAME")
            .filter(|it| it.as_str() == Some("full"))
        else {
            continue;
        };
        let missing: Vec<&str> = ["hatchet", "unstructured"]
            .into_iter()
            .filter(|part| {
                !facts.services().any(|it| {
                    it.name.contains(part) || it.text("image").is_some_and(|it| it.contains(part))
                })
            })
            .collect();
        if !missing.is_empty() {
            let message = format!(
                "its configuration `full` needs {}, which nothing here is",
                missing.join(" and ")
            );
            report.service(
                &service,
                config.used(),
                &message,
                "add those services, or leave `R2R_CONFIG_NAME` out",
            );
        }
    }
}

pub(super) fn r2r_depends(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::R2r) {
        let waits = |engine: Engine| {
            let mut names = service.map("depends_on");
            names.find(|(name, _)| {
                facts
                    .service(name)
                    .is_some_and(|it| it.engine() == Some(engine))
            })
        };
        if servers(facts, Engine::Postgres).next().is_some() && waits(Engine::Postgres).is_none() {
            let message = "it does not wait for PostgreSQL";
            let help = "add it to `depends_on` with `condition: service_healthy`";
            report.service(&service, service.entry.key, message, help);
        }
        if let Some((_, entry)) = waits(Engine::Redis) {
            let message = "it waits for Redis, which R2R never asks";
            report
                .service(
                    &service,
                    entry.key,
                    message,
                    "take Redis out of its `depends_on`",
                )
                .severity = Severity::Note;
        }
    }
}

pub(super) fn r2r_image(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in servers(facts, Engine::R2r) {
        let Some(image) = service.image().filter(|it| it.repository == "sciphi/r2r") else {
            continue;
        };
        let Some(node) = service.get("image") else {
            continue;
        };
        let message = "R2R is published as `sciphiai/r2r`, not under this name";
        let tag = image.tag.map(|it| format!(":{it}")).unwrap_or_default();
        let edit = crate::fix::replace(facts.sources, node, format!("sciphiai/r2r{tag}"));
        let path = format!("services.{}.image", service.name);
        report
            .service(&service, node.used(), message, "write `sciphiai/r2r`")
            .fix = Fix::safe(edit, &[path]);
    }
}

/// Where a part of an address is written.
fn part(facts: &Facts<'_>, setting: &Setting, word: &str) -> Option<Span> {
    let written = facts.sources.text(setting.span)?;
    let at = written.find(word)? as u32;
    Some(Span {
        start: setting.span.start + at,
        end: setting.span.start + at + word.len() as u32,
        ..setting.span
    })
}

/// Addresses as they are written: those that a variable brings in are judged where they stand.
fn written<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (&'a str, Setting)> {
    let sources = facts.sources;
    let settings: Vec<Setting> = facts.settings.clone();
    settings.into_iter().filter_map(move |setting| {
        Some((
            sources.text(setting.span)?.trim_matches(['"', '\'']),
            setting,
        ))
    })
}

pub(super) fn dsn_sslmode(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (text, setting) in written(facts) {
        let Some(url) = Url::parse(text).filter(|url| url.is_postgres() && !url.is_local()) else {
            continue;
        };
        // A placeholder of a whole query may say it.
        if url.query.starts_with('$') || url.host.starts_with('$') {
            continue;
        }
        let key = if url.driver == "asyncpg" {
            "ssl"
        } else {
            "sslmode"
        };
        let mode = url.parameter(key).or(url.parameter("sslmode"));
        if mode.is_some_and(|it| it == "verify-full" || it.contains('$')) {
            continue;
        }
        let (message, edit) = match mode {
            Some(mode) => {
                let pair = format!("{key}={mode}");
                let span = part(facts, &setting, &pair);
                (
                    format!(
                        "`{}` does not verify the server: `{key}={mode}`",
                        setting.name
                    ),
                    span.map(|span| Edit {
                        span,
                        text: format!("{key}=verify-full"),
                    }),
                )
            }
            None => {
                let sign = if url.query.is_empty() { '?' } else { '&' };
                let end = part(facts, &setting, text).map(|span| Edit {
                    span: Span {
                        start: span.end,
                        ..span
                    },
                    text: format!("{sign}{key}=verify-full"),
                });
                (
                    format!(
                        "`{}` does not say `{key}`, so nothing is verified",
                        setting.name
                    ),
                    end,
                )
            }
        };
        let help = format!("say `{key}=verify-full` and name the authority's certificate");
        let path = setting.path.clone();
        let fix = Fix::risky(edit, std::slice::from_ref(&path));
        report.add(setting.span, path, message, help).fix = fix;
    }
}

pub(super) fn dsn_authority(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (text, setting) in written(facts) {
        let Some(url) = Url::parse(text).filter(|url| url.is_postgres() && !url.is_local()) else {
            continue;
        };
        let verifies = url
            .parameter("sslmode")
            .is_some_and(|it| it.starts_with("verify"));
        if verifies && url.parameter("sslrootcert").is_none() {
            let message = format!(
                "`{}` verifies the server, but names no authority",
                setting.name
            );
            let help = "add `sslrootcert=` with the file of the authority, or `system`";
            report.add(setting.span, setting.path.clone(), message, help);
        }
        let pair = [url.parameter("sslcert"), url.parameter("sslkey")];
        if pair.iter().flatten().count() == 1 {
            let message = format!(
                "`{}` names only one of `sslcert` and `sslkey`",
                setting.name
            );
            report.add(setting.span, setting.path.clone(), message, "name both");
        }
    }
}

pub(super) fn dsn_least_tls(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (text, setting) in written(facts) {
        let Some(url) = Url::parse(text).filter(Url::is_postgres) else {
            continue;
        };
        if let Some(least @ ("TLSv1" | "TLSv1.1")) = url.parameter("ssl_min_protocol_version") {
            let pair = format!("ssl_min_protocol_version={least}");
            let edit = part(facts, &setting, &pair).map(|span| Edit {
                span,
                text: "ssl_min_protocol_version=TLSv1.2".to_owned(),
            });
            let message = format!("`{}` takes TLS below 1.2", setting.name);
            let path = setting.path.clone();
            let fix = Fix::safe(edit, std::slice::from_ref(&path));
            report.add(setting.span, path, message, "say `TLSv1.2`").fix = fix;
        }
    }
}

pub(super) fn redis_address(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (text, setting) in written(facts) {
        let Some(url) = Url::parse(text).filter(|url| url.is_redis() && !url.is_local()) else {
            continue;
        };
        let path = setting.path.clone();
        if matches!(url.scheme, "redis" | "valkey") {
            let edit = part(facts, &setting, url.scheme).map(|span| Edit {
                span,
                text: format!("{}s", url.scheme),
            });
            let message = format!("`{}` asks Redis without TLS", setting.name);
            report
                .add(
                    setting.span,
                    path.clone(),
                    message,
                    format!("write `{}s://`", url.scheme),
                )
                .fix = Fix::risky(edit, std::slice::from_ref(&path));
        }
        if url
            .parameter("ssl_cert_reqs")
            .is_some_and(|it| matches!(it, "none" | "optional"))
        {
            let message = format!("`{}` does not verify the server", setting.name);
            report.add(setting.span, path, message, "leave `ssl_cert_reqs` out");
        }
    }
}

pub(super) fn plain_http(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (text, setting) in written(facts) {
        let Some(url) = Url::parse(text).filter(|url| url.scheme == "http" && !url.is_local())
        else {
            continue;
        };
        let engine = facts.service(url.host).and_then(|it| it.engine());
        let qdrant = engine == Some(Engine::Qdrant)
            || setting.name.to_ascii_uppercase().contains("QDRANT")
            || matches!(url.port, Some("6333" | "6334"))
            || setting.path.starts_with("qdrant.");
        let path = setting.path.clone();
        let edit = part(facts, &setting, "http").map(|span| Edit {
            span,
            text: "https".to_owned(),
        });
        let what = match (qdrant, engine) {
            (true, _) => "Qdrant",
            (false, Some(Engine::R2r)) => "R2R",
            _ => continue,
        };
        let message = format!("`{}` asks {what} without TLS", setting.name);
        let found = report.add(
            setting.span,
            path.clone(),
            message,
            "serve it over TLS and write `https://`",
        );
        found.fix = Fix::risky(edit, &[path]);
        if !qdrant {
            found.severity = Severity::Warning;
        }
    }
}
