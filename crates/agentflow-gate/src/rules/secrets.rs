//! Rules about passwords, keys and tokens.

use super::Report;
use crate::{
    facts::{Facts, Part, Service, Setting, Url, all_urls},
    finding::Severity,
    fix::{Fix, delete_entry},
    source::Span,
    tree::{Node, Value},
};

/// Parts of names of secrets.
const SECRET: [&str; 11] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "API_KEY",
    "APIKEY",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "ENCRYPTION_KEY",
    "CREDENTIALS",
];
/// Ends of names that only look like secrets.
const HARMLESS: [&str; 22] = [
    "_FILE",
    "_PATH",
    "_ID",
    "PUBLIC_KEY",
    "_NAME",
    "_TTL",
    "_LENGTH",
    "_TYPE",
    "_ALGORITHM",
    "TOKENS",
    "_ENABLED",
    "_LIMIT",
    "_URL",
    "_URI",
    "_EXPIRY",
    "_EXPIRES",
    "_EXPIRATION",
    "_MODE",
    "_HEADER",
    "_DIR",
    "_MINUTES",
    "_SECONDS",
];
/// Names of addresses that hold a password as a rule.
const ADDRESS: [&str; 10] = [
    "DATABASE_URL",
    "REDIS_URL",
    "POSTGRES_URL",
    "MONGO_URL",
    "MONGODB_URI",
    "AMQP_URL",
    "DATABASE_URI",
    "POSTGRES_URI",
    "CELERY_BROKER_URL",
    "_DSN",
];
/// Beginnings of tokens of well-known services, and how long such a token is at least.
const TOKENS: [(&str, usize); 14] = [
    ("sk-", 24),
    ("ghp_", 30),
    ("gho_", 30),
    ("github_pat_", 30),
    ("glpat-", 20),
    ("AKIA", 20),
    ("ASIA", 20),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("hf_", 30),
    ("AIza", 35),
    ("npm_", 30),
    ("pypi-", 40),
    ("SG.", 40),
];

/// Whether a name is that of a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    SECRET.iter().any(|it| name.contains(it)) && !HARMLESS.iter().any(|it| name.ends_with(it))
}

/// Whether a text stands for a secret and is none: an example, a blank, something everybody knows.
fn is_placeholder(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let known = [
        "changeme",
        "change_me",
        "change-me",
        "example",
        "placeholder",
        "your",
        "xxx",
        "todo",
        "replace",
        "dummy",
        "fixme",
        "insert",
        "none",
        "null",
        "...",
    ];
    known.iter().any(|it| value.contains(it)) || value.starts_with('<') || is_weak(&value)
}

/// A value that everybody tries first.
fn is_weak(value: &str) -> bool {
    let known = [
        "password",
        "postgres",
        "secret",
        "admin",
        "root",
        "test",
        "redis",
        "guest",
        "default",
        "minioadmin",
        "123456",
        "12345678",
        "pass",
        "mysecretpassword",
        "true",
        "false",
        "user",
        "minio",
        "minio123",
        "rabbitmq",
        "mongo",
        "mysql",
        "token",
        "key",
        "dev",
    ];
    known.contains(&value)
}

/// Whether a text looks like a token or a key of a known kind.
fn is_token(value: &str) -> bool {
    let value = value.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let known = TOKENS.iter().any(|(start, len)| {
        value.starts_with(start) && value.len() >= *len && value.chars().all(plain)
    });
    // Three parts in base64 of which the first is a JSON object.
    let jwt = value.starts_with("eyJ") && value.split('.').count() == 3 && value.len() > 60;
    known || jwt || (value.contains("-----BEGIN") && value.contains("PRIVATE KEY"))
}

fn owner(setting: &Setting) -> String {
    match setting.owner.is_empty() {
        true => String::new(),
        false => format!("service `{}`: ", setting.owner),
    }
}

/// Secrets that come through the environment, brought in by a variable.
pub(super) fn in_environment(facts: &Facts<'_>, report: &mut Report<'_>) {
    if facts.project().is_none() {
        return;
    }
    for setting in facts.settings.iter().filter(|it| !it.literal) {
        let upper = setting.name.to_ascii_uppercase();
        let written = facts.sources.text(setting.span).unwrap_or_default();
        let address = ADDRESS.iter().any(|it| upper.ends_with(it))
            && written.trim_matches(['"', '\'']).starts_with("${");
        let inside = written.contains("://")
            && all_urls(written).any(|url| url.password.is_some_and(|it| it.contains('$')));
        if !(is_secret(&setting.name) || address || inside) || written.is_empty() {
            continue;
        }
        let message = format!(
            "{}`{}` puts a secret into the environment",
            owner(setting),
            setting.name
        );
        let help = "mount it as a secret and give its path, as `…_FILE` where the image knows that";
        report
            .add(setting.key, setting.path.clone(), message, help)
            .severity = Severity::Warning;
    }
}

pub(super) fn literal(facts: &Facts<'_>, report: &mut Report<'_>) {
    let dotenv = matches!(facts.part, Part::DotEnv);
    for setting in facts.settings.iter().filter(|it| it.literal && !dotenv) {
        let value = setting.value.trim();
        let named = is_secret(&setting.name) && !value.is_empty() && value.len() > 1;
        if !named && !is_token(value) {
            continue;
        }
        report.hide(setting.span);
        let weak = is_placeholder(value) && !is_token(value);
        let what = if weak {
            "a password that everybody knows"
        } else {
            "a secret"
        };
        let message = format!("{}`{}` is {what} in the file", owner(setting), setting.name);
        let help = "take it out, change it where it is used, and mount it as a secret";
        let found = report.add(setting.key, setting.path.clone(), message, help);
        if weak {
            found.severity = Severity::Warning;
        }
    }
    if let Some(project) = facts.project() {
        tokens(facts, &project.root, "", report);
    }
}

/// Tokens anywhere else in a project: commands, labels, contents.
fn tokens(facts: &Facts<'_>, node: &Node, path: &str, report: &mut Report<'_>) {
    match &node.value {
        Value::Map(map) => {
            for (name, entry) in map.iter().filter(|(name, _)| *name != "environment") {
                let below = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                tokens(facts, &entry.node, &below, report);
            }
        }
        Value::List(items) => {
            for item in items {
                tokens(facts, item, path, report);
            }
        }
        Value::Text(text) => {
            let written = facts.sources.text(node.span).unwrap_or_default();
            let word = |c: char| c.is_whitespace() || "\"'=,;:".contains(c);
            let has = text.split(word).any(is_token) || is_token(text);
            if has
                && text
                    .split(word)
                    .any(|it| is_token(it) && written.contains(it))
            {
                report.hide(node.span);
                let message = format!("`{path}` holds a token or key in the file");
                let help = "take it out, revoke it, and mount the new one as a secret";
                report.add(node.used(), path, message, help);
            }
        }
        _ => {}
    }
}

/// Literal passwords within addresses.
pub(super) fn in_address(facts: &Facts<'_>, report: &mut Report<'_>) {
    for setting in &facts.settings {
        let written = match facts.sources.text(setting.span) {
            Some(text) => text,
            None => continue,
        };
        let shown = |url: &Url<'_>| url.password.is_some_and(|it| !it.contains('$'));
        if !all_urls(written).any(|url| shown(&url)) {
            continue;
        }
        report.hide(setting.span);
        let weak = all_urls(written)
            .filter(shown)
            .all(|url| url.password.is_some_and(is_placeholder));
        let message = format!(
            "{}the address in `{}` holds a password",
            owner(setting),
            setting.name
        );
        let help = "leave the password out; give it as a secret file, or in a password file";
        let found = report.add(setting.key, setting.path.clone(), message, help);
        if weak {
            found.severity = Severity::Warning;
        }
    }
}

pub(super) fn in_dotenv(facts: &Facts<'_>, report: &mut Report<'_>) {
    if !matches!(facts.part, Part::DotEnv) {
        return;
    }
    for setting in facts.settings.iter().filter(|it| it.literal) {
        let value = setting.value.trim();
        let secret = is_secret(&setting.name) && !value.is_empty() && !is_placeholder(value);
        if secret || is_token(value) {
            report.hide(setting.span);
            let message = format!("`{}` is a secret in a file of variables", setting.name);
            let help = "keep `.env` for what everybody may read; put this into a secret file";
            report.add(setting.key, setting.path.clone(), message, help);
        }
    }
}

/// Secrets in files that git keeps.
pub(super) fn in_version_control(facts: &Facts<'_>, report: &mut Report<'_>) {
    let help = "take it out with `git rm --cached`, ignore it, and change the secret: it is in the history";
    if let (Some(tracked), Some(secrets)) = (facts.tracked, facts.top("secrets")) {
        for (name, entry) in secrets {
            let Some(node) = entry.node.get("file") else {
                continue;
            };
            let path = node.as_str().unwrap_or_default();
            if tracked.holds(std::path::Path::new(path)) {
                let message = format!("git keeps the file of the secret `{name}`");
                report.add(node.used(), format!("secrets.{name}.file"), message, help);
            }
        }
    }
    if !matches!(facts.part, Part::Repository(_)) {
        return;
    }
    for (number, file) in facts.sources.files().iter().enumerate().skip(1) {
        let whole = Span {
            file: number as u32,
            start: 0,
            end: file.text.find('\n').unwrap_or(file.text.len()) as u32,
        };
        let message = match file.text.contains("PRIVATE KEY-----") {
            true => "git keeps a private key".to_owned(),
            false => {
                let settings = crate::facts::variables(facts.sources, number as u32);
                let secret = settings.iter().find(|it| {
                    let value = it.value.trim();
                    it.literal
                        && (is_token(value)
                            || is_secret(&it.name) && !value.is_empty() && !is_placeholder(value))
                });
                match secret {
                    Some(secret) => {
                        report.hide(secret.span);
                        format!(
                            "git keeps a file of variables in which `{}` is a secret",
                            secret.name
                        )
                    }
                    None => continue,
                }
            }
        };
        report.add(whole, "", message, help);
    }
}

/// Paths of secrets that a service is not given.
pub(super) fn not_granted(facts: &Facts<'_>, report: &mut Report<'_>) {
    for setting in facts.settings.iter().filter(|it| !it.owner.is_empty()) {
        let Some(service) = facts.service(&setting.owner) else {
            continue;
        };
        let Some(name) = setting.value.strip_prefix("/run/secrets/") else {
            continue;
        };
        if mounts(&service, name) || name.contains(['$', '/']) {
            continue;
        }
        let message = format!(
            "service `{}`: it is not given the secret `{name}`",
            service.name
        );
        let help = format!("add `secrets: [{name}]` to the service");
        report.add(setting.span, setting.path.clone(), message, help);
    }
}

/// Whether a secret, a config or a volume of a service stands at this name.
fn mounts(service: &Service<'_>, name: &str) -> bool {
    let is = |node: &Node| {
        let text = |key: &str| node.get(key).and_then(Node::as_str);
        let at = text("target").or(text("source")).unwrap_or_default();
        at == name || at.strip_prefix("/run/secrets/") == Some(name) || at == "/run/secrets"
    };
    ["secrets", "configs", "volumes"]
        .iter()
        .any(|key| service.list(key).iter().any(is))
}

pub(super) fn file_rights(facts: &Facts<'_>, report: &mut Report<'_>) {
    for (name, entry) in facts.top("secrets").into_iter().flatten() {
        let Some(file) = entry.node.get("file") else {
            continue;
        };
        let used = facts.services().find(|service| {
            service
                .list("secrets")
                .iter()
                .any(|it| it.get("source").and_then(Node::as_str) == Some(name))
        });
        if let Some(service) = used {
            let message = format!(
                "the file of `{name}` keeps its owner and rights when `{}` mounts it",
                service.name
            );
            let help = "let the user of the container read it, and nobody else";
            report.add(file.used(), format!("secrets.{name}.file"), message, help);
        }
    }
}

pub(super) fn both_forms(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        for (name, entry) in service.map("environment") {
            let other = service.env(&format!("{name}_FILE"));
            if entry.node.is_null() || other.is_none() {
                continue;
            }
            let message =
                format!("`{name}` and `{name}_FILE` exclude each other: the image does not start");
            let path = format!("services.{}.environment.{name}", service.name);
            report.hide(entry.node.span);
            let edit = delete_entry(facts.sources, entry.span());
            let help = "keep the file";
            report.service(&service, entry.key, &message, help).fix = Fix::safe(edit, &[path]);
        }
    }
}

/// Files of variables beside this one that hold the same secret.
pub(super) fn shared_between_stages(facts: &Facts<'_>, report: &mut Report<'_>) {
    let (Part::DotEnv, Some(own)) = (&facts.part, facts.paths.first()) else {
        return;
    };
    let secrets: Vec<&Setting> = facts
        .settings
        .iter()
        .filter(|it| {
            it.literal && is_secret(&it.name) && it.value.len() > 7 && !is_placeholder(&it.value)
        })
        .collect();
    if secrets.is_empty() {
        return;
    }
    for listed in facts.files.list(&facts.folder).unwrap_or_default() {
        let is_env = matches!(
            crate::find::of_file(&listed.path),
            Some(crate::find::Target::DotEnv(_))
        );
        // Each pair is told once, at the later file.
        if listed.is_dir || !is_env || listed.path >= *own {
            continue;
        }
        let path = listed.path.display().to_string();
        let Some(text) = facts.read(&path) else {
            continue;
        };
        let mut sources = crate::source::Sources::default();
        let file = sources.add(path, text);
        let others = crate::facts::variables(&sources, file);
        for secret in &secrets {
            let same = others
                .iter()
                .any(|it| it.name == secret.name && it.value == secret.value);
            if same {
                report.hide(secret.span);
                let name = listed
                    .path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy();
                let message = format!("`{}` is the same secret as in {name}", secret.name);
                let help = "give each environment a secret of its own";
                report.add(secret.key, secret.path.clone(), message, help);
            }
        }
    }
}

pub(super) fn trust(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        let Some(entry) = service
            .get("environment")
            .and_then(Node::as_map)
            .and_then(|map| map.get("POSTGRES_HOST_AUTH_METHOD"))
        else {
            continue;
        };
        if entry.node.as_str() == Some("trust") {
            let path = format!(
                "services.{}.environment.POSTGRES_HOST_AUTH_METHOD",
                service.name
            );
            let edit = delete_entry(facts.sources, entry.span());
            let help = "remove it and give `POSTGRES_PASSWORD_FILE`";
            report
                .service(
                    &service,
                    entry.node.used(),
                    "everybody is let in without a password",
                    help,
                )
                .fix = Fix::risky(edit, &[path]);
        }
    }
}

pub(super) fn build_argument(facts: &Facts<'_>, report: &mut Report<'_>) {
    for service in facts.services() {
        let args = service.at(&["build", "args"]).and_then(Node::as_map);
        for (name, entry) in args.into_iter().flatten() {
            let empty = entry.node.as_str().is_some_and(str::is_empty);
            let written = facts.sources.text(entry.node.span).unwrap_or_default();
            if is_secret(name) && (!empty || written.contains('$')) {
                report.hide(entry.node.span);
                let message = format!("the build argument `{name}` stays in the image");
                let help = "use `build.secrets` and `RUN --mount=type=secret`";
                report.service(&service, entry.key, &message, help);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_of_secrets_are_known() {
        for name in [
            "POSTGRES_PASSWORD",
            "openai-api-key",
            "JWT_SECRET",
            "GITHUB_TOKEN",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "PASSWORD_FILE",
            "AWS_ACCESS_KEY_ID",
            "MAX_TOKENS",
            "TOKEN_URL",
            "PORT",
        ] {
            assert!(!is_secret(name), "{name}");
        }
        let token = format!("sk-{}", "a1B2".repeat(8));
        assert!(is_token(&token) && is_token("-----BEGIN RSA PRIVATE KEY-----"));
        assert!(!is_token("sk-short") && !is_token("sky is blue and the rest is not"));
        assert!(is_placeholder("changeme") && is_placeholder("<key>") && !is_placeholder("t9Kq2"));
    }
}
