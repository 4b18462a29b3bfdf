//! Values that know where they stand.

use indexmap::IndexMap;
use serde_json::{Number, Value as Json};

use crate::source::Span;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it holds.
    pub value: Value,
    /// Where it is written.
    pub span: Span,
    /// Where the alias stands that brought it here, if one did.
    pub alias: Option<Span>,
}

/// The content of a [`Node`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction, or one that no 64 bits hold.
    Float(f64),
    /// A date or time without quotes. Compose takes it nowhere.
    Time(String),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Node>),
    /// Values by key.
    Map(Map),
}

/// Values by key, in the order of the file.
pub type Map = IndexMap<String, Entry>;

/// A value of a [`Map`].
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where its key is written.
    pub key: Span,
    /// The value.
    pub node: Node,
}

impl Entry {
    pub(crate) fn new(key: Span, node: Node) -> Self {
        Self { key, node }
    }

    /// From the key to the end of the value.
    pub fn span(&self) -> Span {
        self.key.to(self.node.span)
    }
}

impl Node {
    pub(crate) fn new(value: Value, span: Span) -> Self {
        Self {
            value,
            span,
            alias: None,
        }
    }

    pub(crate) fn text(text: impl Into<String>, span: Span) -> Self {
        Self::new(Value::Text(text.into()), span)
    }

    /// A map made of keys and values that all stand at one place.
    pub(crate) fn map<const N: usize>(span: Span, entries: [(&str, Value); N]) -> Self {
        let entries = entries.into_iter().map(|(key, value)| {
            let entry = Entry::new(span, Self::new(value, span));
            (key.to_owned(), entry)
        });
        Self::new(Value::Map(entries.collect()), span)
    }

    /// The place of use: of the alias if one brought the value here.
    pub fn used(&self) -> Span {
        self.alias.unwrap_or(self.span)
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The values, if it is a list.
    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries, if it is a map.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The entries; empty if it is no map.
    pub(crate) fn into_map(self) -> Map {
        match self.value {
            Value::Map(map) => map,
            _ => Map::new(),
        }
    }

    pub(crate) fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// The value of a key, if it is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key).map(|entry| &entry.node)
    }

    /// The value at a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// A scalar as the text that Compose makes of it; `None` for lists, maps and null.
    pub fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::Bool(it) => Some(it.to_string()),
            Value::Int(it) => Some(it.to_string()),
            Value::Float(it) => Some(float_text(*it)),
            Value::Text(it) | Value::Time(it) => Some(it.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The name of its type, as users know it.
    pub fn type_name(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Int(_) => "integer",
            Value::Float(_) => "number",
            Value::Time(_) => "date",
            Value::Text(_) => "string",
            Value::List(_) => "list",
            Value::Map(_) => "mapping",
        }
    }

    /// The value without places. Numbers that JSON lacks become null.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(it) => Json::Bool(*it),
            Value::Int(it) => Json::from(*it),
            Value::Float(it) => Number::from_f64(*it).map_or(Json::Null, Json::Number),
            Value::Time(it) | Value::Text(it) => Json::String(it.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(map) => {
                let entries = map.iter();
                Json::Object(
                    entries
                        .map(|(key, it)| (key.clone(), it.node.to_json()))
                        .collect(),
                )
            }
        }
    }
}

/// Whether two values are equal where their places do not count; `1` and `1.0` are.
pub(crate) fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => *a as f64 == *b,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            let found =
                |key: &String, a: &Entry| b.get(key).is_some_and(|b| same(&a.node, &b.node));
            a.len() == b.len() && a.iter().all(|(key, entry)| found(key, entry))
        }
        (a, b) => a == b,
    }
}

/// A number as Go's `%v` writes it: shortest digits, an exponent from a million on or below 10^-4.
pub(crate) fn float_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let exponent = format!("{number:e}");
    let Some((digits, power)) = exponent.split_once('e') else {
        return exponent;
    };
    let power: i32 = power.parse().unwrap_or(0);
    if (-4..6).contains(&power) {
        return number.to_string();
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", power.abs())
}

/// The way from the root to a value, kept on the stack.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    name: &'a str,
}

/// Longest path that [`Path::parts`] gives whole; no rule looks deeper.
const MAX_PARTS: usize = 8;

/// The names of a path.
pub(crate) struct Parts<'a> {
    names: [&'a str; MAX_PARTS],
    len: usize,
}

impl<'a> Parts<'a> {
    pub(crate) fn as_slice(&self) -> &[&'a str] {
        &self.names[..self.len]
    }
}

impl<'a> Path<'a> {
    pub(crate) const ROOT: Path<'static> = Path {
        parent: None,
        name: "",
    };

    pub(crate) fn child(&'a self, name: &'a str) -> Path<'a> {
        Path {
            parent: Some(self),
            name,
        }
    }

    /// The names, root first. A path deeper than any rule looks is cut to its last names, which
    /// still are more than a rule has.
    pub(crate) fn parts(&self) -> Parts<'a> {
        let mut names = [""; MAX_PARTS];
        let mut len = 0;
        let mut here = *self;
        while let Some(parent) = here.parent {
            if len == MAX_PARTS {
                break;
            }
            len += 1;
            names[MAX_PARTS - len] = here.name;
            here = *parent;
        }
        names.rotate_left(MAX_PARTS - len);
        Parts { names, len }
    }

    /// The path with dots.
    pub(crate) fn dotted(&self) -> String {
        let mut names = Vec::new();
        let mut here = *self;
        while let Some(parent) = here.parent {
            names.push(here.name);
            here = *parent;
        }
        names.reverse();
        names.join(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_compose_writes_them() {
        for (number, text) in [
            (3.1, "3.1"),
            (1.0, "1"),
            (123456.0, "123456"),
            (1e6, "1e+06"),
            (123456789.5, "1.234567895e+08"),
            (1e-7, "1e-07"),
            (0.0001, "0.0001"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(float_text(number), text);
        }
    }

    #[test]
    fn a_path_gives_its_names_in_order() {
        let services = Path::ROOT.child("services");
        let web = services.child("web");
        assert_eq!(web.parts().as_slice(), ["services", "web"]);
        assert_eq!(web.dotted(), "services.web");
    }
}
