//! Fields of the state: channels, defaults, JSON Schemas.

use std::{cmp::Ordering, sync::Arc};

use agentflow_graph::Channel;
use agentflow_types::{Error, Map, Result, Value};
use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use crate::{
    agent, codes,
    diagnostic::{did_you_mean, suggestion},
    expression::Expression,
    file::{FieldSpec, FieldType},
    scope::Scope,
    shape,
    tree::Tree,
    variables::Variables,
};

/// Words for reducers.
const REDUCERS: [&str; 7] = ["last", "append", "messages", "sum", "max", "min", "merge"];

/// Names that a reducer's expression sees.
const REDUCER_VARIABLES: [&str; 2] = ["current", "update"];

/// Names that a field cannot have, because expressions use them for something else.
const RESERVED: [&str; 7] = ["state", "config", "context", "true", "false", "null", "in"];

/// Whether a field accepts several writes in one superstep.
pub(crate) fn has_reducer(spec: &FieldSpec) -> bool {
    spec.kind == FieldType::Messages || spec.reducer.as_deref().is_some_and(|word| word != "last")
}

/// The channel of a field; what is wrong is reported.
pub(crate) fn channel(scope: &Scope<'_>, name: &str, spec: &FieldSpec) -> Option<Channel> {
    check_name(scope, name);
    check_default(scope, name, spec);
    let default = spec.default.as_ref().map(Value::from_json);
    let word = match (&spec.reducer, spec.kind) {
        (None, FieldType::Messages) => "messages",
        (None, _) => "last",
        (Some(word), _) => word.as_str(),
    };
    if !REDUCERS.contains(&word) {
        return by_expression(scope, name, word, default);
    }
    check_fit(scope, name, spec, word);
    Some(match (word, default) {
        ("append", None) => Channel::append(),
        ("append", Some(start)) => Channel::reducer(start, Arc::new(append)),
        ("messages", _) => Channel::messages(),
        ("sum", None) => Channel::sum(),
        ("sum", Some(start)) => Channel::reducer(start, Arc::new(sum)),
        ("max", None) => Channel::max(),
        ("max", Some(start)) => {
            Channel::reducer(start, Arc::new(|a, b| pick(a, b, Ordering::Less)))
        }
        ("min", None) => Channel::min(),
        ("min", Some(start)) => {
            Channel::reducer(start, Arc::new(|a, b| pick(a, b, Ordering::Greater)))
        }
        ("merge", None) => Channel::merge(),
        ("merge", Some(start)) => Channel::reducer(start, Arc::new(merge)),
        (_, None) => Channel::last_value(),
        (_, Some(start)) => Channel::reducer(start, Arc::new(|_, update| Ok(update))),
    })
}

fn check_name(scope: &Scope<'_>, name: &str) {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let why = if RESERVED.contains(&name) || name.starts_with("__") {
        "this name is reserved"
    } else if !starts_well || !is_word {
        "the name of a field is letters, digits and `_`, and begins with a letter"
    } else {
        return;
    };
    scope.error(codes::BAD_NAME, scope.key(&["state", name]), why, None);
}

fn check_default(scope: &Scope<'_>, name: &str, spec: &FieldSpec) {
    let Some(default) = &spec.default else { return };
    let problems = shape::check(&type_schema(spec.kind), &Tree::of_json(default));
    let Some(problem) = problems.first() else {
        if spec.kind == FieldType::Messages {
            let span = scope.key(&["state", name, "default"]);
            let message = "a field of messages begins empty";
            scope.error(
                codes::BAD_STATE_FIELD,
                span,
                message,
                "remove `default`".to_owned(),
            );
        }
        return;
    };
    let message = format!("the default does not fit the type: {}", problem.message);
    scope.error(
        codes::BAD_STATE_FIELD,
        scope.at(&["state", name, "default"]),
        message,
        None,
    );
}

/// Whether a reducer suits a type.
fn check_fit(scope: &Scope<'_>, name: &str, spec: &FieldSpec, word: &str) {
    use FieldType as T;
    let fits = match word {
        "append" => matches!(spec.kind, T::List | T::Any),
        "messages" => spec.kind == T::Messages,
        "sum" => matches!(spec.kind, T::Integer | T::Number | T::Any),
        "max" | "min" => matches!(spec.kind, T::Integer | T::Number | T::String | T::Any),
        "merge" => matches!(spec.kind, T::Object | T::Any),
        _ => spec.kind != T::Messages,
    };
    if !fits {
        let kind = format!("{:?}", spec.kind).to_lowercase();
        let message = format!("the reducer `{word}` does not suit the type `{kind}`");
        let fitting = match spec.kind {
            T::Messages => "`messages`",
            T::List => "`append` or `last`",
            T::Object => "`merge` or `last`",
            T::Integer | T::Number => "`sum`, `max`, `min` or `last`",
            T::String => "`max`, `min` or `last`",
            T::Boolean | T::Any => "`last`",
        };
        let span = scope.at(&["state", name, "reducer"]);
        scope.error(
            codes::BAD_STATE_FIELD,
            span,
            message,
            format!("use {fitting}"),
        );
    }
}

fn by_expression(
    scope: &Scope<'_>,
    name: &str,
    text: &str,
    default: Option<Value>,
) -> Option<Channel> {
    let path = ["state", name, "reducer"];
    let span = || scope.at(&path);
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_word && !REDUCER_VARIABLES.contains(&text) {
        let help = match suggestion(text, REDUCERS) {
            Some(better) => format!("did you mean `{better}`?"),
            None => format!(
                "known: {}, or an expression over `current` and `update`",
                REDUCERS.map(|word| format!("`{word}`")).join(", ")
            ),
        };
        scope.error(
            codes::UNKNOWN_WORD,
            span(),
            format!("unknown reducer `{text}`"),
            help,
        );
        return None;
    }
    let expression = match Expression::compile(text, |_| false) {
        Ok(expression) => expression,
        Err(mistake) => {
            let span = scope.inside(&path, text, mistake.offset);
            scope.error(codes::BAD_EXPRESSION, span, mistake.message, None);
            return None;
        }
    };
    for variable in expression.variables() {
        if !REDUCER_VARIABLES.contains(&variable.as_str()) {
            let help = did_you_mean(variable, REDUCER_VARIABLES);
            let message = format!("unknown variable `{variable}`");
            scope.error(codes::UNKNOWN_IN_EXPRESSION, span(), message, help);
            return None;
        }
    }
    let reducer = move |current: Value, update: Value| {
        expression.value(&Variables::only(vec![
            ("current", current),
            ("update", update),
        ]))
    };
    Some(Channel::reducer(
        default.unwrap_or_default(),
        Arc::new(reducer),
    ))
}

fn append(current: Value, update: Value) -> Result<Value> {
    let mut items = current.as_list().unwrap_or_default().to_vec();
    match update.as_list() {
        Some(more) => items.extend_from_slice(more),
        None => items.push(update),
    }
    Ok(Value::list(items))
}

fn sum(current: Value, update: Value) -> Result<Value> {
    if let (Some(a), Some(b)) = (current.as_i64(), update.as_i64()) {
        let overflow = || Error::failed("the sum is too large").with("sum of", format!("{a}, {b}"));
        return a.checked_add(b).map(Value::Int).ok_or_else(overflow);
    }
    match (current.as_f64(), update.as_f64()) {
        (Some(a), Some(b)) => Ok(Value::Float(a + b)),
        _ => Err(Error::failed("only numbers can be added").with("found", update)),
    }
}

/// `update`, unless `current` is to be kept; `current` gives way if it compares as `loses`.
fn pick(current: Value, update: Value, loses: Ordering) -> Result<Value> {
    let order = match (current.as_f64(), update.as_f64()) {
        (Some(a), Some(b)) => a.partial_cmp(&b),
        _ => match (current.as_str(), update.as_str()) {
            (Some(a), Some(b)) => Some(a.cmp(b)),
            _ => None,
        },
    };
    match order {
        Some(order) if order == loses => Ok(update),
        Some(_) => Ok(current),
        None => Err(Error::failed("the values cannot be compared").with("found", update)),
    }
}

fn merge(current: Value, update: Value) -> Result<Value> {
    let mut merged: Map = current.as_map().cloned().unwrap_or_default();
    let more = update
        .as_map()
        .ok_or_else(|| Error::failed("only maps can be merged").with("found", &update))?;
    merged.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    Ok(Value::map(merged))
}

/// JSON Schema of a type.
fn type_schema(kind: FieldType) -> Json {
    match kind {
        FieldType::String => json!({"type": "string"}),
        FieldType::Integer => json!({"type": "integer"}),
        FieldType::Number => json!({"type": "number"}),
        FieldType::Boolean => json!({"type": "boolean"}),
        FieldType::List => json!({"type": "array", "items": {}}),
        FieldType::Object => json!({"type": "object"}),
        FieldType::Messages => agent::messages_schema(),
        FieldType::Any => json!({}),
    }
}

/// JSON Schema of some fields, all if `names` is `None`.
pub(crate) fn schema(
    title: &str,
    fields: &IndexMap<String, FieldSpec>,
    names: Option<&[String]>,
) -> Json {
    let mut properties = serde_json::Map::new();
    for (name, spec) in fields {
        if names.is_some_and(|names| !names.contains(name)) {
            continue;
        }
        let mut one = type_schema(spec.kind);
        if let Json::Object(map) = &mut one {
            map.insert("title".to_owned(), json!(title_of(name)));
            if let Some(text) = &spec.description {
                map.insert("description".to_owned(), json!(text));
            }
            if let Some(default) = &spec.default {
                map.insert("default".to_owned(), default.clone());
            }
        }
        properties.insert(name.clone(), one);
    }
    json!({"type": "object", "title": title, "properties": properties})
}

/// `user_name` as people write it: `User Name`.
fn title_of(name: &str) -> String {
    let words = name.split('_').filter(|word| !word.is_empty()).map(|word| {
        let mut chars = word.chars();
        chars
            .next()
            .map(|first| first.to_uppercase().chain(chars).collect())
            .unwrap_or_default()
    });
    words.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use agentflow_types::value;

    use super::*;

    #[test]
    fn reducers_with_a_default_combine_as_the_others() {
        assert_eq!(
            append(value!([1]), value!([2, 3])).unwrap(),
            value!([1, 2, 3])
        );
        assert_eq!(append(Value::Null, value!("x")).unwrap(), value!(["x"]));
        assert_eq!(sum(value!(1), value!(2)).unwrap(), value!(3));
        assert_eq!(sum(value!(1), value!(0.5)).unwrap(), value!(1.5));
        assert!(sum(value!(i64::MAX), value!(1)).is_err());
        assert_eq!(
            pick(value!(1), value!(2), Ordering::Less).unwrap(),
            value!(2)
        );
        assert_eq!(
            pick(value!("b"), value!("a"), Ordering::Less).unwrap(),
            value!("b")
        );
        assert_eq!(
            merge(value!({"a": 1}), value!({"b": 2})).unwrap(),
            value!({"a": 1, "b": 2})
        );
        assert_eq!(title_of("user_name"), "User Name");
    }
}
