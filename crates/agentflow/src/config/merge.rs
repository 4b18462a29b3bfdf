//! Merging of sources, with the origin of each value.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use agentflow_types::{Error, Result};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::DEFAULTS;

/// Tables whose keys the user chooses.
const OPEN_TABLES: [&str; 3] = ["graphs", "models.providers", "auth.jwt.roles"];

/// Prefix of environment variables.
const ENV_PREFIX: &str = "AGENTFLOW_";

/// Environment variables that many programs know, and the keys that they set.
const KNOWN_VARIABLES: [(&str, &str); 10] = [
    ("DATABASE_URL", "storage.url"),
    ("DATABASE_URL_FILE", "storage.url_file"),
    ("REDIS_URL", "redis.url"),
    ("REDIS_URL_FILE", "redis.url_file"),
    ("QDRANT_URL", "qdrant.url"),
    ("QDRANT_API_KEY", "qdrant.api_key"),
    ("QDRANT_API_KEY_FILE", "qdrant.api_key_file"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "traces.endpoint"),
    ("LANGGRAPH_AES_KEY", "storage.encryption_key"),
    ("LANGGRAPH_AES_KEY_FILE", "storage.encryption_key_file"),
];

/// Environment variables of that prefix that are not configuration keys.
const OTHER_VARIABLES: [&str; 1] = ["AGENTFLOW_CONFIG"];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The embedded defaults.
    Default,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// One line of `agentflow config show`.
#[derive(Clone, Debug)]
pub struct Row {
    /// Dotted key.
    pub key: String,
    /// TOML text; secrets masked.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Merged sources.
#[derive(Clone, Debug)]
pub struct Merged {
    table: Table,
    origins: BTreeMap<String, Origin>,
}

impl Merged {
    /// The embedded defaults.
    #[must_use]
    pub fn defaults() -> Self {
        let table: Table = DEFAULTS
            .parse()
            .expect("the embedded defaults parse (tested)");
        let mut origins = BTreeMap::new();
        for (key, _) in leaves(&table) {
            origins.insert(key, Origin::Default);
        }
        Self { table, origins }
    }

    /// Adds a file.
    ///
    /// # Errors
    /// `Invalid` with line and suggestion.
    pub fn add_file(&mut self, path: &Path, text: &str) -> Result<()> {
        let table: Table = text.parse().map_err(|err: toml::de::Error| {
            let line = err.span().map_or(1, |span| line_of(text, span.start));
            at(path, line, err.message())
        })?;
        let lines = key_lines(text);
        let line = |key: &str| lines.get(key).copied().unwrap_or(1);
        if let Some((key, hint)) = self.unknown(&table) {
            return Err(at(path, line(&key), &format!("unknown key `{key}`{hint}")));
        }
        for (key, value) in leaves(&table) {
            let origin = Origin::File {
                path: path.to_owned(),
                line: line(&key),
            };
            self.set(&key, value, origin)
                .map_err(|err| at(path, line(&key), err.message()))?;
        }
        Ok(())
    }

    /// Adds environment variables `AGENTFLOW_SECTION__KEY`.
    ///
    /// # Errors
    /// `Invalid` with the variable and a suggestion.
    pub fn add_env(
        &mut self,
        names: &[String],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<()> {
        for (name, key) in KNOWN_VARIABLES {
            if let Some(text) = env(name).filter(|text| !text.is_empty()) {
                self.set(key, Value::String(text), Origin::Env(name.into()))?;
            }
        }
        for name in names {
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else {
                continue;
            };
            let key = rest.to_lowercase().replace("__", ".");
            // Without a section it may be a variable of something else (tests, tools).
            let is_other = !rest.contains("__") && self.get(&key).is_none_or(Value::is_table);
            if OTHER_VARIABLES.contains(&name.as_str()) || is_other {
                continue;
            }
            let Some(text) = env(name) else { continue };
            let Some(current) = self.get(&key).cloned() else {
                let known: Vec<String> = self.origins.keys().map(|key| variable(key)).collect();
                let hint = suggestion(name, known.iter().map(String::as_str));
                return Err(Error::invalid(format!("unknown setting `{name}`{hint}")));
            };
            let value = parse_like(&current, &text).ok_or_else(|| {
                Error::invalid(format!("`{name}` must be {}", kind_name(&current)))
                    .with("value", &text)
            })?;
            self.set(&key, value, Origin::Env(name.clone()))?;
        }
        Ok(())
    }

    /// Adds command-line flags as dotted keys.
    ///
    /// # Errors
    /// `Invalid` if a value has the wrong type.
    pub fn add_flags(&mut self, flags: &[(String, Value)]) -> Result<()> {
        flags
            .iter()
            .try_for_each(|(key, value)| self.set(key, value.clone(), Origin::Flag))
    }

    /// Where a value came from; `None` for unknown keys.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.get(key)
    }

    /// All values, sorted by key, secrets masked.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = leaves(&self.table)
            .into_iter()
            .map(|(key, value)| Row {
                value: shown(&key, &value),
                origin: self.origins.get(&key).cloned().unwrap_or(Origin::Default),
                key,
            })
            .collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows
    }

    /// The typed configuration.
    ///
    /// # Errors
    /// `Invalid` naming the key.
    pub(super) fn deserialize<T: DeserializeOwned>(&self) -> Result<T> {
        let text = toml::to_string(&self.table)
            .map_err(|err| Error::bug("configuration cannot be written").source_err(err))?;
        toml::from_str(&text).map_err(|err: toml::de::Error| {
            let line = err.span().map_or(0, |span| line_of(&text, span.start));
            let key = key_lines(&text)
                .into_iter()
                .find(|(_, at)| *at == line)
                .map(|(key, _)| key);
            let key = key.unwrap_or_default();
            let origin = self
                .origins
                .get(&key)
                .map_or(String::new(), |o| format!("{o}: "));
            let hint = word_suggestion(err.message());
            Error::invalid(format!("{origin}{key}: {}{hint}", err.message()))
        })
    }

    fn get(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let mut value = self.table.get(parts.next()?)?;
        for part in parts {
            value = value.as_table()?.get(part)?;
        }
        Some(value)
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin) -> Result<()> {
        if let Some(current) = self.get(key)
            && current.type_str() != value.type_str()
            && !current.is_table()
        {
            return Err(Error::invalid(format!(
                "{key} must be {}",
                kind_name(current)
            )));
        }
        let (path, last) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = &mut self.table;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let entry = table
                .entry(part)
                .or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = entry else {
                return Err(Error::invalid(format!("{path} is not a table")));
            };
            table = inner;
        }
        table.insert(last.to_owned(), value);
        self.origins.insert(key.to_owned(), origin);
        Ok(())
    }

    /// The first unknown key of a table, with a suggestion.
    fn unknown(&self, table: &Table) -> Option<(String, String)> {
        fn walk(known: &Table, given: &Table, path: &str) -> Option<(String, String)> {
            for (name, value) in given {
                let key = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                let Some(expected) = known.get(name) else {
                    let hint = suggestion(name, known.keys().map(String::as_str));
                    return Some((key, hint));
                };
                if OPEN_TABLES.contains(&key.as_str()) {
                    continue;
                }
                if let (Value::Table(known), Value::Table(given)) = (expected, value)
                    && let Some(found) = walk(known, given, &key)
                {
                    return Some(found);
                }
            }
            None
        }
        walk(&Self::defaults().table, table, "")
    }
}

/// A value as people may see it: secrets and passwords of addresses masked.
fn shown(key: &str, value: &Value) -> String {
    const SECRET: [&str; 3] = ["_key", "password", "secret"];
    let is_empty = value.as_str().is_some_and(str::is_empty);
    if !is_empty && SECRET.iter().any(|word| key.ends_with(word)) {
        return "\"***\"".into();
    }
    match value {
        Value::String(text) if key.ends_with("url") => Value::String(masked(text)).to_string(),
        other => other.to_string(),
    }
}

/// An address without its password.
pub(super) fn masked(address: &str) -> String {
    // The last sign, because a password may hold one too.
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let (Some(at), Some(colon)) = (rest.rfind('@'), rest.find(':')) else {
        return hide_parameters(address);
    };
    match colon < at {
        true => hide_parameters(&format!("{scheme}://{}:***{}", &rest[..colon], &rest[at..])),
        false => hide_parameters(address),
    }
}

/// Passwords may also stand among the parameters.
fn hide_parameters(address: &str) -> String {
    let Some((place, parameters)) = address.split_once('?') else {
        return address.to_owned();
    };
    let hide = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) if name.contains("password") => format!("{name}=***"),
        _ => parameter.to_owned(),
    };
    let parameters: Vec<String> = parameters.split('&').map(hide).collect();
    format!("{place}?{}", parameters.join("&"))
}

fn at(path: &Path, line: usize, message: &str) -> Error {
    Error::invalid(format!("{}, line {line}: {message}", path.display()))
}

fn variable(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// `; did you mean …?` for the closest known name, if one is close.
pub(crate) fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    /// Similarity from which a name counts as a slip of the pen; 0 to 1.
    const CLOSE: f64 = 0.7;
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score >= CLOSE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(String::new(), |(_, best)| {
            format!("; did you mean `{best}`?")
        })
}

/// A suggestion for a word that is none of those which a setting takes, as the parser says it.
fn word_suggestion(message: &str) -> String {
    if !message.starts_with("unknown variant") && !message.starts_with("unknown field") {
        return String::new();
    }
    // Every second piece is in the quotes.
    let mut quoted = message.split('`').skip(1).step_by(2);
    let given = quoted.next().unwrap_or_default();
    suggestion(given, quoted)
}

fn kind_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn parse_like(current: &Value, text: &str) -> Option<Value> {
    Some(match current {
        Value::String(_) => Value::String(text.to_owned()),
        Value::Integer(_) => Value::Integer(text.trim().parse().ok()?),
        Value::Float(_) => Value::Float(text.trim().parse().ok()?),
        Value::Boolean(_) => Value::Boolean(match text.trim() {
            "true" | "1" | "yes" => true,
            "false" | "0" | "no" => false,
            _ => return None,
        }),
        Value::Array(_) => {
            let words = text
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty());
            Value::Array(words.map(Value::from).collect())
        }
        _ => return None,
    })
}

/// Dotted keys of all values that are not tables.
fn leaves(table: &Table) -> Vec<(String, Value)> {
    fn walk(table: &Table, path: &str, out: &mut Vec<(String, Value)>) {
        for (name, value) in table {
            let key = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            match value {
                Value::Table(inner) => walk(inner, &key, out),
                leaf => out.push((key, leaf.clone())),
            }
        }
    }
    let mut out = Vec::new();
    walk(table, "", &mut out);
    out
}

/// Line of a byte offset, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    text[..offset.min(text.len())].matches('\n').count() + 1
}

/// Lines on which dotted keys and table headers stand.
///
/// Good for messages: quoted keys that hold dots or `=` are not found.
fn key_lines(text: &str) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    let mut section = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            section = header.trim_matches('[').trim().to_owned();
            lines.insert(section.clone(), index + 1);
        } else if let Some((key, _)) = line.split_once('=')
            && !line.starts_with('#')
        {
            let key = key.trim().trim_matches('"');
            let full = if section.is_empty() {
                key.to_owned()
            } else {
                format!("{section}.{key}")
            };
            lines.insert(full, index + 1);
        }
    }
    lines
}
