//! What the Compose specification allows, as Docker Compose 2.40 knows it.
//!
//! Every choice of the specification is a choice between types, so a [`Shape`] says which types a
//! value may have and, for each, what more must hold.

mod service;
mod top;

use self::top::PROJECT;
use crate::{
    problem::{Kind, Problem},
    tree::{Map, Node, Path, Value, same},
};

/// Types as bits.
type Types = u8;

const NULL: Types = 1;
const BOOL: Types = 2;
const INT: Types = 4;
/// A number of any kind.
const NUMBER: Types = 8 | INT;
const TEXT: Types = 16;
const LIST: Types = 32;
const MAP: Types = 64;

/// What holds of a text, and how to say it.
type Rule = (fn(&str) -> bool, &'static str);

/// What a value may be.
struct Shape {
    types: Types,
    map: Option<&'static MapShape>,
    items: Option<&'static Shape>,
    is_set: bool,
    words: &'static [&'static str],
    rule: Option<Rule>,
    range: Option<(i64, i64)>,
}

impl Shape {
    const fn of(types: Types) -> Self {
        Self {
            types,
            map: None,
            items: None,
            is_set: false,
            words: &[],
            rule: None,
            range: None,
        }
    }

    const fn map(types: Types, map: &'static MapShape) -> Self {
        Self {
            map: Some(map),
            ..Self::of(types | MAP)
        }
    }

    const fn list(items: &'static Shape) -> Self {
        Self {
            items: Some(items),
            ..Self::of(LIST)
        }
    }

    /// A list without two equal values.
    const fn set(items: &'static Shape) -> Self {
        Self {
            is_set: true,
            ..Self::list(items)
        }
    }

    const fn words(words: &'static [&'static str]) -> Self {
        Self {
            words,
            ..Self::of(TEXT)
        }
    }

    const fn or(self, types: Types) -> Self {
        Self {
            types: self.types | types,
            ..self
        }
    }

    const fn within(self, low: i64, high: i64) -> Self {
        Self {
            range: Some((low, high)),
            ..self
        }
    }

    const fn that(self, rule: fn(&str) -> bool, wanted: &'static str) -> Self {
        Self {
            rule: Some((rule, wanted)),
            ..self
        }
    }
}

/// What a map may hold.
struct MapShape {
    known: &'static [(&'static str, &'static Shape)],
    required: &'static [&'static str],
    others: Others,
    /// Whether keys that begin with `x-` may hold anything.
    extensions: bool,
}

/// Keys that are not listed.
enum Others {
    Refused,
    /// Anything goes.
    Free,
    /// Names of the user's choice.
    Named {
        is_name: fn(&str) -> bool,
        shape: &'static Shape,
        /// What is no such name is refused, not left unchecked.
        strict: bool,
    },
}

impl MapShape {
    const fn of(known: &'static [(&'static str, &'static Shape)]) -> Self {
        Self {
            known,
            required: &[],
            others: Others::Refused,
            extensions: true,
        }
    }

    const fn required(self, required: &'static [&'static str]) -> Self {
        Self { required, ..self }
    }

    const fn closed(self) -> Self {
        Self {
            extensions: false,
            ..self
        }
    }

    const fn named(is_name: fn(&str) -> bool, shape: &'static Shape, strict: bool) -> Self {
        Self {
            known: &[],
            required: &[],
            others: Others::Named {
                is_name,
                shape,
                strict,
            },
            extensions: false,
        }
    }

    const fn free() -> Self {
        Self {
            known: &[],
            required: &[],
            others: Others::Free,
            extensions: false,
        }
    }
}

static ANY_TEXT: Shape = Shape::of(TEXT);
static TEXTS: Shape = Shape::list(&ANY_TEXT);
static TEXT_SET: Shape = Shape::set(&ANY_TEXT);
static TEXT_OR_SET: Shape = Shape::set(&ANY_TEXT).or(TEXT);
static FLAG: Shape = Shape::of(BOOL | TEXT);
static ONLY_BOOL: Shape = Shape::of(BOOL);
static NUMBER_OR_TEXT: Shape = Shape::of(NUMBER | TEXT);
static INT_OR_TEXT: Shape = Shape::of(INT | TEXT);
static ONLY_NUMBER: Shape = Shape::of(NUMBER);
static ONLY_INT: Shape = Shape::of(INT);
static SCALAR: Shape = Shape::of(TEXT | NUMBER | BOOL);
static SCALAR_OR_NULL: Shape = Shape::of(TEXT | NUMBER | BOOL | NULL);
static PAIRS: Shape = Shape {
    types: LIST | MAP,
    map: Some(&PAIR_MAP),
    items: Some(&ANY_TEXT),
    is_set: true,
    ..Shape::of(LIST)
};
static PAIR_MAP: MapShape = MapShape::named(not_empty, &SCALAR_OR_NULL, true);
static OPTIONS: Shape = Shape::map(0, &OPTION_MAP);
static OPTION_MAP: MapShape = MapShape::named(not_empty, &NUMBER_OR_TEXT, false);

fn not_empty(name: &str) -> bool {
    !name.is_empty()
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    not_empty(name) && name.bytes().all(allowed)
}

/// Checks a whole project; every mistake is reported.
pub(super) fn check(project: &Node) -> Vec<Problem> {
    let mut found = Vec::new();
    visit(project, &PROJECT, &Path::ROOT, &mut found);
    found
}

fn visit(node: &Node, shape: &Shape, path: &Path<'_>, found: &mut Vec<Problem>) {
    let mut report = |message: String| {
        found.push(Problem::new(Kind::Schema, node.used(), message).at(path.dotted()));
    };
    let has = match &node.value {
        Value::Null => NULL,
        Value::Bool(_) => BOOL,
        Value::Int(_) => INT,
        Value::Float(number) if number.fract() == 0.0 => INT,
        Value::Float(_) => NUMBER & !INT,
        Value::Time(_) => 0,
        Value::Text(_) => TEXT,
        Value::List(_) => LIST,
        Value::Map(_) => MAP,
    };
    if shape.types & has == 0 {
        return report(format!(
            "must be {}, not {}",
            wanted(shape.types),
            node.type_name()
        ));
    }
    match &node.value {
        Value::Text(text) => {
            if !shape.words.is_empty() && !shape.words.contains(&text.as_str()) {
                report(format!("must be one of {}", shape.words.join(", ")));
            }
            if let Some((rule, wanted)) = shape.rule
                && !rule(text)
            {
                report(format!("must be {wanted}"));
            }
        }
        Value::Int(number) => {
            if let Some((low, high)) = shape.range
                && !(low..=high).contains(number)
            {
                report(format!("must be between {low} and {high}"));
            }
        }
        Value::List(items) => {
            if let Some(inner) = shape.items {
                for (at, item) in items.iter().enumerate() {
                    visit(item, inner, &path.child(&at.to_string()), found);
                }
            }
            if shape.is_set {
                twice(items, path, found);
            }
        }
        Value::Map(map) => {
            if let Some(inner) = shape.map {
                entries(node, map, inner, path, found);
            }
        }
        _ => {}
    }
}

fn entries(node: &Node, map: &Map, shape: &MapShape, path: &Path<'_>, found: &mut Vec<Problem>) {
    let mut unknown: Vec<(&String, &crate::tree::Entry)> = Vec::new();
    for (name, entry) in map {
        if let Some((_, known)) = shape.known.iter().find(|(known, _)| known == name) {
            visit(&entry.node, known, &path.child(name), found);
            continue;
        }
        if shape.extensions && name.starts_with("x-") {
            continue;
        }
        match &shape.others {
            Others::Free => {}
            Others::Named { is_name, shape, .. } if is_name(name) => {
                visit(&entry.node, shape, &path.child(name), found);
            }
            Others::Named { strict: false, .. } => {}
            Others::Named { .. } | Others::Refused => unknown.push((name, entry)),
        }
    }
    if let Some((_, first)) = unknown.first() {
        let names: Vec<String> = unknown.iter().map(|(name, _)| (*name).clone()).collect();
        let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let message = format!("Compose does not know {} here", quoted.join(", "));
        let mut problem = Problem::new(Kind::Schema, first.key, message).at(path.dotted());
        problem.unknown = names;
        for (_, entry) in &unknown[1..] {
            problem = problem.related(entry.key, "nor this");
        }
        found.push(problem);
    }
    for name in shape
        .required
        .iter()
        .filter(|name| !map.contains_key(**name))
    {
        let message = format!("`{name}` is missing");
        found.push(Problem::new(Kind::Schema, node.used(), message).at(path.dotted()));
    }
}

/// Longest list that is searched for equal values pair by pair; longer ones by their text.
const MAX_PAIRWISE: usize = 32;

fn twice(items: &[Node], path: &Path<'_>, found: &mut Vec<Problem>) {
    let mut report = |at: usize, before: usize| {
        let message = "the list holds the same value twice";
        let problem = Problem::new(Kind::Schema, items[at].used(), message)
            .at(path.dotted())
            .related(items[before].used(), "first here");
        found.push(problem);
    };
    if items.len() <= MAX_PAIRWISE {
        for (at, item) in items.iter().enumerate() {
            if let Some(before) = items[..at].iter().position(|known| same(known, item)) {
                return report(at, before);
            }
        }
        return;
    }
    let mut known = std::collections::HashMap::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        if let Some(before) = known.insert(item.to_json().to_string(), at) {
            return report(at, before);
        }
    }
}

fn wanted(types: Types) -> String {
    let mut names = Vec::new();
    for (bits, name) in [
        (MAP, "a mapping"),
        (LIST, "a list"),
        (TEXT, "text"),
        (NUMBER, "a number"),
        (BOOL, "true or false"),
        (NULL, "nothing"),
    ] {
        if bits == NUMBER && types & NUMBER == INT {
            names.push("a whole number");
        } else if types & bits == bits {
            names.push(name);
        }
    }
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
