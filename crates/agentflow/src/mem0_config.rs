//! `agentflow import mem0-config`: what a configuration of Mem0 is here.
//!
//! Each key of the file gets a line: taken over, not needed, not there, or unknown. Unknown keys
//! and providers are mistakes, with what was probably meant. Secrets are never copied.

mod keys;
mod models;
mod stores;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt::Write, path::Path};

use agentflow_declarative::Colour;
use agentflow_types::{Error, Result};
use serde_json::{Map, Value};

use keys::{SECTIONS, TOP, Use, canonical, snake};

/// Largest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    NotNeeded,
    NotThere,
    Unknown,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::NotNeeded => "not needed",
            Self::NotThere => "not there",
            Self::Unknown => "unknown",
        }
    }
}

/// A provider of models as `agentflow.toml` names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Server {
    kind: &'static str,
    base_url: String,
    has_key: bool,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    lines: Vec<(Verdict, String, String)>,
    /// Secrets to be given, in words.
    secrets: Vec<String>,
    providers: BTreeMap<String, Server>,
    storage: Vec<(&'static str, String)>,
    memory: Vec<(&'static str, String)>,
    qdrant: Vec<(&'static str, String)>,
}

/// Reads a configuration of Mem0.
///
/// # Errors
/// `NotFound` or `Invalid` for a file that cannot be read as JSON or YAML.
pub(crate) fn import(path: &Path) -> Result<Imported> {
    let unreadable = |err: std::io::Error| {
        Error::not_found("the file cannot be read")
            .with("path", path.display())
            .source_err(err)
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_BYTES {
        return Err(Error::invalid("the file is larger than 1 MiB").with("path", path.display()));
    }
    if path.extension().is_some_and(|end| end == "py") {
        return Err(Error::invalid(
            "a Python file cannot be read without executing it: write the dict as JSON, for \
            example with `python -c \"import json, config; print(json.dumps(config.CONFIG))\"`",
        )
        .with("path", path.display()));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    read(&path.display().to_string(), &text)
}

fn read(name: &str, text: &str) -> Result<Imported> {
    let json = agentflow_declarative::yaml(name, text).map_err(|mistakes| {
        Error::invalid(format!(
            "the file is neither JSON nor YAML without anchors and tags\n{}",
            mistakes.render(Colour::Plain)
        ))
    })?;
    let Value::Object(mut config) = json else {
        return Err(Error::invalid("the file must hold an object").with("path", name));
    };
    let mut read = Imported::default();
    // OpenMemory keeps Mem0's configuration under a key of its own.
    if let Some(Value::Object(inner)) = config.shift_remove("mem0") {
        if let Some(Value::Object(own)) = config.shift_remove("openmemory") {
            config.extend(own);
        }
        config.extend(inner);
    }
    read.top(&config);
    Ok(read)
}

impl Imported {
    /// Whether every key is known.
    pub(crate) fn is_fine(&self) -> bool {
        self.lines
            .iter()
            .all(|(verdict, _, _)| *verdict != Verdict::Unknown)
    }

    /// One line for each key, then what is left to do.
    pub(crate) fn report(&self) -> String {
        let mut lines: Vec<String> = self
            .lines
            .iter()
            .map(|(verdict, key, told)| format!("{:<10} {key}: {told}", verdict.word()))
            .collect();
        if !self.secrets.is_empty() {
            lines.push(String::new());
            lines.push("secrets are not copied; give them so:".into());
            lines.extend(self.secrets.iter().map(|told| format!("  {told}")));
        }
        lines.join("\n")
    }

    /// The `agentflow.toml` that does the same.
    pub(crate) fn toml(&self) -> String {
        let text = |value: &str| toml::Value::String(value.to_owned()).to_string();
        let mut out = String::from("# Made of a configuration of Mem0 (docs/memory.md).\n");
        for (name, server) in &self.providers {
            let _ = write!(
                out,
                "\n[models.providers.{name}]\nkind = {}\nbase_url = {}\n",
                text(server.kind),
                text(&server.base_url)
            );
            if server.has_key {
                let _ = writeln!(out, "api_key_file = {}", text(&format!("{name}.key")));
            }
        }
        for (section, values) in [
            ("storage", &self.storage),
            ("memory", &self.memory),
            ("qdrant", &self.qdrant),
        ] {
            if !values.is_empty() {
                let _ = writeln!(out, "\n[{section}]");
            }
            for (key, value) in values {
                let _ = writeln!(out, "{key} = {}", text(value));
            }
        }
        out
    }

    fn line(&mut self, verdict: Verdict, key: &str, told: impl Into<String>) {
        self.lines.push((verdict, key.to_owned(), told.into()));
    }

    fn secret(&mut self, told: String) {
        if !self.secrets.contains(&told) {
            self.secrets.push(told);
        }
    }

    /// An address without the password or the key that it may hold.
    fn address(&mut self, setting: &str, given: &str) -> String {
        let (scheme, rest) = given.split_once("://").unwrap_or(("", given));
        let (rest, asked) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = host.rsplit_once('@').unwrap_or(("", host));
        if !user.is_empty() || !asked.is_empty() {
            self.secret(format!(
                "{setting}: what stood before `@` and after `?` of the address is not copied; give a \
                key by its own setting"
            ));
        }
        match scheme {
            "" => format!("{host}{path}"),
            _ => format!("{scheme}://{host}{path}"),
        }
    }

    fn top(&mut self, config: &Map<String, Value>) {
        let taken = self.fields("", config, TOP);
        for (name, value) in taken {
            let Value::Object(section) = value else {
                self.line(
                    Verdict::Unknown,
                    name,
                    "must be an object with provider and config",
                );
                continue;
            };
            self.section(name, &section);
        }
    }

    fn section(&mut self, name: &'static str, section: &Map<String, Value>) {
        let mut parts = self.fields(name, section, SECTIONS);
        let config = match parts.remove("config") {
            Some(Value::Object(config)) => config,
            None | Some(Value::Null) => Map::new(),
            Some(_) => {
                self.line(
                    Verdict::Unknown,
                    &format!("{name}.config"),
                    "must be an object",
                );
                return;
            }
        };
        let usual = match name {
            "vector_store" => "qdrant",
            _ => "openai",
        };
        let given = parts.remove("provider");
        let given = given.as_ref().and_then(Value::as_str).unwrap_or(usual);
        match name {
            "vector_store" => self.vector_store(given, &config),
            "llm" => self.llm(given, &config),
            "embedder" => self.embedder(given, &config),
            _ => self.reranker(given, &config),
        }
    }

    /// The provider by its right name, if there is one of that name.
    fn provider(
        &mut self,
        section: &str,
        given: &str,
        known: &[&'static str],
        aliases: &[(&str, &'static str)],
    ) -> Option<&'static str> {
        let key = format!("{section}.provider");
        // The TypeScript client writes capitals and hyphens too.
        let plain = given.to_lowercase().replace('-', "_");
        if let Some(name) = known.iter().find(|name| **name == plain) {
            if plain != given {
                self.line(
                    Verdict::Taken,
                    &key,
                    format!("`{given}` is spelled `{name}`"),
                );
            }
            return Some(name);
        }
        if let Some((_, name)) = aliases.iter().find(|(alias, _)| *alias == plain) {
            self.line(
                Verdict::Taken,
                &key,
                format!("`{given}` is spelled `{name}`"),
            );
            return Some(name);
        }
        let hint = crate::config::suggestion(&plain, known.iter().copied());
        let told = match hint.is_empty() {
            true => format!("no provider `{given}`; known: {}", known.join(", ")),
            false => format!("no provider `{given}`{hint}"),
        };
        self.line(Verdict::Unknown, &key, told);
        None
    }

    /// The values of the keys that are taken over, by their right names; a line for each other.
    fn fields(
        &mut self,
        section: &str,
        config: &Map<String, Value>,
        known: &[(&'static str, Use)],
    ) -> BTreeMap<&'static str, Value> {
        let mut taken = BTreeMap::new();
        for (given, value) in config {
            let place = match section {
                "" => given.clone(),
                _ => format!("{section}.{given}"),
            };
            let plain = snake(given);
            let right = canonical(&plain, known);
            let Some((name, used)) = right else {
                let names = known.iter().map(|(name, _)| *name);
                let hint = crate::config::suggestion(&plain, names.clone());
                let told = match hint.is_empty() {
                    true => format!(
                        "no such key; known: {}",
                        names.collect::<Vec<_>>().join(", ")
                    ),
                    false => format!("no such key{hint}"),
                };
                self.line(Verdict::Unknown, &place, told);
                continue;
            };
            let spelled = match name == plain {
                true => String::new(),
                false => format!(" (the right name is `{name}`)"),
            };
            match used {
                Use::Take => {
                    if !spelled.is_empty() {
                        let told = format!("read as `{name}`, which is the right name");
                        self.line(Verdict::Taken, &place, told);
                    }
                    taken.insert(name, value.clone());
                }
                Use::Needless(why) => {
                    self.line(Verdict::NotNeeded, &place, format!("{why}{spelled}"));
                }
                Use::Lacking(what) => {
                    self.line(Verdict::NotThere, &place, format!("{what}{spelled}"));
                }
            }
        }
        taken
    }
}

/// The text of a value that is taken over.
fn text(values: &BTreeMap<&'static str, Value>, key: &str) -> Option<String> {
    match values.get(key)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
