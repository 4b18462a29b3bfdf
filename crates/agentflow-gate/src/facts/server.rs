//! What a server is told: flags of its command and lines of the file that it reads.

use super::{Facts, Service};
use crate::{source::Span, tree::Node};

/// Settings of a server, by name, in the order in which they count.
pub(crate) struct ServerConf {
    settings: Vec<(String, String, Span)>,
    /// Whether a file is named that we could not read, so that what is absent may stand there.
    pub(crate) unread: bool,
}

impl ServerConf {
    /// The value that counts, which is the last one, with the place of what said it.
    pub(crate) fn get(&self, name: &str) -> Option<(&str, Span)> {
        let found = self.settings.iter().rev().find(|(it, ..)| it == name);
        found.map(|(_, value, span)| (value.as_str(), *span))
    }

    /// Whether it is said.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All values of a name that may be said more than once.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let same = self.settings.iter().filter(move |(it, ..)| it == name);
        same.map(|(_, value, _)| value.as_str())
    }

    /// Whether what is absent is known to be absent.
    pub(crate) fn is_whole(&self) -> bool {
        !self.unread
    }
}

/// The mount, config or secret that stands at a path of a service: its file on the host.
fn source_of(facts: &Facts<'_>, service: &Service<'_>, target: &str) -> Option<String> {
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::as_str).map(str::to_owned);
    for mount in service.list("volumes") {
        let at = text(mount, "target").unwrap_or_default();
        let source = text(mount, "source").unwrap_or_default();
        if text(mount, "type").as_deref() != Some("bind") {
            continue;
        }
        if at == target {
            return Some(source);
        }
        let below = target.strip_prefix(at.trim_end_matches('/'));
        if let Some(below) = below.filter(|it| it.starts_with('/')) {
            return Some(format!("{}{below}", source.trim_end_matches('/')));
        }
    }
    for kind in ["configs", "secrets"] {
        for grant in service.list(kind) {
            let name = text(grant, "source").unwrap_or_default();
            let base = if kind == "configs" {
                "/"
            } else {
                "/run/secrets/"
            };
            let at = text(grant, "target").unwrap_or_else(|| format!("{base}{name}"));
            if at == target || format!("{base}{at}") == target {
                let entry = facts.top(kind)?.get(&name)?;
                return text(&entry.node, "file");
            }
        }
    }
    None
}

/// What Redis is told: `--name value` in its command, and the file that the command names.
pub(crate) fn redis(facts: &Facts<'_>, service: &Service<'_>) -> ServerConf {
    let mut conf = ServerConf {
        settings: Vec::new(),
        unread: false,
    };
    let mut words = service.words("command");
    // What a shell is given is one word.
    let shell = words.len() < 2 || words[words.len() - 2].0 == "-c";
    if let Some((line, span)) = words
        .last()
        .filter(|(it, _)| shell && it.contains(' '))
        .cloned()
    {
        words = line
            .split_whitespace()
            .map(|it| (it.to_owned(), span))
            .collect();
    }
    for (word, _) in words.iter().filter(|(it, _)| it.ends_with(".conf")) {
        match source_of(facts, service, word).and_then(|path| facts.read(&path)) {
            Some(text) => lines_of_redis(&text, service.entry.key, &mut conf),
            None => conf.unread = true,
        }
    }
    let mut at = 0;
    while let Some((word, span)) = words.get(at) {
        at += 1;
        let Some(name) = word.strip_prefix("--").filter(|it| !it.is_empty()) else {
            continue;
        };
        let mut value = Vec::new();
        while let Some((word, _)) = words.get(at).filter(|(it, _)| !it.starts_with("--")) {
            value.push(word.trim_matches(['"', '\'']).to_owned());
            at += 1;
        }
        let name = name.to_ascii_lowercase();
        conf.settings.push((name, value.join(" "), *span));
    }
    // The images of others are told by variables that we do not know all of.
    let told = [
        "REDIS_ARGS",
        "REDIS_PASSWORD",
        "REDIS_PASSWORD_FILE",
        "VALKEY_PASSWORD",
    ];
    conf.unread |=
        told.iter().any(|it| service.env(it).is_some()) || service.get("entrypoint").is_some();
    conf
}

fn lines_of_redis(text: &str, span: Span, conf: &mut ServerConf) {
    for line in text
        .lines()
        .map(str::trim)
        .filter(|it| !it.is_empty() && !it.starts_with('#'))
    {
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let name = name.to_ascii_lowercase();
        conf.unread |= name == "include";
        let value = value.trim().trim_matches(['"', '\'']).to_owned();
        conf.settings.push((name, value, span));
    }
}

/// What PostgreSQL is told: `-c name=value` in its command, and the file that it names.
pub(crate) fn postgres(facts: &Facts<'_>, service: &Service<'_>) -> ServerConf {
    let mut conf = ServerConf {
        settings: Vec::new(),
        unread: service.get("entrypoint").is_some(),
    };
    let mut words = service.words("command");
    if let Some((line, span)) = words.iter().find(|(it, _)| it.contains(" -c ")).cloned() {
        words = line
            .split_whitespace()
            .map(|it| (it.to_owned(), span))
            .collect();
    }
    let mut pairs: Vec<(String, Span)> = Vec::new();
    for (at, (word, span)) in words.iter().enumerate() {
        match word.as_str() {
            "-c" => pairs.extend(words.get(at + 1).cloned()),
            word if word.starts_with("-c") => pairs.push((word[2..].to_owned(), *span)),
            word => {
                if let Some(pair) = word.strip_prefix("--").filter(|it| it.contains('=')) {
                    pairs.push((pair.to_owned(), *span));
                }
            }
        }
    }
    for (pair, span) in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            continue;
        };
        let name = name.trim().to_ascii_lowercase().replace('-', "_");
        let value = value.trim().trim_matches(['"', '\'']).to_owned();
        if matches!(name.as_str(), "config_file" | "hba_file") {
            match source_of(facts, service, &value).and_then(|path| facts.read(&path)) {
                Some(text) if name == "config_file" => lines_of_postgres(&text, span, &mut conf),
                Some(_) => {}
                None => conf.unread = true,
            }
        }
        conf.settings.push((name, value, span));
    }
    // A file mounted over the usual one.
    for usual in [
        "/var/lib/postgresql/data/postgresql.conf",
        "/etc/postgresql/postgresql.conf",
    ] {
        if let Some(path) = source_of(facts, service, usual)
            && path.ends_with(".conf")
        {
            match facts.read(&path) {
                Some(text) => lines_of_postgres(&text, service.entry.key, &mut conf),
                None => conf.unread = true,
            }
        }
    }
    conf
}

fn lines_of_postgres(text: &str, span: Span, conf: &mut ServerConf) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let (name, value) = match line.split_once('=') {
            Some(pair) => pair,
            None => match line.split_once(char::is_whitespace) {
                Some(pair) => pair,
                None => continue,
            },
        };
        let name = name.trim().to_ascii_lowercase();
        conf.unread |= name.starts_with("include");
        let value = value.trim().trim_matches('\'').to_owned();
        // What the command says wins, so a file goes before it.
        conf.settings.insert(0, (name, value, span));
    }
}

/// A number of bytes as servers write it: `256mb`, `1GB`, `8192`.
pub(crate) fn size(text: &str, unit: u64) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim() {
        "" => unit,
        "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}
