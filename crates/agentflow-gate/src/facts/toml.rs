//! Configurations in TOML, with places.

use toml::de::{DeTable, DeValue};

use crate::{
    problem::{Kind, Problem},
    source::{Sources, Span},
    tree::{Entry, Map, Node, Value},
};

/// The whole file.
///
/// # Errors
/// It is no TOML.
pub(super) fn read(sources: &Sources, file: u32) -> Result<Node, Problem> {
    let text = sources.file(file).map_or("", |it| it.text.as_str());
    let place = |range: std::ops::Range<usize>| Span {
        file,
        start: range.start as u32,
        end: range.end as u32,
    };
    match DeTable::parse(text) {
        Ok(table) => Ok(Node::new(map(table.get_ref(), &place), place(table.span()))),
        Err(error) => {
            let span = place(error.span().unwrap_or(0..0));
            let message = format!("the file is not valid TOML: {}", error.message());
            Err(Problem::new(Kind::Syntax, span, message))
        }
    }
}

fn map(table: &DeTable<'_>, place: &dyn Fn(std::ops::Range<usize>) -> Span) -> Value {
    let mut found = Map::new();
    for (key, value) in table {
        let node = Node::new(one(value.get_ref(), place), place(value.span()));
        let entry = Entry::new(place(key.span()), node);
        found.insert(key.get_ref().to_string(), entry);
    }
    Value::Map(found)
}

fn one(value: &DeValue<'_>, place: &dyn Fn(std::ops::Range<usize>) -> Span) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match number.to_string().parse() {
            Ok(number) => Value::Int(number),
            Err(_) => Value::Text(number.to_string()),
        },
        DeValue::Float(number) => Value::Float(number.to_string().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(time) => Value::Time(time.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|it| Node::new(one(it.get_ref(), place), place(it.span())))
                .collect(),
        ),
        DeValue::Table(table) => map(table, place),
    }
}
